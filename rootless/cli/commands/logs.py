"""`rootless logs`: show what containers have written.

Source: podman-logs(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import logs as engine
from rootless.errors import UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="logs",
    summary="Fetch the logs of one or more containers",
    usage="CONTAINER [CONTAINER...]",
    description=(
        "Shows what one or more containers have written: what went to their stdout on stdout, what went to their "
        "stderr on stderr."
    ),
    flags=(
        ("color", "", "bool", "", "", "Output the containers with different colors in the log", ""),
        ("follow", "f", "bool", "", "", "Follow log output until the container ends", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("names", "n", "bool", "", "", "Output the container name in the log, where there are several", ""),
        ("since", "", "string", "", "", "Show logs since TIMESTAMP", ""),
        ("tail", "", "int", "", "-1", "Output this number of lines at the end of the logs", ""),
        ("timestamps", "t", "bool", "", "", "Output the timestamps in the log", ""),
        ("until", "", "string", "", "", "Show logs until TIMESTAMP", ""),
    ),
    examples=(
        "logs ctrID", "logs --names ctrID1 ctrID2", "logs --tail 2 mywebserver", "logs --follow=true --since 10m ctrID",
        "logs mywebserver mydbserver",
    ),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the logs. Blocks: with --follow, until the containers end"""
    parsed, options = parse(COMMAND, argv, options)
    names = list(parsed.args)
    if names and parsed.flag("latest"):
        raise UsageError("--latest and containers cannot be used together")
    if not names and not parsed.flag("latest"):
        raise UsageError("specify at least one container name or ID to log")
    tail = parsed.number("tail")
    wanted = engine.Wanted(
        since_ns=_moment(parsed, "since"),
        until_ns=_moment(parsed, "until"),
        tail=-1 if tail is None else tail,
        follow=parsed.flag("follow"),
    )
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    if not names:
        names = [engine.latest(roots)]
    sources = engine.open_sources(roots, names, wanted)
    style = engine.Style(
        timestamps=parsed.flag("timestamps"),
        names=parsed.flag("names"),
        color=parsed.flag("color"),
        multi=len(sources) > 1,
    )
    sys.stdout.flush()
    try:
        engine.show(sources, wanted, engine.Printer(style, _write))
    finally:
        for source in sources:
            source.close()
    return 0


def _moment(parsed: Parsed, name: str) -> int:
    text = parsed.text(name)
    if not text:
        return 0
    import time

    from rootless.engine.moments import parse_moment

    try:
        return parse_moment(text, time.time_ns(), since=name == "since")
    except UsageError as error:
        raise UsageError(f'parsing --{name} "{text}": {error.message}') from None


def _write(stream: int, data: bytes) -> None:
    """Write all of *data* to our stdout or stderr, byte for byte."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream, view) :]
        except BlockingIOError:
            _wait_for(stream)


def _wait_for(stream: int) -> None:
    """Wait until a descriptor takes data that somebody else has made non-blocking."""
    import select

    waiter = select.poll()
    waiter.register(stream, select.POLLOUT)
    waiter.poll()
