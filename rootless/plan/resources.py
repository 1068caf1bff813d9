"""Linux.resources -> writes to cgroup v2 files, and the same as properties of a systemd unit.

config.json still speaks the language of cgroup v1; what v2 calls otherwise is converted here, and
what v2 does not have is returned by name, so that a person hears of it once.

Source: runtime-spec config-linux.md#control-groups, config-linux.md#unified;
        kernel Documentation/admin-guide/cgroup-v2.rst; systemd.resource-control(5), org.freedesktop.systemd1(5)
"""

from __future__ import annotations

import math

from rootless.errors import SpecError
from rootless.spec.linux import BlockIo, Cpu, Memory, Resources
from rootless.spec.record import record

_NO_LIMIT = (1 << 64) - 1


@record
class CgroupWrite:
    """One value for one file of the container's cgroup; *what* is the limit in people's words."""

    file: str
    value: str
    what: str

    @property
    def controller(self) -> str:
        """Return the controller whose file it is ("memory", "cpu", ...)."""
        return self.file.partition(".")[0]


@record
class Property:
    """One property of a systemd unit with its D-Bus signature."""

    name: str
    signature: str
    value: object


@record
class ResourcePlan:
    """What to write, and the limits that cgroup v2 does not have."""

    writes: tuple[CgroupWrite, ...] = ()
    unsupported: tuple[str, ...] = ()


def plan_resources(resources: Resources | None) -> ResourcePlan:
    """Return the writes that *resources* ask for.

    Raises: SpecError - a swap limit below the memory limit, a unified key that is a path
    """
    if resources is None:
        return ResourcePlan()
    writes: list[CgroupWrite] = []
    missing: list[str] = []
    if resources.memory is not None:
        _memory(resources.memory, writes, missing)
    if resources.cpu is not None:
        _cpu(resources.cpu, writes, missing)
    if resources.pids is not None and resources.pids.limit is not None:
        limit = resources.pids.limit
        writes.append(CgroupWrite("pids.max", str(limit) if limit > 0 else "max", "pids limit"))
    if resources.block_io is not None:
        _block_io(resources.block_io, writes, missing)
    for huge in resources.hugepage_limits:
        value = "max" if huge.limit >= _NO_LIMIT else str(huge.limit)
        writes.append(CgroupWrite(f"hugetlb.{huge.page_size}.max", value, f"huge pages of {huge.page_size}"))
    for device, rdma in resources.rdma:
        words = [device]
        if rdma.hca_handles is not None:
            words.append(f"hca_handle={rdma.hca_handles}")
        if rdma.hca_objects is not None:
            words.append(f"hca_object={rdma.hca_objects}")
        writes.append(CgroupWrite("rdma.max", " ".join(words), f"rdma of {device}"))
    if resources.network is not None and (resources.network.class_id or resources.network.priorities):
        missing.append("network class and priorities")
    for key, value in resources.unified:
        if not key or "/" in key or "." not in key.strip("."):
            raise SpecError(f"{key!r} is not the name of a cgroup file", pointer="/linux/resources/unified")
        # One file may take several lines (io.max), and takes them one by one.
        writes += [CgroupWrite(key, line, key) for line in value.split("\n") if line]
    return ResourcePlan(tuple(writes), tuple(missing))


def _limit(value: int) -> str:
    return "max" if value < 0 else str(value)


def _memory(memory: Memory, writes: list[CgroupWrite], missing: list[str]) -> None:
    swap = swap_max(memory)
    # swap first, so that a shrinking memory.max can push pages out.
    if swap is not None:
        writes.append(CgroupWrite("memory.swap.max", _limit(swap), "swap limit"))
    if memory.limit:
        writes.append(CgroupWrite("memory.max", _limit(memory.limit), "memory limit"))
    if memory.reservation:
        writes.append(CgroupWrite("memory.low", _limit(memory.reservation), "memory reservation"))
    if memory.kernel is not None and memory.kernel > 0:
        missing.append("kernel memory limit")
    if memory.kernel_tcp is not None and memory.kernel_tcp > 0:
        missing.append("kernel TCP memory limit")
    if memory.swappiness is not None:
        missing.append("memory swappiness")
    if memory.disable_oom_killer:
        missing.append("disabling the OOM killer")


def swap_max(memory: Memory) -> int | None:
    """Return memory.swap.max: v1 counts memory and swap together, v2 swap alone; -1 is no limit.

    Raises: SpecError
    """
    limit, swap = memory.limit or 0, memory.swap or 0
    if limit < 0 and swap == 0:
        return -1
    if swap == 0:
        return None
    if swap < 0:
        return -1
    if limit == 0:
        raise SpecError("a swap limit needs a memory limit", pointer="/linux/resources/memory/swap")
    if limit < 0 or swap < limit:
        raise SpecError("memory+swap limit is below the memory limit", pointer="/linux/resources/memory/swap")
    return swap - limit


