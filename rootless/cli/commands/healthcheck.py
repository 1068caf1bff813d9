"""`rootless healthcheck run`: ask a container's supervisor for one check now.

Source: podman-healthcheck-run(1) of podman 4.3: exit 0 healthy, 1 unhealthy, 125 when it could not be run
"""

from __future__ import annotations

import os
import sys

from rootless.cli.parser import Command, parse
from rootless.errors import ContainerStateError, NotFound, RootlessError, UsageError
from rootless.store import containers
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

EXIT_UNHEALTHY = 1

COMMAND = Command(
    name="healthcheck run",
    summary="Run the health check of a container",
    usage="CONTAINER",
    description="Runs the health check of a container now, and says how it went.",
    examples=("healthcheck run mywebapp",),
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Run one check. Blocks: until it is over"""
    parsed, options = parse(COMMAND, argv, options)
    if len(parsed.args) != 1:
        raise UsageError(f"accepts 1 arg(s), received {len(parsed.args)}")
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    name = parsed.args[0]
    try:
        container = containers.find(roots, name)
    except NotFound:
        raise RootlessError(
            f'unable to look up {name} to perform a health check: no container with name or ID "{name}" found: '
            "no such container"
        ) from None
    if containers.status(roots, container) != "running":
        raise ContainerStateError(f"container {container.id} is not running")
    from rootless.supervise.client import connect

    with connect(roots, container.id) as supervisor:
        reply, _ = supervisor.call("health", {})
    status = str(reply.get("status"))
    if status == "healthy":
        return 0
    sys.stdout.write(f"{status}\n")
    return EXIT_UNHEALTHY
