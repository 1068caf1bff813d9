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
from rootless.kernel.paths import open_beneath
from rootless.store import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rootless.store.merged import Merged

    Path = tuple[bytes, ...]
    Shift = Callable[[int, int], tuple[int, int]]
    """From the owner and group on the source to those of the copy."""

_HIDDEN = ("user.overlay.", "trusted.overlay.")
#: An attribute that this file system or this user cannot have is left out, as podman leaves it out.
_REFUSED = (errno.EOPNOTSUPP, errno.EPERM, errno.EINVAL)


def unshifted(uid: int, gid: int) -> tuple[int, int]:
    """Keep owners as they are."""
    return uid, gid


class TreeCopier:
    """Copies nodes one by one; a node is what a directory holds that is no directory."""

    def __init__(self, shift: Shift = unshifted, *, keep_whiteouts: bool = False) -> None:
        """With *keep_whiteouts* the marks of overlay file systems are copied too."""
        self._shift = shift
        self._hidden = () if keep_whiteouts else _HIDDEN
        self._copier = Copier()

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
            _set_mode(dst, target, stat.S_IMODE(mode))
        self._attributes(_path(src, name), _path(dst, target), follow=False)
        os.utime(target, ns=(info.st_atime_ns, info.st_mtime_ns), dir_fd=dst.fileno(), follow_symlinks=False)

    def finish_directory(self, src: Fd, info: os.stat_result, dst: Fd) -> None:
        """Give the directory *dst* what *src* has; its times last, so call it when *dst* is full."""
        uid, gid = self._shift(info.st_uid, info.st_gid)
        os.fchown(dst.fileno(), uid, gid)
        os.fchmod(dst.fileno(), stat.S_IMODE(info.st_mode))
        self._attributes(src.fileno(), dst.fileno(), follow=True)
        os.utime(dst.fileno(), ns=(info.st_atime_ns, info.st_mtime_ns))

    def _file(self, src: Fd, name: bytes, info: os.stat_result, dst: Fd, target: bytes) -> None:
        with (
            open_fd(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=src) as source,
            open_fd(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=dst) as copy,
        ):
            self.copy_content(source, copy, info)

    def copy_content(self, source: Fd, copy: Fd, info: os.stat_result) -> None:
        """Give the empty file *copy* all that *source* has, and what *info* says of it."""
        self._copier.copy(source, copy, info.st_size)
        if not info.st_size:
            _read_through(source, copy)
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


def copy_tree(source: Merged, root: Fd, shift: Shift = unshifted, *, raw: bool = False) -> None:
    """Copy what *source* shows into the empty directory *root*; names of one file stay names of one file.

    With *raw* a single layer is copied as it is, whiteouts and marks included.

    Blocks:  for the disk; blocks are shared where the file system can
    Raises:  OSError
    """
    copier = TreeCopier(shift, keep_whiteouts=raw)
    linked: dict[tuple[int, int], Path] = {}
    # (path, its copy, the subdirectories that are still to do): one open directory for each level
    stack: list[tuple[Path, Fd, Iterator[bytes]]] = []
    try:
        here: Path = ()
        copy = root.dup()
        while True:
            stack.append((here, copy, iter(_fill(source, here, copy, root, copier, linked, raw=raw))))
            child = next(stack[-1][2], None)
            while child is None:
                here, copy, _ = stack.pop()
                with copy:
                    for top in source.directory(here)[:1]:
                        copier.finish_directory(top, os.fstat(top.fileno()), copy)
                if not stack:
                    return
                child = next(stack[-1][2], None)
            here, parent = (*stack[-1][0], child), stack[-1][1]
            os.mkdir(child, 0o700, dir_fd=parent.fileno())
            copy = open_fd(child, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
    finally:
        for _, copy, _ in stack:
            copy.close()


def _fill(
    source: Merged,
    path: Path,
    copy: Fd,
    root: Fd,
    copier: TreeCopier,
    linked: dict[tuple[int, int], Path],
    *,
    raw: bool,
) -> list[bytes]:
    """Copy everything in *path* that is no directory; return the names of what is."""
    directories = []
    for directory, name, info in source.entries(path, raw=raw):
        if stat.S_ISDIR(info.st_mode):
            directories.append(name)
            continue
        first = linked.get((info.st_dev, info.st_ino)) if info.st_nlink > 1 else None
        if first is None:
            copier.copy_node(directory, name, info, copy, name)
            if info.st_nlink > 1:
                linked[info.st_dev, info.st_ino] = (*path, name)
            continue
        with open_beneath(root, b"/".join(first[:-1]) or b".", os.O_PATH | os.O_DIRECTORY) as other:
            os.link(first[-1], name, src_dir_fd=other.fileno(), dst_dir_fd=copy.fileno(), follow_symlinks=False)
    return directories


def _set_mode(directory: Fd, name: bytes, mode: int) -> None:
    """Set the mode of a node; a link that a running container has put in its place is left alone (chmod(2) follows)."""
    with open_fd(name, os.O_PATH | os.O_NOFOLLOW, dir_fd=directory) as node:
        if not stat.S_ISLNK(os.fstat(node.fileno()).st_mode):
            os.chmod(node.proc_path(), mode)


def _read_through(source: Fd, copy: Fd) -> None:
    """Copy what a file holds that says it is empty, as those of /proc do."""
    while data := os.read(source.fileno(), 1 << 16):
        view = memoryview(data)
        while view:
            view = view[os.write(copy.fileno(), view) :]


def _path(directory: Fd, name: bytes) -> bytes:
    return os.fsencode(directory.proc_path()) + b"/" + name
