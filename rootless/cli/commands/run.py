"""`rootless run`: a command in a new container.

Source: podman-run(1) of podman 4.3
"""

from __future__ import annotations

import os
import select
import sys

from rootless.cli import ahead
from rootless.cli.flags_run import run_options
from rootless.cli.parser import parse
from rootless.cli.supervising import global_words, puller, supervise
from rootless.cli.table_run import COMMAND
from rootless.errors import UsageError
from rootless.plan.namespaces import modes_of, needs
from rootless.plan.options import GlobalOptions, RunOptions
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Parsed
    from rootless.store.layout import Roots
    from rootless.supervise.detach import Forked

__all__ = ["COMMAND", "main"]

GONE_SECONDS = 2.0


def main(argv: list[str], options: GlobalOptions) -> int:
    """Run the container; the exit status is its command's, or 125, 126, 127."""
    from rootless.store.layout import find_roots

    parsed, options = parse(COMMAND, argv, options)
    asked = asked_options(parsed, options)
    for number in range(3, 3 + asked.preserve_fds):
        try:
            os.fstat(number)
        except OSError:
            raise UsageError(
                f"file descriptor {number} is not available - the preserve-fds option requires that file "
                "descriptors must be passed"
            ) from None
    roots = find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                       uid=os.geteuid())  # fmt: skip
    asked = with_others(asked, roots)
    needed = needs(asked.requires, [mode for _, mode in modes_of(asked)])
    if needed:
        from rootless.cli.commands.start import start_needed

        start_needed(needed, roots, options)
    if asked.tty and asked.interactive and not os.isatty(0):
        from rootless.cli.main import warn

        warn("The input device is not a TTY. The --tty and --interactive flags might not work properly")
    if asked.name and asked.replace:
        from rootless.cli.commands.create import replace_named

        replace_named(roots, asked.name, global_words(options))
    pull = puller(options)
    on_terminal = asked.tty and asked.interactive and asked.attach is None and os.isatty(0)
    if not asked.detach and not on_terminal:
        ahead.drop()
        return supervise(asked, roots, options, pull)
    return _forked(asked, roots, options, pull)


def with_others(asked: RunOptions, roots: Roots) -> RunOptions:
    """Return *asked* with the ids of the containers that it names. Raises: UsageError - one is not there"""
    if not needs(asked.requires, [mode for _, mode in modes_of(asked)]):
        return asked
    from rootless.supervise import joining

    return joining.by_id(asked, roots)


def asked_options(parsed: Parsed, options: GlobalOptions) -> RunOptions:
    """Return what the flags of run or create ask for. Raises: UsageError"""
    from rootless.cli import conf

    def run_root() -> str:
        from rootless.store.layout import find_roots

        return find_roots(root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ,
                          uid=os.geteuid()).run  # fmt: skip

    found = conf.read(os.environ, run_root)
    fields = conf.apply(parsed, found) if found else {}
    asked = run_options(parsed, options, os.environ, os.getcwd(), _read_text)
    if fields.get("cgroup_manager") and options.cgroup_manager:
        del fields["cgroup_manager"]
    if fields:
        asked = replace(asked, **fields)
    if asked.devices:
        from rootless.mount.hostparts import expand_devices

        asked = replace(asked, devices=expand_devices(asked.devices))
    return asked


def _forked(asked: RunOptions, roots: Roots, options: GlobalOptions, pull: puller) -> int:
    """Fork the supervisor: what is pulled is pulled before, by us, who can be interrupted."""
    from rootless.cli.main import warn
    from rootless.supervise.detach import Link, fork_supervisor

    if not asked.rootfs:
        from rootless.store.images import lookup

        if (
            asked.pull in ("always", "newer")
            or asked.platform
            or asked.arch
            or asked.os
            or asked.variant
            or not lookup(roots, asked.image)
        ):
            from rootless.supervise.creation import find_image

            find_image(asked, roots, pull, warn)
            asked = replace(asked, pull="missing")
    if asked.detach and os.path.isdir("/run/systemd/system"):
        from rootless.engine.linger import warning

        text = warning(os.environ, roots.run)
        if text:
            warn(text)
    sys.stdout.flush()
    forked = ahead.run(asked, options) if asked.detach else None
    if forked is not None:
        ahead.let_wait(forked)
    else:
        ahead.drop()
        split = fork_supervisor(attached=not asked.detach)
        if isinstance(split, Link):
            return supervise(asked, roots, options, pull, split)
        forked = split
    try:
        return _detached(forked) if asked.detach else follow(forked, tty=True, feed=True, keys=asked.detach_keys)
    finally:
        forked.close()


def _detached(forked: Forked) -> int:
    from rootless.supervise.detach import wait_ready

    ready, status = wait_ready(forked)
    if ready is None:
        return status or 125
    sys.stdout.write(f"{ready['ready']}\n")
    return 0


def follow(forked: Forked, *, tty: bool, feed: bool, keys: str, forward: bool = True) -> int:
    """Be the terminal of a container that the forked supervisor runs; return its exit status, 0 when one has left."""
    from rootless.supervise import packets
    from rootless.supervise.attachment import DETACHED, Attachment, parse_keys

    assert forked.ends is not None
    stdin, stdout, stderr = forked.ends

    def hear() -> dict[str, object] | None:
        message, fds = packets.receive(forked.link)
        for fd in fds:
            fd.close()
        return message

    if not feed:
        stdin.close()
    attachment = Attachment(
        forked.link, hear, lambda message: packets.send(forked.link, message),
        feed=stdin if feed else None, outputs=[(stdout, 1), (stderr, 2)], keys=parse_keys(keys), tty=tty,
        forward=forward,
    )  # fmt: skip
    status = attachment.run()
    if status == DETACHED:
        return 0
    if attachment.exit is None:
        return forked.status()
    # What the container leaves is put away in a moment; whoever looks after us finds nothing.
    if select.select([forked.link.fileno()], [], [], GONE_SECONDS)[0]:
        hear()
    return status


def _read_text(path: str) -> str:
    with open(path, encoding="utf-8", errors="surrogateescape") as file:
        return file.read()
