"""Requests that make, move and remove names of files: unlink, rename, link, symlink, mknod."""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay.nodes import Node
from fuse_overlay.ops_dir import DirOps
from fuse_overlay.tree import UPPER
from fuse_overlay.whiteouts import EXCHANGE, NOREPLACE, empty, rename_at, set_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class LinkOps(DirOps):
    """Handlers; names and arguments are pyfuse3's."""

    def unlink(self, parent_ino: int, name: bytes, ctx: Any) -> None:
        parent = self.tree.node(parent_ino)
        work = self.writable()
        node = self.existing(parent, name)
        if node.is_dir:
            raise OSError(errno.EISDIR, "is a directory")
        above = self.copyup.directory(parent)
        below = self.tree.has_below(parent, name)
        left = self.losing_name(node)
        if node.layer != UPPER:
            self.marked(parent, work.whiteout_at(above, name, self.unmarked(parent)))
        elif below:
            self.marked(parent, work.whiteout_over(above, name, self.unmarked(parent)))
        else:
            os.unlink(name, dir_fd=above)
        self.lost_name(node, parent, name, left)
        self.changed(parent)

    def losing_name(self, node: Node) -> int:
        """Prepare for the loss of one name; return how many links are left then.

        A file that keeps names which we do not know stays within reach by a descriptor.
        """
        left: int = node.attr.st_nlink - 1
        if left > 0 and len(node.links) == 1 and node.keep < 0:
            if node.layer == UPPER and node.extra_links > 0 and left == node.extra_links:
                self.copyup.park(node)
            else:
                parent, name = node.links[0]
                flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
                node.keep = os.open(name, flags, dir_fd=self.tree.dirfd(parent, node.layer))
        return left

    def lost_name(self, node: Node, parent: Node, name: bytes, left: int) -> None:
        """Note that *name* is gone and *left* links remain."""
        self.tree.table.remove_link(node, parent, name)
        if node.layer != UPPER:
            node.extra_links -= 1
        if left <= 0:
            self.tree.table.bury(node)
            node.pinned = False
            node.attr.st_nlink = 0
            node.fresh = not node.handles
            if node.lookups <= 0:
                self.tree.table.drop_if_idle(node)
        else:
            node.fresh = False

    def link(self, ino: int, parent_ino: int, name: bytes, ctx: Any) -> Any:
        """Give a file one more name."""
        node = self.tree.node(ino)
        parent = self.directory(parent_ino)
        work = self.writable()
        if node.is_dir:
            raise OSError(errno.EPERM, "is a directory")
        if not node.links:
            raise OSError(errno.ENOENT, "file was removed")
        self.copyup.file(node)
        above = self.copyup.directory(parent)
        first, first_name = node.links[0]
        source = self.tree.dirfd(first, UPPER)
        try:
            os.link(first_name, name, src_dir_fd=source, dst_dir_fd=above, follow_symlinks=False)
        except FileExistsError:
            temporary = self.hidden_by_whiteout(parent, name, above)
            os.link(first_name, temporary, src_dir_fd=source, dst_dir_fd=work.fd, follow_symlinks=False)
            self.uncover(temporary, above, name)
        self.tree.table.add_link(node, parent, name)
        self.changed(parent)
        node.fresh = False
        self.tree.refresh(node)
        node.lookups += 1
        return node.attr

    def symlink(self, parent_ino: int, name: bytes, target: bytes, ctx: Any) -> Any:
        def make(where: bytes, directory: int) -> None:
            os.symlink(target, where, dir_fd=directory)

        return self._make(parent_ino, name, stat.S_IFLNK | 0o777, ctx, make)

    def mknod(self, parent_ino: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        """Make a file, fifo, socket or device. A device 0:0 would be a whiteout: EPERM, as in kernel overlayfs."""
        if stat.S_ISCHR(mode) and rdev == 0:
            raise OSError(errno.EPERM, "this is the form of a whiteout")

        def make(where: bytes, directory: int) -> None:
            os.mknod(where, mode, rdev, dir_fd=directory)

        return self._make(parent_ino, name, mode, ctx, make)

    def _make(self, parent_ino: int, name: bytes, mode: int, ctx: Any, make: Any) -> Any:
        """Make an entry by *make*, over a whiteout where one stands there."""
        parent = self.directory(parent_ino)
        above = self.copyup.directory(parent)
        work = self.writable()
        where, directory, temporary = name, above, b""
        try:
            make(where, directory)
        except FileExistsError:
            where = temporary = self.hidden_by_whiteout(parent, name, above)
            directory = work.fd
            make(where, directory)
        try:
            self._own_at(where, directory, mode, ctx, above)
            if temporary:
                self.uncover(temporary, above, name)
        except BaseException:
            os.unlink(where, dir_fd=directory)
            raise
        node = self.made(parent, name, os.stat(name, dir_fd=above, follow_symlinks=False))
        node.lookups += 1
        return node.attr

    def _own_at(self, name: bytes, directory: int, mode: int, ctx: Any, above: int) -> None:
        """Do what `own` does for a file that cannot be opened."""
        uid, gid = self.tree.policy.uids.kept(ctx.uid), self.tree.policy.gids.kept(ctx.gid)
        st = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if self.options.xattr_permissions:
            return
        group = os.fstat(above)
        if group.st_mode & stat.S_ISGID:
            gid = group.st_gid
        if (st.st_uid, st.st_gid) == (uid, gid):
            return
        os.chown(name, uid, gid, dir_fd=directory, follow_symlinks=False)
        if stat.S_IMODE(mode) & 0o6000 and not stat.S_ISLNK(mode):
            os.chmod(name, stat.S_IMODE(mode), dir_fd=directory)

    # ---- rename

    def rename(self, old_ino: int, old: bytes, new_ino: int, new: bytes, flags: int, ctx: Any) -> None:
        """Move a name. A directory with a part in a lower layer cannot: EXDEV, as on kernel overlayfs; mv(1) copies."""
        if flags & ~(NOREPLACE | EXCHANGE) or flags == NOREPLACE | EXCHANGE:
            raise OSError(errno.EINVAL, "unknown flags")
        old_parent, new_parent = self.tree.node(old_ino), self.directory(new_ino)
        self.writable()
        source = self.existing(old_parent, old)
        target = self.tree.child(new_parent, new)
        if target is not None and flags & NOREPLACE:
            raise OSError(errno.EEXIST, "exists")
        if target is None and flags & EXCHANGE:
            raise OSError(errno.ENOENT, "nothing to exchange with")
        if source is target:
            return
        self._movable(source)
        if flags & EXCHANGE and target is not None:
            self._movable(target)
            self._exchange(source, old_parent, old, target, new_parent, new)
        else:
            self._check_replace(source, target)
            self._move(source, old_parent, old, target, new_parent, new)
        self.changed(old_parent, new_parent)

    def _movable(self, node: Node) -> None:
        """Raise EXDEV for a directory that exists below the upper layer."""
        if node.is_dir and self.tree.stack(node) != (UPPER,):
            raise OSError(errno.EXDEV, "directory has a lower part")

    def _check_replace(self, source: Node, target: Node | None) -> None:
        if target is None:
            return
        if target.is_dir and not source.is_dir:
            raise OSError(errno.EISDIR, "is a directory")
        if source.is_dir and not target.is_dir:
            raise OSError(errno.ENOTDIR, "not a directory")
        if target.is_dir and self.tree.list_dir(target):
            raise OSError(errno.ENOTEMPTY, "not empty")

    def _move(
        self, source: Node, old_parent: Node, old: bytes, target: Node | None, new_parent: Node, new: bytes
    ) -> None:
        tree = self.tree
        work = self.writable()
        self.copyup.any(source)
        from_dir, to_dir = self.copyup.directory(old_parent), self.copyup.directory(new_parent)
        uncovers = tree.has_below(old_parent, old)
        if source.is_dir:
            self._hide_below(source, new_parent, new)
        left = self.losing_name(target) if target is not None and not target.is_dir else 0
        if target is not None and target.is_dir and target.layer == UPPER:
            # Its upper part may hold whiteouts. Opaque first: in between, nothing of the lower part may show.
            fd = tree.dirfd(target, UPPER)
            if tree.stack(target) != (UPPER,) and source.is_dir:
                set_opaque(fd)
            empty(fd)
        if source.is_dir and target is None and _occupied(to_dir, new):
            # A directory cannot be renamed over the whiteout there: they change places.
            rename_at(from_dir, old, to_dir, new, EXCHANGE)
            if not uncovers:
                os.unlink(old, dir_fd=from_dir)
            elif UPPER in new_parent.whiteout_files and self.unmarked(old_parent):
                os.unlink(old, dir_fd=from_dir)
                self.marked(old_parent, work.whiteout_at(from_dir, old, True))
        elif uncovers:
            self.marked(old_parent, work.rename_leaving_whiteout(from_dir, old, to_dir, new, self.unmarked(old_parent)))
        else:
            rename_at(from_dir, old, to_dir, new)
        if target is not None:
            if target.is_dir:
                self.buried(target, new_parent, new)
            else:
                self.lost_name(target, new_parent, new, left)
        self._renamed(source, old_parent, old, new_parent, new)

    def _exchange(self, source: Node, old_parent: Node, old: bytes, target: Node, new_parent: Node, new: bytes) -> None:
        tree = self.tree
        self.copyup.any(source)
        self.copyup.any(target)
        from_dir, to_dir = self.copyup.directory(old_parent), self.copyup.directory(new_parent)
        if source.is_dir:
            self._hide_below(source, new_parent, new)
        if target.is_dir:
            self._hide_below(target, old_parent, old)
        rename_at(from_dir, old, to_dir, new, EXCHANGE)
        table = tree.table
        table.remove_link(source, old_parent, old)
        table.remove_link(target, new_parent, new)
        table.add_link(source, new_parent, new)
        table.add_link(target, old_parent, old)
        source.fresh = target.fresh = False

    def _hide_below(self, node: Node, parent: Node, name: bytes) -> None:
        """Prepare the directory *node* to become *name*, where lower layers may have something.

        Without opaque directories (see `hide_below`) its own entries would be hidden too: EXDEV, so that mv(1) copies.
        """
        if not self.tree.has_below(parent, name):
            return
        try:
            set_opaque(self.tree.dirfd(node, UPPER))
        except OSError as error:
            raise OSError(errno.EXDEV if error.errno == errno.EOPNOTSUPP else error.errno, "cannot be opaque") from None
        node.fresh = False

    def _renamed(self, node: Node, old_parent: Node, old: bytes, new_parent: Node, new: bytes) -> None:
        self.tree.table.remove_link(node, old_parent, old)
        self.tree.table.add_link(node, new_parent, new)
        node.fresh = False


def _occupied(directory: int, name: bytes) -> bool:
    """Tell whether something, which can only be a whiteout, stands at *name*."""
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True
