"""Processes: prctl(2) on ourselves, pidfds, and starting programs by posix_spawn.

Nothing here forks: a child of posix_spawn runs no Python between clone and exec (rule R2).
"""

from __future__ import annotations

import _signal
import fcntl
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def _prctl(name: str, value: int) -> None:
    # Loaded for those who need it: the extension and cffi take longer than any other module of a client.
    from rootless.kernel._sys import lib
    from rootless.kernel.check import check

    check(f"prctl({name})", lib.rl_prctl(getattr(lib, name), value, 0, 0, 0))


def set_name(name: str) -> None:
    """Name this thread, at most 15 bytes (PR_SET_NAME)."""
    from rootless.kernel._sys import ffi

    text = ffi.new("char[]", name.encode()[:15])
    _prctl("PR_SET_NAME", int(ffi.cast("uintptr_t", text)))


def set_pdeathsig(signal: int) -> None:
    """Ask for *signal* when the thread that made us ends (PR_SET_PDEATHSIG(2const)).

    Cleared by credential changes and by exec of privileged files: a convenience, not containment.
    """
    _prctl("PR_SET_PDEATHSIG", signal)


def set_subreaper() -> None:
    """Become the parent of orphaned descendants."""
    _prctl("PR_SET_CHILD_SUBREAPER", 1)


def set_dumpable(on: bool) -> None:
    """Allow or refuse ptrace and /proc/self access by processes of the same user."""
    _prctl("PR_SET_DUMPABLE", int(on))


def set_no_new_privs() -> None:
    """Make exec never add privileges, for this process and all it starts."""
    _prctl("PR_SET_NO_NEW_PRIVS", 1)


def pidfd_open(pid: int) -> Fd:
    """Return a descriptor of process *pid*; readable when it has ended. Raises: ESRCH: no such process"""
    try:
        return Fd(posix.pidfd_open(pid, 0))
    except OSError as error:
        raise KernelError("pidfd_open", error.errno or 0, str(pid)) from None


def pidfd_send_signal(pidfd: Fd, signal: int) -> None:
    """Send *signal*; never reaches another process that got the same pid. Raises: ESRCH: it has ended"""
    try:
        _signal.pidfd_send_signal(pidfd.fileno(), signal)
    except OSError as error:
        raise KernelError("pidfd_send_signal", error.errno or 0) from None


def wait_pid(pid: int) -> int:
    """Wait for our child *pid*; return its exit status, 128+n for a signal. Blocks: yes"""
    while True:
        try:
            _, status = posix.waitpid(pid, 0)
        except InterruptedError:
            continue
        if posix.WIFSIGNALED(status):
            return 128 + posix.WTERMSIG(status)
        return posix.WEXITSTATUS(status)


def spawn(
    argv: Sequence[str | bytes],
    *,
    executable: str | bytes | Fd | None = None,
    fds: Mapping[int, Fd] | None = None,
    env: Mapping[str, str] | Mapping[bytes, bytes] | None = None,
    setsid: bool = False,
    reset_signals: bool = True,
    elsewhere: bool = False,
) -> int:
    """Start a program; it gets stdin, stdout, stderr and *fds* (its number -> our descriptor).

    Shape:   an *executable* that is a descriptor is run by its /proc/self/fd path; every source is first moved above
             the highest target, because posix_spawn runs its dup2 list in order and a later target may be an earlier
             one's source; *elsewhere*: on another processor than ours, for what is to work beside us
    Blocks:  until the exec has happened (posix_spawn shares our memory until then)
    Raises:  KernelError(posix_spawn) - ENOENT, EACCES of the program
    Owner:   ours stay open; the caller waits for the child
    """
    wanted = dict(fds or {})
    floor = max((*wanted, 2)) + 1
    moved: list[int] = []
    actions: list[tuple[int, int, int]] = []
    program: str | bytes
    try:
        for target, source in wanted.items():
            copy = fcntl.fcntl(source.fileno(), fcntl.F_DUPFD_CLOEXEC, floor)
            moved.append(copy)
            actions.append((posix.POSIX_SPAWN_DUP2, copy, target))
        if isinstance(executable, Fd):
            copy = fcntl.fcntl(executable.fileno(), fcntl.F_DUPFD_CLOEXEC, floor)
            moved.append(copy)
            program = f"/proc/self/fd/{copy}"
        else:
            program = executable if executable is not None else argv[0]
        signals = range(1, 65) if reset_signals else ()
        environment = posix.environ if env is None else env
        defaults = [s for s in signals if s not in (9, 19, 32, 33)]
        if setsid:
            pid = posix.posix_spawn(
                program, list(argv), environment, file_actions=actions, setsigmask=(), setsigdef=defaults, setsid=True
            )
        else:
            pid = posix.posix_spawn(
                program, list(argv), environment, file_actions=actions, setsigmask=(), setsigdef=defaults
            )
    except OSError as error:
        raise KernelError("posix_spawn", error.errno or 0, str(argv[0])) from None
    finally:
        for number in moved:
            posix.close(number)
    if elsewhere:
        _move_away(pid)
    return pid


def _move_away(pid: int) -> None:
    """Let *pid* run on another processor than ours.

    A child is queued behind its parent, and where the scheduler balances late (virtual machines without topology never
    do at a fork) both share one processor while another is idle.

    Source: sched_setaffinity(2); proc_pid_stat(5), field 39
    """
    try:
        allowed = posix.sched_getaffinity(0)
        if len(allowed) < 2:
            return
        fd = posix.open("/proc/self/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            ours = int(posix.read(fd, 4096).rpartition(b")")[2].split()[36])
        finally:
            posix.close(fd)
        posix.sched_setaffinity(pid, allowed - {ours})
        posix.sched_setaffinity(pid, allowed)
    except (OSError, ValueError, IndexError):
        return  # it runs where the kernel puts it
