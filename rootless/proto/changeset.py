"""Turn tar headers into what a layer does to a file system, with every name checked.

Names are cleaned as podman cleans them: relative to the layer's root, `.` and empty parts dropped, `..` taken
lexically, and an entry that would leave the root refused. What a link inside the layer leads to is not decided here:
the kernel resolves it inside the root (unpack/extract.py).

Dropped silently: attributes with which an image would forge what only an unpacker may say (whiteouts, opaque
directories, owners), and aufs's own files.

Source:  OCI image-spec layer.md "Whiteouts", "Opaque Whiteout" · overlayfs.rst "User xattr"
"""

from __future__ import annotations

from rootless.proto import tar
from rootless.proto.tar import Header, TarError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

    Path = tuple[bytes, ...]

PREFIX: Final = b".wh."
OPAQUE_NAME: Final = b".wh..wh..opq"
_META: Final = b".wh..wh."

FORGED: Final = (b"user.overlay.", b"trusted.overlay.", b"user.fuseoverlayfs.", b"user.containers.")
"""Attributes that mean something to overlay file systems and to us; an image may not bring them."""

NAME_MAX: Final = 255
LINK_MAX: Final = 4095


class LayerOp:
    """One change. *path* has no empty, `.` or `..` parts; the root is ()."""

    __slots__ = ("header", "path", "xattrs")

    def __init__(self, path: Path, header: Header, xattrs: tuple[tuple[bytes, bytes], ...] = ()) -> None:
        self.path = path
        self.header = header
        self.xattrs = xattrs

    def __repr__(self) -> str:
        return f"{type(self).__name__}({b'/'.join(self.path)!r})"


class PutFile(LayerOp):
    """A regular file; its content follows in the archive."""

    __slots__ = ()


class MkDir(LayerOp):
    """A directory; one that is there keeps what it holds."""

    __slots__ = ()


class Symlink(LayerOp):
    """A symbolic link to header.linkname, whatever that is."""

    __slots__ = ()


class Hardlink(LayerOp):
    """Another name for *target*, of this layer or of one below."""

    __slots__ = ("target",)

    def __init__(self, path: Path, header: Header, target: Path) -> None:
        super().__init__(path, header)
        self.target = target


class Mknod(LayerOp):
    """A device or fifo: header.type, devmajor, devminor."""

    __slots__ = ()


class Whiteout(LayerOp):
    """*path* of the layers below is gone."""

    __slots__ = ()


class Opaque(LayerOp):
    """What the directory *path* holds in the layers below is gone."""

    __slots__ = ()


_KINDS: Final = {
    tar.REGULAR: PutFile,
    tar.DIRECTORY: MkDir,
    b"D": MkDir,
    tar.SYMLINK: Symlink,
    tar.CHARACTER: Mknod,
    tar.BLOCK_DEVICE: Mknod,
    tar.FIFO: Mknod,
}


def layer_op(header: Header) -> LayerOp | None:
    """Return what the entry does, None if it does nothing.

    Raises: TarError — a name outside the layer, an empty or reserved one, an unknown kind of entry
    """
    path = clean(header.name)
    kind = header.type
    if b".wh." in header.name:
        special = _reserved(path, header)
        if special is not path:
            return special  # type: ignore[return-value]
    if not path:
        if kind not in (tar.DIRECTORY, b"D"):
            raise TarError(f"{shown(header.name)}: the root can only be a directory")
        return MkDir(path, header, _own(header.xattrs))
    if len(max(path, key=len)) > NAME_MAX:
        raise TarError(f"{shown(header.name)}: file name too long")
    if kind == tar.HARDLINK:
        target = clean(header.linkname)
        if not target or target[-1].startswith(PREFIX):
            raise TarError(f"{shown(header.name)}: a hard link to {shown(header.linkname)}")
        return Hardlink(path, header, target)
    if kind == tar.SYMLINK:
        link = header.linkname
        if not link or len(link) > LINK_MAX or b"\0" in link:
            raise TarError(f"{shown(header.name)}: an impossible symbolic link")
    made = _KINDS.get(kind)
    if made is None:
        if kind == b"V":  # a volume's label
            return None
        raise TarError(f"{shown(header.name)}: unknown kind of entry {kind!r}")
    return made(path, header, _own(header.xattrs) if header.xattrs else ())


def clean(name: bytes) -> tuple[bytes, ...]:
    """Return the parts of *name*, relative to the root.

    Raises: TarError — it leads out of the root, or holds a NUL
    """
    parts = name.split(b"/")
    if b"" not in parts and b"." not in parts and b".." not in parts and b"\0" not in name:
        return tuple(parts)
    if b"\0" in name:
        raise TarError(f"{shown(name)}: a name with a NUL in it")
    kept: list[bytes] = []
    for part in parts:
        if part == b"..":
            if kept:
                kept.pop()
            elif name[:1] != b"/":
                raise TarError(f"{shown(name)}: outside of the layer")
        elif part not in (b"", b"."):
            kept.append(part)
    return tuple(kept)


def shown(name: bytes) -> str:
    """Return *name* for a message: what a terminal would act on is escaped."""
    text = name[:300].decode("utf-8", "backslashreplace")
    return "".join([c if c.isprintable() else c.encode("unicode_escape").decode() for c in text])


def _own(xattrs: tuple[tuple[bytes, bytes], ...]) -> tuple[tuple[bytes, bytes], ...]:
    return tuple([(key, value) for key, value in xattrs if not key.startswith(FORGED)])


def _reserved(path: tuple[bytes, ...], header: Header) -> LayerOp | tuple[bytes, ...] | None:
    """Return the change that a `.wh.` name means, None for none, or *path* itself if it has no such name."""
    if not path:
        return path
    if path[0].startswith(_META) and path != (OPAQUE_NAME,):
        return None  # .wh..wh.aufs, .wh..wh.plnk/..., .wh..wh.orph/...: aufs's bookkeeping
    for part in path[:-1]:
        if part.startswith(PREFIX):
            raise TarError(f"{shown(header.name)}: below a whiteout")
    last = path[-1]
    if not last.startswith(PREFIX):
        return path
    if last == OPAQUE_NAME:
        return Opaque(path[:-1], header)
    if last.startswith(_META):
        return None
    hidden = last[len(PREFIX) :]
    if hidden in (b"", b".", b".."):
        raise TarError(f"{shown(header.name)}: a whiteout of nothing")
    return Whiteout((*path[:-1], hidden), header)
