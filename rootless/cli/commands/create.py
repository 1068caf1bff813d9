"""`rootless create`: a container that is not started yet.

Source: podman-create(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.commands.run import asked_options, with_others
from rootless.cli.parser import parse
from rootless.cli.supervising import driver_of, global_words, puller
from rootless.cli.table_run import CREATE_COMMAND as COMMAND
from rootless.errors import NotFound, RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

__all__ = ["COMMAND", "main"]


def main(argv: list[str], options: GlobalOptions) -> int:
    """Make the container; print its id."""
    from rootless.cli.main import warn
    from rootless.store import events, layout
    from rootless.supervise.creation import create

    parsed, options = parse(COMMAND, argv, options)
    asked = asked_options(parsed, options)
    roots = layout.find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                              uid=os.geteuid())  # fmt: skip
    for text in asked.warnings:
        warn(text)
    asked = with_others(asked, roots)
    if asked.name and asked.replace:
        replace_named(roots, asked.name, global_words(options))
    layout.prepare_data(roots)
    with layout.lock_shared(roots):
        made = create(asked, roots, driver_of(options), puller(options), warn)
    events.emit(roots, "container", "create", id=made.id, name=made.name, image=str(made.data["image"]),
                attributes=made.data["labels"])  # fmt: skip
    sys.stdout.write(made.id + "\n")
    return 0


def replace_named(roots: Roots, name: str, words: list[str]) -> None:
    """Remove the container *name*, if there is one, for --replace; *words* are our flags before the verb.

    A process of its own does it: files of a container have owners of our user namespace, and this one is not there yet.

    Blocks: until it is gone
    Raises: RootlessError
    """
    from rootless import launcher
    from rootless.kernel.fds import open_fd
    from rootless.kernel.process import spawn, wait_pid
    from rootless.store import containers

    try:
        found = containers.find(roots, name)
    except NotFound:
        return
    if found.name != name:
        return
    with open_fd("/dev/null", os.O_RDWR) as null:
        pid = spawn(launcher.command("rootless", *words, "rm", "-f", found.id), fds={1: null})
    if wait_pid(pid):
        raise RootlessError(f"container {name} could not be removed to be replaced")
