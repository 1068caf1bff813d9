"""Copy files of layers with everything that they are: content, owner, mode, attributes, times.

Order: content, owner, mode, attributes, times; a directory's times after all that is made in it. chown(2) clears
set-id bits and file capabilities, so both come after it.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.kernel.copying import Copier
from rootless.kernel.fds import Fd, open_fd
from rootless.store import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Shift = Callable[[int, int], tuple[int, int]]
    """From the owner and group on the source to those of the copy."""

_HIDDEN = ("user.overlay.", "trusted.overlay.")
#: An attribute that this file system or this user cannot have is left out, as podman leaves it out.
_REFUSED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)


def unshifted(uid: int, gid: int) -> tuple[int, int]:
    """Keep owners as they are."""
    return uid, gid


class TreeCopier:
    """Copies single nodes between directories; keeps the hard links among what it copies."""

    def __init__(self, shift: Shift = unshifted, *, keep_whiteouts: bool = False) -> None:
        """With *keep_whiteouts* the marks of overlay file systems are copied too."""
        self._shift = shift
        self._hidden = () if keep_whiteouts else _HIDDEN
        self._copier = Copier()
        self._seen: dict[tuple[int, int], tuple[Fd, bytes]] = {}

    def copy_node(self, src: Fd, name: bytes, info: os.stat_result, dst: Fd, target: bytes) -> None:
        """Copy *name* in *src*, which is no directory, to the new name *target* in *dst*."""
        mode = info.st_mode
        if stat.S_ISREG(mode):
            self._file(src, name, info, dst, target)
            return
        if stat.S_ISLNK(mode):
            os.symlink(os.readlink(name, dir_fd=src.fileno()), target, dir_fd=dst.fileno())
        else:
            try:
                os.mknod(target, mode, info.st_rdev, dir_fd=dst.fileno())
            except PermissionError:
                return  # a device, which only a real root could have made in the layer
        uid, gid = self._shift(info.st_uid, info.st_gid)
        os.chown(target, uid, gid, dir_fd=dst.fileno(), follow_symlinks=False)
        if not stat.S_ISLNK(mode):
            os.chmod(target, stat.S_IMODE(mode), dir_fd=dst.fileno())
        self._attributes(_path(src, name), _path(dst, target), follow=False)
        times(dst, target, info)

    def link(self, src: Fd, name: bytes, info: os.stat_result, dst: Fd, target: bytes) -> None:
        """As `copy_node`, but names of one file become names of one file again. *dst* must stay open."""
        key = (info.st_dev, info.st_ino)
        first = self._seen.get(key) if info.st_nlink > 1 else None
        if first is not None:
            directory, other = first
            os.link(other, target, src_dir_fd=directory.fileno(), dst_dir_fd=dst.fileno(), follow_symlinks=False)
            return
        self.copy_node(src, name, info, dst, target)
        if info.st_nlink > 1:
            self._seen[key] = (dst.dup(), target)

    def finish_directory(self, src: Fd, info: os.stat_result, dst: Fd) -> None:
        """Give the directory *dst* what *src* has; its times last, so call it when *dst* is full."""
        uid, gid = self._shift(info.st_uid, info.st_gid)
        os.fchown(dst.fileno(), uid, gid)
        os.fchmod(dst.fileno(), stat.S_IMODE(info.st_mode))
        self._attributes(src.fileno(), dst.fileno(), follow=True)
        os.utime(dst.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))

    def close(self) -> None:
        """Forget the hard links."""
        for directory, _ in self._seen.values():
            directory.close()
        self._seen.clear()

    def _file(self, src: Fd, name: bytes, info: os.stat_result, dst: Fd, target: bytes) -> None:
        with (
            open_fd(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=src) as source,
            open_fd(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=dst) as copy,
        ):
            self._copier.copy(source, copy, info.st_size)
            uid, gid = self._shift(info.st_uid, info.st_gid)
            os.fchown(copy.fileno(), uid, gid)
            os.fchmod(copy.fileno(), stat.S_IMODE(info.st_mode))
            self._attributes(source.fileno(), copy.fileno(), follow=True)
            os.utime(copy.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))

    def _attributes(self, source: int | bytes, copy: int | bytes, *, follow: bool) -> None:
        try:
            names = os.listxattr(source, follow_symlinks=follow)
        except OSError as error:
            if error.errno == errno.EOPNOTSUPP:
                return
            raise
        for name in names:
            if name.startswith(self._hidden):
                continue
            value = merged.attribute(source, name)
            if value is None:
                continue
            try:
                os.setxattr(copy, name, value, follow_symlinks=follow)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise


def times(directory: Fd, name: bytes, info: os.stat_result) -> None:
    """Give *name* the times of *info*."""
    os.utime(name, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=directory.fileno(), follow_symlinks=False)


def _path(directory: Fd, name: bytes) -> bytes:
    return os.fsencode(directory.proc_path()) + b"/" + name
