"""Unpacked layers, stored once under their chain id, and the one way in which images and layers become visible.

Shape:   layers/HEX.json = {"format", "chain_id", "diff_id", "parent", "link", "size", "entries", "squashed", "forms"}
         forms: how this layer says "not there", of "device" (a 0:0 character device), "xattr"
         (user.overlay.whiteout below a directory marked user.overlay.opaque=x) and "opaque" (user.overlay.opaque=y)
"""

from __future__ import annotations

import errno
import fcntl
import os

from rootless.errors import Corrupt, InternalError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.fs import syncfs
from rootless.spec.record import record, replace
from rootless.store import atomic, images, layout, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

FORM_DEVICE = "device"
FORM_XATTR = "xattr"
FORM_OPAQUE = "opaque"

_ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@record
class LayerRecord:
    """A layer in the store."""

    chain_id: str
    diff_id: str
    parent: str
    """Chain id of the layer below, empty for a base."""
    link: str
    """Name of its directory in DATA/l."""
    size_bytes: int = 0
    entries: int = 0
    squashed: int = 0
    forms: tuple[str, ...] = ()


def layer_dir(roots: Roots, link: str) -> str:
    """Return the directory that holds the tree of the layer *link*."""
    return f"{roots.data}/{layout.LINKS}/{link}"


def read_layer(roots: Roots, chain_id: str) -> LayerRecord | None:
    """Return the layer with this chain id, None if it is not (or no longer) here.

    Hold the shared data lock, or it may vanish.
    """
    path = _record_path(roots, chain_id)
    value = atomic.read_record(path)
    if value is None:
        return None
    try:
        found = LayerRecord(
            chain_id=value["chain_id"],
            diff_id=value["diff_id"],
            parent=value["parent"],
            link=value["link"],
            size_bytes=value["size"],
            entries=value["entries"],
            squashed=value["squashed"],
            forms=tuple(value["forms"]),
        )
    except (KeyError, TypeError) as error:
        raise Corrupt(path, f"not a layer record ({error})", hint=f"remove the file {path}") from error
    return found if os.path.isdir(layer_dir(roots, found.link)) else None


def exists(roots: Roots, chain_id: str) -> bool:
    """Say whether the layer is here; see `read_layer`."""
    return read_layer(roots, chain_id) is not None


def list_layers(roots: Roots) -> list[LayerRecord]:
    """Return all layers."""
    found = []
    for name in atomic.names_in(f"{roots.data}/{layout.LAYERS}"):
        layer = read_layer(roots, "sha256:" + name.removesuffix(".json"))
        if layer is not None:
            found.append(layer)
    return found


class Staging:
    """A directory of our own on the store's file system, and the promise that what we see in the store stays.

    Owner: `close` deletes what is still in it and gives the locks back; a crash leaves that to gc.sweep_leftovers.
    """

    def __init__(self, roots: Roots, path: str, data: layout.DataLock | None, lock: Fd) -> None:
        self.roots = roots
        self.path = path
        self._data = data
        self._lock = lock

    def make_dir(self, name: str) -> str:
        """Make and return an empty directory, the root of a layer: 0755 whatever the umask and default ACLs."""
        path = f"{self.path}/{name}"
        try:
            layout.make_directory(path, 0o755)
        except OSError as error:
            raise atomic.cannot("make", path, error) from error
        for acl in ("system.posix_acl_default", "system.posix_acl_access"):
            try:
                os.removexattr(path, acl)
            except OSError:
                pass  # there is none, or none can be
        return path

    def close(self) -> None:
        """Delete what is left here."""
        if self._lock.closed:
            return
        try:
            trees.remove_tree(self.path)
            atomic.remove_file(self.path + ".lock")
        finally:
            self._lock.close()
            if self._data is not None:
                self._data.close()

    def release_data(self) -> None:
        """Give the data lock back early: what is deleted here no longer concerns the store."""
        if self._data is not None:
            self._data.close()
            self._data = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_staging(roots: Roots, *, data: layout.DataLock | None = None) -> Staging:
    """Make a staging directory; *data* is a lock on the store that the caller holds, else a shared one is taken.

    Raises: StoreError — the store cannot be written
    """
    layout.prepare_data(roots)
    held = data if data is not None else layout.lock_shared(roots)
    try:
        while True:
            path = f"{roots.data}/{layout.STAGING}/{new_link()}"
            lock = own_staging(path, create=True)
            if lock is None:
                continue
            try:
                layout.make_directory(path)
            except OSError as error:
                atomic.remove_file(path + ".lock")
                lock.close()
                raise atomic.cannot("make", path, error) from error
            return Staging(roots, path, held, lock)
    except BaseException:
        held.close()
        raise


