"""Named and anonymous volumes on disk.

Shape:
    DATA/volumes/NAME/volume.json   created (seconds), created_at (RFC 3339), anonymous, container (who made it),
                                    labels, options (of the driver `local`), fresh
    DATA/volumes/NAME/_data/        what is mounted
    A volume is *fresh* until the first container has filled it, and *filling* meanwhile (mount/volumes.py).
    flock on DATA/volumes/NAME: exclusive while it is removed, shared by every container that runs with it;
    on its _data: exclusive while it is filled.

It is made in staging and renamed, so that two commands that name it at once share one; it is deleted by a rename into
staging, so that a crash leaves a leftover that gc.sweep_leftovers finds, and no half volume.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from rootless.errors import KernelError, NotFound, StoreError
from rootless.kernel import fs
from rootless.kernel.fds import Fd, open_fd
from rootless.store import atomic, containers, layers, layout, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.layout import Roots

VOLUMES = "volumes"
CONTENT = "_data"
RECORD = "volume.json"
_RENAME_NOREPLACE = 1
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


def volumes_dir(roots: Roots) -> str:
    """Return the directory that holds NAME/_data."""
    return f"{roots.data}/{VOLUMES}"


def make_volume(
    roots: Roots,
    name: str,
    *,
    anonymous: bool = False,
    container_id: str = "",
    labels: tuple[tuple[str, str], ...] = (),
    options: dict[str, str] | None = None,
) -> bool:
    """Make the volume *name* unless it is there; say whether it was made.

    Raises: StoreError
    """
    place = f"{volumes_dir(roots)}/{name}"
    if os.path.isdir(f"{place}/{CONTENT}"):
        return False
    ns = time.time_ns()
    record: dict[str, Any] = {
        "name": name,
        "created": ns / 1e9,
        "created_at": containers.rfc3339(ns),
        "anonymous": anonymous,
        "container": container_id,
        "labels": dict(labels),
        "options": options or {},
        "fresh": True,
    }
    with layers.open_staging(roots) as staging:
        try:
            layout.make_directory(volumes_dir(roots))
            layout.make_directory(f"{staging.path}/v")
            layout.make_directory(f"{staging.path}/v/{CONTENT}", 0o755)
            atomic.write_record(f"{staging.path}/v/{RECORD}", record)
            with open_fd(staging.path, _DIRECTORY) as source, open_fd(volumes_dir(roots), _DIRECTORY) as target:
                fs.renameat2(source, b"v", target, os.fsencode(name), _RENAME_NOREPLACE)
            return True
        except OSError as error:
            if error.errno in (errno.EEXIST, errno.ENOTEMPTY):
                return False  # somebody else was faster
            raise atomic.cannot("make volume", place, error) from error


def remove_volume(roots: Roots, name: str) -> bool:
    """Delete the volume *name* and what is in it; say whether there was one.

    Raises: StoreError
    """
    place = f"{volumes_dir(roots)}/{name}"
    if not os.path.lexists(place):
        return False
    with layers.open_staging(roots) as trash:
        trash.release_data()
        try:
            os.rename(place, f"{trash.path}/v")
        except FileNotFoundError:
            return False
        except OSError as error:
            raise atomic.cannot("remove volume", place, error) from error
        trees.remove_tree(f"{trash.path}/v")
    return True


def hold(roots: Roots, name: str, *, exclusive: bool = False) -> Fd | None:
    """Return the volume's directory with its lock held; None when *exclusive* and somebody else holds it.

    Blocks: for a shared lock, while the volume is filled or removed
    Raises: NotFound; StoreError
    """
    place = f"{volumes_dir(roots)}/{name}"
    kind = fcntl.LOCK_EX | fcntl.LOCK_NB if exclusive else fcntl.LOCK_SH
    while True:
        try:
            directory = open_fd(place, _DIRECTORY)
        except KernelError as error:
            if error.errno == errno.ENOENT:
                raise NotFound("volume", name) from None
            raise StoreError(f"volume {name}: {error.message}") from error
        try:
            fcntl.flock(directory.fileno(), kind)
            same = os.path.samestat(os.fstat(directory.fileno()), os.stat(place))
        except FileNotFoundError:
            same = False
        except BlockingIOError:
            directory.close()
            return None
        except OSError:
            return directory  # no locks on this file system: records alone tell who uses it
        if same:
            return directory
        directory.close()  # it was removed, and perhaps made again, while we waited


def list_volumes(roots: Roots) -> tuple[str, ...]:
    """Return the names of all volumes, sorted."""
    return tuple(sorted(atomic.names_in(volumes_dir(roots))))


def users(roots: Roots) -> dict[str, list[str]]:
    """Return the ids of the containers that have each volume, by its name."""
    found: dict[str, list[str]] = {}
    for container in containers.list_containers(roots):
        names = {str(entry[0]) for entry in container.data.get("mounts") or () if entry[0]}
        names.update([str(mount["Name"]) for mount in container.data.get("mounted") or () if mount.get("Name")])
        for name in sorted(names):
            found.setdefault(name, []).append(container.id)
    return found


def read_volume(roots: Roots, name: str) -> dict[str, Any]:
    """Return the record of a volume.

    Raises: NotFound, Corrupt
    """
    record = atomic.read_record(f"{volumes_dir(roots)}/{name}/{RECORD}")
    if record is None:
        raise NotFound("volume", name)
    return record


def write_volume(roots: Roots, name: str, record: dict[str, Any]) -> None:
    """Replace the record of a volume. Raises: StoreError"""
    atomic.write_record(f"{volumes_dir(roots)}/{name}/{RECORD}", record)


def anonymous_of(roots: Roots, container_id: str) -> tuple[str, ...]:
    """Return the anonymous volumes that the container *container_id* made; for the removal of a dead one."""
    found = []
    for name in list_volumes(roots):
        record = atomic.read_record(f"{volumes_dir(roots)}/{name}/{RECORD}")
        if record is not None and record.get("anonymous") and record.get("container") == container_id:
            found.append(name)
    return tuple(found)
