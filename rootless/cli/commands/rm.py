"""`rootless rm`: remove containers.

Source: podman-rm(1) of podman 4.3: exit 1 when a container is not known, 2 when one runs, 125 otherwise
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.stop import names_of
from rootless.cli.parser import Command, Parsed, parse
from rootless.engine import containers as engine
from rootless.engine import life
from rootless.errors import NotFound, RootlessError, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

EXIT_NOT_KNOWN = 1

COMMAND = Command(
    name="rm",
    summary="Remove one or more containers",
    usage="CONTAINER [CONTAINER...]",
    description=(
        "Removes one or more containers from the host. The container name or ID can be used.\n\n"
        "Command does not remove images. Running containers will not be removed without the -f option."
    ),
    flags=(
        ("all", "a", "bool", "", "", "Remove all containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("depend", "", "bool", "", "", "Remove container and all containers that depend on the selected container",
         ""),
        ("filter", "", "strings", "", "", "Filter output based on conditions given", ""),
        ("force", "f", "bool", "", "", "Force removal of a running or unusable container", ""),
        ("ignore", "i", "bool", "", "", "Ignore errors when a specified container is missing", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("time", "t", "uint", "", "10", "Seconds to wait for stop before killing the container", ""),
        ("volumes", "v", "bool", "", "", "Remove anonymous volumes associated with the container", ""),
    ),
    examples=("rm imageID", "rm mywebserver myflaskserver 860a4b23", "rm --force --all", "rm -f c684f0d469f2"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Remove what is named; print a line for each. Nothing is removed when one of the names is not known."""
    parsed, options = parse(COMMAND, argv, options)
    life.check_choice(parsed.args, latest_one=parsed.flag("latest"), every=parsed.flag("all"),
                      filtered=parsed.given("filter"), by_file=parsed.given("cidfile"))  # fmt: skip
    names = names_of(parsed)
    if parsed.given("time") and not parsed.flag("force"):
        raise UsageError("--force option must be specified to use the --time option")
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    entered = engine.settle(roots, os.environ)
    try:
        found = _named(roots, names, parsed) if names else _chosen(roots, parsed)
    except NotFound as error:
        error.code = EXIT_NOT_KNOWN
        raise
    return _remove(roots, found, parsed, entered)


def _named(roots: Roots, names: list[str], parsed: Parsed) -> list[tuple[str, Container]]:
    found: dict[str, tuple[str, Container]] = {}
    for name in names:
        try:
            container = engine.find(roots, name)
        except NotFound:
            if parsed.flag("ignore") or parsed.flag("force"):
                continue
            raise
        found.setdefault(container.id, (name, container))
    return list(found.values())


def _chosen(roots: Roots, parsed: Parsed) -> list[tuple[str, Container]]:
    wanted = engine.filter_of(parsed.many("filter"), listed := engine.list_all(roots))
    every = [one.container for one in listed if wanted(one)]
    if parsed.flag("latest"):
        every = every[-1:]
        if not every:
            error = NotFound("container", "")
            error.message = "no such container"
            raise error
    return [(container.id, container) for container in every]


def _remove(roots: Roots, found: list[tuple[str, Container]], parsed: Parsed, entered: bool) -> int:
    from rootless.cli.main import report, warn

    found, failed = engine.in_order(roots, found, depend=parsed.flag("depend"))
    ended: list[tuple[str, Container]] = []
    for name, container in found:
        try:
            if parsed.flag("force") or engine.state_of(roots, container) == "initialized":
                warning = engine.stop(roots, container, parsed.number("time"))
                if warning:
                    warn(warning)
            else:
                engine.check_removable(roots, container)
            ended.append((name, container))
        except RootlessError as error:
            failed.append(error)
    for name, container in ended:  # signals were sent from outside our user namespace
        try:
            outside = None if entered else os.environ
            entered = engine.remove(roots, container, volumes=parsed.flag("volumes"), environ=outside)
            sys.stdout.write(name + "\n")
            sys.stdout.flush()
        except RootlessError as error:
            failed.append(error)
    return [report(error) for error in failed][-1] if failed else 0
