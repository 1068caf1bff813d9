"""`rootless update`: change the limits of a container, now and for its next starts.

Source: podman-update(1) of podman 4.3; --pids-limit and --restart as docker has them
"""

from __future__ import annotations

import os
import sys

from rootless.cli.flags_limits import limits
from rootless.cli.parser import Command, parse, without_effect
from rootless.cli.table_run import LIMIT_FLAGS, RUN_FLAGS
from rootless.engine import life
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

_NOT_LATER = ("cgroup-conf", "oom-kill-disable")
COMMAND = Command(
    name="update",
    summary="Update the resource limits of a container",
    usage="[options] CONTAINER",
    description="Updates the cgroup configuration of a given container",
    flags=(
        *[row for row in RUN_FLAGS if row[0] in LIMIT_FLAGS and row[0] not in _NOT_LATER],
        ("restart", "", "string", "", "", "When to start it again (no|on-failure[:N]|always|unless-stopped)", ""),
    ),
    examples=("update --cpus=5 foobar_container", "update --memory 512m web"),
    min_args=1,
    max_args=1,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Change the limits; print the container's id."""
    from rootless.cli.main import warn
    from rootless.engine.updating import update

    parsed, options = parse(COMMAND, argv, options)
    wanted = limits(parsed)
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    restart = None
    if parsed.given("restart"):
        from rootless.cli.flags_life import restart_policy

        restart = restart_policy(parsed.text("restart"))
    container = life.find(roots, parsed.args[0])
    for text in (*without_effect(COMMAND, parsed), *update(roots, container, wanted, restart)):
        warn(text)
    sys.stdout.write(container.id + "\n")
    return 0
