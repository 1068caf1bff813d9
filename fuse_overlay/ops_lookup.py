"""Requests about one inode: lookup, forget, getattr, setattr, readlink, statfs."""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import names
from fuse_overlay.copyup import CopyUp
from fuse_overlay.handles import DirHandles, FileHandles
from fuse_overlay.nodes import Node
from fuse_overlay.options import Options
from fuse_overlay.tree import UPPER, Tree
from fuse_overlay.whiteouts import Workspace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Binding(Protocol):
        """What we need of pyfuse3; tests bring their own."""

        EntryAttributes: Any
        FileInfo: Any
        StatvfsData: Any
        readdir_reply: Any


class Core:
    """What all handlers share. Every change of the tree goes through one instance; handlers run one after another."""

    def __init__(self, binding: Binding, options: Options, tree: Tree, work: Workspace | None) -> None:
        self.binding = binding
        self.options = options
        self.tree = tree
        self.copyup = CopyUp(tree, work)
        self.files = FileHandles()
        self.dirs = DirHandles()
        # The kernel remembers as well that a name does not exist.
        self.negative = binding.EntryAttributes()
        self.negative.st_ino = 0
        self.negative.entry_timeout = options.timeout
        self.info = binding.FileInfo()  # copied by the binding before the next request
        self.override_name = names.OVERRIDE_PRIVILEGED if options.xattr_permissions == 1 else names.OVERRIDE_CONTAINERS

    def writable(self) -> Workspace:
        """Return the work directory. Raises: OSError(EROFS)"""
        return self.copyup.work

    def directory(self, ino: int) -> Node:
        """Return the directory that is to get a new entry. Raises: OSError(ENOENT): it was removed"""
        node = self.tree.node(ino)
        if node.gone:
            raise OSError(errno.ENOENT, "directory was removed")
        return node

    def existing(self, parent: Node, name: bytes) -> Node:
        """Return the node of an entry. Raises: OSError(ENOENT)"""
        node = None if parent.gone else self.tree.child(parent, name)
        if node is None:
            raise OSError(errno.ENOENT, "no such entry")
        return node

    def changed(self, *nodes: Node) -> None:
        """Note that the attributes of *nodes* on disk are not those we know any more."""
        for node in nodes:
            node.fresh = False
            node.version += 1


