"""Read, decompress and hash a layer in a thread of its own, ahead of what is done with it.

Reading, inflating and hashing release the interpreter's lock for milliseconds at a time, so this thread runs beside the
one that makes files, and a single large layer keeps two processors busy. The queue between them is short: a slow
disk slows the download.
"""

from __future__ import annotations

import _thread
import os
from _queue import SimpleQueue

from rootless.proto.tar import BLOCK
from rootless.unpack.decompress import decompressor, detect

try:
    # OpenSSL uses the processor's instructions: six times the speed of Python's own, which hashlib falls back to.
    from _hashlib import openssl_sha256 as sha256
except ImportError:
    from hashlib import sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.kernel.fds import Fd

_READ_BYTES = 1 << 18
_AHEAD = 4
"""Pieces that may wait; one is a megabyte or less."""


class Reader:
    """Gives the plain bytes of a compressed stream.

    Owner: the stream stays the caller's, who may close it when `pieces` has ended. After an error, ours or the
           caller's, the thread may be waiting for bytes: leave both to the end of the process
    """

    def __init__(self, blob: Fd, compression: str) -> None:
        self._blob = blob
        self._compression = compression
        self.digest = sha256()
        """Hash of the plain bytes; complete when `pieces` has ended."""
        self._ready: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_AHEAD):
            self._room.put(None)
        _thread.start_new_thread(self._work, ())

    def pieces(self) -> Iterator[bytes]:
        """Give the plain bytes.

        Blocks:  for the writer of the stream
        Raises:  CompressionError, OSError
        """
        while (piece := self._ready.get()) is not None:
            if isinstance(piece, BaseException):
                raise piece
            yield piece
            self._room.put(None)

    def _work(self) -> None:
        try:
            for piece in self._read():
                self.digest.update(piece)
                self._room.get()
                self._ready.put(piece)
            self._ready.put(None)
        except BaseException as error:
            self._ready.put(error)

    def _read(self) -> Iterator[bytes]:
        number = self._blob.fileno()
        data = b""
        while len(data) < BLOCK and (more := os.read(number, _READ_BYTES)):
            data += more
        stream = decompressor(detect(self._compression, data))
        while data:
            yield from stream.feed(data)
            data = os.read(number, _READ_BYTES)
        stream.end()
