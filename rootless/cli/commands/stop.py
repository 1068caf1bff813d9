"""`rootless stop`: end containers by their stop signal, then by SIGKILL.

Source: podman-stop(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import RootlessError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

COMMAND = Command(
    name="stop",
    summary="Stop one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Stops one or more running containers.  The container name or ID can be used.",
    flags=(
        ("all", "a", "bool", "", "", "Stop all running containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("ignore", "i", "bool", "", "", "Ignore errors when a specified container is missing", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("time", "t", "uint", "", "10", "Seconds to wait for stop before killing the container", ""),
    ),
    examples=("stop ctrID", "stop --latest", "stop --time 2 mywebserver 6e534f14da9d"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Stop what is named; print a name for each."""
    from rootless.cli.main import report, warn

    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    for word, container in chosen(roots, parsed):
        try:
            warning = life.stop(roots, container, parsed.number("time") if parsed.given("time") else None)
            if warning:
                warn(warning)
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            failed = report(error)
    return failed


def names_of(parsed: Parsed) -> list[str]:
    """Return the containers that the arguments and --cidfile name. Raises: RootlessError"""
    return [*parsed.args, *[id_in(path) for path in parsed.many("cidfile")]]


def id_in(path: str) -> str:
    """Return what a --cidfile holds. Raises: RootlessError"""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read().split("\n")[0]
    except OSError as error:
        reason = (error.strerror or "").lower()
        raise RootlessError(f"reading CIDFile: open {path}: {reason}") from error


def chosen(roots: Roots, parsed: Parsed) -> list[tuple[str, Container]]:
    """Return the containers that names, --cidfile, --all, --latest or --filter choose. Raises: UsageError, NotFound"""
    life.check_choice(parsed.args, latest_one=parsed.flag("latest"), every=parsed.flag("all"),
                      filtered=parsed.given("filter"), by_file=parsed.given("cidfile"))  # fmt: skip
    names = names_of(parsed)
    if parsed.given("filter"):
        from rootless.engine import containers as engine

        every = engine.list_all(roots)
        wanted = engine.filter_of(parsed.many("filter"), every)
        return [(one.id, one.container) for one in every if wanted(one)]
    return life.chosen(roots, names, latest_one=parsed.flag("latest"), every=parsed.flag("all"),
                       ignore=parsed.flag("ignore"))  # fmt: skip
