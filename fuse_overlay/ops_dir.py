"""Requests about directories: opendir, readdir, mkdir, rmdir."""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay.handles import DirHandle
from fuse_overlay.nodes import Node
from fuse_overlay.ops_file import FileOps
from fuse_overlay.tree import UPPER
from fuse_overlay.whiteouts import EXCHANGE, rename_at, set_opaque

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class DirOps(FileOps):
    """Handlers; names and arguments are pyfuse3's."""

    def opendir(self, ino: int, ctx: Any) -> int:
        return self.dirs.add(self.tree.node(ino))

    def readdir(self, fh: int, start: int, token: Any) -> None:
        """Answer with entries from number *start* on until the answer is full; each counts as one look-up.

        Entry 0 is "." and 1 is "..", which do not count.
        """
        handle = self.dirs.get(fh)
        names = self._list(handle, start)
        reply = self.binding.readdir_reply
        node = handle.node
        for at in range(start, min(2, len(names))):
            shown = node if at == 0 or not node.links else node.links[0][0]
            if not reply(token, names[at], self.getattr(shown.ino, None), at + 1):
                return
        kids = node.kids
        for at in range(max(start, 2), len(names)):
            name = names[at]
            entry = kids.get(name)
            if entry is None:
                entry = self._entry(handle, name)
            elif not entry.fresh:
                self.reread(entry)
            if entry is None:
                continue
            if not reply(token, name, entry.attr, at + 1):
                return
            entry.lookups += 1

    def _list(self, handle: DirHandle, start: int) -> list[bytes]:
        """Return the names behind *handle*, read anew when the reader starts from the beginning."""
        if handle.names is None or start == 0:
            handle.version = handle.node.version
            handle.listed = self.tree.list_dir(handle.node)
            handle.names = [b".", b"..", *handle.listed]
        return handle.names

    def _entry(self, handle: DirHandle, name: bytes) -> Node | None:
        """Return the node of a listed name; None if it is gone since."""
        node = handle.node
        if node.gone:
            return None
        if handle.version != node.version:
            return self.tree.child(node, name)
        layer = handle.listed[name]
        st = self.tree.stat_in(node, name, layer)
        return None if st is None else self.tree.enter(node, name, layer, st)

    def releasedir(self, fh: int) -> None:
        node = self.dirs.release(fh)
        if node.lookups <= 0:
            self.tree.table.drop_if_idle(node)

    def fsyncdir(self, fh: int, data_only: bool) -> None:
        node = self.dirs.get(fh).node
        if self.options.fsync and node.layer == UPPER and not node.gone:
            os.fsync(self.tree.dirfd(node, UPPER))

    def mkdir(self, parent_ino: int, name: bytes, mode: int, ctx: Any) -> Any:
        """Make a directory; one that replaces a whiteout is opaque, or it would show what the whiteout hid."""
        parent = self.directory(parent_ino)
        above = self.copyup.directory(parent)
        try:
            os.mkdir(name, stat.S_IMODE(mode), dir_fd=above)
            fd, opaque = self.tree.layers[UPPER].open_dir(name, above), True
        except FileExistsError:
            fd, opaque = self._mkdir_covered(parent, name, mode, above)
        try:
            st = self.own(fd, os.fstat(fd), mode, ctx, above)
        except BaseException:
            os.close(fd)
            os.rmdir(name, dir_fd=above)
            raise
        node = self.made(parent, name, st)
        # A directory that was not there before has nothing below: had a lower layer one, we would have found it.
        if opaque:
            node.stack = (UPPER,)
        self.tree.remember_dir(node, UPPER, fd)
        self.tree.fill(node, st)
        node.lookups += 1
        return node.attr

    def _mkdir_covered(self, parent: Node, name: bytes, mode: int, above: int) -> tuple[int, bool]:
        """Make an opaque directory in the place of a whiteout; return it open, and whether it could be made opaque."""
        work = self.writable()
        temporary = self.hidden_by_whiteout(parent, name, above)
        os.mkdir(temporary, stat.S_IMODE(mode), dir_fd=work.fd)
        fd = -1
        try:
            fd = self.tree.layers[UPPER].open_dir(temporary, work.fd)
            opaque = self.hide_below(fd, parent, name)
            group = os.fstat(above)
            if group.st_mode & stat.S_ISGID:  # what mkdir there would have done
                os.fchown(fd, -1, group.st_gid)
                os.fchmod(fd, stat.S_IMODE(os.fstat(fd).st_mode) | stat.S_ISGID)
            rename_at(work.fd, temporary, above, name, EXCHANGE)
        except BaseException:
            if fd >= 0:
                os.close(fd)
            work.discard(temporary)
            raise
        work.discard(temporary)
        return fd, opaque

    def hide_below(self, fd: int, parent: Node, name: bytes) -> bool:
        """Make the upper directory *fd*, which is to be *name*, show nothing of what lower layers have there.

        Where the file system has no user attributes (tmpfs before 6.6) each entry gets a whiteout instead: False then.
        """
        if not self.tree.has_below(parent, name):
            return True
        try:
            set_opaque(fd)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            for hidden in self.tree.names_below(parent, name):
                self.writable().whiteout_at(fd, hidden, True)
            return False
        return True

    def rmdir(self, parent_ino: int, name: bytes, ctx: Any) -> None:
        parent = self.tree.node(parent_ino)
        work = self.writable()
        node = self.existing(parent, name)
        if not node.is_dir:
            raise OSError(errno.ENOTDIR, "not a directory")
        if self.tree.list_dir(node):
            raise OSError(errno.ENOTEMPTY, "not empty")
        above = self.copyup.directory(parent)
        if self.tree.has_below(parent, name):
            if node.layer == UPPER:
                self.marked(parent, work.whiteout_over_dir(above, name, self.unmarked(parent)))
            else:
                self.marked(parent, work.whiteout_at(above, name, self.unmarked(parent)))
        else:
            try:
                os.rmdir(name, dir_fd=above)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                temporary = work.fresh()  # whiteouts are left in it
                rename_at(above, name, work.fd, temporary)
                work.discard(temporary)
        self.buried(node, parent, name)
        self.changed(parent)

    def buried(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that the directory *node* is gone."""
        for layer in list(node.fds):
            self.tree.close_dir(node, layer)
        self.tree.table.bury(node)
        self.tree.table.remove_link(node, parent, name)
        node.stack = ()
        node.attr.st_nlink = 0
        node.fresh = True

    def unmarked(self, parent: Node) -> bool:
        """Tell whether *parent* has still to be marked before it may hold whiteouts of the second form."""
        return UPPER not in parent.whiteout_files

    def marked(self, parent: Node, extended: bool) -> None:
        """Note the result of putting a whiteout into *parent*."""
        if extended and UPPER not in parent.whiteout_files:
            parent.whiteout_files = (UPPER, *parent.whiteout_files)
