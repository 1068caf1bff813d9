"""Media types of manifests, configs and layers, Docker's and OCI's.

Source: OCI image-spec media-types.md; Docker image manifest v2 schema 2
"""

from __future__ import annotations

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
OCI_LAYER = "application/vnd.oci.image.layer.v1.tar"
OCI_FOREIGN_LAYER = "application/vnd.oci.image.layer.nondistributable.v1.tar"
OCI_EMPTY = "application/vnd.oci.empty.v1+json"

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar"
DOCKER_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+json"
DOCKER_SCHEMA1_SIGNED = "application/vnd.docker.distribution.manifest.v1+prettyjws"

INDEXES = frozenset((OCI_INDEX, DOCKER_LIST))
MANIFESTS = frozenset((OCI_MANIFEST, DOCKER_MANIFEST))
SCHEMA1 = frozenset((DOCKER_SCHEMA1, DOCKER_SCHEMA1_SIGNED))
CONFIGS = frozenset((OCI_CONFIG, DOCKER_CONFIG))

#: What a request for a manifest says it understands; a registry converts or refuses otherwise.
ACCEPT_MANIFEST = (OCI_INDEX, OCI_MANIFEST, DOCKER_LIST, DOCKER_MANIFEST)

_LAYERS = (OCI_LAYER, OCI_FOREIGN_LAYER, DOCKER_LAYER, DOCKER_FOREIGN_LAYER)
_SUFFIX = {"": "", "+gzip": "gzip", ".gzip": "gzip", "+zstd": "zstd", ".zstd": "zstd"}

#: media type -> "gzip", "zstd" or "" (plain tar)
COMPRESSION = {base + suffix: name for base in _LAYERS for suffix, name in _SUFFIX.items()}


def compression_of(media_type: str) -> str | None:
    """Return "gzip", "zstd" or "" (plain) for the media type of a layer, None for any other type."""
    return COMPRESSION.get(media_type)


def is_foreign(media_type: str) -> bool:
    """Tell whether a layer's bytes may live elsewhere, at the descriptor's urls."""
    return media_type.startswith((OCI_FOREIGN_LAYER, DOCKER_FOREIGN_LAYER))


def bare(content_type: str) -> str:
    """Return a Content-Type header without its parameters, lower-cased."""
    return content_type.partition(";")[0].strip().lower()
