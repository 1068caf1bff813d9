"""`rootless cp`: copy files between a container and the host.

Source: podman-cp(1) of podman 4.3
"""

from __future__ import annotations

import os

from rootless.cli.parser import Command, parse
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="cp",
    summary="Copy files/folders between a container and the local filesystem",
    usage="[CONTAINER:]SRC_PATH [CONTAINER:]DEST_PATH",
    description=(
        'Copies the contents of SRC_PATH to the DEST_PATH. If "-" is specified for either, a tar archive is read from '
        "stdin or written to stdout. The container can run or not; both paths can be of containers."
    ),
    flags=(
        ("archive", "a", "bool", "", "true", "Chown copied files to the primary user of the destination container", ""),
        ("overwrite", "", "bool", "", "", "Allow to overwrite directories with non-directories and vice versa", ""),
    ),
    examples=("cp mycontainer:/etc/os-release .", "cp ./src/. mycontainer:/src", "cp mycontainer:/data - | tar tv"),
    min_args=2,
    max_args=2,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Copy; print nothing."""
    parsed, options = parse(COMMAND, argv, options)
    from rootless.engine import copying

    source, destination = copying.parse(*parsed.args)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    copying.copy(
        roots, source, destination, os.environ, driver=options.storage_driver,
        archive=parsed.flag("archive", True), overwrite=parsed.flag("overwrite"),
    )  # fmt: skip
    return 0
