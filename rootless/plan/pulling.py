"""What a pull is asked for, and the events that it reports, as values and as lines of JSON.

`rootless run` pulls in a child process and reads these lines from a descriptor, so this module is on
the start-up path: records, no dataclasses.

Shape:   one JSON object a line: {"event": NAME, FIELD: VALUE ...}; the last is "done" or "error"
"""

from __future__ import annotations

# What JSON holds has no type.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false
from rootless.errors import EXIT_ENGINE
from rootless.spec import jsontext
from rootless.spec.platform import Platform
from rootless.spec.record import fields, record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

POLICIES = ("always", "missing", "never", "newer")


@record
class PullOptions:
    """What a pull may be told. *tls_verify* None: plain HTTP on loopback, verified HTTPS elsewhere."""

    platform: Platform
    policy: str = "always"
    tls_verify: bool | None = None
    creds: str = ""
    authfile: str = ""
    cert_dir: str = ""
    ids: tuple[int, int] = (0, 0)  # the caller's uid and gid on the host


@record
class Trying:
    """A registry is asked for *name*."""

    name: str


@record
class Found:
    """The image is known: its config's digest, the digests and sizes of its layers, base first."""

    name: str
    config: str
    digests: tuple[str, ...]
    sizes: tuple[int, ...]


@record
class LayerKnown:
    """Layer *index* is in the store already."""

    index: int


@record
class LayerBytes:
    """*done* compressed bytes of layer *index* have come."""

    index: int
    done: int


@record
class LayerRead:
    """All bytes of layer *index* have come, and they are the right ones."""

    index: int


@record
class LayerUnpacked:
    """Layer *index* is unpacked and is what the config says."""

    index: int


@record
class Retrying:
    """Something failed and is tried again after *delay_ms*."""

    what: str
    why: str
    delay_ms: int


@record
class Storing:
    """All layers are there; they are written to disk and made visible."""


@record
class Warned:
    """Something a person should know; the pull goes on."""

    text: str


@record
class Pulled:
    """The image is in the store; *fresh* tells whether anything had to be fetched."""

    id: str
    name: str
    fresh: bool = True


@record
class PullFailed:
    """The pull is over, the store is as it was."""

    message: str
    hint: str = ""
    code: int = EXIT_ENGINE


_NAMES = {
    "trying": Trying,
    "found": Found,
    "known": LayerKnown,
    "bytes": LayerBytes,
    "read": LayerRead,
    "unpacked": LayerUnpacked,
    "retry": Retrying,
    "storing": Storing,
    "warning": Warned,
    "done": Pulled,
    "error": PullFailed,
}

PullEvent = (
    Trying
    | Found
    | LayerKnown
    | LayerBytes
    | LayerRead
    | LayerUnpacked
    | Retrying
    | Storing
    | Warned
    | Pulled
    | PullFailed
)


def encode_event(event: PullEvent) -> bytes:
    """Return *event* as one line of JSON."""
    value: dict[str, Any] = {"event": next(n for n, kind in _NAMES.items() if type(event) is kind)}
    for name in fields(event):
        found = getattr(event, name)
        value[name] = [*found] if isinstance(found, tuple) else found
    return jsontext.dumps(value).encode("ascii") + b"\n"


def decode_event(line: bytes) -> PullEvent | None:
    """Return the event on *line*; None for one that a newer version knows.

    Raises: ValueError when it is no event at all
    """
    value: Any = jsontext.loads(line)
    if not isinstance(value, dict) or "event" not in value:
        raise ValueError("not an event of a pull")
    kind: Any = _NAMES.get(value["event"])
    if kind is None:
        return None
    known = {name: value[name] for name in fields(kind) if name in value}
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in known.items()})  # type: ignore[no-any-return]
