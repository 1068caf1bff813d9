"""What a crash may leave, and must not: walk /proc, mountinfo, the roots and the locks, and say it a line each.

    with Family() as family:                       # this process adopts whatever its descendants leave
        ... commands run and are killed ...
        assert complaints(cli, family.alive()) == []

Shape: the invariants, which hold whenever no command of ours is under way and one has run since the last crash
    processes   every process that we have started belongs to a container whose supervisor lives, or is a client of ours
    mounts      no mount of ours is seen from outside a container
    run root    every directory of containers/ has its lock held, by the process that its note names
    data root   every directory of containers/ has a record, every name one container, staging and TMP are empty,
                no half-written file stays
    locks       the data root's lock is free when no container lives
    records     `running` is said of those that run and of no others
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rootless.kernel import process
from tests.support.cli import Cli

GRACE_S = 10.0
LIVE = ("running", "initialized")


class Family:
    """While it is entered, orphans among our descendants become our children: none can hide by outliving its parent."""

    def __enter__(self) -> Family:
        self._others = set(children(os.getpid()))
        process._prctl("PR_SET_CHILD_SUBREAPER", 1)
        return self

    def __exit__(self, *error: object) -> None:
        for pid in self.alive():
            with contextlib.suppress(OSError):
                os.kill(pid, 9)
        process._prctl("PR_SET_CHILD_SUBREAPER", 0)
        for _turn in range(200):
            self.reap()
            if not self.alive():
                return
            time.sleep(0.01)

    def reap(self, keep: int = 0) -> None:
        """Collect the adopted that have ended; *keep* is a child that somebody else waits for."""
        for pid in children(os.getpid()):
            if pid in self._others or pid == keep:
                continue
            with contextlib.suppress(OSError):
                if state(pid) == "Z":
                    os.waitpid(pid, os.WNOHANG)

    def alive(self) -> dict[int, str]:
        """Return what descends from us and has not ended: pid -> command line."""
        self.reap()
        found: dict[int, str] = {}
        pending = [pid for pid in children(os.getpid()) if pid not in self._others]
        while pending:
            pid = pending.pop()
            if state(pid) not in ("Z", ""):
                found[pid] = command_line(pid)
            pending += children(pid)
        return found


def children(pid: int) -> list[int]:
    """Return the children of all threads of *pid*."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError):
                found += [int(word) for word in Path(f"/proc/{pid}/task/{thread}/children").read_text().split()]
    return found


