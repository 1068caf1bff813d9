"""All containers at a glance: one small file each, and one look at each lock. What `ps` waits for.

Shape:   records as store/containers.py keeps them; a container is alive exactly while its lock is held
Source:  store/containers.py, docs/processes.md
"""

from __future__ import annotations

import fcntl
import os
import posix

from rootless.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.store.layout import Roots

_READ_BYTES = 1 << 14
_YOUNG_SECONDS = 5.0
_LIVE = ("running", "initialized")


def locks(roots: Roots) -> tuple[set[str], bool]:
    """Return the ids whose lock is held, and whether a lock is free: its supervisor died (supervise/orphans.py)."""
    base = f"{roots.run}/containers"
    try:
        names = posix.listdir(base)
    except OSError:
        return set(), False
    held: set[str] = set()
    orphans = False
    for name in names:
        try:
            fd = posix.open(f"{base}/{name}/lock", posix.O_RDONLY | posix.O_CLOEXEC)
        except FileNotFoundError:
            orphans = orphans or _is_old(f"{base}/{name}")  # a young one is just being made, or just going
            continue
        except OSError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            orphans = True
        except OSError:
            held.add(name)
        finally:
            posix.close(fd)
    return held, orphans


def half_done(roots: Roots) -> bool:
    """Say whether something is being made or deleted, perhaps by a process that has died (engine.containers.settle)."""
    try:
        if any([name[0] == "." for name in posix.listdir(f"{roots.data}/containers")]):
            return True
    except OSError:
        pass
    try:
        return bool(posix.listdir(f"{roots.data}/staging"))
    except OSError:
        return False


def _is_old(directory: str) -> bool:
    import time

    try:
        return not 0 <= time.time() - os.stat(directory).st_mtime < _YOUNG_SECONDS  # below 0: the clock was set back
    except OSError:
        return False


def records(roots: Roots) -> list[tuple[str, dict[str, Any]]]:
    """Return (id, record) of all containers, oldest first.

    Raises: Corrupt
    """
    base = f"{roots.data}/containers"
    try:
        names = posix.listdir(base)
    except OSError:
        return []
    found = []
    for cid in names:
        if len(cid) == 64:
            data = read(f"{base}/{cid}/record.json")
            if data is not None:
                found.append((cid, data))
    found.sort(key=_created)
    return found


def _created(entry: tuple[str, dict[str, Any]]) -> str:
    return str(entry[1].get("created", ""))


def read(path: str) -> dict[str, Any] | None:
    """Return the record at *path*, None if there is none.

    Raises: Corrupt
    """
    try:
        fd = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        text = posix.read(fd, _READ_BYTES)
    finally:
        posix.close(fd)
    if len(text) < _READ_BYTES:
        try:
            value = jsontext.loads(text)
            if value["format"] == 1:
                return value  # type: ignore[no-any-return]
        except (ValueError, TypeError, KeyError, IndexError):
            pass
    from rootless.store.atomic import read_record

    return read_record(path)


def status(roots: Roots, cid: str, data: dict[str, Any], held: Iterable[str], machine: str) -> str:
    """Return what a container does now; `starting` for one that is being made right now.

    Shape: created, initialized, running, paused, stopping, exited, starting; `remote` for one of another machine
    """
    said = str((data.get("state") or {}).get("status", "created"))
    if said not in _LIVE:
        return "starting" if said == "created" and cid in held else said
    if data.get("machine") != machine:
        return "remote"
    if cid not in held:
        return said if process_lives(data) else "exited"
    directory = f"{roots.run}/containers/{cid}"
    for mark in ("paused", "stopping"):
        if posix.access(f"{directory}/{mark}", posix.F_OK):
            return mark
    return said


def is_lost(roots: Roots, cid: str, data: dict[str, Any], held: Iterable[str], machine: str) -> bool:
    """Say whether a record tells of a life that nothing else knows of: this machine was started again since."""
    said = (data.get("state") or {}).get("status")
    if said not in _LIVE or cid in held or data.get("machine") != machine:
        return False
    return not posix.access(f"{roots.run}/containers/{cid}", posix.F_OK) and not process_lives(data)


def process_lives(data: dict[str, Any]) -> bool:
    """Say whether the first process of a container lives whose lock is not held here.

    Its run root was wiped and is about to come back (supervise/guard.py), or is another one than ours.
    """
    from rootless.store import containers

    state = data.get("state") or {}
    pid, started = int(state.get("pid") or 0), int(state.get("pid_start") or 0)
    if not started or data.get("boot") != containers.boot_id() or containers.start_time(pid) != started:
        return False
    try:
        with open(f"/proc/{pid}/stat", "rb", 0) as file:
            return file.read(_READ_BYTES).rpartition(b")")[2].split()[0] != b"Z"  # its new parent is slow
    except OSError:
        return False


def machine_id() -> str:
    """Return what tells this machine from others that share the data root."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            with open(path, "rb", 0) as file:
                text = file.read(256)
        except OSError:
            continue
        if text:
            return text.decode("ascii", "replace").strip()
    return os.uname().nodename


def health(roots: Roots, cid: str) -> dict[str, Any] | None:
    """Return what the health check of a live container found, None when there is none."""
    try:
        fd = posix.open(f"{roots.run}/containers/{cid}/health.json", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return None
    try:
        parts = []
        while part := posix.read(fd, _READ_BYTES):
            parts.append(part)
    finally:
        posix.close(fd)
    try:
        value = jsontext.loads(b"".join(parts))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def find(roots: Roots, text: str) -> tuple[str, dict[str, Any]] | None:
    """Return (id, record) of the container named *text*, or whose id begins with it; None when there is none.

    Raises: StoreError when several ids begin so, or *text* is empty; Corrupt
    """
    if not text:
        from rootless.errors import StoreError

        raise StoreError("name or ID cannot be empty")
    base = f"{roots.data}/containers"
    if "/" not in text and text[0] != ".":
        try:
            with open(f"{roots.data}/names/{text}", "rb", 0) as file:
                cid = file.read(80).decode("ascii", "replace")
        except OSError:
            cid = ""
        data = read(f"{base}/{cid}/record.json") if cid else None
        if data is not None:
            return cid, data
    if len(text) == 64:
        ids = [text] if "/" not in text else []
    else:
        try:
            ids = [cid for cid in posix.listdir(base) if len(cid) == 64 and cid.startswith(text)]
        except OSError:
            return None
    if len(ids) > 1:
        from rootless.errors import StoreError

        raise StoreError(f"more than one result for container ID {text}: container already exists")
    data = read(f"{base}/{ids[0]}/record.json") if ids else None
    return (ids[0], data) if data is not None else None


def held(roots: Roots, cid: str) -> bool:
    """Say whether the supervisor of *cid* lives."""
    try:
        fd = posix.open(f"{roots.run}/containers/{cid}/lock", posix.O_RDONLY | posix.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except OSError:
        return True
    finally:
        posix.close(fd)


def image(roots: Roots, image_id: str) -> dict[str, Any]:
    """Return the record of an image without its names; empty when it is gone."""
    return read(f"{roots.data}/images/{image_id}.json") or {} if image_id else {}
