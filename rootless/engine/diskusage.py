"""What images, containers and volumes take on the disk: `system df`.

Source: podman-system-df(1) of podman 4.3; what it counts as reclaimable, observed
"""

from __future__ import annotations

from rootless.engine.listing import Listed, list_all
from rootless.spec.record import record
from rootless.store import containers, images, layers, volumes
from rootless.store.shifted import list_shifted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots


@record
class ImageUse:
    """One image. Shape: *shared* bytes are in layers that other images have too; *containers* were made from it"""

    image: ImageRecord
    size_bytes: int
    shared_bytes: int
    containers: int

    @property
    def unique_bytes(self) -> int:
        return self.size_bytes - self.shared_bytes


@record
class ContainerUse:
    """One container: what it wrote, and how many volumes it has."""

    listed: Listed
    size_bytes: int
    volumes: int


@record
class VolumeUse:
    """One volume: what it holds, and how many containers have it."""

    name: str
    size_bytes: int
    links: int


@record
class Usage:
    """All of it; *shifted* are copies of layers for other maps of ids, (link, bytes).

    Shape: *images_bytes* is what all images take together: a layer of several is on the disk once
    """

    images: tuple[ImageUse, ...]
    images_bytes: int
    containers: tuple[ContainerUse, ...]
    volumes: tuple[VolumeUse, ...]
    shifted: tuple[tuple[str, int], ...]


@record
class Summary:
    """One line of the table."""

    kind: str
    total: int
    active: int
    size_bytes: int
    reclaimable_bytes: int


def measure(roots: Roots) -> Usage:
    """Measure everything. Call it inside our user namespace.

    Blocks: walks what containers and volumes hold
    """
    every = list_all(roots)
    used = volumes.users(roots)
    return Usage(
        images=_images(roots, [one.data for one in every]),
        images_bytes=sum([layer.size_bytes for layer in _image_layers(roots)]),
        containers=tuple([ContainerUse(one, container_size(roots, one.id), _volumes_of(one.data)) for one in every]),
        volumes=tuple([VolumeUse(name, volume_size(roots, name), len(used.get(name, ())))
                       for name in volumes.list_volumes(roots)]),
        shifted=tuple([(copy.link, _tree_size(layers.layer_dir(roots, copy.link))) for copy in list_shifted(roots)]),
    )  # fmt: skip


def measure_images(roots: Roots) -> tuple[ImageUse, ...]:
    """Return the use of each image. Cheap: sizes of layers are in their records"""
    return _images(roots, [container.data for container in containers.list_containers(roots)])


def container_size(roots: Roots, cid: str) -> int:
    """Return the bytes that a container wrote."""
    return _tree_size(f"{containers.data_dir(roots, cid)}/diff")


def volume_size(roots: Roots, name: str) -> int:
    """Return the bytes that a volume holds."""
    return _tree_size(f"{volumes.volumes_dir(roots)}/{name}/{volumes.CONTENT}")


def _tree_size(path: str) -> int:
    from rootless.engine.inspect import tree_size

    return tree_size(path)


def _volumes_of(data: dict[str, Any]) -> int:
    return len([mount for mount in data.get("mounted") or () if mount.get("Type") == "volume"])


def _image_layers(roots: Roots) -> list[layers.LayerRecord]:
    """Return the layers that images have, each once."""
    held = {link for image in images.list_images(roots) for link in image.links}
    return [layer for layer in layers.list_layers(roots) if layer.link in held]


def _images(roots: Roots, records: list[dict[str, Any]]) -> tuple[ImageUse, ...]:
    sizes = {layer.link: layer.size_bytes for layer in layers.list_layers(roots)}
    every = images.list_images(roots)
    holders: dict[str, int] = {}
    for image in every:
        for link in set(image.links):
            holders[link] = holders.get(link, 0) + 1
    found = []
    for image in every:
        links = set(image.links)
        size = sum([sizes.get(link, 0) for link in links]) or image.size_bytes
        shared = sum([sizes.get(link, 0) for link in links if holders[link] > 1])
        made = len([data for data in records if data.get("image_id") == image.id])
        found.append(ImageUse(image, size, shared, made))
    return tuple(found)


def summary(usage: Usage) -> tuple[Summary, ...]:
    """Return the lines of the table; copies for other maps only where there are any."""
    lines = [
        Summary("Images", len(usage.images), len([u for u in usage.images if u.containers]), usage.images_bytes,
                sum([u.unique_bytes for u in usage.images if not u.containers])),
        Summary("Containers", len(usage.containers), len([u for u in usage.containers if _runs(u)]),
                sum([u.size_bytes for u in usage.containers]),
                sum([u.size_bytes for u in usage.containers if not _runs(u)])),
        Summary("Local Volumes", len(usage.volumes), len([u for u in usage.volumes if u.links]),
                sum([u.size_bytes for u in usage.volumes]),
                sum([u.size_bytes for u in usage.volumes if not u.links])),
    ]  # fmt: skip
    if usage.shifted:
        lines.append(Summary("Mapped Layers", len(usage.shifted), len(usage.shifted),
                             sum([size for _, size in usage.shifted]), 0))  # fmt: skip
    return tuple(lines)


def _runs(use: ContainerUse) -> bool:
    return use.listed.status in ("running", "paused", "stopping")
