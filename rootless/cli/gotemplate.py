"""The part of Go's text/template that `--format '{{...}}'` needs, over plain values.

Values are dicts (structs and maps), lists, str, int, float, bool, None. Actions: fields and chains,
variables, pipelines, parentheses, if/else if/else, range/else, with/else, comments, trim marks.
Functions: and or not eq ne lt le gt ge len index slice print printf println html json join split
upper lower title, and `truncate`, `pad`, which docker has.

Source: Go's text/template documentation; podman 4.3's `--format`, whose words the errors have
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rootless.errors import UsageError
from rootless.spec import jsontext

_DIGITS = "0123456789"


class TemplateError(UsageError):
    """A template that does not parse or cannot be filled in."""


class _Struct(dict[str, Any]):
    """A dict whose missing fields are an error, as those of a Go struct are."""


def struct(value: dict[str, Any]) -> dict[str, Any]:
    """Mark *value* as a struct: a field that it lacks is an error, not `<no value>`."""
    return _Struct(value)


class Template:
    """A parsed template."""

    def __init__(self, text: str, name: str) -> None:
        self._name = name
        self._tokens = _lex(text, name)
        self._at = 0
        self._nodes = self._block(())
        if self._at < len(self._tokens):
            raise self._error(f"unexpected {{{{{self._tokens[self._at][1][0][1]}}}}}")

    def render(self, value: Any) -> str:
        """Return the template filled in with *value*.

        Raises: TemplateError
        """
        out: list[str] = []
        self._run(self._nodes, value, {"$": value}, out)
        return "".join(out)

    def fields(self) -> list[str]:
        """Return the top-level fields that stand in the template, for the headings of a table."""
        found: list[str] = []
        for kind, tokens in self._tokens:
            if kind == "action":
                found += [text.split(".")[1] for what, text in tokens if what == "field" and len(text) > 1]
        return found

    # ---- parsing: blocks of (kind, payload)

    def _error(self, message: str) -> TemplateError:
        return TemplateError(f"template: {self._name}:1: {message}")

    def _block(self, ends: tuple[str, ...]) -> list[tuple[str, Any]]:
        nodes: list[tuple[str, Any]] = []
        while self._at < len(self._tokens):
            kind, payload = self._tokens[self._at]
            if kind == "text":
                nodes.append(("text", payload))
                self._at += 1
                continue
            word = payload[0][1] if payload and payload[0][0] == "word" else ""
            if word in ("end", "else"):
                if word not in ends:
                    raise self._error(f"unexpected {{{{{word}}}}}")
                return nodes
            self._at += 1
            if word in ("if", "range", "with"):
                nodes.append(self._branch(word, payload[1:]))
            elif payload:
                nodes.append(("print", self._assignment(payload)))
        if ends:
            raise self._error("unexpected EOF")
        return nodes

    def _branch(self, word: str, tokens: list[tuple[str, str]]) -> tuple[str, Any]:
        if not tokens:
            raise self._error(f"missing value for {word}")
        head = self._range_head(tokens) if word == "range" else self._assignment(tokens)
        body = self._block(("end", "else"))
        otherwise: list[tuple[str, Any]] = []
        payload = self._tokens[self._at][1]
        self._at += 1
        if payload[0][1] == "else":
            if len(payload) > 1 and payload[1][1] in ("if", "with"):
                otherwise = [self._branch(payload[1][1], payload[2:])]
                return word, (head, body, otherwise)
            otherwise = self._block(("end",))
            self._at += 1
        return word, (head, body, otherwise)

    def _range_head(self, tokens: list[tuple[str, str]]) -> tuple[Any, Any]:
        marks = [i for i, (kind, _) in enumerate(tokens) if kind == "assign"]
        if not marks:
            return (), self._pipeline(tokens)
        names = tuple(text for kind, text in tokens[: marks[0]] if kind == "variable")
        return names, self._pipeline(tokens[marks[0] + 1 :])

    def _assignment(self, tokens: list[tuple[str, str]]) -> tuple[Any, Any]:
        if len(tokens) > 2 and tokens[0][0] == "variable" and tokens[1][0] == "assign":
            return tokens[0][1], self._pipeline(tokens[2:])
        return "", self._pipeline(tokens)

    def _pipeline(self, tokens: list[tuple[str, str]]) -> list[list[Any]]:
        """Return the commands of a pipeline, each a list of operands."""
        commands: list[list[Any]] = [[]]
        at = 0
        while at < len(tokens):
            kind, text = tokens[at]
            if kind == "pipe":
                commands.append([])
            elif kind == "open":
                depth, end = 1, at + 1
                while end < len(tokens) and depth:
                    depth += {"open": 1, "close": -1}.get(tokens[end][0], 0)
                    end += 1
                if depth:
                    raise self._error("unclosed left paren")
                inner = self._pipeline(tokens[at + 1 : end - 1])
                at = end - 1
                chain = ""
                if at + 1 < len(tokens) and tokens[at + 1][0] == "field":
                    chain = tokens[at + 1][1]
                    at += 1
                commands[-1].append(("paren", (inner, chain)))
            elif kind == "close":
                raise self._error("unexpected right paren")
            elif kind == "assign":
                raise self._error(f'unexpected "{text}" in operand')
            else:
                if kind == "word" and text not in FUNCTIONS and text not in ("true", "false", "nil", "and", "or"):
                    raise self._error(f'function "{text}" not defined')
                commands[-1].append((kind, text))
            at += 1
        if any(not command for command in commands):
            raise self._error("missing value for command")
        return commands

    # ---- running

    def _run(self, nodes: list[tuple[str, Any]], dot: Any, names: dict[str, Any], out: list[str]) -> None:
        for kind, payload in nodes:
            if kind == "text":
                out.append(payload)
            elif kind == "print":
                name, pipeline = payload
                value = self._value(pipeline, dot, names)
                if name:
                    names[name] = value
                else:
                    out.append(show(value))
            else:
                (head, pipeline), body, otherwise = payload
                value = self._value(pipeline, dot, names)
                inner = dict(names)
                if kind == "range":
                    self._range(head, value, body, otherwise, dot, inner, out)
                    continue
                if head:
                    inner[head] = value
                chosen = body if truth(value) else otherwise
                self._run(chosen, value if kind == "with" and chosen is body else dot, inner, out)

    def _range(
        self,
        head: tuple[str, ...],
        value: Any,
        body: Any,
        otherwise: Any,
        dot: Any,
        names: dict[str, Any],
        out: list[str],
    ) -> None:
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        elif value is None:
            pairs = []
        else:
            raise self._error(f"range can't iterate over {show(value)}")
        if not pairs:
            self._run(otherwise, dot, names, out)
        for key, item in pairs:
            if len(head) == 1:
                names[head[0]] = item
            elif head:
                names[head[0]], names[head[1]] = key, item
            self._run(body, item, names, out)

    def _value(self, pipeline: list[list[Any]], dot: Any, names: dict[str, Any]) -> Any:
        value: Any = None
        for at, command in enumerate(pipeline):
            value = self._command(command, [value] if at else [], dot, names)
        return value

    def _command(self, command: list[Any], piped: list[Any], dot: Any, names: dict[str, Any]) -> Any:
        kind, text = command[0]
        if kind == "word" and text in ("and", "or"):
            last: Any = None
            for operand in command[1:]:
                last = self._operand(operand, dot, names)
                if truth(last) != (text == "and"):
                    return last
            return piped[0] if piped else last
        if kind == "word" and text in FUNCTIONS:
            arguments = [self._operand(operand, dot, names) for operand in command[1:]] + piped
            try:
                return FUNCTIONS[text](*arguments)
            except TemplateError:
                raise
            except (TypeError, ValueError, LookupError, AttributeError) as error:
                raise self._error(f'executing "{self._name}" at <{text}>: error calling {text}: {error}') from None
        if len(command) > 1 or piped:
            raise self._error(f"can't give argument to non-function {text}")
        return self._operand(command[0], dot, names)

    def _operand(self, operand: tuple[str, Any], dot: Any, names: dict[str, Any]) -> Any:
        kind, text = operand
        if kind == "field":
            return self._chain(dot, text, text)
        if kind == "variable":
            name, point, rest = text.partition(".")
            if name not in names:
                raise self._error(f'undefined variable "{name}"')
            return self._chain(names[name], point + rest, text)
        if kind == "string":
            return text
        if kind == "number":
            return float(text) if "." in text else int(text, 0)
        if kind == "paren":
            return self._chain(self._value(text[0], dot, names), text[1], text[1])
        if text in ("true", "false", "nil"):
            return {"true": True, "false": False}.get(text)
        return self._command([operand], [], dot, names)

    def _chain(self, value: Any, fields: str, shown: str) -> Any:
        for field in fields.split(".")[1:]:
            if not field:
                continue
            if isinstance(value, dict):
                if field not in value and isinstance(value, _Struct):
                    raise self._missing(shown, field)
                value = value.get(field)
            elif value is not None:
                raise self._missing(shown, field)
        return value

    def _missing(self, shown: str, field: str) -> TemplateError:
        return self._error(f'executing "{self._name}" at <{shown}>: can\'t evaluate field {field}')


def _lex(text: str, name: str) -> list[tuple[str, Any]]:
    """Split into ("text", str) and ("action", tokens)."""
    found: list[tuple[str, Any]] = []
    at, trim = 0, False
    while True:
        start = text.find("{{", at)
        piece = text[at:] if start < 0 else text[at:start]
        if trim:
            piece = piece.lstrip()
        if start < 0:
            if piece:
                found.append(("text", piece))
            return found
        at = start + 2
        if text[at : at + 1] == "-" and text[at + 1 : at + 2].isspace():
            piece = piece.rstrip()
            at += 2
        if piece:
            found.append(("text", piece))
        if text[at:].lstrip().startswith("/*"):
            close = text.find("*/", at)
            end = text.find("}}", close)
            if close < 0 or end < 0:
                raise TemplateError(f"template: {name}:1: unclosed comment")
            trim = text[close + 2 : end].strip() == "-"
            at = end + 2
            continue
        tokens, at, trim = _lex_action(text, at, name)
        found.append(("action", tokens))


def _lex_action(text: str, at: int, name: str) -> tuple[list[tuple[str, str]], int, bool]:
    tokens: list[tuple[str, str]] = []
    while True:
        if at >= len(text):
            raise TemplateError(f"template: {name}:1: unclosed action")
        if text.startswith("}}", at):
            return tokens, at + 2, False
        if text.startswith("-}}", at) and text[at - 1].isspace():
            return tokens, at + 3, True
        c = text[at]
        if c.isspace():
            at += 1
        elif c in "\"`'":
            value, at = _lex_string(text, at, name)
            tokens.append(("string", value))
        elif c in "()|":
            tokens.append(({"(": "open", ")": "close", "|": "pipe"}[c], c))
            at += 1
        elif c == "," or c == "=" or text.startswith(":=", at):
            width = 2 if c == ":" else 1
            if c != ",":
                tokens.append(("assign", text[at : at + width]))
            at += width
        elif c in _DIGITS or (c in "+-" and text[at + 1 : at + 2] and text[at + 1] in _DIGITS):
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] == "."):
                end += 1
            tokens.append(("number", text[at:end]))
            at = end
        elif c == "." or c == "$" or c.isalpha() or c == "_":
            end = at + 1
            while end < len(text) and (text[end].isalnum() or text[end] in "_."):
                end += 1
            kind = "field" if c == "." else "variable" if c == "$" else "word"
            tokens.append((kind, text[at:end]))
            at = end
        else:
            raise TemplateError(f"template: {name}:1: bad character U+{ord(c):04X} '{c}'")


def _lex_string(text: str, at: int, name: str) -> tuple[str, int]:
    quote, end = text[at], at + 1
    while end < len(text) and text[end] != quote:
        end += 2 if text[end] == "\\" and quote != "`" else 1
    if end >= len(text):
        raise TemplateError(f"template: {name}:1: unterminated quoted string")
    inside = text[at + 1 : end]
    if quote == "`":
        return inside, end + 1
    out, i = "", 0
    while i < len(inside):
        if inside[i] == "\\":
            out += {"n": "\n", "t": "\t", "r": "\r"}.get(inside[i + 1], inside[i + 1])
            i += 2
        else:
            out += inside[i]
            i += 1
    return out, end + 1


def truth(value: Any) -> bool:
    """Say whether Go takes *value* as true: not zero, not empty."""
    return bool(value)


def show(value: Any) -> str:
    """Return *value* as Go's %v prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, _Struct):
        return "{" + " ".join(show(item) for item in value.values()) + "}"
    if isinstance(value, dict):
        return "map[" + " ".join(f"{key}:{show(value[key])}" for key in sorted(value)) + "]"
    if isinstance(value, (list, tuple)):
        return "[" + " ".join(show(item) for item in value) + "]"
    return str(value)


