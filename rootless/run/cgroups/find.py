"""Find a container's cgroup again, importing no more than its driver: `state` and `delete` are called often."""

from __future__ import annotations

import posix

from rootless.kernel.fds import read_file
from rootless.run.cgroups.none import NoCgroup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.run.cgroups.driver import Cgroup
    from rootless.run.state import CgroupRef

ROOT = "/sys/fs/cgroup"


def mount_point() -> str:
    """Return where a pure cgroup v2 hierarchy is mounted, empty for v1, hybrid and none."""
    return ROOT if access(f"{ROOT}/cgroup.controllers", posix.R_OK) else ""


def own_path() -> str:
    """Return our own cgroup below the mount point ("/" for its root); empty if it is not visible there."""
    for line in read_file("/proc/self/cgroup").decode("utf-8", "surrogateescape").splitlines():
        if line.startswith("0::"):
            path = line[3:]
            return "" if path.startswith("/..") else path
    return ""


def access(path: str, mode: int) -> bool:
    """Say whether *path* is there and may be used so (R_OK, W_OK, F_OK)."""
    # As effective ids: in a user namespace they are what the kernel asks for.
    return posix.access(path, mode, effective_ids=True)


def may_join(full: str) -> bool:
    """Say whether a process may move from our cgroup to the one at *full*: it needs cgroup.procs of their ancestor."""
    a, b = own_path().strip("/").split("/"), full[len(ROOT) :].strip("/").split("/")
    common: list[str] = []
    for x, y in zip(a, b):
        if x != y:
            break
        common.append(x)
    ancestor = "/".join([ROOT, *[part for part in common if part]])
    return access(f"{ancestor}/cgroup.procs", posix.W_OK) and access(f"{full}/cgroup.procs", posix.W_OK)


def open_cgroup(ref: CgroupRef) -> Cgroup:
    """Return the cgroup that a state file names; it may be gone already."""
    if ref.driver == "systemd":
        from rootless.run.cgroups.systemd import SystemdCgroup

        return SystemdCgroup(ref)
    if ref.driver == "v2":
        from rootless.run.cgroups.v2 import V2Cgroup

        return V2Cgroup(ref)
    return NoCgroup()
