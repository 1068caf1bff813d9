"""The texts of a container's /etc/resolv.conf and /etc/hosts, from the host's texts and what was asked for.

Pure. What is in them follows podman 4.3: the private network's own name server stands first, then the
host's that can be reached from inside; entries of --add-host stand before those of the host's /etc/hosts.

Source: resolv.conf(5), hosts(5); podman-run(1) `--dns`, `--add-host`; systemd-resolved.service(8) "/etc/resolv.conf"
"""

from __future__ import annotations

from netns.addressing import choose_ipv4, format_ip, is_loopback, parse_ip
from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from netns.config import NetConfig

HOST_NAME = "host.containers.internal"
HOST_GATEWAY = "host-gateway"
STUB = "127.0.0.53"
# Where systemd-resolved writes the servers behind its stub.
RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"


@record
class Resolver:
    """What a resolv.conf says."""

    nameservers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


@record
class DnsOptions:
    """`--dns` ("none": no resolv.conf at all), `--dns-search` (".": no search list), `--dns-option`."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse_resolv_conf(text: str) -> Resolver:
    """Read a resolv.conf: servers and options add up, of `search` and `domain` the last one counts."""
    servers: list[str] = []
    options: list[str] = []
    search: tuple[str, ...] = ()
    for line in text.splitlines():
        if line[:1] in ("#", ";"):
            continue
        words = line.split()
        if len(words) < 2:
            continue
        key = words[0]
        if key == "nameserver":
            if parse_ip(words[1].partition("%")[0]) is not None:
                servers.append(words[1])
        elif key in ("search", "domain"):
            search = tuple(words[1:]) if key == "search" else (words[1],)
        elif key == "options":
            options += words[1:]
    return Resolver(tuple(servers), search, tuple(options))


def uses_stub(text: str) -> bool:
    """Tell whether systemd-resolved's stub is the only server, so that RESOLVED_CONF has the real ones."""
    return set(parse_resolv_conf(text).nameservers) == {STUB}


def check_dns(servers: Sequence[str], mode: str = "private") -> None:
    """Check the values of --dns. Raises: UsageError in podman's words"""
    for server in servers:
        if server != "none" and parse_ip(server) is None:
            raise UsageError(f"{server} is not an ip address")
    if "none" in servers and len(servers) > 1:
        raise UsageError("--dns none cannot stand beside other servers")
    if servers and mode == "none":
        raise UsageError("conflicting options: dns and the network mode: none")


def resolv_conf(net: NetConfig, dns: DnsOptions, host: str, behind_stub: str = "") -> str | None:
    """Return the container's resolv.conf, or None where none shall be written.

    Shape: *host* is the text of the host's /etc/resolv.conf, *behind_stub* that of RESOLVED_CONF ("" where there is
           none). Without a network there is nobody to ask: the servers are left out
    Raises: UsageError - see check_dns
    """
    check_dns(dns.servers, net.mode)
    if dns.servers == ("none",):
        return None
    outer = parse_resolv_conf(host)
    if net.mode != "host" and behind_stub and uses_stub(host):
        # The stub answers on the host's loopback only. Its own file names the servers that it asks.
        outer = parse_resolv_conf(behind_stub)
    servers: list[str] = list(dns.servers)
    if not servers and net.mode == "host":
        servers = list(outer.nameservers)
    elif not servers and net.mode == "private":
        if net.dns:
            servers.append(format_ip(choose_ipv4(net.cidr).nameserver))
        servers += [s for s in outer.nameservers if _reachable(s, net)]
    search = dns.search or outer.search
    if net.mode == "none":
        search = dns.search
    if search == (".",):
        search = ()
    options = dns.options or (() if net.mode == "none" else outer.options)
    lines = [f"search {' '.join(search)}\n"] if search else []
    lines += [f"nameserver {server}\n" for server in servers]
    lines += [f"options {' '.join(options)}\n"] if options else []
    return "".join(lines)


def _reachable(server: str, net: NetConfig) -> bool:
    """Tell whether the host's *server* can be asked from inside: no loopback, no zone, no IPv6 without it."""
    return not is_loopback(server) and "%" not in server and (net.ipv6 or ":" not in server)


def check_add_hosts(hosts: Sequence[tuple[str, str]]) -> None:
    """Check (name, address) pairs of --add-host. Raises: UsageError in podman's words"""
    for name, address in hosts:
        if not name or not address:
            raise UsageError(f'bad format for add-host: "{name}:{address}"', hint="write --add-host NAME:ADDRESS")
        if address != HOST_GATEWAY and parse_ip(address.strip("[]")) is None:
            raise UsageError(f'invalid IP address in add-host: "{address}"')


def hosts_file(
    net: NetConfig,
    base: str,
    *,
    add: Sequence[tuple[str, str]] = (),
    names: Sequence[str] = (),
    host_address: str = "",
) -> str:
    """Return the container's /etc/hosts.

    Shape: *base* is the text of the host's /etc/hosts; *add* pairs of --add-host; *names* the container's hostname
           and name; *host_address* the address under which the host is reached, "" where it is not known.
           A name that stands already is not given a second address
    Raises: UsageError - see check_add_hosts; host-gateway where no address of the host is known
    """
    check_add_hosts(add)
    entries: list[tuple[str, list[str]]] = []
    for name, address in add:
        if address == HOST_GATEWAY:
            if not host_address:
                raise UsageError(
                    f'host-gateway in add-host "{name}": the host has no address that the container could reach',
                    hint="give the address itself: --add-host NAME:ADDRESS",
                )
            address = host_address
        entries.append((address.strip("[]"), [name]))
    entries += parse_hosts(base)
    known = {name for _, given in entries for name in given}
    offered: list[tuple[str, Sequence[str]]] = []
    if "localhost" not in known:
        entries.append(("127.0.0.1", ["localhost"]))
        entries.append(("::1", ["localhost"]))
    if host_address:
        offered.append((host_address, (HOST_NAME,)))
    own = own_address(net)
    if own:
        offered.append((own, tuple(names)))
    for address, wanted in offered:
        fresh = [name for name in wanted if name and name not in known]
        if fresh:
            entries.append((address, list(dict.fromkeys(fresh))))
            known.update(fresh)
    return "".join(f"{address}\t{' '.join(given)}\n" for address, given in entries)


def own_address(net: NetConfig) -> str:
    """Return the address of the container's own name: none of its own where it shares the host's network."""
    if net.mode == "private":
        return format_ip(choose_ipv4(net.cidr).guest)
    return "127.0.0.1" if net.mode == "none" else ""


def parse_hosts(text: str) -> list[tuple[str, list[str]]]:
    """Read a hosts file; comments and lines without a name are left out."""
    entries = []
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if len(words) > 1:
            entries.append((words[0], words[1:]))
    return entries
