"""`rootless ps`: list containers. Also `container ls`, `list` and `ps`.

Source: podman-ps(1) of podman 4.3; its table, field names and words
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.engine import listing as engine
from rootless.errors import UsageError
from rootless.spec import moment
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.engine.listing import Commands, Listed
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

COMMAND_WIDTH = 17
KIND = "containers.psReporter"
CLEAR = "\033[2J\033[1;1H"
SORTS = ("command", "created", "id", "image", "names", "runningfor", "size", "status")
COLUMNS = (
    ("CONTAINER ID", "ID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("CREATED", "CreatedHuman"),
    ("STATUS", "Status"), ("PORTS", "Ports"), ("NAMES", "Names"),
)  # fmt: skip
NS_COLUMNS = (
    ("CONTAINER ID", "ID"), ("NAMES", "Names"), ("PID", "Pid"), ("CGROUPNS", "CGROUPNS"), ("IPC", "IPC"),
    ("MNT", "MNT"), ("NET", "NET"), ("PIDNS", "PIDNS"), ("USERNS", "USERNS"), ("UTS", "UTS"),
)  # fmt: skip
POD = (("POD ID", "Pod"), ("PODNAME", "PodName"))
SIZE = (("SIZE", "Size"),)
HEADINGS = {"ID": "CONTAINER ID", "CreatedHuman": "CREATED", "Pod": "POD ID", "PodName": "PODNAME",
            "Cgroup": "CGROUPNS",
            "CGROUPNS": "CGROUPNS", "PIDNS": "PIDNS", "USERNS": "USERNS"}  # fmt: skip
# the fields of a template -> those of the JSON document
NAMESPACES = {"Cgroup": "Cgroup", "CGROUPNS": "Cgroup", "IPC": "Ipc", "MNT": "Mnt", "NET": "Net", "PIDNS": "Pidns",
              "USERNS": "User", "UTS": "Uts"}  # fmt: skip

COMMAND = Command(
    name="ps",
    summary="List containers",
    usage="",
    description="Prints out information about the containers",
    flags=(
        ("all", "a", "bool", "", "", "Show all the containers, default is only running containers", ""),
        ("external", "", "bool", "", "", "Show containers in storage not controlled by rootless (there are none)", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("format", "", "string", "", "", "Pretty-print containers to JSON or using a Go template", ""),
        ("last", "n", "int", "", "-1", "Print the n last created containers (all states)", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("no-trunc", "", "bool", "", "", "Display the extended information", ""),
        ("noheading", "", "bool", "", "", "Do not print headers", ""),
        ("ns", "", "bool", "", "", "Display namespace information", ""),
        ("pod", "p", "bool", "", "", "Print the ID and name of the pod (there are no pods: empty columns)", ""),
        ("quiet", "q", "bool", "", "", "Print the numeric IDs of the containers only", ""),
        ("size", "s", "bool", "", "", "Display the total file sizes", ""),
        ("sort", "", "string", "choice", "", "Sort output by: " + ", ".join(SORTS), ""),
        ("sync", "", "bool", "", "", "Sync container state with OCI runtime (what is shown is always true)", ""),
        ("watch", "w", "uint", "", "", "Watch the ps output on an interval in seconds", ""),
    ),
    examples=("ps -a", 'ps -a --format "{{.ID}}  {{.Image}}  {{.Labels}}  {{.Mounts}}"', "ps --size --sort names"),
    max_args=0,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the table, the ids, or what --format asks for; again and again with --watch."""
    parsed, options = parse(COMMAND, argv, options)
    _check(parsed)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    pause_seconds = parsed.number("watch") or 0
    while True:
        if pause_seconds:
            sys.stdout.write(CLEAR)
        _show(roots, parsed)
        if not pause_seconds:
            return 0
        sys.stdout.flush()
        time.sleep(pause_seconds)


def _check(parsed: Parsed) -> None:
    """Raises: UsageError for flags that contradict each other"""
    key = parsed.text("sort", "created")
    if key not in SORTS:
        raise UsageError(
            f'invalid argument "{key}" for "--sort" flag: "{key}" is not a valid value.  '
            f"Choose from: \"{', '.join(SORTS)}\"\nSee 'rootless ps --help'"
        )
    if (parsed.number("last") or -1) >= 0 and parsed.flag("latest"):
        raise UsageError("last and latest are mutually exclusive")
    if parsed.flag("quiet") and (parsed.flag("size") or parsed.flag("ns")):
        raise UsageError("quiet conflicts with size and namespace")
    if parsed.flag("size") and parsed.flag("ns"):
        raise UsageError("size and namespace options conflict")


