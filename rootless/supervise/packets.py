"""Packets of the control socket and of the link, sent and received with their descriptors."""

from __future__ import annotations

import _socket
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd, memfd_sealed, read_all, recv_fds, send_fds
from rootless.proto import frames

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


BACKLOG = 128


def send(sock: Fd, message: dict[str, Any], fds: Sequence[Fd] = ()) -> None:
    """Send one message; *fds* stay ours.

    Blocks: as the socket does
    Raises: KernelError(sendmsg) - EPIPE: the other side is gone
    """
    data = frames.encode(message)
    if len(data) <= frames.PACKET_BYTES:
        send_fds(sock, data, fds)
        return
    with memfd_sealed("message", data) as large:
        send_fds(sock, frames.LARGE, (*fds, large))


def receive(sock: Fd) -> tuple[dict[str, Any] | None, list[Fd]]:
    """Return the next message and its descriptors, which are the caller's; None at the end of the other side.

    Blocks: as the socket does
    Raises: KernelError(recvmsg), RootlessError
    """
    try:
        data, fds = recv_fds(sock, frames.PACKET_BYTES, frames.MAX_FDS)
    except KernelError as error:
        if error.errno == 104:  # ECONNRESET: it died with something of ours unread
            return None, []
        raise
    if not data:
        return None, []
    if data == frames.LARGE and fds:
        with fds.pop() as large:
            data = read_all(large)
    return frames.decode(data), fds


def listen(directory: str, name: str) -> Fd:
    """Return a listening socket at *directory*/*name* that never blocks in accept.

    unix socket paths end at 108 bytes, so the directory is opened and named through /proc.
    """
    fd = Fd(posix.open(directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC))
    with fd:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        sock.bind(f"/proc/self/fd/{fd.fileno()}/{name}")
        sock.listen(BACKLOG)
    return Fd(sock.detach())
