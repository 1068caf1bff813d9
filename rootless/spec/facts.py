"""What was found out about this machine by trying things: the type only, filled by `kernel/probe.py`.

Source: architecture decision 9 (capabilities are probed by using them)
"""

from __future__ import annotations

from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

USERNS, RANGES, IDMAP, FRESH_PROC, HOSTNAME = "user-namespace", "subordinate-ids", "newuidmap", "fresh-proc", "hostname"
OVERLAY, FUSE, TUN, CGROUP, NOTIFY = "overlay", "fuse", "tun", "cgroup", "seccomp-notify"
SECCOMP, MEMFD, CLONE3, OPENAT2, MOUNT_API = "seccomp-filter", "memfd-exec", "clone3", "openat2", "mount-api"
IDMAPPED, STORE, XATTR, REFLINK, RUN_ROOT = "idmapped-mount", "store", "store-xattr", "store-reflink", "run-root"
PING = "ping"

ESSENTIAL: tuple[str, ...] = (USERNS, OPENAT2, STORE, RUN_ROOT)
"""Without one of these no container can run; without the others something else is done."""


@record
class Finding:
    """What came of trying one thing.

    Shape: *syscall* and *errno* are those of the first failure, empty and 0 when it works or when nothing was called
    """

    name: str
    works: bool
    detail: str = ""
    """What was found, for people: a version, a file system, a reason."""
    syscall: str = ""
    errno: int = 0


@record
class Settings:
    """Switches of the machine and of what is around us that explain failures; nothing is decided by them."""

    uid: int = 0
    name: str = ""
    enter: str = ""
    """The path of the program that makes user namespaces: AppArmor grants them by path."""
    container: str = ""
    """The kind of container we run in ("docker", "podman", ...), empty outside."""
    nested: bool = False
    """Whether we are in a user namespace below the machine's own."""
    apparmor_restricts_userns: bool = False
    apparmor_profile: str = ""
    """The profile that confines us, empty for none."""
    seccomp_filtered: bool = False
    max_user_namespaces: int = -1
    """user.max_user_namespaces, -1 where it cannot be read."""
    userns_clone: int = -1
    """kernel.unprivileged_userns_clone (Debian's own switch), -1 where there is none."""
    memfd_noexec: int = 0
    kernel: str = ""
    free_id: int = 100000


@record
class HostFacts:
    """Everything that was tried, in the order of the table that `doctor` prints."""

    key: str
    """Boot, version, ids and devices that the findings hold for."""
    settings: Settings
    findings: tuple[Finding, ...] = ()

    def get(self, name: str) -> Finding:
        """Return the finding *name*; one that was never tried does not work."""
        for finding in self.findings:
            if finding.name == name:
                return finding
        return Finding(name, False, "not tried")

    def works(self, name: str) -> bool:
        """Say whether *name* works."""
        return self.get(name).works

    @property
    def can_run(self) -> bool:
        """Whether a container can run at all: the essential things work, and some storage driver always does."""
        return all(self.works(name) for name in ESSENTIAL)


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """Return a finding as JSON has it."""
    return {"name": finding.name, "works": finding.works, "detail": finding.detail, "syscall": finding.syscall,
            "errno": finding.errno}  # fmt: skip


def finding_from_json(value: Any) -> Finding:
    """Read a finding. Raises: ValueError, TypeError, KeyError for what is none"""
    name, works, errno = value["name"], value["works"], value["errno"]
    if name.__class__ is not str or works.__class__ is not bool or errno.__class__ is not int:
        raise ValueError("not a finding")
    return Finding(name, works, str(value["detail"]), str(value["syscall"]), errno)
