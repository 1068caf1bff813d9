"""The files that the kernel knows, and the names under which we know them.

A node is one inode as seen through the mount. It is made when the kernel looks a name up and goes when the kernel has
forgotten it, nothing below it is known and no descriptor is open. A directory has one name, and the names of its
ancestors lead to it in every layer that it exists in: a directory with a lower part is never renamed. A file may have
several names (hard links).

Two indexes: by the number that the kernel uses, and by *key*, the place on disk (layer, device, inode), which tells
that two names are links to one file. A file keeps its number when it is copied up; its key changes.
"""

from __future__ import annotations

import stat

from fuse_overlay.attrs import InodeNumbers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from os import stat_result
    from typing import Any

    from fuse_overlay.attrs import Attributes

ROOT_INO = 1
_LAYER_BITS = 13


_NOTHING: dict[Any, Any] = {}  # one for all files: they are many, and have neither entries nor parts


class Node:
    """One inode. Fields of directories are empty in files and the reverse."""

    __slots__ = (
        "attr", "extra_links", "fds", "fresh", "gone", "handles", "ino", "is_dir", "keep", "key", "kids", "kind",
        "layer", "links", "lookups", "lower", "misses", "parked", "pinned", "stack", "version", "whiteout_files",
        "xattrs",
    )  # fmt: skip

    def __init__(self, ino: int, key: int, kind: int, layer: int, attr: Attributes) -> None:
        self.ino = ino
        self.key = key
        self.kind = kind  # S_IFMT of the mode
        self.is_dir = kind == stat.S_IFDIR
        self.layer = layer  # where its data is
        self.attr = attr  # the answer to the kernel, good while `fresh`
        self.fresh = False
        self.links: list[tuple[Node, bytes]] = []
        self.lookups = 0
        self.gone = False  # no name is left, nor can one come back
        self.pinned = False  # kept whatever the kernel forgets
        self.xattrs: frozenset[bytes] | None = None  # the visible names, None: not asked yet
        self.handles: list[int] | tuple[()] = ()  # open descriptors of a file
        self.keep = -1  # a descriptor that stands in for a name
        self.extra_links = 0  # links that are not in the layer of the data
        self.parked = b""  # its name in the work directory, while names are left only in lower layers
        # directories
        self.kids: dict[bytes, Node] = {} if kind == stat.S_IFDIR else _NOTHING
        self.stack: tuple[int, ...] | None = None  # the layers that add up, None: not looked yet
        self.fds: dict[int, int] = {} if kind == stat.S_IFDIR else _NOTHING  # layer -> open descriptor
        self.lower: dict[bytes, int] | None = None  # what the layers below the upper one list
        self.whiteout_files: tuple[int, ...] = ()  # the layers that are marked opaque=x here
        self.misses = 0
        self.version = 0  # counts changes of the entries

    def opened(self, handle: int) -> None:
        """Note an open descriptor."""
        self.handles = [*self.handles, handle]

    def closed(self, handle: int) -> None:
        """Note that a descriptor is no longer open."""
        self.handles = [other for other in self.handles if other != handle] or ()

    def path(self) -> bytes:
        """Return a path from the root of the mount, for messages."""
        parts: list[bytes] = []
        node = self
        while node.links:
            node, name = node.links[0]
            parts.append(name)
        return b"/" + b"/".join(reversed(parts))


class NodeTable:
    """All nodes. *make_attr* makes an empty attribute record; *dropped* is told of each node that goes."""

    def __init__(
        self,
        first_device: int,
        make_attr: Callable[[], Attributes],
        dropped: Callable[[Node], None] = lambda node: None,
    ) -> None:
        self.ids: dict[int, Node] = {}
        self.by_key: dict[int, Node] = {}
        self._alias: dict[int, int] = {}  # key -> number, where it is not the wanted one
        self._numbers = InodeNumbers(first_device)
        self._make_attr = make_attr
        self._dropped = dropped

    def key(self, layer: int, st: stat_result) -> int:
        """Return where *st* is on disk as one number."""
        return (st.st_dev << 64 | st.st_ino) << _LAYER_BITS | layer

    def make_root(self, layer: int, st: stat_result) -> Node:
        """Make the node of the mount's root; it is never dropped."""
        attr = self._make_attr()
        attr.st_ino = ROOT_INO
        root = Node(ROOT_INO, self.key(layer, st), stat.S_IFDIR, layer, attr)
        root.pinned = True
        self.ids[ROOT_INO] = self.by_key[root.key] = root
        return root

    def enter(self, parent: Node, name: bytes, layer: int, st: stat_result) -> Node:
        """Return the node of an entry that was found on disk; a new one unless this is another name of one we know."""
        key = self.key(layer, st)
        node = self.by_key.get(key)
        kind = stat.S_IFMT(st.st_mode)
        if node is None or node.gone or node.kind != kind or kind == stat.S_IFDIR:
            ino = self._alias.get(key, 0)
            if not ino:
                ino = self._numbers.wanted(st.st_dev, st.st_ino)
            if not ino or ino in self.ids:
                ino = self._numbers.own()
                self._alias[key] = ino
            attr = self._make_attr()
            attr.st_ino = ino
            node = Node(ino, key, kind, layer, attr)
            self.ids[ino] = self.by_key[key] = node
        self.add_link(node, parent, name)
        return node

    def add_link(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* is *node*."""
        parent.kids[name] = node
        if (parent, name) not in node.links:
            node.links.append((parent, name))

    def remove_link(self, node: Node, parent: Node, name: bytes) -> None:
        """Note that *name* in *parent* is no longer *node*."""
        if parent.kids.get(name) is node:
            del parent.kids[name]
        node.links.remove((parent, name))

    def moved_up(self, node: Node, layer: int, st: stat_result, *, keep_old: bool = False) -> None:
        """Give *node* its new place on disk; its number stays. With *keep_old* the old place leads to it as well."""
        if self.by_key.get(node.key) is node and not keep_old:
            del self.by_key[node.key]
        node.key = self.key(layer, st)
        node.layer = layer
        self.by_key[node.key] = node
        self._alias[node.key] = node.ino

    def bury(self, node: Node) -> None:
        """Note that the inode itself is gone from disk; its place may be used again at once."""
        node.gone = True
        if self.by_key.get(node.key) is node:
            del self.by_key[node.key]
        self._alias.pop(node.key, None)

    def forget(self, ino: int, count: int) -> None:
        """Take back *count* of the kernel's lookups."""
        node = self.ids.get(ino)
        if node is None:
            return
        node.lookups -= count
        if node.lookups <= 0:
            self.drop_if_idle(node)

    def drop_if_idle(self, node: Node) -> None:
        """Drop *node*, then its parents, as far as nobody needs them."""
        pending = [node]
        while pending:
            node = pending.pop()
            if node.lookups > 0 or node.kids or node.handles or node.pinned or self.ids.get(node.ino) is not node:
                continue
            del self.ids[node.ino]
            if self.by_key.get(node.key) is node:
                del self.by_key[node.key]
            self._dropped(node)
            for parent, name in node.links:
                if parent.kids.get(name) is node:
                    del parent.kids[name]
                    if parent.lookups <= 0:
                        pending.append(parent)
            node.links = []
