"""`rootless events`: show what happened to containers, images and volumes, and what happens.

Source: podman-events(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli.parser import Command, parse
from rootless.engine import events as engine
from rootless.engine.moments import parse_moment
from rootless.errors import UsageError
from rootless.spec import jsontext
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="events",
    summary="Show events of containers, images and volumes",
    usage="",
    description=(
        "Monitors events.\n\n"
        "By default new events are shown as they occur; with --since and --until also, or only, those of the past."
    ),
    flags=(
        ("filter", "f", "array", "", "", "Filter output", ""),
        ("format", "", "string", "", "", "Format the output using a Go template", ""),
        ("no-trunc", "", "bool", "", "true", "Do not truncate the output", ""),
        ("since", "", "string", "", "", "Show all events created since timestamp", ""),
        ("stream", "", "bool", "", "true", "Stream new events; for testing only", ""),
        ("until", "", "string", "", "", "Show all events until timestamp", ""),
    ),
    examples=("events", "events --filter event=create", "events --format {{.Image}}", "events --since 1h30s"),
    max_args=0,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a line for each event. Blocks: until --until, or until it is interrupted"""
    parsed, options = parse(COMMAND, argv, options)
    stream = parsed.flag("stream", True)
    span = engine.Span(
        since_ns=_moment(parsed, "since"),
        until_ns=_moment(parsed, "until"),
        from_start=parsed.given("since") or parsed.given("until") or not stream,
        stream=stream,
    )
    keeps = engine.filter_of([text for text in parsed.many("filter") if text])
    line_of = _line_of(parsed.text("format"), trunc=not parsed.flag("no-trunc", True))
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    for event in engine.read(roots, span, keeps):
        sys.stdout.write(line_of(event))
        # Each is shown at once: programs wait for them.
        sys.stdout.flush()
    return 0


def _line_of(format: str, *, trunc: bool) -> Callable[[dict[str, Any]], str]:
    from rootless.cli.output import is_json

    if not format:
        return lambda event: engine.text_of(event, trunc=trunc) + "\n"
    if is_json(format):
        return lambda event: jsontext.dumps(engine.document_of(event)) + "\n"
    from rootless.cli.gotemplate import Template, struct
    from rootless.cli.govalues import Time

    template = Template(format.replace("\\t", "\t").replace("\\n", "\n"), "events")

    def filled(event: dict[str, Any]) -> str:
        value = {
            "ContainerExitCode": event.get("exit_code") or 0, "ID": event.get("id", ""),
            "Image": event.get("image", ""), "Name": event.get("name", ""), "Network": "",
            "Status": event.get("status", ""), "Time": Time(engine.json_time(int(event.get("time") or 0))),
            "Type": event.get("type", ""), "HealthStatus": event.get("health", ""),
            "Attributes": event.get("attributes") or {},
        }  # fmt: skip
        return template.render(struct(value, "*events.Event")) + "\n"

    return filled


def _moment(parsed: Parsed, name: str) -> int:
    text = parsed.text(name)
    if not text:
        return 0
    try:
        return parse_moment(text, time.time_ns(), since=name == "since")
    except UsageError as error:
        raise UsageError(f'parsing --{name} "{text}": {error.message}') from None
