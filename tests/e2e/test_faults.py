"""What goes wrong outside: processes killed at random moments, places that cannot be used, limits that are low."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import capabilities, images, registry
from tests.support.cli import Cli
from tests.support.userns import in_userns

pytestmark = pytest.mark.requires("userns", "busybox", "registry")
KILLS = int(os.environ.get("ROOTLESS_TEST_KILLS", "8"))
MARKS = {"supervisor": b"", "network": b"rootless-netstack", "fuse": b"rootless-fuse-overlay"}


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, sample_ref: str) -> Iterator[Cli]:
    """The command line, its store filled with the sample image."""
    capabilities.require("userns")
    program = Cli(tmp_path_factory.mktemp("faults") / "roots")
    program.ok("pull", "-q", sample_ref)
    yield program
    program.clean()


def descendants(pid: int) -> list[int]:
    """Return the pids below *pid*, itself first."""
    found, at = [pid], 0
    while at < len(found):
        try:
            text = Path(f"/proc/{found[at]}/task/{found[at]}/children").read_text()
        except OSError:
            text = ""
        found += [int(word) for word in text.split()]
        at += 1
    return found


def kill_one(process: subprocess.Popen[bytes], mark: bytes) -> None:
    """Kill the process of *process*'s family whose command line holds *mark*; b"" is the first one."""
    for pid in descendants(process.pid):
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
            if not mark or mark in line or (mark == b"rootless-netstack" and b"rootless:[net]" in line):
                os.kill(pid, signal.SIGKILL)
                return
        except OSError:
            continue


@pytest.mark.parametrize("victim", sorted(MARKS))
def test_a_kill_at_any_moment_leaves_nothing_after_the_next_command(stocked: Cli, sample_ref: str, victim: str) -> None:
    flags = ["--rm"]
    if victim == "network":
        capabilities.require("tun")
    else:
        flags.append("--network=none")
    if victim == "fuse":
        capabilities.require("fuse")
        flags.append("--storage-driver=fuse")
    chance = random.Random(os.getpid())
    for _ in range(KILLS):
        process = stocked.start("run", *flags, sample_ref, "sleep", "0.3")
        moment = chance.uniform(0.0, 0.25)
        time.sleep(moment)  # the random moment is what is tested
        family = descendants(process.pid)
        kill_one(process, MARKS[victim])
        out, err = process.communicate(timeout=30)
        done = stocked("run", "--rm", "--network=none", sample_ref, "true")
        assert done.status == 0, f"killed after {moment:.3f} s: {done}"
        assert b"Traceback" not in err + out
        left = [pid for pid in family if pid != process.pid and _alive(pid)]
        assert left == [], f"killed after {moment:.3f} s: {[Path(f'/proc/{p}/cmdline').read_bytes() for p in left]}"
        for place in (stocked.run / "containers", stocked.data / "containers", stocked.data / "names"):
            assert os.listdir(place) == [], f"killed after {moment:.3f} s"


def _alive(pid: int) -> bool:
    """Say whether *pid* still runs; one that its new parent has not reaped yet does not."""
    for _ in range(200):
        try:
            if "State:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return False
        except OSError:
            return False
        time.sleep(0.01)
    return True


@pytest.mark.requires("tun")
def test_the_death_of_the_network_ends_the_container_and_is_said(stocked: Cli, sample_ref: str) -> None:
    process = stocked.start("run", "--rm", sample_ref, "sh", "-c", "echo up; sleep 30")
    assert process.stdout and process.stdout.readline() == b"up\n"
    kill_one(process, MARKS["network"])
    _, err = process.communicate(timeout=20)
    assert process.returncode == 125
    assert b"Error: the network process ended unexpectedly" in err


def test_without_a_session_the_run_root_is_in_tmp(sample_ref: str, stocked: Cli) -> None:
    place = Path(f"/tmp/rootless-{os.getuid()}")
    existed = place.exists()
    argv = [stocked.argv()[0], f"--root={stocked.data}", "run", "--rm", "--network=none", sample_ref, "true"]
    subprocess.run(argv, check=True, env=stocked.environ(), timeout=60)
    assert place.stat().st_mode & 0o777 == 0o700
    if not existed:
        for path in sorted(place.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
        place.rmdir()


def test_a_home_that_cannot_be_written_names_the_flag(sample_ref: str, tmp_path: Path, stocked: Cli) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o500)
    argv = [stocked.argv()[0], f"--runroot={stocked.run}", "run", "--rm", sample_ref, "true"]
    done = subprocess.run(
        argv, env={**stocked.environ(), "HOME": str(home)}, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 125
    assert str(home) in done.stderr and "--root DIR" in done.stderr


def test_a_run_root_of_somebody_else_is_refused(sample_ref: str, stocked: Cli) -> None:
    argv = [stocked.argv()[0], f"--root={stocked.data}", "--runroot=/usr", "run", "--rm", sample_ref, "true"]
    done = subprocess.run(argv, env=stocked.environ(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 125
    assert "/usr: belongs to uid 0" in done.stderr and "--runroot" in done.stderr


def test_low_hard_limits_are_kept_and_said_once(sample_ref: str, stocked: Cli) -> None:
    argv = stocked.argv("run", "--rm", "--network=none", sample_ref, "sh", "-c", "ulimit -Hn")
    done = subprocess.run(
        ["prlimit", "--nofile=200:200", *argv], env=stocked.environ(), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "200\n"), done.stderr
    assert done.stderr.count("rootless: warning:") == 1 and "NOFILE" in done.stderr


def test_forbidden_user_namespaces_are_explained(stocked: Cli, sample_ref: str) -> None:
    argv, env = stocked.argv("run", "--rm", "--network=none", sample_ref, "true"), stocked.environ()

    def body() -> tuple[int, str]:
        Path("/proc/sys/user/max_user_namespaces").write_text("0")
        done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr

    status, err = in_userns(body)
    assert status == 125
    assert "Error: unshare: no space left on device" in err
    assert "hint: user namespaces are switched off" in err


def test_closed_standard_descriptors_are_not_taken_by_other_files(stocked: Cli, sample_ref: str) -> None:
    words = stocked.argv("run", "--rm", "--network=none", sample_ref, "true")
    done = subprocess.run(
        ["sh", "-c", '"$@" <&- >&-', "sh", *words], env=stocked.environ(), stderr=subprocess.PIPE, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_an_image_cannot_lead_proc_elsewhere(stocked: Cli, docker_registry: registry.Registry) -> None:
    image = images.Image((images.Layer((images.Directory("tmp"), images.Symlink("proc", "/tmp"))),))
    done = stocked("run", "-q", "--rm", "--network=none", image.push(docker_registry.host, "linked-proc"), "true")
    assert done.status == 126
    assert 'filesystem "proc" must be mounted on ordinary directory' in done.err


def test_a_working_directory_below_a_file(stocked: Cli, docker_registry: registry.Registry) -> None:
    image = images.Image((images.Layer((images.File("etc/passwd"),)),), {"WorkingDir": "/etc/passwd/x", "Cmd": ["/x"]})
    done = stocked("run", "-q", "--rm", "--network=none", image.push(docker_registry.host, "workdir-in-file"))
    assert done.status == 126
    assert "workdir: mkdir /etc/passwd/x: not a directory" in done.err
