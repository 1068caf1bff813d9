"""--sdnotify: what the service manager is told about a container, and by whom.

    container   NOTIFY_SOCKET in the container is a socket of ours; what the program says is passed on
    conmon      we say READY=1 as soon as the container runs
    healthy     we say READY=1 after the first health check that succeeded
    ignore      nothing is said

The main process of the unit is the supervisor in all of them (MAINPID=), for the service manager believes only
processes that it sees in the unit's cgroup, and knows no pid of the container's namespace. A MAINPID of the program is
dropped therefore. Plain functions of descriptors: the first poll loop and trio both call `step` when `fd` is readable.

    notifier = Notifier(options.sdnotify, os.environ.get("NOTIFY_SOCKET", ""), run_dir)
    spec = notifier.applied(spec)         before the launch
    notifier.started(os.getpid())         after START, with the pid that stays
    notifier.step()                       whenever notifier.fd is readable (None: never)
    notifier.healthy()                    at each successful health check
    notifier.close()

Source: sd_notify(3), systemd.service(5) Type=notify; podman-run(1) --sdnotify
"""

from __future__ import annotations

import _socket
import os
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd, open_fd
from rootless.spec.record import replace
from rootless.spec.runtime import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Spec

MODES = ("container", "conmon", "healthy", "ignore")
NAME = "notify.sock"
INSIDE = "/run/notify/notify.sock"
MESSAGE_BYTES = 4096
_PASSED_ON = (
    b"READY=", b"STATUS=", b"STOPPING=", b"RELOADING=", b"MONOTONIC_USEC=", b"ERRNO=", b"BUSERROR=", b"WATCHDOG=",
    b"WATCHDOG_USEC=", b"EXTEND_TIMEOUT_USEC=",
)  # fmt: skip


class Notifier:
    """The notifications of one container.

    Shape: *host_socket* is the caller's NOTIFY_SOCKET, "" when no service manager listens: nothing is done then
    Owner: the socket, which lives in the run directory and goes with it
    Raises: KernelError(bind)
    """

    def __init__(self, mode: str, host_socket: str, run_dir: str) -> None:
        self.mode = mode if host_socket else "ignore"
        self.fd: Fd | None = None
        self._host = "\0" + host_socket[1:] if host_socket.startswith("@") else host_socket
        self._path = f"{run_dir}/{NAME}"
        self._ready = False
        if self.mode == "container":
            self.fd = _bound(run_dir)

    def applied(self, spec: Spec) -> Spec:
        """Return *spec* with the socket in it; the caller's own is never shown to the container."""
        if spec.process is None:
            return spec
        env = tuple([word for word in spec.process.env if not word.startswith("NOTIFY_SOCKET=")])
        if self.fd is None:
            return replace(spec, process=replace(spec.process, env=env))
        mount = Mount(INSIDE, self._path, "bind", ("bind", "nosuid", "noexec", "nodev", "rprivate"))
        process = replace(spec.process, env=(*env, f"NOTIFY_SOCKET={INSIDE}"))
        return replace(spec, process=process, mounts=(*spec.mounts, mount))

    def started(self, supervisor: int) -> None:
        """The program runs; *supervisor* is who will see it through."""
        if self.mode == "ignore":
            return
        lines = [f"MAINPID={supervisor}".encode()]
        if self.mode == "conmon":
            lines.append(b"READY=1")
        self._tell(lines)

    def healthy(self) -> None:
        """A health check has succeeded."""
        if self.mode == "healthy" and not self._ready:
            self._ready = True
            self._tell([b"READY=1"])

    def step(self) -> None:
        """Pass one message of the program on. A barrier's descriptor is not taken, so the kernel closes it."""
        if self.fd is None:
            return
        try:
            message = posix.read(self.fd.fileno(), MESSAGE_BYTES)
        except OSError:
            return
        lines = [line for line in message.split(b"\n") if line.startswith(_PASSED_ON)]
        if lines:
            self._tell(lines)

    def _tell(self, lines: list[bytes]) -> None:
        """A service manager that has gone or does not read is no error, and never waited for."""
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
        try:
            sock.sendto(b"\n".join(lines), self._host)
        except OSError:
            pass
        finally:
            sock.close()

    def close(self) -> None:
        if self.fd is None:
            return
        self.fd.close()
        self.fd = None
        try:
            os.unlink(self._path)
        except OSError:
            pass


def _bound(run_dir: str) -> Fd:
    """Return a datagram socket at RUN/containers/ID/notify.sock that every user of the container may write to."""
    path = f"{run_dir}/{NAME}"
    try:
        os.unlink(path)  # of an earlier life
    except FileNotFoundError:
        pass
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC | _socket.SOCK_NONBLOCK)
    try:
        # A socket's name ends at 108 bytes; below a descriptor it is always short (unix(7)).
        with open_fd(run_dir, posix.O_PATH | posix.O_DIRECTORY) as here:
            sock.bind(f"{here.proc_path()}/{NAME}")
        os.chmod(path, 0o666)
    except OSError as error:
        sock.close()
        raise KernelError("bind", error.errno or 0, path) from None
    return Fd(sock.detach())
