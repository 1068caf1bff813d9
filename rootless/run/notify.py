"""sd_notify for the container: a socket of its own, whose messages are passed on to the caller's NOTIFY_SOCKET.

The caller's socket itself cannot be bound into the container: the service manager looks at the sender's
credentials, and a process of another user or pid namespace would not be believed. So READY=1 is said by us,
with the container's pid beside it.

Source: sd_notify(3); the directory at the path of NOTIFY_SOCKET is what runc and crun make too
"""

from __future__ import annotations

import _socket
import posix
import select

from rootless.errors import KernelError
from rootless.kernel.fds import Fd
from rootless.run.state import NOTIFY_DIRECTORY
from rootless.spec.record import replace
from rootless.spec.runtime import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Spec

DIRECTORY = NOTIFY_DIRECTORY
_NAME = "notify"
_PASSED_ON = (b"READY=", b"STATUS=", b"STOPPING=", b"RELOADING=", b"ERRNO=", b"WATCHDOG=", b"EXTEND_TIMEOUT_USEC=")


def with_notify(spec: Spec, state_directory: str, host_socket: str) -> Spec:
    """Return *spec* with the socket's directory mounted at *host_socket*'s path and named in the environment."""
    if spec.process is None:
        return spec
    mount = Mount(
        host_socket, f"{state_directory}/{DIRECTORY}", "bind", ("bind", "nosuid", "noexec", "nodev", "rprivate")
    )
    env = tuple([word for word in spec.process.env if not word.startswith("NOTIFY_SOCKET=")])
    process = replace(spec.process, env=(*env, f"NOTIFY_SOCKET={host_socket}/{_NAME}"))
    return replace(spec, process=process, mounts=(*spec.mounts, mount))


def open_notify(state_directory: str) -> Fd:
    """Make the directory and the socket that the container writes to. Raises: KernelError(mkdir, bind)"""
    path = f"{state_directory}/{DIRECTORY}"
    try:
        try:
            posix.mkdir(path, 0o755)
        except FileExistsError:
            posix.unlink(f"{path}/{_NAME}")  # create made it; its socket ended with that process
        here = posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC)
        try:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
            # Unix socket paths end at 108 bytes.
            sock.bind(f"/proc/self/fd/{here}/{_NAME}")
        finally:
            posix.close(here)
        posix.chmod(f"{path}/{_NAME}", 0o777)
    except OSError as error:
        raise KernelError("bind", error.errno or 0, f"{path}/{_NAME}") from None
    return Fd(sock.detach())


def pass_on(notify: Fd, host_socket: str, pid: int) -> bool:
    """Pass one message on; say whether it was READY=1. A service manager that is gone is no error."""
    try:
        message = posix.read(notify.fileno(), 4096)
    except OSError:
        return False
    lines = [line for line in message.split(b"\n") if line.startswith(_PASSED_ON)]
    if not lines:
        return False
    ready = b"READY=1" in lines
    if ready:
        lines.append(f"MAINPID={pid}".encode())
    address = "\0" + host_socket[1:] if host_socket.startswith("@") else host_socket
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        sock.sendto(b"\n".join(lines), address)
    except OSError:
        pass
    finally:
        sock.close()
    return ready


def wait_ready(notify: Fd, host_socket: str, pidfd: Fd, pid: int) -> None:
    """Pass messages on until READY=1 or the end of the container (for callers that do not stay)."""
    poller = select.poll()
    poller.register(notify.fileno(), select.POLLIN)
    poller.register(pidfd.fileno(), select.POLLIN)
    while True:
        for fd, _event in poller.poll():
            if fd == pidfd.fileno() or pass_on(notify, host_socket, pid):
                return
