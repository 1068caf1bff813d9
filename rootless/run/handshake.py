"""The conversation with the stage, without I/O: messages in, actions out.

The order is a table, so a stage that is out of step (or somebody else on the socket) is an error at
the first wrong message and never a hang or a wrong step.
"""

from __future__ import annotations

from _signal import strsignal

from rootless.errors import ExecNotExecutable, ExecNotFound, InternalError, LaunchError, RootlessError, WorkdirError
from rootless.plan.launch import CLONE_FLAGS, SYNC_CGROUP, SYNC_HOOKS, SYNC_MAPS
from rootless.plan.wire import ELSE, FLAGS, Message, Op
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ENOENT, ENOEXEC, EACCES, EISDIR, ENOTDIR, ELOOP, ETIME = 2, 8, 13, 21, 20, 40, 62

# phase -> message -> next phase
TABLE: dict[str, dict[str, str]] = {
    "spawned": {"PID": "setup", "ERROR": "failed", "WARN": "spawned", "SYNC": "spawned"},
    "setup": {
        "SYNC": "setup", "CONSOLE": "setup", "SECCOMP_FD": "setup", "WARN": "setup", "READY": "created",
        "ERROR": "failed",
    },
    "created": {"WARN": "created", "SECCOMP_FD": "created", "ERROR": "failed"},
}  # fmt: skip


@record
class Action:
    """What to do next: `pid`, `maps`, `hooks`, `cgroup`, `console`, `seccomp`, `ready`, `warn` or `fail`."""

    do: str
    value: int = 0
    text: str = ""
    error: RootlessError | None = None


class Handshake:
    """Accepts the stage's messages in their order; `phase` says how far the launch is."""

    def __init__(self, ops: Sequence[Op], strerror: Callable[[int], str]) -> None:
        self.phase = "spawned"
        self._ops = ops
        self._strerror = strerror

    def receive(self, message: Message) -> Action:
        """Return the action for *message*. Raises: InternalError when it is out of order"""
        following = TABLE.get(self.phase, {}).get(message.kind)
        if following is None:
            raise InternalError(f"the stage sent {message.kind} while {self.phase}")
        self.phase = following
        if message.kind == "SYNC":
            point = {SYNC_MAPS: "maps", SYNC_HOOKS: "hooks", SYNC_CGROUP: "cgroup"}.get(message.a)
            if point is None:
                raise InternalError(f"the stage stopped at the unknown point {message.a}")
            return Action(point)
        if message.kind == "WARN":
            return Action("warn", message.a, self._warning(message))
        if message.kind == "ERROR":
            return Action("fail", message.a, error=self._error(message))
        return Action(
            {"PID": "pid", "CONSOLE": "console", "SECCOMP_FD": "seccomp", "READY": "ready"}[message.kind], message.a
        )

    def _what(self, index: int) -> str:
        op = self._ops[index] if index < len(self._ops) else None
        return (op.why or op.kind.lower()) if op else f"operation {index}"

    def _warning(self, message: Message) -> str:
        text = f"{self._what(message.op)}: {self._strerror(message.a).lower()}"
        replaced = message.op + 1 < len(self._ops) and self._ops[message.op].flags & ELSE
        return f"{text} (instead: {self._what(message.op + 1)})" if replaced else text

    def _error(self, message: Message) -> RootlessError:
        op = self._ops[message.op] if message.op < len(self._ops) else None
        reason = self._strerror(message.a).lower()
        if op is not None and op.kind == "LOOKUP":
            return exec_error(op.why, message.a, reason)
        if op is not None and op.kind == "EXEC":
            return execve_error(op.why, message.a, reason)
        if op is not None and op.kind == "HOOK":
            return hook_error(op.why, message.a, reason)
        if op is not None and op.kind == "CWD":
            return WorkdirError(f"{self._what(message.op)}: {reason}", message.a)
        if op is not None and message.a == ELOOP and (op.kind == "MOUNT" or op.flags & FLAGS["ORDINARY"]):
            reason = "must be mounted on ordinary directory"
        error = LaunchError(f"{self._what(message.op)}: {reason}")
        error.syscall, error.errno = _syscall(op) if op is not None else "", message.a
        return error


def _syscall(op: Op) -> str:
    """Return the name under which the table of hints knows the system call of *op*."""
    if op.kind == "CLONE":
        return "unshare" if op.a & CLONE_FLAGS["user"] else "clone3"
    if op.kind == "MOUNT":
        return f"mount({op.s[2].decode('ascii', 'replace')})"
    if op.kind in ("BIND", "ATTACH", "ROOT", "PROPAGATION", "PIVOT", "READONLY", "MASK"):
        return "mount"
    return {"UNSHARE": "unshare", "HOSTNAME": "sethostname"}.get(op.kind, "")


HOOK_STATUS = 1000
"""What the stage adds to the exit status of a hook that failed."""


def hook_error(why: str, code: int, reason: str) -> RootlessError:
    """Say how a hook that ran in the container failed."""
    if code > HOOK_STATUS + 128:
        reason = f"signal: {(strsignal(code - HOOK_STATUS - 128) or 'unknown').lower()}"
    elif code >= HOOK_STATUS:
        reason = f"exit status {code - HOOK_STATUS}"
    elif code == ETIME:
        reason = "timed out"
    return LaunchError(f"{why}: {reason}")


def execve_error(program: str, errno: int, reason: str) -> RootlessError:
    """Say what execve itself refused: the interpreter of a script is missing, a format that nobody knows."""
    text = f"exec {program}: {reason}"
    return ExecNotFound(text) if errno in (ENOENT, ENOTDIR, ELOOP) else ExecNotExecutable(text)


def exec_error(program: str, errno: int, reason: str) -> RootlessError:
    """Say why *program* cannot be executed, in the words of runc, which engines parse into 127 and 126."""
    if errno in (ENOENT, ENOTDIR, ELOOP):
        if "/" in program:
            return ExecNotFound(f'exec: "{program}": stat {program}: {reason}')
        return ExecNotFound(f'exec: "{program}": executable file not found in $PATH')
    if errno == EISDIR:
        # execve(2) says EACCES, and engines look for its words.
        return ExecNotExecutable(f'exec: "{program}": is a directory: permission denied')
    if errno == EACCES:
        return ExecNotExecutable(f'exec: "{program}": permission denied')
    return ExecNotExecutable(f'exec: "{program}": {reason}')
