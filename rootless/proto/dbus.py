"""Just enough of D-Bus to ask a service manager for a unit: method calls out, replies in. Pure.

A library for it takes longer to import than systemd takes to make the scope, and every detached container asks once.

Shape:  values of a body are given with their signature, a variant as (signature, value)
Source: D-Bus Specification 0.43, "Type System", "Message Protocol"
"""

from __future__ import annotations

import struct

from rootless.errors import SpecError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

METHOD_CALL, METHOD_RETURN, ERROR = 1, 2, 3
_PATH, _INTERFACE, _MEMBER, _ERROR_NAME, _REPLY_SERIAL, _DESTINATION, _SIGNATURE = 1, 2, 3, 4, 5, 6, 8
_ALIGN = {"y": 1, "g": 1, "b": 4, "u": 4, "s": 4, "o": 4, "a": 4, "t": 8, "(": 8, "v": 1}
FIXED_BYTES = 16


@record
class Reply:
    """An answer: *text* is the first string of its body, *error* the name of the error or ""."""

    kind: int
    serial: int
    error: str = ""
    text: str = ""


def call(serial: int, destination: str, path: str, interface: str, member: str, signature: str = "",
         body: tuple[Any, ...] = ()) -> bytes:  # fmt: skip
    """Return a method call as bytes."""
    content = bytearray()
    at = 0
    for value in body:
        kind = _complete(signature, at)
        at += len(kind)
        _put(content, kind, value)
    fields: list[tuple[int, tuple[str, str]]] = [
        (_PATH, ("o", path)), (_INTERFACE, ("s", interface)), (_MEMBER, ("s", member)),
        (_DESTINATION, ("s", destination)),
    ]  # fmt: skip
    if signature:
        fields.append((_SIGNATURE, ("g", signature)))
    out = bytearray(struct.pack("<cBBBII", b"l", METHOD_CALL, 0, 1, len(content), serial))
    _put(out, "a(yv)", fields)
    _pad(out, 8)
    return bytes(out + content)


def _complete(signature: str, at: int) -> str:
    """Return the complete type that begins at *at*."""
    start = at
    while signature[at] == "a":
        at += 1
    if signature[at] != "(":
        return signature[start : at + 1]
    depth = 0
    for end in range(at, len(signature)):
        depth += (signature[end] == "(") - (signature[end] == ")")
        if not depth:
            return signature[start : end + 1]
    raise SpecError(f"{signature} is no signature")


def _pad(out: bytearray, size: int) -> None:
    out += bytes(-len(out) % size)


def _put(out: bytearray, kind: str, value: Any) -> None:
    first = kind[0]
    if first not in _ALIGN:
        raise SpecError(f"type {kind} is not written here")
    _pad(out, _ALIGN[first])
    if first == "y":
        out.append(value)
    elif first in "ub":
        out += struct.pack("<I", int(value))
    elif first == "t":
        out += struct.pack("<Q", value)
    elif first in "so":
        data = value.encode()
        out += struct.pack("<I", len(data)) + data + b"\0"
    elif first == "g":
        data = value.encode()
        out += bytes((len(data),)) + data + b"\0"
    elif first == "v":
        inner, content = value
        _put(out, "g", inner)
        _put(out, inner, content)
    elif first == "(":
        at = 1
        for part in value:
            inner = _complete(kind, at)
            at += len(inner)
            _put(out, inner, part)
    else:
        inner = kind[1:]
        length_at = len(out)
        out += bytes(4)
        # The padding before the first element is no part of the length.
        _pad(out, _ALIGN[inner[0]])
        start = len(out)
        for one in value:
            _put(out, inner, one)
        out[length_at : length_at + 4] = struct.pack("<I", len(out) - start)


def size_of(head: bytes) -> int:
    """Return how many bytes the message has whose first FIXED_BYTES are *head*. Raises: SpecError"""
    order = {b"l": "<", b"B": ">"}.get(head[:1])
    if order is None or len(head) < FIXED_BYTES:
        raise SpecError("not a D-Bus message")
    body, _, fields = struct.unpack(order + "III", head[4:16])
    size = FIXED_BYTES + fields + -fields % 8 + body
    if size > 1 << 27:
        raise SpecError("a D-Bus message is too long")
    return int(size)


def parse(message: bytes) -> Reply:
    """Return what a complete message says. Raises: SpecError"""
    try:
        return _parse(message)
    except (struct.error, IndexError, UnicodeDecodeError):
        raise SpecError("not a D-Bus message") from None


def _parse(message: bytes) -> Reply:
    order = "<" if message[:1] == b"l" else ">"
    fields = struct.unpack(order + "I", message[12:16])[0]
    at, end = FIXED_BYTES, FIXED_BYTES + fields
    serial, error, signature = 0, "", ""
    while at < end:
        at += -at % 8
        code = message[at]
        kind = chr(message[at + 2])
        at += 4
        if kind == "g":
            text, at = message[at + 1 : at + 1 + message[at]].decode(), at + message[at] + 2
        else:
            at += -at % 4
            number = struct.unpack(order + "I", message[at : at + 4])[0]
            at += 4
            text = ""
            if kind != "u":
                text, at = message[at : at + number].decode(), at + number + 1
            elif code == _REPLY_SERIAL:
                serial = number
        if code == _ERROR_NAME:
            error = text
        elif code == _SIGNATURE:
            signature = text
    text = ""
    body = end + -end % 8
    if signature[:1] in ("s", "o"):
        size = struct.unpack(order + "I", message[body : body + 4])[0]
        text = message[body + 4 : body + 4 + size].decode("utf-8", "replace")
    return Reply(message[1], serial, error, text)
