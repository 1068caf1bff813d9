"""All mounts of a container that are made before its launch, by destination: what `supervise/prepare.py` calls.

Source: podman-run(1) "--volume", "--mount", "--secret"
"""

from __future__ import annotations

import errno
import os
import posix

from rootless.errors import KernelError
from rootless.kernel.fds import Fd
from rootless.kernel.paths import open_in_root
from rootless.mount.specials import Around, open_specials, outer_ids
from rootless.store import copytree, merged, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.undo import Undo
    from rootless.plan.containermounts import VolumeUse
    from rootless.plan.translate import Translation
    from rootless.store.layout import Roots

_DIRECTORY = posix.O_RDONLY | posix.O_DIRECTORY


def is_needed(translation: Translation, roots: Roots) -> bool:
    """Say whether there is anything to mount before the launch. Cheap: reads the records of the volumes"""
    t = translation
    if t.specials or t.secret_files:
        return True
    return any([volumes.read_volume(roots, volume.name).get("options") for volume in t.volumes])


def open_mounts(translation: Translation, around: Around, root: Fd, undo: Undo) -> tuple[tuple[str, Fd], ...]:
    """Return detached mounts by destination: volumes with options, overlays, images, mapped owners, secrets.

    Raises: RootlessError
    Owner:  the caller closes the descriptors; *undo* closes them too, and ends what serves them
    """
    found: dict[str, Fd] = {}
    for volume in translation.volumes:
        fd = _volume(volume, around, root)
        if fd is not None:
            undo.push(fd.close)
            found[volume.target] = fd
    found.update(open_specials(translation.specials, found, around, undo))
    if translation.secret_files:
        from rootless.mount.secretfiles import open_secrets

        outer = outer_ids(around.uids, around.gids)
        for target, fd in open_secrets(translation.secret_files, around.place, outer):
            undo.push(fd.close)
            found[target] = fd
    return tuple(found.items())


def _volume(volume: VolumeUse, around: Around, root: Fd) -> Fd | None:
    """Return what the options of the volume ask for, filled from the image where it is new; None for a plain one."""
    record = volumes.read_volume(around.roots, volume.name)
    if not record.get("options"):
        return None
    from rootless.mount.drivervolumes import open_volume
    from rootless.plan import volumeoptions

    opened = open_volume(around.roots, volume.name)
    if opened is None:
        return None
    tree, is_new = opened
    if not is_new:
        return tree
    options = volumeoptions.parse(record["options"])
    try:
        with open_in_root(tree, b".", _DIRECTORY) as content:
            _fill(content, volume, root, copy_up=volume.copy_up and options.copy_up)
            if volume.chown:
                os.fchown(content.fileno(), *around.owner)
    except BaseException:
        tree.close()
        raise
    return tree


def _fill(content: Fd, volume: VolumeUse, root: Fd, *, copy_up: bool) -> None:
    if not copy_up:
        return
    try:
        source = open_in_root(root, os.fsencode(volume.target), _DIRECTORY)
    except KernelError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            raise
        return
    if not posix.listdir(source.fileno()):
        source.close()
        return
    with merged.Merged((source,)) as image:
        copytree.copy_tree(image, content)
