"""Find a container's cgroup again, importing no more than its driver: `state` and `delete` are called often."""

from __future__ import annotations

import posix

from rootless.run.cgroups.none import NoCgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.run.cgroups.driver import Cgroup
    from rootless.run.state import CgroupRef

ROOT = "/sys/fs/cgroup"


def mount_point() -> str:
    """Return where a pure cgroup v2 hierarchy is mounted, empty for v1, hybrid and none."""
    return ROOT if posix.access(f"{ROOT}/cgroup.controllers", posix.R_OK, effective_ids=True) else ""


def open_cgroup(ref: CgroupRef) -> Cgroup:
    """Return the cgroup that a state file names; it may be gone already."""
    if ref.driver == "systemd":
        from rootless.run.cgroups.systemd import SystemdCgroup

        return SystemdCgroup(ref)
    if ref.driver == "v2":
        from rootless.run.cgroups.v2 import V2Cgroup

        return V2Cgroup(ref)
    return NoCgroup()