def _show(roots: Roots, parsed: Parsed) -> None:
    every = engine.list_all(roots, os.environ)
    chosen = _chosen(every, parsed)
    format = parsed.text("format")
    if parsed.flag("quiet") and not format:
        end = None if parsed.flag("no-trunc") else 12
        sys.stdout.write("".join([f"{one.id[:end]}\n" for one in chosen]))
        return
    key = parsed.text("sort", "created")
    sizes = _sizes(roots, chosen) if parsed.flag("size") else {}
    view = View(roots, sizes, trunc=not parsed.flag("no-trunc"), ns=parsed.flag("ns"))
    if key != "created":
        chosen.sort(key=_key(key, view))
    if format and output.is_json(format):
        sys.stdout.write(output.to_json([view.document(one) for one in chosen], indent=2) + "\n")
        return
    columns: tuple[tuple[str, str], ...] = NS_COLUMNS if parsed.flag("ns") else COLUMNS
    if not parsed.flag("ns"):
        columns += (POD if parsed.flag("pod") else ()) + (SIZE if parsed.flag("size") else ())
    if format:
        rows = [view.fields(one) for one in chosen]
    else:
        names = [field for _, field in columns]
        rows = [{field: view.field(one, field) for field in names} for one in chosen]
    output.listing(rows, columns, format=format, name="ps", headings=HEADINGS, noheading=parsed.flag("noheading"),
                   kind=KIND)  # fmt: skip


def _chosen(every: list[Listed], parsed: Parsed) -> list[Listed]:
    """Return what --filter, --latest and --last let through, oldest first."""
    given = parsed.many("filter")
    found = every
    if given:
        from rootless.engine.filters import filter_of

        wanted = filter_of(given, every)
        found = [one for one in every if wanted(one)]
    last = 1 if parsed.flag("latest") else parsed.number("last") or 0
    if last > 0:
        return found[-last:]
    if parsed.flag("all") or any([text.startswith("status=") for text in given]):
        return list(found)
    return [one for one in found if one.status == "running"]


def _key(key: str, view: View) -> Callable[[Listed], Any]:
    by: dict[str, Callable[[Listed], Any]] = {
        "command": lambda one: view.commands.of(one.data),
        "id": lambda one: one.id,
        "image": lambda one: one.image,
        "names": lambda one: one.name,
        "runningfor": lambda one: one.moment("started") or 0,
        "size": lambda one: view.sizes.get(one.id, (0, 0)),
        "status": lambda one: one.status,
    }
    return by[key]


def _sizes(roots: Roots, chosen: list[Listed]) -> dict[str, tuple[int, int]]:
    """Return the bytes that each container wrote, and those with its image. Enters the user namespace for it."""
    from rootless.engine.inspect import image_size, tree_size
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode

    if chosen:
        enter(roots.run, parse_mode(""), os.environ)
    found = {}
    for one in chosen:
        own = tree_size(f"{roots.data}/containers/{one.id}/diff")
        found[one.id] = (own, own + image_size(roots, one.image_id))
    return found


