"""`rootless container prune`: remove all containers that do not run.

Source: podman-container-prune(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine.filters import prune_filter
from rootless.errors import RootlessError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="container prune",
    summary="Remove all non running containers",
    usage="",
    description="rootless container prune\n\nRemoves all non running containers",
    flags=(
        ("filter", "", "array", "", "", "Provide filter values (e.g. 'label=<key>=<value>')", ""),
        ("force", "f", "bool", "", "", "Do not prompt for confirmation.  The default is false", ""),
    ),
    examples=("container prune",),
    max_args=0,
)
WARNING = "WARNING! This will remove all non running containers.\n"
DEAD = ("created", "exited")


def main(argv: list[str], options: GlobalOptions) -> int:
    """Ask, remove, print the id of each."""
    parsed, options = parse(COMMAND, argv, options)
    wanted = prune_filter(parsed.many("filter"))
    if not parsed.flag("force"):
        from rootless.cli.asking import confirmed

        if not confirmed(WARNING):
            return 0
    from rootless.cli.main import report
    from rootless.engine import containers as engine

    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    entered = engine.settle(roots, os.environ)
    chosen = [one for one in engine.list_all(roots) if one.status in DEAD and wanted(one)]
    found, failed = engine.in_order(roots, [(one.id, one.container) for one in chosen])
    status = [report(error) for error in failed][-1] if failed else 0
    for word, container in found:
        try:
            engine.check_removable(roots, container)
            entered = engine.remove(roots, container, volumes=False, environ=None if entered else os.environ)
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            status = report(error)
    return status
