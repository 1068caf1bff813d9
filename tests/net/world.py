"""A small world in namespaces of its own: a "host" with addresses, a resolver and listeners, and a container beside it.

    def test_x(in_userns):
        def body():
            with World() as world, world.start("driver") as stack: ...
        in_userns(body, net=True, pid=True)

The host's network namespace has no device but lo, so nothing that a test does can leave the machine. Its addresses
stand on lo: to the stack they are the machine's own non-loopback addresses.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import pytest

from netns import rtnetlink, tap
from netns.addressing import parse_ip
from netns.config import NetConfig
from netns.conformance import reap
from netns.driver import Attachment, choose
from netns.drv_private import ask
from netns.netlink import talk
from netns.wire import COUNTS
from rootless import launcher
from rootless.kernel import mounts, namespaces
from rootless.kernel.fds import Fd, open_fd

T = TypeVar("T")
HOST4, HOST6, RESOLVER = "198.51.100.7", "2001:db8::7", "198.51.100.53"
ANSWER = "203.0.113.80"
PEER = "/usr/bin/slirp4netns"
TIMEOUT_S = 10.0
STACKS = ("driver", "command", "slirp4netns")


class World:
    """The host: the calling process. The container: a network namespace without a process."""

    def __init__(self, resolver: str = RESOLVER, tun: bool = True) -> None:
        self.resolver, self.tun = resolver, tun
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        self._stack.__enter__()
        lo = rtnetlink.LO_INDEX
        talk(
            (
                rtnetlink.pack_link(lo, up=True),
                *(rtnetlink.pack_address(lo, ip(a), 32) for a in (HOST4, RESOLVER)),
                rtnetlink.pack_address(lo, ip(HOST6), 128),
            )
        )
        directory = self._stack.enter_context(tempfile.TemporaryDirectory())
        self.resolv_conf = Path(directory) / "resolv.conf"
        self.resolv_conf.write_text(f"nameserver {self.resolver}\n")
        # Never unmounted: the mount namespace goes with the test.
        mounts.mount(str(self.resolv_conf), os.path.realpath("/etc/resolv.conf"), "", mounts.MS_BIND)
        if not self.tun:
            mounts.mount("tmpfs", "/dev/net", "tmpfs")
        self.netns = self._stack.enter_context(new_netns())
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._stack.__exit__(kind, value, tb)

    # ---- the network process

    @contextlib.contextmanager
    def start(
        self, how: str = "driver", config: NetConfig | None = None, options: Sequence[str] = ()
    ) -> Iterator[Stack]:
        """Start a stack: by our driver, by our command line, or the peer."""
        config = config or NetConfig()
        stack = _by_driver(self.netns, config) if how == "driver" else _by_command(self.netns, config, how, options)
        try:
            yield stack
        finally:
            stack.stop()

    def inside(self, work: Callable[[], T]) -> T:
        """Return what *work* returns in a thread of the container's network namespace."""
        results: list[T] = []
        tap.in_netns(self.netns, lambda: results.append(work()))
        return results[0]

    def open(self, family: int, kind: int, protocol: int = 0) -> socket.socket:
        """Return a socket of the container; it works from every thread."""
        sock = self.inside(lambda: socket.socket(family, kind, protocol))
        sock.settimeout(TIMEOUT_S)
        return self._stack.enter_context(sock)

    def tcp(self) -> socket.socket:
        return self.open(socket.AF_INET, socket.SOCK_STREAM)

    # ---- the host

    def serve_tcp(self, address: str, port: int = 0, *, sock: socket.socket | None = None) -> Listener:
        """Answer each connection with the address it came from and what it sent, upper case."""
        return self._stack.enter_context(Listener(sock or bound(address, port, socket.SOCK_STREAM)))

    def serve_udp(self, address: str, port: int = 0, answer: Callable[[bytes], bytes] = bytes.upper) -> Datagrams:
        """Answer each datagram."""
        return self._stack.enter_context(Datagrams(bound(address, port, socket.SOCK_DGRAM), answer))


class Stack:
    """A network process that is up."""

    def __init__(self, pid: int, stop: Callable[[], None], attachment: Attachment | None = None) -> None:
        self.pid, self.stop = pid, stop
        self._attachment = attachment

    @property
    def attachment(self) -> Attachment:
        assert self._attachment is not None
        return self._attachment

    def status(self) -> dict[str, str]:
        """Return /proc/PID/status, once the process carries frames."""
        if self._attachment is not None:
            ask(self._attachment, COUNTS)
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def _by_driver(netns: Fd, config: NetConfig) -> Stack:
    pending = choose(config).prepare(config)
    try:
        pending.attach(netns)
        attachment = pending.wait_ready(20_000)
    except BaseException:
        pending.close()
        raise
    return Stack(attachment.pid, lambda: reap(attachment), attachment)