def _compare(*arguments: Any) -> bool:
    first, others = arguments[0], arguments[1:]
    return any(first == other for other in others)


def _index(value: Any, *keys: Any) -> Any:
    for key in keys:
        if isinstance(value, dict):
            value = value.get(key)
        else:
            if not 0 <= key < len(value):
                raise IndexError(f"index out of range: {key}")
            value = value[key]
    return value


def _printf(form: str, *arguments: Any) -> str:
    out, at, rest = "", 0, list(arguments)
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
            continue
        if not rest:
            out += f"%!{verb}(MISSING)"
            continue
        value = rest.pop(0)
        if verb in ("s", "v"):
            out += f"%{flags}s" % show(value)
        elif verb == "q":
            out += jsontext.dumps(show(value))
        elif verb in ("d", "x", "X", "o", "f", "g", "e"):
            out += f"%{flags}{verb}" % value
        elif verb == "t":
            out += show(bool(value))
        else:
            out += f"%!{verb}({show(value)})"
    return out


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "eq": _compare,
    "ge": lambda a, b: a >= b,
    "gt": lambda a, b: a > b,
    "html": lambda a: show(a).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&#34;"),
    "index": _index,
    "join": lambda items, mark: mark.join(show(item) for item in items or ()),
    "json": lambda value: jsontext.dumps(value),
    "le": lambda a, b: a <= b,
    "len": lambda value: len(value or ()),
    "lower": lambda text: show(text).lower(),
    "lt": lambda a, b: a < b,
    "ne": lambda a, b: a != b,
    "not": lambda value: not truth(value),
    "pad": lambda text, before, after: " " * before + text + " " * after if text else text,
    "print": lambda *items: "".join(show(item) for item in items),
    "printf": _printf,
    "println": lambda *items: " ".join(show(item) for item in items) + "\n",
    "slice": lambda value, low=0, high=None: value[low:high],
    "split": lambda text, mark: text.split(mark),
    "title": lambda text: text[:1].upper() + text[1:],
    "truncate": lambda text, size: text[:size],
    "upper": lambda text: show(text).upper(),
}
