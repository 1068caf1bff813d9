"""Delete what nobody needs: leftovers of crashes, and layers without an image or container.

Shape:   mark (images, containers' links) and sweep (layers, shifted copies, blobs, nameless trees), under the exclusive
         data lock. Trees are moved to a staging directory under the lock and deleted after it was given back.
"""

from __future__ import annotations

import os

from rootless.spec.record import record
from rootless.store import atomic, images, layers, layout, trees

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection

    from rootless.store.layout import Roots


@record
class Collected:
    """What `collect` did."""

    layers: tuple[str, ...] = ()
    """Links of the trees that were deleted."""
    reason: str = ""
    """Why nothing could be deleted now, empty if it could."""


def sweep_leftovers(roots: Roots) -> int:
    """Delete the staging directories of processes that died; return how many. Cheap when there are none.

    Call it inside the user namespace: the trees may belong to any mapped id.
    """
    swept = 0
    staging = f"{roots.data}/{layout.STAGING}"
    for name in sorted({n.removesuffix(".lock") for n in atomic.names_in(staging)}):
        path = f"{staging}/{name}"
        # A directory whose lock file is gone: its owner was killed while it closed it. Nobody makes one without.
        lock = layers.own_staging(path, create=not os.path.exists(path + ".lock"))
        if lock is None:
            continue
        with lock:
            trees.remove_tree(path)
            atomic.remove_file(path + ".lock")
        swept += 1
    return swept


def collect(roots: Roots, *, in_use: Collection[str] = ()) -> Collected:
    """Delete layers that no image names and that are not *in_use* (links that containers hold), and stale blobs.

    While a container lives or a pull runs nothing is deleted: the next call finds it.

    Blocks:  for the deletion, about a second for 50,000 files
    Raises:  StoreError
    """
    if layout.read_format(roots) is None:
        return Collected()
    sweep_leftovers(roots)
    lock = layout.lock_exclusive(roots)
    if isinstance(lock, str):
        return Collected(reason=lock)
    with layers.open_staging(roots, data=lock) as trash:
        gone = _sweep(roots, trash.path, set(in_use))
        trash.release_data()
    return Collected(layers=tuple(gone))


def _sweep(roots: Roots, trash: str, kept: set[str]) -> list[str]:
    kept_blobs: set[str] = set()
    for image in images.list_images(roots):
        kept.update(image.links)
        kept_blobs.update((image.digest.rpartition(":")[2], image.id))
    for name in atomic.names_in(f"{roots.data}/{layout.LAYERS}"):
        path = f"{roots.data}/{layout.LAYERS}/{name}"
        record = atomic.read_record(path)
        if record is not None and record.get("link") not in kept:
            atomic.remove_file(path)
    for name in atomic.names_in(f"{roots.data}/{layout.SHIFTED}"):
        path = f"{roots.data}/{layout.SHIFTED}/{name}"
        record = atomic.read_record(path)
        if record is None:
            continue
        if record.get("of") in kept:
            kept.add(record["link"])
        elif record.get("link") not in kept:
            atomic.remove_file(path)
    gone = []
    for link in atomic.names_in(f"{roots.data}/{layout.LINKS}"):
        if link not in kept:
            try:
                os.rename(layers.layer_dir(roots, link), f"{trash}/{link}")
            except OSError as error:
                raise atomic.cannot("remove", layers.layer_dir(roots, link), error) from error
            gone.append(link)
    for name in atomic.names_in(f"{roots.data}/{layout.BLOBS}"):
        if name not in kept_blobs:
            atomic.remove_file(f"{roots.data}/{layout.BLOBS}/{name}")
    return gone
