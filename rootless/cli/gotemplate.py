"""The part of Go's text/template that `--format '{{...}}'` needs: parsing and execution. Loaded only for a template.

Actions: fields and chains, variables, pipelines, parentheses, if/else if/else, range/else, break, continue, with/else,
comments, trim marks. The functions and what values are: cli/govalues.py.

    Template("{{range .}}{{.ID}}\n{{end}}", "ps").render([Struct({"ID": "x"})])

Source: Go's text/template documentation and the words and positions of its errors, as podman 4.3 prints them
"""

from __future__ import annotations

from rootless.cli.govalues import FUNCTIONS, CallError, Nil, Struct, Time, kind_of, show, truth
from rootless.errors import UsageError
from rootless.spec import moment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, NoReturn

    # (kind, text, position)
    Token = tuple[str, str, int]
    Operand = tuple[str, Any, int]
    Command = list[Operand]
    Pipeline = tuple[str, str, list[Command], int]
    Node = tuple[str, Any, int]

_DIGITS = "0123456789"
_BLOCKS = ("if", "range", "with")
_WORDS = ("true", "false", "nil", "and", "or")


class TemplateError(UsageError):
    """A template that does not parse or cannot be filled in."""


def struct(value: dict[str, Any], kind: str = "struct") -> dict[str, Any]:
    """Mark *value* as a struct: a field that it lacks is an error, not `<no value>`."""
    made = Struct(value)
    made.kind = kind
    return made


