"""Copy-up: bring a file of a lower layer into the upper one before its first change.

Made in the work directory with everything it had (data, owner, mode, attributes, times, in this order, because chown
clears set-id bits and writing changes times), then renamed into place: a crash leaves either the lower file or the
finished copy. Parents first. The directory that gets the new entry keeps its times: nothing visible has happened.

A file with several names in its layer stays one file: names that we know are linked to the copy at once, others when
they are looked up (`adopt`). What was never looked up before the mount ends is a file of its own afterwards, as in
kernel overlayfs without its index.

Source: Documentation/filesystems/overlayfs.rst "Non-directories", "Index"; ioctl_ficlone(2), copy_file_range(2)
"""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import names
from fuse_overlay.layer import Borrowed, list_xattrs
from fuse_overlay.nodes import Node
from fuse_overlay.tree import UPPER, Tree
from fuse_overlay.whiteouts import Workspace, rename_at
from rootless.kernel.copying import Copier
from rootless.spec.record import record

_LOST = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES, errno.EINVAL)


@record
class Owned:
    """Owner, mode and (access, modification) times in nanoseconds that a copy gets."""

    uid: int
    gid: int
    mode: int
    times: tuple[int, int]


class CopyUp:
    """Executes copy-ups for one mount."""

    def __init__(self, tree: Tree, work: Workspace | None) -> None:
        self.tree = tree
        self._work = work
        self._copier = Copier()
        tree.adopt = self.adopt

    @property
    def work(self) -> Workspace:
        """The work directory. Raises: OSError(EROFS) on a read-only mount"""
        if self._work is None:
            raise OSError(errno.EROFS, "read-only file system")
        return self._work

    def directory(self, node: Node) -> int:
        """Return a descriptor of the directory *node* in the upper layer, made there if it is not yet."""
        tree = self.tree
        if node.layer == UPPER:
            return tree.dirfd(node, UPPER)
        work = self.work
        stack = tree.stack(node)
        if node.gone or not node.links:
            raise OSError(errno.ENOENT, "directory was removed")
        parent, name = node.links[0]
        above = self.directory(parent)
        source = tree.dirfd(node, node.layer)
        st = os.fstat(source)
        temporary = work.fresh()
        os.mkdir(temporary, 0o700, dir_fd=work.fd)
        fd = -1
        try:
            fd = os.open(temporary, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=work.fd)
            self._finish(fd, self.owned(node, st), self._attributes(source))
            self._place(temporary, above, name)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            work.discard(temporary)
            raise
        tree.remember_dir(node, UPPER, fd)
        tree.table.moved_up(node, UPPER, os.fstat(fd))
        node.stack = (UPPER, *stack)
        node.fresh = False
        return fd

    def file(self, node: Node, *, data: bool = True) -> None:
        """Bring a file that is no directory into the upper layer; without *data* it arrives empty."""
        if node.layer == UPPER:
            return
        tree, work = self.tree, self.work
        st = tree.stat(node)
        temporary = work.fresh()
        # Without a name there is nothing to put in place: the copy lives as long as it is open.
        above, name = (self.directory(node.links[0][0]), node.links[0][1]) if node.links else (-1, b"")
        fd = -1
        try:
            if node.kind == stat.S_IFREG:
                fd = self._copy_regular(node, temporary, st, data)
            else:
                self._copy_special(node, temporary, st)
            new = os.stat(temporary, dir_fd=work.fd, follow_symlinks=False)
            if above >= 0:
                self._place(temporary, above, name)
            else:
                node.keep = fd if node.keep < 0 else os.dup2(fd, node.keep, inheritable=False)
                os.unlink(temporary, dir_fd=work.fd)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            work.discard(temporary)
            raise
        several = st.st_nlink > 1
        tree.table.moved_up(node, UPPER, new, keep_old=several)
        # Who reads through a descriptor of the lower file must see what is written from now on: the kernel has one
        # page cache for the inode, whichever descriptor fills it.
        for handle in node.handles:
            if fd >= 0:
                os.dup2(fd, handle, inheritable=False)
        if fd >= 0 and node.keep != fd:
            os.close(fd)
        if several:
            node.pinned = True
            node.extra_links += st.st_nlink - 1
            for other, other_name in node.links[1:]:
                self._link_up(node, other, other_name)
        node.fresh = False

    def adopt(self, node: Node, parent: Node, name: bytes) -> None:
        """Link *name*, which still is in a lower layer, to the copy that another name of its file got."""
        if node.parked:
            above = self.directory(parent)
            with KeptTimes(above):
                rename_at(self.work.fd, node.parked, above, name)
            node.parked = b""
            os.close(node.keep)
            node.keep = -1
        elif node.links[0] != (parent, name):
            self._link_up(node, parent, name)
        node.fresh = False

    def park(self, node: Node) -> None:
        """Keep a copied-up file in the work directory: its last known name goes, others are still in lower layers."""
        parent, name = node.links[0]
        node.parked = self.work.fresh()
        above = self.tree.dirfd(parent, UPPER)
        os.link(name, node.parked, src_dir_fd=above, dst_dir_fd=self.work.fd, follow_symlinks=False)
        node.keep = os.open(node.parked, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self.work.fd)
        node.extra_links -= 1

    def any(self, node: Node) -> None:
        """Bring *node* up, whatever it is."""
        if node.layer != UPPER:
            if node.is_dir:
                self.directory(node)
            else:
                self.file(node)

    def _link_up(self, node: Node, parent: Node, name: bytes) -> None:
        first, first_name = node.links[0]
        above = self.directory(parent)
        with KeptTimes(above):
            os.link(first_name, name, src_dir_fd=self.tree.dirfd(first, UPPER), dst_dir_fd=above, follow_symlinks=False)
        node.extra_links -= 1

    def _copy_regular(self, node: Node, temporary: bytes, st: os.stat_result, data: bool) -> int:
        """Make a copy under *temporary*; return it open for reading and writing."""
        tree, work = self.tree, self.work
        borrowed = not node.links
        if borrowed:
            source = tree.any_fd(node)
        else:
            parent, name = node.links[0]
            source = tree.layers[node.layer].open(name, os.O_RDONLY, tree.dirfd(parent, node.layer))
        try:
            fd = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=work.fd)
            try:
                if data:
                    self._copier.copy(Borrowed(source), Borrowed(fd), st.st_size)
                self._finish(fd, self.owned(node, st), self._attributes(source))
            except BaseException:
                os.close(fd)
                raise
        finally:
            if not borrowed:
                os.close(source)
        return fd

    def _copy_special(self, node: Node, temporary: bytes, st: os.stat_result) -> None:
        """Make a symbolic link, fifo, socket or device like *node*."""
        tree, work = self.tree, self.work
        if not node.links:
            raise OSError(errno.ESTALE, "file was removed")
        parent, name = node.links[0]
        directory = tree.dirfd(parent, node.layer)
        if node.kind == stat.S_IFLNK:
            os.symlink(os.readlink(name, dir_fd=directory), temporary, dir_fd=work.fd)
        else:
            os.mknod(temporary, stat.S_IFMT(st.st_mode) | 0o600, st.st_rdev, dir_fd=work.fd)
        tree.chdir(directory)
        attributes = self._attributes(name)
        owned = self.owned(node, st)
        os.chown(temporary, owned.uid, owned.gid, dir_fd=work.fd, follow_symlinks=False)
        if node.kind != stat.S_IFLNK:
            os.chmod(temporary, owned.mode, dir_fd=work.fd)
        tree.chdir(work.fd)
        _write_xattrs(temporary, attributes)
        os.utime(temporary, ns=(st.st_atime_ns, st.st_mtime_ns), dir_fd=work.fd, follow_symlinks=False)

    def owned(self, node: Node, st: os.stat_result) -> Owned:
        """Return what the copy is to have: what the file has, or what is recorded for it (`read_overrides`)."""
        uid, gid, mode = st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)
        if self.tree.options.read_overrides:
            recorded = self.tree.override(node)
            if recorded is not None and self.tree.policy.known(recorded):
                uid, gid, mode = recorded[0], recorded[1], stat.S_IMODE(recorded[2])
        return Owned(uid, gid, mode, (st.st_atime_ns, st.st_mtime_ns))

    def _attributes(self, where: int | bytes) -> list[tuple[bytes, bytes]]:
        kept = _read_xattrs(where)
        if self.tree.options.read_overrides:
            kept = [(name, value) for name, value in kept if name not in names.OVERRIDES]
        return kept

    def _finish(self, fd: int, owned: Owned, attributes: list[tuple[bytes, bytes]]) -> None:
        """Give the open copy owner, mode, attributes and times."""
        own = os.fstat(fd)
        if (own.st_uid, own.st_gid) != (owned.uid, owned.gid):
            os.fchown(fd, owned.uid, owned.gid)
        os.fchmod(fd, owned.mode)
        _write_xattrs(fd, attributes)
        os.utime(fd, ns=owned.times)

    def _place(self, temporary: bytes, above: int, name: bytes) -> None:
        with KeptTimes(above):
            rename_at(self.work.fd, temporary, above, name)


