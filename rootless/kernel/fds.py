"""File descriptors as owned values: opened close-on-exec, closed once, passed between processes."""

from __future__ import annotations

import fcntl
import posix

from rootless.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import _socket
    from collections.abc import Sequence
    from types import TracebackType

# linux/socket.h, the same on every architecture: not every client needs `_socket`.
_SOCK_SEQPACKET, _SOL_SOCKET, _SCM_RIGHTS = 5, 1, 1
# linux/memfd.h, from 6.3; the module that would have them is not loaded for a client that needs no more than this.
MFD_NOEXEC_SEAL, MFD_EXEC = 0x8, 0x10
_CLOSE_RANGE_CLOEXEC = 4


class Fd:
    """One descriptor and the duty to close it. `with` closes it; `detach` gives the duty away."""

    __slots__ = ("_number",)

    def __init__(self, number: int) -> None:
        self._number = number

    def fileno(self) -> int:
        if self._number < 0:
            raise KernelError("fileno", 9, "of a closed descriptor")
        return self._number

    @property
    def closed(self) -> bool:
        return self._number < 0

    def close(self) -> None:
        """Close it; doing so twice is harmless."""
        number, self._number = self._number, -1
        if number >= 0:
            posix.close(number)

    def detach(self) -> int:
        """Return the number; the caller closes it."""
        number = self.fileno()
        self._number = -1
        return number

    def dup(self) -> Fd:
        return Fd(fcntl.fcntl(self.fileno(), fcntl.F_DUPFD_CLOEXEC, 3))

    def proc_path(self) -> str:
        """Return a path that opens the same object while this process lives (/proc/self/fd/N)."""
        return f"/proc/self/fd/{self.fileno()}"

    def __enter__(self) -> Fd:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_number", -1) >= 0:
            self.close()

    def __repr__(self) -> str:
        return f"Fd({self._number})"


def open_fd(path: str | bytes, flags: int, mode: int = 0, *, dir_fd: Fd | None = None) -> Fd:
    """Open *path* close-on-exec, relative to *dir_fd* where given.

    Raises: KernelError(open)
    """
    try:
        if dir_fd is None:
            return Fd(posix.open(path, flags | posix.O_CLOEXEC, mode))
        return Fd(posix.open(path, flags | posix.O_CLOEXEC, mode, dir_fd=dir_fd.fileno()))
    except OSError as error:
        name = path if isinstance(path, str) else path.decode("utf-8", "backslashreplace")
        raise KernelError("open", error.errno or 0, name) from None


