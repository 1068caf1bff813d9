"""What a container or an image changed: A, C and D of `diff`.

Shape:  a writable layer (overlay and fuse) is read with its whiteouts; a copy, and two objects that are compared with
        one another, are walked on both sides. Owners, modes, sizes and times decide, not contents
Source: podman-diff(1) of podman 4.3; its order and what it leaves out, observed
"""

from __future__ import annotations

import os
import stat

from rootless.errors import ImageError, NotFound, ReferenceInvalid, RootlessError, StoreError
from rootless.spec.record import record
from rootless.store import containers, images, merged
from rootless.store.layers import layer_dir

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd
    from rootless.store.containers import Container
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots
    from rootless.store.merged import Merged, Path

ADDED, CHANGED, DELETED = "A", "C", "D"
# made by the engine in every container
_OURS = frozenset(
    ("/dev", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/proc", "/run", "/run/notify", "/run/.containerenv",
     "/run/secrets", "/sys", "/etc/mtab")
)  # fmt: skip


@record
class Layered:
    """A container or image as directories.

    Shape: *top* is what it added, *below* the layers under it, the lowest first; *whole*: *top* is a complete tree
    """

    top: str
    below: tuple[str, ...]
    whole: bool = False


def find(roots: Roots, text: str, kind: str = "") -> Layered:
    """Return the container or image *text*; *kind* is container, image, or "" for both.

    Raises: RootlessError in podman's words
    """
    if kind in ("", "container"):
        try:
            return of_container(roots, containers.find(roots, text))
        except NotFound:
            if kind:
                raise RootlessError(f"{text} not found: container not known") from None
    try:
        image = images.lookup(roots, text)
    except (ReferenceInvalid, ImageError):
        image = None
    if image is None:
        raise RootlessError(f"{text} not found: {text + ': image' if kind else 'layer'} not known")
    return of_image(roots, image)


def of_container(roots: Roots, container: Container) -> Layered:
    """Return the directories of a container. Raises: StoreError"""
    data = container.data
    image_id = str(data.get("image_id") or "")
    if not image_id:
        raise StoreError(f"{container.name} has no layers: its root is the directory {data.get('image')}")
    image = images.get(roots, image_id)
    if image is None:
        raise StoreError(f"the image {image_id[:12]} of container {container.name} is gone")
    scratch = containers.data_dir(roots, container.id)
    below = tuple([layer_dir(roots, link) for link in image.links])
    if os.path.isdir(f"{scratch}/merged"):
        return Layered(f"{scratch}/merged", below, whole=True)
    return Layered(f"{scratch}/diff", below)


def of_image(roots: Roots, image: ImageRecord) -> Layered:
    """Return the directories of an image: its last layer, and those below."""
    paths = [layer_dir(roots, link) for link in image.links]
    return Layered(paths[-1], tuple(paths[:-1])) if paths else Layered("", ())


def changes(one: Layered, other: Layered | None = None) -> list[tuple[str, str]]:
    """Return (kind, path) by path: what *one* changed, or how it differs from *other*. Call it in our user namespace.

    Blocks: walks the trees
    """
    found: dict[str, str] = {}
    if other is not None:
        with _opened(_paths(one)) as new, _opened(_paths(other)) as old:
            _compare(new, old, (), found)
    elif one.whole:
        with _opened((one.top,)) as new, _opened(tuple(reversed(one.below))) as old:
            _compare(new, old, (), found)
    elif os.path.isdir(one.top):
        with _opened((one.top,)) as top, _opened(tuple(reversed(one.below))) as below:
            _walk(top, below, (), found)
    return sorted([(kind, path) for path, kind in found.items() if path not in _OURS], key=lambda pair: pair[1])


def _opened(paths: tuple[str, ...]) -> Merged:
    return merged.open_layers([path for path in paths if os.path.isdir(path)])


def _paths(one: Layered) -> tuple[str, ...]:
    """Return the directories, the top one first, which together show the object."""
    if one.whole:
        return (one.top,)
    return (one.top, *reversed(one.below))


def _note(found: dict[str, str], kind: str, path: Path) -> None:
    found[_text(path)] = kind
    # Who gets or loses an entry has changed, whatever its times say.
    if kind != CHANGED and len(path) > 1:
        found.setdefault(_text(path[:-1]), CHANGED)


def _text(path: Path) -> str:
    return "/" + os.fsdecode(b"/".join(path))


def _walk(top: Merged, below: Merged, path: Path, found: dict[str, str]) -> None:
    """Note what the layer *top* says of the directory *path*."""
    entries = [
        (name, info, merged.is_whiteout(fd, name, info), stat.S_ISDIR(info.st_mode) and _is_opaque(fd, name))
        for fd, name, info in top.entries(path, raw=True)
    ]
    for name, info, is_whiteout, is_opaque in sorted(entries):
        here = (*path, name)
        lower = below.find(here)
        if is_whiteout:
            if lower is not None:
                _note(found, DELETED, here)
            continue
        if lower is None:
            _note(found, ADDED, here)
        elif is_opaque:
            _note(found, DELETED, here)  # another directory stands there now
        elif not _same(info, lower.info):
            _note(found, CHANGED, here)
        if stat.S_ISDIR(info.st_mode):
            _walk(top, below, here, found)


def _is_opaque(directory: Fd, name: bytes) -> bool:
    path = os.fsencode(directory.proc_path()) + b"/" + name
    return merged.attribute(path, merged.OPAQUE) == b"y"


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    """Say whether two directories are the same; anything else that is in a writable layer was changed."""
    if not (stat.S_ISDIR(one.st_mode) and stat.S_ISDIR(other.st_mode)):
        return False
    return (one.st_mode, one.st_uid, one.st_gid, one.st_mtime_ns) == (
        other.st_mode, other.st_uid, other.st_gid, other.st_mtime_ns)  # fmt: skip


def _compare(new: Merged, old: Merged, path: Path, found: dict[str, str]) -> None:
    """Note how the directory *path* of *new* differs from that of *old*."""
    before = {name: info for _, name, info in old.entries(path)}
    after = {name: info for _, name, info in new.entries(path)}
    for name in sorted({*before, *after}):
        here = (*path, name)
        was, now = before.get(name), after.get(name)
        if now is None:
            _note(found, DELETED, here)
            continue
        if was is None:
            _note(found, ADDED, here)
        elif _differ(was, now):
            _note(found, CHANGED, here)
        if stat.S_ISDIR(now.st_mode):
            _compare(new, old, here, found)


def _differ(was: os.stat_result, now: os.stat_result) -> bool:
    if (was.st_mode, was.st_uid, was.st_gid, was.st_rdev) != (now.st_mode, now.st_uid, now.st_gid, now.st_rdev):
        return True
    if stat.S_ISDIR(now.st_mode):
        return False
    return (was.st_size, was.st_mtime_ns) != (now.st_size, now.st_mtime_ns)