class Template:
    """A parsed template. Raises: TemplateError"""

    def __init__(self, text: str, name: str) -> None:
        self._text, self._name = text, name
        self._tokens = self._lex()
        self._at = 0
        self._declared: list[str] = ["$"]
        self._nodes, _ = self._block(())
        self._names: list[tuple[str, Any]] = []
        self._out: list[str] = []

    def render(self, value: Any) -> str:
        """Return the template filled in with *value*.

        Raises: TemplateError; what was made until then is its `done`
        """
        self._out = []
        self._names = [("$", value)]
        try:
            self._run(self._nodes, value)
        except TemplateError as error:
            error.done = "".join(self._out)  # type: ignore[attr-defined]
            raise
        return "".join(self._out)

    def fields(self) -> list[str]:
        """Return the top-level fields that stand in the template."""
        return [
            text.split(".")[1]
            for kind, tokens in self._tokens
            if kind == "action"
            for what, text, _ in tokens
            if what == "field" and len(text) > 1
        ]

    # ---- parsing

    def _wrong(self, words: str, at: int = 0) -> NoReturn:
        raise TemplateError(f"template: {self._name}:{1 + self._text.count(chr(10), 0, at)}: {words}")

    def _lex(self) -> list[tuple[str, Any]]:
        """Split into ("text", str) and ("action", tokens)."""
        text = self._text
        found: list[tuple[str, Any]] = []
        at, trim = 0, False
        while True:
            start = text.find("{{", at)
            piece = text[at:] if start < 0 else text[at:start]
            if trim:
                piece = piece.lstrip()
            if start < 0:
                return [*found, ("text", piece)] if piece else found
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
                    self._wrong("unclosed comment", at)
                trim = text[close + 2 : end].strip() == "-"
                at = end + 2
                continue
            tokens, at, trim = self._lex_action(at)
            found.append(("action", tokens))

    def _lex_action(self, at: int) -> tuple[list[Token], int, bool]:
        text = self._text
        tokens: list[Token] = []
        while True:
            if at >= len(text):
                self._wrong("unclosed action", at)
            if text.startswith("}}", at):
                return tokens, at + 2, False
            if text.startswith("-}}", at) and text[at - 1].isspace():
                return tokens, at + 3, True
            c, begin = text[at], at
            if c.isspace():
                at += 1
            elif c in "\"`'":
                value, at = self._lex_string(at)
                tokens.append(("string", value, begin))
            elif c in "()|":
                tokens.append(({"(": "open", ")": "close", "|": "pipe"}[c], c, begin))
                at += 1
            elif c in ",=" or text.startswith(":=", at):
                at += 2 if c == ":" else 1
                tokens.append(("comma" if c == "," else "assign", text[begin:at], begin))
            elif c in _DIGITS or (c in "+-" and text[at + 1 : at + 2] and text[at + 1] in _DIGITS):
                at = self._word_end(at + 1, ".")
                tokens.append(("number", text[begin:at], begin))
            elif c in ".$_" or c.isalpha():
                at = self._word_end(at + 1, "_.")
                kind = "field" if c == "." else "variable" if c == "$" else "word"
                tokens.append((kind, text[begin:at], begin))
            else:
                self._wrong(f"bad character U+{ord(c):04X} '{c}'", at)

    def _word_end(self, at: int, more: str) -> int:
        while at < len(self._text) and (self._text[at].isalnum() or self._text[at] in more):
            at += 1
        return at

    def _lex_string(self, at: int) -> tuple[str, int]:
        text, quote, end = self._text, self._text[at], at + 1
        while end < len(text) and text[end] != quote and (text[end] != "\n" or quote == "`"):
            end += 2 if text[end] == "\\" and quote != "`" else 1
        if end >= len(text) or text[end] == "\n" != quote:
            kinds = {'"': "quoted string", "`": "raw quoted string", "'": "character constant"}
            self._wrong(f"unterminated {kinds[quote]}", at)
        inside = text[at + 1 : end]
        if quote == "`":
            return inside, end + 1
        out, i = "", 0
        while i < len(inside):
            c = inside[i]
            if c == "\\":
                i += 1
                c = {"n": "\n", "t": "\t", "r": "\r", "a": "\a"}.get(inside[i], inside[i])
            out += c
            i += 1
        return out, end + 1

    def _block(self, ends: tuple[str, ...]) -> tuple[list[Node], list[Token]]:
        """Read nodes up to one of *ends*; return them and the tokens of the end."""
        nodes: list[Node] = []
        scope = len(self._declared)
        while self._at < len(self._tokens):
            kind, payload = self._tokens[self._at]
            self._at += 1
            if kind == "text":
                nodes.append(("text", payload, 0))
                continue
            if not payload:
                self._wrong("missing value for command")
            word, begin = payload[0][1] if payload[0][0] == "word" else "", payload[0][2]
            if word in ("end", "else"):
                if word not in ends:
                    self._wrong(f"unexpected {{{{{word}}}}}", begin)
                del self._declared[scope:]
                return nodes, payload
            if word in _BLOCKS:
                nodes.append(self._branch(word, payload[1:], begin))
            elif word in ("break", "continue"):
                nodes.append((word, None, begin))
            elif word in ("template", "block", "define"):
                name = payload[1][1] if len(payload) > 1 else ""
                self._wrong(f'template "{name}" not defined', begin)
            else:
                nodes.append(("print", self._pipeline(payload), begin))
        if ends:
            self._wrong("unexpected EOF", len(self._text))
        return nodes, []

    def _branch(self, word: str, tokens: list[Token], begin: int) -> Node:
        if not tokens:
            self._wrong(f"missing value for {word}", begin)
        scope = len(self._declared)
        head: tuple[str, ...] = ()
        if word == "range":
            marks = [i for i, token in enumerate(tokens) if token[0] == "assign"]
            if marks:
                head = tuple([token[1] for token in tokens[: marks[0]] if token[0] == "variable"])
                tokens = tokens[marks[0] + 1 :]
        pipeline = self._pipeline(tokens, word)
        self._declared += head
        body, ending = self._block(("end", "else"))
        otherwise: list[Node] = []
        if ending[0][1] == "else":
            if len(ending) > 1 and ending[1][1] in ("if", "with"):
                otherwise = [self._branch(ending[1][1], ending[2:], ending[1][2])]
            else:
                otherwise, _ = self._block(("end",))
        del self._declared[scope:]
        return word, (head, pipeline, body, otherwise), begin

    def _pipeline(self, tokens: list[Token], what: str = "command") -> Pipeline:
        """Return (declared variable, its mark, commands, position)."""
        if not tokens:
            self._wrong(f"missing value for {what}")
        if len(tokens) > 1 and tokens[0][0] == "variable" and tokens[1][0] == "assign":
            if len(tokens) < 3:
                self._wrong("missing value for command", tokens[0][2])
            name, mark = tokens[0][1], tokens[1][1]
            commands = self._commands(tokens[2:])
            if mark == "=":
                self._check_declared(name, tokens[0][2])
            self._declared.append(name)
            return name, mark, commands, tokens[0][2]
        return "", "", self._commands(tokens), tokens[0][2]

    def _commands(self, tokens: list[Token]) -> list[Command]:
        commands: list[Command] = [[]]
        at = 0
        while at < len(tokens):
            kind, text, begin = tokens[at]
            if kind == "pipe":
                commands.append([])
            elif kind == "open":
                depth, end = 1, at + 1
                while end < len(tokens) and depth:
                    depth += {"open": 1, "close": -1}.get(tokens[end][0], 0)
                    end += 1
                if depth:
                    self._wrong("unclosed left paren", begin)
                inner = self._pipeline(tokens[at + 1 : end - 1])
                at = end - 1
                chain = ""
                # `(...).Field`: without a blank between
                if at + 1 < len(tokens) and tokens[at + 1][0] == "field" and tokens[at + 1][2] == tokens[at][2] + 1:
                    chain = tokens[at + 1][1]
                    at += 1
                commands[-1].append(("paren", (inner, chain), begin))
            elif kind == "close":
                self._wrong("unexpected right paren", begin)
            elif kind in ("assign", "comma"):
                self._wrong(f'unexpected "{text}" in operand', begin)
            else:
                if kind == "word" and text not in FUNCTIONS and text not in _WORDS:
                    self._wrong(f'function "{text}" not defined', begin)
                if kind == "variable":
                    self._check_declared(text.partition(".")[0], begin)
                if kind == "number":
                    self._check_number(text, begin)
                commands[-1].append((kind, text, begin))
            at += 1
        if not all(commands):
            self._wrong("missing value for command", tokens[0][2])
        return commands

    def _check_declared(self, name: str, at: int) -> None:
        if name not in self._declared:
            self._wrong(f'undefined variable "{name}"', at)

    def _check_number(self, text: str, at: int) -> None:
        try:
            _number(text)
        except ValueError:
            self._wrong(f'bad number syntax: "{text}"', at)

    # ---- running

    def _failed(self, words: str, at: int, context: str) -> NoReturn:
        start = self._text.rfind("\n", 0, at)
        column = at if start < 0 else at - start - 1
        line = 1 + self._text.count("\n", 0, at)
        raise TemplateError(f'template: {self._name}:{line}:{column}: executing "{self._name}" at <{context}>: {words}')

    def _run(self, nodes: list[Node], dot: Any) -> str:
        """Write what *nodes* give; return `break` or `continue` when one of these ended it."""
        for kind, payload, _ in nodes:
            if kind == "text":
                self._out.append(payload)
            elif kind == "print":
                value = self._evaluate(payload, dot)
                if not payload[0]:
                    self._out.append(show(value))
            elif kind in ("break", "continue"):
                return kind
            else:
                scope = len(self._names)
                ended = self._walk(kind, payload, dot)
                del self._names[scope:]
                if ended:
                    return ended
        return ""

    def _walk(self, kind: str, payload: Any, dot: Any) -> str:
        head, pipeline, body, otherwise = payload
        value = self._evaluate(pipeline, dot)
        if kind == "range":
            self._range(head, value, pipeline, body, otherwise, dot)
            return ""
        chosen = body if truth(value) else otherwise
        return self._run(chosen, value if kind == "with" and chosen is body else dot)

    def _range(
        self, head: tuple[str, ...], value: Any, pipeline: Pipeline, body: Any, otherwise: Any, dot: Any
    ) -> None:
        pairs: list[tuple[Any, Any]] = []
        if isinstance(value, Struct) or not (value is None or isinstance(value, (dict, list, tuple, Nil))):
            self._failed(f"range can't iterate over {show(value)}", pipeline[3], _pipeline_text(pipeline))
        if isinstance(value, dict):
            pairs = [(key, value[key]) for key in sorted(value)]
        elif isinstance(value, (list, tuple)):
            pairs = list(enumerate(value))
        if not pairs:
            self._run(otherwise, dot)
        scope = len(self._names)
        for key, item in pairs:
            if len(head) == 1:
                self._names.append((head[0], item))
            elif head:
                self._names += [(head[0], key), (head[1], item)]
            ended = self._run(body, item)
            del self._names[scope:]
            if ended == "break":
                break

    def _evaluate(self, pipeline: Pipeline, dot: Any) -> Any:
        name, mark, commands, _ = pipeline
        value: Any = None
        for at, command in enumerate(commands):
            value = self._command(command, [value] if at else [], dot)
        if mark == ":=":
            self._names.append((name, value))
        elif mark:
            for at in range(len(self._names) - 1, -1, -1):
                if self._names[at][0] == name:
                    self._names[at] = (name, value)
                    break
        return value

    def _command(self, command: Command, piped: list[Any], dot: Any) -> Any:
        kind, text, begin = command[0]
        if kind == "word" and text in ("and", "or"):
            last: Any = None
            for operand in command[1:]:
                last = self._operand(operand, dot)
                if truth(last) != (text == "and"):
                    return last
            return piped[0] if piped else last
        if kind == "word" and text in FUNCTIONS:
            function, least, most = FUNCTIONS[text]
            arguments = [self._operand(operand, dot) for operand in command[1:]] + piped
            if len(arguments) < least or 0 <= most < len(arguments):
                want = str(least) if least == most else f"at least {least}"
                self._failed(f"wrong number of args for {text}: want {want} got {len(arguments)}", begin, text)
            try:
                return function(*arguments)
            except CallError as error:
                if error.argument is not None and error.argument + 1 < len(command):
                    culprit = command[error.argument + 1]
                    self._failed(str(error), culprit[2], _operand_text(culprit))
                self._failed(f"error calling {text}: {error}", begin, _command_text(command))
            except (TypeError, ValueError, LookupError, AttributeError, OverflowError) as error:
                self._failed(f"error calling {text}: {error}", begin, _command_text(command))
        if len(command) > 1 or piped:
            self._failed(
                f"can't give argument to non-function {_operand_text(command[0])}", begin, _command_text(command)
            )
        return self._operand(command[0], dot)

    def _operand(self, operand: Operand, dot: Any) -> Any:
        kind, text, begin = operand
        if kind == "field":
            return self._chain(dot, text, text, begin)
        if kind == "variable":
            name, point, rest = text.partition(".")
            for known, value in reversed(self._names):
                if known == name:
                    return self._chain(value, point + rest, text, begin)
            self._failed(f"undefined variable: {name}", begin, text)
        if kind == "string":
            return text
        if kind == "number":
            return _number(text)
        if kind == "paren":
            inner, chain = text
            scope = len(self._names)
            value = self._evaluate(inner, dot)
            del self._names[scope:]
            return self._chain(value, chain, chain, begin)
        if text in ("true", "false", "nil"):
            return {"true": True, "false": False}.get(text)
        return self._command([operand], [], dot)

    def _chain(self, value: Any, fields: str, shown: str, begin: int) -> Any:
        names = [field for field in fields.split(".")[1:] if field]
        for field in names:
            if isinstance(value, dict):
                if field in value:
                    value = value[field]
                    continue
                if not isinstance(value, Struct):
                    value = None
                    continue
            elif value is None:
                continue
            elif isinstance(value, Nil):
                if value.text == "<nil>":
                    at = begin + len(shown[1:].partition(".")[0]) + 1
                    self._failed(f"nil pointer evaluating {shown.rpartition('.')[0]}.{field}", at, shown)
                value = None
                continue
            elif isinstance(value, Time) and field in ("Unix", "Year"):
                ns = moment.parse(str(value)) or 0
                value = ns // moment.SECOND_NS if field == "Unix" else int(value[:4])
                continue
            at = begin + len(shown[1:].partition(".")[0]) + 1 if shown.count(".") + (shown[0] == "$") > 1 else begin
            self._failed(f"can't evaluate field {field} in type {kind_of(value)}", at, shown)
        return value


def _number(text: str) -> int | float:
    """Raises: ValueError"""
    return float(text) if "." in text else int(text, 0)


def _operand_text(operand: Operand) -> str:
    kind, text, _ = operand
    if kind == "string":
        return '"' + str(text).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") + '"'
    if kind == "paren":
        inner, chain = text
        return f"({_pipeline_text(inner)}){chain}"
    return str(text)


def _command_text(command: Command) -> str:
    return " ".join([_operand_text(operand) for operand in command])


def _pipeline_text(pipeline: Pipeline) -> str:
    name, mark, commands, _ = pipeline
    words = " | ".join([_command_text(command) for command in commands])
    return f"{name} {mark} {words}" if name else words
