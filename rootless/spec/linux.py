"""The `linux` part of config.json as frozen records.

Field names are the snake_case of the JSON keys; what is optional there is None or () here.
A JSON object whose keys are free (sysctl, unified, ...) is a tuple of pairs in file order.

Source: runtime-spec config-linux.md (1.2, 1.3)
"""

from __future__ import annotations

from rootless.spec.record import record


@record
class Namespace:
    """A namespace to make (no path) or to join."""

    type: str
    path: str | None = None


@record
class IdMapping:
    """*size* ids from *container_id* inside are *host_id* and up outside."""

    container_id: int
    host_id: int
    size: int


@record
class Device:
    """A device node that must exist in the container."""

    type: str
    path: str
    major: int | None = None
    minor: int | None = None
    file_mode: int | None = None
    uid: int | None = None
    gid: int | None = None


@record
class DeviceRule:
    """One rule of the device cgroup; None is the wildcard."""

    allow: bool
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


@record
class Memory:
    """Memory limits. Units: bytes; -1 is no limit."""

    limit: int | None = None
    reservation: int | None = None
    swap: int | None = None
    kernel: int | None = None
    kernel_tcp: int | None = None
    swappiness: int | None = None
    disable_oom_killer: bool | None = None
    use_hierarchy: bool | None = None
    check_before_update: bool | None = None


@record
class Cpu:
    """CPU limits. Units: quota, burst, period and real-time values in microseconds; shares 2..262144."""

    shares: int | None = None
    quota: int | None = None
    burst: int | None = None
    period: int | None = None
    realtime_runtime: int | None = None
    realtime_period: int | None = None
    cpus: str | None = None
    mems: str | None = None
    idle: int | None = None


@record
class Pids:
    """The number of tasks; 0 or -1 is no limit."""

    limit: int | None = None


@record
class WeightDevice:
    """The block I/O weight of one device."""

    major: int
    minor: int
    weight: int | None = None
    leaf_weight: int | None = None


@record
class ThrottleDevice:
    """Bytes or operations per second of one device."""

    major: int
    minor: int
    rate: int


@record
class BlockIo:
    """Block I/O weights (10..1000) and limits."""

    weight: int | None = None
    leaf_weight: int | None = None
    weight_device: tuple[WeightDevice, ...] = ()
    throttle_read_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_bps_device: tuple[ThrottleDevice, ...] = ()
    throttle_read_iops_device: tuple[ThrottleDevice, ...] = ()
    throttle_write_iops_device: tuple[ThrottleDevice, ...] = ()


@record
class HugepageLimit:
    """Bytes of huge pages of one size ("2MB", "1GB")."""

    page_size: str
    limit: int


@record
class InterfacePriority:
    """The net_prio of one interface (cgroup v1)."""

    name: str
    priority: int


@record
class NetworkClass:
    """net_cls and net_prio (cgroup v1)."""

    class_id: int | None = None
    priorities: tuple[InterfacePriority, ...] = ()


@record
class Rdma:
    """Handles and objects of one RDMA device."""

    hca_handles: int | None = None
    hca_objects: int | None = None


@record
class Resources:
    """What the container may use, for the cgroup."""

    devices: tuple[DeviceRule, ...] = ()
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    block_io: BlockIo | None = None
    hugepage_limits: tuple[HugepageLimit, ...] = ()
    network: NetworkClass | None = None
    rdma: tuple[tuple[str, Rdma], ...] = ()
    unified: tuple[tuple[str, str], ...] = ()


@record
class SeccompArg:
    """A condition on one argument of a system call."""

    index: int
    value: int
    op: str
    value_two: int | None = None


@record
class SeccompRule:
    """One action for a list of system calls."""

    names: tuple[str, ...]
    action: str
    errno_ret: int | None = None
    args: tuple[SeccompArg, ...] = ()


@record
class Seccomp:
    """The system-call filter. *flags* None is not the same as none: the runtime then chooses."""

    default_action: str
    default_errno_ret: int | None = None
    architectures: tuple[str, ...] = ()
    flags: tuple[str, ...] | None = None
    listener_path: str | None = None
    listener_metadata: str | None = None
    syscalls: tuple[SeccompRule, ...] = ()


@record
class Personality:
    """The execution domain: LINUX or LINUX32."""

    domain: str
    flags: tuple[str, ...] = ()


@record
class IntelRdt:
    """Resource director technology: known, so that it can be refused by name."""

    clos_id: str | None = None
    schemata: tuple[str, ...] = ()
    l3_cache_schema: str | None = None
    mem_bw_schema: str | None = None
    enable_monitoring: bool | None = None


@record
class TimeOffset:
    """The offset of one clock ("monotonic", "boottime") in a new time namespace."""

    secs: int | None = None
    nanosecs: int | None = None


@record
class NetDevice:
    """A host interface that moves into the container, renamed to *name* if given."""

    name: str | None = None


@record
class MemoryPolicy:
    """The NUMA policy of the process (1.3). *mode* is required; who applies the policy says so in its words."""

    mode: str | None = None
    nodes: str | None = None
    flags: tuple[str, ...] = ()


@record
class Linux:
    """Everything of config.json that only Linux has."""

    namespaces: tuple[Namespace, ...] = ()
    uid_mappings: tuple[IdMapping, ...] = ()
    gid_mappings: tuple[IdMapping, ...] = ()
    devices: tuple[Device, ...] = ()
    cgroups_path: str | None = None
    resources: Resources | None = None
    seccomp: Seccomp | None = None
    rootfs_propagation: str | None = None
    masked_paths: tuple[str, ...] = ()
    readonly_paths: tuple[str, ...] = ()
    mount_label: str | None = None
    personality: Personality | None = None
    intel_rdt: IntelRdt | None = None
    memory_policy: MemoryPolicy | None = None
    sysctl: tuple[tuple[str, str], ...] = ()
    time_offsets: tuple[tuple[str, TimeOffset], ...] = ()
    net_devices: tuple[tuple[str, NetDevice], ...] = ()
