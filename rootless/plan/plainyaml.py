"""The plain part of YAML, which generated files use: mappings and lists by indentation, and scalars. Pure.

Anchors, tags, several documents, text in blocks and mappings in braces are refused by name: a reader of all of YAML
would be a dependency for one file of one kind of machine, and who writes these files can write JSON too.

Shape:  values are str, int, bool, None, list, dict; numbers with a point stay text, as the versions that they are
Source: YAML 1.2, chapters 7 and 8
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Line = tuple[int, str, int]

_WORDS: dict[str, object] = {"true": True, "false": False, "null": None, "~": None, "": None}


class YamlError(ValueError):
    """The text is not YAML, or more of it than is read here; *line* counts from 1."""

    def __init__(self, what: str, line: int) -> None:
        super().__init__(f"line {line}: {what}")
        self.line = line


def loads(text: str) -> Any:
    """Return the value of one document. Raises: YamlError"""
    lines: list[Line] = []
    for number, raw in enumerate(text.split("\n"), 1):
        body = _without_comment(raw.rstrip())
        if not body.strip() or (body == "---" and not lines):
            continue
        if body in ("---", "...") or body.startswith("%"):
            raise YamlError("several documents and directives are not read", number)
        content = body.lstrip(" ")
        if content[0] == "\t":
            raise YamlError("a tab indents", number)
        lines.append((len(body) - len(content), content, number))
    if not lines:
        return None
    value, at = _block(lines, 0, lines[0][0])
    if at < len(lines):
        raise YamlError("the indentation fits nothing above", lines[at][2])
    return value


def _without_comment(line: str) -> str:
    quote = ""
    for at, letter in enumerate(line):
        if quote:
            quote = "" if letter == quote else quote
        elif letter in "\"'" and line[:at].rstrip()[-1:] in ("", ":", "-", "[", ","):
            quote = letter
        elif letter == "#" and (not at or line[at - 1] in " \t"):
            return line[:at].rstrip()
    return line


def _block(lines: list[Line], at: int, indent: int) -> tuple[Any, int]:
    content = lines[at][1]
    if content == "-" or content.startswith("- "):
        return _list(lines, at, indent)
    if _key(content) is None:
        return _scalar(content, lines[at][2]), at + 1
    return _mapping(lines, at, indent)


def _list(lines: list[Line], at: int, indent: int) -> tuple[list[Any], int]:
    found: list[Any] = []
    while at < len(lines) and lines[at][0] == indent and (lines[at][1] == "-" or lines[at][1].startswith("- ")):
        _, content, number = lines[at]
        rest = content[1:].lstrip(" ")
        if not rest:
            value, at = _below(lines, at + 1, indent)
        else:
            # what stands behind the dash is a block of its own, indented by where it begins
            inner = indent + len(content) - len(rest)
            lines[at] = (inner, rest, number)
            value, at = _block(lines, at, inner)
        found.append(value)
    return found, at


def _mapping(lines: list[Line], at: int, indent: int) -> tuple[dict[str, Any], int]:
    found: dict[str, Any] = {}
    while at < len(lines) and lines[at][0] == indent:
        _, content, number = lines[at]
        pair = _key(content)
        if pair is None or content.startswith("- "):
            break
        key, rest = pair
        if key in found:
            raise YamlError(f"{key} is there twice", number)
        if rest:
            found[key], at = _scalar(rest, number), at + 1
        else:
            found[key], at = _below(lines, at + 1, indent)
    return found, at


def _below(lines: list[Line], at: int, indent: int) -> tuple[Any, int]:
    """Read what belongs to a line that ends with a colon or a dash: deeper, or a list at the same depth."""
    if at < len(lines):
        depth, content, _ = lines[at]
        if depth > indent or (depth == indent and (content == "-" or content.startswith("- "))):
            return _block(lines, at, depth)
    return None, at


def _key(content: str) -> tuple[str, str] | None:
    """Split `key: value`; None where there is no key."""
    if content[0] in "\"'":
        close = content.find(content[0], 1)
        if close > 0 and content[close + 1 : close + 2] == ":":
            return content[1:close], content[close + 2 :].strip()
        return None
    if content[0] in "[{&*!|>%@`":
        return None
    end = content.find(": ")
    if end < 0:
        return (content[:-1], "") if content.endswith(":") else None
    return content[:end].strip(), content[end + 2 :].strip()


def _scalar(text: str, number: int) -> Any:
    first = text[0]
    if first == '"':
        if len(text) < 2 or text[-1] != '"':
            raise YamlError("a quoted text does not end", number)
        from rootless.spec.jsontext import loads as from_json

        try:
            return from_json(text)
        except ValueError:
            raise YamlError("a quoted text is not plain", number) from None
    if first == "'":
        inside = text[1:-1]
        if len(text) < 2 or text[-1] != "'" or "'" in inside.replace("''", ""):
            raise YamlError("a quoted text does not end", number)
        return inside.replace("''", "'")
    if first == "[":
        if text[-1] != "]":
            raise YamlError("a list in brackets does not end in its line", number)
        inside = text[1:-1].strip()
        return [_scalar(word.strip(), number) for word in inside.split(",")] if inside else []
    if text == "{}":
        return {}
    if first in "{&*!|>%@`":
        raise YamlError(f"{first} is more of YAML than is read here", number)
    if text in _WORDS:
        return _WORDS[text]
    digits = text[1:] if first == "-" else text
    if digits.isdigit() and digits.isascii() and (digits == "0" or digits[0] != "0"):
        return int(text)
    return text
