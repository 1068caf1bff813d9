"""`rootless start`: start containers that were made before.

Source: podman-start(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli import ahead
from rootless.cli.parser import Command, Parsed, parse
from rootless.cli.supervising import supervise_again
from rootless.engine import life
from rootless.errors import ContainerStateError, RootlessError, UsageError
from rootless.store import containers
from rootless.store.layout import find_roots
from rootless.supervise.detach import Link, fork_supervisor, wait_ready

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots
    from rootless.supervise.detach import Forked

COMMAND = Command(
    name="start",
    summary="Start one or more containers",
    usage="[options] CONTAINER [CONTAINER...]",
    description="Starts one or more containers.  The container name or ID can be used.",
    flags=(
        ("all", "", "bool", "", "", "Start all containers regardless of their state or configuration", ""),
        ("attach", "a", "bool", "", "", "Attach container's STDOUT and STDERR", ""),
        ("detach-keys", "", "string", "[a-Z]", "", "Select the key sequence for detaching a container", ""),
        ("filter", "f", "strings", "", "", "Filter output based on conditions given", ""),
        ("interactive", "i", "bool", "", "", "Keep STDIN open even if not attached", ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("sig-proxy", "", "bool", "", "", "Proxy received signals to the process (default true if attaching, "
         "false otherwise)", ""),
    ),
    examples=("start --latest", "start 860a4b231279 5421ab43b45", "start --interactive --attach imageID"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Start what is named; print a name for each, or show the one that is attached."""
    parsed, options = parse(COMMAND, argv, options)
    attach = parsed.flag("attach") or parsed.flag("interactive")
    if len(parsed.args) > 1 and attach:
        raise UsageError("you cannot start and attach multiple containers at once")
    if parsed.flag("all") and attach:
        raise UsageError("you cannot start and attach all containers at once")
    if parsed.flag("sig-proxy") and not attach:
        raise UsageError("you cannot use sig-proxy without --attach: invalid argument")
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    named = _chosen(roots, parsed)
    if attach:
        return _attached(named[0][1], roots, options, parsed) if named else 0
    return start_all(roots, named, options)


def _chosen(roots: Roots, parsed: Parsed) -> list[tuple[str, Container]]:
    if parsed.given("filter"):
        from rootless.engine import containers as engine

        every = engine.list_all(roots)
        wanted = engine.filter_of(parsed.many("filter"), every)
        named = {life.find(roots, name).id for name in parsed.args} or {one.id for one in every}
        return [(one.id, one.container) for one in every if one.id in named and wanted(one)]
    if parsed.flag("all") and parsed.args:
        raise UsageError("either start all containers or the container(s) provided in the arguments")
    if not parsed.args and not parsed.flag("all") and not parsed.flag("latest"):
        raise UsageError("start requires at least one argument")
    return life.chosen(roots, list(parsed.args), latest_one=parsed.flag("latest"), every=parsed.flag("all"))


def start_all(roots: Roots, named: list[tuple[str, Container]], options: GlobalOptions, *, hold: bool = False,
              lenient: bool = False) -> int:  # fmt: skip
    """Start (or with *hold* initialize) containers; print the word of each. Returns the exit status.

    With *lenient* those that are in another state are passed over.
    """
    from rootless.cli.main import report

    failed = 0
    for word, container in named:
        try:
            status = start_one(container, roots, options, hold=hold, word=word if len(named) == 1 else "")
        except RootlessError as error:
            if lenient and isinstance(error, ContainerStateError):
                status = 0
            else:
                failed = report(error)
                continue
        if status is None:
            continue
        if status:
            failed = status
            continue
        sys.stdout.write(word + "\n")
    return failed


def start_one(container: Container, roots: Roots, options: GlobalOptions, *, hold: bool = False,
              word: str = "") -> int | None:  # fmt: skip
    """Start one container in the background; return 0, or the status of the supervisor that could not.

    None says that it runs already. With *word* it is the last thing that this command line does but for printing that:
    then it may do both, and not return.

    Blocks: until its program runs
    Raises: ContainerStateError
    """
    status = containers.status(roots, container)
    life.check_here(container, status)
    if status == "initialized" and not hold:
        from rootless.supervise.client import connect

        with connect(roots, container.id) as supervisor:
            supervisor.call("start", {})
        return 0
    if hold and status not in ("created", "exited"):
        raise ContainerStateError(
            f"container {container.id} has already been created in runtime: container state improper"
        )
    if status == "running":
        return None
    if status in ("paused", "stopping"):
        raise ContainerStateError(
            f"unable to start container {container.id}: container {container.id} must be in Created or Stopped state "
            "to be started: container state improper"
        )
    start_needed(life.needs_of(container), roots, options)
    sys.stdout.flush()
    forked: Forked | Link = ahead.start(container.id, options, hold=hold) or fork_supervisor(attached=False)
    if isinstance(forked, Link):
        os._exit(supervise_again(container, roots, options, forked, (), hold=hold))
    if word:
        ahead.let_wait(forked, word)
    try:
        ready, code = wait_ready(forked)
        return 0 if ready is not None else code or 125
    finally:
        forked.close()


def start_needed(names: Sequence[str], roots: Roots, options: GlobalOptions) -> None:
    """Start the containers that another needs and that do not run."""
    for name in names:
        required = life.find(roots, str(name))
        if containers.status(roots, required) != "running":
            start_one(required, roots, options)


def _attached(container: Container, roots: Roots, options: GlobalOptions, parsed: Parsed) -> int:
    """Start the container and show it; one that runs already is attached to."""
    status = containers.status(roots, container)
    life.check_here(container, status)
    interactive = parsed.flag("interactive")
    tty = bool(container.data.get("tty"))
    keys = parsed.text("detach-keys", "ctrl-p,ctrl-q") if parsed.given("detach-keys") else "ctrl-p,ctrl-q"
    if status in life.ALIVE or status == "initialized":
        from rootless.cli.commands.attach import attach

        return attach(roots, container, keys=keys, stdin=interactive, sig_proxy=parsed.flag("sig-proxy", True),
                      begin=status == "initialized")  # fmt: skip
    start_needed(life.needs_of(container), roots, options)
    streams = (*(("stdin",) if interactive else ()), "stdout", "stderr")
    from rootless.cli.commands.run import follow

    forked: Forked | Link = fork_supervisor(attached=True)
    if isinstance(forked, Link):
        os._exit(supervise_again(container, roots, options, forked, streams, hold=False))
    try:
        return follow(forked, tty=tty, feed=interactive, keys=keys, forward=parsed.flag("sig-proxy", True))
    finally:
        forked.close()
