"""What machines do to containers that stay: reboots, full disks, clocks, wiped directories, upgrades, stuck servers.

docs/faults.md has the list; what is not here was tried by hand and stands there.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rootless.launcher import ROOT, START
from tests.support import capabilities, remains
from tests.support.cli import Cli
from tests.support.userns import in_userns

pytestmark = pytest.mark.requires("userns", "busybox", "registry")
STAYS = ("sh", "-c", "trap 'exit 7' TERM; echo up; while :; do sleep 0.1; done")
GRACE_S = 30.0


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, sample_ref: str) -> Iterator[Cli]:
    """The command line, its store filled with the sample image."""
    capabilities.require("userns")
    program = Cli(tmp_path_factory.mktemp("hard") / "roots")
    program.ok("pull", "-q", sample_ref)
    yield program
    program.clean()


@pytest.fixture
def family() -> Iterator[remains.Family]:
    """All that the test starts; nothing of it survives."""
    with remains.Family() as found:
        yield found


@pytest.fixture
def cli(stocked: Cli, family: remains.Family) -> Iterator[Cli]:
    yield stocked
    stocked("rm", "-f", "-a", "-t", "0")


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + GRACE_S
    while not condition():
        assert time.monotonic() < end, "it never became true"
        time.sleep(0.02)


def up(cli: Cli, image: str, *flags: str, name: str = "c") -> str:
    """Start a container that stays, and wait until its program has said so."""
    cid = cli.ok("run", "-d", "--network=none", f"--name={name}", *flags, image, *STAYS).strip()
    until(lambda: cli.ok("logs", name) == "up\n")
    return cid


def supervisor(cli: Cli, cid: str) -> int:
    return remains.noted(cli.run / "containers" / cid / "pid")


def statuses(cli: Cli) -> dict[str, str]:
    return {one["Names"][0]: one["State"] for one in json.loads(cli.ok("ps", "-a", "--format", "json"))}


def record(cli: Cli, cid: str) -> Path:
    return cli.data / "containers" / cid / "record.json"


def change(cli: Cli, cid: str, **values: str) -> None:
    path = record(cli, cid)
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def reboot(cli: Cli, cids: list[str]) -> None:
    """Leave what a restart of the machine leaves: records of another boot, and nothing below the run root."""
    for cid in cids:
        pid = supervisor(cli, cid)
        os.kill(pid, signal.SIGKILL)
        remains.wait_dead(pid)
    shutil.rmtree(cli.run)
    cli.run.mkdir(mode=0o700)
    for cid in cids:
        change(cli, cid, boot="before")


def test_after_a_reboot_records_are_put_right(cli: Cli, sample_ref: str) -> None:
    """What ran has ended, what had --rm has gone, and everything can be started again."""
    cids = [up(cli, sample_ref), up(cli, sample_ref, "--rm", "-v", "/anonymous", name="gone")]
    reboot(cli, cids)
    assert statuses(cli) == {"c": "exited"}
    assert remains.anonymous_volumes(cli) == []
    state = json.loads(cli.ok("inspect", "c"))[0]["State"]
    assert (state["ExitCode"], state["Error"]) == (137, "the machine was started again")
    cli.ok("start", "c")
    assert statuses(cli) == {"c": "running"}


def test_a_run_root_that_was_wiped_comes_back(cli: Cli, sample_ref: str) -> None:
    """The container is shown as running all the time, cannot be started twice, and obeys again after a moment."""
    cid = up(cli, sample_ref)
    shutil.rmtree(cli.run / "containers")
    assert statuses(cli) == {"c": "running"}
    cli("start", "c")
    until(lambda: (cli.run / "containers" / cid / "ctl.sock").exists())
    assert cli.ok("exec", "c", "echo", "hi") == "hi\n"
    cli.ok("stop", "c")
    assert json.loads(cli.ok("inspect", "c"))[0]["State"]["ExitCode"] == 7
    assert list(remains.run_directories(cli)) == []


def test_a_container_of_another_machine_is_left_alone(cli: Cli, sample_ref: str) -> None:
    """On a network home two machines share records: each acts on its own containers."""
    cid = up(cli, sample_ref)
    ours = json.loads(record(cli, cid).read_text())["machine"]
    change(cli, cid, machine="elsewhere")
    assert statuses(cli) == {"c": "remote"}
    for words in (
        ["stop", "c"],
        ["kill", "c"],
        ["rm", "-f", "c"],
        ["start", "c"],
        ["exec", "c", "true"],
        ["restart", "c"],
    ):
        done = cli(*words)
        assert done.status == 125 and f"container {cid} runs on another machine" in done.err, words
    assert supervisor(cli, cid)
    change(cli, cid, machine=ours)
    cli.ok("stop", "c")


def test_the_clock_is_set_back(cli: Cli, sample_ref: str) -> None:
    """A directory of the future without a lock is a leftover, not one that is just being made."""
    cid = up(cli, sample_ref)
    os.kill(supervisor(cli, cid), signal.SIGKILL)
    remains.wait_dead(supervisor(cli, cid))
    place = cli.run / "containers" / cid
    until(lambda: not remains.is_held(place / "lock"))
    (place / "lock").unlink()
    os.utime(place, (time.time() + 86400, time.time() + 86400))
    assert statuses(cli) == {"c": "exited"}
    assert not place.exists()


def test_a_full_disk_loses_nothing(stocked: Cli, sample_ref: str) -> None:
    """What cannot be written is said with a hint; what runs goes on, and its exit code is known afterwards."""
    environ = stocked.environ()

    def body() -> list[str]:
        place = stocked.place / "small"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
        small = Cli(place / "roots")
        small.run = stocked.place / "run-beside"
        small.run.mkdir(mode=0o700)
        said: list[str] = []

        def run(*words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                small.argv(*words), env=environ, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
            )

        rootfs = place / "root"
        (rootfs / "bin").mkdir(parents=True)
        shutil.copy(busybox(), rootfs / "bin" / "sh")
        done = run("run", "-d", "--network=none", "--name=c", "--rootfs", str(rootfs), "/bin/sh", "-c",
                   "trap 'exit 7' TERM; while :; do echo x; read -t 0.1 y </dev/zero; done")  # fmt: skip
        assert done.returncode == 0, done.stderr
        with contextlib.suppress(OSError), open(place / "fill", "wb") as file:
            while True:
                file.write(bytes(4096))
                file.flush()
        said.append(run("create", "--network=none", "--rootfs", str(rootfs), "/bin/sh").stderr)
        said.append(run("stop", "-t", "5", "c").stderr)
        (place / "fill").unlink()
        said.append(run("ps", "-a", "--format", "{{.Names}} {{.Status}}").stdout)
        said.append(run("rm", "c").stdout)
        return said

    create, stop, listed, removed = in_userns(body)
    assert "no space left on device" in create and "hint: free some space" in create
    assert stop == ""
    assert listed.startswith("c Exited (7)")
    assert removed == "c\n"


def busybox() -> str:
    path = shutil.which("busybox")
    assert path is not None
    return path


def test_stop_of_a_program_that_ignores_term(cli: Cli, sample_ref: str) -> None:
    cli.ok("run", "-d", "--network=none", "--name=c", sample_ref, "sh", "-c", "trap '' TERM; while :; do sleep 1; done")
    done = cli("stop", "-t", "1", "c")
    assert (done.status, done.out) == (0, "c\n")
    assert "StopSignal SIGTERM failed to stop container c in 1 seconds, resorting to SIGKILL" in done.err
    assert json.loads(cli.ok("inspect", "c"))[0]["State"]["ExitCode"] == 137


def test_a_fork_bomb_is_listed_and_stopped(cli: Cli, family: remains.Family, sample_ref: str) -> None:
    """Without a cgroup the user's number of processes bounds it (--ulimit nproc)."""
    bomb = "f() { sleep 100 & f & sleep 100; }; f & while :; do sleep 1; done"
    flags = ("--user=1000", "--ulimit=nproc=60:60")
    cid = cli.ok("run", "-d", "--network=none", "--name=c", *flags, sample_ref, "sh", "-c", bomb).strip()
    until(lambda: len(family.alive()) > 30)
    assert statuses(cli) == {"c": "running"}
    assert len(cli.ok("top", "c").splitlines()) > 30
    cli.ok("stop", "-t", "0", "c")
    until(lambda: family.alive() == {})
    assert not (cli.run / "containers" / cid).exists()


