"""`rootless volume create|ls|inspect|rm|prune|exists`.

Source: podman-volume(1) of podman 4.3: exit 1 for a volume that is not known, 2 for one in use, 125 otherwise
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import volumes as engine
from rootless.errors import NotFound, RootlessError, UsageError
from rootless.store import volumes as store
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

CREATE = Command(
    name="volume create",
    summary="Create a new volume",
    usage="[NAME]",
    description="The volume is created in the volumes directory below the data root. Its driver is always local.",
    flags=(
        ("driver", "", "string", "", '"local"', "Volume driver: only local", ""),
        ("label", "l", "strings", "", "[]", "Set metadata for a volume", ""),
        ("opt", "o", "array", "", "[]", "Set driver specific options (type=tmpfs|ramfs|overlay|none, device=, o=)", ""),
    ),
    examples=("volume create myvol", "volume create", "volume create --label foo=bar myvol",
              "volume create -o type=tmpfs -o device=tmpfs -o o=size=10m scratch",
              "volume create -o type=none -o o=bind -o device=/srv/data data"),
    max_args=1,
)  # fmt: skip
LS = Command(
    name="volume ls",
    summary="List volumes",
    usage="",
    description="Lists all volumes. The output can be filtered, or changed to JSON or a Go template.",
    flags=(
        ("filter", "f", "strings", "", "", "Filter by name, label, driver, scope, opt, dangling or until", ""),
        ("format", "", "string", "", "", "Format volume output using Go template", ""),
        ("noheading", "", "bool", "", "", "Do not print headers", ""),
        ("quiet", "q", "bool", "", "", "Print volume output in quiet mode", ""),
    ),
    examples=("volume ls", "volume ls --filter dangling=true -q"),
    max_args=0,
)  # fmt: skip
INSPECT = Command(
    name="volume inspect",
    summary="Display detailed information on one or more volumes",
    usage="VOLUME [VOLUME...]",
    description="Displays detailed information on one or more volumes, as JSON or by a Go template.",
    flags=(
        ("all", "a", "bool", "", "", "Inspect all volumes", ""),
        ("format", "f", "string", "", '"json"', "Format volume output using Go template", ""),
    ),
    examples=("volume inspect myvol", "volume inspect --all", 'volume inspect --format "{{.Driver}} {{.Scope}}" myvol'),
)
RM = Command(
    name="volume rm",
    summary="Remove one or more volumes",
    usage="VOLUME [VOLUME...]",
    description=(
        "Removes one or more volumes.\n\nA volume that containers use is removed only with --force, which removes "
        "those containers too."
    ),
    flags=(
        ("all", "a", "bool", "", "", "Remove all volumes", ""),
        ("force", "f", "bool", "", "", "Remove a volume by force, even if it is being used by a container", ""),
        ("time", "t", "uint", "", "10", "Seconds to wait for running containers to stop before killing them", ""),
    ),
    examples=("volume rm myvol1 myvol2", "volume rm --all", "volume rm --force myvol"),
)
PRUNE = Command(
    name="volume prune",
    summary="Remove all unused volumes",
    usage="",
    description="Removes the volumes that no container uses, with all that is in them, after a question.",
    flags=(
        ("filter", "", "array", "", "", "Provide filter values (e.g. 'label=<key>=<value>')", ""),
        ("force", "f", "bool", "", "", "Do not prompt for confirmation", ""),
    ),
    examples=("volume prune", "volume prune -f --filter label=test"),
    max_args=0,
)
EXISTS = Command(
    name="volume exists",
    summary="Check if a volume exists",
    usage="VOLUME",
    description="Exits with 0 if the volume exists, with 1 if it does not.",
    examples=("volume exists myvol",),
    min_args=1,
    max_args=1,
)
COMMANDS = {"create": CREATE, "ls": LS, "inspect": INSPECT, "rm": RM, "prune": PRUNE, "exists": EXISTS}
COMMAND = LS
COLUMNS = (("DRIVER", "Driver"), ("VOLUME NAME", "Name"))
TEMPLATE_TYPE = "*entities.VolumeListReport"


def main(argv: list[str], options: GlobalOptions) -> int:
    """Do what the first word of *argv* says."""
    verb = argv[0]
    parsed, options = parse(COMMANDS[verb], argv[1:], options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    if verb == "create":
        return _create(parsed, roots)
    if verb == "exists":
        return 0 if parsed.args[0] in store.list_volumes(roots) else 1
    from rootless.engine.containers import settle

    if verb == "ls":
        return _ls(parsed, roots)
    if verb == "inspect":
        return _inspect(parsed, roots)
    entered = settle(roots, os.environ)
    return _rm(parsed, roots, entered) if verb == "rm" else _prune(parsed, roots, entered)


def _create(parsed: Parsed, roots: Roots) -> int:
    labels: dict[str, str] = {}
    for text in parsed.many("label"):
        name, _, value = text.partition("=")
        if not name:
            raise UsageError(f'unable to process labels: invalid label format: "{text}"')
        labels[name] = value
    pairs = [text.partition("=") for text in parsed.many("opt")]
    name = engine.create(
        roots, parsed.args[0] if parsed.args else "", driver=parsed.text("driver", "local"), labels=labels,
        options=tuple([(key, value) for key, _, value in pairs]),
    )  # fmt: skip
    sys.stdout.write(name + "\n")
    return 0


def _ls(parsed: Parsed, roots: Roots) -> int:
    format = parsed.text("format")
    if parsed.flag("quiet") and format:
        raise UsageError("quiet and format flags cannot be used together")
    wanted = engine.filter_of(parsed.many("filter"), roots)
    found = [record for record in engine.read_all(roots) if wanted(record)]
    if parsed.flag("quiet"):
        sys.stdout.write("".join([f"{record['name']}\n" for record in found]))
        return 0
    from rootless.cli import output

    if not format:
        if found:  # podman prints no heading over nothing
            rows = [{"Driver": engine.DRIVER, "Name": record["name"]} for record in found]
            output.listing(rows, COLUMNS, noheading=parsed.flag("noheading"))
        return 0
    users = store.users(roots)
    documents = [engine.document(roots, record, users) for record in found]
    if output.is_json(format):
        sys.stdout.write(output.to_json(documents, indent=2) + "\n")
        return 0
    output.listing([_fields(document) for document in documents], COLUMNS, format=format, name="ls",
                   noheading=parsed.flag("noheading"), kind=TEMPLATE_TYPE)  # fmt: skip
    return 0


def _fields(document: dict[str, object]) -> dict[str, object]:
    """Return what a template may name: every field, with what podman leaves out of its JSON, and times as Go's."""
    from rootless.cli.govalues import Time

    absent = {"Anonymous": False, "UID": 0, "GID": 0, "NeedsCopyUp": False, "NeedsChown": False, "Status": {},
              "Timeout": 0}  # fmt: skip
    return {**absent, **document, "CreatedAt": Time(document["CreatedAt"])}


