"""`rootless-netstack`: the network process of a container, and the same for a namespace given on the command line."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_SUPERVISED = "--supervised="


def main(argv: Sequence[str]) -> int:
    """Run the program with the words after its name; return its exit status."""
    if len(argv) == 1 and argv[0].startswith(_SUPERVISED):
        from netns.server import serve
        from rootless.kernel.fds import Fd

        return serve(Fd(int(argv[0][len(_SUPERVISED) :])))
    from netns.cmd_slirp4netns import main as command

    return command(argv)


if __name__ == "__main__":
    import sys

    sys.exit(main(sys.argv[1:]))
