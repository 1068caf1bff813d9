"""What is asked of a container's network, as values: mode, published ports, options of the private network.

Nothing here touches the machine. The words of the errors are podman 4.3's and slirp4netns's, which
scripts look for.

Source: podman-run(1) `--network`, `--publish`; slirp4netns(1)
"""

from __future__ import annotations

from netns.addressing import DEFAULT_CIDR, choose_ipv4, format_ip, parse_ip, parse_ipv4, parse_ipv6
from rootless.errors import UsageError
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

MODES = ("private", "none", "host")
TAP_NAME = "tap0"
MTU_DEFAULT = 65520
MTU_MAX = 65521
MTU_MIN = 68
MTU_MIN_IPV6 = 1280
_PORT_FORMAT = "invalid port format - format is [[hostIP:]hostPort:]containerPort"
# Names that podman knows and we do not have: each with the reason.
_REFUSED = {
    "bridge": "networks of several containers are not there yet",
    "container": "joining another container's network is not there yet",
    "ns": "joining a network namespace by its path is not there yet",
    "pod": "pods are not there yet",
    "pasta": "pasta is not supported; the private network is our own",
}


@record
class PortForward:
    """One published port. *host_port* 0: any free one; *host_ip* "": all IPv4 addresses of the host."""

    host_ip: str
    host_port: int
    container_port: int
    protocol: str = "tcp"

    def __str__(self) -> str:
        host = f"[{self.host_ip}]" if ":" in self.host_ip else self.host_ip or "0.0.0.0"
        return f"{host}:{self.host_port}->{self.container_port}/{self.protocol}"


@record
class NetConfig:
    """The network of one container.

    Shape: *mode* is private, none or host; the rest is read by private only. *outbound_addr* and
           *outbound_addr6* are the host's addresses that connections leave from, "" for the kernel's choice.
           *mac* is "" for a random one
    """

    mode: str = "private"
    ports: tuple[PortForward, ...] = ()
    cidr: str = DEFAULT_CIDR
    mtu: int = MTU_DEFAULT
    ipv6: bool = True
    dns: bool = True
    allow_host_loopback: bool = False
    outbound_addr: str = ""
    outbound_addr6: str = ""
    tap_name: str = TAP_NAME
    mac: str = ""


def parse_network(text: str, ports: Sequence[PortForward] = ()) -> tuple[NetConfig, tuple[str, ...]]:
    """Read the value of `--network`; return the configuration and warnings for the person.

    Raises: UsageError - a mode or option that does not exist or is not there yet
    """
    mode, colon, rest = text.partition(":")
    options = tuple(rest.split(",")) if colon and rest else ()
    return make_config(mode, options, ports)


def make_config(mode: str, options: Sequence[str], ports: Sequence[PortForward]) -> tuple[NetConfig, tuple[str, ...]]:
    """Return the configuration for *mode* (podman's names too) with its `key=value` *options*, and warnings.

    Raises: UsageError
    """
    if mode in ("", "default", "slirp4netns"):
        mode = "private"
    if mode in _REFUSED:
        raise UsageError(f"--network {mode}: {_REFUSED[mode]}", hint="use --network private, none or host")
    if mode not in MODES:
        raise UsageError(
            f"unable to find network with name or ID {mode}: network not found",
            hint="use --network private, none or host",
        )
    if mode != "private":
        if options:
            raise UsageError(f"invalid option for network {mode}: {options[0]}")
        lost = "Port mappings have been discarded as one of the Host, Container, Pod, and None network modes are in use"
        return NetConfig(mode=mode), ((lost,) if ports else ())
    config = NetConfig()
    for option in options:
        config = _with_option(config, option)
    if config.ipv6 and config.mtu < MTU_MIN_IPV6:
        # IPv6 does not exist on such a link (RFC 8200 section 5), and the kernel would refuse its address.
        config = replace(config, ipv6=False)
    if config.outbound_addr6 and not config.ipv6:
        raise UsageError("outbound_addr6 needs enable_ipv6=true and an mtu of at least 1280")
    return replace(config, ports=tuple(check_ports(ports))), ()


def _with_option(config: NetConfig, option: str) -> NetConfig:
    key, equals, value = option.partition("=")
    if not equals:
        raise UsageError(f'unknown option for slirp4netns: "{option}"')
    if key == "cidr":
        if parse_ipv4(value.partition("/")[0]) is None or "/" not in value:
            raise UsageError(f'invalid cidr "{value}"', hint="write a network like 10.0.2.0/24")
        choose_ipv4(value)
        return replace(config, cidr=value)
    if key == "mtu":
        return replace(config, mtu=parse_mtu(value))
    if key == "port_handler":
        # Both handlers of podman are the same here: published ports keep the client's address, as its slirp4netns does.
        if value not in ("slirp4netns", "rootlesskit"):
            raise UsageError(f'unknown port_handler for slirp4netns: "{value}"')
        return config
    if key in ("allow_host_loopback", "enable_ipv6"):
        if value not in ("true", "false"):
            raise UsageError(f'invalid value of {key} for slirp4netns: "{value}"', hint="write true or false")
        yes = value == "true"
        return replace(config, allow_host_loopback=yes) if key == "allow_host_loopback" else replace(config, ipv6=yes)
    if key in ("outbound_addr", "outbound_addr6"):
        parsed = parse_ipv4(value) if key == "outbound_addr" else parse_ipv6(value)
        if parsed is None:
            raise UsageError(
                f'invalid {key} "{value}"', hint="give an address of this machine; interfaces are not supported"
            )
        text = format_ip(parsed)
        return replace(config, outbound_addr=text) if key == "outbound_addr" else replace(config, outbound_addr6=text)
    raise UsageError(f'unknown option for slirp4netns: "{option}"')


