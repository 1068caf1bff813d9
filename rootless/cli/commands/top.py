"""`rootless top`: the running processes of a container.

Source: podman-top(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.cli.output import align
from rootless.cli.parser import Command, parse
from rootless.engine import listing
from rootless.errors import ContainerStateError, NotFound, UsageError
from rootless.store.layout import find_roots

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.options import GlobalOptions

COMMAND = Command(
    name="top",
    summary="Display the running processes of a container",
    usage="CONTAINER [FORMAT-DESCRIPTORS|ARGS...]",
    description=(
        "Display the running processes of a container.\n\n"
        "The format descriptors are those of ps(1) on AIX, and some of containers. With other words, as -eo, ps(1) is\n"
        "executed inside the container.\n\n"
        "Format descriptors:\n"
        "  args,capamb,capbnd,capeff,capinh,capprm,comm,etime,group,groups,hgroup,hgroups,hpid,huser,label,nice,pcpu,\n"
        "  pgid,pid,ppid,rgroup,rss,ruser,seccomp,state,stime,time,tty,user,vsz"
    ),
    flags=(("latest", "l", "bool", "", "", "Act on the latest container rootless is aware of", ""),),
    examples=("top ctrID", "top --latest", "top ctrID pid seccomp args %C", "top ctrID -eo user,pid,comm"),
    interspersed=False,
)


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print a table with a row for each process."""
    parsed, options = parse(COMMAND, argv, options)
    words = list(parsed.args)
    if not words and not parsed.flag("latest"):
        raise UsageError("you must provide the name or id of a running container")
    roots = find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )
    if parsed.flag("latest"):
        one = listing.latest(roots)
    else:
        try:
            one = listing.find(roots, words.pop(0))
        except NotFound as error:
            error.message = f"unable to look up requested container: {error.message}"
            raise
    if one.status not in ("running", "paused", "stopping") or not one.pid:
        raise ContainerStateError("top can only be used on running containers")
    from rootless.engine.top import descriptors_of, table

    descriptors = descriptors_of(words)
    if descriptors is None:
        from rootless.cli.commands import exec as tenant

        return tenant.main([one.id, "ps", *words], options)
    sys.stdout.write(align(table(one.pid, descriptors)))
    return 0
