"""Which owner, mode, link count and inode number a file is shown with.

Source: fuse-overlayfs(1) "DYNAMIC UID AND GID MAPPING"; Documentation/filesystems/overlayfs.rst "Inode properties"
"""

from __future__ import annotations

import errno
import stat

from fuse_overlay.options import Mapping, Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from os import stat_result
    from typing import Protocol

    class Attributes(Protocol):
        """What we set of pyfuse3.EntryAttributes."""

        st_ino: int
        st_mode: int
        st_nlink: int
        st_uid: int
        st_gid: int
        st_rdev: int
        st_size: int
        st_blksize: int
        st_blocks: int
        st_atime_ns: int
        st_mtime_ns: int
        st_ctime_ns: int
        entry_timeout: float
        attr_timeout: float


OVERFLOW_ID = 65534
SET_ID = 0o6000


class Ids:
    """One kind of id (users or groups): what is on disk against what is shown."""

    def __init__(self, mappings: tuple[Mapping, ...], squash: int | None) -> None:
        self._mappings = mappings
        self._squash = squash
        self.plain = not mappings and squash is None

    def shown(self, disk: int) -> int:
        """Return what the id *disk* is shown as; the overflow id where no mapping has it."""
        if self._squash is not None:
            return self._squash
        for m in self._mappings:
            if m.disk <= disk < m.disk + m.size:
                return m.shown + disk - m.disk
        return OVERFLOW_ID if self._mappings else disk

    def kept(self, shown: int) -> int:
        """Return the id that is written to disk for *shown*.

        Raises: OSError(EINVAL) where no mapping has it, as chown(2) does for an id outside the namespace
        """
        if self._squash is not None:
            return self._squash
        for m in self._mappings:
            if m.shown <= shown < m.shown + m.size:
                return m.disk + shown - m.shown
        if self._mappings:
            raise OSError(errno.EINVAL, "id is not mapped")
        return shown


class IdSpace:
    """The ids of the namespace that we run in, as the kernel tells them (uid_map, gid_map)."""

    def __init__(self, text: str) -> None:
        self._ranges = []
        for line in text.splitlines():
            words = line.split()
            if len(words) == 3:
                self._ranges.append((int(words[0]), int(words[0]) + int(words[2])))

    def __contains__(self, number: object) -> bool:
        return isinstance(number, int) and any(first <= number < end for first, end in self._ranges)


class AttrPolicy:
    """Turns the stat values of a file on disk into the attributes that the kernel is told."""

    def __init__(self, options: Options, uid_map: str = "0 0 4294967295", gid_map: str = "0 0 4294967295") -> None:
        self.uids = Ids(options.uid_mappings, options.squash_uid)
        self.gids = Ids(options.gid_mappings, options.squash_gid)
        self._plain = self.uids.plain and self.gids.plain
        self._known_uids, self._known_gids = IdSpace(uid_map), IdSpace(gid_map)
        self._timeout = options.timeout

    def known(self, override: tuple[int, int, int, int]) -> bool:
        """Tell whether both ids of a recorded owner exist in our namespace."""
        return override[0] in self._known_uids and override[1] in self._known_gids

    def fill(self, attr: Attributes, st: stat_result, nlink: int, override: tuple[int, int, int, int] | None) -> None:
        """Set everything but the inode number.

        An override counts only where both of its ids exist in our namespace: for an id that is not mapped the kernel
        would show 65534 and refuse writing, and a set-id bit would be another's.
        """
        mode, uid, gid, rdev = st.st_mode, st.st_uid, st.st_gid, st.st_rdev
        if override is not None and self.known(override):
            uid, gid = override[:2]
            kind = stat.S_IFMT(override[2])
            mode = override[2] if kind else override[2] | stat.S_IFMT(mode)
            rdev = override[3] if kind else rdev
        if not self._plain:
            uid, gid = self.uids.shown(uid), self.gids.shown(gid)
        attr.st_mode = mode
        attr.st_nlink = nlink
        attr.st_uid = uid
        attr.st_gid = gid
        if rdev or attr.st_rdev:
            attr.st_rdev = rdev
        attr.st_size = st.st_size
        attr.st_blocks = st.st_blocks
        attr.st_blksize = st.st_blksize
        attr.st_atime_ns = st.st_atime_ns
        attr.st_mtime_ns = st.st_mtime_ns
        attr.st_ctime_ns = st.st_ctime_ns
        # A write clears set-id bits on disk without the kernel's copy of the mode noticing: such a file's attributes
        # are asked for each time.
        attr.attr_timeout = 0 if mode & SET_ID and stat.S_ISREG(mode) else self._timeout


def shown_nlink(st_nlink: int, *, directory: bool, merged: bool, static: bool, extra: int) -> int:
    """Return the link count: 1 ("unknown", find(1) understands it) for a merged directory, as kernel overlayfs has.

    *extra* corrects a file some of whose names are in another layer than the rest.
    """
    if directory:
        return 1 if merged or static else st_nlink
    return max(st_nlink + extra, 0)


FIRST_OWN_INO = 1 << 62
_DEVICE_SHIFT = 48


class InodeNumbers:
    """Chooses inode numbers: the one on disk where possible, so that they stay the same from mount to mount.

    Files of other devices get a device number above bit 48, as kernel overlayfs does with xino. A number that is taken
    or cannot be had that way is replaced by one of our own from FIRST_OWN_INO on.
    """

    def __init__(self, first_device: int) -> None:
        self._devices = {first_device: 0}
        self._next = FIRST_OWN_INO

    def wanted(self, device: int, ino: int) -> int:
        """Return the number for an inode, 0 when there is none (1 is the root's)."""
        index = self._devices.setdefault(device, len(self._devices))
        if index == 0:
            return ino if 1 < ino < FIRST_OWN_INO else 0
        if ino >> _DEVICE_SHIFT or index >= 1 << 13:
            return 0
        return index << _DEVICE_SHIFT | ino

    def own(self) -> int:
        """Return a number that nothing else has."""
        self._next += 1
        return self._next
