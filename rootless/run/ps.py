"""List the processes of a container as host pids.

Without a cgroup they are found by their pid namespace, or as descendants of the first process.

Source: proc(5), pid_namespaces(7); runc's ps
"""

from __future__ import annotations

import posix

from rootless.run import state
from rootless.run.cgroups.find import open_cgroup
from rootless.run.state import ContainerState


def pids(now: ContainerState) -> list[int]:
    """Return the pids of all processes of the container, ascending."""
    found = open_cgroup(now.cgroup).pids()
    if found:
        return found
    pidfd = state.open_process(now)
    if pidfd is None:
        return []
    with pidfd:
        return _by_namespace(now.pid)


def _namespace(pid: int | str) -> str:
    try:
        return posix.readlink(f"/proc/{pid}/ns/pid")
    except OSError:
        return ""


def _by_namespace(first: int) -> list[int]:
    every = [int(name) for name in posix.listdir("/proc") if name.isdigit()]
    own = _namespace(first)
    if own and own != _namespace("self"):
        return sorted([pid for pid in every if _namespace(pid) == own])
    parents: dict[int, int] = {}
    for pid in every:
        try:
            fd = posix.open(f"/proc/{pid}/stat", posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError:
            continue
        try:
            parents[pid] = int(posix.read(fd, 4096).rpartition(b") ")[2].split()[1])
        except (OSError, ValueError, IndexError):
            continue
        finally:
            posix.close(fd)
    family = {first}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        grown = bool(more)
        family |= more
    return sorted(family)
