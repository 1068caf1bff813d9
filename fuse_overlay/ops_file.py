"""Requests about the data of files: open, create, read, write, release, fsync."""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import names
from fuse_overlay.attrs import SET_ID
from fuse_overlay.nodes import Node
from fuse_overlay.ops_lookup import LookupOps
from fuse_overlay.tree import UPPER

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_EMPTY: frozenset[bytes] = frozenset()


class FileOps(LookupOps):
    """Handlers; names and arguments are pyfuse3's."""

    def open(self, ino: int, flags: int, ctx: Any) -> Any:
        """Open a regular file. One for writing is copied up, and open for reading too: write-back caching fills pages.

        O_APPEND and O_DIRECT are the kernel's business.
        """
        node = self.tree.node(ino)
        writing = flags & os.O_ACCMODE != os.O_RDONLY or bool(flags & os.O_TRUNC)
        direct = False
        if writing:
            self.writable()
            if node.layer != UPPER:
                self.copyup.file(node, data=not flags & os.O_TRUNC)
            direct = bool(node.attr.st_mode & SET_ID)  # a late write would clear the bits late
        fd = -1 if flags & os.O_TRUNC else self.files.share(node, writing)
        if fd < 0:
            fd = self.reopen(node, os.O_RDWR | flags & os.O_TRUNC if writing else os.O_RDONLY)
            self.files.add(node, fd, writing)
        if flags & os.O_TRUNC:
            self.wrote(node)
        info = self.info
        info.fh = fd
        info.direct_io = direct
        return info

    def create(self, parent_ino: int, name: bytes, mode: int, flags: int, ctx: Any) -> tuple[Any, Any]:
        """Make a regular file and open it."""
        parent = self.directory(parent_ino)
        above = self.copyup.directory(parent)
        new = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        permissions = stat.S_IMODE(mode)
        try:
            fd = os.open(name, new, permissions, dir_fd=above)
            temporary = b""
        except FileExistsError:
            temporary = self.hidden_by_whiteout(parent, name, above)
            fd = os.open(temporary, new, permissions, dir_fd=self.writable().fd)
        try:
            st = self.own(fd, os.fstat(fd), mode, ctx, above, elsewhere=bool(temporary))
            if temporary:
                self.uncover(temporary, above, name)
        except BaseException:
            os.close(fd)
            if temporary:
                self.writable().discard(temporary)
            raise
        node = self.made(parent, name, st)
        node.lookups += 1
        self.files.add(node, fd, True)
        info = self.info
        info.fh = fd
        info.direct_io = False
        return info, node.attr

    def read(self, fh: int, offset: int, size: int) -> bytes:
        return os.pread(fh, size, offset)

    def write(self, fh: int, offset: int, data: bytes) -> int:
        """Write all of *data*: less would be an error for the kernel's write-back."""
        done = os.pwrite(fh, data, offset)
        while done < len(data):
            more = os.pwrite(fh, memoryview(data)[done:], offset + done)
            if more == 0:
                raise OSError(errno.EIO, "short write")
            done += more
        node = self.files.nodes[fh]
        node.fresh = False
        if node.xattrs:
            self.wrote(node)
        return done

    def wrote(self, node: Node) -> None:
        """Note that data changed, which clears a file's capabilities."""
        node.fresh = False
        if node.xattrs and b"security.capability" in node.xattrs:
            node.xattrs = None

    def release(self, fh: int) -> None:
        node = self.files.release(fh)
        if node is not None and node.lookups <= 0:
            self.tree.table.drop_if_idle(node)

    def fsync(self, fh: int, data_only: bool) -> None:
        if self.options.fsync:
            if data_only:
                os.fdatasync(fh)
            else:
                os.fsync(fh)

    # ---- for everything that makes an entry

    def own(
        self, fd: int, st: os.stat_result, mode: int, ctx: Any, above: int, *, elsewhere: bool = False
    ) -> os.stat_result:
        """Give a new file behind *fd* to the one who asked for it; return its stat values.

        In a set-group-id directory the group is the directory's, as the file system below has set it already, unless
        the file was made *elsewhere* than in the directory *above*.
        """
        uid, gid = self.tree.policy.uids.kept(ctx.uid), self.tree.policy.gids.kept(ctx.gid)
        if self.options.xattr_permissions:
            if stat.S_IFMT(st.st_mode) in (stat.S_IFREG, stat.S_IFDIR):
                os.setxattr(fd, self.override_name, names.format_override(uid, gid, st.st_mode))
            return st
        if st.st_uid == uid and st.st_gid == gid and not elsewhere:
            return st
        if st.st_gid != gid or elsewhere:
            directory = os.fstat(above)
            if directory.st_mode & stat.S_ISGID:
                gid = directory.st_gid
        if st.st_uid == uid and st.st_gid == gid:
            return st
        os.fchown(fd, uid, gid)
        if mode & SET_ID:
            os.fchmod(fd, stat.S_IMODE(st.st_mode))
        return os.fstat(fd)

    def hidden_by_whiteout(self, parent: Node, name: bytes, above: int) -> bytes:
        """Return a temporary name for what is to replace the whiteout *name*. Raises: OSError(EEXIST): it is a file"""
        st = os.stat(name, dir_fd=above, follow_symlinks=False)
        layer = self.tree.layers[UPPER]
        if not layer.is_whiteout(name, above, st, extended=UPPER in parent.whiteout_files):
            raise OSError(errno.EEXIST, "exists")
        return self.writable().fresh()

    def uncover(self, temporary: bytes, above: int, name: bytes) -> None:
        """Put the finished file *temporary* in the place of a whiteout."""
        os.rename(temporary, name, src_dir_fd=self.writable().fd, dst_dir_fd=above)

    def made(self, parent: Node, name: bytes, st: os.stat_result) -> Node:
        """Note the new entry; return its node, with attributes but not looked up yet."""
        node = self.tree.enter(parent, name, UPPER, st)
        if node.xattrs is None and parent.xattrs is not None and names.ACL_DEFAULT not in parent.xattrs:
            node.xattrs = _EMPTY
        self.changed(parent)
        return node
