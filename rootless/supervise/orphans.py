"""Containers whose supervisor died: killed by the next command, and what they left is put away.

A supervisor holds its container's lock for as long as it lives. A run directory whose lock is free is
therefore an orphan, whatever the pids in it say. Killing comes before the user namespace is entered:
from the host's the user has every capability over its own processes; files are deleted after, because
they have owners of the namespace.

Source: architecture.md decision 4, rule R9; flock(2), pidfd_open(2)
"""

from __future__ import annotations

import fcntl
import os
import select
import time

from rootless.errors import RootlessError
from rootless.kernel.fds import Fd
from rootless.kernel.process import pidfd_open, pidfd_send_signal
from rootless.store import atomic, containers, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.store.layout import Roots

KILL_SECONDS = 5.0
YOUNG_SECONDS = 5.0


class Orphan:
    """An orphan that we have taken over: its lock is ours."""

    def __init__(self, cid: str, lock: Fd) -> None:
        self.cid = cid
        self.lock = lock


def kill_orphans(roots: Roots) -> list[Orphan]:
    """Kill the processes of all orphans and keep their locks. Blocks: until they are gone"""
    found = []
    try:
        names = os.listdir(f"{roots.run}/{containers.CONTAINERS}")
    except FileNotFoundError:
        return []
    for cid in names:  # those that never got their name (`.ID.PID.new`) too
        directory = containers.run_dir(roots, cid)
        lock = _take(directory)
        if lock is None:
            continue
        _kill(f"{directory}/child")
        found.append(Orphan(cid, lock))
    return found


def clean_orphans(roots: Roots, orphans: list[Orphan]) -> None:
    """Write down how the orphans ended, delete what --rm promised to delete, and what they were making.

    Needs the user namespace. Blocks: for the disk
    """
    if atomic.names_in(f"{roots.data}/{layout.STAGING}"):
        from rootless.store.gc import sweep_leftovers

        sweep_leftovers(roots)
    containers.sweep(roots, containers.leftovers(roots))
    if not orphans:
        return
    for orphan in orphans:
        # Who only looked into a container (cp) and was killed leaves it as it was.
        if not os.path.exists(f"{containers.run_dir(roots, orphan.cid)}/{containers.LOOKED_INTO}"):
            _put_away(roots, orphan.cid, "the supervisor died")
        containers.discard_run_dir(roots, orphan.cid)
        orphan.lock.close()


def put_away_lost(roots: Roots, cids: Sequence[str]) -> None:
    """Do the same for containers of which only the record is left. Needs the user namespace."""
    for cid in cids:
        if not containers.is_alive(roots, cid):
            _put_away(roots, cid, "the machine was started again")


def _put_away(roots: Roots, cid: str, why: str) -> None:
    from rootless.mount.volumes import remove_all
    from rootless.store.volumes import anonymous_of

    found = containers.read(roots, cid)
    path = str((found.data.get("cgroup") or {}).get("path") or "") if found is not None else ""
    if path:
        from rootless.supervise.limits import end

        end(path)
    if found is None or found.auto_remove:
        if found is not None:
            containers.note_exit(roots, cid, 137)
        # By their own records: a crash before the container's record was written left them too.
        remove_all(roots, anonymous_of(roots, cid))
        containers.discard(roots, cid)
    elif found.data.get("state", {}).get("status") in containers.LIVE:
        code = containers.noted_exit(roots, cid)  # its supervisor found no room for the record
        if code is None:
            containers.finish(roots, found, 137, error=why)
        else:
            containers.finish(roots, found, code)
            containers.forget_exit(roots, cid)


def _take(directory: str) -> Fd | None:
    """Take the lock of an orphan's run directory; None where somebody lives, or is just beginning."""
    try:
        lock = Fd(os.open(f"{directory}/lock", os.O_RDWR | os.O_CLOEXEC))
    except FileNotFoundError:
        # Its maker is between two system calls, or dead: then it stays like this.
        try:
            if 0 <= time.time() - os.stat(directory).st_mtime < YOUNG_SECONDS:  # below 0: the clock was set back
                return None
            lock = Fd(os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError:
            return None
    except OSError:
        return None
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        return None
    return lock


def _kill(note: str) -> None:
    pid = containers.noted_process(note)
    if not pid:
        return
    try:
        with pidfd_open(pid) as process:
            if containers.noted_process(note) != pid:
                return  # it ended before we held the descriptor, and the number may be another's
            pidfd_send_signal(process, 9)
            select.select([process.fileno()], [], [], KILL_SECONDS)
    except RootlessError:
        return