def own_staging(path: str, *, create: bool = False) -> Fd | None:
    """Lock the staging directory *path*; None if its maker lives, or if another process was quicker.

    The lock file is unlinked by whoever held the lock last, so having it locked means nothing until it is seen to be
    the file that still has the name.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0)
    try:
        lock = open_fd(path + ".lock", flags, 0o600)
    except OSError as error:
        if error.errno == errno.ENOENT and not create:
            return None
        raise atomic.cannot("make", path + ".lock", error) from error
    try:
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK or not create:
            lock.close()
            return None
        return lock  # no locks on this file system: nobody else can own it either, so nothing is ever swept
    try:
        named = os.stat(path + ".lock")
    except FileNotFoundError:
        named = None
    held = os.fstat(lock.fileno())
    if named is None or (named.st_dev, named.st_ino) != (held.st_dev, held.st_ino):
        lock.close()
        return None
    return lock


@record
class StagedLayer:
    """A finished layer that waits in a staging directory."""

    path: str
    chain_id: str
    diff_id: str
    parent: str
    size_bytes: int = 0
    entries: int = 0
    squashed: int = 0
    forms: tuple[str, ...] = ()


def commit(
    staging: Staging, staged: Sequence[StagedLayer], image: ImageRecord, names: Sequence[str] = ()
) -> ImageRecord:
    """Make *image* and those of its layers that are new visible, all together; return it with its links.

    *image* names all layers by chain id; its links, size and squashed count are filled in here. Two processes may
    commit the same layer: the record's name decides, and the loser uses the winner's tree.

    Blocks:  for one syncfs(2), about a second for 50,000 files
    Raises:  StoreError, KernelError(syncfs); nothing is visible then, or only whole layers without an image
    """
    roots = staging.roots
    known: dict[str, LayerRecord] = {}
    fresh: dict[str, LayerRecord] = {}
    for s in staged:
        fresh[s.chain_id] = LayerRecord(
            s.chain_id, s.diff_id, s.parent, new_link(), s.size_bytes, s.entries, s.squashed, s.forms
        )
        atomic.write_new(_staged_record(staging, s.chain_id), _encode(fresh[s.chain_id]))
    for chain_id in image.layers:
        if chain_id not in fresh:
            found = read_layer(roots, chain_id)
            if found is None:
                raise InternalError(f"layer {chain_id} of image {image.id[:12]} was not unpacked")
            known[chain_id] = found
    image = _linked(image, {**known, **fresh})
    staged_image = f"{staging.path}/image.json"
    atomic.write_new(staged_image, images.encode(image))
    with open_fd(staging.path, os.O_RDONLY | os.O_DIRECTORY) as directory:
        syncfs(directory)
    lost = False
    for s in staged:
        winner = _place(staging, s, fresh[s.chain_id])
        lost = lost or winner != fresh[s.chain_id]
        known[s.chain_id] = winner
    if lost:
        image = _linked(image, known)
        atomic.write_new(staged_image, images.encode(image), sync=True)
    images.publish(roots, staged_image, image, names)
    return replace(image, names=tuple(names))


def new_link() -> str:
    """Return a short name that is new with near certainty: 40 random bits."""
    number = int.from_bytes(os.urandom(5), "big")
    return "".join([_ALPHABET[number >> shift & 31] for shift in range(0, 40, 5)])


def _place(staging: Staging, s: StagedLayer, layer: LayerRecord) -> LayerRecord:
    """Move one staged tree into the store; return the record that holds, which may be another process's."""
    roots = staging.roots
    path, target = _record_path(roots, layer.chain_id), layer_dir(roots, layer.link)
    try:
        os.rename(s.path, target)
    except OSError as error:
        raise atomic.cannot("make", target, error) from error
    try:
        if atomic.publish_new(_staged_record(staging, layer.chain_id), path):
            return layer
        winner = read_layer(roots, layer.chain_id)
        if winner is None:  # a record whose tree somebody deleted by hand
            atomic.publish(_staged_record(staging, layer.chain_id), path)
            return layer
    except BaseException:
        os.rename(target, s.path)
        raise
    os.rename(target, s.path)
    return winner


def _linked(image: ImageRecord, layers: dict[str, LayerRecord]) -> ImageRecord:
    found = [layers[chain_id] for chain_id in image.layers]
    return replace(
        image,
        links=tuple([layer.link for layer in found]),
        size_bytes=sum([layer.size_bytes for layer in found]),
        squashed=sum([layer.squashed for layer in found]),
        forms=tuple(sorted({form for layer in found for form in layer.forms})),
    )


def _encode(layer: LayerRecord) -> bytes:
    return atomic.encode_record(
        {
            "chain_id": layer.chain_id,
            "diff_id": layer.diff_id,
            "parent": layer.parent,
            "link": layer.link,
            "size": layer.size_bytes,
            "entries": layer.entries,
            "squashed": layer.squashed,
            "forms": list(layer.forms),
        }
    )


def _staged_record(staging: Staging, chain_id: str) -> str:
    return f"{staging.path}/layer-{chain_id.rpartition(':')[2]}.json"


def _record_path(roots: Roots, chain_id: str) -> str:
    return f"{roots.data}/{layout.LAYERS}/{chain_id.rpartition(':')[2]}.json"
