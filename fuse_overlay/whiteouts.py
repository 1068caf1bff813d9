"""Changes of the upper layer that must not be seen half done: made in the work directory, then renamed into place.

Source: Documentation/filesystems/overlayfs.rst "whiteouts and opaque directories"; rename(2) RENAME_EXCHANGE,
        RENAME_WHITEOUT
"""

from __future__ import annotations

import errno
import os
import stat

from fuse_overlay import names
from fuse_overlay.layer import Borrowed
from rootless.errors import KernelError
from rootless.kernel._sys import lib
from rootless.kernel.fs import renameat2

NOREPLACE: int = lib.RENAME_NOREPLACE
EXCHANGE: int = lib.RENAME_EXCHANGE
WHITEOUT: int = lib.RENAME_WHITEOUT
_REFUSED = (errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EIO)


def rename_at(from_dir: int, from_name: bytes, to_dir: int, to_name: bytes, flags: int = 0) -> None:
    """renameat2(2) on descriptors that others own. Raises: OSError"""
    if flags:
        renameat2(Borrowed(from_dir), from_name, Borrowed(to_dir), to_name, flags)
    else:
        os.rename(from_name, to_name, src_dir_fd=from_dir, dst_dir_fd=to_dir)


class Workspace:
    """The work directory: temporary names in `<workdir>/work`, emptied when a mount begins."""

    def __init__(self, workdir: str) -> None:
        try:
            fd = os.open(workdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise KernelError("open", error.errno or 0, workdir) from None
        try:
            try:
                os.mkdir(b"work", 0o700, dir_fd=fd)
            except FileExistsError:
                pass
            self.fd = os.open(b"work", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
        except OSError as error:
            raise KernelError("open", error.errno or 0, f"{workdir}/work") from None
        finally:
            os.close(fd)
        self._count = 0
        self._devices = True  # mknod of a whiteout works
        self._rename_whiteout = True
        empty(self.fd)

    def fresh(self) -> bytes:
        """Return a name that is not taken."""
        self._count += 1
        return b"#%x" % self._count

    def discard(self, name: bytes) -> None:
        """Remove *name* and what is below it, if it is there."""
        try:
            remove_tree(self.fd, name)
        except FileNotFoundError:
            pass

    def whiteout_at(self, directory: int, name: bytes, mark: bool) -> bool:
        """Put a whiteout where nothing is. Return True if it has the second form and *directory* was marked for it.

        *mark*: the directory is not known to be marked yet.
        """
        if self._devices:
            try:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=directory)
                return False
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._devices = False  # a file system where only real root may (overlayfs, some network ones)
        temporary = self._make_file(directory, mark)
        rename_at(self.fd, temporary, directory, name)
        return True

    def whiteout_over(self, directory: int, name: bytes, mark: bool) -> bool:
        """Replace the file *name*, in one step, by a whiteout; the result as of `whiteout_at`."""
        temporary, extended = self._make(directory, mark)
        rename_at(self.fd, temporary, directory, name)
        return extended

    def whiteout_over_dir(self, directory: int, name: bytes, mark: bool) -> bool:
        """Replace the directory *name*, whatever it holds, by a whiteout; the result as of `whiteout_at`."""
        temporary, extended = self._make(directory, mark)
        rename_at(self.fd, temporary, directory, name, EXCHANGE)
        self.discard(temporary)
        return extended

    def rename_leaving_whiteout(self, from_dir: int, from_name: bytes, to_dir: int, to_name: bytes, mark: bool) -> bool:
        """Rename and leave a whiteout behind, in one step where the file system can; the result as of `whiteout_at`."""
        if self._devices and self._rename_whiteout:
            try:
                rename_at(from_dir, from_name, to_dir, to_name, WHITEOUT)
                return False
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self._rename_whiteout = False
        rename_at(from_dir, from_name, to_dir, to_name)
        return self.whiteout_at(from_dir, from_name, mark)

    def _make(self, directory: int, mark: bool) -> tuple[bytes, bool]:
        """Make a whiteout in the work directory, to be put into *directory*: (its name, second form)."""
        if self._devices:
            name = self.fresh()
            if not self.whiteout_at(self.fd, name, False):
                return name, False
            self.discard(name)
        return self._make_file(directory, mark), True

    def _make_file(self, directory: int, mark: bool) -> bytes:
        """Make a whiteout of the second form and mark *directory* as one that may hold such."""
        name = self.fresh()
        fd = os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600, dir_fd=self.fd)
        try:
            os.setxattr(fd, names.WHITEOUT, b"y")
            if mark:
                os.setxattr(directory, names.OPAQUE[0], b"x")
        except OSError:
            os.unlink(name, dir_fd=self.fd)
            raise
        finally:
            os.close(fd)
        return name


def set_opaque(directory: int) -> None:
    """Make the directory hide what lower layers have there. Raises: OSError(EOPNOTSUPP): no user attributes here"""
    os.setxattr(directory, names.OPAQUE[0], b"y")


def empty(directory: int) -> None:
    """Remove everything in *directory*, following no link."""
    with os.scandir(directory) as entries:
        found = [(os.fsencode(entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_dir in found:
        if is_dir:
            remove_tree(directory, name)
        else:
            os.unlink(name, dir_fd=directory)


def remove_tree(directory: int, name: bytes) -> None:
    """Remove *name*, a file or a whole directory."""
    try:
        fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except NotADirectoryError:
        os.unlink(name, dir_fd=directory)
        return
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        os.unlink(name, dir_fd=directory)
        return
    try:
        empty(fd)
    finally:
        os.close(fd)
    os.rmdir(name, dir_fd=directory)
