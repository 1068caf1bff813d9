"""`rootless inspect`: print what is known of images and containers.

Source: podman-inspect(1), podman-image-inspect(1), podman-container-inspect(1) of podman 4.3, its words on stderr
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from rootless.cli import output
from rootless.cli.gotemplate import Template, struct
from rootless.cli.parser import Command, parse
from rootless.engine import inspect
from rootless.errors import RootlessError, UsageError
from rootless.store.layout import find_roots

if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

TYPES = ("image", "container", "all")
LATER = ("pod", "network", "volume")

COMMAND = Command(
    name="inspect",
    summary="Display the configuration of an image or container",
    usage="{CONTAINER|IMAGE} [...]",
    description="Displays the low-level information on an object identified by name or ID.",
    flags=(
        ("format", "f", "string", "", '"json"', "Format the output to a Go template or json", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("size", "s", "bool", "", "", "Display total file size", ""),
        ("type", "t", "string", "", '"all"', "Specify inspect-object type (image, container, all)", ""),
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
        raise UsageError(f"there are no {kind}s in rootless yet: --type must be image, container or all")
    if kind not in TYPES:
        raise UsageError(f'invalid type "{kind}": must be "image", "container" or "all"')
    latest = parsed.flag("latest")
    if latest and parsed.args:
        raise UsageError("--latest and arguments cannot be used together")
    if latest and kind == "image":
        raise UsageError('latest is not supported for type "image"')
    if parsed.flag("size") and kind == "image":
        raise UsageError('size is not supported for type "image"')
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

        for text in missing[:-1]:
            sys.stderr.write(f"error {text}\n")
        return report(RootlessError(missing[-1]))
    return 0


def look_up(roots: Roots, name: str, kind: str, *, size: bool) -> dict[str, Any] | None:
    """Return the document of *name*: a container comes before an image of the same name."""
    if kind != "image":
        found = inspect.find_container(roots, name, size=size)
        if found is not None:
            return found
    return inspect.find_image(roots, name) if kind != "container" else None


def _print(found: list[dict[str, Any]], format: str) -> None:
    if format in ("", "json"):
        output.document(found, name="inspect")
        return
    template = Template(format, "inspect")
    for document in found:
        sys.stdout.write(template.render(structs(document)) + "\n")


def structs(value: Any) -> Any:
    """Mark all dicts with Go's kind of keys as structs, so that a field which they lack is an error.

    A dict whose keys are data (labels, ports, annotations) is a map: a missing key is empty.
    """
    if not isinstance(value, dict):
        return value
    inner = {key: structs(item) for key, item in value.items()}
    return struct(inner) if inner and all(key[:1].isupper() and key.isalnum() for key in inner) else inner


def _words(name: str, kind: str) -> str:
    return {
        "image": f"inspecting object: {name}: image not known",
        "container": f"inspecting object: no such container {name}",
        "all": f'inspecting object: no such object: "{name}"',
    }[kind]


def _latest(roots: Roots) -> str:
    from rootless.store.containers import list_containers

    every = list_containers(roots)
    if not every:
        raise RootlessError("inspecting object: no containers found")
    return every[-1].id
