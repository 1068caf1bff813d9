"""Send the messages of rtnetlink.py to the network namespace of the calling thread.

Source: netlink(7), rtnetlink(7)
"""

from __future__ import annotations

import _socket

from netns import rtnetlink
from netns.addressing import format_ip
from rootless.errors import KernelError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_NETLINK_ROUTE = 0
_ANSWER_BYTES = 1 << 16


def _open() -> _socket.socket:
    return _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE)


def talk(requests: Sequence[rtnetlink.Request]) -> None:
    """Have the kernel obey *requests* in order.

    Blocks:  no, rtnetlink answers while it is asked
    Raises:  KernelError(netlink) for the first one that was refused
    """
    sock = _open()
    try:
        sock.send(rtnetlink.batch(requests))
        answered = 0
        while answered < len(requests):
            for number, errno in rtnetlink.acks(sock.recv(_ANSWER_BYTES)):
                if errno:
                    raise KernelError("netlink", errno, requests[number - 1].what)
                answered += 1
    except OSError as error:
        if isinstance(error, KernelError):
            raise
        raise KernelError("netlink", error.errno or 0) from None
    finally:
        sock.close()


def addresses() -> list[rtnetlink.Address]:
    """Return all addresses of this network namespace. Raises: KernelError(netlink)"""
    try:
        sock = _open()
        try:
            sock.send(rtnetlink.pack_get_addresses())
            found: list[rtnetlink.Address] = []
            while True:
                data = sock.recv(_ANSWER_BYTES)
                found += rtnetlink.parse_addresses(data)
                if rtnetlink.is_done(data):
                    return found
        finally:
            sock.close()
    except OSError as error:
        raise KernelError("netlink", error.errno or 0, "addresses") from None


def host_address() -> str:
    """Return the address under which containers reach this host (host.containers.internal), "" without one."""
    try:
        return format_ip(found) if (found := rtnetlink.choose_host_address(addresses())) else ""
    except KernelError:
        return ""
