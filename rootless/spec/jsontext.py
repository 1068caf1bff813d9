"""JSON text without the price of `import json` (12 ms, most of it re).

`loads` and `dumps` use the C scanner and encoder that the json package itself wraps; where an
interpreter lacks them or changed their signature, the json package does the work.
Strings are str; a lone surrogate is written as an escape and read back as it was, so file names
that went through os.fsdecode survive.

Source: CPython Modules/_json.c, Lib/json/encoder.py (the meaning of the constructor's arguments)
"""

from __future__ import annotations

# What JSON holds has no type, and one of two implementations is bound.
# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportPossiblyUnboundVariable=false

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_SPACE = " \t\n\r"


class _Context:
    """The attributes that the C scanner reads off a JSONDecoder."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    memo: dict[str, str] = {}

    @staticmethod
    def parse_constant(name: str) -> float:
        raise ValueError(f"{name} is not JSON")


class JSONTextError(ValueError):
    """The text is not JSON; `position` is the offset of the fault in characters."""

    def __init__(self, message: str, position: int) -> None:
        super().__init__(f"{message} at character {position}")
        self.position = position


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    _scan = make_scanner(_Context())  # type: ignore[arg-type, unused-ignore]
    _scan('{"a": [1]}', 0)
except (ImportError, TypeError, AttributeError):  # pragma: no cover - other interpreters
    import json

    def _scan(text: str, at: int) -> tuple[Any, int]:  # type: ignore[misc, unused-ignore]
        return json.JSONDecoder().raw_decode(text, at)

    make_encoder = None  # type: ignore[assignment, misc, unused-ignore]


def loads(text: str | bytes) -> Any:
    """Decode one JSON document.

    Raises: JSONTextError (a ValueError) with the position of the fault
    """
    if not isinstance(text, str):
        try:
            text = str(text, "utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            raise JSONTextError("not UTF-8", error.start) from None
    start, end = 0, len(text)
    if text[:1] == "\ufeff":
        start = 1
    while start < end and text[start] in _SPACE:
        start += 1
    try:
        value, stop = _scan(text, start)
    except StopIteration as error:
        raise JSONTextError("a value is missing", int(error.value or 0)) from None
    except RecursionError:
        raise JSONTextError("nested too deeply", start) from None
    except (ValueError, SystemError):
        raise _explained(text, start) from None
    while stop < end and text[stop] in _SPACE:
        stop += 1
    if stop != end:
        raise JSONTextError("more text after the document", stop)
    return value


def _explained(text: str, start: int) -> JSONTextError:
    """Say what is wrong: the C scanner can only raise once json.decoder is imported."""
    import json.decoder

    try:
        json.decoder.JSONDecoder(parse_constant=_Context.parse_constant).raw_decode(text, start)
    except json.decoder.JSONDecodeError as error:
        return JSONTextError((error.msg[:1].lower() + error.msg[1:]).removesuffix(" at"), error.pos)
    except ValueError as error:
        return JSONTextError(str(error), start)
    return JSONTextError("not JSON", start)


def _default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} is not JSON")


def dumps(value: object, *, indent: int | None = None, sort_keys: bool = False) -> str:
    """Encode *value*; compact without *indent*, else as `json.dumps(indent=...)` prints it.

    Raises: TypeError for a value that JSON does not have, ValueError for NaN and infinities
    """
    if make_encoder is None:  # pragma: no cover - other interpreters
        separators = (",", ":") if indent is None else None
        return json.dumps(value, indent=indent, sort_keys=sort_keys, separators=separators)
    if indent is not None:
        return _pretty(value, " " * indent, "\n", sort_keys)
    encode = make_encoder({}, _default, encode_basestring_ascii, None, ":", ",", sort_keys, False, False)
    return "".join(encode(value, 0))


def _pretty(value: Any, step: str, line: str, sort_keys: bool) -> str:
    if isinstance(value, dict) and value:
        inner = line + step
        items = sorted(value.items()) if sort_keys else value.items()
        parts = [f"{_key(k)}: {_pretty(v, step, inner, sort_keys)}" for k, v in items]
        return "{" + inner + ("," + inner).join(parts) + line + "}"
    if isinstance(value, (list, tuple)) and value:
        inner = line + step
        return "[" + inner + ("," + inner).join([_pretty(v, step, inner, sort_keys) for v in value]) + line + "]"
    return dumps(value)


def _key(key: object) -> str:
    return dumps(key) if isinstance(key, str) else f'"{dumps(key)}"'
