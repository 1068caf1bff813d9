"""`rootless rename`: give a container another name.

Source: podman-rename(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.cli.parser import Command, parse
from rootless.engine import listing
from rootless.engine.rename import check_name, rename
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="rename",
    summary="Rename an existing container",
    usage="CONTAINER NAME",
    description="The rootless rename command allows you to rename an existing container",
    examples=("rename containerA newName",),
    min_args=2,
    max_args=2,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Rename; nothing is printed."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    old, new = parsed.args
    one = listing.find(roots, old)
    check_name(new)
    rename(roots, one, new)
    return 0
