"""Pull from a registry on this machine, without an event loop and with each byte moved once.

    manifest, config ─► a fork for each layer ─► it reads the layer's connection itself: hash, inflate, hash, unpack
                             ▲    │ reports
                      poll(2) over their channels, here: retries, order, commit

On loopback there is nothing to wait for: importing trio and httpx took a fifth of a whole pull, passing the bytes of
the layers on another (docs/decisions/0018). What is not plain (TLS, credentials, an answer of unknown length) raises
NotPlain, which leaves nothing behind, and engine/pulling.py does the pull from the start. Everything that protects the
store is the same: digests of blobs and of what they hold, retries, resumption, staging.
"""

from __future__ import annotations

import os
import select
import time

from rootless.engine.resolving import (
    PROCESSORS,
    commit,
    found_event,
    local_image,
    notes_of,
    plans_of,
    resolving,
)
from rootless.errors import DigestMismatch, KernelError, RootlessError, UnpackError
from rootless.kernel.fds import open_fd, recv_fds, send_fds
from rootless.plan.pulling import (
    LayerBytes,
    LayerKnown,
    LayerRead,
    LayerUnpacked,
    Pulled,
    Retrying,
    Storing,
    Trying,
    Warned,
)
from rootless.proto.messages import Again, Document, Failed, Retry, Stream
from rootless.proto.registry import RegistrySession
from rootless.pull.plain import Broken, NotPlain, PlainClient, failure_of
from rootless.spec import jsontext
from rootless.spec.reference import is_loopback, parse_reference
from rootless.store import gc, layers
from rootless.unpack.decompress import decompressor
from rootless.unpack.layerplan import check_read, fault_of, name_of, result_of, staged
from rootless.unpack.spawning import fork_worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.engine.resolving import Resolved
    from rootless.kernel.fds import Fd
    from rootless.plan.pulling import PullEvent, PullOptions
    from rootless.proto.messages import Event
    from rootless.proto.registry import Exchange
    from rootless.pull.plain import Answer
    from rootless.spec.descriptor import Descriptor
    from rootless.store.images import ImageRecord
    from rootless.store.layers import StagedLayer, Staging
    from rootless.store.layout import Roots
    from rootless.unpack.layerplan import LayerPlan, LayerResult
    from rootless.unpack.spawning import WorkerProcess

    Tell = Callable[[PullEvent], None]

__all__ = ["NotPlain", "pull"]

READING = PROCESSORS  # there is no network to wait for
WORKERS = READING + 2  # layers that wait for a lower one to be finished keep their process
_JITTER = (0.9, 1.2)


def pull(roots: Roots, text: str, options: PullOptions, tell: Tell) -> ImageRecord:
    """Bring the image *text* into the store and tell how it goes; the last event is Pulled.

    Blocks: to the end; a signal handler that raises ends it and leaves the store as it was
    Raises: RootlessError; NotPlain: nothing has happened, but events up to the first bytes may have been told
    """
    reference = parse_reference(text)
    named = options.authfile or os.environ.get("REGISTRY_AUTH_FILE", "")
    if not is_loopback(reference.domain) or options.tls_verify is not None or options.creds:
        raise NotPlain
    if named and not os.path.exists(named):
        raise NotPlain  # an error that reading it has words for
    local, enough = local_image(roots, text, options)
    session = RegistrySession(reference, options.tls_verify)
    client = PlainClient()
    try:
        if local is None or not enough:
            tell(Trying(str(reference)))
            try:
                found = _resolve(client, session, options, tell)
            except RootlessError:
                if local is None:
                    raise
                enough = True  # --pull=newer: what is here is good enough
            else:
                enough = local is not None and str(found.digest) == local.digest
        if local is not None and enough:
            tell(Pulled(local.id, str(reference), fresh=False))
            return local
        image = _store(roots, client, session, text, found, tell)
        tell(Pulled(image.id, str(reference)))
        return image
    finally:
        client.close()


def _resolve(client: PlainClient, session: RegistrySession, options: PullOptions, tell: Tell) -> Resolved:
    steps = resolving(session.reference, options.platform)
    try:
        asked = next(steps)
        while True:
            asked = steps.send(_document(client, session.document(asked), tell))
    except StopIteration as end:
        found: Resolved = end.value
        return found


def _document(client: PlainClient, exchange: Exchange, tell: Tell) -> Document:
    while True:
        event, _ = _ask(client, exchange)
        if isinstance(event, Document):
            return event
        time.sleep(_delay_s(exchange, event, tell))


