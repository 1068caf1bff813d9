"""`rootless-fuse-overlay`: merge directories in user space, with fuse-overlayfs's command line."""

from __future__ import annotations

import sys

from fuse_overlay import options as command_line
from fuse_overlay.options import NAME
from rootless import __version__
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run the program; return its exit status."""
    try:
        options = command_line.parse(argv)
        if options.help:
            print(command_line.HELP, end="")
            return 0
        if options.version:
            print(f"{NAME}: version {__version__}")
            return 0
        for warning in options.warnings:
            print(f"{NAME}: {warning}", file=sys.stderr)
        command_line.check(options)
        if options.foreground or options.ready_fd is not None:
            from fuse_overlay.server import Server

            return Server(options).run()
        return _in_background(argv)
    except (RootlessError, RuntimeError) as error:
        print(f"{NAME}: {error}", file=sys.stderr)
        hint = getattr(error, "hint", None)
        if hint:
            print(f"{NAME}: {hint}", file=sys.stderr)
        return 1


def _in_background(argv: Sequence[str]) -> int:
    """Start ourselves again in the foreground and leave when requests are served: this process never forks."""
    from rootless import launcher
    from rootless.kernel import fds, process

    reader, writer = fds.pipe()
    words = launcher.command(NAME, "--background", "--ready-fd=3", *argv)
    pid = process.spawn(words, fds={3: writer}, setsid=True)
    writer.close()
    if fds.read_all(reader, 1):
        return 0
    return process.wait_pid(pid) or 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
