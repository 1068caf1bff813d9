"""The host's loopback is out of the container's reach, also for one that writes its own frames."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest

from netns.config import NetConfig
from tests.net.frames import TCP, UDP, crafted
from tests.net.world import HOST4, HOST6, RESOLVER, World, exchange

InWorld = Callable[..., Any]
LOCAL = ("127.0.0.1", "127.0.0.53", "127.255.255.254", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1")


@pytest.mark.parametrize("target", ("10.0.2.2", "fd00::2", "fe80::2"))
@pytest.mark.parametrize("kind", (socket.SOCK_STREAM, socket.SOCK_DGRAM))
def test_gateway_is_not_loopback(in_world: InWorld, target: str, kind: socket.SocketKind) -> None:
    """The gateway's address leads nowhere: an error for TCP, silence on the host for UDP."""

    def body(world: World) -> None:
        six = ":" in target
        listener = world.serve_tcp("::1" if six else "127.0.0.1")
        responder = world.serve_udp("::1" if six else "127.0.0.1")
        fence = world.serve_tcp(HOST4)
        with world.start():
            sock = world.open(socket.AF_INET6 if six else socket.AF_INET, kind)
            scope = world.inside(lambda: socket.if_nametoindex("tap0")) if target.startswith("fe80") else 0
            where = (target, listener.port, 0, scope) if six else (target, listener.port)
            if kind == socket.SOCK_STREAM:
                with pytest.raises(OSError):
                    sock.connect(where)
            else:
                sock.sendto(b"x", (target, responder.port, 0, scope) if six else (target, responder.port))
            exchange(world.tcp(), (HOST4, fence.port))
        assert (listener.seen, responder.seen) == ([], [])

    in_world(body)


def test_gateway_is_loopback_where_allowed(in_world: InWorld) -> None:
    """allow_host_loopback=true: the gateway is the host's 127.0.0.1."""

    def body(world: World) -> None:
        listener = world.serve_tcp("127.0.0.1")
        with world.start("driver", NetConfig(allow_host_loopback=True)):
            assert exchange(world.tcp(), ("10.0.2.2", listener.port)) == b"HELLO"

    in_world(body)


@pytest.mark.parametrize("allowed", (False, True))
@pytest.mark.parametrize("how", ("driver", "command"))
def test_crafted_frames(in_world: InWorld, how: str, allowed: bool) -> None:
    """Frames to the host's own names for itself open nothing there, even where the gateway may stand for loopback.

    That such frames reach sockets at all is shown with the host's other addresses.
    """

    def body(world: World) -> None:
        tcp4, tcp6 = world.serve_tcp("0.0.0.0"), world.serve_tcp("::")
        udp4, udp6 = world.serve_udp("0.0.0.0"), world.serve_udp("::")
        config = NetConfig(allow_host_loopback=allowed)
        with world.start(how, config):
            raw, mac = packet_socket(world)
            for number, target in enumerate((*LOCAL, HOST4, HOST6)):
                six = ":" in target
                for listener, protocol in ((tcp6 if six else tcp4, TCP), (udp6 if six else udp4, UDP)):
                    raw.send(crafted(target, listener.port, protocol, from_port=41000 + number, mac=mac))
            # Frames are handled in order: when this connection is answered, those before it have been handled.
            assert exchange(world.tcp(), (HOST4, tcp4.port)) == b"HELLO"
            assert exchange(world.open(socket.AF_INET6, socket.SOCK_STREAM), (HOST6, tcp6.port)) == b"HELLO"
            assert tcp4.seen == [HOST4, HOST4]
            assert tcp6.seen == [HOST6, HOST6]
            for responder in (udp4, udp6):
                wait_for(responder.seen)
                assert responder.seen == [b"crafted"]

    in_world(body)


def wait_for(seen: list[bytes]) -> None:
    """Wait until the responder's thread has noted something."""
    import time

    end = time.monotonic() + 10
    while not seen and time.monotonic() < end:
        time.sleep(0.001)


def packet_socket(world: World) -> tuple[socket.socket, bytes]:
    """Return a socket that writes frames to the container's device, and that device's address."""
    raw = world.open(socket.AF_PACKET, socket.SOCK_RAW)
    world.inside(lambda: raw.bind(("tap0", 0)))
    return raw, raw.getsockname()[4]


@pytest.mark.parametrize("nameserver", ("10.0.2.3", "fd00::3"))
def test_name_server_is_port_53_only(in_world: InWorld, nameserver: str) -> None:
    """Behind the name server's address may be the host's loopback (127.0.0.53): its other ports stay closed."""

    def body(world: World) -> None:
        six = ":" in nameserver
        family = socket.AF_INET6 if six else socket.AF_INET
        other = world.serve_tcp("::1" if six else "127.0.0.1", 5353)
        other_udp = world.serve_udp("::1" if six else "127.0.0.1", 5353)
        dns = world.serve_udp("::1" if six else "127.0.0.1", 53)
        with world.start():
            raw, mac = packet_socket(world)
            for protocol in (TCP, UDP):
                raw.send(crafted(nameserver, 5353, protocol, mac=mac))
            if not six:  # the ports of a fragmented datagram: the first piece says 53, a later one says it again
                raw.send(crafted(nameserver, 53, UDP, mac=mac, fragment=0x2000))
                raw.send(crafted(nameserver, 5353, UDP, mac=mac, fragment=0))
            sock = world.open(family, socket.SOCK_DGRAM)
            sock.sendto(b"query", (nameserver, 53))
            assert sock.recv(100) == b"QUERY"
        assert (other.seen, other_udp.seen, dns.seen) == ([], [], [b"query"])

    in_world(body, resolver="::1" if ":" in nameserver else "127.0.0.1")


def test_resolver_on_loopback_answers(in_world: InWorld) -> None:
    """systemd-resolved's stub is asked through the name server's address."""

    def body(world: World) -> None:
        world.serve_udp("127.0.0.53", 53)
        with world.start():
            sock = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sendto(b"stub", ("10.0.2.3", 53))
            assert sock.recv(100) == b"STUB"

    in_world(body, resolver="127.0.0.53")


def test_other_addresses_of_the_network_lead_nowhere_on_loopback(in_world: InWorld) -> None:
    """10.0.2.7 is not an alias of the host."""

    def body(world: World) -> None:
        listener = world.serve_tcp("0.0.0.0")
        fence = world.serve_tcp(RESOLVER)
        with world.start():
            raw, mac = packet_socket(world)
            for target in ("10.0.2.7", "255.255.255.255", "10.0.2.255"):
                raw.send(crafted(target, listener.port, TCP, mac=mac))
            exchange(world.tcp(), (RESOLVER, fence.port))
        assert listener.seen == []

    in_world(body)