def parse_mtu(text: str) -> int:
    """Return the MTU. Raises: UsageError"""
    if not text or len(text) > 6 or text.strip("0123456789"):
        raise UsageError(f'invalid mtu "{text}"')
    mtu = int(text)
    if not MTU_MIN <= mtu <= MTU_MAX:
        raise UsageError(f'invalid mtu "{text}": MTU must be a positive integer (< {MTU_MAX + 1})', hint="at least 68")
    return mtu


def parse_publish(text: str) -> tuple[PortForward, ...]:
    """Read one `-p`: [[hostIP:]hostPort:]containerPort[/protocol], ports may be ranges, IPv6 stands in brackets.

    Raises: UsageError in podman's words
    """
    body, slash, protocol = text.partition("/")
    if slash and "/" in protocol:
        raise UsageError(_PORT_FORMAT)
    host_ip, ports = "", body
    if body.startswith("["):
        host_ip, bracket, ports = body[1:].partition("]")
        if not bracket or not ports.startswith(":") or parse_ipv6(host_ip) is None:
            raise UsageError(f'cannot parse "{host_ip}" as an IP address')
        ports = ports[1:]
        words = ports.split(":")
        if len(words) > 2:
            raise UsageError(_PORT_FORMAT)
    else:
        words = ports.split(":")
        if len(words) == 3:
            host_ip = words.pop(0)
            if host_ip and parse_ipv4(host_ip) is None:
                raise UsageError(f'cannot parse "{host_ip}" as an IP address')
        elif len(words) > 3:
            raise UsageError(_PORT_FORMAT)
    container = words[-1]
    host = words[0] if len(words) == 2 else ""
    if not container:
        raise UsageError("must provide a non-empty container port to publish")
    first, length = _port_range(container, "container")
    host_first = 0
    if host:
        host_first, host_length = _port_range(host, "host")
        if host_length != length:
            raise UsageError(f"host and container port ranges have different lengths: {host_length} vs {length}")
    return expand(host_ip, host_first, first, length, protocol or "tcp")


def expand(
    host_ip: str, host_port: int, container_port: int, length: int = 1, protocol: str = "tcp"
) -> tuple[PortForward, ...]:
    """Return *length* forwards in a row (`plan.options.PortRange` has the same fields).

    Raises: UsageError - a protocol that cannot be forwarded
    """
    protocols = protocol.lower().split(",")
    for name in protocols:
        if name == "sctp":
            raise UsageError("cannot publish an sctp port: the private network carries tcp and udp")
        if name not in ("tcp", "udp"):
            raise UsageError(f'unrecognized protocol "{name}" in port mapping')
    return tuple(
        PortForward(host_ip, host_port + i if host_port else 0, container_port + i, name)
        for name in protocols
        for i in range(length)
    )


def _port_range(text: str, what: str) -> tuple[int, int]:
    """Return the first port and how many there are."""
    low, dash, high = text.partition("-")
    first = _port(low, what)
    if not dash:
        return first, 1
    last = _port(high, what)
    if last <= first:
        raise UsageError(
            f"parsing {what} port: the end port of a range must be higher than the start port"
            f" - {last} is not higher than {first}"
        )
    return first, last - first + 1


def _port(text: str, what: str) -> int:
    if not text or text.strip("0123456789") or len(text) > 9:
        raise UsageError(f'parsing {what} port: invalid port number: "{text}"')
    number = int(text)
    if not 1 <= number <= 65535:
        raise UsageError(f"parsing {what} port: port numbers must be between 1 and 65535 (inclusive), got {number}")
    return number


def check_ports(ports: Sequence[PortForward]) -> list[PortForward]:
    """Return *ports* without repetitions.

    Raises: UsageError - two container ports want one port of the host
    """
    taken: dict[tuple[str, int], list[PortForward]] = {}
    kept: list[PortForward] = []
    for port in ports:
        if port.host_ip and parse_ip(port.host_ip) is None:
            raise UsageError(f'cannot parse "{port.host_ip}" as an IP address')
        if port in kept:
            continue
        if port.host_port:
            rivals = taken.setdefault((port.protocol, port.host_port), [])
            for other in rivals:
                if _overlap(port.host_ip, other.host_ip):
                    raise UsageError(
                        f"conflicting port mappings for host port {port.host_port} (protocol {port.protocol}): "
                        f"container ports {other.container_port} and {port.container_port}",
                        hint="publish each host port once",
                    )
            rivals.append(port)
        kept.append(port)
    return kept


def _overlap(one: str, other: str) -> bool:
    """Tell whether two listeners on one port would meet. IPv6 listeners are IPv6 only."""
    a, b = parse_ip(one or "0.0.0.0"), parse_ip(other or "0.0.0.0")
    if a is None or b is None or len(a) != len(b):
        return False
    return a == b or not any(a) or not any(b)