class View:
    """How containers are shown now: *sizes* of those whose size was asked for, cut or not, with namespaces or not."""

    def __init__(self, roots: Roots, sizes: dict[str, tuple[int, int]], *, trunc: bool, ns: bool) -> None:
        self.now = time.time_ns()
        self.sizes, self.trunc, self.ns = sizes, trunc, ns
        self.commands: Commands = engine.Commands(roots)

    def field(self, one: Listed, name: str) -> Any:
        """Return one field of a template or column."""
        if name in NAMESPACES:
            return self.namespaces(one).get(NAMESPACES[name], "")
        return _FIELDS[name](self, one)

    def fields(self, one: Listed) -> dict[str, Any]:
        """Return all that a template may name."""
        from rootless.cli.gotemplate import struct

        found = {name: make(self, one) for name, make in _FIELDS.items()}
        spaces = self.namespaces(one)
        found |= {name: spaces.get(real, "") for name, real in NAMESPACES.items()}
        found["Namespaces"] = struct({field: spaces.get(field, "") for field, _ in engine.NAMESPACES})
        return found

    def namespaces(self, one: Listed) -> dict[str, str]:
        return engine.namespaces(one.pid) if self.ns else {}

    def ago(self, then: int | None) -> str:
        return output.human_duration((self.now - then) / moment.SECOND_NS) + " ago" if then else ""

    def state(self, one: Listed) -> str:
        if one.status == "running":
            return f"Up {self.ago(one.moment('started'))}"
        if one.status == "exited":
            return f"Exited ({one.exit_code}) {self.ago(one.moment('finished'))}".rstrip()
        words = {"starting": "Created", "remote": "Up on another machine"}
        return words.get(one.status) or one.status.capitalize()

    def status(self, one: Listed) -> str:
        return f"{self.state(one)} ({one.health})" if one.health else self.state(one)

    def command(self, one: Listed) -> str:
        words = " ".join(self.commands.of(one.data))
        return words[:COMMAND_WIDTH] + "..." if self.trunc and len(words) > COMMAND_WIDTH else words

    def size(self, one: Listed) -> str:
        if one.id not in self.sizes:
            return ""
        own, whole = [output.human_size(size).replace(" ", "") for size in self.sizes[one.id]]
        return f"{own} (virtual {whole})"

    def document(self, one: Listed) -> dict[str, Any]:
        """Return one element of --format json: podman's fields in its order."""
        data = one.data
        ports = [
            {"host_ip": address, "container_port": inside, "host_port": host, "range": count, "protocol": protocol}
            for address, host, inside, count, protocol in engine.merged_ports(data.get("ports") or [])
        ]
        size = self.sizes.get(one.id)
        return {
            "AutoRemove": bool(data.get("auto_remove")),
            "Command": list(self.commands.of(data)) or None,
            "CreatedAt": self.ago(one.moment("created")),
            "Exited": one.status == "exited",
            "ExitedAt": _seconds(one, "finished"),
            "ExitCode": one.exit_code,
            "Id": one.id,
            "Image": one.image,
            "ImageID": one.image_id,
            "IsInfra": False,
            "Labels": data.get("labels") or None,
            "Mounts": _mounts(one),
            "Names": [one.name],
            "Namespaces": self.namespaces(one),
            "Networks": [],
            "Pid": one.pid,
            "Pod": "",
            "PodName": "",
            "Ports": ports or None,
            "Size": {"rootFsSize": size[1], "rwSize": size[0]} if size else None,
            "StartedAt": _seconds(one, "started"),
            "State": "created" if one.status == "starting" else one.status,
            "Status": self.status(one),
            "Created": _seconds(one, "created"),
        }


def _seconds(one: Listed, name: str) -> int:
    then = one.moment(name)
    return moment.NEVER_SECONDS if then is None else then // moment.SECOND_NS


def _mounts(one: Listed) -> list[str]:
    return [str(mount[2]) for mount in one.data.get("mounts") or ()]


def _time(one: Listed) -> str:
    then = one.moment("created")
    return output.local_time(then) if then is not None else ""


_FIELDS: dict[str, Callable[[View, Listed], Any]] = {
    "ID": lambda view, one: one.id[:12] if view.trunc else one.id,
    "Image": lambda view, one: one.image,
    "ImageID": lambda view, one: one.image_id[:12] if view.trunc else one.image_id,
    "Command": View.command,
    "CreatedHuman": lambda view, one: view.ago(one.moment("created")),
    "RunningFor": lambda view, one: view.ago(one.moment("created")),
    "CreatedAt": lambda view, one: _time(one),
    "Created": lambda view, one: _time(one),
    "StartedAt": lambda view, one: _seconds(one, "started"),
    "ExitedAt": lambda view, one: _seconds(one, "finished"),
    "Exited": lambda view, one: one.status == "exited",
    "ExitCode": lambda view, one: one.exit_code,
    "State": View.state,
    "Status": View.status,
    "Ports": lambda view, one: engine.ports_text(one.data.get("ports") or []),
    "Names": lambda view, one: one.name,
    "Labels": lambda view, one: one.data.get("labels") or {},
    "Mounts": lambda view, one: _mounts(one),
    "Networks": lambda view, one: "",
    "Pod": lambda view, one: "",
    "PodName": lambda view, one: "",
    "Pid": lambda view, one: one.pid,
    "AutoRemove": lambda view, one: bool(one.data.get("auto_remove")),
    "IsInfra": lambda view, one: False,
    "Restarts": lambda view, one: int(one.data.get("restart_count") or 0),
    "Size": View.size,
}
