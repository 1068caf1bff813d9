"""Man pages from the tables that `--help` is printed from: man(7) text, the same for the same tables.

Source: man(7), groff_man_style(7); man-pages(7) for the sections
"""

from __future__ import annotations

from rootless.cli.help import VALUE_WORD
from rootless.cli.parser import GLOBAL_FLAGS, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.cli.parser import Row

PREFIX = "rootless"


def file_name(name: str) -> str:
    """Return the page of the command *name*: rootless-container-unit.1."""
    return "-".join([PREFIX, *name.split()]) + ".1"


def command_page(command: Command) -> str:
    """Return the page of one verb."""
    usage = command.usage.removeprefix("[options]").strip()
    lines = _head(file_name(command.name)[:-2], command.summary)
    lines += [".SH SYNOPSIS", rf"\fB{PREFIX} {_text(command.name)}\fR [\fIoptions\fR] {_text(usage)}".rstrip()]
    if command.description:
        lines += [".SH DESCRIPTION", *_paragraphs(command.description)]
    if command.flags:
        lines += [".SH OPTIONS", *_options(command.flags)]
    if command.aliases:
        lines += [".SH OTHER SPELLINGS"]
        for other, real in command.aliases:
            lines += [".TP", rf"\fB\-\-{_text(other)}\fR", rf"means \fB\-\-{_text(real)}\fR"]
    if command.examples:
        lines += [".SH EXAMPLES", ".nf", *[_text(f"{PREFIX} {line}") for line in command.examples], ".fi"]
    lines += [".SH SEE ALSO", r"\fBrootless\fR(1)"]
    return "\n".join(lines) + "\n"


def program_page(verbs: Sequence[tuple[str, str]]) -> str:
    """Return the page of the program: its global options and verbs."""
    lines = _head(PREFIX, "run containers without root and without a daemon")
    lines += [".SH SYNOPSIS", r"\fBrootless\fR [\fIoptions\fR] \fICOMMAND\fR ..."]
    lines += [".SH OPTIONS", *_options(GLOBAL_FLAGS), ".SH COMMANDS"]
    for name, summary in verbs:
        lines += [".TP", rf"\fB{_text(file_name(name)[:-2])}\fR(1)", _text(summary)]
    lines += [
        ".SH EXIT STATUS",
        "125 for an error of rootless, 126 and 127 for a program that cannot be executed or is not there, 128+n for",
        "one that a signal ended, else the status of the container's program.",
    ]
    return "\n".join(lines) + "\n"


def _head(name: str, summary: str) -> list[str]:
    return [rf'.TH "{_text(name).upper()}" 1 "" "rootless" "rootless"', ".nh", ".ad l", ".SH NAME",
            rf"{_text(name)} \- {_text(summary)}"]  # fmt: skip


def _options(rows: Sequence[Row]) -> list[str]:
    lines: list[str] = []
    for name, short, kind, metavar, default, text, refusal in sorted(rows):
        word = metavar or VALUE_WORD[kind]
        head = rf"\fB\-\-{_text(name)}\fR" + (rf"=\fI{_text(word)}\fR" if word else "")
        if short:
            head = rf"\fB\-{_text(short)}\fR, {head}"
        said = f"{text} (default {default})" if default else text
        lines += [".TP", head, _text(f"Not supported: {refusal}." if refusal else said or "Without effect.")]
    return lines


def _paragraphs(text: str) -> list[str]:
    """Return flowing text as paragraphs; what is indented stays as it is."""
    lines: list[str] = []
    literal = False
    for line in text.splitlines():
        if line.startswith(" ") and not literal:
            lines.append(".nf")
        elif literal and line and not line.startswith(" "):
            lines.append(".fi")
        literal = line.startswith(" ") or (literal and not line)
        lines.append(_text(line) if line.strip() else ".PP" if not literal else "")
    return [*lines, ".fi"] if literal else lines


def _text(text: str) -> str:
    """Escape what troff would read as its own."""
    out = text.replace("\\", r"\e").replace("-", r"\-").replace("\n", " ")
    return rf"\&{out}" if out[:1] in (".", "'") else out
