"""Prepare the volumes and bind sources of a container on the host, before it starts.

The first container that mounts a fresh volume copies the image's content of the target into it, under
the volume's lock; a crash in the middle leaves it fresh, and the next one begins again. A volume that
somebody else put files into stays as it is. Whatever is
looked up in the image is resolved inside its root by openat2, whatever links stand there.

Source: podman-run(1) "--volume"; docs/podman-differences.md "Volumes"; openat2(2), flock(2)
"""

from __future__ import annotations

import errno
import fcntl
import posix
import stat

from rootless.errors import KernelError, NotFound, RootlessError, StoreError, UsageError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.paths import open_in_root
from rootless.plan.containermounts import VolumeUse
from rootless.spec.record import replace
from rootless.store import copytree, merged, trees
from rootless.store import volumes as store

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from rootless.plan.containermounts import BindUse
    from rootless.plan.options import VolumeRequest
    from rootless.store.layout import Roots

EXIT_CHOWN = 126
_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY | posix.O_NOFOLLOW
# what U must never hand to a container: directories that the rest of the system stands on
_NEVER_CHOWN = frozenset((
    "/", "/bin", "/boot", "/dev", "/etc", "/etc/passwd", "/etc/pki", "/etc/shadow", "/home", "/lib", "/lib64", "/media",
    "/opt", "/proc", "/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log",
))  # fmt: skip


def check_binds(binds: tuple[BindUse, ...]) -> None:
    """Make sure that every source exists, before anything is made.

    Raises: RootlessError in podman's words
    """
    for bind in binds:
        try:
            posix.stat(bind.source)
        except OSError as error:
            reason = posix.strerror(error.errno or 0).lower()
            raise RootlessError(f"statfs {bind.source}: {reason}") from None
        if bind.chown and bind.source in _NEVER_CHOWN:
            raise RootlessError(f'chowning host path "{bind.source}" is not allowed', code=EXIT_CHOWN)


def prepare(
    roots: Roots,
    volumes: tuple[VolumeUse, ...],
    binds: tuple[BindUse, ...],
    root: Fd,
    owner: tuple[int, int],
    container_id: str,
    holds: list[Fd] | None = None,
) -> tuple[str, ...]:
    """Make and fill the volumes of a container, and change owners where U asks for it.

    Shape:  *root* is the container's mounted root file system, *owner* the ids of the container's process in our
            user namespace. Returns the names of the anonymous volumes that were made; *holds* gets the locks that
            keep volumes from being removed, to be held as long as the container runs
    Blocks: for the disk, and while another container fills the same volume
    Raises: StoreError, RootlessError; the anonymous volumes made here are gone then
    """
    made: list[str] = []
    try:
        for volume in volumes:
            if _made(roots, volume, container_id, holds) and volume.anonymous:
                made.append(volume.name)
            if _has_mount(roots, volume.name):
                continue  # what is mounted there is made, filled and owned when it is mounted (drivervolumes.py)
            _fill(roots, volume, root, owner)
            if volume.chown:
                chown_tree(volume.path, owner)
        for bind in binds:
            if bind.chown:
                chown_tree(bind.source, owner)
    except BaseException:
        remove_all(roots, tuple(made))
        raise
    return tuple(made)


def _made(roots: Roots, volume: VolumeUse, container_id: str, holds: list[Fd] | None) -> bool:
    """Make the volume unless it is there, and hold it; say whether it was made."""
    options = None
    if volume.driver_options:
        from rootless.plan import volumeoptions

        try:
            options = volumeoptions.check(volume.driver_options)
        except UsageError as error:
            raise UsageError(f'creating named volume "{volume.name}": {error.message}', hint=error.hint) from None
    while True:
        is_new = store.make_volume(roots, volume.name, anonymous=volume.anonymous, container_id=container_id,
                                   options=options)  # fmt: skip
        if holds is None:
            return is_new
        try:
            lock = store.hold(roots, volume.name)
        except NotFound:
            continue  # somebody removed it between the two
        if lock is not None:
            holds.append(lock)
        return is_new


def make_empty(
    roots: Roots,
    container_id: str,
    mounts: list[dict[str, Any]],
    anonymous: dict[str, str],
    requests: tuple[VolumeRequest, ...],
) -> None:
    """Make the volumes of a container that is not started yet; outside our user namespace too.

    Shape:  *mounts* are documents of plan/recorded.py, *anonymous* the names of the anonymous ones by target
    Raises: RootlessError
    """
    options = {request.target: request.driver_options for request in requests}
    for mount in mounts:
        if mount["Type"] == "volume":
            target = mount["Destination"]
            use = VolumeUse(mount["Name"], mount["Source"], target, target in anonymous,
                            driver_options=options.get(target, ()))  # fmt: skip
            _made(roots, use, container_id, None)


def _has_mount(roots: Roots, name: str) -> bool:
    record = store.read_volume(roots, name)
    if not record.get("options"):
        return False
    from rootless.mount.drivervolumes import needs_mount

    return needs_mount(record)


def remove_all(roots: Roots, names: tuple[str, ...]) -> None:
    """Delete the anonymous volumes *names* that no other container took over; call it inside our user namespace.

    Raises: StoreError
    """
    users = store.users(roots) if names else {}
    for name in names:
        try:
            owner = store.read_volume(roots, name).get("container")
        except NotFound:
            continue
        if not [cid for cid in users.get(name, ()) if cid != owner]:
            store.remove_volume(roots, name)


