"""Which frames of a container may enter the stack. Pure C, called directly."""

from __future__ import annotations

import ipaddress
import struct
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from netns import slirp
from netns.config import NetConfig
from tests.net.frames import ICMP, TCP, UDP, crafted, frame, packet

if not slirp.is_built():
    pytest.skip("the binding to libslirp was not built", allow_module_level=True)

SOURCE = bytes((10, 0, 2, 100))


def allowed(data: bytes, config: NetConfig = NetConfig()) -> bool:  # noqa: B008 - a frozen record
    return slirp.frame_allowed(config, data)


def is_this_host(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Say what the filter should stop, in the standard library's terms."""
    if address.version == 4:
        return address.is_loopback or address in ipaddress.ip_network("0.0.0.0/8")
    six = ipaddress.IPv6Address(address)
    below = six in ipaddress.ip_network("::/96") or six.ipv4_mapped is not None
    return below or (six.is_multicast and six.packed[1] & 15 <= 1)


@given(st.ip_addresses(), st.sampled_from((TCP, UDP)), st.integers(1, 65535))
@example(ipaddress.ip_address("127.0.0.1"), TCP, 80)
@example(ipaddress.ip_address("127.255.255.255"), UDP, 80)
@example(ipaddress.ip_address("0.0.0.0"), TCP, 80)
@example(ipaddress.ip_address("0.255.0.1"), TCP, 80)
@example(ipaddress.ip_address("::"), TCP, 80)
@example(ipaddress.ip_address("::1"), UDP, 80)
@example(ipaddress.ip_address("::ffff:127.0.0.1"), TCP, 80)
@example(ipaddress.ip_address("::ffff:8.8.8.8"), TCP, 80)
@example(ipaddress.ip_address("::127.0.0.1"), TCP, 80)
@example(ipaddress.ip_address("ff01::1"), UDP, 80)
@example(ipaddress.ip_address("ff02::1"), UDP, 80)
@example(ipaddress.ip_address("2001:db8::1"), UDP, 80)
def test_addresses(address: Any, protocol: int, port: int) -> None:
    special = str(address) in ("10.0.2.2", "10.0.2.3", "255.255.255.255", "fd00::2", "fd00::3")
    if not special:
        assert allowed(crafted(str(address), port, protocol)) is not is_this_host(address)


@given(st.ip_addresses(), st.binary(max_size=60))
def test_nothing_lets_loopback_through(address: Any, rest: bytes) -> None:
    """Whatever follows the addresses: options, fragments, other protocols, IPv6 extension headers."""
    if is_this_host(address):
        head = bytes((0x45, 0)) + bytes(10) + SOURCE if address.version == 4 else bytes((0x60,)) + bytes(7) + bytes(16)
        assert not allowed(frame(head + address.packed + rest))


@given(st.binary(max_size=120))
def test_any_bytes_are_judged(data: bytes) -> None:
    """The filter reads nothing beyond the frame (run under a sanitizer by hand) and always says yes or no."""
    allowed(data)
    for kind in (0x0800, 0x86DD, 0x0806):
        allowed(bytes(12) + struct.pack(">H", kind) + data)


@pytest.mark.parametrize("size", range(34))
def test_short_frames_are_dropped(size: int) -> None:
    assert not allowed(crafted("192.0.2.1", 80, TCP)[:size])


@pytest.mark.parametrize(("kind", "yes"), ((0x0806, True), (0x88F8, False), (0x8100, False), (0x88CC, False)))
def test_kinds(kind: int, yes: bool) -> None:
    """ARP is needed; NC-SI, VLAN tags, LLDP are not."""
    assert allowed(bytes(12) + struct.pack(">H", kind) + bytes(46)) is yes


@pytest.mark.parametrize("server", ("10.0.2.3", "fd00::3"))
@pytest.mark.parametrize(
    ("protocol", "port", "yes"), ((UDP, 53, True), (TCP, 53, True), (UDP, 54, False), (TCP, 80, False))
)
def test_name_server(server: str, protocol: int, port: int, yes: bool) -> None:
    assert allowed(crafted(server, port, protocol)) is yes
    assert allowed(crafted(server, port, protocol), NetConfig(dns=False)), "not a name server: an address like others"


@pytest.mark.parametrize("fragment", (0x2000, 1, 0x2001))
def test_fragments_to_the_name_server(fragment: int) -> None:
    assert not allowed(crafted("10.0.2.3", 53, UDP, fragment=fragment))
    assert allowed(crafted("192.0.2.1", 53, UDP, fragment=fragment))


def test_ping_of_gateway_and_name_server() -> None:
    for target in ((10, 0, 2, 2), (10, 0, 2, 3)):
        assert allowed(frame(packet(bytes(target), bytes(8), ICMP, source=SOURCE)))


@pytest.mark.parametrize("target", ("10.0.2.2", "255.255.255.255", "fd00::2"))
def test_no_tftp_of_the_stack_itself(target: str) -> None:
    assert not allowed(crafted(target, 69, UDP))
    assert allowed(crafted(target, 67, UDP))
    assert allowed(crafted("192.0.2.1", 69, UDP)), "somebody else's server"


def test_options_move_the_ports() -> None:
    """The header's length counts, not its usual 20 bytes."""
    payload = struct.pack(">HHHH", 53, 9999, 8, 0)
    options = b"\x01" * 8
    data = frame(packet(bytes((10, 0, 2, 3)), payload, UDP, source=SOURCE, options=options))
    assert not allowed(data)
    assert not allowed(frame(b"\x4f" + packet(bytes((192, 0, 2, 1)), payload, UDP, source=SOURCE)[1:]))
    assert not allowed(frame(b"\x44" + packet(bytes((192, 0, 2, 1)), payload, UDP, source=SOURCE)[1:]))


def test_without_ipv6() -> None:
    assert not allowed(crafted("2001:db8::1", 80, TCP), NetConfig(ipv6=False))
