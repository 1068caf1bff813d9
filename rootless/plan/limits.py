"""Limits of the command line -> Linux.resources.

Source: podman-run(1), podman-update(1); runtime-spec config-linux.md#control-groups
"""

from __future__ import annotations

from rootless.plan.options import Limits
from rootless.spec.linux import BlockIo, Cpu, Memory, Pids, Resources, ThrottleDevice, WeightDevice

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Numbers = Callable[[str, str], tuple[int, int]]


def resources_of(limits: Limits, numbers: Numbers) -> Resources | None:
    """Return what the cgroup is to be told; None when nothing was asked for.

    What cgroup v2 does not have (swappiness, real-time, switching the OOM killer off) was answered with a warning
    when the flags were read.

    Shape:  *numbers* returns (major, minor) of (device path, flag) and raises for one that is none
    """
    if limits == Limits():
        return None
    return Resources(
        memory=_memory(limits),
        cpu=_cpu(limits),
        pids=Pids(limits.pids) if limits.pids is not None else None,
        block_io=_block_io(limits, numbers),
        unified=limits.unified,
    )


def _memory(limits: Limits) -> Memory | None:
    limit, swap, soft = limits.memory, limits.memory_swap, limits.memory_reservation
    if limit is None and swap is None and soft is None:
        return None
    if swap is None and limit is not None and limit > 0:
        swap = 2 * limit  # podman's and docker's default: as much swap as memory
    return Memory(limit=limit, reservation=soft, swap=swap)


def _cpu(limits: Limits) -> Cpu | None:
    cpu = Cpu(
        shares=limits.cpu_shares,
        quota=limits.cpu_quota,
        period=limits.cpu_period,
        cpus=limits.cpuset_cpus or None,
        mems=limits.cpuset_mems or None,
    )
    return None if cpu == Cpu() else cpu


def _block_io(limits: Limits, numbers: Numbers) -> BlockIo | None:
    def throttled(devices: tuple[tuple[str, int], ...], flag: str) -> tuple[ThrottleDevice, ...]:
        return tuple([ThrottleDevice(*numbers(path, flag), rate) for path, rate in devices])

    io = BlockIo(
        weight=limits.blkio_weight,
        weight_device=tuple([
            WeightDevice(*numbers(path, "blkio-weight-device"), weight) for path, weight in limits.blkio_weight_device
        ]),
        throttle_read_bps_device=throttled(limits.read_bps, "device-read-bps"),
        throttle_write_bps_device=throttled(limits.write_bps, "device-write-bps"),
        throttle_read_iops_device=throttled(limits.read_iops, "device-read-iops"),
        throttle_write_iops_device=throttled(limits.write_iops, "device-write-iops"),
    )  # fmt: skip
    return None if io == BlockIo() else io
