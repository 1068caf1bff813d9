"""Pull an image: from a reference to a record in the store.

    reference ─► manifest ─► (index: the platform's manifest) ─► config ─► layers not in the store
                                                                              │ 3-6 at a time
        registry ── bytes ──► digest and size checked ──► a worker process that unpacks ◄┘
                                                                              │ in order, base first
                                  all verified ─► one syncfs ─► layers and image visible together

Nothing becomes visible before all of it is verified: layers wait in a staging directory, which is
deleted when anything fails.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

import trio

from rootless.engine.resolving import (
    PROCESSORS,
    Resolved,
    commit,
    found_event,
    local_image,
    notes_of,
    plans_of,
    resolving,
)
from rootless.errors import DigestMismatch, RootlessError, UnpackError
from rootless.plan.pulling import (
    LayerBytes,
    LayerKnown,
    LayerRead,
    LayerUnpacked,
    Pulled,
    PullEvent,
    PullOptions,
    Storing,
    Trying,
    Warned,
)
from rootless.proto.registry import RegistrySession
from rootless.pull.credentials import Keyring, authfiles, parse_creds
from rootless.pull.http import HttpClient
from rootless.pull.registry import RegistrySource
from rootless.pull.source import ImageSource
from rootless.spec.descriptor import Descriptor
from rootless.spec.platform import Platform
from rootless.spec.reference import ImageReference, parse_reference
from rootless.store import gc, layers
from rootless.store.images import ImageRecord
from rootless.store.layout import Roots
from rootless.unpack.pipeline import LayerSink, Unpack, open_unpack
from rootless.unpack.spawning import WorkerProcess

# Each layer keeps a processor busy, and one more waits for the network. More only costs the start of more processes.
DOWNLOADS = PROCESSORS + 1
WORKERS = DOWNLOADS + 2  # layers that wait for a lower one to be finished keep their process
PROGRESS_S = 0.05

Events = trio.MemorySendChannel[PullEvent]


async def pull(
    roots: Roots,
    text: str,
    options: PullOptions,
    events: Events,
    workers: Sequence[WorkerProcess] = (),
    *,
    announced: bool = False,
) -> ImageRecord:
    """Bring the image *text* into the store and tell *events* how it goes; the last one is Pulled.

    *workers* may have been started early (unpack/spawning.py); they are ended here. *announced* says that whoever
    listens knows that we try.

    Checkpoint: yes. Cancelling leaves the store as it was.
    Raises: RootlessError, alone or in a group
    """
    try:
        return await _pull(roots, text, options, events, list(workers), announced)
    finally:
        for worker in workers:
            worker.end()


async def _pull(
    roots: Roots, text: str, options: PullOptions, events: Events, workers: list[WorkerProcess], announced: bool
) -> ImageRecord:
    reference = parse_reference(text)
    local, enough = local_image(roots, text, options)
    if local is not None and enough:
        await events.send(Pulled(local.id, str(reference), fresh=False))
        return local
    given = parse_creds(options.creds) if options.creds else None
    keyring = Keyring(authfiles(os.environ, options.ids[0], options.authfile), given)
    session = RegistrySession(reference, options.tls_verify)
    if not announced:
        await events.send(Trying(str(reference)))
    async with HttpClient(cert_dir=options.cert_dir, home=os.environ.get("HOME", "")) as http:
        source = RegistrySource(http, session, keyring, events)
        try:
            found = await resolve(source, reference, options.platform)
        except RootlessError:
            if local is not None:  # --pull=newer: what is here is good enough
                await events.send(Pulled(local.id, str(reference), fresh=False))
                return local
            raise
        if local is not None and str(found.digest) == local.digest:
            await events.send(Pulled(local.id, str(reference), fresh=False))
            return local
        return await _store(roots, source, found, text, events, workers)


async def resolve(source: ImageSource, reference: ImageReference, platform: Platform) -> Resolved:
    """Fetch and check the manifest and the config that *reference* means on *platform*.

    Raises: ImageError, SpecError
    """
    steps = resolving(reference, platform)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(await source.document(asked))
    except StopIteration as end:
        found: Resolved = end.value
        return found


async def _store(
    roots: Roots, source: ImageSource, found: Resolved, text: str, events: Events, workers: list[WorkerProcess]
) -> ImageRecord:
    """Fetch and unpack the layers that are not here, and commit."""
    descriptors = found.manifest.layers
    await events.send(found_event(found))
    gc.sweep_leftovers(roots)
    plans = plans_of(found)
    with layers.open_staging(roots) as staging:
        async with open_unpack(staging, plans, workers) as unpack:
            await _fetch_layers(source, descriptors, unpack, events)
            await events.send(Storing())
            image = commit(staging, found, text, plans, unpack.staged())
            for text in notes_of(unpack.results()):
                await events.send(Warned(text))
    await events.send(Pulled(image.id, str(found.reference)))
    return image


async def _fetch_layers(
    source: ImageSource, descriptors: tuple[Descriptor, ...], unpack: Unpack, events: Events
) -> None:
    """Run one task for each missing layer; they start base first, so that no layer waits for one that cannot start."""
    downloads, workers = trio.CapacityLimiter(DOWNLOADS), trio.CapacityLimiter(WORKERS)
    async with trio.open_nursery() as nursery:
        for index, descriptor in enumerate(descriptors):
            if not unpack.needed(index):
                await events.send(LayerKnown(index))
                continue
            await workers.acquire_on_behalf_of(index)
            await downloads.acquire_on_behalf_of(index)
            nursery.start_soon(_fetch_layer, source, descriptor, unpack, index, events, downloads, workers)


async def _fetch_layer(
    source: ImageSource,
    descriptor: Descriptor,
    unpack: Unpack,
    index: int,
    events: Events,
    downloads: trio.CapacityLimiter,
    workers: trio.CapacityLimiter,
) -> None:
    try:
        async with unpack.open_layer(index) as sink:
            meter = _Meter(sink, index, events)
            try:
                await source.layer(descriptor, meter)
            finally:
                downloads.release_on_behalf_of(index)
            meter.check()
            await events.send(LayerRead(index))
            await sink.finish()
            await events.send(LayerUnpacked(index))
    finally:
        workers.release_on_behalf_of(index)


class _Meter:
    """Passes bytes on to the unpacker and tells how many there were.

    When the unpacker finds the archive broken, the rest is still read: if the digest is wrong too,
    that is the fault to name.
    """

    def __init__(self, sink: LayerSink, index: int, events: Events) -> None:
        self._sink = sink
        self._index = index
        self._events = events
        self._done_bytes = 0
        self._told = trio.current_time()
        self._fault: UnpackError | None = None

    async def write(self, data: bytes, /) -> None:
        self._done_bytes += len(data)
        if self._fault is None:
            try:
                await self._sink.write(data)
            except UnpackError as error:
                if error.hint is not None:  # this machine's fault, as a full disk: no need to read on
                    raise
                self._fault = error
        now = trio.current_time()
        if now - self._told >= PROGRESS_S:
            self._told = now
            try:
                self._events.send_nowait(LayerBytes(self._index, self._done_bytes))
            except trio.WouldBlock:
                pass  # the next one says more

    def check(self) -> None:
        """Raise what the unpacker found, now that the blob is known to be the promised one."""
        if self._fault is not None:
            raise self._fault


def first_error(error: BaseException) -> BaseException:
    """Return the error in a group that a person should read: the cause, not what followed from it."""
    leaves: list[BaseException] = []
    pending: list[BaseException] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
        elif not isinstance(one, trio.Cancelled):
            leaves.append(one)

    def rank(leaf: BaseException) -> int:
        if isinstance(leaf, KeyboardInterrupt):
            return 0
        if isinstance(leaf, DigestMismatch):
            return 1
        if isinstance(leaf, UnpackError) and "below it failed" in leaf.message:
            return 4
        return 2 if isinstance(leaf, RootlessError) else 3

    return min(leaves, key=rank) if leaves else error
