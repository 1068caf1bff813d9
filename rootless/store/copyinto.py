"""Copy files and trees into directories that hold something already, by descriptors only.

A running container may change what it has under our hands: every step names one entry of an open directory and follows
no link. A file appears whole, by rename, except where its name is a mount and cannot be replaced.

Source: podman-cp(1); renameat(2) EBUSY
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.errors import RootlessError
from rootless.kernel.fds import Fd, open_fd
from rootless.store import trees
from rootless.store.copytree import TreeCopier, unshifted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.copytree import Shift

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CHUNK = 1 << 20


class Merger:
    """Copies one selection of files; names of one file stay names of one file.

    Shape: *overwrite*: a directory may take the place of something else, and the other way round
    """

    def __init__(self, shift: Shift = unshifted, *, overwrite: bool = False) -> None:
        self._copier = TreeCopier(shift)
        self._shift = shift
        self._overwrite = overwrite
        self._linked: dict[tuple[int, int], tuple[int, bytes]] = {}
        self._kept: list[Fd] = []

    def close(self) -> None:
        """Close what was kept for hard links."""
        for fd in self._kept:
            fd.close()
        self._kept.clear()
        self._linked.clear()

    def contents(self, src: Fd, dst: Fd) -> None:
        """Copy what the directory *src* holds into *dst*.

        Blocks: for the disk
        Raises: OSError, RootlessError
        """
        for text in os.listdir(src.fileno()):
            name = os.fsencode(text)
            try:
                info = os.stat(name, dir_fd=src.fileno(), follow_symlinks=False)
            except FileNotFoundError:
                continue  # a running container took it away
            if stat.S_ISDIR(info.st_mode):
                with open_fd(name, _DIRECTORY, dir_fd=src) as below:
                    self.directory(below, dst, name)
            else:
                self._node(src, name, info, dst, name)

    def directory(self, src: Fd, dst: Fd, name: bytes) -> None:
        """Copy the directory *src* as *name* in *dst*, into what is there."""
        with self._opened(dst, name) as target:
            self.contents(src, target)
            self._copier.finish_directory(src, os.fstat(src.fileno()), target)

    def made(self, dst: Fd, name: bytes) -> Fd:
        """Return the directory *name* in *dst*, made where it is not there."""
        return self._opened(dst, name)

    def file(self, src: Fd, dst: Fd, name: bytes) -> None:
        """Copy the regular file *src*, open for reading, as *name* in *dst*."""
        info = os.fstat(src.fileno())
        self._make_way(dst, name)
        staged = _staged_name()
        with open_fd(staged, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=dst) as out:
            try:
                self._fill(src, info, out)
                os.rename(staged, name, src_dir_fd=dst.fileno(), dst_dir_fd=dst.fileno())
            except OSError as error:
                os.unlink(staged, dir_fd=dst.fileno())
                if error.errno != errno.EBUSY:
                    raise
                self._in_place(src, dst, name)

    def _fill(self, src: Fd, info: os.stat_result, out: Fd) -> None:
        self._copier.copy_content(src, out, info)

    def _in_place(self, src: Fd, dst: Fd, name: bytes) -> None:
        """Write into a file that something is mounted on: /etc/hosts of a container is one."""
        os.lseek(src.fileno(), 0, os.SEEK_SET)
        with open_fd(name, os.O_WRONLY | os.O_TRUNC | os.O_NOFOLLOW, dir_fd=dst) as out:
            while data := os.read(src.fileno(), _CHUNK):
                view = memoryview(data)
                while view:
                    view = view[os.write(out.fileno(), view) :]

    def _node(self, src: Fd, name: bytes, info: os.stat_result, dst: Fd, target: bytes) -> None:
        key = info.st_dev, info.st_ino
        if info.st_nlink > 1 and key in self._linked:
            at, first = self._linked[key]
            self._make_way(dst, target)
            _unlink(dst, target)
            os.link(first, target, src_dir_fd=at, dst_dir_fd=dst.fileno(), follow_symlinks=False)
            return
        if stat.S_ISREG(info.st_mode):
            with open_fd(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=src) as source:
                if not stat.S_ISREG(os.fstat(source.fileno()).st_mode):
                    return  # it has just been replaced
                self.file(source, dst, target)
        else:
            self._make_way(dst, target)
            _unlink(dst, target)
            self._copier.copy_node(src, name, info, dst, target)
        if info.st_nlink > 1:
            kept = dst.dup()
            self._kept.append(kept)
            self._linked[key] = kept.fileno(), target

    def _opened(self, dst: Fd, name: bytes) -> Fd:
        try:
            os.mkdir(name, 0o700, dir_fd=dst.fileno())
        except FileExistsError:
            info = os.stat(name, dir_fd=dst.fileno(), follow_symlinks=False)
            if not stat.S_ISDIR(info.st_mode):
                if not self._overwrite:
                    raise RootlessError(f"{os.fsdecode(name)}: exists but is not a directory") from None
                os.unlink(name, dir_fd=dst.fileno())
                os.mkdir(name, 0o700, dir_fd=dst.fileno())
        return open_fd(name, _DIRECTORY, dir_fd=dst)

    def _make_way(self, dst: Fd, name: bytes) -> None:
        """Take away a directory that stands where a file is to be, if that is allowed."""
        try:
            info = os.stat(name, dir_fd=dst.fileno(), follow_symlinks=False)
        except FileNotFoundError:
            return
        if stat.S_ISDIR(info.st_mode):
            if not self._overwrite:
                raise RootlessError(f"{os.fsdecode(name)}: exists but is a directory")
            trees.remove_at(dst, os.fsdecode(name))


def _staged_name() -> bytes:
    return b".rootless-cp-" + os.urandom(8).hex().encode()


def _unlink(directory: Fd, name: bytes) -> None:
    try:
        os.unlink(name, dir_fd=directory.fileno())
    except FileNotFoundError:
        pass