def test_many_lines_and_a_reader_that_does_not_read(cli: Cli, sample_ref: str) -> None:
    """Every line is there in the end, and a `logs -f` that nobody reads stops nothing."""
    script = "i=0; while [ $i -lt 50 ]; do seq 1 1000; i=$((i+1)); done; echo over"
    cli.ok("create", "--network=none", "--name=c", sample_ref, "sh", "-c", script)
    cli.ok("start", "c")
    slow = cli.start("logs", "-f", "c")
    try:
        assert cli.ok("wait", "c") == "0\n"
        lines = cli.ok("logs", "c").splitlines()
        assert len(lines) == 50_001 and lines[-1] == "over"
        assert lines[:-1] == [str(number) for number in range(1, 1001)] * 50
    finally:
        slow.kill()
        slow.communicate()


@pytest.mark.requires("fuse")
def test_a_file_server_that_is_stuck(cli: Cli, family: remains.Family, sample_ref: str) -> None:
    """Looking at the container works without it, and stop ends it in time."""
    script = "trap '' TERM; echo up; while :; do ls -lR / >/dev/null 2>&1; done"
    cid = cli.ok(
        "--storage-driver=fuse", "run", "-d", "--network=none", "--name=c", sample_ref, "sh", "-c", script
    ).strip()
    until(lambda: cli.ok("logs", "c") == "up\n")
    (server,) = [pid for pid in remains.children(supervisor(cli, cid)) if name_of(pid) == "rootless:[fuse]"]
    os.kill(server, signal.SIGSTOP)
    waiting = cli.start("exec", "c", "ls", "/")
    assert statuses(cli) == {"c": "running"}
    assert json.loads(cli.ok("inspect", "c"))[0]["State"]["Running"] is True
    assert cli.ok("logs", "c") == "up\n"
    assert cli("stop", "-t", "1", "c").out == "c\n"
    waiting.communicate(timeout=GRACE_S)
    until(lambda: family.alive() == {})
    assert statuses(cli) == {"c": "exited"}


