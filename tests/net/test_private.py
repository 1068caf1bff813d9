"""What a container of the private network reaches, and from where it is reached."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
from collections.abc import Callable
from typing import Any

import pytest

from netns.config import MTU_DEFAULT, NetConfig, parse_publish
from netns.netlink import addresses
from rootless.errors import RootlessError
from tests.net.world import (
    ANSWER,
    HOST4,
    HOST6,
    RESOLVER,
    STACKS,
    World,
    bound,
    dns_answer,
    dns_query,
    exchange,
    ip,
)

InWorld = Callable[..., Any]


@pytest.mark.parametrize("how", STACKS)
def test_tcp_out(in_world: InWorld, how: str) -> None:
    """A connection reaches a listener on an address of the host, from that host's address."""

    def body(world: World) -> None:
        listener = world.serve_tcp(HOST4)
        with world.start(how):
            assert exchange(world.tcp(), (HOST4, listener.port)) == b"HELLO"
            assert listener.seen == [HOST4]

    in_world(body)


@pytest.mark.parametrize("how", STACKS)
def test_tcp_refused(in_world: InWorld, how: str) -> None:
    """A port where nobody listens refuses at once."""

    def body(world: World) -> None:
        closed = bound(HOST4, 0, socket.SOCK_STREAM)
        with world.start(how), pytest.raises(ConnectionRefusedError):
            world.tcp().connect(closed.getsockname())

    in_world(body)


@pytest.mark.parametrize("how", STACKS)
def test_udp_out(in_world: InWorld, how: str) -> None:
    """Datagrams go out and their answers come back."""

    def body(world: World) -> None:
        responder = world.serve_udp(HOST4)
        with world.start(how):
            sock = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            for text in (b"one", b"two", b"x" * 1400):
                sock.sendto(text, (HOST4, responder.port))
                assert sock.recv(2000) == text.upper()

    in_world(body)


@pytest.mark.parametrize("how", STACKS)
def test_dns(in_world: InWorld, how: str) -> None:
    """The network's name server asks the host's first resolver, over UDP and TCP."""

    def body(world: World) -> None:
        world.serve_udp(RESOLVER, 53, dns_answer)
        world.serve_tcp(RESOLVER, 53)
        with world.start(how):
            sock = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sendto(dns_query("example.org"), ("10.0.2.3", 53))
            assert sock.recv(512).endswith(socket.inet_aton(ANSWER))
            assert exchange(world.tcp(), ("10.0.2.3", 53)) == b"HELLO"

    in_world(body)


def test_dns_follows_resolv_conf(in_world: InWorld) -> None:
    """A resolv.conf that changes while the container lives is read again (libslirp looks once a second)."""

    def body(world: World) -> None:
        first = world.serve_udp(HOST4, 53, dns_answer)
        second = world.serve_udp(RESOLVER, 53, dns_answer)
        with world.start():
            sock = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            sock.sendto(dns_query("a.example"), ("10.0.2.3", 53))
            sock.recv(512)
            world.resolv_conf.write_text(f"# changed\nnameserver {RESOLVER}\n")
            for number in range(200):
                sock = world.open(socket.AF_INET, socket.SOCK_DGRAM)
                sock.sendto(dns_query(f"b{number}.example"), ("10.0.2.3", 53))
                sock.recv(512)
                if second.seen:
                    break
                world.open(socket.AF_INET, socket.SOCK_DGRAM).settimeout(0.05)
                select_for(0.05)
            assert first.seen and second.seen

    in_world(body, resolver=HOST4)


def select_for(seconds: float) -> None:
    """Let the stack's clock go on: it looks at resolv.conf once a second."""
    import select

    select.select([], [], [], seconds)


def test_ipv6_out(in_world: InWorld) -> None:
    """TCP and UDP over IPv6, at once: no address waits for duplicate detection."""

    def body(world: World) -> None:
        listener, responder = world.serve_tcp(HOST6), world.serve_udp(HOST6)
        with world.start() as stack:
            assert stack.attachment.address6 == "fd00::64/64"
            sock = world.open(socket.AF_INET6, socket.SOCK_STREAM)
            assert exchange(sock, (HOST6, listener.port)) == b"HELLO"
            datagrams = world.open(socket.AF_INET6, socket.SOCK_DGRAM)
            datagrams.sendto(b"six", (HOST6, responder.port))
            assert datagrams.recv(100) == b"SIX"

    in_world(body)


def test_without_ipv6(in_world: InWorld) -> None:
    """enable_ipv6=false: no IPv6 address but the kernel's own, no route."""

    def body(world: World) -> None:
        with world.start("driver", NetConfig(ipv6=False)) as stack:
            assert stack.attachment.address6 == "" == stack.attachment.gateway6
            assert [a.address for a in world.inside(addresses) if a.scope == 0] == [ip("10.0.2.100")]

    in_world(body)


