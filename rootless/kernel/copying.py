"""Copy what a file holds: shared blocks where the file system can, else in the kernel, else through us; holes stay.

Source: ioctl_ficlone(2), copy_file_range(2), lseek(2) "Seeking file data and holes"
"""

from __future__ import annotations

import errno
import os

from rootless.kernel.fds import Fd
from rootless.kernel.fs import ficlone

_STEP = 1 << 24
_UNABLE = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EBADF)


class Copier:
    """Copies files; remembers what this pair of file systems cannot do, so that it is tried once."""

    def __init__(self) -> None:
        self._clone = True
        self._range = True

    def copy(self, src: Fd, dst: Fd, size_bytes: int) -> None:
        """Fill the empty file *dst* with the *size_bytes* that *src* holds.

        Blocks:  for the disk
        Raises:  OSError — ENOSPC ...
        """
        if size_bytes == 0:
            return
        if self._clone:
            if ficlone(dst, src):
                return
            self._clone = False
        a, b = src.fileno(), dst.fileno()
        at = 0
        while at < size_bytes:
            try:
                start = os.lseek(a, at, os.SEEK_DATA)
                end = min(os.lseek(a, start, os.SEEK_HOLE), size_bytes)
            except OSError as error:
                if error.errno == errno.ENXIO:  # only a hole is left
                    break
                start, end = at, size_bytes
            self._piece(a, b, start, end)
            at = end
        os.ftruncate(b, size_bytes)

    def _piece(self, a: int, b: int, start: int, end: int) -> None:
        while start < end and self._range:
            try:
                done = os.copy_file_range(a, b, min(end - start, _STEP), start, start)
            except OSError as error:
                if error.errno not in _UNABLE:
                    raise
                self._range = False
                break
            if done == 0:
                return
            start += done
        while start < end:
            data = os.pread(a, min(end - start, 1 << 20), start)
            if not data:
                return
            view = memoryview(data)
            while view:
                written = os.pwrite(b, view, start)
                start += written
                view = view[written:]
