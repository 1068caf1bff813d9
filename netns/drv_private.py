"""The private network: our network process in the host's network namespace, a tap in the container's.

The process is spawned first and handed the container's namespace when that exists, so its interpreter starts while the
container is being made. It owns the only descriptor of the tap: whoever closes the last one waits for the device to be
torn down (30 ms), and nobody waits for this process.

Source: docs/decisions/0010-tap-by-thread.md; netns/wire.py for the messages
"""

from __future__ import annotations

import _signal
import fcntl
import posix
import select
import time

from netns import wire
from netns.driver import Attachment, Unsupported
from rootless import launcher
from rootless.errors import KernelError, NotSupported, PeerGone, RootlessError
from rootless.kernel import fds, process
from rootless.kernel.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.config import NetConfig

WHO = "the network process"
CONTROL_FD = 3
_USER_NAMESPACE = "/proc/self/ns/user"
_LOG_BYTES = 4096
_ECONNRESET = 104
_HINT_BUILD = "install libslirp-dev and install rootless again with its extra `net`, or use --network none or host"
_HINT_SLOW = "the machine may be overloaded: try again"
_LOST = "no private network here, the container gets none ({})"


class PrivateDriver:
    name = "private"

    def supports(self, config: NetConfig | None) -> Unsupported | None:
        directory = __file__.rpartition("/")[0]
        if not any(name.startswith("_slirp.") and name.endswith(".so") for name in posix.listdir(directory)):
            return Unsupported("the binding to libslirp was not built", _HINT_BUILD)
        return None

    def prepare(self, config: NetConfig) -> Process:
        """Start the network process in our own network namespace, which must be the host's.

        Blocks:  for the spawn
        Raises:  NotSupported - our module was not built; KernelError
        """
        pending = self.begin()
        pending.configure(config)
        return pending

    def begin(self) -> Process:
        """Start the network process; what it is to do is said later, by `configure`. Raises: as `prepare`"""
        missing = self.supports(None)
        if missing is not None:
            raise NotSupported("private network", (missing.reason,), hint=missing.hint)
        return Process()


class Process:
    """A network process that was started and is not ready yet."""

    def __init__(self) -> None:
        self._ports = False
        self._control, theirs = fds.socketpair()
        # Nothing of the caller's stdio goes along: `rootless run ... | head` must see the container's output end.
        # Non-blocking, so that a process with much to complain about is not held up by a reader that never comes.
        self._log, log_end = fds.pipe()
        for end in (self._log, log_end):
            flags = fcntl.fcntl(end.fileno(), fcntl.F_GETFL)
            fcntl.fcntl(end.fileno(), fcntl.F_SETFL, flags | posix.O_NONBLOCK)
        with theirs, log_end, fds.open_fd("/dev/null", posix.O_RDWR) as null:
            argv = launcher.command("rootless-netstack", f"--supervised={CONTROL_FD}")
            # A session of its own: ^C and ^Z of the terminal are for the container, not for its network.
            self.pid = process.spawn(argv, fds={0: null, 1: null, 2: log_end, CONTROL_FD: theirs}, setsid=True,
                                     elsewhere=True)  # fmt: skip
        self.pidfd: Fd | None = process.pidfd_open(self.pid)
        self._attachment: Attachment | None = None
        self._user_namespace = posix.readlink(_USER_NAMESPACE)

    def configure(self, config: NetConfig) -> None:
        """Say what network it is to be. Blocks: no"""
        self._ports = bool(config.ports)
        fds.send_fds(self._control, wire.encode_config(config))

    def attach(self, netns: Fd) -> None:
        """Hand over the container's network namespace. Blocks: no

        If we have entered a user namespace since the process was spawned, it gets that too: only there may it join.
        """
        sent = [netns]
        if posix.readlink(_USER_NAMESPACE) != self._user_namespace:
            sent.append(fds.open_fd(_USER_NAMESPACE, posix.O_RDONLY))
        try:
            fds.send_fds(self._control, wire.NETNS, sent)
        except KernelError:
            pass  # it is gone; why is told by wait_ready
        finally:
            for fd in sent[1:]:
                fd.close()

    def wait_ready(self, timeout_ms: int = 10_000) -> Attachment:
        """Return when the network is up and all ports are published.

        Where this machine has no device for it, and nothing was asked that needs it, the attachment has mode `none`
        and a warning.
        Raises: RootlessError - what the process said; PeerGone; a deadline
        """
        answer = receive(self._control, self.pidfd, self._log, timeout_ms)
        try:
            ready = wire.decode_answer(answer)
        except NotSupported as error:
            if self._ports:
                raise
            self.close()
            reason = _LOST.format(f"{error.message}; {error.hint}" if error.hint else error.message)
            return Attachment("none", warnings=(reason,))
        self._attachment = Attachment(
            "private",
            address=ready.address,
            gateway=ready.gateway,
            nameserver=ready.nameserver,
            address6=ready.address6,
            gateway6=ready.gateway6,
            device=ready.device,
            mtu=ready.mtu,
            ports=ready.ports,
            pid=self.pid,
            pidfd=self.pidfd,
            control=self._control,
            log=self._log,
        )
        return self._attachment

    def close(self) -> None:
        """Kill the process unless wait_ready gave it away. Blocks: until it is gone"""
        pidfd = self.pidfd
        if self._attachment is not None or pidfd is None or pidfd.closed:
            return
        self._control.close()
        try:
            process.pidfd_send_signal(pidfd, _signal.SIGKILL)
        except KernelError:
            pass  # it has ended
        process.wait_pid(self.pid)
        pidfd.close()
        self._log.close()


def receive(control: Fd, pidfd: Fd | None, log: Fd, timeout_ms: int) -> bytes:
    """Return the next message of the network process.

    Blocks: up to *timeout_ms*
    Raises: PeerGone with its last words; RootlessError at the deadline
    """
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    if pidfd is not None:
        poll.register(pidfd.fileno(), select.POLLIN)
    deadline = time.monotonic() + timeout_ms / 1000
    while True:
        ready = poll.poll(max(0, int((deadline - time.monotonic()) * 1000) + 1))
        if any(number == control.fileno() for number, _ in ready):
            try:
                data, _ = fds.recv_fds(control)
            except KernelError as error:
                if error.errno != _ECONNRESET:
                    raise
                # It ended with a message of ours unread. That is reported first, once; its own last message follows.
                continue
            if data:
                return data
        if ready:
            raise PeerGone(WHO, read_log(log))
        if time.monotonic() >= deadline:
            raise RootlessError(f"{WHO} was not ready within {timeout_ms / 1000:.0f} s", hint=_HINT_SLOW)


def read_log(log: Fd) -> str:
    """Return the end of what the process wrote on stderr. Blocks: no"""
    text = b""
    while True:
        try:
            part = posix.read(log.fileno(), 65536)
        except OSError:
            break
        if not part:
            break
        text = (text + part)[-_LOG_BYTES:]
    return text.decode("utf-8", "replace")


def ask(attachment: Attachment, request: bytes, timeout_ms: int = 10_000) -> object:
    """Send *request* (wire.encode_*) to a running network process and return its answer.

    Raises: RootlessError - what the process said; PeerGone
    """
    control, pidfd, log = attachment.control, attachment.pidfd, attachment.log
    if control is None or log is None:
        raise NotSupported(f"changing a network of mode {attachment.mode}")
    try:
        fds.send_fds(control, request)
    except KernelError:
        raise PeerGone(WHO, read_log(log)) from None
    return wire.decode_answer(receive(control, pidfd, log, timeout_ms))