@pytest.mark.parametrize("how", STACKS)
@pytest.mark.parametrize("mtu", (1500, MTU_DEFAULT))
def test_addresses_and_mtu(in_world: InWorld, how: str, mtu: int) -> None:
    """The device has the name, the address and the MTU that were asked for."""

    def body(world: World) -> None:
        with world.start(how, NetConfig(mtu=mtu, cidr="10.11.0.0/16", ipv6=False, tap_name="eth7")):

            def look() -> tuple[str, list[bytes]]:
                with open("/proc/thread-self/net/dev") as file:
                    assert "eth7:" in file.read()
                sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                import fcntl

                answer = fcntl.ioctl(sock, 0x8921, struct.pack("16sI12x", b"eth7", 0))  # SIOCGIFMTU
                sock.close()
                return str(struct.unpack_from("I", answer, 16)[0]), [
                    a.address for a in addresses() if a.scope == 0 and len(a.address) == 4
                ]

            assert world.inside(look) == (str(mtu), [ip("10.11.0.100")])

    in_world(body)


@pytest.mark.parametrize("size", (1, 65_536, 3_000_000))
def test_bytes_arrive(in_world: InWorld, size: int) -> None:
    """What is sent through the stack arrives whole and in order, in both directions at once."""

    def body(world: World) -> None:
        listener = world.serve_tcp(HOST4)
        sent = (b"abcdefghij" * (size // 10 + 1))[:size]
        with world.start():
            sock = world.tcp()
            sock.connect((HOST4, listener.port))
            got = b""
            at = 0
            while len(got) < size:
                if at < size:
                    at += sock.send(sent[at : at + 100_000])
                got += sock.recv(1 << 20)
            assert got == sent.upper()

    in_world(body)


@pytest.mark.parametrize("how", STACKS)
def test_ping_of_the_gateway(in_world: InWorld, how: str) -> None:
    """The gateway answers echo requests."""

    def body(world: World) -> None:
        with world.start(how):
            raw = world.open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
            raw.sendto(echo_request(8), ("10.0.2.2", 0))
            packet = raw.recv(100)
            while packet[20] == 8:
                packet = raw.recv(100)
            assert (packet[20], packet[28:]) == (0, b"ping")

    in_world(body)


def test_ping_of_the_gateway_ipv6(in_world: InWorld) -> None:
    """So it does over IPv6; the kernel fills in the checksum of ICMPv6."""

    def body(world: World) -> None:
        with world.start():
            raw = world.open(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
            raw.sendto(echo_request(128), ("fd00::2", 0))
            packet = raw.recv(100)
            while packet[0] != 129:
                packet = raw.recv(100)
            assert packet[8:] == b"ping"

    in_world(body)


def echo_request(kind: int) -> bytes:
    packet = struct.pack(">BBHHH", kind, 0, 0, 7, 1) + b"ping"
    total = sum(struct.unpack(f">{len(packet) // 2}H", packet))
    checksum = ~(total + (total >> 16)) & 0xFFFF
    return packet[:2] + struct.pack(">H", checksum) + packet[4:]


@pytest.mark.parametrize("address", ("0.0.0.0", HOST4, "127.0.0.1"))
def test_published_port(in_world: InWorld, address: str) -> None:
    """A port of the host leads into the container; a client that is not on loopback keeps its address."""

    def body(world: World) -> None:
        ports = parse_publish(f"{address}::8080")
        with world.start("driver", NetConfig(ports=ports)) as stack:
            (port,) = stack.attachment.ports
            assert port.host_port and port.container_port == 8080
            listener = world.serve_tcp("", sock=listen_inside(world, "0.0.0.0", 8080))
            target = HOST4 if address == "0.0.0.0" else address
            with socket.create_connection((target, port.host_port), 10) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"
            assert listener.seen == ["10.0.2.2" if target == "127.0.0.1" else HOST4]

    in_world(body)


def test_published_port_ipv6(in_world: InWorld) -> None:
    """An IPv6 address of the host leads to the container's IPv6 address."""

    def body(world: World) -> None:
        with world.start("driver", NetConfig(ports=parse_publish(f"[{HOST6}]:9090:8080"))):
            world.serve_tcp("", sock=listen_inside(world, "::", 8080))
            with socket.create_connection((HOST6, 9090), 10) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"

    in_world(body)


def test_published_udp_port(in_world: InWorld) -> None:
    """Two clients of a published UDP port each get their own answer."""

    def body(world: World) -> None:
        with world.start("driver", NetConfig(ports=parse_publish("9053:53/udp"))):
            inner = world.open(socket.AF_INET, socket.SOCK_DGRAM)
            inner.bind(("0.0.0.0", 53))
            clients = [bound(HOST4, 0, socket.SOCK_DGRAM) for _ in range(2)]
            for number, client in enumerate(clients):
                client.settimeout(10)
                client.sendto(b"q%d" % number, (HOST4, 9053))
            for _ in clients:
                data, peer = inner.recvfrom(100)
                inner.sendto(data.upper(), peer)
            assert [client.recv(100) for client in clients] == [b"Q0", b"Q1"]
            for client in clients:
                client.close()

    in_world(body)


def listen_inside(world: World, address: str, port: int) -> socket.socket:
    return world.inside(lambda: bound(address, port, socket.SOCK_STREAM))


def test_burst_on_a_published_port(in_world: InWorld) -> None:
    """Many clients at once are all accepted without a SYN being lost: the backlog is deeper than libslirp's 1."""

    def body(world: World) -> None:
        with world.start("driver", NetConfig(ports=parse_publish("8081:80"))):
            world.serve_tcp("", sock=listen_inside(world, "0.0.0.0", 80))
            clients = [socket.socket() for _ in range(60)]
            for client in clients:
                client.settimeout(10)
                client.setblocking(False)
                client.connect_ex((HOST4, 8081))
            for client in clients:
                client.setblocking(True)
                client.settimeout(10)
                client.sendall(b"x")
            assert [client.recv(10) for client in clients] == [b"X"] * 60
            for client in clients:
                client.close()
            with open("/proc/net/netstat") as file:
                names, values = [line.split() for line in file if line.startswith("TcpExt:")]
            assert dict(zip(names, values))["ListenOverflows"] == "0"

    in_world(body)


@pytest.mark.parametrize("kind", (socket.SOCK_STREAM, socket.SOCK_DGRAM))
def test_port_in_use(in_world: InWorld, kind: int) -> None:
    """A taken port is an error before the container starts, in podman's words; the process is gone afterwards."""

    def body(world: World) -> None:
        name = "tcp" if kind == socket.SOCK_STREAM else "udp"
        with bound("0.0.0.0", 0, kind) as taken:
            if kind == socket.SOCK_STREAM:
                taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(RootlessError) as caught:
                with world.start("driver", NetConfig(ports=parse_publish(f"{port}:80/{name}"))):
                    pass
        assert f"listen {name} 0.0.0.0:{port}: bind: address already in use" in str(caught.value)
        assert caught.value.hint

    in_world(body)


def test_two_containers_cannot_share_a_udp_port(in_world: InWorld) -> None:
    """libslirp's SO_REUSEADDR would let both bind it."""

    def body(world: World) -> None:
        config = NetConfig(ports=parse_publish("9054:53/udp"))
        with world.start("driver", config), pytest.raises(RootlessError, match="address already in use"):
            with world.start("driver", config):
                pass

    in_world(body)


def test_foreign_address(in_world: InWorld) -> None:
    """An address that is not the host's is named."""

    def body(world: World) -> None:
        with pytest.raises(RootlessError, match="cannot assign requested address"):
            with world.start("driver", NetConfig(ports=parse_publish("203.0.113.9:8080:80"))):
                pass

    in_world(body)


def test_privileged_port_names_the_sysctl() -> None:
    """Below the first unprivileged port the error says which sysctl would allow it. In the real host namespace."""
    from netns.driver import choose
    from netns.slirp import _first_unprivileged_port

    if _first_unprivileged_port() < 2:
        pytest.skip("every port is unprivileged here")
    from rootless.kernel.fds import open_fd

    config = NetConfig(ports=parse_publish("127.0.0.1:1:80"))
    pending = choose(config).prepare(config)
    try:
        with open_fd("/proc/self/ns/net", os.O_RDONLY) as own:
            pending.attach(own)
        with pytest.raises(RootlessError) as caught:
            pending.wait_ready(20_000)
    finally:
        pending.close()
    assert "net.ipv4.ip_unprivileged_port_start=1'" in str(caught.value)
    assert "listen tcp 127.0.0.1:1: bind: permission denied" in str(caught.value)


def test_the_process_is_what_it_should_be(in_world: InWorld) -> None:
    """Its name, its threads, its size, and where it is."""

    def body(world: World) -> None:
        with world.start() as stack:
            status = stack.status()
            assert (status["Name"], status["Threads"]) == ("rootless:[net]", "1")
            assert int(status["VmRSS"].split()[0]) <= 30_000
            assert subprocess.run(["true"], check=False).returncode == 0

    in_world(body)
