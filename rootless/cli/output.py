"""Listings as podman prints them: padded tables, JSON, Go templates. Not on the start-up path.

    columns = (("REPOSITORY", "Repository"), ("TAG", "Tag"), ...)          what the plain table shows
    output.listing(rows, columns, format=..., name="images", headings={"ID": "IMAGE ID", ...}, noheading=...)

prints *rows* (dicts with Go's field names) as a table, as JSON (`--format json`), by `--format
'table {{.ID}}\t{{.Size}}'` or by any other template, one row after the other.

Source: Go's text/tabwriter (cells of at least 12 columns, 2 between them); podman 4.3's output
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rootless.cli.gotemplate import Template, struct
from rootless.spec import jsontext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

MIN_WIDTH, PADDING = 12, 2
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def align(lines: Sequence[Sequence[str]]) -> str:
    """Return the cells of *lines* in columns; the last cell of a line is not padded."""
    width: dict[int, int] = {}
    for cells in lines:
        for at, cell in enumerate(cells[:-1]):
            width[at] = max(width.get(at, MIN_WIDTH), len(cell) + PADDING)
    out = ""
    for cells in lines:
        padded = [cell.ljust(width[at]) for at, cell in enumerate(cells[:-1])]
        out += "".join(padded) + (cells[-1] if cells else "") + "\n"
    return out


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
) -> None:
    """Print *rows*; *json_rows* stands for them in `--format json` where that document has other fields.

    Raises: TemplateError - the template does not parse, or names a field that a row lacks
    """
    emit = write or sys.stdout.write
    if format == "json":
        emit(to_json(list(rows if json_rows is None else json_rows)) + "\n")
        return
    names = {field: heading for heading, field in columns} | dict(headings or {})
    if not format:
        format = "table " + "\t".join("{{." + field + "}}" for _, field in columns)
    is_table = format.startswith("table ")
    template = Template(_normal(format), name)
    lines = [template.render(struct(dict(row))) for row in rows]
    if not is_table:
        emit("".join(line + "\n" for line in lines))
        return
    if not noheading:
        lines.insert(0, "\t".join(names.get(field, field.upper()) for field in template.fields()))
    emit(align([line.rstrip("\n").split("\t") for line in lines]))


def document(
    value: Any, *, format: str = "", name: str = "inspect", write: Callable[[str], object] | None = None
) -> None:
    """Print one value by a template, or as JSON.

    Raises: TemplateError
    """
    emit = write or sys.stdout.write
    if format in ("", "json"):
        emit(to_json(value, indent=5 if name == "inspect" else 4) + "\n")
        return
    template = Template(_normal(format), name)
    emit(template.render(structs(value)) + "\n")


def structs(value: Any) -> Any:
    """Mark the outer dict of *value* as a struct, so that a wrong field name is an error."""
    return struct(value) if isinstance(value, dict) else value


def to_json(value: Any, indent: int = 4) -> str:
    """Return JSON as podman lays it out."""
    return jsontext.dumps(value, indent=indent)


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
