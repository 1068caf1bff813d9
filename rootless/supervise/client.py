"""The other side of the control socket: ask a container's supervisor for something.

with connect(roots, cid) as supervisor:
    reply, fds = supervisor.call("exec", {...}, fds=[...])
    exit_code = supervisor.wait_exit()
"""

from __future__ import annotations

import _socket
import posix

from rootless.errors import ContainerStateError, PeerGone
from rootless.kernel.fds import Fd
from rootless.proto import frames
from rootless.store import containers
from rootless.supervise import packets

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Any

    from rootless.store.layout import Roots

SOCKET = "ctl.sock"


class Supervisor:
    """A connection to a supervisor; `with` closes it."""

    def __init__(self, sock: Fd) -> None:
        self.sock = sock

    def call(self, verb: str, body: dict[str, Any], fds: Sequence[Fd] = ()) -> tuple[dict[str, Any], list[Fd]]:
        """Ask, and return the answer with its descriptors, which are the caller's; *fds* stay the caller's.

        Blocks:  until the supervisor answers
        Raises:  RootlessError - what it says; PeerGone - the container has ended
        """
        packets.send(self.sock, frames.request(verb, body), fds)
        message, given = packets.receive(self.sock)
        if message is None:
            raise PeerGone("the container's supervisor")
        frames.raise_failure(message)
        return message.get("ok") or message, given

    def say(self, message: dict[str, Any]) -> None:
        """Send something that has no answer. Raises: KernelError(sendmsg)"""
        packets.send(self.sock, message)

    def hear(self) -> dict[str, Any] | None:
        """Return the next message; None at the end. Blocks: until there is one"""
        message, fds = packets.receive(self.sock)
        for fd in fds:
            fd.close()
        return message

    def close(self) -> None:
        self.sock.close()

    def __enter__(self) -> Supervisor:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()


def connect(roots: Roots, cid: str) -> Supervisor:
    """Connect to the supervisor of the container *cid*.

    unix socket paths end at 108 bytes, so the directory is opened and named through /proc.

    Raises: ContainerStateError - the container does not run
    """
    try:
        directory = posix.open(containers.run_dir(roots, cid), posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
    except OSError:
        raise not_running(cid) from None
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(f"/proc/self/fd/{directory}/{SOCKET}")
    except OSError:
        sock.close()
        raise not_running(cid) from None
    finally:
        posix.close(directory)
    return Supervisor(Fd(sock.detach()))


def not_running(cid: str) -> ContainerStateError:
    return ContainerStateError(f"container {cid} is not running: container state improper")
