"""Undo the compression of a layer while it arrives.

Shape:   reader(name)(bytes) -> pieces; end() says that the input is complete
Source:  RFC 1952 (a gzip file is a series of members) · RFC 8878 (a zstd stream is a series of frames)
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, Protocol

    class Decompressor(Protocol):
        """What every format offers."""

        def feed(self, data: bytes) -> Iterator[bytes]:
            """Give the plain bytes of *data*, in pieces of at most PIECE_BYTES or so."""

        def end(self) -> None:
            """Raises: CompressionError — the stream is cut off"""


PIECE_BYTES = 1 << 18
"""What the processor keeps close: pieces of a megabyte are mapped and faulted in anew each, 5 % of an unpacking."""
FORMATS = ("", "gzip", "zstd")


class CompressionError(Exception):
    """The bytes are not what the media type says, or are cut off."""


def detect(declared: str, start: bytes) -> str:
    """Return the format that a blob has, by its first 512 bytes; what they do not tell is as *declared*.

    Media types are wrong often enough (docker's legacy types, blobs that were recompressed) that podman looks, too.
    """
    if start[:3] == b"\x1f\x8b\x08":
        return "gzip"
    if start[:4] == b"\x28\xb5\x2f\xfd" or (start[1:4] == b"\x2a\x4d\x18" and start[:1] >= b"\x50"):
        return "zstd"  # a frame, or a skippable frame before it
    if start[257:262] == b"ustar":
        return ""
    return declared


def decompressor(name: str) -> Decompressor:
    """Return a new decompressor for one of FORMATS; "" is none.

    Raises: CompressionError — a format that is not known
    """
    if name == "gzip":
        return Gzip()
    if name == "zstd":
        return Zstd()
    if name == "":
        return Plain()
    raise CompressionError(f"unknown compression {name!r}")


class Plain:
    """No compression."""

    def feed(self, data: bytes) -> Iterator[bytes]:
        yield data

    def end(self) -> None:
        return


class Gzip:
    """gzip, of one member or many."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._new = isal_zlib.decompressobj
        self._error: type[Exception] = isal_zlib.error  # type: ignore[assignment]
        self._member: Any = self._new(31)  # 16 asks for the gzip header and its checksum, 15 is the window
        self._begun = False
        self._complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more:
            if not self._begun:
                # Between members: zeros pad the last one (as gzip(1) has it), anything else must be a header.
                if self._complete:
                    data = data.lstrip(b"\0")
                    if not data:
                        return
                self._begun = True
            try:
                piece = self._member.decompress(data, PIECE_BYTES)
            except self._error as error:
                raise CompressionError(f"not gzip, or damaged: {str(error).lower()}") from None
            if piece:
                yield piece
            if self._member.eof:
                data = self._member.unused_data
                self._member = self._new(31)
                self._begun, self._complete = False, True
                more = bool(data)
            else:
                data = self._member.unconsumed_tail
                more = bool(data) or len(piece) == PIECE_BYTES  # all input taken, but a full piece may not be all

    def end(self) -> None:
        if self._begun or not self._complete:
            raise CompressionError("the gzip stream is cut off")


class Zstd:
    """zstd, of one frame or many."""

    def __init__(self) -> None:
        import zstandard

        self._context = zstandard.ZstdDecompressor(max_window_size=1 << 27)
        self._error: type[Exception] = zstandard.ZstdError
        self._frame: Any = self._context.decompressobj()
        self._begun = False
        self._complete = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        # The binding gives everything that a piece of input holds at once: small pieces keep that bounded.
        view = memoryview(data)
        step = 1 << 16
        rest = b""
        while view or rest:
            if rest:
                part, rest = rest, b""
            else:
                part, view = bytes(view[:step]), view[step:]
            self._begun = True
            try:
                piece = self._frame.decompress(part)
            except self._error as error:
                raise CompressionError(f"not zstd, or damaged: {str(error).lower()}") from None
            if piece:
                yield piece
            if self._frame.eof:
                rest = self._frame.unused_data
                self._frame = self._context.decompressobj()
                self._begun, self._complete = False, True

    def end(self) -> None:
        if self._begun or not self._complete:
            raise CompressionError("the zstd stream is cut off")
