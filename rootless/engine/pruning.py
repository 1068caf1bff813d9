"""Remove what nobody uses, or everything: `system prune` and `system reset`.

Source: podman-system-prune(1), podman-system-reset(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.engine import containers as engine
from rootless.engine import diskusage
from rootless.engine import images as engine_images
from rootless.engine import volumes as engine_volumes
from rootless.engine.filters import labels_match, prune_filter, until
from rootless.errors import RootlessError, StoreError, UsageError
from rootless.kernel.enter import enter
from rootless.plan.userns import parse_mode
from rootless.spec import moment
from rootless.spec.record import record
from rootless.store import atomic, containers, images, layout, trees, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

DEAD = ("created", "exited")


@record
class Pruned:
    """What was removed."""

    containers: tuple[str, ...]
    volumes: tuple[str, ...]
    images: tuple[str, ...]
    reclaimed_bytes: int
    failed: tuple[RootlessError, ...]


def check_filters(texts: tuple[str, ...]) -> None:
    """Raises: UsageError for a filter that is none"""
    prune_filter(texts)


def prune(
    roots: Roots, environ: Mapping[str, str], *, all_images: bool, with_volumes: bool, filters: tuple[str, ...]
) -> Pruned:
    """Remove containers that do not run, images that nobody needs, and volumes where that is asked for.

    Blocks: for the disk
    Raises: RootlessError
    """
    wanted = prune_filter(filters)
    wanted_image = _image_filter(filters)
    if not engine.settle(roots, environ):
        enter(roots.run, parse_mode(""), environ)
    reclaimed = 0
    failed: list[RootlessError] = []
    gone: list[str] = []
    for one in engine.list_all(roots):
        if one.status not in DEAD or not wanted(one):
            continue
        size = diskusage.container_size(roots, one.id)
        try:
            engine.check_removable(roots, one.container)
            engine.remove(roots, one.container, volumes=False)
        except RootlessError as error:
            failed.append(error)
            continue
        gone.append(one.id)
        reclaimed += size
    gone_volumes: list[str] = []
    if with_volumes:
        for name, size in _unused_volumes(roots, filters):
            try:
                engine_volumes.remove(roots, name)
            except RootlessError as error:
                failed.append(error)
                continue
            gone_volumes.append(name)
            reclaimed += size
    gone_images: list[str] = []
    users = engine_images.image_users(roots)
    before = {use.image.id: use.unique_bytes for use in diskusage.measure_images(roots)}
    for image in images.list_images(roots):
        if users(image) or not (all_images or not image.names) or not wanted_image(image):
            continue
        for removal in engine_images.remove(roots, (image.id,), force=True):
            if isinstance(removal, engine_images.NotRemoved):
                failed.append(removal.error)
            elif isinstance(removal, engine_images.Deleted):
                gone_images.append(removal.id)
                reclaimed += before.get(removal.id, 0)
    return Pruned(tuple(gone), tuple(gone_volumes), tuple(gone_images), reclaimed, tuple(failed))


def _unused_volumes(roots: Roots, filters: tuple[str, ...]) -> list[tuple[str, int]]:
    used = volumes.users(roots)
    wanted = engine_volumes.filter_of(filters, roots, prune=True)
    names = [str(r["name"]) for r in engine_volumes.read_all(roots) if r["name"] not in used and wanted(r)]
    return [(name, diskusage.volume_size(roots, name)) for name in names]


def _image_filter(texts: tuple[str, ...]) -> Callable[[ImageRecord], bool]:
    tests: list[Callable[[ImageRecord], bool]] = []
    for text in texts:
        key, _, value = text.partition("=")
        if key == "until":
            limit = until(value)
            tests.append(lambda image, limit=limit: (moment.parse(image.created) or 0) < limit)  # type: ignore[misc]
        else:
            like = key == "label"
            tests.append(lambda image, value=value, like=like: labels_match(_labels(image), value) == like)  # type: ignore[misc]
    return lambda image: all([test(image) for test in tests])


def _labels(image: ImageRecord) -> dict[str, str]:
    config = image.config.get("config")
    found = config.get("Labels") if isinstance(config, dict) else None
    return found if isinstance(found, dict) else {}


def reset(roots: Roots, environ: Mapping[str, str]) -> None:
    """Kill all containers and delete both roots; a run root in which containers of another store live stays.

    Blocks: until the containers are gone, and for the disk
    Raises: StoreError - somebody else works in the store; nothing but containers is gone then
    """
    every = containers.list_containers(roots)
    for container in every:
        if containers.status(roots, container) == "remote":
            raise UsageError(
                f"container {container.name} runs on another machine", hint="remove it from the machine that runs it"
            )
    for container in every:
        engine.stop(roots, container, 0)
    if not engine.settle(roots, environ):
        enter(roots.run, parse_mode(""), environ)
    if os.path.isdir(roots.data):
        lock = layout.lock_exclusive(roots)
        if isinstance(lock, str):
            raise StoreError(f"the store cannot be removed now: {lock}")
        with lock:
            # The records first: what a crash leaves is then nobody's, and the next reset takes it.
            for name in sorted(os.listdir(roots.data)):
                if name != layout.LOCK:
                    trees.remove_tree(f"{roots.data}/{name}")
        trees.remove_tree(roots.data)
    others = atomic.names_in(f"{roots.run}/{containers.CONTAINERS}")
    if not [cid for cid in others if containers.is_alive(roots, cid)]:
        trees.remove_tree(roots.run)
