"""Paths inside trees that we do not trust, resolved by the kernel and never by comparing strings.

An image holds whatever symbolic links its author liked, and a running container can change them
under our hands. openat2(2) resolves below a directory descriptor: RESOLVE_IN_ROOT treats absolute
links and `..` as chroot(2) would, RESOLVE_BENEATH refuses them, RESOLVE_NO_MAGICLINKS closes the
way out through /proc/PID/fd.

Source: openat2(2)
"""

from __future__ import annotations

import errno
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd, read_all

# linux/openat2.h: RESOLVE_NO_MAGICLINKS 2, NO_SYMLINKS 4, BENEATH 8, IN_ROOT 16. As numbers, because the extension is
# only loaded by who opens something; a test compares them with the header.
IN_ROOT = 0x10 | 0x02
BENEATH = 0x08 | 0x02 | 0x04
_TYPE, _REGULAR = 0o170000, 0o100000
_STEP = posix.O_PATH | posix.O_DIRECTORY | posix.O_NOFOLLOW | posix.O_CLOEXEC
_MODE_FLAGS = posix.O_CREAT | (posix.O_TMPFILE & ~posix.O_DIRECTORY)


def openat2(directory: Fd, path: bytes, flags: int, mode: int = 0, resolve: int = 0) -> Fd:
    """Open *path* below *directory* as *resolve* says; close-on-exec.

    Raises: KernelError(openat2) - EXDEV/ELOOP: the path leaves the tree or passes a forbidden link
    """
    from rootless.kernel._sys import lib
    from rootless.kernel.check import check

    if not flags & _MODE_FLAGS:
        mode = 0  # EINVAL otherwise
    number = lib.rl_openat2(directory.fileno(), path, flags | posix.O_CLOEXEC, mode, resolve)
    return Fd(check("openat2", number, path))


def open_in_root(root: Fd, path: bytes, flags: int, mode: int = 0) -> Fd:
    """Open *path* as a process chrooted to *root* would see it; links inside are followed."""
    return openat2(root, path or b".", flags, mode, IN_ROOT)


def open_beneath(directory: Fd, path: bytes, flags: int, mode: int = 0) -> Fd:
    """Open *path* below *directory*, following no link at all."""
    return openat2(directory, path, flags, mode, BENEATH)


def open_root(path: str | bytes) -> Fd:
    """Open a host directory as the root of look-ups (O_PATH).

    Raises: KernelError(open)
    """
    try:
        return Fd(posix.open(path, posix.O_PATH | posix.O_DIRECTORY | posix.O_CLOEXEC))
    except OSError as error:
        name = path if isinstance(path, str) else path.decode("utf-8", "backslashreplace")
        raise KernelError("open", error.errno or 0, name) from None


def real_path(path: str) -> str:
    """Return where *path* leads, without links; what cannot be opened, or is no file of a file system, as it is."""
    try:
        number = posix.open(path, posix.O_PATH | posix.O_CLOEXEC)
    except OSError:
        return path
    try:
        found = posix.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return path
    finally:
        posix.close(number)
    return found if found.startswith("/") else path


def read_in_root(root: Fd, path: bytes, limit_bytes: int = 1 << 22) -> bytes | None:
    """Return the first *limit_bytes* of a regular file inside *root*; None if there is none.

    O_NONBLOCK keeps a fifo that stands there from blocking us.
    """
    flags = posix.O_RDONLY | posix.O_NONBLOCK | posix.O_NOCTTY
    try:
        with _open_plain(root, path, flags) or open_in_root(root, path, flags) as fd:
            if posix.fstat(fd.fileno()).st_mode & _TYPE != _REGULAR:
                return None
            return read_all(fd, limit_bytes)
    except KernelError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO, errno.EACCES, errno.EXDEV):
            return None
        raise


def _open_plain(root: Fd, path: bytes, flags: int) -> Fd | None:
    """Open *path* one component after the other without following a link; None where that is not enough.

    A path without links and `..` means the same to everybody, so the kernel's resolver is not needed for it.
    """
    *above, name = [part for part in path.split(b"/") if part not in (b"", b".")] or [b"."]
    if b".." in above or name in (b"..", b"."):
        return None
    here: Fd | None = None
    try:
        for part in above:
            number = posix.open(part, _STEP, dir_fd=(here or root).fileno())
            if here is not None:
                here.close()
            here = Fd(number)
        return Fd(posix.open(name, flags | posix.O_NOFOLLOW | posix.O_CLOEXEC, dir_fd=(here or root).fileno()))
    except OSError:
        return None
    finally:
        if here is not None:
            here.close()


def settle_in_root(root: Fd, path: bytes) -> bytes:
    """Return where *path* would be made inside *root*: links that lead nowhere are followed, `..` stops at the root.

    A path that exists is returned as it is. So a mount target behind a dangling link of the image (as
    /etc/resolv.conf often is) becomes one that the stage can make.

    Raises: KernelError(openat2) - ELOOP: links in a circle; ENOTDIR: a component is a file
    """
    try:
        open_in_root(root, path, posix.O_PATH).close()
        return path
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise
    settled: list[bytes] = []
    waiting = path.split(b"/")[::-1]
    links = 0
    while waiting:
        part = waiting.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            del settled[-1:]
            continue
        try:
            with open_in_root(root, b"/".join([*settled, part]), posix.O_PATH | posix.O_NOFOLLOW) as here:
                target = _link_target(here)
        except KernelError as error:
            if error.errno != errno.ENOENT:
                raise
            target = None
        if target is None:
            settled.append(part)
            continue
        links += 1
        if links > 40:
            raise KernelError("openat2", errno.ELOOP, path.decode("utf-8", "backslashreplace"))
        if target.startswith(b"/"):
            settled.clear()
        waiting += target.split(b"/")[::-1]
    return b"/" + b"/".join(settled)


def _link_target(here: Fd) -> bytes | None:
    """Return what the symbolic link *here* says, None if it is none (readlinkat(2) with an empty path)."""
    try:
        return posix.readlink(b"", dir_fd=here.fileno())
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return None
        raise