def state(pid: int) -> str:
    """Return the letter of a process's state; "" when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def wait_dead(pid: int) -> None:
    """Wait until a process that was killed has given up what it held, its locks above all."""
    until = time.monotonic() + GRACE_S
    while pid and state(pid) not in ("Z", "") and time.monotonic() < until:
        time.sleep(0.005)


def command_line(pid: int) -> str:
    with contextlib.suppress(OSError):
        line = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
        return line or Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def start_time(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def settled(cli: Cli, family: Family) -> list[str]:
    """Return the complaints that stay after a moment of grace: what has been told to end needs time to end."""
    until = time.monotonic() + GRACE_S
    while True:
        found = complaints(cli, family.alive())
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def empty(cli: Cli, family: Family) -> list[str]:
    """Return what stays, after a moment of grace, where no container and no process should be left."""
    until = time.monotonic() + GRACE_S
    while True:
        alive = family.alive()
        found = [*complaints(cli, alive), *(f"container {cid}" for cid in records(cli)), *alive.values()]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def complaints(cli: Cli, alive: dict[int, str]) -> list[str]:
    """Return a line for each thing that should not be; *alive* are the processes that we started."""
    living = {name: pid for name, pid, held in run_directories(cli) if held and pid}
    return [
        *_processes(alive, living),
        *_mounts(cli),
        *_run_root(cli, alive),
        *_data_root(cli, living),
        *_locks(cli, living),
    ]


def run_directories(cli: Cli) -> Iterator[tuple[str, int, bool]]:
    """Yield (name, pid of the supervisor if it is that process, whether the lock is held)."""
    place = cli.run / "containers"
    for name in sorted(os.listdir(place)) if place.is_dir() else ():
        yield name, noted(place / name / "pid"), is_held(place / name / "lock")


def noted(path: Path) -> int:
    """Return the process that a note names, if it is still that one."""
    with contextlib.suppress(OSError, ValueError):
        pid, started = path.read_text().split()
        if started == start_time(int(pid)):
            return int(pid)
    return 0


def is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(fd)


def _processes(alive: dict[int, str], living: dict[str, int]) -> Iterator[str]:
    belongs = set(living.values())
    pending = list(belongs)
    while pending:
        below = children(pending.pop())
        belongs.update(below)
        pending += below
    for pid, line in alive.items():
        if pid not in belongs:
            yield f"process {pid}: {line}"


def _mounts(cli: Cli) -> Iterator[str]:
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if str(cli.place) in line:
            yield f"mount: {line}"


def _run_root(cli: Cli, alive: dict[int, str]) -> Iterator[str]:
    for name, pid, held in run_directories(cli):
        if not held:
            yield f"run directory without a supervisor: {name}: {sorted(os.listdir(cli.run / 'containers' / name))}"
        elif not pid:
            yield f"run directory whose lock is held by another than it names: {name}"
        elif pid not in alive:
            yield f"run directory of a supervisor that we did not start: {name}: {pid}"


def records(cli: Cli) -> dict[str, dict[str, Any]]:
    """Return the records by id; one that cannot be read is {}."""
    found = {}
    place = cli.data / "containers"
    for name in sorted(os.listdir(place)) if place.is_dir() else ():
        try:
            found[name] = json.loads((place / name / "record.json").read_text())
        except (OSError, ValueError):
            found[name] = {}
    return found


def _data_root(cli: Cli, living: dict[str, int]) -> Iterator[str]:
    known = records(cli)
    for cid, data in known.items():
        said = data.get("state", {}).get("status")
        if not data:
            # one that is being made has its directory before its record
            if cid not in living:
                yield f"container directory without a record: {cid}"
        elif said in LIVE and cid not in living:
            yield f"record says {said} of a container without a supervisor: {cid}"
        elif said in LIVE and data["state"].get("pid") and state(data["state"]["pid"]) in ("", "Z"):
            yield f"record says {said} of a container whose process has ended: {cid}"
        if data and read_name(cli, data["name"]) != cid:
            yield f"container without its name: {cid}: {data['name']}"
    names = cli.data / "names"
    for name in sorted(os.listdir(names)) if names.is_dir() else ():
        if not known.get(read_name(cli, name)):
            yield f"name of no container: {name}"
    for place in (cli.data / "staging", cli.tmp):
        for name in sorted(os.listdir(place)) if place.is_dir() else ():
            yield f"left in {place.name}: {name}"
    yield from _half_written(cli)


def read_name(cli: Cli, name: str) -> str:
    with contextlib.suppress(OSError):
        return (cli.data / "names" / name).read_text().strip()
    return ""


def anonymous_volumes(cli: Cli) -> list[str]:
    """Return the volumes that were made for one container; `rm` leaves them unless told not to, as podman does."""
    place = cli.data / "volumes"
    return [name for name in sorted(os.listdir(place)) if len(name) == 64] if place.is_dir() else []


def _half_written(cli: Cli) -> Iterator[str]:
    """Temporary names begin with a dot or end in .new, and lie beside what they were to become."""
    places = [cli.data, *(cli.data / name for name in ("containers", "names", "images", "refs", "layers", "volumes"))]
    places += [cli.data / "containers" / cid for cid in records(cli)]
    places += [cli.run, cli.run / "containers", cli.run / "exits"]
    for place in places:
        for name in sorted(os.listdir(place)) if place.is_dir() else ():
            if name.startswith(".") or name.endswith(".new"):
                yield f"half-written: {place / name}"


def _locks(cli: Cli, living: dict[str, int]) -> Iterator[str]:
    if not living and is_held(cli.data / "lock"):
        yield "the data root's lock is held, and no container lives"
