"""Run the hooks of one stage: the program, its environment and nothing else, the State document on stdin.

createContainer and startContainer hooks run in the container's namespaces and so are operations of
the stage (`stage_ops`); the other four are started here.

Source: runtime-spec config.md#posix-platform-hooks, runtime.md#lifecycle
"""

from __future__ import annotations

import errno
import posix
import select

from rootless.errors import KernelError, LaunchError
from rootless.kernel.fds import Fd, memfd, pipe, read_all
from rootless.kernel.process import pidfd_open, pidfd_send_signal, spawn, wait_pid
from rootless.plan.wire import Op, block
from rootless.spec.jsontext import dumps
from rootless.spec.record import replace
from rootless.spec.state import StateDocument

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.spec.runtime import Hook

_MAX_SAID_BYTES = 4096


class HookFailed(LaunchError):
    """A hook ended with *status* (None: it took too long)."""

    def __init__(self, message: str, status: int | None) -> None:
        super().__init__(message, code=1)
        self.status = status


def run_hooks(stage: str, hooks: Sequence[Hook], document: StateDocument) -> None:
    """Run *hooks* in their order, stop at the first that fails.

    Blocks: until all have ended, each at most its timeout
    Raises: HookFailed with what the hook said; LaunchError when it cannot be started
    """
    text = dumps(document.value()).encode()
    for at, hook in enumerate(hooks):
        _run(f"{stage} hook #{at}", hook, text)


def _run(what: str, hook: Hook, text: bytes) -> None:
    reading, writing = pipe()
    argv = hook.args or (hook.path,)
    env = None if hook.env is None else dict([_pair(word) for word in hook.env])
    with memfd("hook-output") as said:
        with reading:
            try:
                pid = spawn(argv, executable=hook.path, fds={0: reading, 1: said, 2: said}, env=env)
            except KernelError as error:
                writing.close()
                raise LaunchError(
                    f"error running {what}: fork/exec {hook.path}: {posix.strerror(error.errno or 0).lower()}", code=1
                ) from None
        with pidfd_open(pid) as pidfd:
            with writing:
                _feed(writing, text)
            status = _wait(pid, pidfd, hook.timeout)
        if status == 0:
            return
        posix.lseek(said.fileno(), 0, 0)
        words = read_all(said, _MAX_SAID_BYTES).decode("utf-8", "replace").strip()
    reason = f"timed out after {hook.timeout} s" if status is None else f"exit status {status}"
    raise HookFailed(f"error running {what}: {hook.path}: {reason}, output: {words}", status)


def _pair(word: str) -> tuple[bytes, bytes]:
    name, _, value = word.encode("utf-8", "surrogateescape").partition(b"=")
    return name, value


def _feed(writing: Fd, text: bytes) -> None:
    """Write the document; a hook that does not read it is no error, and one that never reads cannot stop us."""
    posix.set_blocking(writing.fileno(), False)
    try:
        posix.write(writing.fileno(), text)  # a pipe holds 64 KiB
    except OSError as error:
        if error.errno not in (errno.EPIPE, errno.EAGAIN):
            raise


def _wait(pid: int, pidfd: Fd, timeout_s: int | None) -> int | None:
    if timeout_s:
        poller = select.poll()
        poller.register(pidfd.fileno(), select.POLLIN)
        if not poller.poll(timeout_s * 1000):
            pidfd_send_signal(pidfd, 9)
            wait_pid(pid)
            return None
    return wait_pid(pid)


def own_environment() -> tuple[str, ...]:
    """Return our own environment as words."""
    return tuple([(k + b"=" + v).decode("utf-8", "surrogateescape") for k, v in posix.environ.items()])


def stage_ops(stage: str, hooks: Sequence[Hook], document: StateDocument, inherited: tuple[str, ...]) -> tuple[Op, ...]:
    """Return *hooks* as operations of the stage; *inherited* is for those without an environment of their own.

    The pid is not known before the clone: the stage puts it into the gap of the document.
    """
    text = dumps(replace(document, pid=_GAP).value()).encode()
    number = str(_GAP).encode()
    gap = text.index(number)
    text = text.replace(number, b" " * len(number), 1)
    return tuple([_stage_op(f"error running {stage} hook #{at}: ", hook, text, gap, inherited)
                  for at, hook in enumerate(hooks)])  # fmt: skip


_GAP = 1999999999  # ten digits, as many as a pid has at most


def _stage_op(why: str, hook: Hook, text: bytes, gap: int, inherited: tuple[str, ...]) -> Op:
    env = inherited if hook.env is None else hook.env
    return Op(
        "HOOK",
        a=(hook.timeout or 0) * 1000,
        b=gap,
        s=(
            block([_bytes(w) for w in hook.args or (hook.path,)]),
            block([_bytes(w) for w in env]),
            text,
            _bytes(hook.path),
        ),
        why=why + hook.path,
    )


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
