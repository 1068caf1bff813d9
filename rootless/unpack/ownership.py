"""Who owns what an image brings: chown where this namespace has the id, a recorded squash where it does not.

Layers are unpacked with the default map, in which an id of the image is the same id of our namespace. On a single-id
map, or for an id beyond the range, the file becomes root's (the user's own on the host), and what it should be is
kept in `user.containers.override_stat`, which fuse-overlayfs and containers/storage read too.

Source: containers/storage "ContainersOverrideXattr" (the format uid:gid:0MODE)
"""

from __future__ import annotations

import errno

from rootless.spec.idmap import IdMap, parse_map

OVERRIDE = "user.containers.override_stat"

#: What chown(2) says where an id has no place: not mapped (EINVAL), or a server that squashes root (EPERM).
UNPLACED = (errno.EINVAL, errno.EPERM)


class Owners:
    """Decides owners for one layer and counts what had to be squashed."""

    def __init__(self, uids: IdMap, gids: IdMap) -> None:
        self._uids = uids
        self._gids = gids
        # Nearly every id is in the range that begins at 0: one comparison then.
        self._uid_end = _first(uids)
        self._gid_end = _first(gids)
        self.squashed = 0

    def fits(self, uid: int, gid: int) -> bool:
        """Say whether both ids exist in this namespace."""
        return (uid < self._uid_end or self._uids.lookup(uid) is not None) and (
            gid < self._gid_end or self._gids.lookup(gid) is not None
        )

    def squash(self, uid: int, gid: int, mode: int, *, directory: bool = False) -> tuple[int, int, int]:
        """Return the owner and mode for an entry that does not fit, and count it.

        A set-id bit must not make the file of another id into one that gives root's.
        """
        self.squashed += 1
        place_uid = uid if self._uids.lookup(uid) is not None else 0
        place_gid = gid if self._gids.lookup(gid) is not None else 0
        if place_uid != uid:
            mode &= ~0o4000
        if place_gid != gid and not directory:
            mode &= ~0o2000
        return place_uid, place_gid, mode


def current() -> Owners:
    """Return the owners for the namespace that this process is in."""
    with open("/proc/self/uid_map", encoding="ascii") as uids, open("/proc/self/gid_map", encoding="ascii") as gids:
        return Owners(parse_map(uids.read()), parse_map(gids.read()))


def override(uid: int, gid: int, mode: int) -> bytes:
    """Return the attribute that remembers what a squashed file should be."""
    return f"{uid}:{gid}:0{mode & 0o7777:o}".encode()


def _first(ids: IdMap) -> int:
    for r in ids.ranges:
        if r.container == 0:
            return r.size
    return 0
