"""Stop all processes of a container where they stand, and let them go on: by the freezer, else by SIGSTOP.

Without a cgroup of its own a container's processes are stopped one by one: they, and whoever waits for them, can see
it, which a frozen one cannot.

Shape:  RUN/containers/ID/paused exists while it is paused
Source: cgroup-v2.rst "cgroup.freeze"; pid_namespaces(7) "SIGSTOP ... from an ancestor"; podman-pause(1)
"""

from __future__ import annotations

import os

from rootless.engine import life
from rootless.engine.usage import processes_of
from rootless.errors import ContainerStateError, KernelError
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.run.cgroups.find import open_cgroup
from rootless.run.state import CgroupRef
from rootless.store import containers, events

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

_STOP, _CONT = 19, 18
_ROUNDS = 100


def cgroup_of(container: Container) -> CgroupRef:
    """Return where the container's cgroup is; its driver is `none` for a container without."""
    data = container.data.get("cgroup") or {}
    return CgroupRef(str(data.get("driver") or "none"), str(data.get("path") or ""), str(data.get("unit") or ""))


def pause(roots: Roots, container: Container) -> str:
    """Stop the container's processes.

    Blocks:  until they are stopped
    Returns: a warning when there is no cgroup, else nothing
    Raises:  ContainerStateError in podman's words; KernelError
    """
    status = containers.status(roots, container)
    life.check_here(container, status)
    if status == "paused":
        raise ContainerStateError(f'"{container.id}" is already paused: container state improper')
    if status != "running":
        raise ContainerStateError(f'"{status}" is not running, can\'t pause: container state improper')
    warning = _hold(roots, container, _mark(roots, container), True)
    _say(roots, container, "pause")
    return warning


def unpause(roots: Roots, container: Container) -> None:
    """Let the container's processes go on.

    Raises: ContainerStateError in podman's words; KernelError
    """
    status = containers.status(roots, container)
    life.check_here(container, status)
    if status != "paused":
        raise ContainerStateError(f'"{container.id}" is not paused, can\'t unpause: container state improper')
    mark = _mark(roots, container)
    _hold(roots, container, mark, False)
    _say(roots, container, "unpause")


def _mark(roots: Roots, container: Container) -> str:
    return f"{containers.run_dir(roots, container.id)}/{containers.PAUSED}"


def _hold(roots: Roots, container: Container, mark: str, hold: bool) -> str:
    ref = cgroup_of(container)
    if hold:
        with open(mark, "w"):
            pass  # before anything stops: who comes now must not wait for an answer
    try:
        if ref.driver != "none":
            open_cgroup(ref).freeze(hold)
        else:
            _signal_all(roots, container, _STOP if hold else _CONT)
    except BaseException:
        if hold:
            os.unlink(mark)
        raise
    if not hold:
        try:
            os.unlink(mark)
        except FileNotFoundError:
            pass  # it has ended meanwhile
    if hold and ref.driver == "none":
        return f"{container.name} has no cgroup of its own: its processes are stopped by SIGSTOP, which they can notice"
    return ""


def _signal_all(roots: Roots, container: Container, number: int) -> None:
    """Signal every process, until a round finds no new one: what is not stopped yet can fork."""
    pid = containers.noted_process(f"{containers.run_dir(roots, container.id)}/child")
    if not pid:
        raise ContainerStateError(f"container {container.id} has just ended: container state improper")
    done: set[int] = set()
    for _ in range(_ROUNDS):
        fresh = [one for one in processes_of(pid) if one not in done]
        for one in fresh:
            done.add(one)
            try:
                with pidfd_open(one) as process:
                    pidfd_send_signal(process, number)
            except KernelError:
                continue  # it has ended
        if not fresh:
            return


def _say(roots: Roots, container: Container, status: str) -> None:
    events.emit(roots, "container", status, id=container.id, name=container.name,
                image=str(container.data.get("image", "")), attributes=container.data.get("labels"))  # fmt: skip
