"""`rootless init`: make containers ready to the last step before their program runs.

Source: podman-init(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.cli.commands.start import start_all
from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="init",
    summary="Initialize one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description=(
        "Initialize one or more containers, creating the OCI spec and mounts for inspection. Container names or IDs "
        "can be used."
    ),
    flags=(
        ("all", "a", "bool", "", "", "Initialize all containers", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("init --latest", "init 3c45ef19d893", "init test1"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Initialize what is named; print a name for each."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    named = life.chosen(roots, list(parsed.args), latest_one=parsed.flag("latest"), every=parsed.flag("all"))
    return start_all(roots, named, options, hold=True, lenient=parsed.flag("all"))