def _inspect(parsed: Parsed, roots: Roots) -> int:
    if parsed.flag("all") == bool(parsed.args):
        raise UsageError("provide one or more volume names or use --all")
    found, missing = [], []
    users = store.users(roots)
    for text in parsed.args or store.list_volumes(roots):
        try:
            found.append(engine.document(roots, store.read_volume(roots, engine.find(roots, text)), users))
        except NotFound:
            missing.append(text)
    from rootless.cli import output

    format = parsed.text("format")
    if not format or output.is_json(format):
        sys.stdout.write(output.to_json(found, indent=5) + "\n")
    else:
        output.listing([_fields(one) for one in found], (), format=format, name="inspect",
                       kind="*define.InspectVolumeData")  # fmt: skip
    sys.stdout.flush()
    for text in missing[1:]:
        sys.stderr.write(f"error inspecting object: no such volume {text}\n")
    if missing:
        raise RootlessError(f"inspecting object: no such volume {missing[0]}")
    return 0


def _rm(parsed: Parsed, roots: Roots, entered: bool) -> int:
    if parsed.flag("all") == bool(parsed.args):
        raise UsageError("choose either one or more volumes or all")
    force = parsed.flag("force")
    if parsed.given("time") and not force:
        raise UsageError("--force option must be specified to use the --time option")
    failed: list[RootlessError] = []
    names: list[str] = []
    for text in parsed.args or store.list_volumes(roots):
        try:
            names.append(engine.find(roots, text))
        except NotFound as error:
            if not force:
                failed.append(error)
        except RootlessError as error:
            failed.append(error)
    if force:
        _remove_users(roots, names, parsed.number("time"), entered)
    elif names and not entered:
        _enter(roots)
    _remove(roots, names, failed)
    return _report(failed)


def _remove_users(roots: Roots, names: list[str], seconds: int | None, entered: bool) -> None:
    """Remove the containers that use *names*, running or not; this process is in our user namespace then."""
    from rootless.cli.main import warn
    from rootless.engine import containers
    from rootless.store.containers import read

    users = store.users(roots)
    ids = dict.fromkeys([cid for name in names for cid in users.get(name, ())])
    ended: list[Container] = []
    for cid in ids:
        found = read(roots, cid)
        if found is not None:
            warning = containers.stop(roots, found, seconds)
            if warning:
                warn(warning)
            ended.append(found)
    if names and not entered:
        _enter(roots)
    for container in ended:
        containers.remove(roots, container, volumes=False)


def _remove(roots: Roots, names: list[str], failed: list[RootlessError]) -> None:
    for name in dict.fromkeys(names):
        try:
            engine.remove(roots, name)
            sys.stdout.write(name + "\n")
            sys.stdout.flush()
        except RootlessError as error:
            failed.append(error)


def _report(failed: list[RootlessError]) -> int:
    from rootless.cli.main import report

    return [report(error) for error in failed][-1] if failed else 0


def _enter(roots: Roots) -> None:
    """Files of a volume have owners of our user namespace."""
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode

    enter(roots.run, parse_mode(""), os.environ)


def _prune(parsed: Parsed, roots: Roots, entered: bool) -> int:
    wanted = engine.filter_of(parsed.many("filter"), roots, prune=True)
    used = store.users(roots)
    names = [record["name"] for record in engine.read_all(roots) if record["name"] not in used and wanted(record)]
    if not parsed.flag("force"):
        from rootless.cli.asking import confirmed

        head = "WARNING! This will remove all volumes not used by at least one container."
        if not names:
            return 0
        text = f"{head} The following volumes will be removed:\n" + "".join([f"{name}\n" for name in names])
        if not confirmed(text):
            return 0
    if names and not entered:
        _enter(roots)
    failed: list[RootlessError] = []
    _remove(roots, names, failed)
    return _report(failed)
