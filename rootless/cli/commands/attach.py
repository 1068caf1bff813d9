"""`rootless attach`: show a running container on our own terminal.

Source: podman-attach(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.engine import life
from rootless.errors import ContainerStateError, UsageError
from rootless.kernel.fds import pipe
from rootless.store import containers
from rootless.store.layout import find_roots
from rootless.supervise.attachment import DETACHED, Attachment, parse_keys
from rootless.supervise.client import connect

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions
    from rootless.store.containers import Container
    from rootless.store.layout import Roots

COMMAND = Command(
    name="attach",
    summary="Attach to a running container",
    usage="[options] CONTAINER",
    description="Attach to a running container: its output is shown, and what is typed is its input.",
    flags=(
        ("detach-keys", "", "string", "[a-Z]", '"ctrl-p,ctrl-q"', "Select the key sequence for detaching a container",
         ""),
        ("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),
        ("no-stdin", "", "bool", "", "", "Do not attach STDIN", ""),
        ("sig-proxy", "", "bool", "", "true", "Proxy received signals to the process", ""),
    ),
    examples=("attach ctrID", "attach 1234", "attach --no-stdin foobar"),
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Attach; the exit status is the container's, 0 when one has left by the detach keys."""
    parsed, options = parse(COMMAND, argv, options)
    if len(parsed.args) > 1 or (parsed.args and parsed.flag("latest")):
        raise UsageError("`rootless attach` accepts at most one argument")
    if not parsed.args and not parsed.flag("latest"):
        raise UsageError('"rootless attach" requires a name, id, or the "--latest" flag')
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    container = life.latest(roots) if parsed.flag("latest") else life.find(roots, parsed.args[0])
    keys = parsed.text("detach-keys", "ctrl-p,ctrl-q") if parsed.given("detach-keys") else _own_keys(container)
    return attach(roots, container, keys=keys, stdin=not parsed.flag("no-stdin"),
                  sig_proxy=parsed.flag("sig-proxy", True))  # fmt: skip


def _own_keys(container: Container) -> str:
    return str((container.data.get("options") or {}).get("detach_keys", "ctrl-p,ctrl-q"))


def attach(roots: Roots, container: Container, *, keys: str, stdin: bool, sig_proxy: bool, begin: bool = False) -> int:
    """Show the running *container*; return its exit status, 0 when one has left.

    With *begin* it is one that `init` has made, and is started once we listen.

    Blocks: until then
    Raises: ContainerStateError, UsageError for the keys
    """
    status = containers.status(roots, container)
    life.check_here(container, status)
    if status != ("initialized" if begin else "running"):
        raise ContainerStateError("you can only attach to running containers")
    try:
        wanted = parse_keys(keys)
    except UsageError as error:
        what = f"unable to start container {container.id}" if begin else f"attaching to container {container.id}"
        raise UsageError(f"{what}: {error}") from None
    tty = bool(container.data.get("tty"))
    feeds = stdin and bool(container.data.get("interactive"))
    with connect(roots, container.id) as supervisor:
        out_r, out_w = pipe()
        err_r, err_w = pipe()
        theirs = [out_w, err_w]
        feed = None
        if feeds:
            in_r, feed = pipe()
            theirs.insert(0, in_r)
        supervisor.call("attach", {"stdin": feeds, "stdout": True, "stderr": True, "close_stdin": not tty}, theirs)
        for fd in theirs:
            fd.close()
        sys.stdout.flush()
        if begin:
            with connect(roots, container.id) as starter:
                starter.call("start", {})
        attachment = Attachment(
            supervisor.sock, supervisor.hear, supervisor.say, feed=feed, outputs=[(out_r, 1), (err_r, 2)],
            keys=wanted, tty=tty, forward=sig_proxy,
        )  # fmt: skip
        code = attachment.run()
    return 0 if code == DETACHED else code
