"""Content-addressed small blobs: manifests and configs, byte for byte as they came.

Layer blobs are not kept: what they hold is in the layer's directory, and a push can make them again.
"""

from __future__ import annotations

from rootless.errors import DigestMismatch, StoreError
from rootless.spec.digest import digest_of, parse_digest
from rootless.store import atomic, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.store.layout import Roots


def path_of(roots: Roots, digest: str) -> str:
    """Return the file of the blob *digest* (`sha256:HEX`).

    Raises: ReferenceInvalid — not a digest; StoreError — not sha256
    """
    parsed = parse_digest(digest)
    if parsed.algorithm != "sha256":
        raise StoreError(f"{digest}: the store keeps sha256 blobs only")
    return f"{roots.data}/{layout.BLOBS}/{parsed.hex}"


def read(roots: Roots, digest: str) -> bytes | None:
    """Return the blob, None if it is not here or is no longer what its name says."""
    data = atomic.read_file(path_of(roots, digest))
    if data is None or str(digest_of(data)) != digest:
        return None
    return data


def write(roots: Roots, data: bytes) -> str:
    """Keep *data*; return its digest. A blob that is there already is replaced by the same bytes."""
    digest = str(digest_of(data))
    path = path_of(roots, digest)
    temporary = atomic.temporary_name(path)
    atomic.write_new(temporary, data)
    try:
        atomic.publish(temporary, path)
    finally:
        atomic.remove_file(temporary)
    return digest


def verified(data: bytes, digest: str) -> bytes:
    """Return *data* if it is what *digest* promises.

    Raises: DigestMismatch
    """
    found = digest_of(data, parse_digest(digest).algorithm)
    if str(found) != digest:
        raise DigestMismatch(f"{digest} was promised, {found} arrived")
    return data


def names(roots: Roots) -> list[str]:
    """Return the digests of all blobs."""
    return ["sha256:" + n for n in atomic.names_in(f"{roots.data}/{layout.BLOBS}")]


def remove(roots: Roots, digest: str) -> None:
    """Forget a blob."""
    atomic.remove_file(path_of(roots, digest))
