"""What programs hold open.

A file handle is the number of our descriptor, so reading and writing need no table. Opens of one file in one mode share
a descriptor. A directory handle lists what was there when it was read from the start, as POSIX wants of rewinddir(3).
"""

from __future__ import annotations

import os

from fuse_overlay.nodes import Node

FIRST_DIR_HANDLE = 1 << 32


class FileHandles:
    """The open files: descriptor -> node, and how often it is open."""

    def __init__(self) -> None:
        self.nodes: dict[int, Node] = {}
        self._counts: dict[int, int] = {}
        self._shared: dict[tuple[int, bool], int] = {}  # (inode number, for writing) -> descriptor

    def share(self, node: Node, writing: bool) -> int:
        """Return the descriptor that *node* is open with already, counted once more; -1 if there is none."""
        fd = self._shared.get((node.ino, writing), -1)
        if fd >= 0:
            self._counts[fd] += 1
        return fd

    def add(self, node: Node, fd: int, writing: bool) -> int:
        """Take over *fd* as an open file of *node*; return the handle."""
        node.opened(fd)
        self.nodes[fd] = node
        self._counts[fd] = 1
        self._shared[node.ino, writing] = fd
        return fd

    def release(self, fd: int) -> Node | None:
        """Count one close; return the node when its descriptor was closed with it."""
        self._counts[fd] -= 1
        if self._counts[fd] > 0:
            return None
        del self._counts[fd]
        node = self.nodes.pop(fd)
        node.closed(fd)
        for writing in (False, True):
            if self._shared.get((node.ino, writing)) == fd:
                del self._shared[node.ino, writing]
        os.close(fd)
        return node


class DirHandle:
    """An open directory and what it listed."""

    __slots__ = ("listed", "names", "node", "version")

    def __init__(self, node: Node) -> None:
        self.node = node
        self.names: list[bytes] | None = None
        self.listed: dict[bytes, int] = {}
        self.version = -1


class DirHandles:
    """The open directories."""

    def __init__(self) -> None:
        self._open: dict[int, DirHandle] = {}
        self._next = FIRST_DIR_HANDLE

    def add(self, node: Node) -> int:
        self._next += 1
        self._open[self._next] = DirHandle(node)
        node.opened(self._next)
        return self._next

    def get(self, number: int) -> DirHandle:
        return self._open[number]

    def release(self, number: int) -> Node:
        node = self._open.pop(number).node
        node.closed(number)
        return node
