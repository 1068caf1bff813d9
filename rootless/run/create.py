"""Create a container: spawn the stage, answer its questions, return when the container waits for START.

The one launch path, blocking and without trio: the engine's run, restart policies and rootless-oci
all come through here.
"""

from __future__ import annotations

import _socket
import posix

from rootless.errors import LaunchError, PeerGone, RootlessError
from rootless.kernel.fds import Fd, read_file, recv_fds, send_fds
from rootless.kernel.process import pidfd_open, pidfd_send_signal, wait_pid
from rootless.plan.launch import LaunchPlan
from rootless.plan.wire import MESSAGE_BYTES, Message, decode_message, encode_message
from rootless.run.handshake import Action, Handshake
from rootless.stage.spawn import spawn_stage

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Created:
    """A container whose process waits for START.

    Owner: `close` closes the descriptors; it does not kill. `pid` is our child unless the stage was told otherwise
    """

    def __init__(
        self, pid: int, pidfd: Fd, sync: Fd, handshake: Handshake, console: Fd | None, warnings: list[str]
    ) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.sync = sync
        self.handshake = handshake
        self.console = console
        self.seccomp: Fd | None = None
        self.warnings = warnings

    def start(self, *, on_seccomp: Callable[[Fd], None] | None = None) -> None:
        """Send START and wait until the program runs; *on_seccomp* gets the listener before it does.

        Blocks: until execve has happened, or failed
        Raises: ExecNotFound, ExecNotExecutable, LaunchError; PeerGone when the process died before
        """
        send_fds(self.sync, encode_message(Message("START")))
        while True:
            data, fds = recv_fds(self.sync, MESSAGE_BYTES, 1)
            if not data:
                return  # close-on-exec: the exec has happened
            action = self.handshake.receive(decode_message(data))
            if action.do == "fail" and action.error is not None:
                wait_pid(self.pid)
                raise action.error
            if action.do == "seccomp" and fds:
                self.seccomp = fds.pop()
                if on_seccomp is not None:
                    # It is the agent's alone: the kernel tells the program ENOSYS when the last copy is closed.
                    on_seccomp(self.seccomp)
                    self.seccomp.close()
                    self.seccomp = None
                send_fds(self.sync, encode_message(Message("ACK")))
            elif action.do == "warn":
                self.warnings.append(action.text)

    def leave(self) -> None:
        """Tell a container that waits for another process to start it that it is recorded: it now outlives us.

        Raises: KernelError(sendmsg) - it has died
        """
        send_fds(self.sync, encode_message(Message("ACK")))

    def kill(self) -> None:
        """Kill the process and reap it."""
        try:
            pidfd_send_signal(self.pidfd, 9)
            wait_pid(self.pid)
        except (RootlessError, ChildProcessError):
            pass

    def close(self) -> None:
        for fd in (self.pidfd, self.sync, self.console, self.seccomp):
            if fd is not None:
                fd.close()


