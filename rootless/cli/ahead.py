"""A supervisor forked before the command line is read: it imports what a launch takes while its parent reads the flags.

`run -d` and `start` fork their supervisor in any case. Forked first thing, it does its part of the imports, and begins
the user namespace, on another processor than its parent, who parses, looks for the image, and then sends one order over
the link of supervise/detach.py:

    {"run": OPTIONS, "globals": OPTIONS}
    {"start": ID, "hold": BOOL, "globals": OPTIONS}

Where the command line wants no such supervisor, it is dropped; where the parent ends without an order, so does it.

Source: docs/decisions/0019-forked-ahead.md
"""

from __future__ import annotations

import os
import posix

from rootless.supervise import packets
from rootless.supervise.detach import Forked, Link, fork_supervisor

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
    "rootless.plan.saved",
)
OTHER_NETWORK = ("--net", "--publish-all", "-P")
OTHER_NAMESPACE = ("--userns", "--uidmap", "--gidmap", "--subuidname", "--subgidname", "--root", "--runroot", "--tmpdir")
_waiting: list[Forked] = []


def begin() -> Link | None:
    """Fork; return None to the command line, and to the supervisor its link. Raises: KernelError"""
    forked = fork_supervisor(attached=False)
    if isinstance(forked, Link):
        return forked
    _move_away(forked.pid)
    _waiting.append(forked)
    return None


def _move_away(pid: int) -> None:
    """Let *pid* run on another processor than ours: a child is queued behind its parent, which will not wait soon.

    Source: sched_setaffinity(2); proc_pid_stat(5), field 39
    """
    try:
        allowed = os.sched_getaffinity(0)
        with open("/proc/self/stat", "rb") as file:
            ours = int(file.read().rpartition(b")")[2].split()[36])
        others = allowed - {ours}
        if others:
            os.sched_setaffinity(pid, others)
            os.sched_setaffinity(pid, allowed)
    except (OSError, ValueError, IndexError):
        return  # the kernel moves it when it finds the time


def drop() -> None:
    """End the supervisor that nobody will give an order, if there is one."""
    while _waiting:
        forked = _waiting.pop()
        posix.kill(forked.pid, 9)
        forked.status()
        forked.close()


def run(asked: RunOptions, options: GlobalOptions) -> Forked | None:
    """Order a new container; return its supervisor, None where there is none waiting."""
    if not _waiting:
        return None
    from rootless.plan.saved import encode

    return _order({"run": encode(asked), "globals": encode(options)})


def start(cid: str, options: GlobalOptions, *, hold: bool) -> Forked | None:
    """Order the container *cid* to be started, or with *hold* initialized; return its supervisor, or None."""
    if not _waiting:
        return None
    from rootless.plan.saved import encode

    return _order({"start": cid, "hold": hold, "globals": encode(options)})


def _order(message: dict[str, Any]) -> Forked:
    forked = _waiting.pop()
    packets.send(forked.link, message)
    return forked


def serve(link: Link, argv: list[str]) -> int:
    """Be the supervisor: get ready, take the order, carry it out; return the exit status.

    Raises: as the order's command does
    """
    begun = _begun(argv) if argv[0] == "run" else None
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
    found = containers.find(roots, message["start"])
    return supervise_again(found, roots, options, link, (), hold=bool(message["hold"]))


def _begun(argv: list[str]) -> Begun:
    """Begin the user namespace and the network that most containers want, unless other ones seem to be asked for.

    Whatever fails here fails again where it is reported.
    """
    from rootless.errors import RootlessError
    from rootless.kernel.enter import Entering
    from rootless.plan.userns import parse_mode
    from rootless.store.layout import find_roots
    from rootless.supervise.early import Begun

    process = entering = None
    try:
        if not any([word.startswith(OTHER_NETWORK) for word in argv]):
            from netns.drv_private import PrivateDriver

            process = PrivateDriver().begin()
        if not any([word.startswith(OTHER_NAMESPACE) for word in argv]):
            roots = find_roots(root="", runroot="", tmpdir="", environ=os.environ, uid=os.geteuid())
            entering = Entering(roots.run, parse_mode(""), os.environ)
    except RootlessError:
        pass
    return Begun(entering, process)
