"""`rootless container exists`: say by the exit status whether a container is there.

Source: podman-container-exists(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.cli.parser import Command, parse
from rootless.store import overview
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="container exists",
    summary="Check if a container exists in local storage",
    usage="CONTAINER",
    description=(
        "If the named container exists in local storage, rootless container exists exits with 0, otherwise the exit "
        "code will be 1."
    ),
    flags=(("external", "", "bool", "", "", "Check external storage containers too (there are none)", ""),),
    examples=("container exists myctr || rootless run --name myctr [etc...]",),
    min_args=1,
    max_args=1,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Return 0 when the container is there, else 1."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    return 0 if overview.find(roots, parsed.args[0]) is not None else 1
