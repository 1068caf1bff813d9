"""Everything that is known of an image or a container, as the documents that `podman inspect` prints.

Source: podman 4.3's documents, observed; image-spec config.md
"""

from __future__ import annotations

import os

from rootless.engine.listing import look_at
from rootless.errors import NotFound, RootlessError
from rootless.spec.jsontext import JSONTextError, loads
from rootless.spec.moment import NEVER
from rootless.store import overview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.engine.listing import Listed
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

# of the image's `config`, in podman's order; the others of it are not part of an OCI image
_CONFIG_KEYS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")


def find_image(roots: Roots, text: str) -> dict[str, Any] | None:
    """Return the document of the image *text*, None if there is none."""
    from rootless.engine.images import find

    try:
        return image_document(roots, find(roots, text))
    except NotFound:
        return None


def find_container(roots: Roots, text: str, *, size: bool = False) -> dict[str, Any] | None:
    """Return the document of the container *text*, None if there is none."""
    found = overview.find(roots, text)
    return container_document(roots, look_at(roots, *found), size=size) if found is not None else None


def find_volume(roots: Roots, text: str) -> dict[str, Any] | None:
    """Return the document of the volume *text*, None if there is none."""
    if not os.path.isdir(f"{roots.data}/volumes"):
        return None
    from rootless.engine import volumes as engine
    from rootless.store import volumes as store

    try:
        return engine.document(roots, store.read_volume(roots, engine.find(roots, text)), store.users(roots))
    except NotFound:
        return None


def image_document(roots: Roots, image: ImageRecord) -> dict[str, Any]:
    """Return what podman prints of an image.

    Shape: GraphDriver names the layer directories: the top one as UpperDir, those below it as LowerDir
    """
    from rootless.engine.images import digests, tags

    whole = image.config
    config = _object(whole, "config")
    history = [entry for entry in whole.get("history") or () if isinstance(entry, dict)]
    names = list(tags(image))
    document: dict[str, Any] = {
        "Id": image.id,
        "Digest": image.digest,
        "RepoTags": names,
        "RepoDigests": list(digests(image)),
        "Parent": "",
        "Comment": str(history[-1].get("comment", "")) if history else "",
        "Created": whole.get("created") or NEVER,
        "Config": {key: config[key] for key in _CONFIG_KEYS if config.get(key)},
        "Version": str(whole.get("docker_version") or ""),
        "Author": str(whole.get("author") or ""),
        "Architecture": str(whole.get("architecture") or ""),
        "Os": str(whole.get("os") or ""),
        "Size": image.size_bytes,
        "VirtualSize": image.size_bytes,
        "GraphDriver": {"Name": "layers", "Data": _layer_directories(roots, image.links)},
        "RootFS": {"Type": "layers", "Layers": list(_object(whole, "rootfs").get("diff_ids") or ())},
        "Labels": config.get("Labels") or None,
        "Annotations": _annotations(roots, image.digest),
        "ManifestType": image.manifest_type,
        "User": str(config.get("User") or ""),
        "History": history,
        "NamesHistory": names,
        "Squashed": image.squashed,
    }
    if config.get("Healthcheck"):
        document["HealthCheck"] = config["Healthcheck"]
    return document


def image_size(roots: Roots, image_id: str) -> int:
    """Return the bytes that the layers of an image hold."""
    return int(overview.image(roots, image_id).get("size") or 0)


def container_document(roots: Roots, one: Listed, *, size: bool = False) -> dict[str, Any]:
    """Return what podman prints of a container; *size* adds what its writable layer holds."""
    from rootless.engine.inspect_container import document

    sizes = None
    if size:
        own = tree_size(f"{roots.data}/containers/{one.id}/diff")
        sizes = own, own + image_size(roots, one.image_id)
    return document(roots, one, size=sizes)


def tree_size(path: str) -> int:
    """Return the bytes of all regular files below *path*; what cannot be read counts nothing.

    Blocks: walks the tree
    """
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if found.st_mode & 0o170000 == 0o100000:
                total += found.st_size
    return total


def _layer_directories(roots: Roots, links: tuple[str, ...]) -> dict[str, str]:
    paths = [f"{roots.data}/l/{link}" for link in links]
    found = {"LowerDir": ":".join(reversed(paths[:-1]))} if len(paths) > 1 else {}
    return found | ({"UpperDir": paths[-1]} if paths else {})


def _annotations(roots: Roots, digest: str) -> dict[str, Any]:
    """Return the annotations of the manifest; none where it is not kept. Its digest was checked when it came."""
    from rootless.store.atomic import read_file

    try:
        data = read_file(f"{roots.data}/blobs/{digest.replace(':', '/')}")
        return _object(loads(data), "annotations") if data else {}
    except (JSONTextError, RootlessError):
        return {}


def _object(holder: Any, key: str) -> dict[str, Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, dict) else {}