def is_locked(path: str) -> bool:
    """Say whether somebody holds the flock on *path* (a supervisor that lives). Raises: KernelError(open)"""
    with open_fd(path, posix.O_RDONLY) as fd:
        try:
            fcntl.flock(fd.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


def pipe() -> tuple[Fd, Fd]:
    """Return the read end and the write end of a new pipe, both close-on-exec."""
    r, w = posix.pipe2(posix.O_CLOEXEC)
    return Fd(r), Fd(w)


def socketpair(kind: int = _SOCK_SEQPACKET) -> tuple[Fd, Fd]:
    """Return two connected unix sockets, both close-on-exec."""
    import _socket

    a, b = _socket.socketpair(_socket.AF_UNIX, kind | _socket.SOCK_CLOEXEC)
    return Fd(a.detach()), Fd(b.detach())


def memfd(name: str, *, executable: bool = False) -> Fd:
    """Create an anonymous file that can be sealed.

    MFD_EXEC is only known from 6.3 (EINVAL before); without it vm.memfd_noexec=1 would make the
    file non-executable, and with 2 refuse it (EACCES).
    Source: memfd_create(2), Documentation/userspace-api/mfd_noexec.rst
    """
    flags = posix.MFD_CLOEXEC | posix.MFD_ALLOW_SEALING
    kinds = (MFD_EXEC, 0) if executable else (MFD_NOEXEC_SEAL, 0)
    for kind in kinds:
        try:
            return Fd(posix.memfd_create(name, flags | kind))
        except OSError as error:
            if error.errno != 22 or kind == 0:
                raise KernelError("memfd_create", error.errno or 0, name) from None
    raise AssertionError("unreachable")


def seal(fd: Fd) -> None:
    """Forbid every further change of the memfd *fd*."""
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(fd.fileno(), fcntl.F_ADD_SEALS, seals)


def memfd_sealed(name: str, data: bytes) -> Fd:
    """Return a sealed memfd that holds *data*, its offset at 0."""
    fd = memfd(name)
    write_all(fd, data)
    seal(fd)
    posix.lseek(fd.fileno(), 0, 0)
    return fd


def write_all(fd: Fd, data: bytes) -> None:
    """Write all of *data*. Blocks: as the descriptor does."""
    view = memoryview(data)
    while view:
        view = view[posix.write(fd.fileno(), view) :]


def read_all(fd: Fd, limit_bytes: int = 1 << 26) -> bytes:
    """Read to the end of file, at most *limit_bytes*. Blocks: until the writers are gone."""
    parts: list[bytes] = []
    total = 0
    while total < limit_bytes:
        part = posix.read(fd.fileno(), min(65536, limit_bytes - total))
        if not part:
            break
        parts.append(part)
        total += len(part)
    return b"".join(parts)


def read_file(path: str | bytes, *, limit_bytes: int = 1 << 26) -> bytes:
    """Return what a small file holds. Raises: KernelError(open)"""
    with open_fd(path, posix.O_RDONLY) as fd:
        return read_all(fd, limit_bytes)


def _borrowed(sock: Fd) -> _socket.socket:
    import _socket

    return _socket.socket(fileno=sock.fileno())


def send_fds(sock: Fd, data: bytes, fds: Sequence[Fd] = ()) -> None:
    """Send one message with descriptors; ours stay open. Blocks: as the socket does.

    Raises: KernelError(sendmsg) - EPIPE: the peer is gone
    """
    s = _borrowed(sock)
    try:
        ancillary = []
        if fds:
            packed = b"".join(fd.fileno().to_bytes(4, "little") for fd in fds)
            ancillary = [(_SOL_SOCKET, _SCM_RIGHTS, packed)]
        s.sendmsg([data], ancillary, _MSG_NOSIGNAL)
    except OSError as error:
        raise KernelError("sendmsg", error.errno or 0) from None
    finally:
        s.detach()


def recv_fds(sock: Fd, size_bytes: int = 65536, max_fds: int = 16) -> tuple[bytes, list[Fd]]:
    """Receive one message; b"" is the end of the peer. The caller owns the descriptors.

    Raises: KernelError(recvmsg)
    """
    from _socket import CMSG_SPACE

    s = _borrowed(sock)
    try:
        data, ancillary, flags, _ = s.recvmsg(size_bytes, CMSG_SPACE(4 * max_fds), _MSG_CMSG_CLOEXEC)
    except OSError as error:
        raise KernelError("recvmsg", error.errno or 0) from None
    finally:
        s.detach()
    fds: list[Fd] = []
    for level, kind, payload in ancillary:
        if level == _SOL_SOCKET and kind == _SCM_RIGHTS:
            for at in range(0, len(payload) - len(payload) % 4, 4):
                fds.append(Fd(int.from_bytes(payload[at : at + 4], "little")))
    if flags & _MSG_CTRUNC:
        for fd in fds:
            fd.close()
        raise KernelError("recvmsg", 105, "(more descriptors than expected)")
    return data, fds


_MSG_NOSIGNAL = 0x4000
_MSG_CMSG_CLOEXEC = 0x40000000
_MSG_CTRUNC = 8


def close_range(first: int, last: int = 0xFFFFFFFF, *, cloexec: bool = False) -> None:
    """Close (or mark close-on-exec) all descriptors from *first* to *last*."""
    from rootless.kernel._sys import lib
    from rootless.kernel.check import check

    check("close_range", lib.rl_close_range(first, last, _CLOSE_RANGE_CLOEXEC if cloexec else 0))
