"""Unpack layers in this process and describe what is on disk; call it inside a user namespace."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from rootless.kernel.fds import Fd, open_fd
from rootless.store import merged, trees
from rootless.unpack import ownership
from rootless.unpack.extract import Extractor
from rootless.unpack.finish import finish
from rootless.unpack.reading import Piped, Reader
from rootless.unpack.worker import Worker
from tests.support.images import Layer
from tests.support.userns import in_userns

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """One file of an unpacked layer. `kind` is a letter as ls(1) has it, w a whiteout."""

    kind: str
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    inode: int
    content: bytes = b""  # or the target of a link
    xattrs: tuple[tuple[str, bytes], ...] = ()
    blocks: int = 0


Tree = dict[str, Node]


@dataclass(frozen=True)
class Unpacked:
    """The layers of an image on disk, base first, and what their workers reported."""

    directories: tuple[str, ...]
    results: tuple[dict[str, Any], ...]

    def layer(self, index: int) -> Tree:
        return tree(self.directories[index])


def in_layers(
    work: Path, layers: Sequence[Layer], look: Callable[[Unpacked], T], *, ids: str = "subid", umask: int = 0o077
) -> T:
    """Unpack *layers* below *work* in a user namespace and return what *look* returns; nothing is left."""

    def body() -> T:
        os.umask(umask)
        try:
            return look(unpack(work, layers))
        finally:
            for entry in os.listdir(work):
                trees.remove_tree(f"{work}/{entry}")

    return in_userns(body, ids=ids)


def unpack(work: Path, layers: Sequence[Layer]) -> Unpacked:
    """Unpack *layers*, base first, as their worker processes do, one after the other."""
    directories: list[str] = []
    results = []
    before = os.umask(0)
    try:
        for number, layer in enumerate(layers):
            directory, blob = f"{work}/layer{number}", f"{work}/blob{number}"
            os.mkdir(directory, 0o755)
            Path(blob).write_bytes(layer.blob)
            worker = Worker(Extractor(open_fd(directory, os.O_RDONLY | os.O_DIRECTORY), ownership.current()))
            try:
                with Fd(os.open(blob, os.O_RDONLY | os.O_CLOEXEC)) as stream:
                    worker.read(Reader(Piped(stream), "" if layer.compression == "none" else layer.compression))
                with merged.open_layers(reversed(directories)) as lower:
                    finish(worker.layer, lower)
            finally:
                worker.layer.close()
            directories.append(directory)
            results.append(worker.result())
    finally:
        os.umask(before)
    return Unpacked(tuple(directories), tuple(results))


def tree(top: str) -> Tree:
    """Describe everything at and below *top* by its path relative to it; the top itself is "."."""
    found = {".": node(top)}
    for directory, directories, files in os.walk(top):
        for name in (*directories, *files):
            path = f"{directory}/{name}"
            found[os.path.relpath(path, top)] = node(path)
    return found


def node(path: str) -> Node:
    """Describe one file."""
    info = os.lstat(path)
    mode = info.st_mode
    kind = stat.filemode(mode)[0]
    content = b""
    if stat.S_ISREG(mode):
        content = Path(path).read_bytes()
    elif stat.S_ISLNK(mode):
        content = os.fsencode(os.readlink(path))
    elif stat.S_ISCHR(mode) and info.st_rdev == 0:
        kind = "w"
    names = os.listxattr(path, follow_symlinks=False)
    xattrs = tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in sorted(names))
    return Node(
        kind,
        stat.S_IMODE(mode),
        info.st_uid,
        info.st_gid,
        info.st_mtime_ns,
        info.st_ino,
        content,
        xattrs,
        info.st_blocks,
    )
