"""`rootless inspect`: print what is known of images, containers and volumes.

Source: podman-inspect(1), podman-image-inspect(1), podman-container-inspect(1) of podman 4.3, its words on stderr
"""

from __future__ import annotations

import os
import sys

from rootless.cli import output
from rootless.cli.parser import Command, parse
from rootless.engine import inspect
from rootless.errors import RootlessError, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

TYPES = ("image", "container", "volume", "all")
LATER = ("pod", "network")
# Go's names of the structs that errors mention, and what prints as a time or as a duration
_KINDS = {
    "State": "*define.InspectContainerState", "Config": "*define.InspectContainerConfig",
    "HostConfig": "*define.InspectContainerHostConfig", "NetworkSettings": "*define.InspectNetworkSettings",
    "GraphDriver": "*define.DriverData", "Mounts": "define.InspectMount", "Health": "define.HealthCheckResults",
    "": "interface {}",
}  # fmt: skip
_TIMES = ("Created", "StartedAt", "FinishedAt", "CheckpointedAt", "RestoredAt", "CreatedAt")
_SPANS = ("StartPeriod", "Interval", "Timeout")
_LISTS = ("Log", "VolumesFrom", "OnBuild", "Links", "CgroupConf", "RepoTags", "RepoDigests")
_SPELLINGS = ((".Src", ".Source"), (".Dst", ".Destination"), (".ImageID", ".Image"))

COMMAND = Command(
    name="inspect",
    summary="Display the configuration of an image, container or volume",
    usage="{CONTAINER|IMAGE|VOLUME} [...]",
    description="Displays the low-level information on an object identified by name or ID.",
    flags=(
        ("format", "f", "string", "", '"json"', "Format the output to a Go template or json", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("size", "s", "bool", "", "", "Display total file size", ""),
        ("type", "t", "string", "", '"all"', "Specify inspect-object type (image, container, volume, all)", ""),
    ),
    examples=(
        "inspect alpine",
        "inspect --type image alpine",
        "inspect CtrID ImgID",
        'inspect --format "imageId: {{.Id}} size: {{.Size}}" alpine',
    ),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a JSON array of what was found, or a line of the template for each; then say what was not found."""
    parsed, options = parse(COMMAND, argv, options)
    kind = parsed.text("type", "all")
    if kind in LATER:
        raise UsageError(f"there are no {kind}s in rootless yet: --type must be image, container, volume or all")
    if kind not in TYPES:
        raise UsageError(f'invalid type "{kind}": must be "image", "container", "volume", or "all"')
    latest = parsed.flag("latest")
    if latest and parsed.args:
        raise UsageError("--latest and arguments cannot be used together")
    if latest and kind not in ("container", "all"):
        raise UsageError(f'latest is not supported for type "{kind}"')
    if parsed.flag("size") and kind not in ("container", "all"):
        raise UsageError(f'size is not supported for type "{kind}"')
    if not latest and not parsed.args:
        raise UsageError("no names or ids specified")
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    names = (_latest(roots),) if latest else parsed.args
    found: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in names:
        document = look_up(roots, name, kind, size=parsed.flag("size"))
        if document is None:
            missing.append(_words(name, kind))
        else:
            found.append(document)
    _print(found, parsed.text("format", "json"))
    sys.stdout.flush()
    if missing:
        from rootless.cli.main import report

        for text in missing[1:]:
            sys.stderr.write(f"error {text}\n")
        return report(RootlessError(missing[0]))
    return 0


def look_up(roots: Roots, name: str, kind: str, *, size: bool) -> dict[str, Any] | None:
    """Return the document of *name*: a container comes before an image of the same name, and that before a volume."""
    found = None
    if kind in ("container", "all"):
        if size:
            _enter(roots)
        found = inspect.find_container(roots, name, size=size)
    if found is None and kind in ("image", "all"):
        found = inspect.find_image(roots, name)
    if found is None and kind in ("volume", "all"):
        found = inspect.find_volume(roots, name)
    return found


def _enter(roots: Roots) -> None:
    """Enter the user namespace, whose ids may read everything in a layer; once."""
    if not _entered:
        from rootless.kernel.enter import enter
        from rootless.plan.userns import parse_mode

        _entered.append(True)
        enter(roots.run, parse_mode(""), os.environ)


_entered: list[bool] = []


def _print(found: list[dict[str, Any]], format: str) -> None:
    if not format or output.is_json(format):
        sys.stdout.write(output.to_json(found, indent=5) + "\n")
        return
    from rootless.cli.gotemplate import TemplateError

    for old, new in _SPELLINGS:
        format = format.replace(old, new) if old + new[len(old) :] not in format else format
    rows = [structs(document) for document in found]
    for row in rows:
        row["ID"] = row.get("Id")
        if "HostConfig" in row:
            _complete(row)
    try:
        output.listing(rows, (), format=format, name="inspect", noheading=True, kind=_KINDS[""])
    except TemplateError as error:
        if ": executing " in error.message:
            error.message = f"inspecting object: printing inspect output: {error.message}"
        raise


def _complete(row: dict[str, Any]) -> None:
    """Add the fields of a container that the JSON leaves out when they are empty, but a template may name."""
    from rootless.cli.govalues import NIL_LIST, NIL_MAP, NIL_POINTER

    empty: dict[str, dict[str, Any]] = {
        "": {"SizeRw": NIL_POINTER, "SizeRootFs": NIL_POINTER},
        "State": {"ConmonPid": 0, "CgroupPath": ""},
        "NetworkSettings": {"Networks": NIL_MAP},
        "Config": {
            "Healthcheck": NIL_POINTER,
            "CreateCommand": NIL_LIST,
            "Secrets": NIL_LIST,
            "Timezone": "",
            "SdNotifyMode": row["Config"].get("sdNotifyMode", ""),
        },
    }
    for key, fields in empty.items():
        for name, value in fields.items():
            (row[key] if key else row).setdefault(name, value)


def structs(value: Any, key: str = "") -> Any:
    """Mark all dicts with Go's kind of keys as structs, so that a field which they lack is an error.

    A dict whose keys are data (labels, ports, annotations) is a map: a missing key is empty.
    """
    from rootless.cli.gotemplate import struct
    from rootless.cli.govalues import NIL_LIST, NIL_MAP, NIL_POINTER, Span, Time

    if isinstance(value, dict):
        inner = {name: structs(item, name) for name, item in value.items()}
        known = inner and all([name[:1].isupper() and name.isalnum() for name in inner if name != "sdNotifyMode"])
        return struct(inner, _KINDS.get(key, f"define.{key}")) if known and key not in ("Labels", "Data") else inner
    if isinstance(value, list):
        return [structs(item, key) for item in value]
    if value is None:
        return NIL_MAP if key in ("Labels", "Annotations", "Volumes") else NIL_LIST if key in _LISTS else NIL_POINTER
    if key in _TIMES and isinstance(value, str):
        return Time(value)
    return Span(value) if key in _SPANS and isinstance(value, int) and value > 1000 else value


def _words(name: str, kind: str) -> str:
    return {
        "image": f"inspecting object: {name}: image not known",
        "container": f"inspecting object: no such container {name}",
        "volume": f"inspecting object: no such volume {name}",
        "all": f'inspecting object: no such object: "{name}"',
    }[kind]


def _latest(roots: Roots) -> str:
    from rootless.store.overview import records

    every = records(roots)
    if not every:
        raise RootlessError("inspecting object: no containers found")
    return every[-1][0]