def cpu_weight(shares: int) -> int:
    """Convert cpu.shares (2..262144, 1024 is usual) to cpu.weight (1..10000, 100 is usual).

    A quadratic in log2(shares) through (2, 1), (1024, 100) and (262144, 10000): a straight line
    would turn the usual share into a weight of 39.
    """
    if shares <= 0:
        return 0
    if shares <= 2:
        return 1
    if shares >= 262144:
        return 10000
    power = math.log2(shares)
    return math.ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def _cpu(cpu: Cpu, writes: list[CgroupWrite], missing: list[str]) -> None:
    if cpu.idle is not None:
        writes.append(CgroupWrite("cpu.idle", str(cpu.idle), "cpu idle"))
    if cpu.shares and not cpu.idle:
        # An idle group has no weight of its own (EINVAL).
        writes.append(CgroupWrite("cpu.weight", str(cpu_weight(cpu.shares)), "cpu shares"))
    if cpu.period is not None and cpu.period and not 1000 <= cpu.period <= 1000000:
        raise SpecError(
            f"invalid argument: {cpu.period} is not between 1000 and 1000000", pointer="/linux/resources/cpu/period"
        )
    if cpu.quota or cpu.period:
        quota = str(cpu.quota) if cpu.quota is not None and cpu.quota > 0 else "max"
        writes.append(CgroupWrite("cpu.max", f"{quota} {cpu.period or 100000}", "cpu quota"))
    if cpu.burst is not None:
        writes.append(CgroupWrite("cpu.max.burst", str(cpu.burst), "cpu burst"))
    if cpu.cpus:
        writes.append(CgroupWrite("cpuset.cpus", cpu.cpus, "cpuset cpus"))
    if cpu.mems:
        writes.append(CgroupWrite("cpuset.mems", cpu.mems, "cpuset mems"))
    if cpu.realtime_period or cpu.realtime_runtime:
        missing.append("realtime cpu limits")


def _io_weight(weight: int) -> int:
    """Convert a blkio weight (10..1000) to io.weight (1..10000)."""
    return 1 + (weight - 10) * 9999 // 990 if weight else 0


def _block_io(io: BlockIo, writes: list[CgroupWrite], missing: list[str]) -> None:
    if io.weight:
        writes.append(CgroupWrite("io.weight", f"default {_io_weight(io.weight)}", "block I/O weight"))
    for device in io.weight_device:
        if device.weight:
            line = f"{device.major}:{device.minor} {_io_weight(device.weight)}"
            writes.append(CgroupWrite("io.weight", line, "block I/O weight of a device"))
    if io.leaf_weight or any(d.leaf_weight for d in io.weight_device):
        missing.append("block I/O leaf weight")
    for devices, key in (
        (io.throttle_read_bps_device, "rbps"),
        (io.throttle_write_bps_device, "wbps"),
        (io.throttle_read_iops_device, "riops"),
        (io.throttle_write_iops_device, "wiops"),
    ):
        for throttle in devices:
            value = throttle.rate if throttle.rate else "max"
            line = f"{throttle.major}:{throttle.minor} {key}={value}"
            writes.append(CgroupWrite("io.max", line, "block I/O throttle"))


def unit_properties(resources: Resources | None) -> tuple[Property, ...]:
    """Return the limits that systemd has to know, or it would reset them at its next reload.

    Shape: properties with D-Bus types; what systemd has no name for is left to the files
    Raises: SpecError
    """
    if resources is None:
        return ()
    made: list[Property] = []
    memory, cpu = resources.memory, resources.cpu
    if memory is not None:
        if memory.limit:
            made.append(Property("MemoryMax", "t", memory.limit if memory.limit > 0 else _NO_LIMIT))
        if memory.reservation:
            made.append(Property("MemoryLow", "t", memory.reservation if memory.reservation > 0 else _NO_LIMIT))
        swap = swap_max(memory)
        if swap is not None:
            made.append(Property("MemorySwapMax", "t", swap if swap >= 0 else _NO_LIMIT))
    if cpu is not None:
        if cpu.shares and not cpu.idle:
            made.append(Property("CPUWeight", "t", cpu_weight(cpu.shares)))
        if cpu.quota or cpu.period:
            period = cpu.period or 100000
            per_second = _NO_LIMIT
            if cpu.quota is not None and cpu.quota > 0:
                # systemd keeps 10 ms steps of CPU time in a second.
                per_second = -(-cpu.quota * 1000000 // period // 10000) * 10000
            made.append(Property("CPUQuotaPeriodUSec", "t", period))
            made.append(Property("CPUQuotaPerSecUSec", "t", per_second))
        if cpu.cpus:
            made.append(Property("AllowedCPUs", "ay", cpu_bytes(cpu.cpus)))
        if cpu.mems:
            made.append(Property("AllowedMemoryNodes", "ay", cpu_bytes(cpu.mems)))
    if resources.pids is not None and resources.pids.limit is not None:
        limit = resources.pids.limit
        made.append(Property("TasksMax", "t", limit if limit > 0 else _NO_LIMIT))
    return tuple(made)


def cpu_bytes(text: str) -> bytes:
    """Return a list such as "0-3,8" as the little-endian bit mask that systemd wants.

    Raises: SpecError
    """
    bits = 0
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise SpecError(f"{text!r} is not a list of numbers and ranges", pointer="/linux/resources/cpu")
        first, last = int(low), int(high) if dash else int(low)
        if last < first or last > 65535:
            raise SpecError(f"{text!r} is not a list of numbers and ranges", pointer="/linux/resources/cpu")
        bits |= ((1 << last - first + 1) - 1) << first
    return bits.to_bytes((bits.bit_length() + 7) // 8, "little")
