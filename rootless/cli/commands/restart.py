"""`rootless restart`: stop containers and start them again.

Source: podman-restart(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.start import start_one
from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import ContainerStateError, RootlessError, UsageError
from rootless.store import containers, events
from rootless.store.layout import Roots, find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container

COMMAND = Command(
    name="restart",
    summary="Restart one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Restarts one or more running containers. The container ID or name can be used.\n\n"
    "A timeout before forcibly stopping can be set, but defaults to 10 seconds.",
    flags=(
        ("all", "a", "bool", "", "", "Restart all non-running containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("running", "", "bool", "", "", "Restart only running containers", ""),
        ("time", "t", "uint", "", "10", "Seconds to wait for stop before killing the container", ""),
    ),
    examples=("restart ctrID", "restart --latest", "restart ctrID1 ctrID2"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Restart what is named; print a name for each."""
    from rootless.cli.commands.stop import chosen
    from rootless.cli.main import report, warn

    parsed, options = parse(COMMAND, argv, options)
    if parsed.flag("running") and parsed.args:
        raise UsageError("--running and containers cannot be used together")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    if parsed.flag("running") or parsed.flag("all"):
        life.check_choice(parsed.args, latest_one=parsed.flag("latest"), every=True, by_file=parsed.given("cidfile"))
        only_running = parsed.flag("running")
        named = [(c.id, c) for c in containers.list_containers(roots)
                 if not only_running or containers.status(roots, c) == "running"]  # fmt: skip
    else:
        named = chosen(roots, parsed)
    failed = 0
    for word, container in named:
        try:
            warning = life.stop(roots, container, parsed.number("time") if parsed.given("time") else None)
            if warning:
                warn(warning)
            status = start_one(_again(roots, container), roots, options)
            if status:
                failed = status
                continue
            image = str(container.data.get("image") or "")
            events.emit(roots, "container", "restart", id=container.id, name=container.name, image=image,
                        attributes=container.data.get("labels"))  # fmt: skip
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            failed = report(error)
    return failed


def _again(roots: Roots, container: Container) -> Container:
    found = containers.read(roots, container.id)
    if found is None:
        raise ContainerStateError(f"container {container.name} was removed when it stopped: it had --rm")
    return found
