"""`rootless unshare`: a program in the user namespace that all containers share.

Source: podman-unshare(1) of podman 4.3
"""

from __future__ import annotations

import _signal
import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import ExecNotExecutable, ExecNotFound
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="unshare",
    summary="Run a command in the user namespace of the containers",
    usage="[COMMAND [ARG...]]",
    description=(
        "Runs a command, your shell by default, as root of the user namespace of your containers, with mounts of its "
        "own. Files of subordinate ids can be changed there, and `rootless mount` works."
    ),
    flags=(
        ("rootless-netns", "", "bool", "", "", "Join the rootless network namespace",
         "each container has a network of its own"),
    ),
    examples=("unshare id", "unshare cat /proc/self/uid_map", "unshare rm -r ./files-of-a-container"),
    interspersed=False,
)  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Become the command; its exit status is ours, 126 and 127 when there is none to become."""
    parsed, options = parse(COMMAND, argv, options)
    from rootless.engine.containers import settle
    from rootless.kernel.enter import UNSHARED, enter, is_unshared
    from rootless.plan.userns import parse_mode

    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    words = list(parsed.args) or [os.environ.get("SHELL") or "/bin/sh"]
    if not is_unshared(os.environ) and not settle(roots, os.environ):
        enter(roots.run, parse_mode(""), os.environ)
    # Commands that it runs shall find the same store: there the caller has another uid.
    env = {**os.environ, "ROOTLESS_ROOT": roots.data, "ROOTLESS_RUNROOT": roots.run, "ROOTLESS_TMPDIR": roots.tmp,
           UNSHARED: str(os.stat("/proc/self/ns/user").st_ino)}  # fmt: skip
    sys.stdout.flush()
    sys.stderr.flush()
    for number in (_signal.SIGPIPE, _signal.SIGXFSZ):
        _signal.signal(number, _signal.SIG_DFL)  # ignored by the interpreter, and kept by execve(2)
    try:
        os.execve(_found(words[0]), words, env)
    except OSError as error:
        raise ExecNotExecutable(f"fork/exec {words[0]}: {(error.strerror or '').lower()}") from None


def _found(name: str) -> str:
    """Return the file that the command *name* means; directories of PATH that are closed to us hold nothing.

    Raises: ExecNotFound
    """
    if "/" in name:
        if not os.path.lexists(name):
            raise ExecNotFound(f'exec: "{name}": stat {name}: no such file or directory')
        return name
    for directory in os.environ.get("PATH", os.defpath).split(":"):
        path = f"{directory or '.'}/{name}"
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    raise ExecNotFound(f'exec: "{name}": executable file not found in $PATH')
