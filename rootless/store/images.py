"""Images: one small file each, hard-linked under every reference, so that a look-up reads a single file.

Shape:   images/HEX.json = {"format", "id", "digest", "manifest", "config": {...}, "layers": [chain ids, base first],
         "links": [...], "size", "created", "squashed"}; refs/NAME are links to it. The names of an image are the
         directory entries and nothing else.
"""

from __future__ import annotations

import os

from rootless.errors import Corrupt, ImageError, NotFound, ReferenceInvalid
from rootless.spec.record import record, replace
from rootless.spec.reference import candidates
from rootless.store import atomic, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from rootless.store.layout import Roots

_HEX = frozenset("0123456789abcdef")
_PART = 200


@record
class ImageRecord:
    """What is known of an image in the store."""

    id: str
    """Hex digest of the config; `sha256:` left out."""
    digest: str
    """Digest of the manifest, `sha256:HEX`."""
    config: dict[str, Any]
    """The image config as it was decoded from JSON: architecture, os, config, rootfs, history ..."""
    layers: tuple[str, ...]
    """Chain ids, base first, `sha256:HEX`."""
    links: tuple[str, ...]
    """The directories below DATA/l, base first."""
    names: tuple[str, ...] = ()
    """Normalised references, `NAME:TAG` and `NAME@DIGEST`; from `lookup` only the one that was found."""
    size_bytes: int = 0
    """What the unpacked layers hold."""
    created: str = ""
    """The time in the config, RFC 3339, or empty."""
    squashed: int = 0
    """How many files belong to an id that this user's map does not have."""
    manifest_type: str = ""
    """Media type of the manifest."""
    forms: tuple[str, ...] = ()
    """How its layers say "not there"; see store/layers.py."""


def lookup(roots: Roots, text: str) -> ImageRecord | None:
    """Return the image that *text* means: a reference, or an id of which any unambiguous beginning is enough.

    Shape:   the order is podman's: localhost/NAME, docker.io/library/NAME, then ids
    Raises:  ReferenceInvalid — neither a reference nor an id; ImageError — the id is ambiguous; Corrupt
    """
    wanted: ReferenceInvalid | None = None
    try:
        names = [str(c) for c in candidates(text)]
    except ReferenceInvalid as error:
        names, wanted = [], error
    for name in names:
        found = _read(ref_path(roots, name), (name,))
        if found is not None:
            return found
    short = text.removeprefix("sha256:")
    if 0 < len(short) <= 64 and _HEX.issuperset(short):
        matches = [n for n in _ids(roots) if n.startswith(short)]
        if len(matches) > 1:
            raise ImageError(f"image id {short} is ambiguous", hint="give more of its digits")
        return get(roots, matches[0]) if matches else None
    if wanted is not None:
        raise wanted
    return None


def get(roots: Roots, image_id: str) -> ImageRecord | None:
    """Return the image with exactly this id and all of its names."""
    found = _read(_image_path(roots, image_id), ())
    if found is None:
        return None
    return replace(found, names=tuple([n for n, owner in _references(roots) if owner == image_id]))


def list_images(roots: Roots) -> list[ImageRecord]:
    """Return all images with all of their names, in the order of their ids."""
    names: dict[str, list[str]] = {}
    for name, owner in _references(roots):
        names.setdefault(owner, []).append(name)
    images = []
    for image_id in _ids(roots):
        found = _read(_image_path(roots, image_id), tuple(names.get(image_id, ())))
        if found is not None:
            images.append(found)
    return images


def encode(image: ImageRecord) -> bytes:
    """Return the text of the record; its names are not part of it."""
    return atomic.encode_record(
        {
            "id": image.id,
            "digest": image.digest,
            "manifest": image.manifest_type,
            "layers": list(image.layers),
            "links": list(image.links),
            "size": image.size_bytes,
            "created": image.created,
            "squashed": image.squashed,
            "forms": list(image.forms),
            "config": image.config,
        }
    )


