"""Make and configure the container's network device, in a thread that joins its network namespace.

setns(CLONE_NEWNET) moves one thread (docs/decisions/0010-tap-by-thread.md): a short-lived thread makes the tap inside
while the main thread, which goes on to open sockets for the container, never leaves the host's namespace. What a
descriptor stands for is fixed when it is opened, so the tap works from the main thread.

Source: setns(2); Documentation/networking/tuntap.rst; Documentation/networking/ip-sysctl.rst
"""

from __future__ import annotations

import _socket
import _struct as struct  # what `struct` itself wraps
import _thread
import errno
import fcntl
import posix
import time

from netns import rtnetlink
from netns.addressing import Ipv4Net, Ipv6Net
from netns.netlink import talk
from rootless.errors import KernelError, NotSupported
from rootless.kernel import namespaces
from rootless.kernel._sys import lib
from rootless.kernel.fds import Fd, open_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

TUN = "/dev/net/tun"
_TURN_S = 50e-6
_HINT_TUN = "as an administrator: modprobe tun; chmod 0666 /dev/net/tun"


def in_netns(netns: Fd, work: Callable[[], object]) -> None:
    """Call *work* in a thread that joined *netns*; its exception is raised here.

    Blocks: until it is done
    """

    def joined() -> None:
        namespaces.setns(netns, lib.CLONE_NEWNET)
        work()

    in_thread(joined)


def in_thread(work: Callable[[], object]) -> None:
    """Call *work* in a thread of its own; its exception is raised here. Blocks: until the thread is gone"""
    failed: list[BaseException] = []
    numbers: list[int] = []
    done = _thread.allocate_lock()
    done.acquire()

    def body() -> None:
        numbers.append(_thread.get_native_id())
        try:
            work()
        except BaseException as error:
            failed.append(error)
        finally:
            done.release()

    _thread.start_new_thread(body, ())
    done.acquire()
    # Gone, not only finished: what is done to our own thread afterwards (seccomp, capabilities) would not hold for it.
    while _exists(f"/proc/self/task/{numbers[0]}"):
        time.sleep(_TURN_S)
    if failed:
        raise failed[0]


def _exists(path: str) -> bool:
    try:
        posix.stat(path)
    except OSError:
        return False
    return True


def open_tap(name: str) -> Fd:
    """Make the tap device *name* in this thread's network namespace; it lives as long as the descriptor.

    Raises: NotSupported - no /dev/net/tun, or not for us; KernelError(TUNSETIFF) - EBUSY: the name is taken
    """
    try:
        fd = open_fd(TUN, posix.O_RDWR | posix.O_NONBLOCK)
    except KernelError as error:
        raise NotSupported("private network", (str(error),), hint=_HINT_TUN) from None
    try:
        request = struct.pack("16sH22x", name.encode(), lib.IFF_TAP | lib.IFF_NO_PI)
        fcntl.ioctl(fd.fileno(), lib.TUNSETIFF, request)
    except OSError as error:
        fd.close()
        if error.errno in (errno.ENODEV, errno.ENOTTY):  # the file is there, the driver is not
            raise NotSupported("private network", (f"{TUN}: {error.strerror}",), hint=_HINT_TUN) from None
        raise KernelError("ioctl(TUNSETIFF)", error.errno or 0, name) from None
    return fd


def configure(name: str, mtu: int, mac: bytes, net4: Ipv4Net, net6: Ipv6Net | None) -> bool:
    """Bring up lo and the device *name* with its addresses and default routes.

    Returns whether IPv6 works; a kernel without it is no error.
    Raises:  KernelError(netlink)
    """
    index = _socket.if_nametoindex(name)
    if net6 is not None:
        # Before the device is up: our address is static, router advertisements would add a second one and a second
        # route; duplicate detection would hold addresses back for a second. /proc/sys/net is that of this thread.
        for key in ("accept_ra", "accept_dad"):
            write_sysctl(f"net/ipv6/conf/{name}/{key}", b"0")
    talk(
        (
            rtnetlink.pack_link(rtnetlink.LO_INDEX, up=True),
            rtnetlink.pack_link(index, up=True, mtu=mtu, mac=mac),
            rtnetlink.pack_address(index, net4.guest, net4.bits, broadcast=net4.broadcast),
            rtnetlink.pack_default_route(index, net4.gateway),
        )
    )
    if net6 is None:
        return False
    try:
        talk(
            (
                rtnetlink.pack_address(index, net6.guest, net6.bits),
                rtnetlink.pack_default_route(index, net6.gateway),
            )
        )
    except KernelError:
        return False
    return True


def write_sysctl(name: str, value: bytes) -> None:
    """Write one sysctl where that is possible: /proc/sys is read-only inside other containers."""
    try:
        with open_fd(f"/proc/sys/{name}", posix.O_WRONLY) as fd:
            posix.write(fd.fileno(), value)
    except OSError:
        pass
