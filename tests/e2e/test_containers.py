"""`ps` and `rm`: what a run without --rm leaves can be seen and removed."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.requires("busybox")


def left_of(cli: Cli) -> list[Path]:
    """Return what belongs to containers, below both roots."""
    kept = ("containers", "names", "volumes")
    return [path for root in (cli.data, cli.run) for name in kept for path in Path(root, name).glob("*")]


def test_a_kept_container_is_listed_and_removed(cli: Cli, sample_ref: str) -> None:
    cli.ok("pull", "-q", sample_ref)
    ended = cli("run", "--name=one", "--network=none", "-v/anon", sample_ref, "sh", "-c", "touch /x /anon/y; exit 3")
    assert ended.status == 3
    assert cli.ok("ps", "-q") == ""
    row = cli.ok("ps", "-a", "--noheading", "--format={{.Names}}|{{.Status}}|{{.Command}}|{{.Image}}")
    name, status, command, image = row.strip().split("|")
    assert (name, command, image) == ("one", "sh -c touch /x /a...", sample_ref)
    assert status.startswith("Exited (3) ")
    assert cli.ok("ps", "-aq", "--filter=status=running") == ""
    taken = cli("run", "--name=one", "--network=none", sample_ref, "true")
    assert (taken.status, taken.err.count("rootless rm one")) == (125, 1)
    assert cli.ok("rm", "-v", "one") == "one\n"
    assert (cli.ok("ps", "-aq"), left_of(cli)) == ("", [])


def test_a_running_container_is_removed_by_force_only(cli: Cli, sample_ref: str) -> None:
    cli.ok("pull", "-q", sample_ref)
    argv = cli.argv("run", "--name=two", "--network=none", "-i", "--stop-signal=INT", sample_ref, "sh", "-c",
                    "trap 'exit 7' INT; echo up; sleep 100 & wait")  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.environ()) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == b"up\n"
        cid = cli.ok("ps", "-q", "--no-trunc").strip()
        refused = cli("rm", "two")
        assert refused.status == 2
        assert refused.err.startswith(f"Error: cannot remove container {cid} as it is running - running or paused ")
        done = cli("rm", "-f", "two")
        assert (done.status, done.out, done.err) == (0, "two\n", "")
        assert running.wait() == 7
    assert left_of(cli) == []


def test_podmans_statuses(cli: Cli) -> None:
    missing = cli("rm", "nosuch")
    assert (missing.status, missing.err) == (
        1, 'Error: no container with name or ID "nosuch" found: no such container\n')  # fmt: skip
    assert cli("rm", "-f", "nosuch").status == 0
    nothing = cli("rm")
    assert (nothing.status, nothing.err) == (125, "Error: you must provide at least one name or id\n")
