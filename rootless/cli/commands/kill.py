"""`rootless kill`: send a signal to containers.

Source: podman-kill(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.stop import names_of
from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import RootlessError, UsageError
from rootless.spec import signals
from rootless.store import containers
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="kill",
    summary="Kill one or more running containers with a specific signal",
    usage="[options] CONTAINER [CONTAINER...]",
    description="The main process inside each container specified will be sent SIGKILL, or any signal specified with "
    "option --signal.",
    flags=(
        ("all", "a", "bool", "", "", "Signal all running containers", ""),
        ("cidfile", "", "array", "", "", "Read the container ID from the file", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("signal", "s", "string", "", '"KILL"', "Signal to send to the container", ""),
    ),
    examples=("kill mywebserver", "kill 860a4b23", "kill --signal TERM ctrID"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Signal what is named; print a name for each."""
    from rootless.cli.main import report

    parsed, options = parse(COMMAND, argv, options)
    text = parsed.text("signal") or "KILL"
    number = signals.number(text)
    if number is None:
        beyond = text.isdigit() and int(text) > 0
        raise UsageError("valid signals are 1 through 64" if beyond else f"invalid signal: {text}")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    life.check_choice(parsed.args, latest_one=parsed.flag("latest"), every=parsed.flag("all"),
                      by_file=parsed.given("cidfile"))  # fmt: skip
    for word, container in life.chosen(
        roots, names_of(parsed), latest_one=parsed.flag("latest"), every=parsed.flag("all"),
        only=lambda one: containers.status(roots, one) in life.ALIVE,
    ):  # fmt: skip
        try:
            life.kill(roots, container, number)
            sys.stdout.write(word + "\n")
        except RootlessError as error:
            failed = report(error)
    return failed
