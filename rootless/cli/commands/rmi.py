"""`rootless rmi`: remove images.

Source: podman-rmi(1) of podman 4.3: exit 1 when an image is not known, 2 when one is in use, 125 otherwise
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import EXIT_ENGINE, InUse, NotFound, RootlessError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

EXIT_NOT_KNOWN = 1
EXIT_IN_USE = 2

COMMAND = Command(
    name="rmi",
    summary="Removes one or more images from local storage",
    usage="IMAGE [IMAGE...]",
    description="Removes one or more previously pulled or locally created images.",
    flags=(
        ("all", "a", "bool", "", "", "Remove all images", ""),
        ("force", "f", "bool", "", "", "Force Removal of the image", ""),
        ("ignore", "i", "bool", "", "", "Ignore errors if a specified image does not exist", ""),
        ("no-prune", "", "bool", "", "", "Do not remove dangling images", ""),
    ),
    examples=("rmi imageID", "rmi --force alpine", "rmi c4dfb1609ee2 93fd78260bd1 c0ed59d05ff7"),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Remove what is named; print a line for each name and image that went."""
    parsed, options = parse(COMMAND, argv, options)
    every = parsed.flag("all")
    if not parsed.args and not every:
        raise UsageError("image name or ID must be specified")
    if parsed.args and every:
        raise UsageError("when using the --all switch, you may not pass any images names or IDs")
    from rootless.engine.images import NotRemoved, Untagged, remove
    from rootless.kernel.enter import enter
    from rootless.plan.userns import parse_mode
    from rootless.store.layout import find_roots

    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    users = _stopped_users(roots, parsed.args, every=every) if parsed.flag("force") else []
    # Layers hold files of subordinate ids, which only root of the namespace can delete.
    enter(roots.run, parse_mode(""), os.environ)
    if users:
        from rootless.engine import containers as engine

        for container in users:
            engine.remove(roots, container, volumes=False)
    failed: list[RootlessError] = []
    for removal in remove(roots, parsed.args, every=every, force=parsed.flag("force"), ignore=parsed.flag("ignore")):
        if isinstance(removal, NotRemoved):
            failed.append(removal.error)
            continue
        text = f"Untagged: {removal.name}" if isinstance(removal, Untagged) else f"Deleted: {removal.id}"
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    return _report(failed)


def _stopped_users(roots: Roots, names: Sequence[str], *, every: bool) -> list[Container]:
    """Stop what was made from the images that are to go, and return it. Raises: ContainerStateError"""
    from rootless.engine import life
    from rootless.store import containers, images

    wanted = {image.id for image in images.list_images(roots)} if every else set()
    for name in names:
        image = images.lookup(roots, name)
        if image is not None and (len(image.names) <= 1 or image.id.startswith(name)):
            wanted.add(image.id)  # of several names only one goes, and the image stays
    users = [one for one in containers.list_containers(roots) if one.data.get("image_id") in wanted]
    for container in users:
        life.stop(roots, container, None)
    return users


def _report(failed: list[RootlessError]) -> int:
    """Print what could not be removed, several as podman lists them; return the exit status."""
    if not failed:
        return 0
    from rootless.cli.main import report

    texts = [f"{e.name}: image not known" if isinstance(e, NotFound) else e.message for e in failed]
    if len(failed) == 1:
        report(RootlessError(texts[0], hint=failed[0].hint))
    else:
        report(RootlessError(f"{len(failed)} errors occurred:" + "".join([f"\n\t* {text}" for text in texts])))
    if any(isinstance(error, InUse) for error in failed):
        return EXIT_IN_USE
    return EXIT_NOT_KNOWN if all(isinstance(error, NotFound) for error in failed) else EXIT_ENGINE
