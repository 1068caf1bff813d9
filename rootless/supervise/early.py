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
    from netns.drv_private import Process
    from rootless.plan.options import PortRange, RunOptions


class Begun:
    """A guess at what a run will want, made before its options are known: the default of both.

    Owner: whoever takes a part; `close` ends the others
    """

    def __init__(self, entering: Entering | None = None, process: Process | None = None) -> None:
        self._entering = entering
        self._process = process

    def take_namespace(self, run_root: str, mode: UsernsMode) -> Entering | None:
        """Return the user namespace if it is the one that is wanted."""
        entering, self._entering = self._entering, None
        if entering is not None and (entering.mode != mode or entering.run_root != run_root):
            entering.abandon()
            return None
        return entering

    def take_network(self, config: NetConfig) -> Pending | None:
        """Return the network process, told what it is to do, if one is wanted."""
        if config.mode != "private":
            self.close()
            return None
        process, self._process = self._process, None
        if process is not None:
            process.configure(config)
        return process

    def close(self) -> None:
        """End what nobody has taken."""
        if self._process is not None:
            self._process.close()
        if self._entering is not None:
            self._entering.abandon()
        self._process = self._entering = None


class Early:
    """The beginnings of one run.

    Owner: `close` ends the network unless it was handed over; the namespace goes with this process
    """

    def __init__(
        self, options: RunOptions, run_root: str, environ: Mapping[str, str], begun: Begun | None = None
    ) -> None:
        """Begin; *begun* is what was begun before the options were known.

        Raises: UsageError, NotSupported, KernelError
        """
        begun = begun or Begun()
        mode = userns_mode(options)
        self.net, self.warnings = network(options, options.publish)
        self.pending: Pending | None = None
        self.entering = begun.take_namespace(run_root, mode) or Entering(run_root, mode, environ)
        if options.publish_all:  # the ports of the image have to be known first
            begun.close()
        else:
            self.pending = begun.take_network(self.net) or choose(self.net).prepare(self.net)

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
