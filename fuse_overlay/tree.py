"""The merged tree: finds names in the layers, keeps directories open, reads attributes.

Nobody else changes the layers while they are mounted. So whatever was read of a lower layer stays true, and what was
read of the upper one stays true until we change it ourselves (`Node.fresh`).
"""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import merge, names
from fuse_overlay.attrs import AttrPolicy, shown_nlink
from fuse_overlay.layer import Layer, list_xattrs
from fuse_overlay.nodes import Node, NodeTable
from fuse_overlay.options import Options

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from fuse_overlay.attrs import Attributes

UPPER = 0
_PROBES_BEFORE_LISTING = 24
"""After so many look-ups in lower layers that found nothing, a directory's lower layers are listed once and for all."""


class Tree:
    """The layers, the nodes, and the way from a node to a file on disk.

    Layers are numbered from the top: UPPER is the writable one, if there is one; lower ones begin at 1.
    Descriptors are plain numbers in this package: a request uses several, and the table of nodes owns them.
    """

    def __init__(
        self,
        options: Options,
        layers: dict[int, Layer],
        *,
        make_attr: Callable[[], Attributes],
        uid_map: str = "0 0 4294967295",
        gid_map: str = "0 0 4294967295",
        max_open_dirs: int = 256,
    ) -> None:
        self.options = options
        self.layers = layers
        self.writable = UPPER in layers
        self.policy = AttrPolicy(options, uid_map, gid_map)
        self.overrides = options.xattr_permissions != 0 or options.read_overrides
        top = min(layers)
        self.table = NodeTable(layers[top].device, make_attr, self._close_all)
        self.max_open_dirs = max_open_dirs
        self.crowded = False  # `trim` has something to do
        self._open_dirs: dict[int, tuple[Node, int]] = {}  # descriptor -> whose, oldest first
        self.adopt: Callable[[Node, Node, bytes], None] = lambda node, parent, name: None
        self._here = -1  # the descriptor that is our working directory
        self.root = self.table.make_root(top, os.fstat(layers[top].root))
        self._open_root()

    def _open_root(self) -> None:
        """Open the root in each layer, from the top to the first opaque one."""
        marked = []

        def look(index: int) -> tuple[int, bool]:
            opaque, extended, shown = self.layers[index].markers(self.layers[index].root)
            if extended:
                marked.append(index)
            if index == self.root.layer:
                self.root.xattrs = shown
            self.root.fds[index] = self.layers[index].root
            return merge.DIRECTORY, opaque

        self.root.stack = merge.stack_below(sorted(self.layers), look)
        self.root.whiteout_files = tuple(marked)

    # ---- nodes and directories

    def node(self, ino: int) -> Node:
        """Return the node that the kernel calls *ino*. Raises: OSError(ESTALE)"""
        node = self.table.ids.get(ino)
        if node is None:
            raise OSError(errno.ESTALE, "unknown inode")
        return node

    def dirfd(self, node: Node, layer: int) -> int:
        """Return an open descriptor of the directory *node* in *layer*; it stays open until `trim`."""
        fd = node.fds.get(layer, -1)
        if fd >= 0:
            return fd
        if node.gone:
            raise OSError(errno.ENOENT, "directory was removed")
        parent, name = node.links[0]
        fd = self.layers[layer].open_dir(name, self.dirfd(parent, layer))
        self.remember_dir(node, layer, fd)
        return fd

    def remember_dir(self, node: Node, layer: int, fd: int) -> None:
        """Keep *fd* as the directory *node* in *layer*."""
        node.fds[layer] = fd
        self._open_dirs[fd] = (node, layer)
        self.crowded = len(self._open_dirs) > self.max_open_dirs

    def trim(self) -> None:
        """Close the oldest directories when too many are open. Only between requests: handlers hold numbers."""
        self.crowded = False
        if len(self._open_dirs) <= self.max_open_dirs:
            return
        for fd in list(self._open_dirs)[: self.max_open_dirs // 2]:
            node, layer = self._open_dirs[fd]
            self.close_dir(node, layer)

    def close_dir(self, node: Node, layer: int) -> None:
        """Close the descriptor that is kept for *node* in *layer*."""
        fd = node.fds.pop(layer, -1)
        if fd >= 0 and self._open_dirs.pop(fd, None) is not None:
            if fd == self._here:
                self._here = -1
            os.close(fd)

    def _close_all(self, node: Node) -> None:
        for layer in list(node.fds):
            self.close_dir(node, layer)
        if node.keep >= 0:
            os.close(node.keep)
            node.keep = -1

    def chdir(self, fd: int) -> None:
        """Make the directory *fd* the working directory: some calls have no form that takes a descriptor."""
        if fd != self._here:
            os.fchdir(fd)
            self._here = fd

    def stack(self, node: Node) -> tuple[int, ...]:
        """Return the layers that add up to the directory *node*, top first; empty for one that was removed."""
        if node.stack is not None:
            return node.stack
        parent, name = node.links[0]
        candidates = [layer for layer in self.stack(parent) if layer >= node.layer]
        marked = []

        def look(layer: int) -> tuple[int, bool]:
            try:
                fd = self.layers[layer].open_dir(name, self.dirfd(parent, layer))
            except FileNotFoundError:
                return merge.ABSENT, False
            except OSError as error:
                if error.errno in (errno.ENOTDIR, errno.ELOOP):
                    return merge.OTHER, False  # a whiteout, or a file that hides what is below
                raise
            self.remember_dir(node, layer, fd)
            opaque, extended, shown = self.layers[layer].markers(fd)
            if extended:
                marked.append(layer)
            if layer == node.layer:
                node.xattrs = shown
            return merge.DIRECTORY, opaque

        node.stack = merge.stack_below(candidates, look)
        node.whiteout_files = tuple(marked)
        return node.stack

    # ---- names

    def child(self, parent: Node, name: bytes) -> Node | None:
        """Return the node of an entry, its attributes fresh, or None."""
        node = parent.kids.get(name)
        if node is None:
            found = self.find(parent, name)
            if found is None:
                return None
            return self.enter(parent, name, *found)
        if not node.fresh:
            self.refresh(node)
        return node

    def enter(self, parent: Node, name: bytes, layer: int, st: os.stat_result) -> Node:
        """Return the node of an entry found in *layer* with stat values *st*."""
        node = self.table.enter(parent, name, layer, st)
        if node.layer != layer:
            self.adopt(node, parent, name)  # a link to a file that was copied up under another name
            self.refresh(node)
        if not node.fresh:
            self.fill(node, st)
        return node

    def find(self, parent: Node, name: bytes) -> tuple[int, os.stat_result] | None:
        """Look on disk for *name*: (layer, stat values) of what is visible, None if nothing is."""
        stack = parent.stack
        if stack is None:
            stack = self.stack(parent)
        if stack and stack[0] == UPPER:
            st = self.stat_in(parent, name, UPPER)
            if st is not None:
                if self.layers[UPPER].is_whiteout(
                    name, self.dirfd(parent, UPPER), st, extended=UPPER in parent.whiteout_files
                ):
                    return None
                return UPPER, st
            if len(stack) == 1:
                return None
        return self.find_below(parent, name)

    def find_below(self, parent: Node, name: bytes) -> tuple[int, os.stat_result] | None:
        """Do the same without the upper layer."""
        lower = parent.lower
        if lower is None and parent.misses >= _PROBES_BEFORE_LISTING:
            lower = self.list_below(parent)
        if lower is not None:
            layer = lower.get(name)
            if layer is None:
                return None
            st = self.stat_in(parent, name, layer)
            return None if st is None else (layer, st)
        for layer in self.stack(parent):
            if layer == UPPER:
                continue
            st = self.stat_in(parent, name, layer)
            if st is None:
                parent.misses += 1
                continue
            extended = layer in parent.whiteout_files
            if self.layers[layer].is_whiteout(name, self.dirfd(parent, layer), st, extended=extended):
                return None
            return layer, st
        return None

    def has_below(self, parent: Node, name: bytes) -> bool:
        """Tell whether *name* would be visible if the upper layer had nothing there."""
        stack = self.stack(parent)
        if not stack or stack == (UPPER,):
            return False
        return self.find_below(parent, name) is not None

    def names_below(self, parent: Node, name: bytes) -> list[bytes]:
        """Return what the directory *name* would show if the upper layer had nothing there; nothing if it is none."""
        opened: dict[int, int] = {}
        marked: dict[int, bool] = {}

        def look(layer: int) -> tuple[int, bool]:
            try:
                fd = self.layers[layer].open_dir(name, self.dirfd(parent, layer))
            except FileNotFoundError:
                return merge.ABSENT, False
            except NotADirectoryError:
                return merge.OTHER, False
            opened[layer] = fd
            opaque, marked[layer], _ = self.layers[layer].markers(fd)
            return merge.DIRECTORY, opaque

        try:
            stack = merge.stack_below([layer for layer in self.stack(parent) if layer != UPPER], look)
            parts = [(at, list(self.layers[at].entries(opened[at], extended=marked[at]))) for at in stack]
            return list(merge.list_names(parts))
        finally:
            for fd in opened.values():
                os.close(fd)

    def stat_in(self, parent: Node, name: bytes, layer: int) -> os.stat_result | None:
        """Return the stat values of *name* in one layer's part of *parent*."""
        try:
            return os.stat(name, dir_fd=self.dirfd(parent, layer), follow_symlinks=False)
        except FileNotFoundError:
            return None

    def list_below(self, parent: Node) -> dict[bytes, int]:
        """Return what the layers below the upper one list in *parent*: read once, true for ever."""
        if parent.lower is None:
            stack = self.stack(parent)
            parts = [layer for layer in stack if layer != UPPER]
            parent.lower = merge.list_names((layer, self._entries(parent, layer)) for layer in parts)
        return parent.lower

    def list_dir(self, node: Node) -> dict[bytes, int]:
        """Return name -> layer of everything that the directory *node* shows."""
        stack = self.stack(node)
        if node.gone or not stack:
            return {}
        if stack[0] == UPPER:
            above = list(self._entries(node, UPPER))
            if len(stack) == 1:
                return merge.list_names([(UPPER, above)])
            below = self.list_below(node)
            hidden = {name for name, _ in above}
            listed = {name: layer for name, layer in below.items() if name not in hidden}
            listed.update((name, UPPER) for name, kind in above if kind != merge.WHITEOUT)
            return listed
        return self.list_below(node)

    def _entries(self, node: Node, layer: int) -> list[tuple[bytes, int]]:
        return list(self.layers[layer].entries(self.dirfd(node, layer), extended=layer in node.whiteout_files))

    # ---- attributes

    def refresh(self, node: Node) -> None:
        """Read the attributes of *node* from disk again."""
        self.fill(node, self.stat(node))

    def stat(self, node: Node) -> os.stat_result:
        """Return the stat values of *node* where its data is. Raises: OSError(ESTALE): it has no name any more"""
        if node.is_dir:
            return os.fstat(self.dirfd(node, node.layer))
        if node.links:
            parent, name = node.links[0]
            return os.stat(name, dir_fd=self.dirfd(parent, node.layer), follow_symlinks=False)
        return os.fstat(self.any_fd(node))

    def any_fd(self, node: Node) -> int:
        """Return a descriptor that stands for a file without a name."""
        if node.handles:
            return node.handles[0]
        if node.keep >= 0:
            return node.keep
        raise OSError(errno.ESTALE, "file was removed")

    def fill(self, node: Node, st: os.stat_result) -> None:
        """Set the answer to the kernel from stat values."""
        nlink = st.st_nlink
        if node.is_dir or node.extra_links:
            nlink = self._nlink(node, nlink)
        override = self.override(node) if self.overrides else None
        self.policy.fill(node.attr, st, nlink, override)
        node.fresh = True

    def _nlink(self, node: Node, on_disk: int) -> int:
        merged = False
        if node.is_dir:
            merged = len(node.stack) > 1 if node.stack is not None else self._may_merge(node)
        static = self.options.static_nlink
        return shown_nlink(on_disk, directory=node.is_dir, merged=merged, static=static, extra=node.extra_links)

    def _may_merge(self, node: Node) -> bool:
        """Tell whether a directory that was not looked into may have parts in lower layers."""
        return bool(node.links) and self.stack(node.links[0][0])[-1:] != (node.layer,)

    def override(self, node: Node) -> tuple[int, int, int, int] | None:
        """Return the owner and mode that an attribute of *node* records; copy-up of `read_overrides` has set them."""
        if node.layer == UPPER and not self.options.xattr_permissions:
            return None
        for name in names.OVERRIDES:
            try:
                value = self.on_path(node, os.getxattr, name)
            except OSError as error:
                if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.ESTALE):
                    continue
                raise
            return names.parse_override(value)
        return None

    def on_path(self, node: Node, call: Callable[..., bytes], *args: object) -> bytes:
        """Call one of the xattr functions on *node* itself, wherever it is."""
        if node.is_dir:
            return call(self.dirfd(node, node.layer), *args)
        if not node.links:
            return call(self.any_fd(node), *args)
        parent, name = node.links[0]
        self.chdir(self.dirfd(parent, node.layer))
        return call(name, *args, follow_symlinks=False)

    def xattr_names(self, node: Node) -> frozenset[bytes]:
        """Return the attribute names that a program sees of *node*."""
        if node.xattrs is None:
            if node.is_dir and node.layer in node.fds:
                node.xattrs = names.visible(list_xattrs(node.fds[node.layer]))
            else:
                listed = self.on_path(node, _listed)
                node.xattrs = names.visible(listed.split(b"\0")[:-1])
        return node.xattrs


def _listed(where: int | bytes, **how: bool) -> bytes:
    """os.listxattr with bytes, as one string with each name ended by a zero byte."""
    try:
        return b"".join(os.fsencode(name) + b"\0" for name in os.listxattr(where, **how))
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EACCES, errno.EPERM):
            return b""
        raise


def is_regular(node: Node) -> bool:
    """Tell whether *node* is a regular file."""
    return node.kind == stat.S_IFREG
