"""Finish a layer when the layers below it are finished: what depends on them, and the times of directories.

1. Hard links to files of a lower layer: the file is copied up under its own name, then linked.
2. Whiteouts of what no lower layer has are taken away: a directory that is not merged would list them.
3. Implied directories take owner, mode, attributes and times of the directory that they hide; without that a layer
   that only brings /tmp/x would turn 1777 into 0755.
4. Times of directories, which everything before has changed.

Source: OCI image-spec layer.md · overlayfs.rst "Readdir" (whiteouts are only filtered in merged directories)
"""

from __future__ import annotations

import errno
import os
import stat

from rootless.proto import tar
from rootless.proto.changeset import shown
from rootless.store import merged
from rootless.store.copytree import TreeCopier
from rootless.unpack.extract import link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.proto.changeset import Hardlink
    from rootless.store.merged import Merged
    from rootless.unpack.extract import Extractor

    Path = tuple[bytes, ...]


_ROOT_MODE = 0o555
"""Of a root that no layer brings: podman's, so that the same image looks the same."""


def finish(layer: Extractor, lower: Merged) -> None:
    """Complete *layer*, whose archive has ended, on top of *lower*.

    Raises: OSError, TarError — a hard link to nothing
    """
    copier = TreeCopier()
    made: dict[Path, Path] = {}
    for op in layer.deferred:
        _lower_link(layer, lower, op, copier, made)
    _drop_useless_whiteouts(layer, lower)
    _adopt(layer, lower, copier)
    _set_times(layer)


def _lower_link(layer: Extractor, lower: Merged, op: Hardlink, copier: TreeCopier, made: dict[Path, Path]) -> None:
    """Carry out a hard link that had to wait; *made* is where lower files are by now in this layer."""
    places = layer.places
    place = places.parent(op.path)
    if merged.status(place.fd, op.path[-1]) is not None:
        if (place.inode, op.path[-1]) not in places.whiteouts:
            return  # a later entry has put something else there
        places.whiteouts.pop((place.inode, op.path[-1]))
        os.unlink(op.path[-1], dir_fd=place.fd.fileno())
    there = made.get(op.target)
    if there is None:
        there = made[op.target] = _copy_up(layer, lower, op, copier)
    if there != op.path:
        link(places, there, op.path)
    made[op.path] = there


def _copy_up(layer: Extractor, lower: Merged, op: Hardlink, copier: TreeCopier) -> Path:
    """Copy the lower file that *op* names into this layer; return where it is now."""
    found = lower.find(op.target)
    if found is None or stat.S_ISDIR(found.info.st_mode):
        raise tar.TarError(f"{shown(op.header.name)}: a hard link to {shown(op.header.linkname)}, which is no file")
    path = op.target
    place = layer.places.parent(path)
    if merged.status(place.fd, path[-1]) is not None:
        # The layer replaces or removes the file, and keeps it under this name only.
        path = op.path
        place = layer.places.parent(path)
    copier.copy_node(found.directory, found.name, found.info, place.fd, path[-1])
    layer.size_bytes += found.info.st_size
    return path


def _drop_useless_whiteouts(layer: Extractor, lower: Merged) -> None:
    places = layer.places
    for (inode, name), path in sorted(places.whiteouts.items(), key=_by_path):
        if inode not in places.opaque and lower.find(path) is not None:
            continue
        place = places.existing(path[:-1])
        if place is not None and place.inode == inode:
            os.unlink(name, dir_fd=place.fd.fileno())


def _adopt(layer: Extractor, lower: Merged, copier: TreeCopier) -> None:
    places = layer.places
    for inode, path in sorted(places.implied.items(), key=_by_place):
        below = lower.find(path)
        place = places.existing(path)
        if not path and below is None:
            os.fchmod(places.root.fd.fileno(), _ROOT_MODE)
        if below is None or place is None or place.inode != inode or not stat.S_ISDIR(below.info.st_mode):
            continue
        for fd in lower.directory(path):
            # The root's own name is "."; everything else is opened already as the topmost merged directory.
            copier.finish_directory(fd, below.info, place.fd)
            layer.directories[place.inode] = (path, below.info.st_mtime_ns, ())
            break


def _set_times(layer: Extractor) -> None:
    places = layer.places
    for inode, (path, mtime_ns, attributes) in sorted(layer.directories.items(), key=_by_directory):
        place = places.existing(path)
        if place is None or place.inode != inode:
            continue  # replaced by a later entry
        for key, value in attributes:
            try:
                os.setxattr(place.fd.fileno(), key, value)
            except OSError as error:
                if error.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                    raise
                layer.skipped_xattrs += 1
        os.utime(place.fd.fileno(), ns=(mtime_ns, mtime_ns))


def _by_path(item: tuple[tuple[int, bytes], Path]) -> Path:
    return item[1]


def _by_place(item: tuple[int, Path]) -> Path:
    return item[1]


def _by_directory(item: tuple[int, tuple[Path, int, tuple[tuple[bytes, bytes], ...]]]) -> Path:
    return item[1][0]
