"""What a test may leave behind: nothing. Looks at mounts, processes and file descriptors before and after."""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.capabilities import subordinate

# Processes that were told to end may need a moment: they are waited for, for so long.
GRACE_S = 5.0


@dataclass(frozen=True)
class Look:
    """Shape: mount points with their types; pid -> command line; fd -> what it is."""

    mounts: frozenset[str]
    processes: dict[tuple[int, str], str]
    fds: dict[int, str]


def is_real_root() -> bool:
    """Tell whether this is uid 0 of the initial user namespace (or of one with all ids)."""
    if os.geteuid() != 0:
        return False
    words = Path("/proc/self/uid_map").read_text().split()
    return words == ["0", "0", "4294967295"]


def look() -> Look:
    """Return what there is now."""
    return Look(_mounts(), _processes(), _fds())


def left_since(before: Look, allowed: set[str]) -> list[str]:
    """Return a line for each thing that is there now and was not *before*, after a moment of grace for processes."""
    end = time.monotonic() + GRACE_S
    while True:
        found = list(_compare(before, look(), allowed))
        if not found or time.monotonic() > end:
            return found
        gc.collect()  # an object in a cycle may still hold a descriptor
        time.sleep(0.02)


def _compare(before: Look, now: Look, allowed: set[str]) -> Iterator[str]:
    if "mounts" not in allowed:
        for point in sorted(now.mounts - before.mounts):
            yield f"mount {point}"
    if "processes" not in allowed:
        for key in sorted(now.processes.keys() - before.processes.keys()):
            yield f"process {key[0]}: {now.processes[key]}"
    if "fds" not in allowed:
        for fd, what in now.fds.items():
            if before.fds.get(fd) != what:
                yield f"fd {fd}: {what}"


def _mounts() -> frozenset[str]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return frozenset(" ".join((line.split()[4], line.partition(" - ")[2])) for line in lines)


def _fds() -> dict[int, str]:
    found = {}
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # the descriptor of the listing itself
            what = os.readlink(f"/proc/self/fd/{name}")
            if not what.startswith("/proc/"):
                found[int(name)] = what
    return found


def _processes() -> dict[tuple[int, str], str]:
    """Return our processes as (pid, start time) -> command line.

    Under scripts/test nobody else uses the account: every process of its ids counts. Elsewhere the user has other
    programs running: descendants count.
    """
    dedicated = "ROOTLESS_TEST_DEDICATED" in os.environ
    ours = [range(os.getuid(), os.getuid() + 1)]
    extent = subordinate("uid")
    if extent is not None:
        ours.append(range(extent[0], extent[0] + extent[1]))
    found: dict[tuple[int, str], str] = {}
    parents: dict[int, tuple[int, tuple[int, str]]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            stat = Path(f"/proc/{name}/stat").read_text()
            uid = os.stat(f"/proc/{name}").st_uid
            line = Path(f"/proc/{name}/cmdline").read_bytes()
        except OSError:
            continue
        words = stat.rpartition(")")[2].split()
        if words[0] == "Z" and int(words[1]) != os.getpid():
            continue  # dead, and somebody else's to reap
        key = (int(name), words[19])
        parents[int(name)] = (int(words[1]), key)
        # a process that is not dumpable shows as root's; its real ids are in status
        if dedicated and any(_uid(name, uid) in extent for extent in ours):
            found[key] = line.replace(b"\0", b" ").decode(errors="replace").strip() or stat.split(")")[0] + ")"
    if not dedicated:
        for pid, (_, key) in parents.items():
            if _descends(pid, parents):
                found[key] = str(pid)
    return found


def _uid(name: str, fallback: int) -> int:
    try:
        for line in Path(f"/proc/{name}/status").read_text().splitlines():
            if line.startswith("Uid:"):
                return int(line.split()[1])
    except OSError:
        pass
    return fallback


def _descends(pid: int, parents: dict[int, tuple[int, tuple[int, str]]]) -> bool:
    me = os.getpid()
    while pid in parents:
        pid = parents[pid][0]
        if pid == me:
            return True
    return False
