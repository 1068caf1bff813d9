"""The fixed rtnetlink messages of start-up, encoded by hand: link, address, route; and the dump of addresses.

Pure: `pack_*` return a request, `batch` numbers requests for one send, `acks` reads the answers. A library (pyroute2)
costs more to import than a whole launch may take.

Shape:  struct nlmsghdr {u32 len; u16 type; u16 flags; u32 seq; u32 pid}, then a fixed struct of the type, then
        attributes {u16 len; u16 type; data}, each padded to 4 bytes; all in the machine's byte order
Source: netlink(7), rtnetlink(7); linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps

from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

AF_INET, AF_INET6 = 2, 10
LO_INDEX = 1  # the loopback device is the first one of every network namespace

_REQUEST, _ACK, _EXCL, _CREATE, _DUMP = 1, 4, 0x200, 0x400, 0x300
_ERROR, _DONE = 2, 3
RTM_NEWLINK, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE = 16, 20, 22, 24
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO, _IFLA_NET_NS_FD = 1, 3, 4, 18, 28
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _VETH_INFO_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL, _IFA_BROADCAST, _IFA_FLAGS = 1, 2, 4, 8
_IFA_F_NODAD, _IFA_F_DEPRECATED = 0x02, 0x20
_RTA_OIF, _RTA_GATEWAY = 4, 5
_RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST = 254, 3, 0, 1
_IFF_UP = 1

_HEADER = struct.Struct("=IHHII")
_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")


@record
class Request:
    """One message and the words for an error about it."""

    kind: int
    flags: int
    body: bytes
    what: str


@record
class Address:
    """One address of the dump; *scope* 0 is global."""

    index: int
    scope: int
    deprecated: bool
    address: bytes


def attribute(kind: int, data: bytes) -> bytes:
    """Encode one attribute."""
    return struct.pack("=HH", 4 + len(data), kind) + data + bytes(-len(data) % 4)


def pack_link(index: int, *, up: bool = False, mtu: int = 0, mac: bytes = b"") -> Request:
    """Change the device *index*."""
    attributes = b""
    if mtu:
        attributes += attribute(_IFLA_MTU, struct.pack("=I", mtu))
    if mac:
        attributes += attribute(_IFLA_ADDRESS, mac)
    flag = _IFF_UP if up else 0
    return Request(RTM_NEWLINK, _ACK, _IFINFO.pack(0, 0, index, flag, flag) + attributes, f"device {index}")


def pack_move(index: int, netns_fd: int, name: str) -> Request:
    """Move the device *index* into another network namespace, where it is called *name*."""
    attributes = attribute(_IFLA_NET_NS_FD, struct.pack("=i", netns_fd)) + attribute(
        _IFLA_IFNAME, name.encode() + b"\0"
    )
    return Request(RTM_NEWLINK, _ACK, _IFINFO.pack(0, 0, index, 0, 0) + attributes, f"device {index}")


def pack_address(index: int, address: bytes, bits: int, *, broadcast: bytes = b"") -> Request:
    """Give the device *index* an address; an IPv6 one is used at once, without duplicate detection."""
    family = AF_INET if len(address) == 4 else AF_INET6
    attributes = attribute(_IFA_LOCAL, address) + attribute(_IFA_ADDRESS, address)
    if broadcast:
        attributes += attribute(_IFA_BROADCAST, broadcast)
    if family == AF_INET6:
        attributes += attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD))
    body = _IFADDR.pack(family, bits, 0, _RT_SCOPE_UNIVERSE, index) + attributes
    return Request(RTM_NEWADDR, _ACK | _CREATE | _EXCL, body, f"address of device {index}")


def pack_default_route(index: int, gateway: bytes) -> Request:
    """Send everything else to *gateway* through the device *index*."""
    family = AF_INET if len(gateway) == 4 else AF_INET6
    head = _RTMSG.pack(family, 0, 0, 0, _RT_TABLE_MAIN, _RTPROT_BOOT, _RT_SCOPE_UNIVERSE, _RTN_UNICAST, 0)
    body = head + attribute(_RTA_GATEWAY, gateway) + attribute(_RTA_OIF, struct.pack("=i", index))
    return Request(RTM_NEWROUTE, _ACK | _CREATE | _EXCL, body, "default route")


def pack_veth(name: str, peer: str, peer_netns_fd: int) -> Request:
    """Make a pair of devices: *name* here, *peer* in the network namespace of *peer_netns_fd*."""
    other = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, peer.encode() + b"\0")
    other += attribute(_IFLA_NET_NS_FD, struct.pack("=i", peer_netns_fd))
    data = attribute(_IFLA_INFO_DATA, attribute(_VETH_INFO_PEER, other))
    info = attribute(_IFLA_LINKINFO, attribute(_IFLA_INFO_KIND, b"veth") + data)
    body = _IFINFO.pack(0, 0, 0, 0, 0) + attribute(_IFLA_IFNAME, name.encode() + b"\0") + info
    return Request(RTM_NEWLINK, _ACK | _CREATE | _EXCL, body, f"veth pair {name}")


def pack_get_addresses() -> bytes:
    """Ask for all addresses of all devices."""
    body = _IFADDR.pack(0, 0, 0, 0, 0)
    return _HEADER.pack(_HEADER.size + len(body), RTM_GETADDR, _REQUEST | _DUMP, 1, 0) + body


def batch(requests: Sequence[Request]) -> bytes:
    """Return the bytes of all *requests*, numbered from 1; the kernel obeys them in this order."""
    out = b""
    for number, request in enumerate(requests, 1):
        length = _HEADER.size + len(request.body)
        out += _HEADER.pack(length, request.kind, request.flags | _REQUEST, number, 0)
        out += request.body + bytes(-length % 4)
    return out


def messages(data: bytes) -> list[tuple[int, int, bytes]]:
    """Split *data* into (type, sequence number, body)."""
    found = []
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, number, _ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size or at + length > len(data):
            break
        found.append((kind, number, data[at + _HEADER.size : at + length]))
        at += (length + 3) & ~3
    return found


def acks(data: bytes) -> list[tuple[int, int]]:
    """Return (sequence number, errno) of the answers in *data*; errno 0 is success."""
    return [
        (number, -struct.unpack_from("=i", body)[0])
        for kind, number, body in messages(data)
        if kind == _ERROR and len(body) >= 4
    ]


def is_done(data: bytes) -> bool:
    """Tell whether a dump has ended (or failed)."""
    return any(kind in (_DONE, _ERROR) for kind, _, _ in messages(data))


def parse_addresses(data: bytes) -> list[Address]:
    """Read the answers to `pack_get_addresses`."""
    found = []
    for kind, _, body in messages(data):
        if kind != RTM_NEWADDR or len(body) < _IFADDR.size:
            continue
        _, _, flags, scope, index = _IFADDR.unpack_from(body)
        values = attributes(body[_IFADDR.size :])
        address = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if address:
            found.append(Address(index, scope, bool(flags & _IFA_F_DEPRECATED), address))
    return found


def attributes(data: bytes) -> dict[int, bytes]:
    """Read attributes; of a type that stands twice the last counts."""
    values = {}
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4 or at + length > len(data):
            break
        values[kind & 0x3FFF] = data[at + 4 : at + length]
        at += (length + 3) & ~3
    return values


def choose_host_address(addresses: Sequence[Address]) -> bytes:
    """Return the address that stands for the host: its first global IPv4 address, else IPv6; b"" without one."""
    usable = [a for a in addresses if a.scope == 0 and a.index != LO_INDEX and not a.deprecated]
    for wanted in (4, 16):
        for found in usable:
            if len(found.address) == wanted:
                return found.address
    return b""