def _ask(client: PlainClient, exchange: Exchange) -> tuple[Event, Answer | None]:
    """Send the next request; return what follows from the answer."""
    try:
        answer = client.send(exchange.next_request())
    except Broken as error:
        return exchange.failed(error.failure), None
    return exchange.receive(answer.response), answer


def _delay_s(exchange: Exchange, event: Event, tell: Tell) -> float:
    """Return how long to wait before the next request.

    Raises: the error in *event*; NotPlain when it asks for what we have not
    """
    if isinstance(event, Again):
        return 0.0
    if isinstance(event, Failed):
        raise event.error
    if isinstance(event, Retry):
        from random import uniform  # layers that failed together should not come back together

        tell(Retrying(exchange.wanted.what, event.why, event.delay_ms))
        return event.delay_ms / 1000 * uniform(*_JITTER)
    raise NotPlain


def _store(
    roots: Roots, client: PlainClient, session: RegistrySession, text: str, found: Resolved, tell: Tell
) -> ImageRecord:
    tell(found_event(found))
    gc.sweep_leftovers(roots)
    plans = plans_of(found)
    with layers.open_staging(roots) as staging:
        work = _Layers(staging, client, session, tell)
        for index, (plan, descriptor) in enumerate(zip(plans, found.manifest.layers)):
            work.add(index, plan, descriptor)
        try:
            work.run()
            work.dismiss()
            tell(Storing())
            image = commit(staging, found, text, plans, work.staged())
        finally:
            work.close()
        for text in notes_of(work.results()):
            tell(Warned(text))
    return image


class _Lane:
    """A layer that is needed: how its bytes come, and how far its worker is."""

    def __init__(self, index: int, plan: LayerPlan, descriptor: Descriptor, exchange: Exchange, path: str) -> None:
        self.index = index
        self.plan = plan
        self.descriptor = descriptor
        self.exchange = exchange
        self.path = path
        self.worker: WorkerProcess | None = None
        self.due: float | None = None  # when to ask the registry again
        self.read = False
        self.finishing = False
        self.result: LayerResult | None = None


