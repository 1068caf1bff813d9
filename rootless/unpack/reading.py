"""Read and decompress a layer in a thread of its own, ahead of what is done with it, and hash it in another.

Reading, inflating and hashing release the interpreter's lock for most of the time, so these threads run beside the one
that makes files, and a single layer, the last one of an image, keeps two processors busy. The queues between them are
short: a slow disk slows the download.
"""

from __future__ import annotations

import _thread
import errno
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
    from collections.abc import Callable, Iterator
    from typing import Any, Protocol

    from rootless.kernel.fds import Fd

    class Source(Protocol):
        """Where compressed bytes come from."""

        def read(self) -> bytes:
            """Return the next ones; b"" is their end, after which nothing is read any more."""

        def rest(self) -> None:
            """Read what nobody needs, where something depends on it."""


_READ_BYTES = 1 << 18
_AHEAD = 12
"""Pieces that may wait; one is a quarter of a megabyte or less."""


class Piped:
    """A pipe, to its end."""

    def __init__(self, blob: Fd) -> None:
        self._blob = blob

    def read(self) -> bytes:
        return os.read(self._blob.fileno(), _READ_BYTES)

    def rest(self) -> None:
        return


class Promised:
    """A blob of *size_bytes* over a connection, which may break: *another* gives the next connection then.

    Shape:   another(bytes that came, errno) -> descriptor, how many of its bytes have been here before; errno 0 is
             the end of the connection, EAGAIN silence (SO_RCVTIMEO); tell(bytes that came) for a person who watches
    Owner:   it owns the connections
    """

    def __init__(
        self, blob: Fd, size_bytes: int, algorithm: str, another: Callable[[int, int], tuple[Fd, int]],
        tell: Callable[[int], None],
    ) -> None:  # fmt: skip
        self._blob = blob
        self._left = size_bytes
        self._skip = 0
        self._another = another
        self._tell = tell
        self.digest = _hasher(algorithm)
        """Hash of the compressed bytes; complete when `read` has given b""."""
        self.got_bytes = 0

    def read(self) -> bytes:
        while self._left:
            why = 0
            try:
                data = os.read(self._blob.fileno(), min(_READ_BYTES, self._left + self._skip))
            except OSError as error:
                data, why = b"", error.errno or errno.EIO
            if not data:
                self._blob.close()
                self._blob, self._skip = self._another(self.got_bytes, why)
                continue
            if self._skip:
                skipped = min(self._skip, len(data))
                self._skip -= skipped
                data = data[skipped:]
                if not data:
                    continue
            self.digest.update(data)
            self._left -= len(data)
            self.got_bytes += len(data)
            self._tell(self.got_bytes)
            return data
        self._blob.close()
        return b""

    def rest(self) -> None:
        while self.read():
            pass


def _hasher(algorithm: str) -> Any:
    if algorithm == "sha256":
        return sha256()
    from rootless.spec.digest import new_hasher

    return new_hasher(algorithm)


class Reader:
    """Gives the plain bytes of a compressed stream.

    Owner: the source stays the caller's, who may close it when `pieces` has ended. After an error, ours or the
           caller's, the thread may be waiting for bytes: `drain`, or leave both to the end of the process
    """

    def __init__(self, source: Source, compression: str) -> None:
        self._source = source
        self._compression = compression
        self.digest = sha256()
        """Hash of the plain bytes; complete when `pieces` has ended."""
        self._ready: SimpleQueue[bytes | BaseException | None] = SimpleQueue()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(_AHEAD):
            self._room.put(None)
        self._to_hash: SimpleQueue[bytes | None] = SimpleQueue()
        self._hashed: SimpleQueue[None] = SimpleQueue()
        for _ in range(_AHEAD):
            self._hashed.put(None)
        self._unwanted = False
        self._ended: SimpleQueue[BaseException | None] = SimpleQueue()
        _thread.start_new_thread(self._hash, ())
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

    def drain(self) -> None:
        """After an error: read the source to its end, for its own hash.

        Raises: what the source does
        """
        self._unwanted = True
        self._room.put(None)
        error = self._ended.get()
        if error is not None:
            raise error

    def _work(self) -> None:
        try:
            for piece in self._read():
                self._hashed.get()
                self._to_hash.put(piece)
                self._room.get()
                if self._unwanted:
                    break
                self._ready.put(piece)
            self._end_hashing()
            self._ready.put(None)
        except BaseException as error:
            self._to_hash.put(None)
            self._ready.put(error)
        try:
            self._source.rest()
            self._ended.put(None)
        except BaseException as error:
            self._ended.put(error)

    def _hash(self) -> None:
        while (piece := self._to_hash.get()) is not None:
            self.digest.update(piece)
            self._hashed.put(None)
        self._hashed.put(None)

    def _end_hashing(self) -> None:
        """Return when everything has been hashed: the end is answered as a piece is."""
        self._to_hash.put(None)
        for _ in range(_AHEAD + 1):
            self._hashed.get()

    def _read(self) -> Iterator[bytes]:
        read = self._source.read
        data = b""
        while len(data) < BLOCK and (more := read()):
            data += more
        stream = decompressor(detect(self._compression, data))
        while data:
            yield from stream.feed(data)
            data = read()
        stream.end()
