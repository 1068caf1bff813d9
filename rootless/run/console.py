"""Hand the master of the container's terminal to whoever listens on the console socket, or keep it ourselves.

Source: runc's docs/terminals.md ("detached terminal"): one message on a stream socket, the name of the terminal
        as data and the descriptor beside it; pty(7)
"""

from __future__ import annotations

import _socket
import _struct as struct  # what `struct` itself wraps
import errno
import fcntl
import posix
import select
import termios

from rootless.errors import KernelError, UsageError
from rootless.kernel.fds import Fd, send_fds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CHUNK_BYTES = 32768


def connect_console(path: str) -> Fd:
    """Connect to the console socket at *path*. Raises: UsageError - nobody listens there"""
    return connect_socket(path, "console socket")


def connect_socket(path: str, what: str) -> Fd:
    """Connect to the stream socket at *path*, which is called *what* when that fails.

    unix socket paths end at 108 bytes: the directory goes through /proc/self/fd.

    Raises: UsageError - nobody listens there
    """
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        if len(path.encode("utf-8", "surrogateescape")) < 108:
            sock.connect(path)
        else:
            parent, _, name = path.rpartition("/")
            here = posix.open(parent, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
            try:
                sock.connect(f"/proc/self/fd/{here}/{name}")
            finally:
                posix.close(here)
    except OSError as error:
        sock.close()
        raise UsageError(f"connect to {what} {path}: {posix.strerror(error.errno or 0).lower()}", code=1) from None
    return Fd(sock.detach())


def send_console(sock: Fd, master: Fd) -> None:
    """Send *master*; ours stays open. Raises: KernelError(sendmsg)"""
    send_fds(sock, b"/dev/ptmx", (master,))


def terminal_size(fd: int) -> bytes:
    """Return the struct winsize of a terminal, empty for anything else."""
    try:
        return fcntl.ioctl(fd, termios.TIOCGWINSZ, b"\0" * 8)
    except OSError:
        return b""


def set_size(master: Fd, size: bytes) -> None:
    """Set the struct winsize of the container's terminal."""
    if len(size) == 8 and struct.unpack("HHHH", size)[:2] != (0, 0):
        try:
            fcntl.ioctl(master.fileno(), termios.TIOCSWINSZ, size)
        except OSError:
            pass


def clear_newlines(master: Fd) -> None:
    """Stop the container's terminal from turning NL into CR NL: ours does that, and a pipe wants none of it."""
    try:
        attributes: list[Any] = termios.tcgetattr(master.fileno())
        attributes[1] &= ~termios.ONLCR
        termios.tcsetattr(master.fileno(), termios.TCSANOW, attributes)
    except termios.error:
        pass


class RawTerminal:
    """Our own terminal in raw mode while it shows the container's; `with` brings back what it was."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._before: list[Any] | None = None

    def __enter__(self) -> RawTerminal:
        try:
            before: list[Any] = termios.tcgetattr(self._fd)
        except termios.error:
            return self
        raw = [*before[:6], list(before[6])]
        # cfmakeraw(3), except that output is still processed: see `clear_newlines`.
        raw[0] &= ~(termios.IGNBRK | termios.BRKINT | termios.PARMRK | termios.ISTRIP | termios.INLCR | termios.IGNCR
                    | termios.ICRNL | termios.IXON)  # fmt: skip
        raw[2] = raw[2] & ~(termios.CSIZE | termios.PARENB) | termios.CS8
        raw[3] &= ~(termios.ECHO | termios.ECHONL | termios.ICANON | termios.ISIG | termios.IEXTEN)
        termios.tcsetattr(self._fd, termios.TCSANOW, raw)
        self._before = before
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            # Not TCSADRAIN: that waits for a terminal emulator which may have stopped reading.
            termios.tcsetattr(self._fd, termios.TCSANOW, self._before)


class Copier:
    """Moves bytes between our stdio and the master of a terminal, one readable descriptor at a time."""

    def __init__(self, master: Fd, poller: select.poll) -> None:
        self.master = master
        self._poller = poller
        poller.register(master.fileno(), select.POLLIN)
        poller.register(0, select.POLLIN)

    def ready(self, fd: int) -> None:
        """Move what is there on *fd* (0 or the master)."""
        if fd == 0:
            data = self._read(0)
            if data:
                self._write(self.master.fileno(), data)
            else:
                # The end of our stdin is ^D to the program, as if a person had typed it.
                self._poller.unregister(0)
                self._write(self.master.fileno(), b"\x04")
        else:
            data = self._read(fd)
            if data:
                self._write(1, data)
            else:
                self._poller.unregister(fd)

    @staticmethod
    def drain_of(master: Fd) -> None:
        """Copy what is left in *master* to our stdout."""
        posix.set_blocking(master.fileno(), False)
        while data := Copier._read(master.fileno()):
            Copier._write(1, data)

    def drain(self) -> None:
        """Copy what the container wrote before it ended."""
        self.drain_of(self.master)

    @staticmethod
    def _read(fd: int) -> bytes:
        try:
            return posix.read(fd, _CHUNK_BYTES)
        except OSError as error:
            # EIO: the last slave is closed (pty(7)).
            if error.errno in (errno.EIO, errno.EAGAIN, errno.EBADF):
                return b""
            raise KernelError("read", error.errno or 0, "from the terminal") from None

    @staticmethod
    def _write(fd: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            try:
                view = view[posix.write(fd, view) :]
            except BlockingIOError:
                select.select([], [fd], [])
            except OSError:
                return
