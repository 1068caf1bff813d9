"""`rootless diff`: what a container or an image changed.

Source: podman-diff(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="diff",
    summary="Inspect changes to the object's file systems",
    usage="{CONTAINER|IMAGE} [{CONTAINER|IMAGE}]",
    description=(
        "Displays changes on a container's or image's file system: A for what was added, C for what changed, D for "
        "what was deleted. It is compared with the layer below, or with the second argument."
    ),
    flags=(
        ("format", "", "string", "", "", "Change the output format (json)", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("diff imageID", "diff ctrID", "diff --format json redis:alpine"),
)
KINDS = {"--container": "container", "--image": "image"}


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the changes."""
    kind = KINDS.get(argv[0], "") if argv else ""
    parsed, options = parse(COMMAND, argv[1:] if kind else argv, options)
    latest = parsed.flag("latest")
    if not parsed.args and not latest:
        raise UsageError('"rootless diff" requires a name, id, or the "--latest" flag')
    if len(parsed.args) > (0 if latest else 2):
        raise UsageError(f"accepts between 1 and 2 arg(s), received {len(parsed.args)}")
    format = parsed.text("format")
    if format not in ("", "json"):
        raise UsageError("only supported value for '--format' is 'json'")
    from rootless.engine import changes
    from rootless.engine.containers import settle
    from rootless.errors import NotFound
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode
    from rootless.store import containers

    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    entered = settle(roots, os.environ)
    names = list(parsed.args)
    if latest:
        every = containers.list_containers(roots)
        if not every:
            raise NotFound("container", "--latest")
        names = [every[-1].id]
    found = [changes.find(roots, name, kind) for name in names]
    if not entered:
        # Files of a container may be closed to all but the root of our user namespace.
        enter(roots.run, parse_mode(""), os.environ)
    lines = changes.changes(found[0], found[1] if len(found) > 1 else None)
    if not format:
        sys.stdout.write("".join([f"{mark} {path}\n" for mark, path in lines]))
        return 0
    from rootless.cli import output

    marks = (("changed", changes.CHANGED), ("added", changes.ADDED), ("deleted", changes.DELETED))
    document = {name: [path for mark, path in lines if mark == wanted] for name, wanted in marks}
    sys.stdout.write(output.to_json({name: paths for name, paths in document.items() if paths}, indent=5) + "\n")
    return 0
