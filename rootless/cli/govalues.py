"""Values as Go's templates see and print them, and the functions that a template may call.

Values are dicts (structs and maps), lists, str, int, float, bool, None. `Struct` is a dict whose missing fields are an
error; `Time` and `Span` are a str and an int that print as Go's time.Time and time.Duration do.

Source: Go's text/template and fmt documentation; podman 4.3's `--format`; containers/common pkg/report (its functions)
"""

from __future__ import annotations

from rootless.spec import jsontext, moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Struct(dict):  # type: ignore[type-arg]
    """A dict whose missing fields are an error, as those of a Go struct are; *kind* is the type that errors name."""

    kind = "struct"


class Time(str):
    """An RFC 3339 text that prints as time.Time does."""


class Span(int):
    """Nanoseconds that print as time.Duration does."""


class Nil:
    """A nil map, slice or pointer: JSON's null, which prints as Go prints its type and is false and empty."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text

    def __bool__(self) -> bool:
        return False

    def __len__(self) -> int:
        return 0


NIL_MAP, NIL_LIST, NIL_POINTER = Nil("map[]"), Nil("[]"), Nil("<nil>")


class CallError(Exception):
    """A function refuses its arguments; *argument* is the index of the one whose type is wrong, else None."""

    def __init__(self, words: str, argument: int | None = None) -> None:
        super().__init__(words)
        self.argument = argument


def truth(value: Any) -> bool:
    """Say whether Go takes *value* as true: not zero, not empty. A struct is always true."""
    return True if isinstance(value, Struct) else bool(value)


def kind_of(value: Any) -> str:
    """Return the name of a value's type in Go."""
    if isinstance(value, Struct):
        return value.kind
    for known, name in ((bool, "bool"), (Time, "time.Time"), (Span, "time.Duration"), (str, "string"), (int, "int")):
        if isinstance(value, known):
            return name
    if isinstance(value, (list, tuple)):
        return f"[]{kind_of(value[0]) if value else 'string'}"
    return "map[string]string" if isinstance(value, dict) else "float64" if isinstance(value, float) else "<nil>"


def show(value: Any) -> str:
    """Return *value* as Go's %v prints it in a template."""
    return "<no value>" if value is None else _plain(value)


def _plain(value: Any) -> str:
    if value is None:
        return "<nil>"
    if isinstance(value, Nil):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Struct):
        return "{" + " ".join([_plain(item) for item in value.values()]) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join([f"{key}:{_plain(value[key])}" for key in sorted(value)]) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join([_plain(item) for item in value]) + "]"
    if isinstance(value, Time):
        return moment_text(moment.parse(str(value)))
    return moment.span_text(value) if isinstance(value, Span) else str(value)


