"""Content digests: `sha256:<64 hex>` as manifests, references and blobs carry them.

Source: OCI image-spec descriptor.md#digests
"""

from __future__ import annotations

from rootless.errors import ReferenceInvalid
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    class Hasher(Protocol):
        """What hashlib's objects offer."""

        def update(self, data: bytes | bytearray | memoryview, /) -> object: ...

        def hexdigest(self) -> str: ...


HEX_LENGTH = {"sha256": 64, "sha512": 128}
_HEX = frozenset("0123456789abcdef")


@record
class Digest:
    """An algorithm and the lower-case hex text of its value."""

    algorithm: str
    hex: str

    def __str__(self) -> str:
        return f"{self.algorithm}:{self.hex}"

    @property
    def short(self) -> str:
        """The first twelve hex digits, as tables print them."""
        return self.hex[:12]


def is_hex(text: str, length: int) -> bool:
    """Tell whether *text* is exactly *length* lower-case hex digits."""
    return len(text) == length and _HEX.issuperset(text)


def parse_digest(text: str) -> Digest:
    """Return the digest that *text* spells.

    Raises: ReferenceInvalid when it is malformed or of an algorithm that cannot be verified here
    """
    algorithm, colon, value = text.partition(":")
    if not colon:
        raise ReferenceInvalid(f"invalid digest {text!r}: no algorithm")
    if algorithm not in HEX_LENGTH:
        raise ReferenceInvalid(
            f"invalid digest {text!r}: unsupported algorithm {algorithm!r}",
            hint="sha256 and sha512 can be verified",
        )
    if not is_hex(value, HEX_LENGTH[algorithm]):
        raise ReferenceInvalid(f"invalid digest {text!r}: {HEX_LENGTH[algorithm]} lower-case hex digits are needed")
    return Digest(algorithm, value)


def new_hasher(algorithm: str) -> Hasher:
    """Return a running hash for *algorithm*, which parse_digest let pass."""
    import hashlib  # 3 ms: only those who verify pay for it

    return hashlib.sha512() if algorithm == "sha512" else hashlib.sha256()


def digest_of(data: bytes, algorithm: str = "sha256") -> Digest:
    """Return the digest of *data*."""
    hasher = new_hasher(algorithm)
    hasher.update(data)
    return Digest(algorithm, hasher.hexdigest())
