"""`rootless mount`: mount the root of containers, inside `rootless unshare`.

Source: podman-mount(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

COMMAND = Command(
    name="mount",
    summary="Mount a container's root file system",
    usage="[CONTAINER...]",
    description=(
        "Mounts the root file systems of containers and prints where, or lists what is mounted. The mounts exist in "
        "the shell of `rootless unshare`, in which alone it works."
    ),
    flags=(
        ("all", "a", "bool", "", "", "Mount all containers", ""),
        ("format", "", "string", "", "", "Print the mounted containers in specified format (json)", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("no-trunc", "", "bool", "", "", "Do not truncate output", ""),
    ),
    examples=("unshare", "mount mycontainer"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Mount what is named and print the places, or list what is mounted."""
    parsed, options = parse(COMMAND, argv, options)
    from rootless.engine import mounting

    mounting.check_unshared("mount", os.environ)
    format = parsed.text("format")
    if format not in ("", "json"):
        raise UsageError(f'unknown --format argument: "{format}"')
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    chosen = select(roots, parsed.args, every=parsed.flag("all"), latest=parsed.flag("latest"))
    if not (parsed.args or parsed.flag("all") or parsed.flag("latest")):
        _list(roots, format, trunc=not parsed.flag("no-trunc"))
        return 0
    failed: list[RootlessError] = []
    for container in chosen:
        try:
            sys.stdout.write(mounting.mount(roots, container, os.environ, options.storage_driver) + "\n")
        except RootlessError as error:
            failed.append(error)
    return reported(failed)


def select(roots: Roots, names: tuple[str, ...], *, every: bool, latest: bool) -> list[Container]:
    """Return the containers that the arguments mean. Raises: UsageError, NotFound"""
    from rootless.engine.containers import find
    from rootless.store import containers

    if names and (every or latest):
        raise UsageError(f"no arguments are needed with --{'all' if every else 'latest'}")
    if every:
        return containers.list_containers(roots)
    if latest:
        return containers.list_containers(roots)[-1:]
    return [find(roots, name) for name in names]


def reported(failed: list[RootlessError]) -> int:
    """Print what failed; return the exit status."""
    from rootless.cli.main import report

    return [report(error) for error in failed][-1] if failed else 0


def _list(roots: Roots, format: str, *, trunc: bool) -> None:
    from rootless.engine import mounting
    from rootless.store import containers

    found = mounting.mounted(roots)
    rows = [(c, found[c.id]) for c in containers.list_containers(roots) if c.id in found]
    if format:
        from rootless.cli import output

        documents = [{"id": c.id, "Names": [c.name], "mountpoint": point} for c, point in rows]
        sys.stdout.write(output.to_json(documents, indent=1) + "\n")
        return
    sys.stdout.write("".join([f"{c.id[:12] if trunc else c.id}  {point}\n" for c, point in rows]))
