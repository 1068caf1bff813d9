"""Look at a stack of layers as an overlay file system would show it, reading every form of whiteout.

Nothing here follows a symbolic link: layers are looked into one directory at a time, each opened without following,
so an image cannot lead a reader out of its layers.

Source: overlayfs.rst "whiteouts and opaque directories" · architecture.md decision 6
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.kernel.fds import Fd
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    Path = tuple[bytes, ...]

OPAQUE = "user.overlay.opaque"
WHITEOUT = "user.overlay.whiteout"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CACHE_FDS = 256


@record
class Found:
    """A name in the merged tree: the directory of one layer that holds it, and what it is there."""

    directory: Fd
    """Open as long as the Merged is, or until other look-ups have pushed it out: use it at once."""
    name: bytes
    info: os.stat_result


class Merged:
    """A read-only view of layers.

    Owner: it owns the descriptors of its layers; `close` closes them
    """

    def __init__(self, layers: Iterable[Fd]) -> None:
        """Take *layers*, the top one first, as directories open for reading."""
        self._layers = tuple(layers)
        shown = []
        for fd in self._layers:
            shown.append(fd)
            if is_opaque(fd):
                break
        self._dirs: dict[Path, tuple[Fd, ...]] = {(): tuple(shown)}
        self._open = 0

    def find(self, path: Path) -> Found | None:
        """Return what *path* is, None if it is not there."""
        if not path:
            for fd in self._dirs[()]:
                return Found(fd, b".", os.fstat(fd.fileno()))
            return None
        name = path[-1]
        for fd in self.directory(path[:-1]):
            info = status(fd, name)
            if info is not None:
                return None if is_whiteout(fd, name, info) else Found(fd, name, info)
        return None

    def entries(self, path: Path, *, raw: bool = False) -> Iterator[tuple[Fd, bytes, os.stat_result]]:
        """Give (directory, name, status) of what the directory *path* shows, whiteouts too with *raw*.

        No other look-up may come between two steps: it could close the directories.
        """
        seen: set[bytes] = set()
        for fd in self.directory(path):
            for text in os.listdir(fd.fileno()):
                name = os.fsencode(text)
                if name in seen:
                    continue
                seen.add(name)
                info = status(fd, name)
                if info is not None and (raw or not is_whiteout(fd, name, info)):
                    yield fd, name, info

    def directory(self, path: Path) -> tuple[Fd, ...]:
        """Return the directories that are merged at *path*, top first; none if it is no directory."""
        known = self._dirs.get(path)
        if known is not None:
            return known
        shown = self._descend(self.directory(path[:-1]), path[-1])
        if self._open + len(shown) > _CACHE_FDS:
            self._forget()
        self._open += len(shown)
        self._dirs[path] = shown
        return shown

    def _descend(self, parents: tuple[Fd, ...], name: bytes) -> tuple[Fd, ...]:
        shown: list[Fd] = []
        for parent in parents:
            info = status(parent, name)
            if info is None:
                continue
            if not stat.S_ISDIR(info.st_mode):
                break
            fd = Fd(os.open(name, _DIRECTORY, dir_fd=parent.fileno()))
            shown.append(fd)
            if is_opaque(fd):
                break
        return tuple(shown)

    def _forget(self) -> None:
        top = self._dirs.pop(())
        for fds in self._dirs.values():
            for fd in fds:
                fd.close()
        self._dirs = {(): top}
        self._open = 0

    def close(self) -> None:
        """Close everything, the layers too."""
        self._forget()
        for fd in self._layers:
            fd.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_layers(paths: Iterable[str]) -> Merged:
    """Return the view of the layer directories *paths*, top first."""
    fds: list[Fd] = []
    try:
        for path in paths:
            fds.append(Fd(os.open(path, _DIRECTORY)))
        return Merged(fds)
    except BaseException:
        for fd in fds:
            fd.close()
        raise


def status(directory: Fd, name: bytes) -> os.stat_result | None:
    """Return what *name* in *directory* is, itself and not what it points to; None if it is not there."""
    try:
        return os.stat(name, dir_fd=directory.fileno(), follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_whiteout(directory: Fd, name: bytes, info: os.stat_result) -> bool:
    """Say whether *name* stands for "not there"."""
    if stat.S_ISCHR(info.st_mode):
        return info.st_rdev == 0
    if not stat.S_ISREG(info.st_mode) or info.st_size != 0:
        return False
    return attribute(os.fsencode(directory.proc_path()) + b"/" + name, WHITEOUT) is not None


def is_opaque(directory: Fd) -> bool:
    """Say whether the directory hides what the layers below hold in it."""
    return attribute(directory.fileno(), OPAQUE) == b"y"


def attribute(file: int | bytes, name: str) -> bytes | None:
    """Return an extended attribute, None if it is not there or the file system has none."""
    try:
        return os.getxattr(file, name, follow_symlinks=isinstance(file, int))
    except OSError as error:
        if error.errno in (errno.ENODATA, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES):
            return None
        raise
