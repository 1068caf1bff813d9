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
from dataclasses import dataclass

import trio

from rootless.errors import DigestMismatch, ImageError, NotFound, RootlessError, SpecError, UnpackError
from rootless.plan.pulling import (
    Found,
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
from rootless.proto.messages import Document
from rootless.proto.registry import RegistrySession
from rootless.pull.credentials import Keyring, authfiles, parse_creds
from rootless.pull.http import HttpClient
from rootless.pull.registry import RegistrySource
from rootless.pull.source import ImageSource
from rootless.spec import jsontext, media
from rootless.spec.descriptor import Descriptor
from rootless.spec.digest import Digest
from rootless.spec.image import ImageConfig, chain_ids, parse_image
from rootless.spec.manifest import Index, Manifest, parse_manifest, select
from rootless.spec.platform import Platform
from rootless.spec.reference import ImageReference, parse_reference
from rootless.store import blobs, gc, images, layers
from rootless.store.events import emit
from rootless.store.images import ImageRecord
from rootless.store.layout import Roots
from rootless.unpack.pipeline import LayerPlan, LayerSink, Unpack, open_unpack
from rootless.unpack.spawning import WorkerProcess

# One more than there are processors: each layer keeps one busy, and one waits for the network. More only costs the
# start of more processes.
DOWNLOADS = max(3, min(6, len(os.sched_getaffinity(0)) + 1))
WORKERS = DOWNLOADS + 2  # layers that wait for a lower one to be finished keep their process
MAX_INDEX_DEPTH = 3
PROGRESS_S = 0.05

Events = trio.MemorySendChannel[PullEvent]


@dataclass(frozen=True, slots=True)
class Resolved:
    """An image as the registry describes it. *digests* are the ways to name it: the index's and the manifest's."""

    reference: ImageReference
    manifest: Manifest
    raw_manifest: bytes
    digest: Digest
    digests: tuple[Digest, ...]
    config: ImageConfig
    raw_config: bytes

    @property
    def id(self) -> str:
        return self.manifest.config.digest.hex


async def pull(
    roots: Roots, text: str, options: PullOptions, events: Events, workers: Sequence[WorkerProcess] = ()
) -> ImageRecord:
    """Bring the image *text* into the store and tell *events* how it goes; the last one is Pulled.

    *workers* may have been started early (unpack/spawning.py); they are ended here.

    Checkpoint: yes. Cancelling leaves the store as it was.
    Raises: RootlessError, alone or in a group
    """
    try:
        return await _pull(roots, text, options, events, list(workers))
    finally:
        for worker in workers:
            worker.end()


async def _pull(
    roots: Roots, text: str, options: PullOptions, events: Events, workers: list[WorkerProcess]
) -> ImageRecord:
    reference = parse_reference(text)
    local = images.lookup(roots, text) if options.policy in ("missing", "never", "newer") else None
    if local is not None and options.policy in ("missing", "never"):
        await events.send(Pulled(local.id, str(reference), fresh=False))
        return local
    if options.policy == "never":
        raise NotFound("image", text, hint="it is not in local storage and --pull=never forbids to fetch it")
    given = parse_creds(options.creds) if options.creds else None
    keyring = Keyring(authfiles(os.environ, options.ids[0], options.authfile), given)
    session = RegistrySession(reference, options.tls_verify)
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
        stored = await _store(roots, source, found, events, workers)
        emit(roots, "image", "pull", id=stored.id, name=text)
        return stored


async def resolve(source: ImageSource, reference: ImageReference, platform: Platform) -> Resolved:
    """Fetch and check the manifest and the config that *reference* means on *platform*.

    Raises: ImageError, SpecError
    """
    name = str(reference)
    document = await source.manifest(reference.selector)
    digests = [document.digest]
    for _ in range(MAX_INDEX_DEPTH):
        found = _parsed(document, name)
        if isinstance(found, Manifest):
            break
        document = await source.manifest_by(select(found, platform, name))
        digests.append(document.digest)
    else:
        raise ImageError(f"{name}: manifest lists within manifest lists")
    raw_config = await source.config(found.config)
    try:
        config = parse_image(raw_config)
    except SpecError as error:
        raise ImageError(f"{name}: invalid image config: {error}") from None
    if len(config.diff_ids) != len(found.layers):
        raise ImageError(
            f"{name}: the manifest has {len(found.layers)} layers, the image config {len(config.diff_ids)}",
            hint="the image is broken: its owner must push it again",
        )
    return Resolved(reference, found, document.body, document.digest, tuple(digests), config, raw_config)


def _parsed(document: Document, name: str) -> Manifest | Index:
    try:
        return parse_manifest(document.body, document.content_type)
    except SpecError as error:
        raise ImageError(f"{name}: invalid manifest: {error}") from None
    except ImageError as error:
        raise ImageError(f"{name}: {error}", hint=error.hint) from None


def _names(found: Resolved) -> list[str]:
    """Return the references under which the image is kept: what was asked for, and its digests."""
    name = found.reference.name
    asked = [str(found.reference)]
    return asked + [n for n in (f"{name}@{d}" for d in found.digests) if n not in asked]


async def _store(
    roots: Roots, source: ImageSource, found: Resolved, events: Events, workers: list[WorkerProcess]
) -> ImageRecord:
    """Fetch and unpack the layers that are not here, and commit."""
    descriptors = found.manifest.layers
    await events.send(
        Found(
            str(found.reference),
            str(found.manifest.config.digest),
            tuple([str(d.digest) for d in descriptors]),
            tuple([d.size_bytes for d in descriptors]),
        )
    )
    gc.sweep_leftovers(roots)
    plans = _plans(found)
    with layers.open_staging(roots) as staging:
        async with open_unpack(staging, plans, workers) as unpack:
            await _fetch_layers(source, descriptors, unpack, events)
            await events.send(Storing())
            record = ImageRecord(
                id=found.id,
                digest=str(found.digest),
                config=jsontext.loads(found.raw_config),
                layers=tuple([plan.chain_id for plan in plans]),
                links=(),
                created=found.config.created,
                manifest_type=found.manifest.media_type,
            )
            blobs.write(roots, found.raw_manifest)
            blobs.write(roots, found.raw_config)
            image = layers.commit(staging, unpack.staged(), record, _names(found))
            for text in _notes(unpack):
                await events.send(Warned(text))
    await events.send(Pulled(image.id, str(found.reference)))
    return image


def _plans(found: Resolved) -> list[LayerPlan]:
    chain = chain_ids(found.config.diff_ids)
    plans = []
    for at, descriptor in enumerate(found.manifest.layers):
        plans.append(
            LayerPlan(
                chain_id=chain[at],
                diff_id=found.config.diff_ids[at],
                parent=chain[at - 1] if at else "",
                compression=media.compression_of(descriptor.media_type) or "",
                digest=str(descriptor.digest),
            )
        )
    return plans


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


def _notes(unpack: Unpack) -> list[str]:
    """Return what a person should know about the unpacked layers, a line for each kind."""
    results = unpack.results()
    notes = []
    squashed = sum(r.squashed for r in results)
    devices = sum(r.skipped_devices for r in results)
    xattrs = sum(r.skipped_xattrs for r in results)
    if squashed:
        notes.append(
            f"{squashed} files of the image belong to ids that are not mapped here: they are stored as yours "
            "(see `rootless doctor`)"
        )
    if devices:
        notes.append(f"{devices} device nodes of the image were left out: only the machine's root can make them")
    if xattrs:
        notes.append(f"{xattrs} extended attributes of the image were left out: the store cannot hold them")
    return notes


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
