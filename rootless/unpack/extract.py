"""Carry out the changes of one layer below the layer's own directory, and nowhere else.

Order within an entry: data, owner, mode, attributes, time; write(2) and chown(2) clear set-id bits and file
capabilities. Times of directories, and what depends on the layers below, come at the end (unpack/finish.py).

Whatever an archive says, the kernel keeps an entry in the root: the parent is resolved by openat2 with
RESOLVE_IN_ROOT, the last part is made with O_EXCL and O_NOFOLLOW and so is never followed.

Source: OCI image-spec layer.md · openat2(2) · overlayfs.rst "whiteouts and opaque directories"
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.kernel.fds import Fd, open_fd
from rootless.proto import changeset, tar
from rootless.proto.changeset import Hardlink, LayerOp, MkDir, Mknod, Opaque, PutFile, Symlink, Whiteout
from rootless.store import merged, trees
from rootless.store.layers import FORM_DEVICE, FORM_OPAQUE, FORM_XATTR
from rootless.unpack import ownership
from rootless.unpack._extract import lib
from rootless.unpack.places import Places
from rootless.unpack.smallfiles import FILE_MAX_BYTES, SmallFiles

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.unpack.ownership import Owners
    from rootless.unpack.places import Place

    Xattrs = tuple[tuple[bytes, bytes], ...]

_DEFAULT_ACL = b"system.posix_acl_default"
_TRASH = b".wh..wh.replaced-%d"
"""No entry can have such a name."""
_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
_BEHIND_BYTES = 8 << 20
_BEHIND_MIN_BYTES = 1 << 18
_TIME_MAX = (1 << 63) - 1


class Extractor:
    """Makes one layer. Feed it operations in the archive's order, the content of a file right after its PutFile.

    Owner: it owns the root's descriptor; `close` closes it. The process's umask must be 0.
    """

    def __init__(self, root: Fd, owners: Owners) -> None:
        self.small = SmallFiles(self._put_again, self._batch_done)
        self.places = Places(root, self.small.flush)
        self.owners = owners
        self.entries = 0
        self.size_bytes = 0
        self.skipped_devices = 0
        self.skipped_xattrs = 0
        self.forms: set[str] = set()
        self.deferred: list[Hardlink] = []
        """Hard links to names that this layer does not have: the layers below do."""
        self.directories: dict[int, tuple[changeset.Path, int, Xattrs]] = {}
        """Inode -> (path, mtime, default ACL) of directories that entries have brought."""
        self._device_whiteouts = True
        self._trash: list[bytes] = []
        self._xattr_parents: set[int] = set()
        self._file: LayerOp | None = None  # a PutFile whose content is awaited
        self._out: Fd | None = None  # open when the content comes in pieces
        self._unwritten = 0  # bytes of the open file that the disk has not been told about

    def close(self) -> None:
        """Close everything."""
        if self._out is not None:
            self._out.close()
        self.small.close()
        self.places.batches_done = _TIME_MAX  # nothing is made any more
        self.places.close()

    def _batch_done(self, serial: int) -> None:
        self.places.batches_done = serial

    def apply(self, op: LayerOp) -> None:
        """Carry out one change.

        Raises: OSError, TarError; the layer is then of no use
        """
        if self._file is not None:
            self._end_file()
        self.entries += 1
        kind = op.__class__
        if kind is PutFile:
            if op.header.size_bytes == 0:
                self._put(op, b"")
            else:
                self._file = op
        elif kind is MkDir:
            self._mkdir(op)
        elif kind is Symlink:
            self._symlink(op)
        elif kind is Hardlink:
            self.hardlink(op)  # type: ignore[arg-type]
        elif kind is Whiteout:
            self._whiteout(op)
        elif kind is Opaque:
            self._opaque(op)
        elif kind is Mknod:
            self._mknod(op)

    def data(self, offset: int, view: memoryview) -> None:
        """Take a piece of the file of the last PutFile."""
        op = self._file
        if op is None:  # content of an entry that makes nothing
            return
        if self._out is None:
            header = op.header
            if len(view) == header.size_bytes and offset == 0:
                self._put(op, view)
                self._file = None
                return
            self._out = self._create(op)
        self._write(self._out, offset, view)

    def _write(self, out: Fd, offset: int, view: memoryview) -> None:
        while view:
            done = os.pwrite(out.fileno(), view, offset)
            offset += done
            view = view[done:]
            self._unwritten += done
        if self._unwritten >= _BEHIND_BYTES:
            self._write_behind(out, offset)

    def _write_behind(self, out: Fd, end: int) -> None:
        """Let the disk begin with what was written since the last time; small files wait for the end."""
        if self._unwritten >= _BEHIND_MIN_BYTES:
            lib.rl_write_behind(out.fileno(), max(0, end - self._unwritten), self._unwritten)
        self._unwritten = 0

    def end(self) -> None:
        """Say that the archive is complete: everything is on disk then."""
        if self._file is not None:
            self._end_file()
        self.small.flush()
        for name in self._trash:
            trees.remove_at(self.places.root.fd, os.fsdecode(name))
        self._trash.clear()

    # ---- files

    def _put(self, op: LayerOp, content: bytes | memoryview) -> None:
        """Make a file whose whole content is here."""
        header = op.header
        if op.xattrs or header.sparse is not None or not self.owners.fits(header.uid, header.gid):
            self._put_slowly(op, content)
            return
        place = self._place(op)
        if len(content) > FILE_MAX_BYTES or (place.inode, op.path[-1]) in self.places.passages:
            self._put_slowly(op, content)
            return
        self.small.add(place, op, content, _bounded(header.mtime_ns))
        self.size_bytes += len(content)

    def _put_slowly(self, op: LayerOp, content: bytes | memoryview) -> None:
        """As `_put`, at once, for what needs more than the C loop knows."""
        out = self._create(op)
        self._write(out, 0, memoryview(content))
        self._complete(op, out)

    def _put_again(self, op: LayerOp, content: bytes | memoryview) -> None:
        self.size_bytes -= len(content)
        self._put_slowly(op, content)

    def _place(self, op: LayerOp) -> Place:
        """Return the directory for *op*, with nothing of its name still waiting to be made."""
        place = self.places.parent(op.path)
        if self.small.waits(place, op.path[-1]):
            self.small.flush()
            place = self.places.parent(op.path)
        return place

    def _create(self, op: LayerOp) -> Fd:
        place = self._place(op)
        try:
            return open_fd(op.path[-1], _CREATE, 0o600, dir_fd=place.fd)
        except OSError as error:
            if error.errno != errno.EEXIST:
                raise
        self._clear(op.path)
        return open_fd(op.path[-1], _CREATE, 0o600, dir_fd=self.places.parent(op.path).fd)

    def _end_file(self) -> None:
        op, self._file = self._file, None
        out, self._out = self._out, None
        assert op is not None
        self._complete(op, out or self._create(op))  # a sparse file may have no data at all

    def _complete(self, op: LayerOp, out: Fd) -> None:
        """Give a file that has its content everything else."""
        header = op.header
        with out:
            number = out.fileno()
            if header.sparse is not None:
                os.ftruncate(number, header.size_bytes)
            self._write_behind(out, header.size_bytes)
            self._dress(number, op, directory=False)
            self._time(number, header.mtime_ns)
        self.size_bytes += header.size_bytes

    def _dress(self, number: int, op: LayerOp, *, directory: bool) -> None:
        """Give an open file or directory owner, mode and attributes."""
        header = op.header
        uid, gid, mode = header.uid, header.gid, header.mode & 0o7777
        squashed = not self.owners.fits(uid, gid)
        if not squashed:
            try:
                os.fchown(number, uid, gid)
            except OSError as error:
                if error.errno not in ownership.UNPLACED:
                    raise
                squashed = True
        if squashed:
            recorded = ownership.override(uid, gid, mode)
            uid, gid, mode = self.owners.squash(uid, gid, mode, directory=directory)
            try:
                os.fchown(number, uid, gid)
            except OSError as error:
                if error.errno not in ownership.UNPLACED:
                    raise
            self._xattr(number, ownership.OVERRIDE, recorded)
        os.fchmod(number, mode)
        for key, value in op.xattrs:
            if not (directory and key == _DEFAULT_ACL):  # it would be inherited by what is made here after it
                self._xattr(number, key, value)

    def _xattr(self, file: int | bytes, key: str | bytes, value: bytes) -> None:
        try:
            os.setxattr(file, key, value, follow_symlinks=isinstance(file, int))
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise
            self.skipped_xattrs += 1

    def _time(self, number: int, mtime_ns: int) -> None:
        bounded = _bounded(mtime_ns)
        os.utime(number, ns=(bounded, bounded))

    # ---- everything else

    def _mkdir(self, op: LayerOp) -> None:
        if not op.path:
            number = self.places.root.fd.fileno()
            self._dress(number, op, directory=True)
            self._remember(self.places.root.inode, op)
            return
        place = self._place(op)
        name = op.path[-1]
        self.places.passages.add((place.inode, name))
        hidden = False
        try:
            os.mkdir(name, 0o700, dir_fd=place.fd.fileno())
        except FileExistsError:
            info = merged.status(place.fd, name)
            if info is None or not stat.S_ISDIR(info.st_mode):
                hidden = self._clear(op.path)
                place = self.places.parent(op.path)
                os.mkdir(name, 0o700, dir_fd=place.fd.fileno())
        with open_fd(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.fd) as fd:
            if hidden:
                self._hide(fd)
            self._dress(fd.fileno(), op, directory=True)
            self._remember(os.fstat(fd.fileno()).st_ino, op)

    def _remember(self, inode: int, op: LayerOp) -> None:
        self.places.implied.pop(inode, None)
        later = tuple([x for x in op.xattrs if x[0] == _DEFAULT_ACL])
        self.directories[inode] = (op.path, _bounded(op.header.mtime_ns), later)

    def _symlink(self, op: LayerOp) -> None:
        header = op.header
        name = op.path[-1]
        place = self._place(op)
        try:
            os.symlink(header.linkname, name, dir_fd=place.fd.fileno())
        except FileExistsError:
            self._clear(op.path)
            place = self.places.parent(op.path)
            os.symlink(header.linkname, name, dir_fd=place.fd.fileno())
        self.places.passages.add((place.inode, name))
        self._own_by_name(place, op)

    def _own_by_name(self, place: Place, op: LayerOp) -> None:
        """Give what cannot be opened its owner, attributes and time. Its mode came with its making."""
        header, name, at = op.header, op.path[-1], place.fd.fileno()
        uid, gid = header.uid, header.gid
        if not self.owners.fits(uid, gid):
            uid, gid, _ = self.owners.squash(uid, gid, 0)
        try:
            os.chown(name, uid, gid, dir_fd=at, follow_symlinks=False)
        except OSError as error:
            if error.errno not in ownership.UNPLACED:
                raise
            if (uid, gid) == (header.uid, header.gid):
                self.owners.squash(uid, gid, 0)
        for key, value in op.xattrs:
            self._xattr(os.fsencode(place.fd.proc_path()) + b"/" + name, key, value)
        bounded = _bounded(header.mtime_ns)
        os.utime(name, ns=(bounded, bounded), dir_fd=at, follow_symlinks=False)

    def hardlink(self, op: Hardlink) -> bool:
        """Make another name for a file of this layer; False if it is a lower layer's and has to wait."""
        self.small.flush()
        source = self.places.existing(op.target[:-1])
        if source is None or (source.inode, op.target[-1]) in self.places.whiteouts:
            self.deferred.append(op)
            return False
        there = merged.status(source.fd, op.target[-1])
        if there is None:
            self.deferred.append(op)
            return False
        place = self.places.parent(op.path)
        here = merged.status(place.fd, op.path[-1])
        if here is not None:
            if here.st_ino == there.st_ino:
                return True
            self._clear(op.path)
        link(self.places, op.target, op.path)
        return True

    def _mknod(self, op: LayerOp) -> None:
        header = op.header
        name, mode = op.path[-1], header.mode & 0o7777
        kind = {tar.CHARACTER: stat.S_IFCHR, tar.BLOCK_DEVICE: stat.S_IFBLK}.get(header.type, stat.S_IFIFO)
        if kind != stat.S_IFIFO and header.devmajor == 0 and header.devminor == 0:
            # This is how a whiteout looks on disk; an image says it with a name.
            self.skipped_devices += 1
            return
        device = 0
        if kind != stat.S_IFIFO:
            if not (0 <= header.devmajor < 1 << 12 and 0 <= header.devminor < 1 << 20):
                raise tar.TarError(f"{changeset.shown(header.name)}: an impossible device number")
            device = os.makedev(header.devmajor, header.devminor)
        place = self._place(op)
        if merged.status(place.fd, name) is not None:
            self._clear(op.path)
            place = self.places.parent(op.path)
        try:
            os.mknod(name, kind | mode, device, dir_fd=place.fd.fileno())
        except PermissionError:
            if kind == stat.S_IFIFO:
                raise
            self.skipped_devices += 1  # only the real root makes devices; podman leaves them out as well
            return
        self._own_by_name(place, op)
        os.chmod(name, mode, dir_fd=place.fd.fileno())

    # ---- what is gone

    def _whiteout(self, op: LayerOp) -> None:
        place = self._place(op)
        name = op.path[-1]
        info = merged.status(place.fd, name)
        if (place.inode, name) in self.places.whiteouts:
            return
        if info is not None:
            # A whiteout is about lower layers only: what this layer has stays, and a directory starts anew.
            if stat.S_ISDIR(info.st_mode):
                with open_fd(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=place.fd) as fd:
                    self.places.implied.pop(info.st_ino, None)
                    self._hide(fd)
            return
        if self._device_whiteouts:
            try:
                os.mknod(name, stat.S_IFCHR, 0, dir_fd=place.fd.fileno())
                self.forms.add(FORM_DEVICE)
            except PermissionError:
                self._device_whiteouts = False
        if not self._device_whiteouts:
            with open_fd(name, _CREATE, 0o600, dir_fd=place.fd) as fd:
                os.setxattr(fd.fileno(), merged.WHITEOUT, b"")
            if place.inode not in self._xattr_parents and place.inode not in self.places.opaque:
                os.setxattr(place.fd.fileno(), merged.OPAQUE, b"x")
                self._xattr_parents.add(place.inode)
            self.forms.add(FORM_XATTR)
        self.places.whiteouts[(place.inode, name)] = op.path

    def _opaque(self, op: LayerOp) -> None:
        self._hide(self.places.directory(op.path).fd)

    def _hide(self, fd: Fd) -> None:
        self.places.hide(fd)
        self.forms.add(FORM_OPAQUE)

    def _clear(self, path: changeset.Path) -> bool:
        """Remove what an earlier entry of this layer has put at *path*; True if it was a whiteout."""
        self.small.flush()
        place = self.places.parent(path)
        name = path[-1]
        info = merged.status(place.fd, name)
        if info is None:
            return False
        if stat.S_ISDIR(info.st_mode):
            # Deleted at the end: what is remembered of directories by inode must not meet another with the same number.
            trash = _TRASH % len(self._trash)
            os.rename(name, trash, src_dir_fd=place.fd.fileno(), dst_dir_fd=self.places.root.fd.fileno())
            self._trash.append(trash)
            self.places.forget()
            return False
        os.unlink(name, dir_fd=place.fd.fileno())
        hidden = self.places.whiteouts.pop((place.inode, name), None) is not None
        if stat.S_ISLNK(info.st_mode):
            self.places.forget()
        return hidden


def link(places: Places, target: changeset.Path, path: changeset.Path) -> None:
    """Give the file *target* of this layer the name *path* too."""
    with places.directory(target[:-1]).fd.dup() as source:
        place = places.parent(path)
        places.passages.add((place.inode, path[-1]))  # it may be another name for a link
        os.link(target[-1], path[-1], src_dir_fd=source.fileno(), dst_dir_fd=place.fd.fileno(), follow_symlinks=False)


def _bounded(mtime_ns: int) -> int:
    """Return a time that the kernel takes; what is before 1970 or absurd becomes 1970, as podman has it."""
    return mtime_ns if 0 <= mtime_ns <= _TIME_MAX else 0
