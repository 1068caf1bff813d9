"""How the network process begins and ends, and what it can still do in between."""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from netns import conformance, sandbox, slirp
from netns.config import NetConfig, parse_publish
from netns.driver import choose
from netns.drv_private import ask
from netns.wire import COUNTS, decode_port, encode_forward, encode_unforward
from rootless.errors import PeerGone, RootlessError
from rootless.kernel import namespaces
from rootless.kernel.fds import open_fd
from tests.net.world import HOST4, World, bound, exchange, kill, new_netns, wait_dead

InWorld = Callable[..., Any]
InUserns = Callable[..., Any]


@pytest.mark.parametrize("mode", ("private", "none", "host"))
@pytest.mark.parametrize("check", conformance.CHECKS, ids=lambda check: check.__name__)
def test_conformance(in_world: InWorld, mode: str, check: conformance.Check) -> None:
    """Every driver does what the seam promises."""

    def body(world: World) -> None:
        ports = parse_publish("8088:80") if mode == "private" else ()
        config = NetConfig(mode=mode, ports=ports)
        check(choose(config), config, world.netns)

    in_world(body)


def test_unknown_mode() -> None:
    """A mode without a driver is an error that names those which exist."""
    with pytest.raises(RootlessError, match="no such network mode: bridge"):
        choose(NetConfig(mode="bridge"))


def test_eof_ends_it(in_world: InWorld) -> None:
    """Closing the control socket, or dying with it, ends the process."""

    def body(world: World) -> None:
        with world.start() as stack:
            stack.attachment.close()
            assert wait_dead(stack.pid) == 0

    in_world(body)


def test_death_of_the_starter_ends_it(in_world: InWorld) -> None:
    """kill -9 of the process that holds the control socket ends the network process."""

    def body(world: World) -> None:
        program = (
            "import os, sys; from netns.config import NetConfig; from netns.driver import choose\n"
            "from rootless.kernel.fds import Fd\n"
            "p = choose(NetConfig()).prepare(NetConfig()); p.attach(Fd(int(sys.argv[1])))\n"
            "a = p.wait_ready(20000); print(a.pid, flush=True); sys.stdin.read()"
        )
        number = world.netns.fileno()
        words = [sys.executable, "-c", program, str(number)]
        process = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=(number,), cwd=Path(__file__).parents[2]
        )
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        process.kill()
        process.wait()
        # We are process 1 of this pid namespace, so it is our child now.
        assert wait_dead(pid) == 0

    in_world(body)


@pytest.mark.parametrize("number", (signal.SIGTERM, signal.SIGINT))
@pytest.mark.parametrize("how", ("driver", "command"))
def test_signals_end_it_cleanly(in_world: InWorld, how: str, number: signal.Signals) -> None:
    """SIGTERM is obeyed with status 0; the published ports are free again."""

    def body(world: World) -> None:
        config = NetConfig(ports=parse_publish("8089:80") if how == "driver" else ())
        with world.start(how, config) as stack:
            kill(stack.pid, number)
            assert wait_dead(stack.pid) == 0
        with world.start("driver", NetConfig(ports=parse_publish("8089:80"))):
            pass

    in_world(body)


def test_kill_is_noticed_by_the_pidfd(in_world: InWorld) -> None:
    """kill -9 makes the pidfd readable, and the device goes away with the process."""

    def body(world: World) -> None:
        with world.start() as stack:
            pidfd = stack.attachment.pidfd
            assert pidfd is not None
            assert select.select([pidfd], [], [], 0)[0] == []
            kill(stack.pid)
            assert select.select([pidfd], [], [], 10)[0] == [pidfd]
            wait_dead(stack.pid)
            devices = world.inside(lambda: Path("/proc/thread-self/net/dev").read_text())
            assert "tap0" not in devices
            with pytest.raises(PeerGone, match="the network process ended unexpectedly"):
                ask(stack.attachment, COUNTS)

    in_world(body)


def test_death_before_ready_is_told(in_world: InWorld) -> None:
    """A process that dies during set-up is PeerGone, at once."""

    def body(world: World) -> None:
        pending = choose(NetConfig()).prepare(NetConfig())
        kill(pending.pid)
        pending.attach(world.netns)
        with pytest.raises(PeerGone):
            pending.wait_ready(20_000)
        pending.close()

    in_world(body)


