"""Driver `copy` (podman's name: vfs): the layers are merged into a directory of the container's own.

It needs nothing but a file system: no overlay, no FUSE. The price is a copy of the image for each container, shared
block by block where the file system can (btrfs, XFS).
"""

from __future__ import annotations

import errno
import os

from rootless.errors import RootlessError
from rootless.kernel.fds import open_fd
from rootless.kernel.mounts import MOUNT_ATTR_NODEV, MOUNT_ATTR_RDONLY, mount_setattr, open_tree
from rootless.mount.driver import RootfsMount, RootfsRequest, Unsupported
from rootless.store import copytree, merged, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.idmap import IdMap
    from rootless.store.copytree import Shift


class CopyDriver:
    """Driver `copy`."""

    name = "copy"

    def supports(self, request: RootfsRequest) -> Unsupported | None:
        """It serves everything; owners that are only recorded in attributes stay recorded, as with podman's vfs."""
        return None

    def open(self, request: RootfsRequest) -> RootfsMount:
        """Merge the layers into <scratch>/merged unless that was done before (a restart), and mount that.

        Blocks:  for the copy
        Raises:  RootlessError — no space ...; nothing is left then
        """
        if not os.path.isdir(merged_path(request)):
            _merge(request)
        with open_fd(merged_path(request), os.O_PATH | os.O_DIRECTORY) as directory:
            tree = open_tree("", directory=directory)
        mount_setattr(tree, attr_set=MOUNT_ATTR_NODEV | (MOUNT_ATTR_RDONLY if request.readonly else 0))
        return RootfsMount(tree, self.name)


def merged_path(request: RootfsRequest) -> str:
    """Return the directory of the copy; not `diff`, which a driver that was tried before may have left empty."""
    return f"{request.scratch}/merged"


def _merge(request: RootfsRequest) -> None:
    partial = f"{request.scratch}/.copy"
    trees.remove_tree(partial)
    try:
        os.mkdir(partial, 0o755)
        os.chmod(partial, 0o755)
        with (
            merged.open_layers(reversed(request.layer_paths)) as layers,
            open_fd(partial, os.O_RDONLY | os.O_DIRECTORY) as root,
        ):
            copytree.copy_tree(layers, root, shift_by(request.uid_map, request.gid_map))
        os.rename(partial, merged_path(request))
    except OSError as error:
        trees.remove_tree(partial)
        hint = "free some space, or use a driver that does not copy" if error.errno == errno.ENOSPC else None
        text = f"copy the image into {request.scratch}: {os.strerror(error.errno or 0).lower()}"
        raise RootlessError(text, hint=hint) from error


def shift_by(uids: IdMap | None, gids: IdMap | None) -> Shift:
    """Return the function from the owners of a layer, which are the container's ids, to ours; see copytree.Shift."""
    if uids is None and gids is None:
        return copytree.unshifted

    def shift(uid: int, gid: int) -> tuple[int, int]:
        new_uid = uids.lookup(uid) if uids is not None else None
        new_gid = gids.lookup(gid) if gids is not None else None
        return uid if new_uid is None else new_uid, gid if new_gid is None else new_gid

    return shift
