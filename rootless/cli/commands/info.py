"""`rootless info`: the machine, the store, and which storage driver is used and why.

Source: podman-info(1) of podman 4.3, whose layout this is
"""

from __future__ import annotations

import os
import sys

from rootless.cli import output
from rootless.cli.gotemplate import struct
from rootless.cli.parser import Command, parse
from rootless.engine.info import gather
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="info",
    summary="Display system information",
    description="Displays information about this machine, the store, and the storage driver with its reason.",
    flags=(
        ("debug", "D", "bool", "", "", "Display additional debug information", ""),
        ("format", "f", "string", "", "", "Change the output format to JSON or a Go template", ""),
    ),
    examples=("info", "info --format '{{.Store.GraphDriverName}}: {{.Store.GraphDriverReason}}'"),
    max_args=0,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print YAML, JSON, or what the template says."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    tree = gather(roots, os.environ, driver=options.storage_driver, cgroup_manager=options.cgroup_manager)
    format = parsed.text("format")
    if format == "json":
        output.document(plain(tree, 1), format="json", name="info")
    elif format:
        output.document(plain(tree, 0), format=format, name="info")
    else:
        sys.stdout.write(yaml(plain(tree, 1)))
    return 0


def plain(node: Any, name: int) -> Any:
    """Return the tree as dicts with the names at index *name*: 0 is Go's (as structs), 1 is JSON's."""
    if not isinstance(node, tuple):
        return node
    found = {field[name]: plain(field[2], name) for field in node}
    return struct(found) if name == 0 else found


def yaml(value: Any, indent: str = "") -> str:
    """Return YAML with sorted keys, as podman prints it.

    Shape: lists stand at the level of their key; what would be read as something else is quoted
    """
    if isinstance(value, dict):
        out = ""
        for key in sorted(value):
            item = value[key]
            if isinstance(item, dict) and item:
                out += f"{indent}{scalar(key)}:\n{yaml(item, indent + '  ')}"
            elif isinstance(item, list) and item:
                out += f"{indent}{scalar(key)}:\n{yaml(item, indent)}"
            else:
                out += f"{indent}{scalar(key)}: {scalar(item)}\n"
        return out
    out = ""
    for item in value:
        if isinstance(item, dict) and item:
            out += f"{indent}- {yaml(item, indent + '  ').lstrip(' ')}"
        else:
            out += f"{indent}- {scalar(item)}\n"
    return out


def scalar(value: Any) -> str:
    """Return one YAML value on a line."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, dict):
        return "{}"
    if isinstance(value, list):
        return "[]"
    text = str(value)
    if text == "" or _is_special(text):
        return output.to_json(text)
    return text


def _is_special(text: str) -> bool:
    """Say whether *text* without quotes would be something else in YAML (YAML 1.2, 7.3.3 plain style)."""
    if text.lower() in ("true", "false", "null", "yes", "no", "on", "off", "~", "y", "n"):
        return True
    if text[0] in "!&*-?|>@`\"'%#{}[],: " or text[-1] in ": " or ": " in text or " #" in text or "\n" in text:
        return True
    try:
        float(text.replace("_", ""))
    except ValueError:
        return False
    return True
