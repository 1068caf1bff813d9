"""Where /dev/net/tun is missing: a veth pair; where that is missing too: no network, and a word about it."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from netns import conformance
from netns.config import NetConfig, parse_publish
from netns.driver import choose
from rootless.errors import NotSupported
from tests.net.frames import TCP, crafted
from tests.net.test_loopback import packet_socket
from tests.net.test_private import echo_request, listen_inside
from tests.net.world import ANSWER, HOST4, HOST6, RESOLVER, World, dns_answer, dns_query, exchange

InWorld = Callable[..., Any]


@pytest.mark.parametrize("mtu", (1500, 65520))
def test_carries_everything(in_world: InWorld, mtu: int) -> None:
    """TCP both ways, UDP, DNS, IPv6, ping and published ports, as through a tap."""

    def body(world: World) -> None:
        listener, six = world.serve_tcp(HOST4), world.serve_tcp(HOST6)
        world.serve_udp(RESOLVER, 53, dns_answer)
        with world.start("driver", NetConfig(mtu=mtu, ports=parse_publish("8080:80"))) as stack:
            assert (stack.attachment.mode, stack.attachment.device, stack.attachment.warnings) == (
                "private",
                "tap0",
                (),
            )
            sock = world.tcp()
            sock.connect((HOST4, listener.port))
            sent, got, at = b"abcdefgh" * 100_000, b"", 0
            while len(got) < len(sent):
                at += sock.send(sent[at : at + 100_000]) if at < len(sent) else 0
                got += sock.recv(1 << 20)
            assert got == sent.upper()
            assert exchange(world.open(socket.AF_INET6, socket.SOCK_STREAM), (HOST6, six.port)) == b"HELLO"
            datagrams = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            datagrams.sendto(dns_query("example.org"), ("10.0.2.3", 53))
            assert datagrams.recv(512).endswith(socket.inet_aton(ANSWER))
            raw = world.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            raw.sendto(echo_request(8), ("10.0.2.2", 0))
            assert raw.recv(100)[20] == 0
            world.serve_tcp("", sock=listen_inside(world, "0.0.0.0", 80))
            with socket.create_connection((HOST4, 8080), 10) as client:
                client.sendall(b"x" * 100_000)
                assert client.recv(1, socket.MSG_PEEK) == b"X"

    in_world(body, tun=False)


def test_loopback_stays_out_of_reach(in_world: InWorld) -> None:
    """The filter stands before the stack, whatever carries the frames."""

    def body(world: World) -> None:
        listener = world.serve_tcp("0.0.0.0")
        with world.start():
            raw, mac = packet_socket(world)
            for number, target in enumerate(("127.0.0.1", "0.0.0.0")):
                raw.send(crafted(target, listener.port, TCP, from_port=42000 + number, mac=mac))
            exchange(world.tcp(), (HOST4, listener.port))
        assert listener.seen == [HOST4]

    in_world(body, tun=False)


@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(in_world: InWorld, check: conformance.Check) -> None:
    """The seam's promises hold with veth."""

    def body(world: World) -> None:
        config = NetConfig()
        check(choose(config), config, world.netns)

    in_world(body, tun=False)


def test_device_goes_with_the_process(in_world: InWorld) -> None:
    """Closing the packet socket ends the namespace of the other end, and the pair with it."""

    def body(world: World) -> None:
        with world.start():
            assert "tap0" in device_names(world)
        # The kernel takes namespaces down later, in a worker; a new stack must find the name free when it did.
        import select

        for _ in range(500):
            if "tap0" not in device_names(world):
                return
            select.select([], [], [], 0.01)
        raise AssertionError(device_names(world))

    in_world(body, tun=False)


def device_names(world: World) -> list[str]:
    return world.inside(lambda: [name for _, name in socket.if_nameindex()])


def veth_taken(world: World) -> None:
    """Make veth fail: its name is taken."""
    from netns.netlink import talk
    from netns.rtnetlink import pack_veth

    def make() -> None:
        with open("/proc/thread-self/ns/net") as own:
            talk((pack_veth("tap0", "other0", own.fileno()),))

    world.inside(make)


def test_neither(in_world: InWorld) -> None:
    """No tun and no veth: the container gets no network and a warning with both reasons and the remedy."""

    def body(world: World) -> None:
        veth_taken(world)
        with world.start() as stack:
            (warning,) = stack.attachment.warnings
            assert stack.attachment.mode == "none"
            assert "/dev/net/tun" in warning and "veth pair tap0" in warning and "modprobe tun" in warning

    in_world(body, tun=False)


def test_neither_with_published_ports(in_world: InWorld) -> None:
    """Who publishes a port needs the network: an error."""

    def body(world: World) -> None:
        veth_taken(world)
        with pytest.raises(NotSupported, match="veth pair tap0"):
            with world.start("driver", NetConfig(ports=parse_publish("8080:80"))):
                pass

    in_world(body, tun=False)


def test_frames_are_whole(in_world: InWorld) -> None:
    """The container's kernel cuts segments and computes checksums: no frame is longer than its MTU."""

    def body(world: World) -> None:
        listener = world.serve_tcp(HOST4)
        with world.start("driver", NetConfig(mtu=1500)):
            raw = world.open(socket.AF_PACKET, socket.SOCK_RAW)
            world.inside(lambda: raw.bind(("tap0", 3)))
            sock = world.tcp()
            sock.connect((HOST4, listener.port))
            sock.sendall(b"x" * 40_000)
            sizes: list[int] = []
            while sum(sizes) < 40_000:
                data = raw.recv(70_000)
                if data[12:14] == struct.pack(">H", 0x0800) and data[30:34] == socket.inet_aton(HOST4):
                    sizes.append(len(data))
            assert max(sizes) <= 1514

    in_world(body, tun=False)
