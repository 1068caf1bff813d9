"""Messages of the control socket: JSON objects, one to a packet, with descriptors beside them.

    client -> supervisor   {"v": 1, "verb": "exec", ...}          descriptors as the verb says
    supervisor -> client   {"ok": {...}} or {"error": TEXT, "code": N, "hint": TEXT or null}
    supervisor -> client   {"exit": N}                            exec, attach and wait, at the end
    client -> supervisor   {"resize": [ROWS, COLUMNS]}, {"signal": N}     while attached

A message that is larger than a packet may be travels in a sealed memfd, the last of the descriptors; the packet is
then `{"memfd": true}`.

Source: architecture.md, "Process model"; unix(7) SOCK_SEQPACKET
"""

from __future__ import annotations

from rootless.errors import RootlessError
from rootless.spec.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

VERSION = 1
PACKET_BYTES = 65536
MAX_FDS = 32
LARGE = b'{"memfd": true}'


def encode(message: dict[str, Any]) -> bytes:
    """Return the packet, or what has to go into a memfd when it is longer than PACKET_BYTES."""
    return dumps(message).encode("utf-8", "surrogateescape")


def decode(data: bytes) -> dict[str, Any]:
    """Return the message. Raises: RootlessError for what is none"""
    try:
        message: Any = loads(data.decode("utf-8", "surrogateescape"))
    except ValueError:
        message = None
    if not _is_object(message):
        raise RootlessError("the control socket carried something that is not a message")
    found: dict[str, Any] = message
    return found


def _is_object(value: Any) -> bool:
    return isinstance(value, dict)


def request(verb: str, body: dict[str, Any]) -> dict[str, Any]:
    return {"v": VERSION, "verb": verb, **body}


def failure(error: RootlessError) -> dict[str, Any]:
    """Return how *error* is told to the other side."""
    return {"error": error.message, "code": error.code, "hint": error.hint}


def raise_failure(message: dict[str, Any]) -> None:
    """Raises: the error that *message* tells of, if it does"""
    if "error" in message:
        raise RootlessError(str(message["error"]), hint=message.get("hint"), code=int(message.get("code", 125)))