def test_deadline(in_world: InWorld) -> None:
    """A namespace that never comes does not hold the launch for ever."""

    def body(world: World) -> None:
        pending = choose(NetConfig()).prepare(NetConfig())
        with pytest.raises(RootlessError, match="not ready within"):
            pending.wait_ready(1)
        pending.close()

    in_world(body)


def test_a_name_that_is_taken(in_world: InWorld) -> None:
    """A second stack on one device is an error that names it."""

    def body(world: World) -> None:
        with world.start(), pytest.raises(RootlessError, match=r"ioctl\(TUNSETIFF\) tap0: device or resource busy"):
            with world.start():
                pass

    in_world(body)


def test_our_streams_stay_ours(in_world: InWorld) -> None:
    """The process holds neither our standard output nor anything else: a reader of our output sees its end."""

    def body(world: World) -> None:
        r, w = os.pipe()
        saved = os.dup(1)
        os.dup2(w, 1)
        try:
            with world.start():
                os.dup2(saved, 1)
                os.close(w)
                assert os.read(r, 1) == b""
        finally:
            os.close(saved)
            os.close(r)

    in_world(body)


def test_ports_of_a_running_container(in_world: InWorld) -> None:
    """Ports can be added and taken away, and frames counted, while connections live."""

    def body(world: World) -> None:
        listener = world.serve_tcp(HOST4)
        with world.start() as stack:
            sock = world.tcp()
            assert exchange(sock, (HOST4, listener.port)) == b"HELLO"
            (wanted,) = parse_publish("127.0.0.1::80")
            bound_port = decode_port(ask(stack.attachment, encode_forward(wanted)))  # type: ignore[arg-type]
            assert bound_port.host_port
            with pytest.raises(RootlessError, match="address already in use"):
                ask(stack.attachment, encode_forward(bound_port))
            assert ask(stack.attachment, encode_unforward(bound_port)) is True
            with pytest.raises(RootlessError):
                ask(stack.attachment, encode_unforward(bound_port))
            with pytest.raises(RootlessError, match="does not know this request"):
                ask(stack.attachment, b"{}")
            counts: Any = ask(stack.attachment, COUNTS)
            assert counts["from_guest"] > 2 and counts["to_guest"] > 2
            sock.sendall(b"still here")
            assert sock.recv(100) == b"STILL HERE"

    in_world(body)


def test_privileges_are_gone(in_world: InWorld) -> None:
    """No capability but NET_BIND_SERVICE, no way to more, a seccomp filter, a session of its own."""

    def body(world: World) -> None:
        with world.start() as stack:
            status = stack.status()
            assert {status[f"Cap{name}"] for name in ("Prm", "Eff")} == {f"{1 << 10:016x}"}
            assert {status[f"Cap{name}"] for name in ("Inh", "Bnd", "Amb")} == {f"{0:016x}"}
            assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
            assert os.getsid(stack.pid) == stack.pid
            shown = {path.split("/")[1] for path in sandbox.directories_of("/etc/resolv.conf")}
            assert set(os.listdir(f"/proc/{stack.pid}/root")) == shown

    in_world(body)


def test_a_sandbox_that_fails_ends_it(in_world: InWorld) -> None:
    """A process that cannot shut itself in carries nothing: it ends and says why."""

    def body(world: World) -> None:
        Path("/proc/sys/user/max_mnt_namespaces").write_text("0")
        with world.start() as stack:
            pidfd = stack.attachment.pidfd
            assert pidfd is not None
            assert select.select([pidfd], [], [], 10)[0] == [pidfd]
            assert stack.attachment.last_words() == "unshare: no space left on device\n"
            assert wait_dead(stack.pid) == 125

    in_world(body)


def test_user_namespace_made_after_the_process(in_world: InWorld) -> None:
    """Who enters a user namespace between prepare and attach hands that over too; the sockets stay outside."""

    def body(world: World) -> None:
        outside = bound(HOST4, 0, socket.SOCK_STREAM)
        outside.listen()
        pending = choose(NetConfig()).prepare(NetConfig())
        namespaces.unshare(namespaces.CLONE_NEWUSER | namespaces.CLONE_NEWNET)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text("0 0 1")
        Path("/proc/self/gid_map").write_text("0 0 1")
        with open_fd("/proc/self/ns/net", os.O_RDONLY) as own:
            pending.attach(own)
        attachment = pending.wait_ready(20_000)
        with outside, socket.create_connection(outside.getsockname(), 10):
            client, peer = outside.accept()
            assert peer[0] == HOST4
            client.close()
        conformance.reap(attachment)

    in_world(body)


