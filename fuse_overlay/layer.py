"""One layer directory on disk.

Everything is opened component by component from the layer's own descriptor, each with O_NOFOLLOW, so no symbolic link
in a layer can lead out of it. Lower layers are read with O_NOATIME: running a container leaves them untouched.

Source: openat(2), fgetxattr(2)
"""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import merge, names
from rootless.errors import KernelError
from rootless.kernel.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Layer:
    """Layer number *index* with its root open; *writable* for the upper one."""

    def __init__(self, index: int, path: str, *, writable: bool = False) -> None:
        self.index = index
        self.path = path
        self.writable = writable
        self._noatime = 0 if writable else os.O_NOATIME
        try:
            self.root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", error.errno or 0, path) from None
        self.device = os.fstat(self.root).st_dev

    def open(self, name: bytes, flags: int, directory: int, mode: int = 0o600) -> int:
        """Open *name* in *directory*, never through a link. Raises: OSError"""
        flags |= os.O_NOFOLLOW | os.O_CLOEXEC | self._noatime
        try:
            return os.open(name, flags, mode, dir_fd=directory)
        except PermissionError:
            if not self._noatime:
                raise
            # EPERM: O_NOATIME is for the owner, and this file's owner is not mapped in our namespace
            return os.open(name, flags & ~os.O_NOATIME, mode, dir_fd=directory)

    def open_dir(self, name: bytes, directory: int) -> int:
        """Open the directory *name* in *directory*. Raises: OSError - ENOENT; ENOTDIR: something else stands there"""
        try:
            return os.open(name, _DIRECTORY | self._noatime, dir_fd=directory)
        except PermissionError:
            if not self._noatime:
                raise
            return os.open(name, _DIRECTORY, dir_fd=directory)

    def markers(self, directory: int) -> tuple[bool, bool, frozenset[bytes]]:
        """Return whether *directory* is opaque, whether it may hold whiteouts of the second form, and its attributes.

        Shape: (opaque, marked x, visible attribute names)
        """
        listed = list_xattrs(directory)
        opaque = extended = False
        for name in names.OPAQUE:
            if name in listed:
                value = os.getxattr(directory, name)
                opaque = opaque or value == b"y"
                extended = extended or value == b"x"
        return opaque, extended, names.visible(listed)

    def entries(self, directory: int, *, extended: bool) -> Iterator[tuple[bytes, int]]:
        """Yield (name, kind) of what *directory* holds; *extended*: whiteouts of the second form may be there."""
        with os.scandir(directory) as found:
            for entry in found:
                name = entry.name.encode("utf-8", "surrogateescape")
                if entry.is_dir(follow_symlinks=False):
                    yield name, merge.DIRECTORY
                elif entry.is_symlink():
                    yield name, merge.OTHER
                elif entry.is_file(follow_symlinks=False):
                    yield name, self._kind(name, directory) if extended else merge.OTHER
                else:
                    yield name, self._kind(name, directory, extended=False)

    def _kind(self, name: bytes, directory: int, *, extended: bool = True) -> int:
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        return merge.WHITEOUT if self.is_whiteout(name, directory, st, extended=extended) else merge.OTHER

    def is_whiteout(self, name: bytes, directory: int, st: os.stat_result, *, extended: bool) -> bool:
        """Tell whether *name*, whose stat values are *st*, is a whiteout."""
        if names.is_device_whiteout(st.st_mode, st.st_rdev):
            return True
        if not extended or st.st_size or not stat.S_ISREG(st.st_mode):
            return False
        fd = self.open(name, os.O_RDONLY | os.O_NONBLOCK, directory)
        try:
            return names.WHITEOUT in list_xattrs(fd)
        finally:
            os.close(fd)


def list_xattrs(fd: int) -> list[bytes]:
    """Return the attribute names of an open file; none where the file system has no attributes."""
    try:
        return [os.fsencode(name) for name in os.listxattr(fd)]
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EACCES, errno.EPERM):
            return []
        raise


class Borrowed(Fd):
    """A descriptor that somebody else owns, for functions that want an Fd."""

    def close(self) -> None:
        """Do nothing."""

    def __del__(self) -> None:
        """Do nothing."""