class LookupOps(Core):
    """Handlers; names and arguments are pyfuse3's."""

    def lookup(self, parent_ino: int, name: bytes, ctx: Any) -> Any:
        """Find *name*; the answer counts as one look-up."""
        parent = self.tree.node(parent_ino)
        if parent.gone:
            return self.negative
        node = self.tree.child(parent, name)
        if node is None:
            return self.negative
        node.lookups += 1
        return node.attr

    def forget(self, inodes: list[tuple[int, int]]) -> None:
        """Take back look-ups."""
        for ino, count in inodes:
            self.tree.table.forget(ino, count)

    def getattr(self, ino: int, ctx: Any) -> Any:
        node = self.tree.node(ino)
        if not node.fresh:
            self.reread(node)
        return node.attr

    def reread(self, node: Node) -> None:
        """Read the attributes again; what is left of a removed file that nobody holds open is what we knew."""
        if node.gone and (node.is_dir or (not node.handles and node.keep < 0)):
            node.attr.st_nlink = 0
            node.fresh = True
            return
        self.tree.refresh(node)

    def setattr(self, ino: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        """Change owner, mode, size and times, in this order: chown clears set-id bits, writing changes times."""
        node = self.tree.node(ino)
        self.writable()
        if node.gone and (node.is_dir or not (node.handles or node.keep >= 0)):
            # Nobody will see it again. The kernel still writes back times of removed files; that is no error.
            return node.attr
        resize = fields.update_size
        if node.layer != UPPER:
            if resize and node.kind == stat.S_IFREG:
                self.copyup.file(node, data=attr.st_size > 0)
            else:
                self.copyup.any(node)
        node.fresh = False
        if fields.update_uid or fields.update_gid or fields.update_mode:
            self._set_permissions(node, attr, fields)
        if resize:
            self._resize(node, attr.st_size, fh)
        if fields.update_atime or fields.update_mtime:
            self._set_times(node, attr, fields)
        self.reread(node)
        return node.attr

    def _set_permissions(self, node: Node, attr: Any, fields: Any) -> None:
        uid = self.tree.policy.uids.kept(attr.st_uid) if fields.update_uid else -1
        gid = self.tree.policy.gids.kept(attr.st_gid) if fields.update_gid else -1
        if self.options.xattr_permissions and node.kind in (stat.S_IFREG, stat.S_IFDIR):
            self._record_permissions(node, uid, gid, attr.st_mode if fields.update_mode else -1)
            return
        if uid >= 0 or gid >= 0:
            if node.xattrs and b"security.capability" in node.xattrs:
                node.xattrs = None  # chown clears it
            where, how = self.place(node)
            os.chown(where, uid, gid, **how)
        if fields.update_mode:
            if node.kind == stat.S_IFLNK:
                raise OSError(errno.EOPNOTSUPP, "symbolic links have no mode")
            where, how = self.place(node, follow=True)
            os.chmod(where, stat.S_IMODE(attr.st_mode), **how)

    def _record_permissions(self, node: Node, uid: int, gid: int, mode: int) -> None:
        """Keep owner and mode in an attribute (xattr_permissions); the file on disk stays ours."""
        st = self.tree.stat(node)
        old = self.tree.override(node) or (st.st_uid, st.st_gid, st.st_mode, 0)
        new_mode = stat.S_IMODE(mode if mode >= 0 else old[2])
        value = names.format_override(uid if uid >= 0 else old[0], gid if gid >= 0 else old[1], new_mode)
        self.tree.on_path(node, _setxattr, self.override_name, value)

    def _resize(self, node: Node, size: int, fh: int | None) -> None:
        if fh is not None and fh in self.files.nodes and self.files.share(node, True) == fh:
            self.files.release(fh)
            os.ftruncate(fh, size)
            return
        fd = self.reopen(node, os.O_RDWR)
        try:
            os.ftruncate(fd, size)
        finally:
            os.close(fd)

    def _set_times(self, node: Node, attr: Any, fields: Any) -> None:
        # utimensat(2) sets both. A write does not change the time of access: the one we know is good enough then.
        atime = attr.st_atime_ns if fields.update_atime else node.attr.st_atime_ns
        mtime = attr.st_mtime_ns if fields.update_mtime else self.tree.stat(node).st_mtime_ns
        where, how = self.place(node)
        os.utime(where, ns=(atime, mtime), **how)

    def place(self, node: Node, *, follow: bool = False) -> tuple[Any, dict[str, Any]]:
        """Return the first argument and the keywords with which the os functions reach *node* itself.

        chmod has no form that does not follow links: *follow* leaves that to the caller, who asks the kind first.
        """
        if node.is_dir:
            return self.tree.dirfd(node, node.layer), {}
        if not node.links:
            return self.tree.any_fd(node), {}
        parent, name = node.links[0]
        how: dict[str, Any] = {"dir_fd": self.tree.dirfd(parent, node.layer)}
        if not follow:
            how["follow_symlinks"] = False
        return name, how

    def reopen(self, node: Node, flags: int) -> int:
        """Open the data of a regular file; one without a name by the descriptor that is left of it."""
        if node.links:
            parent, name = node.links[0]
            return self.tree.layers[node.layer].open(name, flags, self.tree.dirfd(parent, node.layer))
        return os.open(b"/proc/self/fd/%d" % self.tree.any_fd(node), flags | os.O_CLOEXEC)

    def readlink(self, ino: int, ctx: Any) -> bytes:
        node = self.tree.node(ino)
        if not node.links:
            raise OSError(errno.ESTALE, "link was removed")
        parent, name = node.links[0]
        return os.readlink(name, dir_fd=self.tree.dirfd(parent, node.layer))

    def statfs(self, ctx: Any) -> Any:
        """Tell about the file system of the topmost layer, where new data goes."""
        st = os.fstatvfs(self.tree.layers[self.tree.root.layer].root)
        out = self.binding.StatvfsData()
        for field in (
            "f_bsize", "f_frsize", "f_blocks", "f_bfree", "f_bavail", "f_files", "f_ffree", "f_favail", "f_namemax",
        ):  # fmt: skip
            setattr(out, field, getattr(st, field))
        return out


def _setxattr(where: int | bytes, name: bytes, value: bytes, **how: bool) -> bytes:
    os.setxattr(where, name, value, **how)
    return b""
