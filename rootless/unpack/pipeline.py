"""Unpack the layers of an image while they arrive: in processes, read in parallel, finished in order.

    with open_staging(roots) as staging:
        async with open_unpack(staging, plans) as unpack:
            async with unpack.open_layer(3) as sink:        # any order, several at once
                await sink.write(chunk)                     # the compressed blob
                result = await sink.finish()                # waits for the layers below
            staged = unpack.staged()
        image = layers.commit(staging, staged, image, names)

Source:  layers that are unpacked without their parents get wrong directories and cannot link to lower files
         (facts.md, "Unpacking rules that implementations get wrong")
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import trio

from rootless.errors import InternalError, KernelError, UnpackError
from rootless.kernel.fds import Fd, open_fd, pipe, recv_fds, send_fds
from rootless.spec import jsontext
from rootless.store import layers
from rootless.store.layers import StagedLayer, Staging
from rootless.unpack.decompress import FORMATS
from rootless.unpack.layerplan import LayerPlan, LayerResult, check_read, fault_of, name_of, result_of, staged
from rootless.unpack.spawning import WorkerProcess, start_worker

__all__ = ["LayerPlan", "LayerResult", "LayerSink", "Unpack", "open_unpack"]

_PIPE_BYTES = 1 << 20


class _Slot:
    """The state of one layer: `ready` is set when its directory is complete, or can no longer become so."""

    def __init__(self, plan: LayerPlan, path: str) -> None:
        self.plan = plan
        self.path = path
        self.needed = not path
        self.ready = trio.Event()
        self.result: LayerResult | None = None
        self.opened = False
        if path:
            self.ready.set()

    @property
    def complete(self) -> bool:
        return not self.needed or self.result is not None


class Unpack:
    """The layers of one image; made by `open_unpack`."""

    def __init__(self, staging: Staging, plans: Sequence[LayerPlan], workers: Sequence[WorkerProcess] = ()) -> None:
        self._staging = staging
        self._idle = list(workers)
        self._slots: list[_Slot] = []
        for plan in plans:
            if plan.compression not in FORMATS:
                raise UnpackError(f"unknown compression {plan.compression!r}", layer=plan.digest or plan.diff_id)
            known = layers.read_layer(staging.roots, plan.chain_id)
            self._slots.append(_Slot(plan, layers.layer_dir(staging.roots, known.link) if known else ""))

    def needed(self, index: int) -> bool:
        """Say whether layer *index* (0 is the base) has to be unpacked: it is not in the store yet."""
        return self._slots[index].needed

    @asynccontextmanager
    async def open_layer(self, index: int) -> AsyncIterator[LayerSink]:
        """Give layer *index* to a worker, which is killed if the block is left before `finish` is done."""
        slot = self._slots[index]
        if not slot.needed or slot.opened:
            raise InternalError(f"layer {index} is not waiting to be unpacked")
        slot.opened = True
        if slot.ready.is_set():  # another attempt
            slot.ready = trio.Event()
        path = self._staging.make_dir(f"tree-{index}")
        sink = LayerSink(slot, self._slots[:index], path, self._idle.pop() if self._idle else start_worker())
        try:
            yield sink
        finally:
            slot.ready.set()
            worker = await sink.release()
            if worker is not None:
                self._idle.append(worker)
            if not slot.complete:
                # The next attempt needs an empty directory, and the name belongs to the dead worker's tree.
                os.rename(path, f"{path}.{layers.new_link()}")
                slot.opened = False

    def end_workers(self) -> None:
        """End the workers that have nothing to do. Blocks: until they are dead, which is at once"""
        for worker in self._idle:
            worker.kill()
        while self._idle:
            self._idle.pop().reap()

    def staged(self) -> tuple[StagedLayer, ...]:
        """Return the layers that were unpacked, base first, for layers.commit."""
        found = []
        for slot in self._slots:
            if not slot.needed:
                continue
            if slot.result is None:
                raise InternalError(f"layer {slot.plan.diff_id} was not unpacked")
            found.append(staged(slot.plan, slot.path, slot.result))
        return tuple(found)

    def results(self) -> tuple[LayerResult, ...]:
        """Return the results of the layers that were unpacked, base first."""
        return tuple(slot.result for slot in self._slots if slot.result is not None)


@asynccontextmanager
async def open_unpack(
    staging: Staging, plans: Sequence[LayerPlan], workers: Sequence[WorkerProcess] = ()
) -> AsyncIterator[Unpack]:
    """Prepare to unpack the layers *plans*, base first, all of the image's; those in the store are recognised.

    *workers* were started before (unpack/spawning.py); they are ours now. More are started as layers need them.
    Run it inside the user namespace: owners are set as this process may set them.
    """
    try:
        unpack = Unpack(staging, plans, workers)
    except BaseException:
        for worker in workers:
            worker.end()
        raise
    try:
        yield unpack
    finally:
        unpack.end_workers()


class LayerSink:
    """Where the bytes of one compressed layer go; made by `Unpack.open_layer`."""

    def __init__(self, slot: _Slot, below: list[_Slot], path: str, worker: WorkerProcess) -> None:
        self._slot = slot
        self._below = below
        self._path = path
        self._worker = worker
        blob_read, blob = pipe()
        try:
            fcntl.fcntl(blob.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            pass  # the user's pipes together are limited: it works with a small one
        with blob_read, open_fd(path, os.O_RDONLY | os.O_DIRECTORY) as root:
            self._say({"layer": slot.plan.compression}, blob_read, root)
        self._blob = trio.lowlevel.FdStream(blob.detach())

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Give the next bytes of the compressed blob; waits while the worker is busy.

        Checkpoint: yes
        Raises: UnpackError — the worker has found a fault
        """
        try:
            await self._blob.send_all(data)
        except trio.BrokenResourceError:
            await self._receive()  # raises what the worker said
            raise UnpackError("the unpacker took no more bytes", layer=self._name()) from None

    async def finish(self) -> LayerResult:
        """Say that the blob is complete; wait until the layer is, for which those below must be first.

        Checkpoint: yes
        Raises: UnpackError; DigestMismatch — the unpacked bytes are not what the config promises
        """
        await self._blob.aclose()
        message = await self._receive()
        check_read(self._slot.plan, message)
        lower = []
        for slot in reversed(self._below):
            await slot.ready.wait()
            if not slot.complete:
                raise UnpackError("a layer below it failed", layer=self._name())
            lower.append(slot.path)
        self._say({"lower": lower})
        result = result_of(await self._receive())
        self._slot.path, self._slot.result = self._path, result
        self._slot.ready.set()
        return result

    def abort(self) -> None:
        """Kill the worker now; leaving the block does so too."""
        self._worker.kill()

    async def release(self) -> WorkerProcess | None:
        """Return the worker for the next layer if this one is complete, else None after its death."""
        complete = self._slot.result is not None
        with trio.CancelScope(shield=True):
            await self._blob.aclose()
            if not complete:
                self.abort()
                await trio.lowlevel.wait_readable(self._worker.pidfd.fileno())
                self._worker.reap()
        return self._worker if complete else None

    def _name(self) -> str:
        return name_of(self._slot.plan)

    def _say(self, message: dict[str, Any], *given: Fd) -> None:
        try:
            send_fds(self._worker.channel, jsontext.dumps(message).encode(), given)
        except KernelError:
            pass  # it died: the next message that we wait for says so

    async def _receive(self) -> dict[str, Any]:
        await trio.lowlevel.wait_readable(self._worker.channel.fileno())
        try:
            text, _ = recv_fds(self._worker.channel)
        except KernelError:
            text = b""
        if not text:
            raise UnpackError("the unpacker died", layer=self._name())
        message: dict[str, Any] = jsontext.loads(text)
        if "error" in message:
            raise fault_of(self._slot.plan, message)
        return message
