"""Image manifests and indexes, OCI's and Docker's schema 2 (the same shape under other media types).

Source: OCI image-spec manifest.md, image-index.md; Docker image manifest v2 schema 2
"""

from __future__ import annotations

from rootless.errors import ImageError, ManifestNotFound, SpecError
from rootless.spec import jsontext, media
from rootless.spec.descriptor import Descriptor, decode_descriptor, list_of, object_of, text_field, text_map
from rootless.spec.platform import Platform, best_match
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_MANIFEST_BYTES = 4 << 20


@record
class Manifest:
    """One image: its config and its layers, base first."""

    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


@record
class Index:
    """A list of manifests, each for a platform."""

    media_type: str
    manifests: tuple[Descriptor, ...]
    annotations: tuple[tuple[str, str], ...] = ()


def parse_manifest(data: bytes, content_type: str = "") -> Manifest | Index:
    """Return the manifest or index in *data*; its own mediaType counts before *content_type*.

    Raises: SpecError when it is malformed, ImageError when it is of a kind that cannot be pulled
    """
    try:
        value = object_of(jsontext.loads(data), "", "the manifest is not an object")
    except ValueError as error:
        raise SpecError(f"the manifest is not JSON: {error}") from None
    kind = _kind(value, media.bare(content_type))
    if kind in media.INDEXES:
        return Index(kind, _descriptors(value, "manifests"), text_map(value, "annotations", ""))
    if kind in media.MANIFESTS:
        return _manifest(value, kind)
    raise ImageError(
        f"unsupported manifest type {kind!r}", hint="an OCI image or a Docker image of schema 2 can be pulled"
    )


def select(index: Index, platform: Platform, name: str) -> Descriptor:
    """Return the entry of *index* for *platform*; *name* is the image's, for the error.

    Raises: ManifestNotFound naming the platforms that there are
    """
    # Build attestations are listed as unknown/unknown and are no images.
    entries = [d for d in index.manifests if d.media_type in media.MANIFESTS or d.media_type in media.INDEXES]
    at = best_match(platform, [d.platform for d in entries])
    if at is not None:
        return entries[at]
    if len(entries) == 1 and entries[0].platform is None:
        return entries[0]  # an index that says nothing of platforms
    offered = sorted({str(d.platform) for d in entries if d.platform and d.platform.os not in ("", "unknown")})
    have = ", ".join(offered) or "none"
    raise ManifestNotFound(
        f"{name}: no image for platform {platform} in the manifest list (there are: {have})",
        hint="choose one of them with --platform",
    )


def _kind(value: dict[str, Any], content_type: str) -> str:
    """Decide what a document is: by mediaType, then Content-Type, then by its members (old OCI images have neither)."""
    version = value.get("schemaVersion")
    if version == 1 or content_type in media.SCHEMA1 or "fsLayers" in value:
        raise ImageError(
            "the image has a schema 1 manifest, which registries and engines have given up",
            hint="push the image again with a current tool, or ask its owner to",
        )
    if version != 2:
        raise SpecError(f"unsupported schema version {version!r}", pointer="/schemaVersion")
    kind = text_field(value, "mediaType", "", "")
    known = media.MANIFESTS | media.INDEXES
    by_members = media.OCI_INDEX if "manifests" in value else media.OCI_MANIFEST if "config" in value else ""
    if not kind:
        kind = content_type if content_type in known else by_members
    # One document must not be read as a manifest by one tool and as an index by another.
    if "manifests" in value and ("layers" in value or "config" in value):
        raise SpecError("the document is an index and a manifest at once", pointer="/manifests")
    if (kind in media.INDEXES) != ("manifests" in value) and kind in known:
        raise SpecError(f"the members do not fit the media type {kind}", pointer="/mediaType")
    return kind or content_type


def _descriptors(value: dict[str, Any], key: str) -> tuple[Descriptor, ...]:
    found = list_of(value.get(key), f"/{key}")
    return tuple([decode_descriptor(item, f"/{key}/{at}") for at, item in enumerate(found)])


def _manifest(value: dict[str, Any], kind: str) -> Manifest:
    config = decode_descriptor(value.get("config"), "/config")
    if config.media_type not in media.CONFIGS:
        raise ImageError(
            f"not a container image: its config is of type {config.media_type!r}",
            hint="this is an artifact (a chart, a signature, ...) that cannot be run",
        )
    layers = _descriptors(value, "layers")
    for at, layer in enumerate(layers):
        if media.compression_of(layer.media_type) is None:
            raise ImageError(
                f"layer {at + 1} is of the unsupported type {layer.media_type!r}",
                hint="layers may be tar archives, plain or compressed with gzip or zstd",
            )
    return Manifest(kind, config, layers, text_map(value, "annotations", ""))
