"""Who tells the service manager what."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from rootless.spec.runtime import Process, Spec
from rootless.supervise.notify import INSIDE, Notifier


class Manager:
    """A service manager's socket."""

    def __init__(self, place: Path, abstract: bool = False) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.address = f"@rootless-test-{os.getpid()}" if abstract else f"{place}/notify"
        self.socket.bind("\0" + self.address[1:] if abstract else self.address)
        self.socket.setblocking(False)

    def heard(self) -> list[bytes]:
        found = []
        while True:
            try:
                found.append(self.socket.recv(4096))
            except BlockingIOError:
                return found


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path)
    yield found
    found.socket.close()


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    # longer than the name of a socket may be
    path = tmp_path / ("long" * 25) / "containers"
    path.mkdir(parents=True)
    return str(path)


def say(run_dir: str, message: bytes) -> None:
    here = os.open(run_dir, os.O_PATH)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(message, f"/proc/self/fd/{here}/notify.sock")
    os.close(here)


def test_a_programs_words_are_passed_on_without_its_pid(manager: Manager, run_dir: str) -> None:
    notifier = Notifier("container", manager.address, run_dir)
    notifier.started(77)
    say(run_dir, b"READY=1\nSTATUS=up\nMAINPID=1\nFDSTORE=1")
    say(run_dir, b"X_OWN=1")
    for _ in range(3):
        notifier.step()  # the third finds nothing, and does not wait
    assert manager.heard() == [b"MAINPID=77", b"READY=1\nSTATUS=up"]
    notifier.close()
    assert not os.path.exists(f"{run_dir}/notify.sock")


def test_every_user_of_the_container_may_write(manager: Manager, run_dir: str) -> None:
    notifier = Notifier("container", manager.address, run_dir)
    assert stat.S_IMODE(os.stat(f"{run_dir}/notify.sock").st_mode) == 0o666
    notifier.close()


def test_a_second_life_takes_the_place_of_the_first(manager: Manager, run_dir: str) -> None:
    Notifier("container", manager.address, run_dir)
    notifier = Notifier("container", manager.address, run_dir)
    say(run_dir, b"READY=1")
    notifier.step()
    assert manager.heard() == [b"READY=1"]
    notifier.close()


def test_the_container_sees_our_socket(manager: Manager, run_dir: str) -> None:
    spec = Spec("1.0.2", process=Process(args=("x",), env=("NOTIFY_SOCKET=/host", "A=b"), cwd="/"))
    notifier = Notifier("container", manager.address, run_dir)
    found = notifier.applied(spec)
    assert found.process is not None and found.process.env == ("A=b", f"NOTIFY_SOCKET={INSIDE}")
    assert [(m.destination, m.source) for m in found.mounts] == [(INSIDE, f"{run_dir}/notify.sock")]
    notifier.close()


@pytest.mark.parametrize("mode", ["conmon", "healthy", "ignore"])
def test_the_container_sees_nothing_in_other_modes(manager: Manager, run_dir: str, mode: str) -> None:
    spec = Spec("1.0.2", process=Process(args=("x",), env=("NOTIFY_SOCKET=/host",), cwd="/"))
    notifier = Notifier(mode, manager.address, run_dir)
    found = notifier.applied(spec)
    assert found.process is not None and found.process.env == () and found.mounts == ()
    assert notifier.fd is None and os.listdir(run_dir) == []
    notifier.step()
    notifier.close()


def test_conmon_is_ready_at_the_start(manager: Manager, run_dir: str) -> None:
    Notifier("conmon", manager.address, run_dir).started(5)
    assert manager.heard() == [b"MAINPID=5\nREADY=1"]


def test_healthy_is_ready_once(manager: Manager, run_dir: str) -> None:
    notifier = Notifier("healthy", manager.address, run_dir)
    notifier.started(5)
    notifier.healthy()
    notifier.healthy()
    assert manager.heard() == [b"MAINPID=5", b"READY=1"]


def test_nobody_listens(run_dir: str) -> None:
    notifier = Notifier("container", "", run_dir)
    assert notifier.fd is None
    notifier.started(5)
    gone = Notifier("conmon", f"{run_dir}/nobody", run_dir)
    gone.started(5)


def test_ignore_says_nothing(manager: Manager, run_dir: str) -> None:
    Notifier("ignore", manager.address, run_dir).started(5)
    assert manager.heard() == []


def test_abstract_sockets(tmp_path: Path, run_dir: str) -> None:
    manager = Manager(tmp_path, abstract=True)
    Notifier("conmon", manager.address, run_dir).started(5)
    assert manager.heard() == [b"MAINPID=5\nREADY=1"]
    manager.socket.close()