class KeptTimes:
    """Gives a directory the times back that it had before the block."""

    def __init__(self, directory: int) -> None:
        self._directory = directory
        self._before = os.fstat(directory)

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        os.utime(self._directory, ns=(self._before.st_atime_ns, self._before.st_mtime_ns))


def _read_xattrs(where: int | bytes) -> list[tuple[bytes, bytes]]:
    """Return the attributes that go with a file: a program's, and recorded owners; not the overlay's own."""
    if isinstance(where, int):
        listed = list_xattrs(where)
        return [(name, os.getxattr(where, name)) for name in listed if _travels(name)]
    try:
        listed = [os.fsencode(name) for name in os.listxattr(where, follow_symlinks=False)]
    except OSError as error:
        if error.errno in _LOST:
            return []
        raise
    return [(name, os.getxattr(where, name, follow_symlinks=False)) for name in listed if _travels(name)]


def _travels(name: bytes) -> bool:
    return name in names.OVERRIDES or names.from_disk(name) is not None


def _write_xattrs(where: int | bytes, attributes: list[tuple[bytes, bytes]]) -> None:
    """Set attributes; one that this file system or namespace cannot hold is left out, as kernel overlayfs does."""
    for name, value in attributes:
        try:
            if isinstance(where, int):
                os.setxattr(where, name, value)
            else:
                os.setxattr(where, name, value, follow_symlinks=False)
        except OSError as error:
            if error.errno not in _LOST:
                raise
