"""A supervisor that is started beside the command line: it imports what a launch takes while the flags are read.

`run -d` and `start` have a supervisor of their own in any case. The launcher (scripts/launcher.c) starts its
interpreter at the same time as that of the command line, on another processor; it imports its part, begins the user
namespace and the network, and waits for one order over the link of supervise/detach.py:

    {"run": OPTIONS, "globals": OPTIONS}
    {"start": ID, "hold": BOOL, "globals": OPTIONS}

Where the command line wants no such supervisor, it ends it; where the command line ends without an order, so does it.
Without one (the launcher is the shell script), the command line forks.

Source: docs/decisions/0019-started-beside.md
"""

from __future__ import annotations

import fcntl
import os
import posix
import sys

from rootless import launcher
from rootless.errors import RootlessError
from rootless.kernel.fds import Fd
from rootless.supervise import packets
from rootless.supervise.detach import Forked, Link

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import GlobalOptions, RunOptions
    from rootless.supervise.early import Begun

# Imported before the order comes, in this order; each brings what it stands on.
PRELOADED = (
    "rootless.supervise.session",
    "rootless.cli.supervising",
    "rootless.supervise.logs",
    "rootless.mount.overlayfs",
    "rootless.run.cgroups.bus",
    "rootless.plan.saved",
)
WAITER = "rootless:[wait]"
OTHER_NETWORK = ("--net", "--publish-all", "-P")
OTHER_NAMESPACE = ("--userns", "--uidmap", "--gidmap", "--subuidname", "--subgidname")


def _waiting() -> Forked | None:
    """Return the supervisor that waits for an order, once."""
    if not launcher.ahead:
        return None
    number, pid = launcher.ahead
    launcher.ahead.clear()
    fcntl.fcntl(number, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return Forked(Fd(number), pid, None)


def drop() -> None:
    """End the supervisor that will get no order, if there is one."""
    forked = _waiting()
    if forked is not None:
        _end(forked)


def _end(forked: Forked) -> None:
    posix.kill(forked.pid, 9)
    forked.status()
    forked.close()


def run(asked: RunOptions, options: GlobalOptions) -> Forked | None:
    """Order a new container; return its supervisor, None where there is none waiting."""
    if not launcher.ahead:
        return None
    from rootless.plan.saved import encode

    return _order({"run": encode(asked), "globals": encode(options)})


def start(cid: str, options: GlobalOptions, *, hold: bool) -> Forked | None:
    """Order the container *cid* to be started, or with *hold* initialized; return its supervisor, or None."""
    if not launcher.ahead:
        return None
    from rootless.plan.saved import encode

    return _order({"start": cid, "hold": hold, "globals": encode(options)})


def _order(message: dict[str, Any]) -> Forked | None:
    forked = _waiting()
    if forked is None:
        return None
    try:
        packets.send(forked.link, message)
    except RootlessError:  # it could not even start: then a fork may still do
        _end(forked)
        return None
    return forked


def let_wait(forked: Forked, text: str = "") -> None:
    """Become the small program that waits for *forked* and prints *text*, or the id; return where there is none.

    It ends as the supervisor does that never gets ready. An interpreter would do the same, but takes a millisecond to
    end when everybody waits for it.
    """
    if not launcher.launched_by:
        return
    sys.stdout.flush()
    fcntl.fcntl(forked.link.fileno(), fcntl.F_SETFD, 0)
    words = [WAITER, str(forked.link.fileno()), str(forked.pid), *([text] if text else [])]
    try:
        posix.execve(launcher.launched_by[0], words, os.environ)
    except OSError:
        fcntl.fcntl(forked.link.fileno(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)


def main(argv: list[str]) -> int:
    """Be the supervisor whose link is the descriptor argv[0], for the command line argv[1:]; return the exit status."""
    try:
        return serve(Link(Fd(int(argv[0]))), argv[1:])
    except Exception as error:
        from rootless.cli.main import told

        return told(error)


def serve(link: Link, argv: list[str]) -> int:
    """Be the supervisor: get ready, take the order, carry it out; return the exit status.

    Raises: as the order's command does
    """
    fcntl.fcntl(link.fileno(), fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    begun = _begun(argv) if verb_of(argv) == "run" else None
    for name in PRELOADED:
        __import__(name)
    message = link.hear()
    if not message:
        os._exit(0)
    from rootless.cli.supervising import puller, supervise, supervise_again
    from rootless.plan.options import GlobalOptions
    from rootless.plan.saved import decode
    from rootless.store import containers
    from rootless.store.layout import find_roots

    given = dict(message["globals"])
    options = GlobalOptions(**{**given, "storage_opts": tuple(given.get("storage_opts", ()))})
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    if "run" in message:
        return supervise(decode(message["run"]), roots, options, puller(options), link, begun)
    if begun is not None:
        begun.close()
    found = containers.find(roots, message["start"])
    return supervise_again(found, roots, options, link, (), hold=bool(message["hold"]))


def verb_of(argv: list[str]) -> str:
    """Return the first word of `run` and `start`; what stands before it are flags."""
    return next((word for word in argv if word in ("run", "start")), "")


def _given(argv: list[str], flag: str) -> str:
    """Return the value of *flag*, which stands before the verb, as one word or two; "" without one."""
    for number, word in enumerate(argv):
        if word in ("run", "start"):
            break
        if word == flag:
            return argv[number + 1]
        if word.startswith(f"{flag}="):
            return word[len(flag) + 1 :]
    return ""


def _begun(argv: list[str]) -> Begun:
    """Begin the user namespace and the network that most containers want, unless other ones seem to be asked for.

    Whatever fails here fails again where it is reported.
    """
    process = entering = None
    try:
        # First what takes longest and needs least: an interpreter.
        if not any([word.startswith(OTHER_NETWORK) for word in argv]):
            from netns.drv_private import PrivateDriver

            process = PrivateDriver().begin()
        from rootless.kernel.enter import Entering
        from rootless.plan.userns import parse_mode
        from rootless.store.layout import find_roots

        if not any([word.startswith(OTHER_NAMESPACE) for word in argv]):
            roots = find_roots(root=_given(argv, "--root"), runroot=_given(argv, "--runroot"),
                               tmpdir=_given(argv, "--tmpdir"), environ=os.environ, uid=os.geteuid())  # fmt: skip
            entering = Entering(roots.run, parse_mode(""), os.environ)
    except RootlessError:
        pass
    from rootless.supervise.early import Begun

    return Begun(entering, process)
