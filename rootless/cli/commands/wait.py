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

STATES = {"created": "created", "running": "running", "stopped": "stopped",
          "paused": "paused", "exited": "exited", "stopping": "stopping", "initialized": "initialized"}  # fmt: skip

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
    interval = _seconds(parsed.text("interval", "250ms"))
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    failed = 0
    if not parsed.args and not parsed.flag("latest"):
        raise UsageError('"rootless wait" requires a name, id, or the "--latest" flag')
    if parsed.args and parsed.flag("latest"):
        raise UsageError("--latest and containers cannot be used together")
    found = [life.latest(roots)] if parsed.flag("latest") else [life.known(roots, name) for name in parsed.args]
    for one in found:
        try:
            code = one if isinstance(one, int) else life.wait(roots, one, conditions, interval)
            sys.stdout.write(f"{code}\n")
            sys.stdout.flush()
        except RootlessError as error:
            failed = report(error)
    return failed


def _seconds(text: str) -> float:
    """Return a duration; a bare number is milliseconds. Raises: UsageError"""
    if text == "250ms":
        return 0.25
    from rootless.cli.flags_life import duration_ns

    return max(duration_ns(f"{text}ms" if text.isdigit() else text), 0) / 1e9
