"""config.json of an OCI bundle as frozen records.

Field names are the snake_case of the JSON keys; what is optional there is None or () here.
spec/codec.py reads and writes them, spec/linux.py has the part below `linux`.

Source: runtime-spec config.md (1.2, 1.3)
"""

from __future__ import annotations

from rootless.spec.record import record
from rootless.spec.state import OCI_VERSION as OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import IdMapping, Linux

OCI_VERSION_MIN = "1.0.0"
OCI_VERSION_MAX = "1.3.0"


@record
class ConsoleSize:
    """The size of the terminal in characters."""

    height: int
    width: int


@record
class User:
    """Who the process is, in the container's ids."""

    uid: int = 0
    gid: int = 0
    umask: int | None = None
    additional_gids: tuple[int, ...] = ()
    username: str | None = None


@record
class CapSets:
    """The five capability sets, as names (CAP_...)."""

    bounding: tuple[str, ...] = ()
    effective: tuple[str, ...] = ()
    inheritable: tuple[str, ...] = ()
    permitted: tuple[str, ...] = ()
    ambient: tuple[str, ...] = ()


@record
class Rlimit:
    """One resource limit (RLIMIT_...); 2**64-1 is no limit."""

    type: str
    soft: int
    hard: int


@record
class IoPriority:
    """The I/O class (IOPRIO_CLASS_...) and the priority in it."""

    class_: str
    priority: int = 0


@record
class Scheduler:
    """The scheduling policy (SCHED_...). Units: runtime, deadline, period in ns."""

    policy: str
    nice: int | None = None
    priority: int | None = None
    flags: tuple[str, ...] = ()
    runtime: int | None = None
    deadline: int | None = None
    period: int | None = None


@record
class CpuAffinity:
    """CPU lists of an exec: before and after it joins the cgroup."""

    initial: str | None = None
    final: str | None = None


@record
class Process:
    """The process to run."""

    args: tuple[str, ...] = ()
    cwd: str = "/"
    user: User = User()
    terminal: bool = False
    console_size: ConsoleSize | None = None
    env: tuple[str, ...] = ()
    capabilities: CapSets | None = None
    rlimits: tuple[Rlimit, ...] = ()
    no_new_privileges: bool = False
    apparmor_profile: str | None = None
    oom_score_adj: int | None = None
    selinux_label: str | None = None
    io_priority: IoPriority | None = None
    scheduler: Scheduler | None = None
    exec_cpu_affinity: CpuAffinity | None = None


@record
class Root:
    """The root file system; a relative path is below the bundle."""

    path: str
    readonly: bool = False


@record
class Mount:
    """One mount of the container."""

    destination: str
    source: str | None = None
    type: str | None = None
    options: tuple[str, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()


@record
class Hook:
    """A program to run at a stage of the life; without *env* it inherits one. Units: timeout in seconds."""

    path: str
    args: tuple[str, ...] = ()
    env: tuple[str, ...] | None = None
    timeout: int | None = None


@record
class Hooks:
    """The six stages, in the order of the life of a container."""

    prestart: tuple[Hook, ...] = ()
    create_runtime: tuple[Hook, ...] = ()
    create_container: tuple[Hook, ...] = ()
    start_container: tuple[Hook, ...] = ()
    poststart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()


@record
class Spec:
    """A whole config.json."""

    oci_version: str
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    domainname: str | None = None
    mounts: tuple[Mount, ...] = ()
    hooks: Hooks | None = None
    annotations: tuple[tuple[str, str], ...] = ()
    linux: Linux | None = None
