"""`rootless container unit`: print a systemd user unit for a container.

Source: podman-generate-systemd(1) of podman 4.3, whose flags it has
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import listing
from rootless.engine.unit import UnitRequest, unit
from rootless.errors import RootlessError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="container unit",
    summary="Print a systemd unit for a container",
    usage="CONTAINER",
    description=(
        "Prints a unit for the user's systemd that starts and stops CONTAINER, or with --new makes it at each start\n"
        "and removes it at each stop. Put it in ~/.config/systemd/user and enable it:\n\n"
        "  rootless container unit web > ~/.config/systemd/user/web.service\n"
        "  systemctl --user daemon-reload\n"
        "  systemctl --user enable --now web.service\n"
        "  loginctl enable-linger                       (else it ends with the last login session)"
    ),
    flags=(
        ("after", "", "array", "", "", "Add dependencies order to the unit", ""),
        ("env", "e", "array", "", "", "Set environment variables of the unit", ""),
        ("files", "f", "bool", "", "", "Write NAME.service to the current directory instead of printing it", ""),
        ("new", "", "bool", "", "", "Make the container anew instead of starting it", ""),
        ("no-header", "", "bool", "", "", "Leave out the comment at the top", ""),
        ("requires", "", "array", "", "", "Similar to wants, but declares stronger requirement dependencies", ""),
        ("restart-policy", "", "string", "", '"on-failure"', "Systemd restart-policy", ""),
        ("restart-sec", "", "uint", "", "", "Systemd restart-sec", ""),
        ("start-timeout", "", "uint", "", "", "Start timeout override", ""),
        ("stop-timeout", "t", "uint", "", "", "Stop timeout override (default: the container's)", ""),
        ("wants", "", "array", "", "", "Add (weak) requirement dependencies to the unit", ""),
    ),
    examples=("container unit web", "container unit --new --files web"),
    min_args=1,
    max_args=1,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the unit, or write it to a file and print its path."""
    parsed, options = parse(COMMAND, argv, options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    one = listing.find(roots, parsed.args[0])
    request = UnitRequest(
        program=_program(options),
        restart=parsed.text("restart-policy", "on-failure"),
        restart_seconds=parsed.number("restart-sec"),
        start_seconds=parsed.number("start-timeout"),
        stop_seconds=parsed.number("stop-timeout"),
        new=parsed.flag("new"),
        environment=parsed.many("env"),
        wants=parsed.many("wants"),
        after=parsed.many("after"),
        requires=parsed.many("requires"),
        header="" if parsed.flag("no-header") else f"# {one.name}.service\n# printed by rootless container unit\n",
    )
    text = unit(one.name, one.data, (roots.data,), request)
    if not parsed.flag("files"):
        sys.stdout.write(text)
        return 0
    path = os.path.join(os.getcwd(), f"{one.name}.service")
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise RootlessError(f"writing {path}: {(error.strerror or '').lower()}") from error
    sys.stdout.write(path + "\n")
    return 0


def _program(options: GlobalOptions) -> tuple[str, ...]:
    """Return the launcher beside the interpreter, or the one on PATH, and the global flags that were given."""
    places = [os.path.dirname(sys.executable), *os.environ.get("PATH", "").split(":")]
    found = [f"{place}/rootless" for place in places if place and os.access(f"{place}/rootless", os.X_OK)]
    if not found:
        raise RootlessError("the program rootless is neither beside the interpreter nor on PATH")
    flags = (("root", options.root), ("runroot", options.runroot), ("tmpdir", options.tmpdir),
             ("storage-driver", options.storage_driver))  # fmt: skip
    return (found[0], *[f"--{name}={value}" for name, value in flags if value])
