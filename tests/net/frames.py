"""Frames written by hand, as a program in the container with CAP_NET_RAW would write them."""

from __future__ import annotations

import socket
import struct

from netns.addressing import parse_ip

GATEWAY_MAC = bytes((0x52, 0x55, 10, 0, 2, 2))  # libslirp: 52:55 and its IPv4 address
TCP, UDP, ICMP = 6, 17, 1
SYN = 2


def checksum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(~total & 0xFFFF)


def segment(protocol: int, source: bytes, to: bytes, from_port: int, to_port: int, data: bytes = b"") -> bytes:
    """Return a TCP SYN or a datagram with its checksum."""
    if protocol == TCP:
        head = struct.pack(">HHIIBBHHH", from_port, to_port, 1000, 0, 5 << 4, SYN, 65535, 0, 0)
        at = 16
    else:
        head = struct.pack(">HHHH", from_port, to_port, 8 + len(data), 0)
        at = 6
    length = len(head) + len(data)
    pseudo = source + to
    pseudo += struct.pack(">BBH", 0, protocol, length) if len(to) == 4 else struct.pack(">IHBB", length, 0, 0, protocol)
    total = checksum(pseudo + head + data)
    return head[:at] + struct.pack(">H", total) + head[at + 2 :] + data


def packet(
    to: bytes, payload: bytes, protocol: int, *, source: bytes, fragment: int = 0, options: bytes = b"", number: int = 7
) -> bytes:
    """Return an IPv4 or IPv6 packet."""
    if len(to) == 16:
        return struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64) + source + to + payload
    words = 5 + len(options) // 4
    head = struct.pack(">BBHHHBBH", 4 << 4 | words, 0, words * 4 + len(payload), number, fragment, 64, protocol, 0)
    total = checksum(head + source + to + options)
    return head[:10] + struct.pack(">H", total) + source + to + options + payload


def frame(packet_bytes: bytes, *, mac: bytes = bytes(6), to_mac: bytes = GATEWAY_MAC) -> bytes:
    kind = 0x86DD if packet_bytes[0] >> 4 == 6 else 0x0800
    return to_mac + mac + struct.pack(">H", kind) + packet_bytes


def crafted(
    to: str, port: int, protocol: int, *, from_port: int = 40000, mac: bytes = bytes(6), fragment: int = 0
) -> bytes:
    """Return the whole frame of a SYN or a datagram to *to*, from the container's own address."""
    address = parse_ip(to)
    assert address is not None
    source = socket.inet_aton("10.0.2.100") if len(address) == 4 else parse_ip("fd00::64")
    assert source is not None
    payload = segment(protocol, source, address, from_port, port, b"crafted" if protocol == UDP else b"")
    return frame(packet(address, payload, protocol, source=source, fragment=fragment), mac=mac)
