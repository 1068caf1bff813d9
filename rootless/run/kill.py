"""Signal a container: its first process, or all it has.

Source: runtime-spec runtime.md#kill
"""

from __future__ import annotations

import errno
import select

from rootless.errors import ContainerStateError, KernelError, UsageError
from rootless.kernel.process import pidfd_send_signal
from rootless.run import state
from rootless.run.cgroups.find import open_cgroup
from rootless.run.state import ContainerState
from rootless.spec import state as life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd


def parse_signal(text: str) -> int:
    """Return the number of a signal given by number or name. Raises: UsageError"""
    if text == "0":
        return 0  # asks whether something runs
    from rootless.spec import signals

    number = signals.number(text)
    if number is None:
        raise UsageError(f"unknown signal {text!r}", code=1)
    return number


def kill(root: str, now: ContainerState, signal: int, *, everything: bool = False, shared_pids: bool = False) -> None:
    """Send *signal*; *shared_pids* says that the container has no pid namespace of its own.

    With one, the end of the first process is the end of all; without, SIGKILL goes to all of the cgroup.

    Raises: ContainerStateError when nothing runs
    """
    wide = everything or (shared_pids and signal == 9)
    if wide and open_cgroup(now.cgroup).pids():
        open_cgroup(now.cgroup).kill(signal)
        return
    if everything and state.observe(root, now) == life.STOPPED:
        return  # all of nothing
    life.advance(_running(root, now), life.VERB_KILL)
    pidfd = state.open_process(now)
    if pidfd is None:
        raise _not_running()
    with pidfd:
        _send(pidfd, signal)


def _running(root: str, now: ContainerState) -> str:
    status = state.observe(root, now)
    if status == life.STOPPED:
        raise _not_running()
    return status


def _not_running() -> ContainerStateError:
    return ContainerStateError("container not running", code=1)


def _send(pidfd: Fd, signal: int) -> None:
    try:
        pidfd_send_signal(pidfd, signal)
    except KernelError as error:
        if error.errno == errno.ESRCH:
            raise _not_running() from None
        raise


def kill_all(now: ContainerState, signal: int, *, wait_ms: int = 10000) -> bool:
    """Kill the first process and the whole cgroup; say whether the process has ended within *wait_ms*.

    Blocks: for the end
    """
    cgroup = open_cgroup(now.cgroup)
    pidfd = state.open_process(now)
    if pidfd is None:
        cgroup.kill(signal)
        return True
    with pidfd:
        if not cgroup.kill(signal) or now.pid not in cgroup.pids():
            try:
                pidfd_send_signal(pidfd, signal)
            except KernelError as error:
                if error.errno != errno.ESRCH:
                    raise
        if cgroup.frozen():
            cgroup.freeze(False)  # a frozen process dies when it thaws, except under cgroup.kill
        poller = select.poll()
        poller.register(pidfd.fileno(), select.POLLIN)
        return bool(poller.poll(wait_ms))
