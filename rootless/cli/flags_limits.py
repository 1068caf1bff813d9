"""The flags of resource limits, of `run`, `create` and `update`.

Imported when one of LIMIT_FLAGS (cli/table_run.py) is on the command line.

Source: podman-run(1), podman-update(1); podman 4.3.1's observed messages
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan import values
from rootless.plan.options import Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed

CPU_PERIOD_US = 100_000
_BPS = "<number>[<unit>]. Number must be a positive integer. Unit is optional and can be kb, mb, or gb"
_IOPS = "<number>. Number must be a positive integer"


def limits(parsed: Parsed) -> Limits:
    """Return the limits that the command line asks for.

    Raises: UsageError in podman's words
    """
    memory = _size(parsed.text("memory"))
    swap = _swap(parsed.text("memory-swap"))
    if swap is not None and swap >= 0:
        if memory is None:
            raise UsageError("--memory-swap needs --memory: it is the limit of memory and swap together")
        if swap < memory:
            raise UsageError("minimum memoryswap limit should be larger than memory limit")
    if parsed.given("cpus"):
        for other in ("cpu-period", "cpu-quota"):
            if parsed.given(other):
                raise UsageError(f"--{other} and --cpus cannot be set together")
    period, quota = parsed.number("cpu-period"), parsed.number("cpu-quota")
    cpus = float(parsed.text("cpus", "0"))
    if cpus != 0:
        period, quota = CPU_PERIOD_US, int(cpus * CPU_PERIOD_US) if cpus > 0 else -1
    swappiness = parsed.number("memory-swappiness")
    return Limits(
        memory=memory,
        memory_swap=swap,
        memory_reservation=_size(parsed.text("memory-reservation")),
        memory_swappiness=swappiness if swappiness is not None and swappiness >= 0 else None,
        oom_kill_disable=parsed.flag("oom-kill-disable"),
        cpu_shares=parsed.number("cpu-shares") or None,
        cpu_period=period or None,
        cpu_quota=quota or None,
        cpu_rt_period=parsed.number("cpu-rt-period") or None,
        cpu_rt_runtime=parsed.number("cpu-rt-runtime") or None,
        cpuset_cpus=_cpuset(parsed.text("cpuset-cpus")),
        cpuset_mems=_cpuset(parsed.text("cpuset-mems")),
        pids=parsed.number("pids-limit"),
        blkio_weight=_weight(parsed.text("blkio-weight")),
        blkio_weight_device=tuple([_device_weight(text) for text in parsed.many("blkio-weight-device")]),
        read_bps=tuple([_rate(text, True) for text in parsed.many("device-read-bps")]),
        read_iops=tuple([_rate(text, False) for text in parsed.many("device-read-iops")]),
        write_bps=tuple([_rate(text, True) for text in parsed.many("device-write-bps")]),
        write_iops=tuple([_rate(text, False) for text in parsed.many("device-write-iops")]),
        unified=tuple([_unified(text) for text in parsed.many("cgroup-conf")]),
    )


def _size(text: str) -> int | None:
    if not text:
        return None
    if text == "-1":
        return -1
    try:
        return values.size(text) or None
    except UsageError as error:
        raise UsageError(f"invalid value for memory: {error.message}") from None


def _swap(text: str) -> int | None:
    return -1 if text == "-1" else _size(text)


def _cpuset(text: str) -> str:
    for part in text.split(",") if text else ():
        low, dash, high = part.partition("-")
        if not low.isdigit() or (dash and not (high.isdigit() and int(high) >= int(low))):
            raise UsageError(f"invalid list of numbers and ranges: {text}", hint="such as 0-3 or 0,2")
    return text


def _weight(text: str) -> int | None:
    if not text:
        return None
    if not text.isdigit() or not text.isascii():
        raise UsageError(f'invalid value for blkio-weight: strconv.ParseUint: parsing "{text}": invalid syntax')
    weight = int(text)
    if weight and not 10 <= weight <= 1000:
        raise UsageError("range of blkio weight is from 10 to 1000")
    return weight or None


def _device(text: str) -> tuple[str, str]:
    path, colon, value = text.partition(":")
    if not colon or ":" in value:
        raise UsageError(f"bad format: {text}")
    if not path.startswith("/dev/"):
        raise UsageError(f"bad format for device path: {text}")
    return path, value


def _device_weight(text: str) -> tuple[str, int]:
    path, value = _device(text)
    if not value.isdigit() or not value.isascii() or not (int(value) == 0 or 10 <= int(value) <= 1000):
        raise UsageError(f"invalid weight for device: {text}")
    return path, int(value)


def _rate(text: str, in_bytes: bool) -> tuple[str, int]:
    path, value = _device(text)
    try:
        if in_bytes:
            return path, values.size(value)
        if value.isdigit() and value.isascii():
            return path, int(value)
    except UsageError:
        pass
    raise UsageError(
        f"invalid rate for device: {text}. The correct format is <device-path>:{_BPS if in_bytes else _IOPS}"
    )


def _unified(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageError("--cgroup-conf must be formatted KEY=VALUE")
    return key, value
