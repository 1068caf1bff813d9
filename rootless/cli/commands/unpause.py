"""`rootless unpause`: let the processes of paused containers go on.

Source: podman-unpause(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.pause import chosen
from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="unpause",
    summary="Unpause the processes in one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Unpauses one or more previously paused containers.  The container name or ID can be used.",
    flags=(
        ("all", "a", "bool", "", "", "Unpause all paused containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("unpause ctrID", "unpause --all"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Unpause what is named; print a name for each."""
    from rootless.cli.main import report
    from rootless.engine.pausing import unpause

    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    for word, container in chosen(roots, parsed, "paused"):
        try:
            unpause(roots, container)
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            failed = report(error)
    return failed
