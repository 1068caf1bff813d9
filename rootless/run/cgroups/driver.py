"""Choose how the container's cgroup is made, and find it again later.

    systemd   asked for (--systemd-cgroup, --cgroup-manager systemd) and the user bus answers
    v2        /sys/fs/cgroup is cgroup v2 and the directory may be made and joined
    none      everything else: v1, hybrid, read-only, absent, or not ours to write

That mkdir(2) succeeds proves nothing: under a batch system the directory is the user's and
cgroup.procs is root's. So a directory that we could not move a process into is not used.

Source: kernel Documentation/admin-guide/cgroup-v2.rst "Delegation"
"""

from __future__ import annotations

from rootless.errors import NotSupported
from rootless.run.cgroups.find import mount_point
from rootless.run.cgroups.none import NoCgroup
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rootless.kernel.fds import Fd
    from rootless.plan.resources import CgroupWrite, ResourcePlan
    from rootless.run.state import CgroupRef
    from rootless.spec.linux import Resources

    class Cgroup(Protocol):
        """What every driver's cgroup can do."""

        ref: CgroupRef
        fd: Fd | None

        def apply(self, writes: tuple[CgroupWrite, ...]) -> tuple[str, ...]: ...
        def adopt(self, pid: int) -> None: ...
        def pids(self) -> list[int]: ...
        def kill(self, signal: int) -> bool: ...
        def freeze(self, frozen: bool) -> None: ...
        def frozen(self) -> bool: ...
        def read(self, name: str) -> str: ...
        def remove(self) -> None: ...
        def close(self) -> None: ...


MANAGERS = ("cgroupfs", "systemd", "disabled", "none")


@record
class CgroupRequest:
    """What the configuration and the command line ask for."""

    container: str
    path: str | None = None
    manager: str = "cgroupfs"
    resources: Resources | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    joins: bool = False


def make_cgroup(request: CgroupRequest) -> tuple[Cgroup, tuple[str, ...]]:
    """Make the cgroup and write its limits; return it with warnings about what was not applied.

    Raises:  SpecError for contradicting limits; KernelError(mkdir) - EACCES for a path that was asked for by name;
             KernelError(write) - EINVAL, ERANGE: the kernel refuses the value
    Owner:   the caller calls `remove` when the container is gone and `close` before that
    """
    available = bool(mount_point()) and request.manager not in ("disabled", "none")
    if not available and request.resources is None:
        return NoCgroup(), ()
    from rootless.plan.resources import plan_resources

    plan = plan_resources(request.resources)
    if request.manager in ("disabled", "none"):
        return NoCgroup(), _unapplied(plan, "cgroups are switched off")
    if not available:
        return NoCgroup(), _unapplied(plan, "this machine has no cgroup v2 at /sys/fs/cgroup")
    try:
        if request.manager == "systemd":
            from rootless.run.cgroups.systemd import make_scope

            cgroup: Cgroup = make_scope(request)
        else:
            from rootless.run.cgroups.v2 import make_v2

            cgroup = make_v2(request.container, request.path)
    except NotSupported as error:
        return NoCgroup(), _unapplied(plan, error.message)
    try:
        failed = cgroup.apply(plan.writes)
    except BaseException:
        cgroup.remove()
        cgroup.close()
        raise
    warnings = [f"{', '.join(plan.unsupported)}: cgroup v2 does not have this"] if plan.unsupported else []
    if failed:
        warnings.append(f"not applied: {', '.join(failed)} (the controllers are not delegated to us)")
    return cgroup, tuple(warnings)


def _unapplied(plan: ResourcePlan, reason: str) -> tuple[str, ...]:
    names = list(dict.fromkeys([w.what for w in plan.writes])) + list(plan.unsupported)
    return (f"running without {', '.join(names)}: {reason}",) if names else ()