def command_line(how: str, netns: Fd, config: NetConfig) -> list[str]:
    """Return the words that start *how* (`command` or the peer) for *config*."""
    if how == "slirp4netns":
        if not os.path.exists(PEER):
            pytest.skip("no slirp4netns")
        words = [PEER]
    else:
        words = launcher.command("rootless-netstack")
    words += ["--configure", f"--mtu={config.mtu}", f"--cidr={config.cidr}", "--netns-type=path"]
    words += [] if config.allow_host_loopback else ["--disable-host-loopback"]
    words += ["--enable-ipv6"] if config.ipv6 else []
    return [*words, f"/proc/{os.getpid()}/fd/{netns.fileno()}", config.tap_name]


def _by_command(netns: Fd, config: NetConfig, how: str, options: Sequence[str]) -> Stack:
    ready, ready_end = os.pipe()
    exit_end, keep = os.pipe()
    words = command_line(how, netns, config)
    words[-2:-2] = [f"--ready-fd={ready_end}", f"--exit-fd={exit_end}", *options]
    quiet: Any = subprocess.DEVNULL
    process = subprocess.Popen(words, pass_fds=(ready_end, exit_end), stdout=quiet, stderr=quiet)
    os.close(ready_end)
    os.close(exit_end)

    def stop() -> None:
        os.close(keep)
        process.wait(TIMEOUT_S)

    try:
        assert os.read(ready, 1) == b"1", f"{words[0]} ended with {process.wait(TIMEOUT_S)}"
    except BaseException:
        stop()
        raise
    finally:
        os.close(ready)
    return Stack(process.pid, stop)


class Listener:
    """A TCP listener with a thread; `seen` are the peers of the connections so far."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._sock.listen(64)
        self._wake = os.pipe()
        self.seen: list[str] = []
        self.port: int = sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake[1])
        self._thread.join()
        self._sock.close()
        os.close(self._wake[0])

    def _serve(self) -> None:
        clients: list[socket.socket] = []
        while True:
            ready, woken = readable([self._sock, *clients], self._wake[0])
            if woken:
                break
            for sock in ready:
                if sock is self._sock:
                    client, peer = self._sock.accept()
                    self.seen.append(peer[0])
                    clients.append(client)
                    continue
                with contextlib.suppress(OSError):
                    data = sock.recv(65536)
                    if data:
                        sock.sendall(data.upper())
                        continue
                sock.close()
                clients.remove(sock)
        for client in clients:
            client.close()


class Datagrams:
    """A UDP responder with a thread."""

    def __init__(self, sock: socket.socket, answer: Callable[[bytes], bytes]) -> None:
        self._sock, self._answer = sock, answer
        self._wake = os.pipe()
        self.seen: list[bytes] = []
        self.port: int = sock.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._wake[1])
        self._thread.join()
        self._sock.close()
        os.close(self._wake[0])

    def _serve(self) -> None:
        while True:
            if readable([self._sock], self._wake[0])[1]:
                return
            data, peer = self._sock.recvfrom(65536)
            self.seen.append(data)
            self._sock.sendto(self._answer(data), peer)


def readable(sockets: list[socket.socket], wake: int) -> tuple[list[socket.socket], bool]:
    """Wait; return which of *sockets* are readable, and whether *wake* is."""
    numbers, _, _ = select.select([wake, *(sock.fileno() for sock in sockets)], [], [])
    return [sock for sock in sockets if sock.fileno() in numbers], wake in numbers


def bound(address: str, port: int, kind: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, kind)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((address, port))
    return sock


def ip(text: str) -> bytes:
    address = parse_ip(text)
    assert address is not None
    return address


def new_netns() -> Fd:
    """Return a new, empty network namespace."""
    made: list[Fd] = []

    def body() -> None:
        namespaces.unshare(namespaces.CLONE_NEWNET)
        made.append(open_fd("/proc/thread-self/ns/net", os.O_RDONLY))

    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    return made[0]


def exchange(sock: socket.socket, address: tuple[str, int], data: bytes = b"hello") -> bytes:
    """Connect, send, and return the answer."""
    sock.connect(address)
    sock.sendall(data)
    return sock.recv(65536)


def dns_answer(query: bytes) -> bytes:
    """Answer any query with ANSWER."""
    question = query[12:].split(b"\0", 1)[0] + query[12:][len(query[12:].split(b"\0", 1)[0]) :][:5]
    head = query[:2] + struct.pack(">HHHHH", 0x8180, 1, 1, 0, 0)
    return head + question + b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 60, 4) + socket.inet_aton(ANSWER)


def dns_query(name: str) -> bytes:
    labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
    return struct.pack(">HHHHHH", 0x4711, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(">HH", 1, 1)


def wait_dead(pid: int) -> int:
    """Return how our child *pid* ended."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)
