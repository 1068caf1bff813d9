"""`rootless system df|prune|reset`.

Source: podman-system-df(1), podman-system-prune(1), podman-system-reset(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys
import time

from rootless.cli.parser import Command, parse
from rootless.errors import RootlessError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.parser import Parsed
    from rootless.engine.diskusage import Summary, Usage
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

DF = Command(
    name="system df",
    summary="Show disk usage",
    usage="",
    description="Shows what images, containers and volumes take on the disk.",
    flags=(
        ("format", "", "string", "", "", "Pretty-print the summary to JSON or using a Go template", ""),
        ("verbose", "v", "bool", "", "", "Show detailed information on disk usage", ""),
    ),
    examples=("system df", "system df -v"),
    max_args=0,
)
PRUNE = Command(
    name="system prune",
    summary="Remove unused data",
    usage="",
    description=(
        "Removes all containers that do not run and all images without a name; with --all all images that no container "
        "was made from, with --volumes all volumes that no container has."
    ),
    flags=(
        ("all", "a", "bool", "", "", "Remove all unused data", ""),
        ("filter", "", "array", "", "", "Provide filter values (e.g. 'label=<key>=<value>')", ""),
        ("force", "f", "bool", "", "", "Do not prompt for confirmation.  The default is false", ""),
        ("volumes", "", "bool", "", "", "Prune volumes", ""),
    ),
    examples=("system prune", "system prune -af --volumes"),
    max_args=0,
)
RESET = Command(
    name="system reset",
    summary="Reset storage: remove everything",
    usage="",
    description="Kills all containers and deletes both roots: containers, images, volumes and secrets.",
    flags=(("force", "f", "bool", "", "", "Do not prompt for confirmation", ""),),
    examples=("system reset --force",),
    max_args=0,
)
COMMANDS = {"df": DF, "prune": PRUNE, "reset": RESET}
COMMAND = DF
COLUMNS = (("TYPE", "Type"), ("TOTAL", "Total"), ("ACTIVE", "Active"), ("SIZE", "Size"), ("RECLAIMABLE", "Reclaimable"))
IMAGES = (
    ("REPOSITORY", "Repository"), ("TAG", "Tag"), ("IMAGE ID", "ImageID"), ("CREATED", "Created"), ("SIZE", "Size"),
    ("SHARED SIZE", "SharedSize"), ("UNIQUE SIZE", "UniqueSize"), ("CONTAINERS", "Containers"),
)  # fmt: skip
CONTAINERS = (
    ("CONTAINER ID", "ContainerID"), ("IMAGE", "Image"), ("COMMAND", "Command"), ("LOCAL VOLUMES", "LocalVolumes"),
    ("SIZE", "Size"), ("CREATED", "Created"), ("STATUS", "Status"), ("NAMES", "Names"),
)  # fmt: skip
VOLUMES = (("VOLUME NAME", "VolumeName"), ("LINKS", "Links"), ("SIZE", "Size"))
_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
EXIT_NO_ANSWER = 1


def main(argv: list[str], options: GlobalOptions) -> int:
    """Do what the first word of *argv* says."""
    verb = argv[0]
    parsed, options = parse(COMMANDS[verb], argv[1:], options)
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    return {"df": _df, "prune": _prune, "reset": _reset}[verb](parsed, roots)


def size(size_bytes: float) -> str:
    """Return a size with four digits in powers of 1000, as podman's df prints it: 102.3MB."""
    unit = 0
    while size_bytes >= 1000 and unit < len(_UNITS) - 1:
        size_bytes /= 1000
        unit += 1
    return f"{size_bytes:.4g}{_UNITS[unit]}"


def _df(parsed: Parsed, roots: Roots) -> int:
    from rootless.cli import output
    from rootless.engine import diskusage
    from rootless.engine.containers import settle
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode

    if not settle(roots, os.environ):
        enter(roots.run, parse_mode(""), os.environ)
    usage = diskusage.measure(roots)
    if parsed.flag("verbose"):
        _verbose(usage)
        return 0
    lines = diskusage.summary(usage)
    format = parsed.text("format")
    output.listing([_line(line) for line in lines], COLUMNS, format=format, name="df",
                   json_rows=[_json_line(line) for line in lines], kind="*system.dfSummary")  # fmt: skip
    return 0


def _line(line: Summary) -> dict[str, Any]:
    percent = round(100 * line.reclaimable_bytes / line.size_bytes) if line.size_bytes else 0
    return {"Type": line.kind, "Total": line.total, "Active": line.active, "Size": size(line.size_bytes),
            "Reclaimable": f"{size(line.reclaimable_bytes)} ({percent}%)", "RawSize": line.size_bytes,
            "RawReclaimable": line.reclaimable_bytes}  # fmt: skip


