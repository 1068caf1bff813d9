"""resolv.conf and hosts: what podman 4.3 writes (the first cases were copied from its containers)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns.config import NetConfig
from netns.resolv import DnsOptions, Resolver, hosts_file, parse_hosts, parse_resolv_conf, resolv_conf, uses_stub
from rootless.errors import UsageError

HOST = "# made by somebody\nsearch example.net\nnameserver 10.255.255.53\nnameserver 127.0.0.1\noptions edns0\n"
STUB = "nameserver 127.0.0.53\noptions edns0 trust-ad\nsearch lan\n"
BEHIND = "nameserver 192.0.2.1\nnameserver 2001:db8::53\nnameserver fe80::1%2\nsearch lan\n"
PRIVATE, NONE, OWN = NetConfig(), NetConfig(mode="none"), NetConfig(mode="host")


@pytest.mark.parametrize(
    ("net", "dns", "host", "text"),
    (
        (PRIVATE, DnsOptions(), "nameserver 10.255.255.53\n", "nameserver 10.0.2.3\nnameserver 10.255.255.53\n"),
        (
            PRIVATE,
            DnsOptions(),
            HOST,
            "search example.net\nnameserver 10.0.2.3\nnameserver 10.255.255.53\noptions edns0\n",
        ),
        (NetConfig(cidr="10.9.0.0/24"), DnsOptions(), "", "nameserver 10.9.0.3\n"),
        (NetConfig(dns=False), DnsOptions(), "nameserver 192.0.2.1\n", "nameserver 192.0.2.1\n"),
        (NONE, DnsOptions(), HOST, ""),
        (OWN, DnsOptions(), HOST, HOST.partition("\n")[2]),
        (OWN, DnsOptions(), STUB, "search lan\nnameserver 127.0.0.53\noptions edns0 trust-ad\n"),
        (PRIVATE, DnsOptions(search=(".",)), HOST, "nameserver 10.0.2.3\nnameserver 10.255.255.53\noptions edns0\n"),
        (PRIVATE, DnsOptions(options=("ndots:3",)), "", "nameserver 10.0.2.3\noptions ndots:3\n"),
        (
            PRIVATE,
            DnsOptions(("9.9.9.9",), ("example.org",), ("ndots:3",)),
            HOST,
            "search example.org\nnameserver 9.9.9.9\noptions ndots:3\n",
        ),
        (PRIVATE, DnsOptions(("none",)), HOST, None),
    ),
)
def test_resolv_conf(net: NetConfig, dns: DnsOptions, host: str, text: str | None) -> None:
    assert resolv_conf(net, dns, host) == text


def test_servers_behind_the_stub() -> None:
    """systemd-resolved's stub cannot be reached from inside: its servers stand instead, link-local ones left out."""
    text = resolv_conf(PRIVATE, DnsOptions(), STUB, BEHIND)
    assert text == "search lan\nnameserver 10.0.2.3\nnameserver 192.0.2.1\nnameserver 2001:db8::53\n"
    without = resolv_conf(NetConfig(ipv6=False), DnsOptions(), STUB, BEHIND)
    assert without == "search lan\nnameserver 10.0.2.3\nnameserver 192.0.2.1\n"


@pytest.mark.parametrize(("text", "expected"), ((STUB, True), (HOST, False), ("", False), (STUB + BEHIND, False)))
def test_uses_stub(text: str, expected: bool) -> None:
    assert uses_stub(text) is expected


@given(st.text())
def test_any_text_is_read(text: str) -> None:
    parsed = parse_resolv_conf(text)
    again = "".join(f"nameserver {server}\n" for server in parsed.nameservers)
    assert parse_resolv_conf(again).nameservers == parsed.nameservers
    parse_hosts(text)


def test_last_search_counts_and_options_add_up() -> None:
    text = "search a b\ndomain c\noptions x\noptions y\n;nameserver 192.0.2.9\nnameserver nonsense\nnameserver\n"
    assert parse_resolv_conf(text) == Resolver((), ("c",), ("x", "y"))


@pytest.mark.parametrize(
    ("servers", "mode", "words"),
    (
        (("foo",), "private", "foo is not an ip address"),
        (("none", "9.9.9.9"), "private", "--dns none"),
        (("9.9.9.9",), "none", "conflicting options: dns and the network mode: none"),
    ),
)
def test_dns_refused(servers: tuple[str, ...], mode: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        resolv_conf(NetConfig(mode=mode), DnsOptions(servers), "")


BASE = "127.0.0.1 localhost\n127.0.0.1   machine machine.example # its names\n# nothing\n::1\n"


@pytest.mark.parametrize(
    ("net", "last"),
    (
        (PRIVATE, "10.0.2.100\tid name\n"),
        (NetConfig(cidr="10.9.0.0/24"), "10.9.0.100\tid name\n"),
        (NONE, "127.0.0.1\tid name\n"),
        (OWN, ""),
    ),
)
def test_hosts(net: NetConfig, last: str) -> None:
    text = hosts_file(net, BASE, names=("id", "name"), host_address="192.0.2.2")
    assert text == (
        "127.0.0.1\tlocalhost\n127.0.0.1\tmachine machine.example\n192.0.2.2\thost.containers.internal\n" + last
    )


def test_added_hosts_stand_first() -> None:
    add = (("foo", "1.2.3.4"), ("foo", "1.2.3.5"), ("a", "::1"), ("b", "[::2]"), ("gate", "host-gateway"))
    lines = hosts_file(PRIVATE, BASE, add=add, names=("hhh",), host_address="192.0.2.2").splitlines()
    assert lines[:5] == ["1.2.3.4\tfoo", "1.2.3.5\tfoo", "::1\ta", "::2\tb", "192.0.2.2\tgate"]
    assert lines[-1] == "10.0.2.100\thhh"


def test_a_name_is_not_given_twice() -> None:
    """Somebody who names the container, or the host, himself is right."""
    add = (("hhh", "1.2.3.4"), ("host.containers.internal", "1.2.3.5"))
    text = hosts_file(PRIVATE, BASE, add=add, names=("hhh", "hhh", "nnn"), host_address="192.0.2.2")
    assert text.count("hhh") == 1 and "192.0.2.2" not in text
    assert text.endswith("10.0.2.100\tnnn\n")


def test_localhost_is_always_there() -> None:
    assert hosts_file(PRIVATE, "", names=("id",)) == "127.0.0.1\tlocalhost\n::1\tlocalhost\n10.0.2.100\tid\n"


@pytest.mark.parametrize(
    ("add", "words"),
    (
        (("", "1.2.3.4"), 'bad format for add-host: ":1.2.3.4"'),
        (("foo", ""), 'bad format for add-host: "foo:"'),
        (("foo", "bar"), 'invalid IP address in add-host: "bar"'),
        (("foo", "host-gateway"), "host-gateway in add-host"),
    ),
)
def test_add_host_refused(add: tuple[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        hosts_file(PRIVATE, "", add=(add,))