def create(
    plan: LaunchPlan,
    *,
    slots: Sequence[Fd] = (),
    stdio: tuple[Fd, Fd, Fd] | None = None,
    preserve_fds: int = 0,
    preserved: Sequence[Fd] = (),
    write_maps: Callable[[int], None] | None = None,
    run_hooks: Callable[[int], None] | None = None,
    on_pid: Callable[[int, Fd], None] | None = None,
    meanwhile: Callable[[], None] | None = None,
    join_cgroup: Callable[[int], None] | None = None,
) -> Created:
    """Run *plan* up to READY.

    Shape:   *write_maps* gets the pid when the new user namespace waits for its maps; *run_hooks* when the
             root is complete but not yet entered; *on_pid* as soon as the process exists; *meanwhile* is for what can
             be done while the container mounts: the first moment in which nobody waits for us; *join_cgroup* moves the
             helper into the cgroup before it clones, where the plan asks for that
    Blocks:  until the container is created
    Raises:  what the callbacks raise; LaunchError, ExecNotFound, ExecNotExecutable, KernelError. Nothing is left then
    Owner:   the caller closes what is returned; *slots* and *stdio* stay the caller's
    """
    helper, sync = spawn_stage(plan.encode(), slots=slots, stdio=stdio, preserve_fds=preserve_fds, preserved=preserved)
    handshake = Handshake(plan.ops, posix.strerror)
    created: Created | None = None
    console: Fd | None = None
    warnings = list(plan.warnings)
    early: list[tuple[Message, list[Fd]]] = []
    cloned_at = [op.kind for op in plan.ops].index("CLONE")
    pid = 0
    try:
        while True:
            if early and pid:
                message, fds = early.pop(0)
            else:
                data, fds = recv_fds(sync, MESSAGE_BYTES, 1)
                if not data:
                    raise PeerGone("the stage", f"while {handshake.phase}")
                message = decode_message(data)
                if not pid and message.op > cloned_at:
                    # The container's process can be quicker than the helper that says its pid.
                    early.append((message, fds))
                    continue
            action = handshake.receive(message)
            if action.do == "pid":
                pid = action.value
                pidfd = fds.pop() if fds else pidfd_open(pid)
                created = Created(pid, pidfd, sync, handshake, None, warnings)
                wait_pid(helper)
                helper = 0
                if on_pid is not None:
                    on_pid(pid, pidfd)
            elif action.do == "console" and fds:
                console = fds.pop()
            elif action.do in ("maps", "hooks", "cgroup"):
                # A helper that makes the user namespace itself asks before there is a container.
                answers = {"maps": write_maps, "hooks": run_hooks, "cgroup": join_cgroup}
                _answer(action, pid or helper, answers[action.do])
                send_fds(sync, encode_message(Message("ACK", pid)))
                if meanwhile is not None and pid:
                    meanwhile()
                    meanwhile = None
            elif action.do == "warn":
                warnings.append(action.text)
            elif action.do == "fail":
                raise action.error or LaunchError("the launch failed")
            elif action.do == "ready" and created is not None:
                created.console = console
                if meanwhile is not None:
                    meanwhile()
                return created
            for fd in fds:
                fd.close()
    except BaseException:
        if created is not None:
            created.kill()
            created.close()
        sync.close()
        if console is not None:
            console.close()
        if helper:
            wait_pid(helper)
        raise


def _answer(action: Action, pid: int, callback: Callable[[int], None] | None) -> None:
    if callback is None:
        raise LaunchError(f"the container waits for {action.do}, which nobody provides")
    callback(pid)


def hard_limits() -> tuple[tuple[str, int], ...]:
    """Return our own hard limits by RLIMIT_ name; RLIM_INFINITY is 2**64-1.

    Shape: /proc/self/limits has a line for each limit in the order of their numbers, the words in fixed columns
    """
    from rootless.plan.launch import RLIMITS

    try:
        lines = read_file("/proc/self/limits", limit_bytes=1 << 14).decode("ascii", "replace").splitlines()[1:]
        words = [line[26:].split()[1] for line in lines[: len(RLIMITS)]]
        limits = [(name, (1 << 64) - 1 if word == "unlimited" else int(word)) for name, word in zip(RLIMITS, words)]
    except (RootlessError, LookupError, ValueError):
        limits = []
    return tuple(limits) if len(limits) == len(RLIMITS) else _asked_limits(RLIMITS)


def _asked_limits(names: Sequence[str]) -> tuple[tuple[str, int], ...]:
    """The same by getrlimit(2), where there is no /proc to read (loading `resource` takes longer)."""
    import resource

    hard = [resource.getrlimit(number)[1] for number in range(len(names))]
    return tuple([(name, limit if limit >= 0 else (1 << 64) - 1) for name, limit in zip(names, hard)])


def listening_socket(path: str) -> Fd:
    """Return a listening SEQPACKET socket at *path* for `start` to connect to.

    unix socket paths end at 108 bytes, so the directory is opened and named through /proc.
    """
    directory, _, name = path.rpartition("/")
    fd = Fd(posix.open(directory, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC))
    with fd:
        sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_SEQPACKET | _socket.SOCK_CLOEXEC)
        sock.bind(f"/proc/self/fd/{fd.fileno()}/{name}")
        sock.listen(1)
    return Fd(sock.detach())
