"""Make small files in batches, in a thread of its own, while the archive is decoded.

A file that waits here is not on disk yet. So whoever looks at a name first asks `waits`, and `flush`es if so; a
directory's descriptor that a waiting file needs is not closed before its batch is done (`Places.close_place`).

What goes wrong is put right in the caller's thread, in order: a name that is taken, an owner that has no place.
"""

from __future__ import annotations

import _thread
import errno
from _queue import SimpleQueue

from rootless.errors import KernelError
from rootless.unpack import ownership
from rootless.unpack._extract import ffi, lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.proto.changeset import LayerOp
    from rootless.unpack.places import Place

    Content = bytes | memoryview

FILE_MAX_BYTES = 1 << 18
_BATCH = 256
_BATCH_BYTES = 4 << 20
_STEPS = ("open", "write", "fchown", "fchmod", "futimens")
_STEP_OPEN, _STEP_OWNER = 0, 2


class _Batch:
    """Up to _BATCH files; *kept* keeps alive what the C structures point to."""

    def __init__(self) -> None:
        self.array = ffi.new("struct rl_small_file[]", _BATCH)
        self.slots = [self.array[n] for n in range(_BATCH)]
        self.files: list[tuple[LayerOp, Content]] = []
        self.keys: list[tuple[int, bytes]] = []
        self.kept: list[Any] = []
        self.size_bytes = 0
        self.serial = 0
        self.result = self.done = self.step = 0

    def clear(self) -> None:
        self.files, self.keys, self.kept, self.size_bytes = [], [], [], 0


class SmallFiles:
    """See the module.

    Owner: `close` ends the thread
    """

    def __init__(self, one_by_one: Callable[[LayerOp, Content], None], finished: Callable[[int], None]) -> None:
        """Use *one_by_one* for a file that cannot be made as it is; *finished* hears the number of each done batch."""
        self._one_by_one = one_by_one
        self._finished = finished
        self._waiting: set[tuple[int, bytes]] = set()
        self._filling = _Batch()
        self._filling.serial = 1
        self._spare: _Batch | None = _Batch()
        self._flying = False
        self._orders: SimpleQueue[_Batch | None] = SimpleQueue()
        self._results: SimpleQueue[_Batch] = SimpleQueue()
        self._started = False
        self.failed: LayerOp | None = None
        """The file that an error of `flush` is about."""

    def waits(self, place: Place, name: bytes) -> bool:
        """Say whether a file of this name is not on disk yet."""
        return (place.inode, name) in self._waiting

    def add(self, place: Place, op: LayerOp, content: Content, mtime_ns: int) -> None:
        """Take a file whose name does not wait already; *content* must not change."""
        batch = self._filling
        header, name = op.header, op.path[-1]
        text, data = ffi.from_buffer(name + b"\0"), ffi.from_buffer(content)
        slot = batch.slots[len(batch.files)]
        slot.dfd = place.fd.fileno()
        slot.name = text
        slot.mode = header.mode & 0o7777
        slot.uid = header.uid
        slot.gid = header.gid
        slot.sec, slot.nsec = divmod(mtime_ns, 1_000_000_000)
        slot.data = data
        slot.size = len(content)
        key = (place.inode, name)
        self._waiting.add(key)
        batch.keys.append(key)
        batch.kept += (text, data)
        batch.files.append((op, content))
        batch.size_bytes += len(content)
        place.batch = batch.serial
        if len(batch.files) == _BATCH or batch.size_bytes >= _BATCH_BYTES:
            self._submit()

    def flush(self) -> None:
        """Return when everything that was added is on disk.

        Raises: KernelError; `failed` is the file
        """
        while self._filling.files or self._flying:
            if self._filling.files:
                self._submit()
            if self._flying:
                self._collect()

    def close(self) -> None:
        """End the thread; what still waits is dropped."""
        if self._flying:
            self._results.get()
            self._flying = False
        if self._started:
            self._orders.put(None)

    def _submit(self) -> None:
        if self._flying:
            self._collect()
        batch = self._filling
        if not batch.files:  # while the other batch was put right, this one was flushed
            return
        if not self._started:
            self._started = True
            _thread.start_new_thread(_work, (self._orders, self._results))
        self._flying = True
        self._orders.put(batch)
        following = self._spare or _Batch()
        self._spare = None
        following.serial = batch.serial + 1
        self._filling = following

    def _collect(self) -> None:
        batch = self._results.get()
        self._flying = False
        self._waiting.difference_update(batch.keys)
        files = batch.files[batch.done :] if batch.result < 0 else []
        result, step = batch.result, batch.step
        self._finished(batch.serial)
        batch.clear()
        self._spare = batch
        if not files:
            return
        taken = result == -errno.EEXIST and step == _STEP_OPEN
        if not taken and not (step == _STEP_OWNER and -result in ownership.UNPLACED):
            self.failed = files[0][0]
            raise KernelError(_STEPS[step], -result)
        for op, content in files:
            self.failed = op
            self._one_by_one(op, content)
        self.failed = None


def _work(orders: SimpleQueue[_Batch | None], results: SimpleQueue[_Batch]) -> None:
    """The thread: no Python runs here while files are made."""
    done, step = ffi.new("size_t *"), ffi.new("int *")
    while (batch := orders.get()) is not None:
        batch.result = lib.rl_put_files(batch.array, len(batch.files), done, step)
        batch.done, batch.step = done[0], step[0]
        results.put(batch)
