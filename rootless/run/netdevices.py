"""Give interfaces to a container: into its network namespace, under another name, with their addresses, up.

Moving one needs CAP_NET_ADMIN in the namespace where it is. The machine's interfaces are not ours; those of a network
namespace that was made in our user namespace (an engine's) are.

Source: runtime-spec config-linux.md#network-devices (1.3); rtnetlink(7); network_namespaces(7)
"""

from __future__ import annotations

import _socket
import _struct as struct  # what `struct` itself wraps
import posix

from netns import rtnetlink
from rootless.errors import KernelError, SpecError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.namespaces import setns

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import NetDevice

_CLONE_NEWNET = 0x40000000
_IFA_F_PERMANENT = 0x80
_NETLINK_ROUTE = 0
_TIMEOUT_SECONDS = 5.0


def move_devices(devices: tuple[tuple[str, NetDevice], ...], pid: int) -> None:
    """Move *devices* of our network namespace into the one of *pid*.

    Blocks: for the kernel's answers
    Raises: SpecError with the pointer of the device that cannot be moved
    """
    with open_fd(f"/proc/{pid}/ns/net", posix.O_RDONLY) as there, open_fd("/proc/self/ns/net", posix.O_RDONLY) as here:
        for name, device in devices:
            try:
                _move(name, device.name or name, here, there)
            except (OSError, KernelError) as error:
                why = posix.strerror(error.errno or 0).lower()
                pointer = f"/linux/netDevices/{name.replace('~', '~0').replace('/', '~1')}"
                raise SpecError(f"the interface cannot be moved into the container: {why}", pointer=pointer) from None


def _move(name: str, new_name: str, here: Fd, there: Fd) -> None:
    index = _socket.if_nametoindex(name)
    own = _Netlink()
    try:
        # It loses its addresses on the way.
        addresses = [found for found in own.addresses() if found[0] == index]
        own.ask(rtnetlink.pack_move(index, there.fileno(), new_name))
    finally:
        own.close()
    setns(there, _CLONE_NEWNET)  # one thread: it is the whole process that changes, and only for these lines
    try:
        inside = _Netlink()
        try:
            index = _socket.if_nametoindex(new_name)
            for _, bits, address in addresses:
                inside.ask(rtnetlink.pack_address(index, address, bits))
            inside.ask(rtnetlink.pack_link(index, up=True))
        finally:
            inside.close()
    finally:
        setns(here, _CLONE_NEWNET)


class _Netlink:
    """A route socket in the network namespace that we were in when it was made."""

    def __init__(self) -> None:
        self._sock = _socket.socket(_socket.AF_NETLINK, _socket.SOCK_RAW | _socket.SOCK_CLOEXEC, _NETLINK_ROUTE)
        self._sock.settimeout(_TIMEOUT_SECONDS)

    def ask(self, request: rtnetlink.Request) -> None:
        """Send one request. Raises: OSError with the kernel's answer"""
        self._sock.send(rtnetlink.batch((request,)))
        while True:
            for _, errno in rtnetlink.acks(self._sock.recv(1 << 16)):
                if errno:
                    raise OSError(errno, posix.strerror(errno))
                return

    def addresses(self) -> list[tuple[int, int, bytes]]:
        """Return (index, prefix length, address) of the permanent global addresses."""
        self._sock.send(rtnetlink.pack_get_addresses())
        found: list[tuple[int, int, bytes]] = []
        while True:
            data = self._sock.recv(1 << 16)
            for kind, _, body in rtnetlink.messages(data):
                if kind != rtnetlink.RTM_NEWADDR or len(body) < 8:
                    continue
                _, bits, flags, scope, index = struct.unpack_from("=BBBBI", body)
                values = rtnetlink.attributes(body[8:])
                address = values.get(2) or values.get(1)  # IFA_LOCAL, IFA_ADDRESS
                if address and scope == 0 and flags & _IFA_F_PERMANENT:
                    found.append((index, bits, address))
            if rtnetlink.is_done(data):
                return found

    def close(self) -> None:
        self._sock.close()
