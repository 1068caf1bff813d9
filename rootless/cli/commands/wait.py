"""`rootless wait`: block until containers are in a state, print how they ended.

Source: podman-wait(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import RootlessError, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

STATES = {"configured": "created", "created": "initialized", "running": "running", "stopped": "stopped",
          "paused": "paused", "exited": "exited", "stopping": "stopping", "initialized": "initialized"}  # fmt: skip
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}

COMMAND = Command(
    name="wait",
    summary="Block on one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Block until one or more containers stop and then print their exit codes.",
    flags=(
        ("condition", "", "strings", "", "", "Condition to wait on", ""),
        ("interval", "i", "string", "", '"250ms"', "Time Interval to wait before polling for completion", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
    ),
    examples=("wait --interval 5s ctrID", "wait ctrID1 ctrID2"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Wait for what is named, one after the other; print an exit code for each."""
    from rootless.cli.main import report

    parsed, options = parse(COMMAND, argv, options)
    conditions = []
    for word in parsed.many("condition") or ("stopped",):
        if word not in STATES:
            raise UsageError(f"unknown container state: {word}: invalid argument")
        conditions.append(STATES[word])
    interval = _seconds(parsed.text("interval") or "250ms")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    if not parsed.args and not parsed.flag("latest"):
        raise UsageError("you must provide at least one container name or id")
    names = [life.latest(roots).id] if parsed.flag("latest") else list(parsed.args)
    for name in names:
        try:
            code = life.waited(roots, name, conditions, interval)
            sys.stdout.write(f"{code}\n")
            sys.stdout.flush()
        except RootlessError as error:
            failed = report(error)
    return failed


def _seconds(text: str) -> float:
    """Return a duration; a bare number is milliseconds. Raises: UsageError"""
    number = text.rstrip("mhs")
    unit = text[len(number) :] or "ms"
    try:
        return float(number) * UNITS[unit]
    except (ValueError, KeyError):
        raise UsageError(f'time: invalid duration "{text}"') from None