def _json_line(line: Summary) -> dict[str, Any]:
    fields = _line(line)
    names = ("Type", "Total", "Active", "RawSize", "RawReclaimable", "Size", "Reclaimable")
    return {name: fields[name] for name in names}


def _verbose(usage: Usage) -> None:
    from rootless.cli import output
    from rootless.cli.output import human_duration
    from rootless.engine.images import repository, tags
    from rootless.spec import moment

    def age(text: object) -> str:
        then = moment.parse(text)
        return human_duration((time.time_ns() - then) / 1e9) if then else ""

    rows: list[dict[str, Any]] = []
    for use in usage.images:
        for name in tags(use.image) or ("<none>:<none>",):
            rows.append({
                "Repository": repository(name), "Tag": name.rpartition(":")[2], "ImageID": use.image.id[:12],
                "Created": age(use.image.created), "Size": size(use.size_bytes), "SharedSize": size(use.shared_bytes),
                "UniqueSize": size(use.unique_bytes), "Containers": use.containers,
            })  # fmt: skip
    sys.stdout.write("Images space usage:\n\n")
    output.listing(rows, IMAGES)
    rows = []
    for one in usage.containers:
        listed = one.listed
        words = " ".join([str(word) for word in listed.data.get("args") or ()])
        rows.append({
            "ContainerID": listed.id[:12], "Image": str(listed.data.get("image_id") or "")[:12],
            "Command": words, "LocalVolumes": one.volumes, "Size": size(one.size_bytes),
            "Created": age(listed.data.get("created")), "Status": listed.status, "Names": listed.name,
        })  # fmt: skip
    sys.stdout.write("\nContainers space usage:\n\n")
    output.listing(rows, CONTAINERS)
    rows = [{"VolumeName": v.name, "Links": v.links, "Size": size(v.size_bytes)} for v in usage.volumes]
    sys.stdout.write("\nLocal Volumes space usage:\n\n")
    output.listing(rows, VOLUMES)
    if usage.shifted:
        sys.stdout.write("\nMapped Layers space usage:\n\n")
        mapped = [{"Layer": link, "Size": size(size_bytes)} for link, size_bytes in usage.shifted]
        output.listing(mapped, (("LAYER", "Layer"), ("SIZE", "Size")))


def _prune(parsed: Parsed, roots: Roots) -> int:
    from rootless.engine import pruning

    filters = parsed.many("filter")
    everything, with_volumes = parsed.flag("all"), parsed.flag("volumes")
    if not parsed.flag("force"):
        from rootless.cli.asking import confirmed

        if not confirmed(_prune_warning(everything, with_volumes)):
            return 0
    pruning.check_filters(filters)
    done = pruning.prune(roots, os.environ, all_images=everything, with_volumes=with_volumes, filters=filters)
    for title, names in (("Containers", done.containers), ("Volumes", done.volumes), ("Images", done.images)):
        if names:
            sys.stdout.write(f"Deleted {title}\n" + "".join([f"{name}\n" for name in names]))
    sys.stdout.write(f"Total reclaimed space: {size(done.reclaimed_bytes)}\n")
    sys.stdout.flush()
    if not done.failed:
        return 0
    from rootless.cli.main import report

    return [report(error) for error in done.failed][-1]


def _prune_warning(everything: bool, with_volumes: bool) -> str:
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if with_volumes:
        lines.append("all volumes not used by at least one container")
    if everything:
        lines += ["all images without at least one container associated with them", "all build cache"]
    else:
        lines += ["all dangling images", "all dangling build cache"]
    return "WARNING! This command removes:\n" + "".join([f"\t- {line}\n" for line in lines]) + "\n"


def _reset(parsed: Parsed, roots: Roots) -> int:
    if not parsed.flag("force"):
        from rootless.cli.asking import confirmed

        lines = ("all containers", "all images", "all volumes", "all secrets",
                 f'the data root directory: "{roots.data}"', f'the run root directory: "{roots.run}"')  # fmt: skip
        text = "WARNING! This will remove:\n" + "".join([f"        - {line}\n" for line in lines])
        if not confirmed(text, code=EXIT_NO_ANSWER):
            return 0
    from rootless.engine.pruning import reset

    try:
        reset(roots, os.environ)
    except OSError as error:
        if isinstance(error, RootlessError):
            raise
        name = error.filename or roots.data
        raise RootlessError(f"remove {name}: {(error.strerror or '').lower()}") from error
    return 0
