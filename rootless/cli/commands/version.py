"""`rootless version`: the version, as podman lays it out.

Source: podman-version(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless import __version__
from rootless.cli.parser import Command, parse
from rootless.spec.platform import from_machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="version",
    summary="Display the version",
    description="Displays the version of rootless.",
    flags=(("format", "f", "string", "", "", "Change the output format to JSON or a Go template", ""),),
    examples=("version", "version --format '{{.Client.Version}}'"),
    max_args=0,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a table, or what --format asks for."""
    parsed, _ = parse(COMMAND, argv, options)
    facts = version_facts()
    format = parsed.text("format")
    if format:
        from rootless.cli import output
        from rootless.cli.gotemplate import struct

        # podman's template knows {{.Client.Version}} and {{.Version}}
        value = {"Client": facts} if format == "json" else facts | {"Client": struct(facts)}
        output.document(value, format=format, name="version")
        return 0
    rows = (
        ("Client", "rootless"),
        ("Version", facts["Version"]),
        ("API Version", facts["APIVersion"]),
        ("Python Version", facts["PythonVersion"]),
        ("OS/Arch", facts["OsArch"]),
    )
    sys.stdout.write("".join([f"{name + ':':<16}{value}\n" for name, value in rows]))
    return 0


def version_facts() -> dict[str, Any]:
    """Return the version document: podman's names, Python's version in the place of Go's."""
    platform = from_machine(os.uname().machine)
    return {
        "APIVersion": __version__,
        "Version": __version__,
        "PythonVersion": sys.version.split()[0],
        "GitCommit": "",
        "BuiltTime": "",
        "Built": 0,
        "OsArch": f"linux/{platform.architecture}",
        "Os": "linux",
    }
