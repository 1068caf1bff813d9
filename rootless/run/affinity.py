"""The CPUs of a process that `exec` adds: some until it is in the container's cgroup, others from then on.

Source: runtime-spec config.md#process (execCPUAffinity, 1.2.1); sched_setaffinity(2); cpuset(7) "List format"
"""

from __future__ import annotations

import posix

from rootless.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import CpuAffinity

_MAX_CPUS = 8192


def cpu_list(text: str, pointer: str) -> tuple[int, ...]:
    """Return the CPUs of "0-3,7", in order. Raises: SpecError"""
    found: list[int] = []
    for part in text.split(","):
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise SpecError(f"{text!r} is not a list of CPUs", pointer=pointer)
        last = int(high) if dash else int(low)
        if last < int(low) or last >= _MAX_CPUS:
            raise SpecError(f"{text!r} is not a list of CPUs", pointer=pointer)
        found += range(int(low), last + 1)
    return tuple(found)


def check_affinity(wanted: CpuAffinity, base: str) -> None:
    """Raises: SpecError"""
    for name in ("initial", "final"):
        text = getattr(wanted, name)
        if text:
            cpu_list(text, f"{base}/execCPUAffinity/{name}")


def set_affinity(pid: int, text: str | None) -> str:
    """Let *pid* (0: us, and what we start) run on these CPUs; return why that is not possible, else nothing."""
    if not text:
        return ""
    try:
        posix.sched_setaffinity(pid, cpu_list(text, ""))
    except OSError as error:
        return f"cannot run on the CPUs {text}: {posix.strerror(error.errno or 0).lower()}"
    return ""
