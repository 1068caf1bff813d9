"""What takes a process of its own, begun before anything else: the user namespace and the network.

newuidmap needs 3 ms, the interpreter of the network process 20. Both run while the rest of the launch is imported
and prepared.
"""

from __future__ import annotations

from netns.config import NetConfig, expand, make_config
from netns.driver import choose
from rootless.kernel.enter import Entering
from rootless.plan.userns import parse_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from netns.driver import Pending
    from rootless.plan.options import PortRange, RunOptions


class Early:
    """The beginnings of one run.

    Owner: `close` ends the network unless it was handed over; the namespace goes with this process
    """

    def __init__(self, options: RunOptions, run_root: str, environ: Mapping[str, str]) -> None:
        """Begin. Raises: UsageError, NotSupported, KernelError"""
        mode = parse_mode(options.userns)
        self.net, self.warnings = network(options, options.publish)
        self.pending: Pending | None = None
        self.entering = Entering(run_root, mode, environ)
        if not options.publish_all:  # else the ports of the image have to be known first
            self.pending = choose(self.net).prepare(self.net)

    def close(self) -> None:
        """Undo; harmless once the network is up, which then has another owner."""
        if self.pending is not None:
            self.pending.close()


def network(options: RunOptions, publish: tuple[PortRange, ...]) -> tuple[NetConfig, tuple[str, ...]]:
    """Return the network that *options* ask for, with the ports *publish*, and warnings.

    Raises: UsageError
    """
    forwards = tuple([
        forward
        for port in publish
        for forward in expand(port.host_ip, port.host_port, port.container_port, port.length, port.protocol)
    ])  # fmt: skip
    mode = options.network.mode
    if mode.startswith(("container:", "ns:")):
        # the namespace of another has its network already; ports are that one's to publish
        mode = "none"
    return make_config(mode, options.network.options, forwards)
