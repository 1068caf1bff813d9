"""rootless-netstack as a command: by pid, its descriptors, its API socket, and under podman."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from netns.config import NetConfig
from rootless import launcher
from tests.net.test_private import listen_inside
from tests.net.world import HOST4, World, bound
from tests.support import capabilities
from tests.support.userns import remove_tree

InWorld = Callable[..., Any]
TIMEOUT_S = 20


def ask(path: str, request: object) -> Any:
    """Send one request to the API socket at *path*."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(TIMEOUT_S)
        sock.connect(path)
        sock.sendall(request if isinstance(request, bytes) else json.dumps(request).encode())
        sock.shutdown(socket.SHUT_WR)
        return json.loads(sock.recv(65536))


def add(**arguments: object) -> dict[str, object]:
    return {"execute": "add_hostfwd", "arguments": {"proto": "tcp", "guest_port": 80} | arguments}


@pytest.mark.parametrize("how", ("command", "slirp4netns"))
def test_api_socket(in_world: InWorld, how: str, tmp_path: Path) -> None:
    """Ports are added, listed and removed while the stack runs; ids count from 1."""

    def body(world: World) -> None:
        path = str(tmp_path / "api")
        with world.start(how, NetConfig(ipv6=False), ("--api-socket", path)):
            world.serve_tcp("", sock=listen_inside(world, "0.0.0.0", 80))
            assert ask(path, add(host_port=8080)) == {"return": {"id": 1}}
            assert ask(path, add(host_port=8081, host_addr=HOST4, guest_addr="10.0.2.100")) == {"return": {"id": 2}}
            with socket.create_connection((HOST4, 8080), TIMEOUT_S) as client:
                client.sendall(b"hello")
                assert client.recv(100) == b"HELLO"
            entries = ask(path, {"execute": "list_hostfwd"})["entries"]
            common = {"proto": "tcp", "guest_addr": "10.0.2.100", "guest_port": 80}
            assert {tuple(sorted(entry.items())) for entry in entries} == {
                tuple(sorted(entry.items()))
                for entry in (
                    {"id": 1, "host_addr": "0.0.0.0", "host_port": 8080} | common,
                    {"id": 2, "host_addr": HOST4, "host_port": 8081} | common,
                )
            }
            assert ask(path, {"execute": "remove_hostfwd", "arguments": {"id": 1}}) == {"return": {}}
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST4, 8080), TIMEOUT_S)

    in_world(body)


@pytest.mark.parametrize("how", ("command", "slirp4netns"))
@pytest.mark.parametrize(
    ("request_", "words"),
    (
        (b"nonsense", "bad request: cannot parse JSON"),
        ({"x": 1}, "bad request: no execute found"),
        ({"execute": "fly"}, "bad request: unknown execute"),
        (add(host_port=8080, proto="sctp"), "bad request: add_hostfwd: bad arguments.proto"),
        (add(), "bad request: add_hostfwd: bad arguments.host_port"),
        (add(host_port=8080, guest_port=0), "bad request: add_hostfwd: bad arguments.guest_port"),
    ),
)
def test_api_errors(in_world: InWorld, how: str, request_: object, words: str, tmp_path: Path) -> None:
    """Errors come in slirp4netns's words."""

    def body(world: World) -> None:
        path = str(tmp_path / "api")
        with world.start(how, NetConfig(ipv6=False), ("--api-socket", path)):
            assert ask(path, request_)["error"]["desc"] == words

    in_world(body)


def test_api_port_in_use_and_long_requests(in_world: InWorld, tmp_path: Path) -> None:
    """A taken port is told with its reason, a request without end is cut; both leave the stack alive."""

    def body(world: World) -> None:
        path = str(tmp_path / "api")
        with world.start("command", NetConfig(), ("--api-socket", path)), bound("0.0.0.0", 0, 1) as taken:
            taken.listen()
            port = taken.getsockname()[1]
            assert "address already in use" in ask(path, add(host_port=port))["error"]["desc"]
            assert ask(path, b" " * 5000) == {"error": {"desc": "bad request: too large message"}}
            waiting = [socket.socket(socket.AF_UNIX) for _ in range(8)]
            for sock in waiting:  # clients that say nothing do not keep others out
                sock.connect(path)
            assert ask(path, add(host_port=8080)) == {"return": {"id": 1}}
            for sock in waiting:
                sock.close()

    in_world(body)


