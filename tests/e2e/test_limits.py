"""Limits, pause and statistics: by a cgroup where there is one, and what is said where there is none.

The tests that need `scope` ask the user's systemd for one; they run on a machine with a login session
(scripts/test --on), not in CI.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from rootless.spec import jsontext
from tests.support.cli import Cli, Done

pytestmark = pytest.mark.requires("busybox")
needs_scope = pytest.mark.requires("scope")
DEADLINE_S = 60.0


@pytest.fixture
def image(cli: Cli, sample_ref: str) -> str:
    cli.ok("pull", "-q", sample_ref)
    return sample_ref


@pytest.fixture
def session(cli: Cli) -> Callable[..., Done]:
    """The command line as in a login session: it knows the user bus."""
    bus = {"XDG_RUNTIME_DIR": f"/run/user/{os.getuid()}"}
    return lambda *words: cli(*words, env=bus)


def until(true: Callable[[], bool]) -> bool:
    end = time.monotonic() + DEADLINE_S
    while not true() and time.monotonic() < end:
        time.sleep(0.02)
    return true()


def cgroup_of(cli: Cli, name: str) -> str:
    return "/sys/fs/cgroup" + cli.ok("inspect", name, "--format={{.State.CgroupPath}}").strip()


def test_limits_that_do_not_hold_are_named_once(cli: Cli, image: str) -> None:
    done = cli("run", "--rm", "--network=none", "--cgroups=disabled", "--memory=64m", "--cpus=0.5", "--pids-limit=9",
               "--memory-swappiness=5", image, "echo", "up")  # fmt: skip
    assert (done.status, done.out) == (0, "up\n")
    assert done.err.splitlines() == [
        "rootless: warning: --memory-swappiness has no effect: cgroup v2 has no swappiness of a container",
        "rootless: warning: running without swap limit, memory limit, cpu quota, pids limit: cgroups are switched off",
    ]


def test_without_a_cgroup_processes_are_stopped_and_counted_one_by_one(cli: Cli, image: str) -> None:
    cli.ok("run", "-d", "--name=c", "--network=none", "--cgroups=disabled", image, "sh", "-c",
           "sleep 1000 & while :; do :; done")  # fmt: skip
    rows = cli("stats", "--no-stream", "--format=json", "c")
    assert (rows.status, "no cgroup of its own" in rows.err) == (0, True)
    (row,) = jsontext.loads(rows.out)
    assert (row["name"], row["pids"]) == ("c", "2")
    paused = cli("pause", "c")
    assert (paused.status, paused.out) == (0, "c\n")
    assert "stopped by SIGSTOP" in paused.err
    assert cli.ok("ps", "-a", "--noheading", "--format={{.State}}") == "Paused\n"
    pid = cli.ok("inspect", "c", "--format={{.State.Pid}}").strip()
    with open(f"/proc/{pid}/stat") as file:
        assert file.read().rpartition(") ")[2][0] == "T"
    again = cli("pause", "c")
    assert (again.status, "is already paused: container state improper" in again.err) == (125, True)
    entered = cli("exec", "c", "true")
    assert entered.status not in (0, 1)
    assert "can only create exec sessions on running containers: container state improper" in entered.err
    assert cli.ok("unpause", "--all").strip() == cli.ok("ps", "-q", "--no-trunc").strip()
    assert cli.ok("exec", "c", "echo", "on") == "on\n"
    refused = cli("update", "--memory=10m", "c")
    assert refused.status == 125
    assert "cannot set swap limit, memory limit: it has no cgroup of its own" in refused.err
    assert cli("unpause", "c").status == 125
    events = cli.ok("events", "--stream=false", "--format={{.Status}}").split()
    assert [status for status in events if "pause" in status] == ["pause", "unpause"]


@needs_scope
def test_limits_are_read_back(cli: Cli, session: Callable[..., Done], image: str) -> None:
    done = session("run", "--rm", "--network=none", "--memory=64m", "--memory-swap=96m", "--cpus=0.5",
                   "--pids-limit=21", "--memory-reservation=8m", image, "sh", "-c",
                   "cd /sys/fs/cgroup && cat memory.max memory.swap.max cpu.max pids.max memory.low")  # fmt: skip
    assert (done.out, done.err) == ("67108864\n33554432\n50000 100000\n21\n8388608\n", "")


@needs_scope
def test_a_memory_hog_is_killed_and_that_is_known(cli: Cli, session: Callable[..., Done], image: str) -> None:
    done = session("run", "--name=hog", "--network=none", "--memory=32m", "--memory-swap=32m", image, "sh", "-c",
                   "a=x; while :; do a=$a$a; done")  # fmt: skip
    assert done.status == 137
    assert cli.ok("inspect", "hog", "--format={{.State.OOMKilled}}").strip() == "true"


@needs_scope
def test_a_fork_bomb_is_held_and_ended(cli: Cli, session: Callable[..., Done], image: str) -> None:
    session("run", "-d", "--name=bomb", "--network=none", "--pids-limit=25", image, "sleep", "1000")
    path = cgroup_of(cli, "bomb")
    for _ in range(2):
        session("exec", "-d", "bomb", "sh", "-c", 'while :; do sh -c "sleep 100 & sleep 100 & sleep 100" & done')

    def refused() -> bool:
        with open(f"{path}/pids.events") as file:
            return int(file.read().split()[1]) > 0

    assert until(refused)
    with open(f"{path}/pids.current") as file:
        assert int(file.read()) <= 25
    assert session("stop", "-t", "1", "bomb").out == "bomb\n"
    assert until(lambda: not os.path.exists(path))


@needs_scope
def test_the_freezer_and_new_limits(cli: Cli, session: Callable[..., Done], image: str) -> None:
    session("run", "-d", "--name=c", "--network=none", "--memory=64m", image, "sh", "-c", "while :; do :; done")
    path = cgroup_of(cli, "c")
    assert (session("pause", "c").err, cli.ok("ps", "-a", "--noheading", "--format={{.State}}")) == ("", "Paused\n")
    with open(f"{path}/cgroup.events") as file:
        assert "frozen 1" in file.read()
    assert session("unpause", "c").out == "c\n"
    assert len(session("update", "--memory=32m", "--cpus=0.25", "c").out) == 65
    with open(f"{path}/memory.max") as memory, open(f"{path}/cpu.max") as cpu:
        assert (memory.read(), cpu.read()) == ("33554432\n", "25000 100000\n")
    (row,) = jsontext.loads(session("stats", "--no-stream", "--format=json", "c").out)
    assert row["mem_usage"].endswith(" / 33.55MB")
    assert session("exec", "c", "cat", "/proc/self/cgroup").out == "0::/\n"
    session("restart", "-t", "0", "c")
    with open(f"{cgroup_of(cli, 'c')}/memory.max") as memory:
        assert memory.read() == "33554432\n"
