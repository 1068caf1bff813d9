"""A device for the container where there is no /dev/net/tun: one end of a veth pair, the other end read by AF_PACKET.

    container's namespace            a namespace of ours without addresses
    tap0  <---------------------->   wire0  <---  packet socket  ---  the loop

The other end must be somewhere: in the host's namespace we may not make devices, so it gets an empty one, which lives
as long as the packet socket. Usual inside other containers, which have no device nodes but may make veth pairs.

Source: veth(4), packet(7); linux/ethtool.h; linux/if_packet.h
"""

from __future__ import annotations

import _socket
import _struct as struct  # what `struct` itself wraps
import fcntl
import posix

from netns import rtnetlink
from netns.netlink import talk
from netns.tap import in_netns, in_thread, write_sysctl
from rootless.errors import KernelError
from rootless.kernel import namespaces
from rootless.kernel._sys import ffi
from rootless.kernel.fds import Fd, open_fd

WIRE = "wire0"
_SIOCETHTOOL = 0x8946
_ETHTOOL_STXCSUM = 0x17
_ETH_P_ALL = 3
_SOL_PACKET, _PACKET_IGNORE_OUTGOING = 263, 23
# As many bytes as the system's limit allows: frames are up to 64 KiB, and what finds no room is lost.
_BUFFER_BYTES = 1 << 22


def open_veth(netns: Fd, name: str, mtu: int) -> Fd:
    """Make the device *name* in *netns* and return the socket that carries its frames.

    Raises: KernelError - EOPNOTSUPP: a kernel without veth; EEXIST: the name is taken
    Owner:  the device lives as long as the socket
    """
    made: list[Fd] = []

    def new_namespace() -> None:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        made.append(open_fd("/proc/thread-self/ns/net", posix.O_RDONLY))

    in_thread(new_namespace)
    with made.pop() as wire:
        in_netns(netns, lambda: _make_pair(name, wire))
        in_netns(wire, lambda: made.append(_open_wire(mtu)))
    return made[0]


def _make_pair(name: str, wire: Fd) -> None:
    talk((rtnetlink.pack_veth(name, WIRE, wire.fileno()),))
    _no_checksum_offload(name)


def _open_wire(mtu: int) -> Fd:
    """Bring up our end, silent, and open it."""
    index = _socket.if_nametoindex(WIRE)
    write_sysctl(f"net/ipv6/conf/{WIRE}/disable_ipv6", b"1")
    talk((rtnetlink.pack_link(index, up=True, mtu=mtu),))
    kind = _socket.SOCK_RAW | _socket.SOCK_NONBLOCK | _socket.SOCK_CLOEXEC
    sock = _socket.socket(_socket.AF_PACKET, kind, 0)
    try:
        for option in (_socket.SO_RCVBUF, _socket.SO_SNDBUF):
            sock.setsockopt(_socket.SOL_SOCKET, option, _BUFFER_BYTES)
        sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
        # Bound with its protocol only now: a socket of protocol 0 receives nothing before.
        sock.bind((WIRE, _ETH_P_ALL))
    except OSError as error:
        raise KernelError("packet socket", error.errno or 0, WIRE) from None
    return Fd(sock.detach())


def _no_checksum_offload(name: str) -> None:
    """Have the container's kernel compute checksums and cut segments itself: over veth it leaves both to the device.

    Turning off transmit checksums turns off TSO with them (Documentation/networking/checksum-offloads.rst).
    """
    value = ffi.new("uint32_t[2]", [_ETHTOOL_STXCSUM, 0])
    request = struct.pack("16sP16x", name.encode(), int(ffi.cast("uintptr_t", value)))
    sock = _socket.socket(_socket.AF_INET, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
    try:
        fcntl.ioctl(sock.fileno(), _SIOCETHTOOL, request)
    except OSError as error:
        raise KernelError("ioctl(SIOCETHTOOL)", error.errno or 0, name) from None
    finally:
        sock.close()
