"""`logs` and `events`: what containers wrote, while they run and afterwards; what happened to them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import IO, Any

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.requires("busybox")

NOISY = r"echo one; echo err >&2; printf 'pa'; sleep 0.1; echo rt; printf '\377\000x\nlast'"


@pytest.fixture
def image(cli: Cli, sample_ref: str) -> str:
    cli.ok("pull", "-q", sample_ref)
    return sample_ref


def raw(cli: Cli, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose output is no text."""
    return subprocess.run(cli.argv(*words), env=cli.environ(), capture_output=True, timeout=60, check=False)


@pytest.mark.parametrize("driver", ["k8s-file", "json-file"])
def test_what_a_container_wrote(cli: Cli, image: str, driver: str) -> None:
    cli.ok("run", "-d", "--name=one", "--network=none", f"--log-driver={driver}", image, "sh", "-c", NOISY)
    followed = raw(cli, "logs", "-f", "one")
    assert (followed.returncode, followed.stdout, followed.stderr) == (0, b"one\npart\n\xff\0x\nlast", b"err\n")
    assert raw(cli, "logs", "one").stdout == followed.stdout
    assert raw(cli, "logs", "--tail=1", "one").stdout == b"\xff\0x\nlast"
    assert raw(cli, "logs", "--tail=0", "one").stdout == b""
    stamped = raw(cli, "logs", "-t", "--tail=2", "one").stdout.split(b"\n")
    assert [line.split(b" ", 1)[1] for line in stamped] == [b"part", b"\xff\0x", b"last"]
    assert cli.ok("logs", "--since=1h", "--until=2001-01-01", "one") == ""
    assert raw(cli, "logs", "--since=1h", "--until=1h", "one").stdout == followed.stdout


def lines_until(stream: IO[bytes], last: bytes) -> list[bytes]:
    found: list[bytes] = []
    while not found or found[-1] != last:
        line = stream.readline()
        assert line, found
        found.append(line.rstrip(b"\n"))
    return found


def test_a_log_is_followed_through_its_replacement_to_its_end(cli: Cli, image: str) -> None:
    # Bursts of 2900 bytes of log: each replaces the file once, and the next is only written when this one was seen.
    burst = "while read i; do for j in $(seq 40); do echo burst-$i line-$j 0123456789; done; done"
    argv = cli.argv("run", "-i", "--name=one", "--network=none", "--log-opt=max-size=4k", image, "sh", "-c", burst)
    follower: subprocess.Popen[bytes] | None = None
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.environ()) as container:
        assert container.stdin is not None
        assert container.stdout is not None
        for number in range(1, 6):
            container.stdin.write(b"%d\n" % number)
            container.stdin.flush()
            lines_until(container.stdout, b"burst-%d line-40 0123456789" % number)
            if follower is None:
                follower = subprocess.Popen(cli.argv("logs", "-f", "one"), stdout=subprocess.PIPE, env=cli.environ())
            assert follower.stdout is not None
            seen = lines_until(follower.stdout, b"burst-%d line-40 0123456789" % number)
            assert seen == [b"burst-%d line-%d 0123456789" % (number, line) for line in range(1, 41)]
        container.stdin.close()
        assert follower is not None
        with follower:
            assert follower.stdout is not None
            assert (follower.stdout.read(), follower.wait(timeout=60)) == (b"", 0)
    kept = cli.ok("logs", "one").split("\n")
    assert 0 < len(kept) < 100
    path = json.loads(cli.ok("inspect", "one"))[0]["HostConfig"]["LogConfig"]["Path"]
    assert Path(path).stat().st_size <= 4000


def test_several_containers_and_a_slow_reader(cli: Cli, image: str) -> None:
    # More than a pipe holds: nobody reads while they write, and they end all the same.
    for name in ("one", "two"):
        cli.ok("run", "-d", f"--name={name}", "--network=none", image, "seq", "30000")
    argv = cli.argv("logs", "-f", "-n", "one", "two")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=cli.environ()) as slow:
        assert cli.ok("wait", "one", "two") == "0\n0\n"
        assert slow.stdout is not None
        lines = slow.stdout.read().split(b"\n")
    for shown in (b"one", b"two"):
        assert [line[4:] for line in lines if line[:3] == shown] == [b"%d" % n for n in range(1, 30001)]


def test_a_disk_that_is_full_stops_no_container(cli: Cli, image: str) -> None:
    done = cli("run", "--name=one", "--network=none", "--log-opt=path=/dev/full", image, "seq", "20000")
    assert (done.status, len(done.out.split())) == (0, 20000)
    assert cli("logs", "one").out == ""


def test_containers_without_a_log(cli: Cli, image: str) -> None:
    for driver in ("none", "passthrough"):
        assert (
            cli.ok("run", f"--name={driver}", "--network=none", f"--log-driver={driver}", image, "echo", "x") == "x\n"
        )
        refused = cli("logs", driver)
        assert (refused.status, refused.err) == (
            125, f"Error: this container is using the '{driver}' log driver, cannot read logs: "
            "this container is not logging output\n")  # fmt: skip
    missing = cli("logs", "nosuch")
    assert (missing.status, missing.err) == (
        125, 'Error: no container with name or ID "nosuch" found: no such container\n')  # fmt: skip


def told(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def test_events_tell_of_a_life(cli: Cli, sample_ref: str) -> None:
    with subprocess.Popen(
        cli.argv("events", "--format=json", "--filter=type=container"), stdout=subprocess.PIPE, env=cli.environ()
    ) as stream:
        assert stream.stdout is not None
        cli.ok("pull", "-q", sample_ref)
        assert cli("run", "--name=one", "--network=none", "--label=a=b", sample_ref, "sh", "-c", "exit 3").status == 3
        cli.ok("rm", "one")
        seen: list[dict[str, Any]] = []
        while not seen or seen[-1]["Status"] != "remove":
            seen += told(stream.stdout.readline().decode())
        stream.terminate()
    cid = seen[0]["ID"]
    past = told(cli.ok("events", "--stream=false", "--format=json"))
    assert [event for event in past if event["Type"] == "container"][-len(seen) :] == seen
    statuses = [event["Status"] for event in seen if event["Status"] in ("create", "start", "died", "remove")]
    assert statuses == ["create", "start", "died", "remove"]
    for event in seen:
        assert (event["ID"], event["Name"], event["Image"], event["Type"]) == (cid, "one", sample_ref, "container")
        assert event["Attributes"]["a"] == "b"
        assert event.get("ContainerExitCode") == (3 if event["Status"] == "died" else None)
    pulled = cli.ok("events", "--since=1h", "--until=0s", "--filter=event=pull", "--format={{.Type}} {{.Name}}")
    assert pulled == f"image {sample_ref}\n"
    text = cli.ok("events", "--stream=false", "--filter=event=died", "--no-trunc=false")
    assert f" container died {cid[:12]} (image={sample_ref}, name=one, " in text
