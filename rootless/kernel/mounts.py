"""The mount system calls, old and new, by the kernel's names and argument orders.

Source: mount(2), umount2(2), pivot_root(2), fsopen(2), fsconfig(2), fsmount(2), open_tree(2), move_mount(2),
        mount_setattr(2)
"""

from __future__ import annotations

from rootless.kernel._sys import ffi, lib
from rootless.kernel.check import check, path_bytes
from rootless.kernel.fds import Fd

MS_RDONLY: int = lib.MS_RDONLY
MS_NOSUID: int = lib.MS_NOSUID
MS_NODEV: int = lib.MS_NODEV
MS_NOEXEC: int = lib.MS_NOEXEC
MS_REMOUNT: int = lib.MS_REMOUNT
MS_BIND: int = lib.MS_BIND
MS_REC: int = lib.MS_REC
MS_PRIVATE: int = lib.MS_PRIVATE
MS_SLAVE: int = lib.MS_SLAVE
MNT_DETACH: int = lib.MNT_DETACH
MOUNT_ATTR_RDONLY: int = lib.MOUNT_ATTR_RDONLY
MOUNT_ATTR_NOSUID: int = lib.MOUNT_ATTR_NOSUID
MOUNT_ATTR_NODEV: int = lib.MOUNT_ATTR_NODEV
MOUNT_ATTR_IDMAP: int = lib.MOUNT_ATTR_IDMAP
AT_RECURSIVE: int = lib.AT_RECURSIVE
FSCONFIG_STRING_BYTES = 255  # fsconfig(2) copies at most 256 bytes of a string, its end included


def mount(source: str | bytes, target: str | bytes, fstype: str = "", flags: int = 0, data: str | bytes = b"") -> None:
    """mount(2); all options together must fit in one page.

    Raises: KernelError(mount) - EPERM: a fresh proc or sysfs where the outer one is masked; EINVAL: see the
            file system's document and dmesg
    """
    options = path_bytes(data)
    check(
        f"mount({fstype})" if fstype else "mount",
        lib.rl_mount(path_bytes(source), path_bytes(target), fstype.encode(), flags, options or ffi.NULL),
        target,
    )


def umount2(target: str | bytes, flags: int = 0) -> None:
    """umount2(2). Raises: KernelError(umount2) - EBUSY; EINVAL: not a mount, or locked"""
    check("umount2", lib.rl_umount2(path_bytes(target), flags), target)


def pivot_root(new_root: str | bytes, put_old: str | bytes) -> None:
    """pivot_root(2)."""
    check("pivot_root", lib.rl_pivot_root(path_bytes(new_root), path_bytes(put_old)), new_root)


def fsopen(fstype: str) -> Fd:
    """Start to configure a file system. Raises: ENODEV: the kernel has no such type"""
    return Fd(check(f"fsopen({fstype})", lib.rl_fsopen(fstype.encode(), lib.FSOPEN_CLOEXEC)))


def fsconfig_string(fs: Fd, key: str, value: str | bytes) -> None:
    """Set key=value; at most FSCONFIG_STRING_BYTES bytes."""
    result = lib.rl_fsconfig(fs.fileno(), lib.FSCONFIG_SET_STRING, key.encode(), path_bytes(value), 0)
    check("fsconfig", result, key)


def fsconfig_flag(fs: Fd, key: str) -> None:
    """Set an option without a value."""
    check("fsconfig", lib.rl_fsconfig(fs.fileno(), lib.FSCONFIG_SET_FLAG, key.encode(), ffi.NULL, 0), key)


def fsconfig_fd(fs: Fd, key: str, value: Fd) -> None:
    """Set an option to a descriptor (FSCONFIG_SET_FD)."""
    result = lib.rl_fsconfig(fs.fileno(), lib.FSCONFIG_SET_FD, key.encode(), ffi.NULL, value.fileno())
    check("fsconfig", result, key)


def fsconfig_create(fs: Fd) -> None:
    """Make the superblock."""
    check("fsconfig(create)", lib.rl_fsconfig(fs.fileno(), lib.FSCONFIG_CMD_CREATE, ffi.NULL, ffi.NULL, 0))


def fsmount(fs: Fd, attrs: int = 0) -> Fd:
    """Return a detached mount of the configured file system; it lives as long as the descriptor."""
    return Fd(check("fsmount", lib.rl_fsmount(fs.fileno(), lib.FSMOUNT_CLOEXEC, attrs)))


def open_tree(path: str | bytes, *, directory: Fd | None = None, clone: bool = True, recursive: bool = False) -> Fd:
    """Return *path* as a detached copy of its mount (clone) or as a plain O_PATH descriptor.

    An empty path stands for *directory* itself.
    Raises: KernelError(open_tree) - EINVAL: a non-recursive clone of a tree with locked mounts below
    """
    flags = lib.OPEN_TREE_CLOEXEC | (lib.OPEN_TREE_CLONE if clone else 0)
    if recursive:
        flags |= lib.AT_RECURSIVE
    if not path:
        flags |= lib.AT_EMPTY_PATH
    at = lib.AT_FDCWD if directory is None else directory.fileno()
    return Fd(check("open_tree", lib.rl_open_tree(at, path_bytes(path), flags), path))


def move_mount(tree: Fd, to_dir: Fd | None, to_path: str | bytes = b"") -> None:
    """Attach the detached mount *tree* at *to_path* (relative to *to_dir*; b"" is *to_dir* itself).

    Raises: KernelError(move_mount) - EINVAL: not detached, or the target is below itself
    Owner:  tree stays open
    """
    flags = lib.MOVE_MOUNT_F_EMPTY_PATH | (lib.MOVE_MOUNT_T_EMPTY_PATH if not to_path else 0)
    at = lib.AT_FDCWD if to_dir is None else to_dir.fileno()
    check("move_mount", lib.rl_move_mount(tree.fileno(), b"", at, path_bytes(to_path), flags), to_path)


def mount_setattr(
    mnt: Fd,
    *,
    attr_set: int = 0,
    attr_clr: int = 0,
    propagation: int = 0,
    userns: Fd | None = None,
    recursive: bool = False,
) -> None:
    """Change the attributes of the mount behind *mnt*.

    Raises: KernelError(mount_setattr) - EINVAL with *userns*: the file system cannot be idmapped; EPERM: a locked flag
    """
    flags = lib.AT_EMPTY_PATH | (lib.AT_RECURSIVE if recursive else 0)
    userns_fd = 0 if userns is None else userns.fileno()
    result = lib.rl_mount_setattr(mnt.fileno(), b"", flags, attr_set, attr_clr, propagation, userns_fd)
    check("mount_setattr", result)
