"""`rootless ps`: list containers.

Source: podman-ps(1) of podman 4.3; its table, field names and words
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.engine import containers as engine
from rootless.engine.inspect import tree_size
from rootless.errors import UsageError
from rootless.store import containers, images
from rootless.store.layout import find_roots

if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.engine.containers import Listed
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

COMMAND_WIDTH = 17
SORTS = ("command", "created", "id", "image", "names", "runningfor", "size", "status")
COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "CreatedHuman"),
    ("STATUS", "Status"), ("PORTS", "Ports"), ("NAMES", "Names"),
)  # fmt: skip
SIZE = ("SIZE", "Size")
HEADINGS = {"RunningFor": "CREATED", "CreatedAt": "CREATED AT", "ImageID": "IMAGE ID"}

COMMAND = Command(
    name="ps",
    summary="List containers",
    usage="",
    description="Prints out information about the containers",
    flags=(
        ("all", "a", "bool", "", "", "Show all the containers, default is only running containers", ""),
        ("external", "", "bool", "", "", "Show containers in storage not controlled by rootless",
         "there are no such containers"),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("format", "", "string", "", "", "Pretty-print containers to JSON or using a Go template", ""),
        ("last", "n", "int", "", "-1", "Print the n last created containers (all states)", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("no-trunc", "", "bool", "", "", "Display the extended information", ""),
        ("noheading", "", "bool", "", "", "Do not print headers", ""),
        ("ns", "", "bool", "", "", "Display namespace information", "the plain table is what there is"),
        ("pod", "p", "bool", "", "", "Print the ID and name of the pod the containers are associated with",
         "there are no pods"),
        ("quiet", "q", "bool", "", "", "Print the numeric IDs of the containers only", ""),
        ("size", "s", "bool", "", "", "Display the total file sizes", ""),
        ("sort", "", "string", "choice", "", "Sort output by: " + ", ".join(SORTS), ""),
        ("sync", "", "bool", "", "", "Sync container state with OCI runtime", "the state that is shown is always true"),
        ("watch", "w", "uint", "", "", "Watch the ps output on an interval in seconds", "use watch(1)"),
    ),
    examples=("ps -a", 'ps -a --format "{{.ID}}  {{.Image}}  {{.Labels}}  {{.Mounts}}"', "ps --size --sort names"),
    max_args=0,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the table, the ids, or what --format asks for."""
    parsed, options = parse(COMMAND, argv, options)
    key = parsed.text("sort", "created")
    if key not in SORTS:
        raise UsageError(
            f'invalid argument "{key}" for "--sort" flag: "{key}" is not a valid value.  '
            f"Choose from: \"{', '.join(SORTS)}\"\nSee 'rootless ps --help'"
        )
    if parsed.flag("quiet") and parsed.given("format"):
        raise UsageError("quiet and format cannot be used together")
    last = parsed.number("last")
    last = -1 if last is None else last
    if last >= 0 and parsed.flag("latest"):
        raise UsageError("last and latest are mutually exclusive")
    wanted = engine.filter_of(parsed.many("filter"))
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    engine.settle(roots, os.environ)
    every = [one for one in engine.list_all(roots) if wanted(one)]
    if parsed.flag("latest") or last >= 0:
        every = every[-(1 if parsed.flag("latest") else last) :] if last else []
    elif not parsed.flag("all") and not any(text.startswith("status=") for text in parsed.many("filter")):
        every = [one for one in every if one.status == "running"]
    trunc = not parsed.flag("no-trunc")
    if parsed.flag("quiet"):
        sys.stdout.write("".join([f"{one.container.id[:12] if trunc else one.container.id}\n" for one in every]))
        return 0
    sizes = {one.container.id: _sizes(roots, one) for one in every} if parsed.flag("size") or key == "size" else {}
    every.sort(key=_key(key, sizes))
    now = datetime.now(UTC)
    output.listing(
        [_fields(one, now, trunc, sizes.get(one.container.id)) for one in every],
        (*COLUMNS, SIZE) if parsed.flag("size") else COLUMNS,
        format=parsed.text("format"),
        name="ps",
        headings=HEADINGS,
        noheading=parsed.flag("noheading"),
        json_rows=[_document(one, now, sizes.get(one.container.id)) for one in every],
    )
    return 0


def _key(key: str, sizes: dict[str, tuple[int, int]]) -> Callable[[Listed], Any]:
    by: dict[str, Callable[[Listed], Any]] = {
        "command": lambda one: one.command,
        "created": lambda one: one.container.data.get("created"),
        "id": lambda one: one.container.id,
        "image": lambda one: one.container.data.get("image"),
        "names": lambda one: one.container.name,
        "runningfor": lambda one: one.container.data.get("created"),
        "size": lambda one: sizes[one.container.id],
        "status": lambda one: one.status,
    }
    return by[key]


