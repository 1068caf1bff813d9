"""What takes a process of its own, begun before anything else: the user namespace and the network.

newuidmap needs 3 ms, the interpreter of the network process 20. Both run while the rest of the launch is imported
and prepared.
"""

from __future__ import annotations

from netns.config import NetConfig, expand, make_config
from netns.driver import choose
from rootless.errors import UsageError
from rootless.kernel.enter import Entering
from rootless.plan.userns import UsernsMode, parse_maps, parse_mode
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from netns.driver import Pending
    from rootless.plan.options import PortRange, RunOptions


class Early:
    """The beginnings of one run.

    Owner: `close` ends the network unless it was handed over; the namespace goes with this process
    """

    def __init__(
        self, options: RunOptions, run_root: str, environ: Mapping[str, str], entering: Entering | None = None
    ) -> None:
        """Begin; *entering* is a user namespace that was begun before the options were known.

        Raises: UsageError, NotSupported, KernelError
        """
        mode = userns_mode(options)
        self.net, self.warnings = network(options, options.publish)
        self.pending: Pending | None = None
        if entering is not None and (entering.mode != mode or entering.run_root != run_root):
            entering.abandon()
            entering = None
        self.entering = entering or Entering(run_root, mode, environ)
        if not options.publish_all:  # else the ports of the image have to be known first
            self.pending = choose(self.net).prepare(self.net)

    def close(self) -> None:
        """Undo; harmless once the network is up, which then has another owner."""
        if self.pending is not None:
            self.pending.close()


def userns_mode(options: RunOptions) -> UsernsMode:
    """Return what --userns says, or the maps of the caller's own. Raises: UsageError, NotSupported"""
    names = options.subuid_name, options.subgid_name
    if not (options.uid_map or options.gid_map or any(names)):
        return parse_mode(options.userns)
    return UsernsMode(
        "maps",
        uids=parse_maps(options.uid_map),
        gids=parse_maps(options.gid_map),
        named_uids=_ranges_of(names[0] or names[1], "subuid"),
        named_gids=_ranges_of(names[1] or names[0], "subgid"),
    )


def _ranges_of(name: str, kind: str) -> tuple[tuple[int, int], ...]:
    if not name:
        return ()
    from rootless.kernel.idmaps import parse_subids, read_text

    found = parse_subids(read_text(f"/etc/{kind}"), (name,))
    if not found:
        raise UsageError(f'no {kind} ranges found for user "{name}" in /etc/{kind}')
    return found


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
    config, warnings = make_config(mode, options.network.options, forwards)
    if options.mac_address:
        config = replace(config, mac=options.mac_address)
    return config, warnings