def publish(roots: Roots, staged: str, image: ImageRecord, names: Iterable[str]) -> None:
    """Make the record file *staged* visible as *image* and under *names*; for layers.commit, under the data lock."""
    atomic.publish(staged, _image_path(roots, image.id))
    for name in names:
        _claim(roots, staged, name)


def tag(roots: Roots, image_id: str, name: str) -> None:
    """Give the image another name, a normalised reference; an image that had it loses it.

    Raises: NotFound
    """
    path = _image_path(roots, image_id)
    if not os.path.exists(path):
        raise NotFound("image", image_id)
    with layout.lock_shared(roots):
        _claim(roots, path, name)


def untag(roots: Roots, name: str) -> bool:
    """Take the normalised reference *name* away; False if it names nothing. The image stays."""
    with layout.lock_shared(roots):
        return atomic.remove_file(ref_path(roots, name))


def remove(roots: Roots, image_id: str) -> bool:
    """Forget an image, its names, manifest and config; its layers go with the next gc.collect. False if unknown."""
    with layout.lock_shared(roots):
        for name, owner in _references(roots):
            if owner == image_id:
                atomic.remove_file(ref_path(roots, name))
        return atomic.remove_file(_image_path(roots, image_id))


def ref_path(roots: Roots, name: str) -> str:
    """Return the file of the normalised reference *name*.

    "/" is written "+", which no reference holds; what is too long for one file name goes on in a directory.
    """
    text = name.replace("/", "+")
    parts = []
    while len(text) > _PART:
        parts.append(text[:_PART] + "~")
        text = text[_PART:]
    parts.append(text)
    return f"{roots.data}/{layout.REFS}/{'/'.join(parts)}"


def _image_path(roots: Roots, image_id: str) -> str:
    return f"{roots.data}/{layout.IMAGES}/{image_id}.json"


def _ids(roots: Roots) -> list[str]:
    return [n[:-5] for n in atomic.names_in(f"{roots.data}/{layout.IMAGES}") if n.endswith(".json")]


def _references(roots: Roots) -> list[tuple[str, str]]:
    """Return (name, image id) of every reference: what its inode tells, or what is in it where links cannot be made."""
    found: list[tuple[str, str]] = []
    owners = {}
    for image_id in _ids(roots):
        try:
            about = os.stat(_image_path(roots, image_id))
        except FileNotFoundError:
            continue
        owners[about.st_dev, about.st_ino] = image_id
    pending = [("", f"{roots.data}/{layout.REFS}")]
    while pending:
        before, directory = pending.pop()
        for entry in atomic.names_in(directory):
            path = f"{directory}/{entry}"
            if entry.endswith("~"):
                pending.append((before + entry[:-1], path))
                continue
            try:
                about = os.stat(path)
            except FileNotFoundError:
                continue
            owner = owners.get((about.st_dev, about.st_ino))
            if owner is None:
                image = _read(path, ())
                owner = image.id if image is not None else None
            if owner is not None:
                found.append(((before + entry).replace("+", "/"), owner))
    return sorted(found)


def _claim(roots: Roots, source: str, name: str) -> None:
    path = ref_path(roots, name)
    if len(name) > _PART:
        directory = f"{roots.data}/{layout.REFS}"
        for part in path[len(directory) + 1 :].split("/")[:-1]:
            directory += "/" + part
            layout.make_directory(directory)
    atomic.publish(source, path)


def _read(path: str, names: tuple[str, ...]) -> ImageRecord | None:
    value = atomic.read_record(path)
    if value is None:
        return None
    try:
        return ImageRecord(
            id=value["id"],
            digest=value["digest"],
            config=value["config"],
            layers=tuple(value["layers"]),
            links=tuple(value["links"]),
            names=names,
            size_bytes=value["size"],
            created=value["created"],
            squashed=value["squashed"],
            manifest_type=value["manifest"],
            forms=tuple(value.get("forms", ())),
        )
    except (KeyError, TypeError) as error:
        raise Corrupt(path, f"not an image record ({error})", hint=f"remove the file {path}") from error
