"""`rootless pause`: stop all processes of containers where they stand.

Source: podman-pause(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.stop import names_of
from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import RootlessError, UsageError
from rootless.store import containers
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

COMMAND = Command(
    name="pause",
    summary="Pause all the processes in one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Pauses one or more running containers.  The container name or ID can be used.",
    flags=(
        ("all", "a", "bool", "", "", "Pause all running containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("pause mywebserver", "pause 860a4b23", "pause --all"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Pause what is named; print a name for each."""
    from rootless.cli.main import report, warn
    from rootless.engine.pausing import pause

    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    for word, container in chosen(roots, parsed, "running"):
        try:
            warning = pause(roots, container)
            if warning:
                warn(warning)
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            failed = report(error)
    return failed


def chosen(roots: Roots, parsed: Parsed, status: str) -> list[tuple[str, Container]]:
    """Return the containers that names, --cidfile, --all (those with *status*), --latest or --filter choose."""
    names = names_of(parsed)
    if names and parsed.flag("all"):
        raise UsageError("no arguments are needed with --all")
    if names and parsed.flag("latest"):
        raise UsageError("--latest and containers cannot be used together")
    if parsed.given("filter"):
        from rootless.engine.filters import filter_of
        from rootless.engine.listing import list_all

        if names or parsed.flag("all") or parsed.flag("latest"):
            raise UsageError("--filter takes no arguments, and neither --all nor --latest")
        every = list_all(roots)
        wanted = filter_of(parsed.many("filter"), every)
        return [(one.id, one.container) for one in every if one.status == status and wanted(one)]
    return life.chosen(
        roots, names, latest_one=parsed.flag("latest"), every=parsed.flag("all"),
        only=lambda one: containers.status(roots, one) == status,
    )  # fmt: skip
