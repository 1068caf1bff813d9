"""What a container uses, as runc's events document.

Source: runc's types/events.go (the names of the keys are what consumers parse); cgroup-v2.rst
"""

from __future__ import annotations

from rootless.run.cgroups.find import open_cgroup
from rootless.run.state import ContainerState

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.run.cgroups.driver import Cgroup

_NO_LIMIT = (1 << 64) - 1


def stats(now: ContainerState) -> dict[str, object]:
    """Return one event of type "stats"; figures of controllers that we do not have are 0."""
    cgroup = open_cgroup(now.cgroup)
    return {
        "type": "stats",
        "id": now.id,
        "data": {
            "cpu": _cpu(cgroup),
            "cpuset": {},
            "memory": _memory(cgroup),
            "pids": _pids(cgroup),
            "blkio": _blkio(cgroup),
            "hugetlb": {},
            "intel_rdt": {},
            "network_interfaces": None,
        },
    }


def oom_kills(now: ContainerState) -> int:
    """Return how many processes the OOM killer has taken."""
    return _flat(open_cgroup(now.cgroup), "memory.events").get("oom_kill", 0)


def _flat(cgroup: Cgroup, name: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for line in cgroup.read(name).splitlines():
        key, _, value = line.partition(" ")
        if value.strip().isdigit():
            found[key] = int(value)
    return found


def _number(cgroup: Cgroup, name: str) -> int:
    text = cgroup.read(name).strip()
    if text == "max":
        return _NO_LIMIT
    return int(text) if text.isdigit() else 0


def _cpu(cgroup: Cgroup) -> dict[str, object]:
    use = _flat(cgroup, "cpu.stat")
    return {
        "usage": {
            "total": use.get("usage_usec", 0) * 1000,
            "kernel": use.get("system_usec", 0) * 1000,
            "user": use.get("user_usec", 0) * 1000,
        },
        "throttling": {
            "periods": use.get("nr_periods", 0),
            "throttledPeriods": use.get("nr_throttled", 0),
            "throttledTime": use.get("throttled_usec", 0) * 1000,
        },
    }


def _entry(usage: int, limit: int, peak: int, failures: int) -> dict[str, int]:
    entry = {"limit": limit, "failcnt": failures}
    if usage:
        entry["usage"] = usage
    if peak:
        entry["max"] = peak
    return entry


def _memory(cgroup: Cgroup) -> dict[str, object]:
    usage = _number(cgroup, "memory.current")
    swap = _number(cgroup, "memory.swap.current")
    events = _flat(cgroup, "memory.events")
    raw = _flat(cgroup, "memory.stat")
    return {
        "usage": _entry(usage, _number(cgroup, "memory.max"), _number(cgroup, "memory.peak"), events.get("max", 0)),
        "swap": _entry(usage + swap, _number(cgroup, "memory.swap.max"), 0, 0),
        "kernel": _entry(raw.get("kernel", 0), 0, 0, 0),
        "kernelTCP": _entry(raw.get("sock", 0), 0, 0, 0),
        "cache": raw.get("file", 0),
        "raw": raw,
    }


def _pids(cgroup: Cgroup) -> dict[str, int]:
    limit = _number(cgroup, "pids.max")
    return {"current": _number(cgroup, "pids.current"), "limit": 0 if limit == _NO_LIMIT else limit}


def _blkio(cgroup: Cgroup) -> dict[str, object]:
    entries: list[dict[str, object]] = []
    for line in cgroup.read("io.stat").splitlines():
        device, *words = line.split()
        major, _, minor = device.partition(":")
        for word in words:
            key, _, value = word.partition("=")
            op = {"rbytes": "Read", "wbytes": "Write"}.get(key)
            if op and value.isdigit() and major.isdigit() and minor.isdigit():
                entries.append({"major": int(major), "minor": int(minor), "op": op, "value": int(value)})
    return {"ioServiceBytesRecursive": entries}
