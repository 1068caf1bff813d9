"""Descriptors: the type, digest and size by which one document names another.

Source: OCI image-spec descriptor.md
"""

from __future__ import annotations

from rootless.errors import ReferenceInvalid, SpecError
from rootless.spec.digest import Digest, parse_digest
from rootless.spec.platform import Platform
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


@record
class Descriptor:
    """A reference by content to a manifest, config or layer."""

    media_type: str
    digest: Digest
    size_bytes: int
    urls: tuple[str, ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    platform: Platform | None = None


def text_field(value: dict[str, Any], key: str, pointer: str, default: str | None = None) -> str:
    """Return the string value[key], or *default* where it is absent or null.

    Raises: SpecError when it is something else, or absent without a default
    """
    found = value.get(key)
    if found is None and default is not None:
        return default
    if not isinstance(found, str):
        raise SpecError("a string is needed" if found is not None else "is missing", pointer=f"{pointer}/{key}")
    return found


def _is(value: Any, kind: type) -> bool:
    """isinstance without narrowing: to a checker the value stays Any, whose members it lets us name."""
    return isinstance(value, kind)


def object_of(value: Any, pointer: str, what: str = "an object is needed") -> dict[str, Any]:
    """Return the JSON *value* as an object, null as an empty one.

    Raises: SpecError
    """
    if value is None:
        return {}
    if not _is(value, dict):
        raise SpecError(what, pointer=pointer)
    found: dict[str, Any] = value
    return found


def list_of(value: Any, pointer: str) -> list[Any]:
    """Return the JSON *value* as an array, null as an empty one.

    Raises: SpecError
    """
    if value is None:
        return []
    if not _is(value, list):
        raise SpecError("an array is needed", pointer=pointer)
    found: list[Any] = value
    return found


def text_map(value: dict[str, Any], key: str, pointer: str) -> tuple[tuple[str, str], ...]:
    """Return the object of strings value[key] as pairs in their order; absent or null is empty."""
    found = object_of(value.get(key), f"{pointer}/{key}")
    for name, text in found.items():
        if not isinstance(text, str):
            raise SpecError("a string is needed", pointer=f"{pointer}/{key}/{name}")
    return tuple(found.items())


def text_list(value: dict[str, Any], key: str, pointer: str) -> tuple[str, ...]:
    """Return the array of strings value[key]; absent or null is empty."""
    found = list_of(value.get(key), f"{pointer}/{key}")
    for at, text in enumerate(found):
        if not isinstance(text, str):
            raise SpecError("a string is needed", pointer=f"{pointer}/{key}/{at}")
    return tuple(found)


def decode_descriptor(value: Any, pointer: str) -> Descriptor:
    """Return the descriptor that the JSON *value* at *pointer* holds.

    Raises: SpecError
    """
    if value is None:
        raise SpecError("a descriptor is needed", pointer=pointer)
    value = object_of(value, pointer, "a descriptor is needed")
    size = value.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or size < 0:
        raise SpecError("a size in bytes is needed", pointer=f"{pointer}/size")
    try:
        digest = parse_digest(text_field(value, "digest", pointer))
    except ReferenceInvalid as error:
        raise SpecError(error.message, pointer=f"{pointer}/digest") from None
    platform = value.get("platform")
    return Descriptor(
        media_type=text_field(value, "mediaType", pointer),
        digest=digest,
        size_bytes=size,
        urls=text_list(value, "urls", pointer),
        annotations=text_map(value, "annotations", pointer),
        platform=None if platform is None else _platform(platform, f"{pointer}/platform"),
    )


def _platform(value: Any, pointer: str) -> Platform:
    value = object_of(value, pointer)
    return Platform(
        os=text_field(value, "os", pointer, ""),
        architecture=text_field(value, "architecture", pointer, ""),
        variant=text_field(value, "variant", pointer, ""),
        os_version=text_field(value, "os.version", pointer, ""),
    )