@contextmanager
def somebody() -> Iterator[int]:
    """Give the pid of a process in user and network namespaces of its own."""
    words = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", "echo; exec sleep 1000"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.read(1) == b"\n"
        yield process.pid
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def test_by_pid_from_outside() -> None:
    """An unprivileged user serves a process in another user namespace; --exit-fd ends it, --ready-fd tells."""
    capabilities.require("userns", "tun")
    with somebody() as pid:
        ready, ready_end = os.pipe()
        exit_end, keep = os.pipe()
        words = launcher.command("rootless-netstack", "-c", "-6", f"-r{ready_end}", f"-e{exit_end}", str(pid), "tap9")
        process = subprocess.Popen(words, pass_fds=(ready_end, exit_end), stdout=subprocess.PIPE, text=True)
        os.close(ready_end)
        os.close(exit_end)
        assert os.read(ready, 2) == b"1"
        assert os.read(ready, 1) == b"", "the descriptor is closed when it was told"
        assert "tap9:" in Path(f"/proc/{pid}/net/dev").read_text()
        os.close(ready)
        os.close(keep)
        out, _ = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0
        assert "* Recommended IP:  10.0.2.100" in out
        assert "WARNING: 127.0.0.1:* on the host is accessible as 10.0.2.2" in out
        assert "tap9:" not in Path(f"/proc/{pid}/net/dev").read_text()


def test_nobody() -> None:
    """A pid that does not exist is one line and status 1."""
    words = launcher.command("rootless-netstack", "-c", "999999999", "tap0")
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 1
    assert done.stderr == "rootless-netstack: open /proc/999999999/ns/net: no such file or directory\n"


def test_versions() -> None:
    """-v says what `slirp4netns -v` is asked for."""
    words = launcher.command("rootless-netstack", "-v")
    done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("rootless-netstack version ")
    assert lines[1].startswith("libslirp: 4.")
    assert lines[2].startswith("SLIRP_CONFIG_VERSION_MAX: ")


def test_under_podman() -> None:
    """podman takes it for slirp4netns: flags, ready and exit descriptors, API socket, a published port."""
    capabilities.require("userns", "subuid", "tun", "podman", "runc", "busybox")
    tmp_path = Path(tempfile.mkdtemp(prefix="rl", dir="/tmp"))  # podman allows 50 characters for its run root
    with bound("127.0.0.1", 0, 1) as free:
        port = free.getsockname()[1]
    program = tmp_path / "netstack"
    words = " ".join(launcher.command("rootless-netstack"))
    program.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/said\nexec {words} "$@"\n')
    program.chmod(0o755)
    config = tmp_path / "containers.conf"
    config.write_text(f'[engine]\nnetwork_cmd_path="{program}"\ncgroup_manager="cgroupfs"\n')
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy(shutil.which("busybox") or "", root / "bin" / "busybox")
    home = tmp_path / "home"
    home.mkdir()
    environ = {"PATH": os.environ["PATH"] + ":/usr/sbin:/sbin", "HOME": str(home), "CONTAINERS_CONF": str(config)}
    roots = [f"--root={tmp_path}/data", f"--runroot={tmp_path}/run", f"--tmpdir={tmp_path}/tmp", "--runtime=runc"]
    argv = ["podman", *roots, "--log-level=error", "run", "--rm", "-i", f"-p=127.0.0.1:{port}:80"]
    argv += ["--network=slirp4netns:port_handler=slirp4netns", "--rootfs", str(root), "/bin/busybox", "sh", "-c"]
    argv += ["busybox cat /etc/resolv.conf; echo hello | busybox nc -l -p 80; read line"]
    process = subprocess.Popen(
        argv, env=environ, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "nameserver 10.0.2.3\n", process.communicate("", TIMEOUT_S)
        assert answer(port) == b"hello\n"
        _, err = process.communicate("\n", TIMEOUT_S)
        assert process.returncode == 0, err
        assert "--api-socket" in (tmp_path / "said").read_text()
    finally:
        process.kill()
        process.wait()
        reset = ["podman", *roots, "system", "reset", "--force"]
        subprocess.run(reset, env=environ, capture_output=True, timeout=TIMEOUT_S, check=False)
        end_pause_process(tmp_path)
        remove_tree(tmp_path)


def answer(port: int) -> bytes:
    """Return what the container says; it may not listen yet, and then the stack resets the connection."""
    for _ in range(200):
        with socket.create_connection(("127.0.0.1", port), TIMEOUT_S) as client:
            try:
                data = client.recv(100)
            except ConnectionResetError:
                data = b""
            if data:
                return data
    return b""


def end_pause_process(place: Path) -> None:
    """End what podman leaves to keep its user namespace: processes with *place* in their environment."""
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(place) in (directory / "environ").read_bytes() and int(directory.name) != os.getpid():
                os.kill(int(directory.name), 9)
        except OSError:
            pass
