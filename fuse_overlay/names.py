"""What names mean on disk: whiteouts, opaque markers, and attributes that are ours and not the user's.

A layer says "this name is gone" in one of two forms: a character device 0:0, or (where mknod is refused) an empty
regular file with `user.overlay.whiteout` in a directory that is marked `user.overlay.opaque=x`. A directory hides what
lies below it when it carries one of OPAQUE with the value `y`.

Attributes below `user.overlay.` and `trusted.overlay.` are the overlay's own. One that a program inside sets is kept
under `user.overlay.overlay.`, as kernel overlayfs does, so that an overlay can be mounted inside the overlay.

Source: Documentation/filesystems/overlayfs.rst "whiteouts and opaque directories", "Nested overlayfs mounts"
"""

from __future__ import annotations

import stat

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

WHITEOUT = b"user.overlay.whiteout"
OPAQUE = (b"user.overlay.opaque", b"user.fuseoverlayfs.opaque", b"trusted.overlay.opaque")
OVERRIDE_CONTAINERS = b"user.containers.override_stat"
OVERRIDE_PRIVILEGED = b"security.fuseoverlayfs.override_stat"
OVERRIDE_USER = b"user.fuseoverlayfs.override_stat"
OVERRIDES = (OVERRIDE_CONTAINERS, OVERRIDE_PRIVILEGED, OVERRIDE_USER)
ACL_ACCESS = b"system.posix_acl_access"
ACL_DEFAULT = b"system.posix_acl_default"

_ESCAPED = ((b"user.overlay.", b"user.overlay.overlay."), (b"trusted.overlay.", b"trusted.overlay.overlay."))
_HIDDEN = (b"user.fuseoverlayfs.", b"security.fuseoverlayfs.", OVERRIDE_CONTAINERS)


def is_device_whiteout(mode: int, rdev: int) -> bool:
    """Tell whether stat values are those of a whiteout in its first form."""
    return rdev == 0 and stat.S_ISCHR(mode)


def to_disk(name: bytes) -> bytes | None:
    """Return the name under which the attribute *name* of a program is kept; None if it may have none of that name."""
    for shown, kept in _ESCAPED:
        if name.startswith(shown):
            return kept + name[len(shown) :]
    if name.startswith(_HIDDEN):
        return None
    return name


def from_disk(name: bytes) -> bytes | None:
    """Return what a program sees of the attribute *name* on disk; None for what is ours."""
    for shown, kept in _ESCAPED:
        if name.startswith(kept):
            return shown + name[len(kept) :]
        if name.startswith(shown):
            return None
    if name.startswith(_HIDDEN):
        return None
    return name


def visible(names: Iterable[bytes]) -> frozenset[bytes]:
    """Return the attribute names that a program sees of those on disk."""
    shown = []
    for name in names:
        seen = from_disk(name)
        if seen is not None:
            shown.append(seen)
    return frozenset(shown)


def parse_override(value: bytes) -> tuple[int, int, int, int] | None:
    """Read an override_stat attribute, `uid:gid:mode[:type[-major-minor]]` with an octal mode.

    Shape:   (uid, gid, mode, rdev); mode has the bits of a type only where the attribute names one. None: not readable
    Source:  containers/storage pkg/idtools "Stat", fuse-overlayfs
    """
    parts = value.rstrip(b"\0").split(b":")
    if len(parts) < 3:
        return None
    try:
        uid, gid, mode = int(parts[0]), int(parts[1]), int(parts[2], 8) & 0o7777
        kind, rdev = _parse_type(parts[3]) if len(parts) > 3 else (0, 0)
    except ValueError:
        return None
    if uid < 0 or gid < 0:
        return None
    return uid, gid, mode | kind, rdev


_KINDS = {
    b"file": stat.S_IFREG,
    b"dir": stat.S_IFDIR,
    b"symlink": stat.S_IFLNK,
    b"pipe": stat.S_IFIFO,
    b"socket": stat.S_IFSOCK,
    b"block": stat.S_IFBLK,
    b"char": stat.S_IFCHR,
}


def _parse_type(text: bytes) -> tuple[int, int]:
    words = text.split(b"-")
    kind = _KINDS.get(words[0], 0)
    if len(words) == 3 and kind in (stat.S_IFBLK, stat.S_IFCHR):
        major, minor = int(words[1]), int(words[2])
        # makedev(3): glibc's 64-bit layout
        return kind, (minor & 0xFF) | (major & 0xFFF) << 8 | (minor & ~0xFF) << 12 | (major & ~0xFFF) << 32
    return kind, 0


def format_override(uid: int, gid: int, mode: int) -> bytes:
    """Write what `parse_override` reads."""
    return b"%d:%d:0%o" % (uid, gid, mode & 0o7777)
