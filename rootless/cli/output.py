"""Listings as podman prints them: padded tables, JSON, Go templates (whose code is loaded only when one is given).

    columns = (("REPOSITORY", "Repository"), ("TAG", "Tag"), ...)          what the plain table shows
    output.listing(rows, columns, format=..., name="images", headings={"ID": "IMAGE ID", ...}, noheading=...)

prints *rows* (dicts with Go's field names) as a table, as JSON (`--format json` or `{{json .}}`), by `--format
'table {{.ID}}\t{{.Size}}'` or by any other template, one row after the other. A plain table needs only the fields of
its columns.

Source: Go's text/tabwriter (cells of at least 12 columns, 2 between them); podman 4.3's output; containers/common
        pkg/report (what stands around a template, which the positions in errors count)
"""

from __future__ import annotations

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

MIN_WIDTH, PADDING = 12, 2
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BEFORE, _AFTER = "{{range .}}", "{{println}}{{end}}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return the cells of *lines* in columns; the last cell of a line is not padded."""
    width: dict[int, int] = {}
    for cells in lines:
        for at, cell in enumerate(cells[:-1]):
            wide = len(cell) + PADDING
            if wide > width.get(at, MIN_WIDTH):
                width[at] = wide
    out = []
    for cells in lines:
        padded = [cell.ljust(width.get(at, MIN_WIDTH)) for at, cell in enumerate(cells[:-1])]
        out.append("".join(padded) + (cells[-1] if cells else "") + "\n")
    return "".join(out)


def is_json(format: str) -> bool:
    """Say whether --format asks for JSON: `json`, or a template that does nothing else."""
    text = format.strip()
    if text[:2] == "{{" and text[-2:] == "}}":
        return text[2:-2].split() in (["json"], ["json", "."])
    return text == "json"


def listing(
    rows: Sequence[Mapping[str, Any]],
    columns: Sequence[tuple[str, str]],
    *,
    format: str = "",
    name: str = "list",
    headings: Mapping[str, str] | None = None,
    noheading: bool = False,
    json_rows: Sequence[Mapping[str, Any]] | None = None,
    write: Callable[[str], object] | None = None,
    kind: str = "struct",
) -> None:
    """Print *rows*; *json_rows* stands for them in JSON where that document has other fields. *kind*: a row's Go type.

    Raises: TemplateError - the template does not parse, or names a field that a row lacks
    """
    emit = write or sys.stdout.write
    if not format:
        lines = [[cell if type(cell) is str else _shown(cell) for cell in [row[field] for _, field in columns]]
                 for row in rows]  # fmt: skip
        if not noheading:
            lines.insert(0, [heading for heading, _ in columns])
        emit(align(lines))
        return
    if is_json(format):
        emit(to_json(list(rows if json_rows is None else json_rows)) + "\n")
        return
    from rootless.cli.gotemplate import Template, TemplateError, struct

    is_table = format.startswith("table ")
    text = _normal(format)
    whole = text.replace(" ", "").startswith("{{range.}}")
    template = Template(text if whole else f"{_BEFORE}{text}{_AFTER}", name)
    try:
        printed = template.render([struct(dict(row), kind) for row in rows])
    except TemplateError as error:
        if not is_table:
            emit(getattr(error, "done", ""))
        raise
    if not is_table:
        emit(printed)
        return
    lines = [line.split("\t") for line in printed.split("\n")[:-1]]
    if not noheading:
        lines.insert(0, _headings(template, {field: heading for heading, field in columns} | dict(headings or {})))
    emit(align(lines))


def _headings(template: Any, known: Mapping[str, str]) -> list[str]:
    """Fill the headings into the template, as podman does: {{upper .Names}} is NAMES."""
    from rootless.cli.gotemplate import TemplateError

    names = {field: known.get(field) or heading_of(field) for field in template.fields() if field}
    try:
        first: str = template.render([names]).split("\n")[0]
        return first.split("\t")
    except TemplateError:
        return list(names.values())


def heading_of(field: str) -> str:
    """Return the heading of a Go field: its words in capitals."""
    words = ""
    for at, c in enumerate(field):
        before, after = field[at - 1 : at], field[at + 1 : at + 2]
        if at and c.isupper() and (not before.isupper() or after.islower()):
            words += " "
        words += c
    return words.upper()


def _shown(value: Any) -> str:
    from rootless.cli.govalues import show

    return show(value)


def document(
    value: Any, *, format: str = "", name: str = "inspect", write: Callable[[str], object] | None = None
) -> None:
    """Print one value by a template, or as JSON.

    Raises: TemplateError
    """
    emit = write or sys.stdout.write
    if not format or is_json(format):
        emit(to_json(value, indent=5 if name == "inspect" else 4) + "\n")
        return
    from rootless.cli.gotemplate import Template

    emit(Template(_normal(format), name).render(structs(value)) + "\n")


def structs(value: Any) -> Any:
    """Mark the outer dict of *value* as a struct, so that a wrong field name is an error."""
    from rootless.cli.gotemplate import struct

    return struct(value) if isinstance(value, dict) else value


def to_json(value: Any, indent: int = 4) -> str:
    """Return JSON as podman lays it out."""
    from rootless.spec import jsontext

    return jsontext.dumps(value, indent=indent)


def local_time(ns: int) -> str:
    """Return a moment in the local time zone as Go's time.Time prints."""
    from rootless.cli.govalues import moment_text

    return moment_text(ns)


def _normal(format: str) -> str:
    r"""Replace `\t` and `\n`; in a table the blanks between actions separate columns."""
    text = format.removeprefix("table ").replace("\\t", "\t").replace("\\n", "\n")
    if not format.startswith("table "):
        return text
    out, depth = "", 0
    for at, c in enumerate(text):
        depth += text.startswith("{{", at) - text.startswith("}}", at)
        out += "\t" if c == " " and depth <= 0 else c
    return out


def human_size(size_bytes: float) -> str:
    """Return a size with three significant digits in powers of 1000: 4.02 MB."""
    unit = 0
    while size_bytes >= 1000 and unit < len(_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.3g} {_UNITS[unit]}"


def human_duration(seconds: float) -> str:
    """Return a time span in one unit: "28 minutes", "About an hour", "3 weeks"."""
    if seconds < 1:
        return "Less than a second"
    whole = int(seconds)
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = round(whole / 3600)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{hours // 24 // 365} years"