def fill(roots: Roots, volume: VolumeUse, root: Fd, owner: tuple[int, int]) -> None:
    """Fill a fresh volume from the image as a start of its container would. Raises: StoreError"""
    if not _has_mount(roots, volume.name):
        _fill(roots, volume, root, owner)


def _fill(roots: Roots, volume: VolumeUse, root: Fd, owner: tuple[int, int]) -> None:
    """Give a fresh volume the image's content, owner and mode; the first container does it, others wait for it."""
    if not store.read_volume(roots, volume.name).get("fresh"):
        return
    try:
        # Not the lock on the volume itself, which every container holds that has it.
        with open_fd(volume.path, _DIRECTORY) as content:
            _lock(content)
            record = store.read_volume(roots, volume.name)
            if not record.get("fresh"):
                return
            if record.get("filling"):
                for name in posix.listdir(content.fileno()):
                    trees.remove_at(content, name)  # left by a copy that did not end
            elif posix.listdir(content.fileno()):
                # Somebody put files there already: they are what is wanted.
                store.write_volume(roots, volume.name, {**record, "fresh": False})
                return
            options = record.get("options") or {}
            if "nocopy" in str(options.get("o") or "").split(","):
                volume = replace(volume, copy_up=False)
            record["filling"] = True
            store.write_volume(roots, volume.name, record)
            _copy_up(content, volume, root, owner)
            if "UID" in options or "GID" in options:
                posix.fchown(content.fileno(), int(options.get("UID", -1)), int(options.get("GID", -1)))
            del record["filling"]
            store.write_volume(roots, volume.name, {**record, "fresh": False})
    except OSError as error:
        hint = "free some space" if error.errno == errno.ENOSPC else None
        reason = posix.strerror(error.errno or 0).lower()
        raise StoreError(f"fill volume {volume.name} from {volume.target} of the image: {reason}", hint=hint) from error


def _lock(directory: Fd) -> None:
    try:
        fcntl.flock(directory.fileno(), fcntl.LOCK_EX)
    except OSError as error:
        # no locks on this file system: the worst that a race brings is the same copy made twice
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF):
            raise


def _copy_up(content: Fd, volume: VolumeUse, root: Fd, owner: tuple[int, int]) -> None:
    try:
        source = open_in_root(root, volume.target.encode("utf-8", "surrogateescape"), _DIRECTORY & ~posix.O_NOFOLLOW)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        posix.fchown(content.fileno(), *owner)
        return
    if volume.copy_up:
        with merged.Merged((source,)) as image:
            copytree.copy_tree(image, content)
        return
    with source:
        found = posix.fstat(source.fileno())
        posix.fchown(content.fileno(), found.st_uid, found.st_gid)
        posix.fchmod(content.fileno(), stat.S_IMODE(found.st_mode))


def chown_tree(path: str, owner: tuple[int, int]) -> None:
    """Make *owner* the owner of *path* and everything below, following no link.

    Blocks: for the disk; one open directory for each level
    Raises: RootlessError
    """
    stack: list[tuple[int, Iterator[str]]] = []
    try:
        info = posix.lstat(path)
        if not stat.S_ISDIR(info.st_mode):
            _chown(path, None, info, owner)
            return
        stack.append(_enter(path, None, owner))
        while stack:
            here, rest = stack[-1]
            name = next(rest, None)
            if name is not None:
                stack.append(_enter(name, here, owner))
            else:
                posix.close(here)
                stack.pop()
    except OSError as error:
        reason = posix.strerror(error.errno or 0).lower()
        raise RootlessError(
            f"change the owner of {path} to {owner[0]}:{owner[1]}: {reason}",
            hint="U needs files whose owners are mapped into the container: leave it out, or change the owner yourself",
            code=EXIT_CHOWN,
        ) from None
    finally:
        for fd, _ in stack:
            posix.close(fd)


def _enter(name: str, parent: int | None, owner: tuple[int, int]) -> tuple[int, Iterator[str]]:
    """Open the directory *name*, change it and what is no directory in it; return it and its subdirectories."""
    here = posix.open(name, _DIRECTORY | posix.O_CLOEXEC, dir_fd=parent)
    try:
        info = posix.fstat(here)
        if (info.st_uid, info.st_gid) != owner:
            posix.fchown(here, *owner)
            posix.fchmod(here, stat.S_IMODE(info.st_mode))  # chown(2) cleared set-id bits
        below: list[str] = []
        with posix.scandir(here) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                else:
                    _chown(entry.name, here, entry.stat(follow_symlinks=False), owner)
    except BaseException:
        posix.close(here)
        raise
    return here, iter(below)


def _chown(name: str, directory: int | None, info: posix.stat_result, owner: tuple[int, int]) -> None:
    if (info.st_uid, info.st_gid) == owner:
        return
    if not stat.S_ISREG(info.st_mode) or not info.st_mode & 0o6000:
        posix.chown(name, *owner, dir_fd=directory, follow_symlinks=False)
        return
    # chmod(2) would follow a link that a running container puts in the file's place
    fd = posix.open(name, posix.O_RDONLY | posix.O_NOFOLLOW | posix.O_NONBLOCK | posix.O_CLOEXEC, dir_fd=directory)
    try:
        posix.fchown(fd, *owner)
        posix.fchmod(fd, stat.S_IMODE(info.st_mode))
    finally:
        posix.close(fd)