def moment_text(ns: int | None) -> str:
    """Return a moment in the local time zone, as time.Time prints; "" for None."""
    if ns is None:
        return ""
    if ns <= moment.NEVER_SECONDS * moment.SECOND_NS:
        return moment.go_string(ns)
    import time

    there = time.localtime(ns // moment.SECOND_NS)
    return moment.go_string(ns, there.tm_gmtoff, there.tm_zone)


def to_json(value: Any) -> str:
    """Return compact JSON, with what HTML minds escaped as Go's encoder does."""
    text = jsontext.dumps(_with_null(value))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_null(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_null(item) for item in value]
    return None if isinstance(value, Nil) else value


def _want_text(value: Any, at: int) -> str:
    if not isinstance(value, str):
        raise CallError(f"wrong type for value; expected string; got {kind_of(value)}", at)
    return value


def _class(value: Any) -> str:
    if isinstance(value, bool):
        return "bool"
    return "number" if isinstance(value, (int, float)) else "text" if isinstance(value, str) else "other"


def _equal(first: Any, *others: Any) -> bool:
    if not others:
        raise CallError("missing argument for comparison")
    for other in others:
        if None not in (first, other) and _class(first) != _class(other):
            raise CallError("incompatible types for comparison")
        if first == other:
            return True
    return False


def _ordered(judge: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    def compare(one: Any, other: Any) -> bool:
        if _class(one) != _class(other) or _class(one) not in ("number", "text"):
            raise CallError("incompatible types for comparison")
        return judge(one, other)

    return compare


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
            continue
        if value is NIL_MAP:
            return None
        if value is None:
            raise CallError("index of untyped nil")
        if not isinstance(value, (list, tuple, str)):
            raise CallError(f"can't index item of type {kind_of(value)}")
        if not isinstance(key, int) or isinstance(key, bool):
            raise CallError(f"cannot index slice/array with type {kind_of(key)}")
        if not 0 <= key < len(value):
            raise CallError(f"index out of range: {key}")
        value = ord(value[key]) if isinstance(value, str) else value[key]
    return value


def _slice(value: Any, *bounds: Any) -> Any:
    if not isinstance(value, (list, tuple, str)):
        raise CallError(f"can't slice item of type {kind_of(value)}")
    for bound in bounds:
        if not isinstance(bound, int) or not 0 <= bound <= len(value):
            raise CallError(f"index out of range: {show(bound)}")
    return value[slice(*bounds[:2])] if len(bounds) > 1 else value[bounds[0] :] if bounds else value


def _length(value: Any) -> int:
    if isinstance(value, Nil) and value is not NIL_POINTER:
        return 0
    if value is None or isinstance(value, Nil):
        raise CallError("len of nil pointer")
    if not isinstance(value, (list, tuple, dict, str)) or isinstance(value, Struct):
        raise CallError(f"len of type {kind_of(value)}")
    return len(value.encode() if isinstance(value, str) else value)


def _join(items: Any, mark: Any) -> str:
    if not isinstance(items, (list, tuple, Nil)) and items is not None:
        raise CallError(f"wrong type for value; expected []string; got {kind_of(items)}", 0)
    return _want_text(mark, 1).join([_plain(item) for item in (() if isinstance(items, Nil) else items or ())])


def _print(*items: Any) -> str:
    """Go's Sprint: a blank between two operands when neither is a string."""
    out = ""
    for at, item in enumerate(items):
        if at and not isinstance(item, str) and not isinstance(items[at - 1], str):
            out += " "
        out += _plain(item)
    return out


def _title(text: Any) -> str:
    return " ".join([word[:1].upper() + word[1:] for word in _want_text(text, 0).split(" ")])


def _urlquery(*items: Any) -> str:
    out = ""
    for byte in _print(*items).encode():
        c = chr(byte)
        out += c if c.isascii() and (c.isalnum() or c in "-_.~") else "+" if c == " " else f"%{byte:02X}"
    return out


def _html(*items: Any) -> str:
    text = _print(*items).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.replace('"', "&#34;").replace("'", "&#39;")


def _js(*items: Any) -> str:
    named = {"\\": "\\\\", "'": "\\'", '"': '\\"', "<": "\\u003C", ">": "\\u003E", "&": "\\u0026", "=": "\\u003D"}
    return "".join([named.get(c) or (c if c >= " " else f"\\u{ord(c):04X}") for c in _print(*items)])


def printf(form: Any, *arguments: Any) -> str:
    """Return what Go's Sprintf makes of *form*."""
    out, at, rest = "", 0, list(arguments)
    form = _want_text(form, 0)
    while at < len(form):
        if form[at] != "%":
            out += form[at]
            at += 1
            continue
        end = at + 1
        while end < len(form) and form[end] in "+-# 0.123456789":
            end += 1
        flags, verb = form[at + 1 : end], form[end : end + 1]
        at = end + 1
        if verb == "%":
            out += "%"
        elif not verb:
            out += "%!(NOVERB)"
        elif not rest:
            out += f"%!{verb}(MISSING)"
        else:
            out += _formatted(flags, verb, rest.pop(0))
    if rest:
        out += "%!(EXTRA " + ", ".join([f"{kind_of(item)}={_plain(item)}" for item in rest]) + ")"
    return out


def _formatted(flags: str, verb: str, value: Any) -> str:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    padded = f"%{flags.replace('+', '').replace('#', '')}s"
    if verb == "v" or (verb == "s" and not number and not isinstance(value, bool)):
        return padded % _plain(value)
    if verb == "q" and isinstance(value, str):
        return padded % jsontext.dumps(str(value))
    if verb == "T":
        return padded % kind_of(value)
    if verb == "t" and isinstance(value, bool):
        return padded % _plain(value)
    if verb in "dxXobc" and number and isinstance(value, int):
        if verb == "b":
            return padded % f"{value:b}"
        return f"%{flags}{verb}" % value
    if verb in "feEgG" and isinstance(value, float):
        return f"%{flags}{verb}" % value
    if verb in "xX" and isinstance(value, str):
        return padded % (value.encode().hex() if verb == "x" else value.encode().hex().upper())
    return f"%!{verb}({kind_of(value)}={_plain(value)})"


# name -> (the function, the fewest arguments, the most or -1)
FUNCTIONS: dict[str, tuple[Callable[..., Any], int, int]] = {
    "eq": (_equal, 1, -1),
    "ge": (_ordered(lambda a, b: bool(a >= b)), 2, 2),
    "gt": (_ordered(lambda a, b: bool(a > b)), 2, 2),
    "html": (_html, 0, -1),
    "index": (_index, 1, -1),
    "join": (_join, 2, 2),
    "js": (_js, 0, -1),
    "json": (to_json, 1, 1),
    "le": (_ordered(lambda a, b: bool(a <= b)), 2, 2),
    "len": (_length, 1, 1),
    "lower": (lambda text: _want_text(text, 0).lower(), 1, 1),
    "lt": (_ordered(lambda a, b: bool(a < b)), 2, 2),
    "ne": (lambda a, b: not _equal(a, b), 2, 2),
    "not": (lambda value: not truth(value), 1, 1),
    "pad": (lambda text, before, after: " " * before + text + " " * after if text else text, 3, 3),
    "print": (_print, 0, -1),
    "printf": (printf, 1, -1),
    "println": (lambda *items: " ".join([_plain(item) for item in items]) + "\n", 0, -1),
    "slice": (_slice, 1, 4),
    "split": (lambda text, mark: _want_text(text, 0).split(_want_text(mark, 1)), 2, 2),
    "title": (_title, 1, 1),
    "truncate": (lambda text, size: _want_text(text, 0)[:size], 2, 2),
    "upper": (lambda text: _want_text(text, 0).upper(), 1, 1),
    "urlquery": (_urlquery, 0, -1),
}
