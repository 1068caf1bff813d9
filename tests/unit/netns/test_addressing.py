"""Addresses: the same answers as the standard library's, and the choice of slirp4netns."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netns.addressing import choose_ipv4, choose_ipv6, format_ip, is_loopback, parse_ip, parse_ipv4, parse_ipv6
from rootless.errors import UsageError

ADDRESSISH = st.text("0123456789abcdef:.", max_size=24)


def stdlib(text: str) -> bytes | None:
    try:
        return ipaddress.ip_address(text).packed
    except ValueError:
        return None


@given(ADDRESSISH | st.ip_addresses().map(str))
def test_parse_as_the_standard_library(text: str) -> None:
    assert parse_ip(text) == stdlib(text)


@given(st.ip_addresses())
def test_format_and_parse_are_inverse(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert parse_ip(format_ip(address.packed)) == address.packed


@given(st.ip_addresses(v=6))
def test_format_ipv6_as_the_standard_library(address: ipaddress.IPv6Address) -> None:
    if address.ipv4_mapped is None:
        assert format_ip(address.packed) == str(address)


@pytest.mark.parametrize("text", ("1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "1.2.3.", "::1", "1.2.3.-4", ""))
def test_not_ipv4(text: str) -> None:
    assert parse_ipv4(text) is None


@pytest.mark.parametrize(
    "text", ("1", ":", ":::", "1::2::3", "::1%eth0", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "12345::", "::1.2.3", ":1::")
)
def test_not_ipv6(text: str) -> None:
    assert parse_ipv6(text) is None


def test_mapped_address_keeps_its_dots() -> None:
    assert format_ip(bytes(10) + b"\xff\xff\x7f\0\0\1") == "::ffff:127.0.0.1"


def test_choice_of_slirp4netns() -> None:
    """10.0.2.0/24: .2 gateway, .3 name server, .15 DHCP, .100 the container."""
    net = choose_ipv4()
    chosen = [net.network, net.gateway, net.nameserver, net.dhcp_start, net.guest, net.broadcast, net.mask]
    assert [format_ip(a) for a in chosen] == [
        "10.0.2.0",
        "10.0.2.2",
        "10.0.2.3",
        "10.0.2.15",
        "10.0.2.100",
        "10.0.2.255",
        "255.255.255.0",
    ]
    six = choose_ipv6()
    assert [format_ip(a) for a in (six.gateway, six.nameserver, six.guest)] == ["fd00::2", "fd00::3", "fd00::64"]


@given(st.integers(1, 25), st.integers(0, 2**32 - 1))
def test_every_network_has_its_addresses_inside(bits: int, number: int) -> None:
    network = ipaddress.ip_network((number, bits), strict=False)
    first = network.network_address.packed[0]
    if first in (0, 127) or first >= 224:
        with pytest.raises(UsageError):
            choose_ipv4(str(network))
        return
    net = choose_ipv4(str(network))
    addresses = [net.gateway, net.nameserver, net.dhcp_start, net.guest]
    assert all(ipaddress.ip_address(a) in network for a in addresses)
    assert len({*addresses, net.network, net.broadcast}) == 6
    assert (net.network, net.broadcast, net.mask) == (
        network.network_address.packed,
        network.broadcast_address.packed,
        network.netmask.packed,
    )


@pytest.mark.parametrize(
    ("cidr", "words"),
    (
        ("10.0.2.100/24", "CIDR needs to be a network address like 10.0.2.0/24, not like 10.0.2.100/24"),
        ("10.0.2.0/26", "prefix length needs to be 1-25"),
        ("10.0.2.0/0", "prefix length needs to be 1-25"),
        ("10.0.2.0", "invalid CIDR"),
        ("10.0.2.0/", "invalid CIDR"),
        ("10.0.2.0/x", "invalid CIDR"),
        ("fd00::/64", "invalid CIDR"),
        ("127.0.0.0/8", "not a network of hosts"),
    ),
)
def test_words_of_slirp4netns(cidr: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        choose_ipv4(cidr)


@pytest.mark.parametrize(
    ("text", "expected"),
    (("127.0.0.1", True), ("127.0.0.53", True), ("::1", True), ("10.0.2.3", False), ("::2", False), ("x", False)),
)
def test_is_loopback(text: str, expected: bool) -> None:
    assert is_loopback(text) is expected
