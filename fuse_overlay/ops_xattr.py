"""Requests about extended attributes. Which names a file has is asked once: all changes go through us."""

from __future__ import annotations

import errno
import os

from fuse_overlay import names
from fuse_overlay.ops_link import LinkOps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any


class XattrOps(LinkOps):
    """Handlers; names and arguments are pyfuse3's. The binding looks after XATTR_CREATE and XATTR_REPLACE."""

    def getxattr(self, ino: int, name: bytes, ctx: Any) -> bytes | None:
        """Return the value; None if there is no such attribute, which is what most are told: no exception for it."""
        node = self.tree.node(ino)
        self._allowed()
        if name not in self.tree.xattr_names(node):
            return None
        kept = names.to_disk(name)
        if kept is None:
            return None
        return self.tree.on_path(node, os.getxattr, kept)

    def listxattr(self, ino: int, ctx: Any) -> Sequence[bytes]:
        self._allowed()
        return sorted(self.tree.xattr_names(self.tree.node(ino)))

    def setxattr(self, ino: int, name: bytes, value: bytes, ctx: Any) -> None:
        self._allowed()
        node = self.tree.node(ino)
        self.writable()
        kept = names.to_disk(name)
        if kept is None:
            raise OSError(errno.EPERM, "this attribute is the overlay's own")
        self.copyup.any(node)
        node.xattrs = None
        self.tree.on_path(node, _set, kept, value)
        node.fresh = False

    def removexattr(self, ino: int, name: bytes, ctx: Any) -> None:
        self._allowed()
        node = self.tree.node(ino)
        self.writable()
        kept = names.to_disk(name)
        if kept is None or name not in self.tree.xattr_names(node):
            raise OSError(errno.ENODATA, "no such attribute")
        self.copyup.any(node)
        node.xattrs = None
        self.tree.on_path(node, _remove, kept)
        node.fresh = False

    def _allowed(self) -> None:
        if not self.options.xattrs:
            raise OSError(errno.EOPNOTSUPP, "mounted with noxattrs")


def _set(where: int | bytes, name: bytes, value: bytes, **how: bool) -> bytes:
    os.setxattr(where, name, value, **how)
    return b""


def _remove(where: int | bytes, name: bytes, **how: bool) -> bytes:
    os.removexattr(where, name, **how)
    return b""
