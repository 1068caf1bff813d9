"""Directories of a layer while it is being made: found by the kernel inside the layer's root, kept open, remembered.

A parent is resolved as a process chrooted to the layer would see it (openat2 with RESOLVE_IN_ROOT), because an
earlier entry of the same layer may be a link on the way to it. A parent that no entry has brought is made, and
remembered as implied: at the end it takes owner, mode and times of the directory that it would hide.
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import KernelError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.paths import open_in_root
from rootless.store import merged

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    Path = tuple[bytes, ...]

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY
_CACHED = 64
_LINKS_MAX = 40


class Place:
    """An open directory of the layer; *batch* is the last batch of small files that needs its descriptor."""

    __slots__ = ("batch", "fd", "inode")

    def __init__(self, fd: Fd, inode: int) -> None:
        self.fd = fd
        self.inode = inode
        self.batch = 0


class Places:
    """The directories of one layer.

    Owner: it owns the descriptors that it opens; `close` closes them, the root too
    """

    def __init__(self, root: Fd, settle: Callable[[], None]) -> None:
        """Call *settle* to have everything on disk: before a descriptor goes that is still needed, and before a
        directory is made at a name that may be waiting to become a file."""
        self._settle = settle
        self.batches_done = 0
        self.passages: set[tuple[int, bytes]] = set()
        """(inode of the directory, name) of the directories and links made here: later entries may pass through them,
        so what replaces one cannot wait."""
        self.root = Place(root, os.fstat(root.fileno()).st_ino)
        self.implied: dict[int, Path] = {self.root.inode: ()}
        """Inode -> real path of directories that no entry has brought yet."""
        self.whiteouts: dict[tuple[int, bytes], Path] = {}
        """(inode of the directory, name) -> path of the whiteouts of this layer."""
        self.opaque: set[int] = set()
        """Inodes of directories that hide what is below them."""
        self._cache: dict[Path, Place] = {}

    def parent(self, path: Path) -> Place:
        """Return the directory that the last part of *path* stands in; make it if need be."""
        return self.directory(path[:-1])

    def directory(self, path: Path) -> Place:
        """Return the directory *path*; make it and its parents if need be."""
        if not path:
            return self.root
        place = self._cache.pop(path, None)
        if place is None:
            return self._keep(path, self._look(path) or self._make(path))
        self._cache[path] = place  # the one used last is the last to go
        return place

    def existing(self, path: Path) -> Place | None:
        """Return the directory *path* if it is in this layer."""
        if not path:
            return self.root
        if path in self._cache:
            return self.directory(path)
        fd = self._look(path)
        return None if fd is None else self._keep(path, fd)

    def forget(self) -> None:
        """Drop what is kept open: an entry has replaced a directory or a link, so paths may lead elsewhere now."""
        places = list(self._cache.values())
        self._cache.clear()
        for place in places:
            self._close(place)

    def _close(self, place: Place) -> None:
        if place.batch > self.batches_done:
            self._settle()
        place.fd.close()

    def close(self) -> None:
        """Close everything."""
        self.forget()
        self.root.fd.close()

    def add_implied(self, path: Path, fd: Fd) -> None:
        """Remember that the directory *fd* at the real path *path* was made without an entry."""
        self.implied[os.fstat(fd.fileno()).st_ino] = path

    def _keep(self, path: Path, fd: Fd) -> Place:
        if len(self._cache) >= _CACHED:
            self._close(self._cache.pop(next(iter(self._cache))))
        place = self._cache[path] = Place(fd, os.fstat(fd.fileno()).st_ino)
        return place

    def _look(self, path: Path) -> Fd | None:
        try:
            return open_in_root(self.root.fd, b"/".join(path), _DIRECTORY)
        except KernelError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return None
            raise

    def _make(self, path: Path) -> Fd:
        """Walk to *path* part by part; make what is missing, follow links in the root, replace what is no directory.

        A link to something that only a lower layer has is followed here too: the directories that it names are made.
        """
        self._settle()
        pending = list(reversed(path))
        walked: list[tuple[bytes, Fd]] = []
        links = 0
        try:
            while pending:
                part = pending.pop()
                if part in (b"", b"."):
                    continue
                if part == b"..":
                    if walked:
                        walked.pop()[1].close()
                    continue
                here = walked[-1][1] if walked else self.root.fd
                info = merged.status(here, part)
                if info is not None and stat.S_ISLNK(info.st_mode):
                    links += 1
                    if links > _LINKS_MAX:
                        raise KernelError("openat2", errno.ELOOP, "/".join(os.fsdecode(p) for p in path))
                    target = os.readlink(part, dir_fd=here.fileno())
                    pending.extend(reversed(target.split(b"/")))
                    if target[:1] == b"/":
                        while walked:
                            walked.pop()[1].close()
                    continue
                real = (*[name for name, _ in walked], part)
                walked.append((part, self._step(here, part, info, real)))
            if not walked:
                return self.root.fd.dup()
            return walked.pop()[1]
        finally:
            for _, fd in walked:
                fd.close()

    def _step(self, here: Fd, part: bytes, info: os.stat_result | None, real: Path) -> Fd:
        at = here.fileno()
        made = info is None
        hidden = False
        if info is not None and not stat.S_ISDIR(info.st_mode):
            key = (os.fstat(at).st_ino, part)
            hidden = self.whiteouts.pop(key, None) is not None
            os.unlink(part, dir_fd=at)
            made = True
        if made:
            os.mkdir(part, 0o755, dir_fd=at)
        fd = open_fd(part, _DIRECTORY | os.O_NOFOLLOW, dir_fd=here)
        if hidden:
            # What was below is gone: the directory that comes in its place starts empty and takes nothing from it.
            self.hide(fd)
        elif made:
            self.add_implied(real, fd)
        if made:
            self.passages.add((os.fstat(at).st_ino, part))
        return fd

    def hide(self, fd: Fd) -> None:
        """Mark a directory so that nothing below it shows."""
        os.setxattr(fd.fileno(), merged.OPAQUE, b"y")
        self.opaque.add(os.fstat(fd.fileno()).st_ino)
