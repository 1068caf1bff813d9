"""Mounts that are made before the launch: overlays over a source, images, file systems of volumes, mapped owners.

Each becomes a detached mount, which the stage attaches at its destination.

Shape:  SCRATCH/overlay/N  upper and work of the Nth overlay; begun anew at each start, as podman does
        SCRATCH/image/N    the writable layer of an image that is mounted rw, likewise
Source: podman-run(1) "--volume", "--mount"; overlayfs.rst; mount_setattr(2) "ID-mapped mounts"
"""

from __future__ import annotations

import os
import stat

from rootless.errors import KernelError, NotSupported, RootlessError, UsageError
from rootless.kernel.fds import Fd
from rootless.kernel.mounts import (
    MNT_DETACH,
    MOUNT_ATTR_IDMAP,
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_RDONLY,
    MS_NODEV,
    mount,
    mount_setattr,
    open_tree,
    umount2,
)  # fmt: skip
from rootless.mount.driver import RootfsRequest, open_root
from rootless.mount.overlayfs import WorkingDirectory
from rootless.mount.volumes import chown_tree
from rootless.spec.record import record
from rootless.store import images, layout, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.undo import Undo
    from rootless.plan.containermounts import SpecialUse
    from rootless.spec.idmap import IdMap
    from rootless.store.layout import Roots

EXIT_MOUNT = 126


@record
class Around:
    """What the mounts of a container need to know.

    Shape: *scratch* is the container's directory on disk, *run_dir* has the directory `root` to mount on for a moment;
           *owner* is the process's, in our ids; *uids*, *gids* are the maps of a user namespace of its own
    """

    roots: Roots
    scratch: str
    run_dir: str
    driver: str
    owner: tuple[int, int]
    uids: IdMap | None = None
    gids: IdMap | None = None

    @property
    def place(self) -> str:
        return f"{self.run_dir}/root"


def outer_ids(uids: IdMap | None, gids: IdMap | None) -> Callable[[int, int], tuple[int, int]]:
    """Return the function from ids of the container to ours; an id that is not mapped becomes root's."""

    def outer(uid: int, gid: int) -> tuple[int, int]:
        return (uids.lookup(uid) or 0) if uids else uid, (gids.lookup(gid) or 0) if gids else gid

    return outer


def open_specials(
    specials: tuple[SpecialUse, ...], opened: dict[str, Fd], around: Around, undo: Undo
) -> tuple[tuple[str, Fd], ...]:
    """Return detached mounts by destination.

    Shape:  *opened* are file systems of volumes by destination, which an idmap is applied to
    Blocks: for the copy of an image where nothing else than the driver `copy` works
    Raises: RootlessError in podman's words
    Owner:  the caller closes the descriptors; *undo* ends what serves them
    """
    found: list[tuple[str, Fd]] = []
    for at, use in enumerate(specials):
        if use.kind == "overlay":
            fd = _overlay(use, f"{around.scratch}/overlay/{at}", around)
        elif use.kind == "image":
            fd = _image(use, f"{around.scratch}/image/{at}", around, undo)
        else:
            fd = _idmap(use, opened.get(use.target), around)
        undo.push(fd.close)
        found.append((use.target, fd))
    return tuple(found)


def _overlay(use: SpecialUse, scratch: str, around: Around) -> Fd:
    """Mount an overlay over *use.source*; without places of the user's, what is written goes with the container."""
    if not os.path.isdir(use.source):
        raise RootlessError(f"mounting overlay {use.source}: not a directory", code=EXIT_MOUNT)
    try:
        if use.upper:
            _mount_overlay(use.source, use.upper, use.work, around.place)
        else:
            try:
                _mount_overlay(use.source, *_fresh_upper(use.source, scratch), around.place)
            except KernelError:
                _mount_over_memory(use.source, f"{around.run_dir}/upper", around.place)
    except KernelError as error:
        reason = error.strerror.lower() if error.strerror else ""
        raise RootlessError(
            f"mounting overlay {use.source} on {use.target}: {reason}",
            hint="the upper directory needs a file system that overlayfs can write on (ext4, XFS, btrfs; not overlay "
            "or NFS): give one with O,upperdir=DIR,workdir=DIR, or keep the store there with --root",
            code=EXIT_MOUNT,
        ) from error
    try:
        if use.chown:
            chown_tree(around.place, around.owner)
        return open_tree(around.place)
    finally:
        umount2(around.place, MNT_DETACH)


def _mount_overlay(source: str, upper: str, work: str, target: str) -> None:
    text = f"lowerdir=.,upperdir={_escaped(upper)},workdir={_escaped(work)},userxattr"
    with WorkingDirectory(source):
        mount("overlay", target, "overlay", MS_NODEV, os.fsencode(text))