def name_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def test_an_upgrade_while_a_supervisor_runs(cli: Cli, sample_ref: str, tmp_path: Path) -> None:
    """A supervisor needs nothing more of the package that it was started from."""
    old = tmp_path / "old"
    for package in ("rootless", "netns", "fuse_overlay"):
        shutil.copytree(Path(ROOT) / package, old / package, ignore=shutil.ignore_patterns("__pycache__", "*.pack"))
    start = str(old / Path(START).relative_to(ROOT))
    site = next(path for path in sys.path if path.endswith("site-packages"))
    words = cli.argv("run", "-d", "--network=none", "--name=c", "--health-cmd=true", sample_ref, *STAYS)[1:]
    argv = [sys.executable, "-IS", start, f"--site={site}", "rootless", *words]
    subprocess.run(argv, env=cli.environ(), check=True, timeout=60, capture_output=True)
    until(lambda: cli.ok("inspect", "-f", "{{.State.Health.Status}}", "c") == "healthy\n")
    shutil.rmtree(old)
    assert cli.ok("exec", "c", "echo", "hi") == "hi\n"
    assert cli("healthcheck", "run", "c").status == 0
    cli.ok("stop", "c")
    assert json.loads(cli.ok("inspect", "c"))[0]["State"]["ExitCode"] == 7
    assert list(remains.run_directories(cli)) == []


def test_a_start_as_soon_as_the_last_life_is_over(cli: Cli, sample_ref: str) -> None:
    """`wait` returns a moment before the supervisor has gone; of several starts at once one supervises."""
    cli.ok("create", "--network=none", "--name=c", sample_ref, "true")
    for _ in range(5):
        cli.ok("start", "c")
        assert cli.ok("wait", "c") == "0\n"
    cli.ok("create", "--network=none", "--name=d", sample_ref, *STAYS)
    starts = [cli.start("start", "d") for _ in range(4)]
    for start in starts:
        start.communicate(timeout=GRACE_S)
    assert statuses(cli)["d"] == "running"
    assert len([name for name, _, held in remains.run_directories(cli) if held]) == 1
