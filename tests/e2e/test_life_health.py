"""What a supervisor does by itself: health checks, restart policies, telling a service manager."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import capabilities, remains
from tests.support.cli import Cli

pytestmark = pytest.mark.requires("userns", "busybox", "registry")
GRACE_S = 30.0


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, sample_ref: str) -> Iterator[Cli]:
    """The command line, its store filled with the sample image."""
    capabilities.require("userns")
    program = Cli(tmp_path_factory.mktemp("health") / "roots")
    program.ok("pull", "-q", sample_ref)
    yield program
    program.clean()


@pytest.fixture
def cli(stocked: Cli) -> Iterator[Cli]:
    with remains.Family():
        yield stocked
        stocked("rm", "-f", "-a", "-t", "0")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + GRACE_S
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)


def run(cli: Cli, image: str, *flags: str, name: str = "c", program: tuple[str, ...] = ("sleep", "1000")) -> str:
    return cli.ok("run", "-d", "--network=none", f"--name={name}", "--stop-timeout=0", *flags, image, *program).strip()


def inspect(cli: Cli, name: str = "c") -> dict[str, object]:
    found: dict[str, object] = json.loads(cli.ok("inspect", name))[0]
    return found


def state(cli: Cli, name: str = "c") -> str:
    found = inspect(cli, name)["State"]
    assert isinstance(found, dict)
    return str(found["Status"])


def health(cli: Cli) -> str:
    return cli.ok("inspect", "-f", "{{.State.Health.Status}}", "c").strip()


def test_a_container_gets_ill_and_well_again(cli: Cli, sample_ref: str) -> None:
    cid = run(
        cli, sample_ref, "--health-cmd=echo looked; test -e /well", "--health-interval=100ms", "--health-retries=2"
    )
    until(lambda: health(cli) == "unhealthy")
    done = cli("healthcheck", "run", "c")
    assert (done.status, done.out) == (1, "unhealthy\n")
    assert "(unhealthy)" in cli.ok("ps", "--format", "{{.Status}}")
    assert cli.ok("ps", "-q", "--no-trunc", "--filter=health=unhealthy") == f"{cid}\n"
    cli.ok("exec", "c", "touch", "/well")
    done = cli("healthcheck", "run", "c")
    assert (done.status, done.out) == (0, "")
    assert health(cli) == "healthy"
    document = json.loads(cli.ok("inspect", "-f", "{{json .State.Health}}", "c"))
    assert document["FailingStreak"] == 0 and len(document["Log"]) <= 5
    assert document["Log"][-1]["ExitCode"] == 0 and document["Log"][-1]["Output"] == "looked"
    said = cli.ok("events", "--stream=false", "--filter=event=health_status", "--format={{.HealthStatus}}").split()
    assert said[-1] == "healthy" and "unhealthy" in said


def test_who_looks_at_once_sees_that_it_starts(cli: Cli, sample_ref: str) -> None:
    """There is a status before the supervisor has imported what checks take."""
    run(cli, sample_ref, "--health-cmd=true", "--health-interval=1h", "--health-start-period=1h")
    assert health(cli) in ("starting", "healthy")


def test_a_check_that_was_asked_for_in_vain(cli: Cli, sample_ref: str) -> None:
    """podman's words, and its exit code 125."""
    cid = run(cli, sample_ref)
    done = cli("healthcheck", "run", "c")
    assert (done.status, done.err) == (125, f"Error: container {cid} has no defined healthcheck\n")
    slow = run(
        cli, sample_ref, "--health-cmd=sleep 60", "--health-timeout=200ms", "--health-interval=disable", name="s"
    )
    done = cli("healthcheck", "run", "s")
    assert (done.status, done.err) == (125, "Error: healthcheck command exceeded timeout of 200ms\n")
    until(lambda: "sleep 60" not in cli.ok("top", "s"))
    cli.ok("stop", "s")
    done = cli("healthcheck", "run", "s")
    assert (done.status, done.err) == (125, f"Error: container {slow} is not running\n")
    done = cli("healthcheck", "run", "nobody")
    assert done.status == 125 and done.err.startswith("Error: unable to look up nobody to perform a health check: ")


