"""The netlink messages, against golden bytes, against a library's decoder, and against themselves."""

from __future__ import annotations

import struct

from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg

from netns import rtnetlink as rt


def decoded(kind: type, request: rt.Request) -> dict[str, object]:
    """Return what pyroute2 reads in *request*: its header fields, and its attributes by name."""
    message = kind(rt.batch((request,)))
    message.decode()
    assert message["header"]["length"] == len(rt.batch((request,)))
    out = {key: value for key, value in message.items() if key not in ("attrs", "header")}
    return out | dict(message["attrs"])


def test_link() -> None:
    got = decoded(ifinfmsg, rt.pack_link(7, up=True, mtu=1500, mac=bytes(range(6))))
    assert (got["index"], got["flags"], got["change"]) == (7, 1, 1)
    assert (got["IFLA_MTU"], got["IFLA_ADDRESS"]) == (1500, "00:01:02:03:04:05")


def test_address() -> None:
    got = decoded(ifaddrmsg, rt.pack_address(3, bytes((10, 0, 2, 100)), 24, broadcast=bytes((10, 0, 2, 255))))
    assert (got["family"], got["prefixlen"], got["index"], got["scope"]) == (rt.AF_INET, 24, 3, 0)
    assert (got["IFA_LOCAL"], got["IFA_ADDRESS"], got["IFA_BROADCAST"]) == ("10.0.2.100", "10.0.2.100", "10.0.2.255")


def test_ipv6_address_needs_no_duplicate_detection() -> None:
    got = decoded(ifaddrmsg, rt.pack_address(3, bytes((0xFD,)) + bytes(14) + b"\x64", 64))
    assert (got["family"], got["IFA_LOCAL"], got["IFA_FLAGS"]) == (rt.AF_INET6, "fd00::64", 2)


def test_default_route() -> None:
    got = decoded(rtmsg, rt.pack_default_route(3, bytes((10, 0, 2, 2))))
    assert (got["dst_len"], got["table"], got["type"], got["scope"]) == (0, 254, 1, 0)
    assert (got["RTA_GATEWAY"], got["RTA_OIF"]) == ("10.0.2.2", 3)


def test_batch_is_numbered_and_aligned() -> None:
    requests = [rt.pack_link(1, up=True), rt.pack_link(2, mac=b"123456"), rt.pack_default_route(2, bytes(16))]
    data = rt.batch(requests)
    assert len(data) % 4 == 0
    found = rt.messages(data)
    assert [(kind, number) for kind, number, _ in found] == [(16, 1), (16, 2), (24, 3)]
    assert [body for _, _, body in found] == [request.body for request in requests]


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40)), unique_by=lambda pair: pair[0]))
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    data = b"".join(rt.attribute(kind, value) for kind, value in pairs)
    assert len(data) % 4 == 0
    assert rt.attributes(data) == dict(pairs)


@given(st.binary(max_size=200))
def test_any_bytes_are_read(data: bytes) -> None:
    rt.acks(data)
    rt.is_done(data)
    rt.parse_addresses(data)


def message(kind: int, number: int, body: bytes) -> bytes:
    return struct.pack("=IHHII", 16 + len(body), kind, 0, number, 0) + body + bytes(-len(body) % 4)


def test_acks() -> None:
    data = message(2, 1, struct.pack("=i", 0) + bytes(16)) + message(2, 2, struct.pack("=i", -17) + bytes(16))
    assert rt.acks(data) == [(1, 0), (2, 17)]


def test_addresses_and_the_choice() -> None:
    """The first global IPv4 address that is not on lo, else the first IPv6 one."""

    def entry(index: int, scope: int, address: bytes, flags: int = 0) -> bytes:
        family = 2 if len(address) == 4 else 10
        return message(20, 1, struct.pack("=BBBBI", family, 24, flags, scope, index) + rt.attribute(1, address))

    lo, six, link_local = entry(1, 0, bytes((192, 0, 2, 9))), entry(2, 0, b"\x20" + bytes(15)), entry(2, 253, bytes(16))
    old, four = entry(2, 0, bytes((192, 0, 2, 1)), 0x20), entry(3, 0, bytes((192, 0, 2, 2)))
    done = message(3, 1, bytes(4))
    found = rt.parse_addresses(lo + six + link_local + old + four + done)
    assert len(found) == 5
    assert rt.is_done(done) and not rt.is_done(four)
    assert rt.choose_host_address(found) == bytes((192, 0, 2, 2))
    assert rt.choose_host_address(found[:4]) == b"\x20" + bytes(15)
    assert rt.choose_host_address(found[:1]) == b""
