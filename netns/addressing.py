"""Addresses of the private network: parse and print them, and choose those of a network.

Shape:  an IPv4 address is 4 bytes, an IPv6 address 16, both in network order. In a network the gateway is
        address 2, the name server 3, the first address of DHCP 15, the container 100 (the choice of slirp4netns,
        which documentation, images and people know: 10.0.2.2, .3, .15, .100); in fd00::/64 likewise ::2, ::3, ::64
Source: slirp4netns(1); RFC 4291 section 2.2; RFC 5952
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GATEWAY, NAMESERVER, DHCP_START, GUEST = 2, 3, 15, 100
DEFAULT_CIDR = "10.0.2.0/24"
PREFIX6 = bytes([0xFD]) + bytes(15)
PREFIX6_BITS = 64
_DIGITS = "0123456789"
_HEX = "0123456789abcdefABCDEF"


@record
class Ipv4Net:
    """The addresses of one private IPv4 network; *mask* is written out, *bits* its length."""

    network: bytes
    bits: int
    gateway: bytes
    nameserver: bytes
    dhcp_start: bytes
    guest: bytes
    broadcast: bytes

    @property
    def mask(self) -> bytes:
        return _mask(self.bits).to_bytes(4, "big")


@record
class Ipv6Net:
    """The addresses of the private IPv6 network."""

    prefix: bytes
    bits: int
    gateway: bytes
    nameserver: bytes
    guest: bytes


def _mask(bits: int) -> int:
    return 0xFFFFFFFF << (32 - bits) & 0xFFFFFFFF


def parse_ipv4(text: str) -> bytes | None:
    """Return the address, or None where *text* is not four decimal numbers (leading zeros are refused)."""
    parts = text.split(".")
    if len(parts) != 4:
        return None
    values = []
    for part in parts:
        if not part or len(part) > 3 or part.strip(_DIGITS) or (part[0] == "0" and len(part) > 1) or int(part) > 255:
            return None
        values.append(int(part))
    return bytes(values)


def parse_ipv6(text: str) -> bytes | None:
    """Return the address, or None where *text* is not one (zones like %eth0 are not accepted)."""
    left, compressed, right = text.partition("::")
    if "::" in right or right.startswith(":") or (compressed and left.endswith(":")):
        return None
    head = _groups(left, last=not compressed)
    tail = _groups(right, last=True) if compressed else b""
    if head is None or tail is None:
        return None
    missing = 16 - len(head) - len(tail)
    if (compressed and missing < 2) or (not compressed and missing):
        return None
    return head + bytes(missing) + tail


def _groups(text: str, *, last: bool) -> bytes | None:
    """Encode groups between colons; the *last* part of an address may be a dotted IPv4 address."""
    if not text:
        return b""
    words = text.split(":")
    out = b""
    for at, word in enumerate(words):
        if "." in word and last and at == len(words) - 1:
            dotted = parse_ipv4(word)
            if dotted is None:
                return None
            out += dotted
        elif not 1 <= len(word) <= 4 or word.strip(_HEX):
            return None
        else:
            out += int(word, 16).to_bytes(2, "big")
    return out


def parse_ip(text: str) -> bytes | None:
    """Return 4 or 16 bytes, or None where *text* is no address."""
    return parse_ipv6(text) if ":" in text else parse_ipv4(text)


def format_ip(address: bytes) -> str:
    """Return the text of an address; IPv6 as RFC 5952 wants it."""
    if len(address) == 4:
        return ".".join(str(b) for b in address)
    if address[:12] == bytes(10) + b"\xff\xff":
        return "::ffff:" + format_ip(address[12:])
    groups = [int.from_bytes(address[i : i + 2], "big") for i in range(0, 16, 2)]
    at, length = _longest_zeros(groups)
    if length < 2:
        return ":".join(f"{g:x}" for g in groups)
    return ":".join(f"{g:x}" for g in groups[:at]) + "::" + ":".join(f"{g:x}" for g in groups[at + length :])


def _longest_zeros(groups: Sequence[int]) -> tuple[int, int]:
    best, at = (0, 0), 0
    while at < len(groups):
        end = at
        while end < len(groups) and groups[end] == 0:
            end += 1
        if end - at > best[1]:
            best = (at, end - at)
        at = max(end, at + 1)
    return best


def is_loopback(text: str) -> bool:
    """Tell whether *text* is an address of the loopback interface."""
    address = parse_ip(text)
    return address is not None and (address[:1] == b"\x7f" if len(address) == 4 else address == bytes(15) + b"\x01")


def choose_ipv4(cidr: str = DEFAULT_CIDR) -> Ipv4Net:
    """Return the addresses of the network *cidr*.

    Raises: UsageError in the words of slirp4netns
    """
    text, slash, bits_text = cidr.partition("/")
    address = parse_ipv4(text)
    if address is None or not slash or not 0 < len(bits_text) <= 3 or bits_text.strip(_DIGITS):
        raise UsageError(f"invalid CIDR: {cidr}", hint="write a network like 10.0.2.0/24")
    bits = int(bits_text)
    if not 1 <= bits <= 25:
        raise UsageError(f"invalid CIDR {cidr}: prefix length needs to be 1-25")
    number = int.from_bytes(address, "big")
    network = number & _mask(bits)
    if network != number:
        proper = format_ip(network.to_bytes(4, "big"))
        raise UsageError(f"CIDR needs to be a network address like {proper}/{bits}, not like {cidr}")
    if network >> 24 in (0, 127) or network >> 28 >= 0xE:
        raise UsageError(
            f"invalid CIDR {cidr}: not a network of hosts", hint="choose a private network like 10.0.2.0/24"
        )

    def at(offset: int) -> bytes:
        return (network + offset).to_bytes(4, "big")

    return Ipv4Net(
        network=address,
        bits=bits,
        gateway=at(GATEWAY),
        nameserver=at(NAMESERVER),
        dhcp_start=at(DHCP_START),
        guest=at(GUEST),
        broadcast=(network | ~_mask(bits) & 0xFFFFFFFF).to_bytes(4, "big"),
    )


def choose_ipv6() -> Ipv6Net:
    """Return the addresses of fd00::/64."""

    def at(offset: int) -> bytes:
        return PREFIX6[:15] + bytes([offset])

    return Ipv6Net(prefix=PREFIX6, bits=PREFIX6_BITS, gateway=at(GATEWAY), nameserver=at(NAMESERVER), guest=at(GUEST))
