"""Tar streams of `cp`: a tree to stdout, an archive from stdin. Loaded for `-` only: tarfile is dear to import.

Every entry of an archive is made by descriptors below its directory: a name with `..` and a link that leads out of the
container's root go nowhere else.

Source: podman-cp(1); tarfile's streams
"""

from __future__ import annotations

import errno
import os
import stat
import tarfile

from rootless.errors import KernelError, RootlessError, UsageError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.paths import openat2
from rootless.store import trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.mount.view import View

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
_CHUNK = 1 << 20


def write(out: int, source: Fd, name: bytes, view: View | None) -> None:
    """Write *source*, a file or directory open for reading, as *name* (empty: what the directory holds).

    Blocks: as *out* does
    """
    with open(out, "wb", closefd=False) as stream, tarfile.open(fileobj=stream, mode="w|") as tar:
        linked: dict[tuple[int, int], str] = {}
        _add(tar, source, os.fsdecode(name) if name else ".", os.fstat(source.fileno()), view, linked)


def _add(
    tar: tarfile.TarFile,
    source: Fd,
    name: str,
    info: os.stat_result,
    view: View | None,
    linked: dict[tuple[int, int], str],
) -> None:
    if stat.S_ISDIR(info.st_mode):
        tar.addfile(_header(name + "/", info, tarfile.DIRTYPE, view))
        for entry in sorted(os.listdir(source.fileno())):
            _add_entry(tar, source, entry, entry if name == "." else f"{name}/{entry}", view, linked)
        return
    header = _header(name, info, tarfile.REGTYPE, view)
    header.size = info.st_size
    with open(source.fileno(), "rb", closefd=False) as content:
        tar.addfile(header, content)


def _add_entry(
    tar: tarfile.TarFile, parent: Fd, entry: str, name: str, view: View | None, linked: dict[tuple[int, int], str]
) -> None:
    try:
        info = os.stat(entry, dir_fd=parent.fileno(), follow_symlinks=False)
        mode, key = info.st_mode, (info.st_dev, info.st_ino)
        if stat.S_ISLNK(mode):
            header = _header(name, info, tarfile.SYMTYPE, view)
            header.linkname = os.readlink(entry, dir_fd=parent.fileno())
            tar.addfile(header)
        elif not stat.S_ISDIR(mode) and info.st_nlink > 1 and key in linked:
            header = _header(name, info, tarfile.LNKTYPE, view)
            header.linkname = linked[key]
            tar.addfile(header)
        elif stat.S_ISDIR(mode) or stat.S_ISREG(mode):
            flags = _DIRECTORY if stat.S_ISDIR(mode) else os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with open_fd(entry, flags, dir_fd=parent) as source:
                _add(tar, source, name, os.fstat(source.fileno()), view, linked)
            linked.setdefault(key, name)
        elif stat.S_ISFIFO(mode):
            tar.addfile(_header(name, info, tarfile.FIFOTYPE, view))
    except FileNotFoundError:
        pass  # a running container took it away
    except KernelError as error:
        if error.errno != errno.ENOENT:
            raise


def _header(name: str, info: os.stat_result, kind: bytes, view: View | None) -> tarfile.TarInfo:
    header = tarfile.TarInfo(name)
    header.type = kind
    header.mode = stat.S_IMODE(info.st_mode)
    header.uid, header.gid = view.inner(info.st_uid, info.st_gid) if view else (info.st_uid, info.st_gid)
    header.mtime = int(info.st_mtime)
    return header


def extract(source: int, directory: Fd, view: View, owner: tuple[int, int] | None, *, overwrite: bool) -> None:
    """Unpack the (compressed) archive that *source* gives below *directory*.

    Shape:  *owner* in our ids, None: as the archive says
    Blocks: as *source* does
    Raises: UsageError - it is no archive; RootlessError
    """
    with open(source, "rb", closefd=False) as stream:
        begun = False
        try:
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                begun = True
                for member in tar:
                    _member(tar, member, directory, owner or view.outer(member.uid, member.gid), overwrite)
        except tarfile.TarError as error:
            if begun:
                raise RootlessError(f"reading the archive: {error}") from error
            raise UsageError("source must be a (compressed) tar archive when copying from stdin") from None


def _member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, directory: Fd, owner: tuple[int, int], overwrite: bool
) -> None:
    parts = [part for part in os.fsencode(member.name).split(b"/") if part not in (b"", b".")]
    if b".." in parts:
        raise RootlessError(f"reading the archive: {member.name} leads out of it")
    if not parts:
        _finish(directory, member, owner)
        return
    with _parent(directory, parts[:-1]) as parent:
        name = parts[-1]
        if member.isdir():
            with _made(parent, name, overwrite) as made:
                _finish(made, member, owner)
            return
        _clear(parent, name, overwrite)
        if member.isreg():
            content = tar.extractfile(member)
            with open_fd(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600, dir_fd=parent) as out:
                while content is not None and (data := content.read(_CHUNK)):
                    view = memoryview(data)
                    while view:
                        view = view[os.write(out.fileno(), view) :]
                _finish(out, member, owner)
            return
        if member.issym():
            os.symlink(member.linkname, name, dir_fd=parent.fileno())
        elif member.islnk():
            first = [part for part in os.fsencode(member.linkname).split(b"/") if part not in (b"", b".")]
            if not first or b".." in first:
                raise RootlessError(f"reading the archive: {member.linkname} leads out of it")
            with _parent(directory, first[:-1]) as other:
                os.link(first[-1], name, src_dir_fd=other.fileno(), dst_dir_fd=parent.fileno(), follow_symlinks=False)
            return
        elif member.isfifo():
            os.mkfifo(name, member.mode & 0o7777, dir_fd=parent.fileno())
        else:
            return  # devices: only a real root could make them
        os.chown(name, *owner, dir_fd=parent.fileno(), follow_symlinks=False)


def _parent(directory: Fd, parts: list[bytes]) -> Fd:
    """Open the directory *parts* below *directory*, making what is missing; links are not followed."""
    here = directory.dup()
    for part in parts:
        with here:
            here = _made(here, part, False)
    return here


def _made(parent: Fd, name: bytes, overwrite: bool) -> Fd:
    try:
        os.mkdir(name, 0o755, dir_fd=parent.fileno())
    except FileExistsError:
        info = os.stat(name, dir_fd=parent.fileno(), follow_symlinks=False)
        if not stat.S_ISDIR(info.st_mode):
            if not overwrite:
                raise RootlessError(f"{os.fsdecode(name)}: exists but is not a directory") from None
            os.unlink(name, dir_fd=parent.fileno())
            os.mkdir(name, 0o755, dir_fd=parent.fileno())
    return openat2(parent, name, _DIRECTORY)


def _clear(parent: Fd, name: bytes, overwrite: bool) -> None:
    try:
        info = os.stat(name, dir_fd=parent.fileno(), follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(info.st_mode):
        os.unlink(name, dir_fd=parent.fileno())
    elif overwrite:
        trees.remove_at(parent, os.fsdecode(name))
    else:
        raise RootlessError(f"{os.fsdecode(name)}: exists but is a directory")


def _finish(made: Fd, member: tarfile.TarInfo, owner: tuple[int, int]) -> None:
    os.fchown(made.fileno(), *owner)
    os.fchmod(made.fileno(), member.mode & 0o7777)
    os.utime(made.fileno(), (member.mtime, member.mtime))
