"""System calls on files that the posix module lacks: by descriptor, without following links.

Source: renameat2(2), ioctl_ficlone(2), fchownat(2), linkat(2), statx(2), syncfs(2)
"""

from __future__ import annotations

from rootless.kernel._sys import ffi, lib
from rootless.kernel.check import check
from rootless.kernel.fds import Fd


def renameat2(from_dir: Fd, from_name: bytes, to_dir: Fd, to_name: bytes, flags: int = 0) -> None:
    """Rename with RENAME_NOREPLACE, RENAME_EXCHANGE or RENAME_WHITEOUT."""
    check("renameat2", lib.rl_renameat2(from_dir.fileno(), from_name, to_dir.fileno(), to_name, flags), to_name)


def ficlone(dst: Fd, src: Fd) -> bool:
    """Make *dst* share the blocks of *src*; False where the file system cannot (EOPNOTSUPP, EXDEV, EINVAL, ENOTTY)."""
    result = lib.rl_ficlone(dst.fileno(), src.fileno())
    if result in (-95, -18, -22, -25, -1):
        return False
    check("ioctl(FICLONE)", result)
    return True


def fchownat(directory: Fd, name: bytes, uid: int, gid: int) -> None:
    """Change the owner of *name* itself (links are not followed; b"" is the directory fd itself)."""
    flags = lib.AT_SYMLINK_NOFOLLOW | (lib.AT_EMPTY_PATH if not name else 0)
    check("fchownat", lib.rl_fchownat(directory.fileno(), name, uid, gid, flags), name)


def linkat_fd(fd: Fd, to_dir: Fd, to_name: bytes) -> None:
    """Give the file behind *fd* another name. AT_EMPTY_PATH needs CAP_DAC_READ_SEARCH, so /proc is the way."""
    source = f"/proc/self/fd/{fd.fileno()}".encode()
    check("linkat", lib.rl_linkat(lib.AT_FDCWD, source, to_dir.fileno(), to_name, lib.AT_SYMLINK_FOLLOW), to_name)


def mount_id(fd: Fd) -> int:
    """Return the id of the mount that *fd* is on."""
    out = ffi.new("uint64_t *")
    check("statx", lib.rl_statx_mnt_id(fd.fileno(), b"", lib.AT_EMPTY_PATH, out))
    return int(out[0])


def syncfs(fd: Fd) -> None:
    """Write the whole file system of *fd* to its disk. Blocks: yes"""
    check("syncfs", lib.rl_syncfs(fd.fileno()))
