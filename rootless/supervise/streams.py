"""Bytes between descriptors, one step at a time: what the poll loop and the trio loop both call.

A `Stream` is either empty and waits for its source, or holds bytes and waits for its target. No step
blocks: reading is announced by POLLIN, and a write announced by POLLOUT of at most PIPE_BUF bytes goes
through at once (pipe(7)).

Our own stdio is never made non-blocking: the flag belongs to the open file, which the caller's shell
shares.
"""

from __future__ import annotations

import errno
import posix
import stat

from rootless.kernel.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65536
PIPE_BUF = 4096
_ENDED = (errno.EIO, errno.EBADF, errno.ECONNRESET)  # EIO: the last slave of a terminal is closed (pty(7))


class Stream:
    """One direction.

    Shape: *target* None: what comes is read, shown to *tap* and dropped, so that the writer never waits. *stays*: a
           target that has gone is forgotten, instead of telling the writer by closing the source
    Owner: *source* and *target* are closed with the stream where they are `Fd`s; plain numbers are the caller's
    """

    def __init__(
        self,
        source: Fd | int,
        target: Fd | int | None,
        *,
        end_text: bytes = b"",
        tap: Callable[[bytes], None] | None = None,
        stays: bool = False,
        keep_target: bool = False,
    ) -> None:
        self._source = source
        self._target = target
        self._buffer = b""
        self._end_text = end_text
        self._tap = tap
        self._stays = stays
        self._keep_target = keep_target
        self.ended = False
        self._write_bytes = READ_BYTES if target is not None and _is_file(_number(target)) else PIPE_BUF

    @property
    def waiting_for(self) -> tuple[int, bool]:
        """Return the descriptor that must become ready, and whether for writing."""
        if self._buffer and self._target is not None:
            return _number(self._target), True
        return _number(self._source), False

    def step(self) -> None:
        """Do the one step that `waiting_for` announced."""
        if self._buffer:
            self._write()
        else:
            self._read()

    def _read(self) -> None:
        try:
            data = posix.read(_number(self._source), READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno not in _ENDED:
                raise
            data = b""
        if data:
            if self._tap is not None:
                self._tap(data)
            if self._target is not None:
                self._buffer = data
        elif self._end_text:
            # The end of our stdin is ^D to a program on a terminal, as if a person had typed it.
            self._buffer, self._end_text = self._end_text, b""
            self._source_done()
        else:
            self.close()

    def _source_done(self) -> None:
        if isinstance(self._source, Fd):
            self._source.close()
        self._source = posix.open("/dev/null", posix.O_RDONLY | posix.O_CLOEXEC)

    def _write(self) -> None:
        assert self._target is not None
        try:
            done = posix.write(_number(self._target), self._buffer[: self._write_bytes])
        except BlockingIOError:
            return
        except OSError:
            if self._stays:
                self.leave_target()
                return
            # The reader has gone (EPIPE), the disk is full: closing our end tells the writer as it would be told
            # without a container in between.
            self.close()
            return
        self._buffer = self._buffer[done:]

    def leave_target(self) -> None:
        """Go on without a target: somebody has detached."""
        self._buffer = b""
        if isinstance(self._target, Fd) and not self._keep_target:
            self._target.close()
        self._target = None

    def close(self) -> None:
        """End the stream; a container that still writes gets SIGPIPE, one that reads gets the end of file."""
        self.ended = True
        self._buffer = b""
        if isinstance(self._source, Fd):
            self._source.close()
        if isinstance(self._target, Fd) and not self._keep_target:
            self._target.close()


def _number(end: Fd | int) -> int:
    if isinstance(end, Fd):
        return -1 if end.closed else end.fileno()
    return end


def _is_file(number: int) -> bool:
    try:
        return stat.S_ISREG(posix.fstat(number).st_mode)
    except OSError:
        return False
