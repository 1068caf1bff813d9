"""Helpers of the FUSE tests: mount our overlay, the kernel's, and look at whole trees.

Everything here runs as root of a user namespace (`in_userns`).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rootless.kernel import fds, mounts
from rootless.mount.driver import RootfsMount, RootfsRequest
from rootless.mount.fuse import FuseDriver

Entry = tuple[Any, ...]


@dataclass
class Place:
    """A store with layers, and directories to mount on.

    Shape: base/store/l/NAME layers, base/scratch-KIND upper and work directories, base/KIND mount points
    """

    base: Path
    layers: list[str] = field(default_factory=list)

    def layer(self, name: str = "") -> Path:
        """Make one more layer on top of those that exist."""
        name = name or f"L{len(self.layers)}"
        path = self.base / "store" / "l" / name
        path.mkdir(parents=True)
        self.layers.append(name)
        return path

    def scratch(self, kind: str) -> Path:
        path = self.base / f"scratch-{kind}"
        path.mkdir(exist_ok=True)
        return path

    def upper(self, kind: str = "fuse") -> Path:
        return self.scratch(kind) / "diff"

    def request(self, *, kind: str = "fuse", **how: Any) -> RootfsRequest:
        (self.base / "run").mkdir(exist_ok=True)
        (self.base / "store" / "l").mkdir(parents=True, exist_ok=True)
        return RootfsRequest(
            str(self.base / "store"), tuple(self.layers), str(self.scratch(kind)), str(self.base / "run"), **how
        )

    def point(self, kind: str) -> Path:
        path = self.base / kind
        path.mkdir(exist_ok=True)
        return path

    @contextlib.contextmanager
    def fuse(self, *, kind: str = "fuse", **how: Any) -> Iterator[Mounted]:
        """Mount our overlay as the engine does."""
        mounted = Mounted(FuseDriver().open(self.request(kind=kind, **how)), self.point(kind))
        try:
            yield mounted
        finally:
            mounted.end()

    @contextlib.contextmanager
    def kernel(self, *, kind: str = "kernel", upper_of: str = "") -> Iterator[Path]:
        """Mount the kernel's overlay of the same layers."""
        scratch = self.scratch(upper_of or kind)
        for name in ("diff", "work"):
            (scratch / name).mkdir(exist_ok=True)
        words = ["lowerdir=" + ":".join(reversed(self.layers)), f"upperdir={scratch}/diff", f"workdir={scratch}/work"]
        point = self.point(kind)
        before = Path.cwd()
        os.chdir(self.base / "store" / "l")
        try:
            mounts.mount("overlay", str(point), "overlay", 0, ",".join([*words, "userxattr"]))
        finally:
            os.chdir(before)
        try:
            yield point
        finally:
            mounts.umount2(str(point), mounts.MNT_DETACH)


class Mounted:
    """A mount of ours and its server."""

    def __init__(self, mounted: RootfsMount, path: Path) -> None:
        self.path = path
        self.pid = mounted.server_pid
        self._mounted: RootfsMount | None = mounted
        mounts.move_mount(mounted.fd, None, str(path))
        mounted.fd.close()
        mounted.wait_ready()

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def end(self) -> int:
        """Unmount, and wait for the server to end by itself; return its status."""
        if self._mounted is None:
            return 0
        mounted, self._mounted = self._mounted, None
        mounts.umount2(str(self.path), mounts.MNT_DETACH)
        mounted.close()
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def snapshot(top: Path | str, *, times: bool = False, links: bool = False) -> dict[str, Entry]:
    """Return path -> everything that a program can see of it (inode numbers and directory sizes left out)."""
    found: dict[str, Entry] = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files, *([""] if directory == str(top) else [])]:
            path = os.path.join(directory, name)
            found[os.path.relpath(path, top)] = describe(path, times=times, links=links)
    return found


def describe(path: str, *, times: bool = False, links: bool = False) -> Entry:
    """Return what a program can see of one file."""
    st = os.lstat(path)
    kind = stat.S_IFMT(st.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        content = Path(path).read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind == stat.S_IFDIR:
        content = sorted(os.listdir(path))
    out: list[Any] = [oct(st.st_mode), st.st_uid, st.st_gid, content, xattrs(path)]
    if kind != stat.S_IFDIR:
        out.append(st.st_size)
    if times and kind != stat.S_IFDIR:
        out.append(st.st_mtime_ns)
    if links and kind != stat.S_IFDIR:
        out.append(st.st_nlink)
    return tuple(out)


def xattrs(path: str) -> dict[str, bytes]:
    """Return the attributes of a file itself, those of security modules left out."""
    return {
        name: os.getxattr(path, name, follow_symlinks=False)
        for name in os.listxattr(path, follow_symlinks=False)
        if name != "security.selinux"
    }


def raw(top: Path) -> dict[str, Entry]:
    """Return everything about a layer on disk, access times and the attributes of the overlay included."""
    found: dict[str, Entry] = {}
    for directory, names, files in os.walk(top):
        for name in [*names, *files, "."]:
            path = os.path.join(directory, name)
            st = os.lstat(path)
            content = Path(path).read_bytes() if stat.S_ISREG(st.st_mode) else None
            fields = (st.st_mode, st.st_uid, st.st_gid, st.st_ino, st.st_nlink, st.st_rdev, st.st_size, st.st_mtime_ns)
            found[os.path.relpath(path, top)] = (*fields, st.st_ctime_ns, content, xattrs(path))
    return found


def copy_tree(source: Path, target: Path) -> None:
    """Copy with owners, links and attributes."""
    shutil.copytree(source, target, symlinks=True, copy_function=_copy, dirs_exist_ok=True)
    for directory, names, _ in os.walk(source):
        for name in [*names, "."]:
            path = os.path.join(directory, name)
            if not os.path.islink(path):
                st = os.lstat(path)
                os.chown(target / os.path.relpath(path, source), st.st_uid, st.st_gid)
                os.chmod(target / os.path.relpath(path, source), stat.S_IMODE(st.st_mode))


def _copy(source: str, target: str) -> None:
    st = os.lstat(source)
    if stat.S_ISREG(st.st_mode):
        shutil.copy2(source, target)
    elif stat.S_ISLNK(st.st_mode):
        os.symlink(os.readlink(source), target)
    else:
        os.mknod(target, st.st_mode, st.st_rdev)
    os.chown(target, st.st_uid, st.st_gid, follow_symlinks=False)
    if not stat.S_ISLNK(st.st_mode):
        os.chmod(target, stat.S_IMODE(st.st_mode))


def rename(old: str, new: str, flags: int = 0) -> None:
    """renameat2(2) on paths."""
    from rootless.kernel.fs import renameat2

    with fds.open_fd("/", os.O_PATH) as here:
        renameat2(here, os.fsencode(old), here, os.fsencode(new), flags)


def make_whiteout(path: Path, form: str) -> None:
    """Put a whiteout of the form `device` or `xattr`."""
    if form == "device":
        os.mknod(path, stat.S_IFCHR, 0)
        return
    path.touch()
    os.setxattr(path, "user.overlay.whiteout", b"y")
    os.setxattr(path.parent, "user.overlay.opaque", b"x")


def names(paths: Sequence[os.DirEntry[str]]) -> list[str]:
    return sorted(entry.name for entry in paths)