@pytest.mark.parametrize("action", ["kill", "stop"])
def test_an_ill_container_is_ended(cli: Cli, sample_ref: str, action: str) -> None:
    """By what --health-on-failure says, and no policy begins it again."""
    flags = ("--health-cmd=false", "--health-interval=100ms", "--health-retries=1", f"--health-on-failure={action}")
    run(cli, sample_ref, *flags, "--restart=always")
    until(lambda: state(cli) == "exited")
    assert inspect(cli)["RestartCount"] == 0


def test_an_ill_container_is_restarted(cli: Cli, sample_ref: str) -> None:
    flags = ("--health-cmd=false", "--health-interval=100ms", "--health-retries=1", "--health-on-failure=restart")
    run(cli, sample_ref, *flags)
    until(lambda: int(str(inspect(cli)["RestartCount"])) >= 1)


def test_restart_policies(cli: Cli, sample_ref: str) -> None:
    run(cli, sample_ref, "--restart=on-failure:2", name="fails", program=("sh", "-c", "echo life; exit 3"))
    run(cli, sample_ref, "--restart=on-failure", name="works", program=("true",))
    run(cli, sample_ref, "--restart=always", name="always", program=("true",))
    run(cli, sample_ref, "--restart=unless-stopped", name="killed")
    until(lambda: inspect(cli, "fails")["RestartCount"] == 2 and state(cli, "fails") == "exited")
    assert cli.ok("logs", "fails") == "life\n" * 3
    until(lambda: state(cli, "works") == "exited")
    assert inspect(cli, "works")["RestartCount"] == 0
    until(lambda: int(str(inspect(cli, "always")["RestartCount"])) >= 2)
    cli.ok("stop", "always")
    cli.ok("kill", "killed")
    cli.ok("wait", "killed")
    assert (state(cli, "always"), state(cli, "killed")) == ("exited", "exited")
    cli.ok("start", "fails")
    until(lambda: state(cli, "fails") == "exited" and inspect(cli, "fails")["RestartCount"] == 2)


@pytest.mark.parametrize(
    ("mode", "flags", "heard"),
    [
        ("conmon", (), [b"MAINPID=%d\nREADY=1"]),
        ("container", (), [b"MAINPID=%d", b"READY=1\nSTATUS=up"]),
        ("healthy", ("--health-cmd=true", "--health-interval=100ms"), [b"MAINPID=%d", b"READY=1"]),
        ("ignore", (), []),
    ],
)
def test_a_service_manager_is_told(
    cli: Cli, sample_ref: str, tmp_path: Path, mode: str, flags: tuple[str, ...], heard: list[bytes]
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        with contextlib.chdir(tmp_path):
            manager.bind("notify")
        words = ("run", "-d", "--network=none", "--name=c", f"--sdnotify={mode}", *flags, sample_ref, "sh", "-c",
                 "echo $NOTIFY_SOCKET; exec sleep 1000")  # fmt: skip
        environ = cli.environ(NOTIFY_SOCKET=str(tmp_path / "notify"))
        subprocess.run(cli.argv(*words), env=environ, check=True, stdout=subprocess.DEVNULL, timeout=60)
        until(lambda: cli.ok("logs", "c") != "")
        cid = str(inspect(cli)["Id"])
        inside = cli.ok("logs", "c")
        assert inside == ("/run/notify/notify.sock\n" if mode == "container" else "\n")
        if mode == "container":
            tell(cli.run / "containers" / cid, b"READY=1\nSTATUS=up\nMAINPID=1")
        manager.settimeout(GRACE_S)
        supervisor = remains.noted(cli.run / "containers" / cid / "pid")
        assert [manager.recv(4096) for _ in heard] == [line % supervisor if b"%" in line else line for line in heard]
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            pytest.fail(f"more than that: {manager.recv(4096)!r}")


def tell(run_dir: Path, message: bytes) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        here = os.open(run_dir, os.O_PATH)  # the name of a socket ends at 108 bytes
        try:
            sock.sendto(message, f"/proc/self/fd/{here}/notify.sock")
        finally:
            os.close(here)
