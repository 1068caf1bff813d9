"""The user-mode TCP/IP stack: one libslirp instance with its loop, through our cffi module.

Everything here belongs to one thread. `Stack.run` leaves the GIL and comes back when one of the watched descriptors
is readable, so whoever wants something of the stack writes to a descriptor that is watched.
"""

from __future__ import annotations

from netns.addressing import choose_ipv4, choose_ipv6, parse_ip
from netns.config import PortForward
from rootless.errors import KernelError, NotSupported, RootlessError
from rootless.kernel.fds import Fd, read_file
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

    from netns.config import NetConfig

try:
    from netns._slirp import ffi, lib
except ImportError:
    ffi = lib = None

_AF = {4: 2, 16: 10}  # length of an address -> AF_INET, AF_INET6
_HINT_BUILD = "install libslirp-dev and install rootless again with its extra `net`"
_HINT_BUSY = "choose another host port, or end the process that listens there (ss -ltnup)"
_HINT_ADDRESS = "publish on an address of this machine, or without one"
_EACCES, _EADDRINUSE, _EADDRNOTAVAIL = 13, 98, 99
_PORT_START = "/proc/sys/net/ipv4/ip_unprivileged_port_start"


def is_built() -> bool:
    """Tell whether there is a stack at all."""
    return lib is not None


def require() -> None:
    """Raise NotSupported where the module was not built."""
    if lib is None:
        raise NotSupported("private network", ("the binding to libslirp was not built",), hint=_HINT_BUILD)


def slirp_version() -> str:
    """Return the version of libslirp in use. Raises: NotSupported"""
    require()
    return str(ffi.string(lib.rl_slirp_version()), "ascii")


def config_version_max() -> int:
    """Return the SLIRP_CONFIG_VERSION_MAX that we were built against. Raises: NotSupported"""
    require()
    return int(lib.rl_slirp_config_version_max())


def frame_allowed(config: NetConfig, frame: bytes) -> bool:
    """Tell whether a *frame* of the container may enter the stack (frame_filter.c). Raises: NotSupported"""
    require()
    return bool(lib.rl_frame_allowed(c_config(config), frame, len(frame)))


def restrict_system_calls() -> int:
    """Load the seccomp filter of seccomp.c; return 0 or -errno."""
    require()
    return int(lib.rl_net_seccomp())


def c_config(config: NetConfig) -> Any:
    """Return *config* as a C struct rl_net_config."""
    net4, net6 = choose_ipv4(config.cidr), choose_ipv6()
    out4, out6 = parse_ip(config.outbound_addr), parse_ip(config.outbound_addr6)
    return ffi.new(
        "struct rl_net_config *",
        {
            "mtu": config.mtu,
            "ipv6": config.ipv6,
            "dns": config.dns,
            "allow_host_loopback": config.allow_host_loopback,
            "has_outbound": out4 is not None,
            "has_outbound6": out6 is not None,
            "network": list(net4.network),
            "mask": list(net4.mask),
            "gateway": list(net4.gateway),
            "nameserver": list(net4.nameserver),
            "dhcp_start": list(net4.dhcp_start),
            "prefix6": list(net6.prefix),
            "gateway6": list(net6.gateway),
            "nameserver6": list(net6.nameserver),
            "prefix6_bits": net6.bits,
            "outbound": list(out4 or bytes(4)),
            "outbound6": list(out6 or bytes(16)),
        },
    )


class Stack:
    """One instance of the stack.

    Raises: NotSupported - our module was not built
    Owner:  close() ends all connections and published ports
    """

    def __init__(self, config: NetConfig) -> None:
        require()
        self._guest4 = choose_ipv4(config.cidr).guest
        self._guest6 = choose_ipv6().guest
        self._net = lib.rl_net_new(c_config(config))
        if self._net == ffi.NULL:
            raise RootlessError("cannot start libslirp")
        self.ports: list[PortForward] = []

    def close(self) -> None:
        """End everything; doing so twice is harmless."""
        net, self._net = self._net, ffi.NULL
        lib.rl_net_free(net)

    def forward(self, port: PortForward, guest: bytes = b"") -> PortForward:
        """Listen on the host for *port*; return it with the host port that was bound.

        Raises: RootlessError in podman's words - the port is taken, privileged, or the address is not ours
        """
        host = parse_ip(port.host_ip or "0.0.0.0") or bytes(4)
        guest = guest or (self._guest6 if len(host) == 16 else self._guest4)
        number = ffi.new("uint16_t *", port.host_port)
        udp = port.protocol == "udp"
        result = lib.rl_net_forward(self._net, udp, _AF[len(host)], host, number, guest, port.container_port)
        if result < 0:
            raise _refused(port, -result)
        bound = replace(port, host_port=int(number[0]))
        self.ports.append(bound)
        return bound

    def unforward(self, port: PortForward) -> None:
        """Stop listening for *port*, as `forward` returned it. Raises: KernelError"""
        host = parse_ip(port.host_ip or "0.0.0.0") or bytes(4)
        result = lib.rl_net_unforward(self._net, port.protocol == "udp", _AF[len(host)], host, port.host_port)
        if result < 0:
            raise KernelError("slirp_remove_hostxfwd", -result, str(port))
        self.ports.remove(port)

    def run(self, tap: Fd, watched: Sequence[Fd]) -> list[Fd]:
        """Carry frames until some of *watched* are readable, and return those; [] after a signal.

        Blocks: yes, without the GIL
        Raises: KernelError(slirp) - ENODEV: the device is gone
        """
        numbers = [fd.fileno() for fd in watched]
        ready = lib.rl_net_run(self._net, tap.fileno(), numbers, len(numbers))
        if ready < 0:
            raise KernelError("slirp", -ready)
        return [fd for at, fd in enumerate(watched) if ready >> at & 1]

    def counts(self) -> dict[str, int]:
        """Return how many frames went each way, how many were dropped at the door, and the turns of the loop."""
        counts = ffi.new("struct rl_net_counts *")
        lib.rl_net_count(self._net, counts)
        return {name: int(getattr(counts, name)) for name in ("from_guest", "to_guest", "dropped", "turns")}


def _refused(port: PortForward, errno: int) -> RootlessError:
    """Return the error for a host port that cannot be bound."""
    where = f"{port.protocol} {str(port).partition('->')[0]}"
    listen = f"listen {where}: bind"
    if errno == _EACCES:
        start = _first_unprivileged_port()
        return RootlessError(
            f"cannot expose privileged port {port.host_port}, you can add "
            f"'net.ipv4.ip_unprivileged_port_start={port.host_port}' to /etc/sysctl.conf (currently {start}), "
            f"or choose a larger port number (>= {start}): {listen}: permission denied"
        )
    if errno == _EADDRINUSE:
        return RootlessError(f"cannot publish port {port.host_port}: {listen}: address already in use", hint=_HINT_BUSY)
    if errno == _EADDRNOTAVAIL:
        message = f"cannot publish port {port.host_port}: {listen}: cannot assign requested address"
        return RootlessError(message, hint=_HINT_ADDRESS)
    return KernelError("bind", errno, where)


def _first_unprivileged_port() -> int:
    try:
        return int(read_file(_PORT_START))
    except (OSError, ValueError):
        return 1024