def _sizes(roots: Roots, one: Listed) -> tuple[int, int]:
    """Return the bytes that the container wrote, and those with its image."""
    own = tree_size(f"{containers.data_dir(roots, one.container.id)}/diff")
    image_id = str(one.container.data.get("image_id") or "")
    image = images.get(roots, image_id) if image_id else None
    return own, own + (image.size_bytes if image else 0)


def _ago(now: datetime, then: datetime | None) -> str:
    return output.human_duration((now - then).total_seconds()) + " ago" if then else ""


def _status(one: Listed, now: datetime) -> str:
    state = one.container.data.get("state") or {}
    if one.status == "running":
        return f"Up {_ago(now, engine.moment(state.get('started')))}"
    if one.status == "exited":
        ended = _ago(now, engine.moment(state.get("finished")))
        return f"Exited ({engine.exit_code(one.container)}) {ended}".rstrip()
    return {"remote": "Up on another machine"}.get(one.status, "Created")


def _ports(one: Listed) -> str:
    found = one.container.data.get("ports") or ()
    return ", ".join(
        [f"{host_ip or '0.0.0.0'}:{host}->{inside}/{protocol}" for host_ip, host, inside, protocol in found]
    )


def _size(size_bytes: int) -> str:
    return output.human_size(size_bytes).replace(" ", "")


def _labels(labels: dict[str, str]) -> str:
    return ",".join([f"{key}={value}" for key, value in labels.items()])


def _fields(one: Listed, now: datetime, trunc: bool, sizes: tuple[int, int] | None) -> dict[str, Any]:
    """Return what a template may name."""
    data = one.container.data
    state = data.get("state") or {}
    command = " ".join(one.command)
    if trunc and len(command) > COMMAND_WIDTH:
        command = command[:COMMAND_WIDTH] + "..."
    created, started, finished = (
        engine.moment(data.get("created")), engine.moment(state.get("started")), engine.moment(state.get("finished"))
    )  # fmt: skip
    image_id = str(data.get("image_id") or "")
    return {
        "ID": one.container.id[:12] if trunc else one.container.id,
        "Image": str(data.get("image") or "") if image_id else "",
        "ImageID": image_id[:12] if trunc else image_id,
        "Command": command,
        "CreatedHuman": _ago(now, created),
        "RunningFor": _ago(now, created),
        "CreatedAt": created.strftime("%Y-%m-%d %H:%M:%S +0000 UTC") if created else "",
        "Created": int(created.timestamp()) if created else 0,
        "StartedAt": int(started.timestamp()) if started else 0,
        "ExitedAt": int(finished.timestamp()) if finished else 0,
        "Exited": one.status == "exited",
        "ExitCode": engine.exit_code(one.container),
        "State": one.status,
        "Status": _status(one, now),
        "Ports": _ports(one),
        "Names": one.container.name,
        "Labels": _labels(data.get("labels") or {}),
        "Mounts": ",".join([target for _, _, target in data.get("mounts") or ()]),
        "Networks": "",
        "Pod": "",
        "PodName": "",
        "Pid": int(state.get("pid") or 0) if one.status == "running" else 0,
        "AutoRemove": one.container.auto_remove,
        "Restarts": 0,
        "Size": f"{_size(sizes[0])} (virtual {_size(sizes[1])})" if sizes else "",
    }


def _document(one: Listed, now: datetime, sizes: tuple[int, int] | None) -> dict[str, Any]:
    """Return one element of --format json."""
    fields = _fields(one, now, False, sizes)
    data = one.container.data
    ports = [
        {"host_ip": "" if host_ip == "0.0.0.0" else host_ip, "container_port": inside, "host_port": host, "range": 1,
         "protocol": protocol}
        for host_ip, host, inside, protocol in data.get("ports") or ()
    ]  # fmt: skip
    return {
        "AutoRemove": fields["AutoRemove"],
        "Command": list(one.command) or None,
        "CreatedAt": fields["CreatedHuman"],
        "Exited": fields["Exited"],
        "ExitedAt": fields["ExitedAt"],
        "ExitCode": fields["ExitCode"],
        "Id": one.container.id,
        "Image": fields["Image"],
        "ImageID": fields["ImageID"],
        "IsInfra": False,
        "Labels": data.get("labels") or None,
        "Mounts": [target for _, _, target in data.get("mounts") or ()],
        "Names": [one.container.name],
        "Namespaces": {},
        "Networks": [],
        "Pid": fields["Pid"],
        "Pod": "",
        "PodName": "",
        "Ports": ports or None,
        "Size": {"rootFsSize": sizes[1], "rwSize": sizes[0]} if sizes else None,
        "StartedAt": fields["StartedAt"],
        "State": one.status,
        "Status": fields["Status"],
        "Created": fields["Created"],
    }