class _Layers:
    """The layers of one image on their way.

    Owner: `close` ends the workers
    """

    def __init__(self, staging: Staging, client: PlainClient, session: RegistrySession, tell: Tell) -> None:
        self._staging = staging
        self._client = client
        self._session = session
        self._tell = tell
        self._known: dict[int, str] = {}  # index -> directory of what the store has
        self._lanes: dict[int, _Lane] = {}  # base first, as they are started
        self._waiting: list[_Lane] = []
        self._workers: list[WorkerProcess] = []
        self._idle: list[WorkerProcess] = []
        self._poll = select.poll()
        self._by_channel: dict[int, _Lane] = {}

    def add(self, index: int, plan: LayerPlan, descriptor: Descriptor) -> None:
        """Take the next layer, base first."""
        known = layers.read_layer(self._staging.roots, plan.chain_id)
        if known is not None:
            self._known[index] = layers.layer_dir(self._staging.roots, known.link)
            self._tell(LayerKnown(index))
            return
        path = self._staging.make_dir(f"tree-{index}")
        lane = _Lane(index, plan, descriptor, self._session.blob(descriptor), path)
        self._lanes[index] = lane
        self._waiting.append(lane)

    def run(self) -> None:
        """Return when all layers are complete. Raises: RootlessError, NotPlain"""
        while any([lane.result is None for lane in self._lanes.values()]):
            self._start_more()
            now = time.monotonic()
            due = [lane.due for lane in self._lanes.values() if lane.due is not None]
            wait = [max(0.0, min(due) - now) * 1000] if due else []
            for number, _ in self._poll.poll(*wait):
                lane = self._by_channel.get(number)
                if lane is not None:
                    self._hear(lane)
            now = time.monotonic()
            for lane in self._lanes.values():
                if lane.due is not None and lane.due <= now:
                    self._connect(lane)

    def dismiss(self) -> None:
        """Let the workers end: they have nothing to do, or nothing that counts any more."""
        for worker in self._workers:
            worker.kill()

    def close(self) -> None:
        """End the workers and wait for their ends."""
        self.dismiss()
        for worker in self._workers:
            worker.reap()

    def staged(self) -> tuple[StagedLayer, ...]:
        """Return the layers that were unpacked, base first."""
        return tuple([staged(lane.plan, lane.path, lane.result) for lane in self._lanes.values() if lane.result])

    def results(self) -> tuple[LayerResult, ...]:
        return tuple([lane.result for lane in self._lanes.values() if lane.result is not None])

    # ---- one layer

    def _start_more(self) -> None:
        while self._waiting:
            started = [lane for lane in self._lanes.values() if lane not in self._waiting and lane.result is None]
            if len(started) >= WORKERS or len([lane for lane in started if not lane.read]) >= READING:
                return
            self._connect(self._waiting.pop(0))

    def _connect(self, lane: _Lane) -> None:
        """Ask the registry for the bytes that are missing, and give the connection to the worker."""
        lane.due = None
        while True:
            event, answer = _ask(self._client, lane.exchange)
            if isinstance(event, Stream) and answer is not None:
                skip = event.skip_bytes
                size = lane.descriptor.size_bytes
                if answer.length_bytes != size - lane.exchange.offset + skip:
                    answer.close()
                    raise NotPlain
                with answer.take() as connection:
                    self._hand(lane, connection, skip)
                return
            delay = _delay_s(lane.exchange, event, self._tell)
            if delay:
                lane.due = time.monotonic() + delay
                return

    def _hand(self, lane: _Lane, connection: Fd, skip: int) -> None:
        if lane.worker is not None:
            self._say(lane.worker, {"more": skip}, connection)
            return
        if not self._idle:
            decompressor(lane.plan.compression)  # loads its library, here for all workers
            self._idle.append(fork_worker())
            self._workers += self._idle
        lane.worker = worker = self._idle.pop()
        self._by_channel[worker.channel.fileno()] = lane
        self._poll.register(worker.channel.fileno(), select.POLLIN)
        order = {
            "layer": lane.plan.compression,
            "bytes": lane.descriptor.size_bytes,
            "hash": lane.descriptor.digest.algorithm,
        }
        with open_fd(lane.path, os.O_RDONLY | os.O_DIRECTORY) as root:
            self._say(worker, order, connection, root)

    def _say(self, worker: WorkerProcess, message: dict[str, Any], *given: Fd) -> None:
        try:
            send_fds(worker.channel, jsontext.dumps(message).encode(), given)
        except KernelError:
            pass  # it died: what we hear next says so

    def _hear(self, lane: _Lane) -> None:
        """Take a message of the lane's worker."""
        assert lane.worker is not None
        try:
            text, _ = recv_fds(lane.worker.channel)
        except KernelError:
            text = b""
        if not text:
            raise UnpackError("the unpacker died", layer=name_of(lane.plan))
        message: dict[str, Any] = jsontext.loads(text)
        if "at" in message:
            self._tell(LayerBytes(lane.index, message["at"]))
        elif "short" in message:
            self._came(lane, message["short"])
            event = lane.exchange.failed(failure_of(message["errno"]))
            lane.due = time.monotonic() + _delay_s(lane.exchange, event, self._tell)
        elif "error" in message:
            self._check_blob(lane, message)
            raise fault_of(lane.plan, message)
        elif "read" in message:
            self._check_blob(lane, message)
            check_read(lane.plan, message)
            self._came(lane, lane.descriptor.size_bytes)
            lane.read = True
            self._tell(LayerRead(lane.index))
            self._finish_next()
        else:
            self._complete(lane, result_of(message))
            self._finish_next()

    def _came(self, lane: _Lane, got_bytes: int) -> None:
        failed = lane.exchange.progress(got_bytes - lane.exchange.offset) if got_bytes > lane.exchange.offset else None
        if failed is not None:
            raise failed.error

    def _check_blob(self, lane: _Lane, message: dict[str, Any]) -> None:
        digest, got = lane.descriptor.digest, message.get("blob")
        if got is not None and got != digest.hex:
            raise DigestMismatch(
                f"reading {lane.exchange.wanted.what}: the registry sent a body with the digest "
                f"{digest.algorithm}:{got}",
                hint="the registry or something between is broken; nothing was kept",
            )

    def _finish_next(self) -> None:
        """Let a layer be finished that has been read, once those below are."""
        for lane in self._lanes.values():
            if lane.result is not None:
                continue
            if lane.read and not lane.finishing and lane.worker is not None:
                lane.finishing = True
                below = {**self._known, **{n: other.path for n, other in self._lanes.items()}}
                self._say(lane.worker, {"lower": [below[n] for n in range(lane.index - 1, -1, -1)]})
            return

    def _complete(self, lane: _Lane, result: LayerResult) -> None:
        worker, lane.worker, lane.result = lane.worker, None, result
        assert worker is not None
        self._poll.unregister(worker.channel.fileno())
        del self._by_channel[worker.channel.fileno()]
        self._idle.append(worker)
        self._tell(LayerUnpacked(lane.index))