def test_not_dumpable(in_userns: InUserns) -> None:
    """Nobody traces what carries the container's data, nor reads its memory."""

    def body() -> int:
        from rootless.kernel._sys import lib

        sandbox.drop_privileges()
        return lib.rl_prctl(lib.PR_GET_DUMPABLE, 0, 0, 0, 0)

    assert in_userns(body) == 0


def test_file_system_is_gone(in_userns: InUserns) -> None:
    """/etc alone is left, and nothing can be written or executed from it."""

    def body() -> None:
        before = Path("/etc/hostname").read_text() if Path("/etc/hostname").exists() else ""
        sandbox.leave_file_system()
        shown = {path.split("/")[1] for path in sandbox.directories_of("/etc/resolv.conf")}
        assert set(os.listdir("/")) == shown
        assert os.listdir("/etc")
        if before:
            assert Path("/etc/hostname").read_text() == before
        for path in ("/file", "/etc/file"):
            with pytest.raises(OSError, match="Read-only"):
                Path(path).write_text("x")

    in_userns(body)


def test_sandbox_follows_a_resolv_conf_elsewhere(in_userns: InUserns, tmp_path: Path) -> None:
    """Where /etc/resolv.conf leads out of /etc, the directory it leads to is shown as well, and changes are seen."""

    def body() -> None:
        from rootless.kernel import mounts

        away = tmp_path / "run" / "resolver"
        away.mkdir(parents=True)
        (away / "stub.conf").write_text("nameserver 192.0.2.1\n")
        etc = tmp_path / "etc"
        etc.mkdir()
        (etc / "resolv.conf").symlink_to(away / "stub.conf")
        mounts.mount(str(etc), "/etc", "", mounts.MS_BIND)
        writable = mounts.open_tree(str(away))
        sandbox.leave_file_system()
        with open("/etc/resolv.conf") as file:
            assert file.read() == "nameserver 192.0.2.1\n"
        os.rename("stub.conf", "old", src_dir_fd=writable.fileno(), dst_dir_fd=writable.fileno())
        new = os.open("stub.conf", os.O_CREAT | os.O_WRONLY, dir_fd=writable.fileno())
        os.write(new, b"nameserver 192.0.2.2\n")
        with open("/etc/resolv.conf") as file:
            assert file.read() == "nameserver 192.0.2.2\n"

    in_userns(body)


def test_system_calls_are_gone(in_userns: InUserns) -> None:
    """Under the filter no program and no process can be started, no namespace joined, nothing mounted or traced."""

    def body() -> list[str]:
        from rootless.kernel import mounts, namespaces, process
        from rootless.kernel.fds import open_fd

        own = open_fd("/proc/self/ns/net", os.O_RDONLY)
        process.set_no_new_privs()
        assert slirp.restrict_system_calls() == 0
        allowed: list[str] = []
        attempts: dict[str, Callable[[], object]] = {
            "exec": lambda: os.execv("/bin/true", ["true"]),
            "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}),
            "kill": lambda: os.kill(os.getppid(), 0),
            "setns": lambda: namespaces.setns(own),
            "unshare": lambda: namespaces.unshare(namespaces.CLONE_NEWNET),
            "mount": lambda: mounts.mount("x", "/mnt", "tmpfs"),
            "setuid": lambda: os.setuid(0),
            "chroot": lambda: os.chroot("/"),
            "unlink": lambda: os.unlink("/nothing"),
            "prctl": lambda: process.set_dumpable(True),
        }
        for name, attempt in attempts.items():
            try:
                attempt()
            except OSError as error:
                if error.errno != errno.EPERM:
                    allowed.append(f"{name}: {error}")
            else:
                allowed.append(name)
        return allowed

    assert in_userns(body) == []


def test_new_netns_is_a_namespace(in_userns: InUserns) -> None:
    """What the tests call the container is not the host."""

    def body() -> bool:
        with new_netns() as netns:
            return os.fstat(netns.fileno()).st_ino != os.stat("/proc/self/ns/net").st_ino

    assert in_userns(body, net=True)
