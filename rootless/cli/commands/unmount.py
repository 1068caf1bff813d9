"""`rootless unmount`: take away what `rootless mount` mounted.

Source: podman-unmount(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.mount import reported, select
from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="unmount",
    summary="Unmounts working container's root file system",
    usage="CONTAINER [CONTAINER...]",
    description="Takes away the mounts that `rootless mount` made in this shell of `rootless unshare`.",
    flags=(
        ("all", "a", "bool", "", "", "Unmount all of the currently mounted containers", ""),
        ("force", "f", "bool", "", "", "Unmount although somebody works in it", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("unmount ctrID", "unmount ctrID1 ctrID2 ctrID3", "unmount --all"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Unmount; print the name of each."""
    parsed, options = parse(COMMAND, argv, options)
    every, latest = parsed.flag("all"), parsed.flag("latest")
    if not (parsed.args or every or latest):
        raise UsageError("you must provide at least one name or id")
    from rootless.engine import mounting

    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    chosen = select(roots, parsed.args, every=every, latest=latest)
    names = list(parsed.args) or [container.id for container in chosen]
    found = mounting.mounted(roots)
    failed: list[RootlessError] = []
    for name, container in zip(names, chosen):
        if every and container.id not in found:
            continue
        try:
            mounting.unmount(roots, container, force=parsed.flag("force"))
            sys.stdout.write(name + "\n")
        except RootlessError as error:
            failed.append(error)
    return reported(failed)