def _mount_over_memory(source: str, place: str, target: str) -> None:
    """Mount with an upper directory on a tmpfs, where the container's own disk cannot hold one (overlay, NFS).

    What is written does not outlive the container anyway. tmpfs has user attributes from 6.6; before, EINVAL.
    """
    layout.make_directory(place)
    mount("tmpfs", place, "tmpfs", MS_NODEV, b"mode=700")
    try:
        _mount_overlay(source, *_fresh_upper(source, f"{place}/o"), target)
    finally:
        umount2(place, MNT_DETACH)  # the overlay keeps what it stands on


def _fresh_upper(source: str, scratch: str) -> tuple[str, str]:
    trees.remove_tree(scratch)
    for directory in (os.path.dirname(scratch), scratch, f"{scratch}/upper", f"{scratch}/work"):
        layout.make_directory(directory)
    # The merged directory has what the upper one has (overlayfs.rst).
    top = os.stat(source)
    os.chmod(f"{scratch}/upper", stat.S_IMODE(top.st_mode))
    try:
        os.chown(f"{scratch}/upper", top.st_uid, top.st_gid)
    except OSError:
        pass  # somebody whom our map does not know: root's then
    return f"{scratch}/upper", f"{scratch}/work"


def _escaped(path: str) -> str:
    return path.replace("\\", "\\\\").replace(",", "\\,").replace(":", "\\:")


def _image(use: SpecialUse, scratch: str, around: Around, undo: Undo) -> Fd:
    """Mount the image named *use.source*."""
    roots = around.roots
    image = images.lookup(roots, use.source)
    if image is None:
        raise RootlessError(
            f'creating image volume "{use.source}":"{use.target}": {use.source}: image not known',
            hint=f"rootless pull {use.source}", code=EXIT_MOUNT,
        )  # fmt: skip
    links = image.links
    if around.uids is not None and around.gids is not None:
        from rootless.store.shifted import shifted_layers

        links = shifted_layers(roots, links, around.uids, around.gids)
    if use.read_only and len(links) == 1:
        # An overlay without an upper needs two layers (overlayfs.rst).
        tree = open_tree(f"{roots.data}/{layout.LINKS}/{links[0]}")
        mount_setattr(tree, attr_set=MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV)
        return tree
    trees.remove_tree(scratch)
    for directory in (os.path.dirname(scratch), scratch):
        layout.make_directory(directory)
    request = RootfsRequest(store=roots.data, links=links, scratch=scratch, run_dir=around.run_dir, forms=image.forms,
                            readonly=use.read_only)  # fmt: skip
    mounted = open_root(around.driver, request)
    undo.push(mounted.close)
    return mounted.fd


def _idmap(use: SpecialUse, opened: Fd | None, around: Around) -> Fd:
    """Return the source with its owners mapped."""
    tree = opened.dup() if opened is not None else open_tree(use.source, recursive=use.recursive)
    try:
        with _mapping(use, around) as userns:
            mount_setattr(tree, attr_set=MOUNT_ATTR_IDMAP, userns=userns, recursive=use.recursive)
    except KernelError as error:
        tree.close()
        raise NotSupported(
            f"option idmap of {use.target}",
            (f"{(error.strerror or '').lower()}: the kernel maps owners only for who mounted the file system",),
            hint="use U to change the owner of the files instead",
        ) from error
    return tree


def _mapping(use: SpecialUse, around: Around) -> Fd:
    """Return a user namespace whose map is the one asked for."""
    from rootless.kernel.enter import nested_namespace
    from rootless.kernel.fds import open_fd

    if use.idmap == "container":
        if around.uids is None or around.gids is None:
            return open_fd("/proc/self/ns/user", os.O_RDONLY)
        return nested_namespace(_lines(around.uids.triples()), _lines(around.gids.triples()))
    maps: dict[str, tuple[tuple[int, int, int], ...]] = {"uids": ((0, 0, 1),), "gids": ((0, 0, 1),)}
    for part in use.idmap.split(";"):
        name, _, text = part.partition("=")
        try:
            triples = tuple([_triple(one) for one in text.split("#")])
        except ValueError:
            triples = ()
        if name not in maps or not triples:
            raise UsageError(f"invalid idmap specification: {use.idmap}")
        maps[name] = triples
    return nested_namespace(_lines(maps["uids"]), _lines(maps["gids"]))


def _triple(text: str) -> tuple[int, int, int]:
    first, second, size = text.split("-")
    return int(first), int(second), int(size)


def _lines(triples: tuple[tuple[int, int, int], ...]) -> str:
    return " ".join([f"{a} {b} {c}" for a, b, c in triples])
