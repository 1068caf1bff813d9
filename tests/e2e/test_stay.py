"""Containers that stay: detached, started again, entered, left and waited for."""

from __future__ import annotations

import subprocess
import time

import pytest

from tests.support.cli import Cli
from tests.support.terminal import Terminal

pytestmark = pytest.mark.requires("busybox")
DEADLINE_S = 60.0


@pytest.fixture
def image(cli: Cli, sample_ref: str) -> str:
    cli.ok("pull", "-q", sample_ref)
    return sample_ref


def status_of(cli: Cli, name: str) -> str:
    return cli.ok("inspect", name, "--format={{.State.Status}} {{.State.ExitCode}}").strip()


def test_a_detached_container_lives_until_it_is_stopped(cli: Cli, image: str) -> None:
    cid = cli.ok("run", "-d", "--name=web", "--network=none", "--stop-signal=INT", image, "sh", "-c",
                 "trap 'exit 7' INT; echo up; while :; do sleep 0.1; done").strip()  # fmt: skip
    assert len(cid) == 64
    assert status_of(cli, "web") == "running 0"
    refused = cli("start", "web")
    assert (refused.status, refused.out) == (0, "")
    assert cli.ok("stop", cid[:12]) == f"{cid[:12]}\n"
    assert status_of(cli, "web") == "exited 7"
    assert cli.ok("wait", "web") == "7\n"
    assert cli.ok("stop", "web") == "web\n"
    assert cli.ok("start", "web") == "web\n"
    assert status_of(cli, "web") == "running 0"
    assert cli.ok("kill", "web") == "web\n"
    assert cli.ok("wait", "web") == "137\n"
    gone = cli("kill", "web")
    assert (gone.status, "can only kill running containers" in gone.err) == (125, True)
    assert cli.ok("logs", "web") == "up\nup\n"
    assert cli.ok("restart", "web") == "web\n"
    ended = cli.ok("inspect", "web", "--format={{.State.FinishedAt}}")
    assert not ended.startswith("0001")  # of the life before
    assert status_of(cli, "web") == "running 0"


def test_what_a_container_wrote_is_there_at_its_next_start(cli: Cli, image: str) -> None:
    cli.ok(
        "create",
        "--name=one",
        "--network=none",
        "-v/anon",
        image,
        "sh",
        "-c",
        "date >> /x; date >> /anon/y; wc -l /x /anon/y",
    )
    assert status_of(cli, "one") == "created 0"
    first, second = cli.ok("start", "-a", "one"), cli.ok("start", "-a", "one")
    assert (first.split()[0::2], second.split()[0::2]) == (["1", "1", "2"], ["2", "2", "4"])


def test_start_attached_passes_streams_and_status(cli: Cli, image: str) -> None:
    cli.ok("create", "-i", "--name=cat", "--network=none", image, "sh", "-c", "cat; echo err >&2; exit 9")
    done = cli("start", "-ai", "cat", stdin="through\n")
    assert (done.status, done.out, done.err) == (9, "through\n", "err\n")


def test_exec_has_the_status_and_streams_of_its_process(cli: Cli, image: str) -> None:
    cli.ok("run", "-d", "--name=c", "--network=none", "-eFROM=run", image, "sleep", "1000")
    done = cli("exec", "-i", "-eMORE=exec", "-w/tmp", "-u1000:1000", "c", "sh", "-c",
               'echo "$FROM $MORE $PWD $(id -u):$(id -g)"; cat >&2; exit 5', stdin="typed\n")  # fmt: skip
    assert (done.status, done.out, done.err) == (5, "run exec /tmp 1000:1000\n", "typed\n")
    assert [cli("exec", "c", word).status for word in ("nosuchprogram", "/tmp", "false")] == [127, 126, 1]
    assert cli("exec", "-w/nosuch", "c", "true").status == 127
    cli.ok("exec", "-d", "c", "sh", "-c", "echo done > /flag; sleep 1000")
    assert cli.ok("exec", "c", "sh", "-c", "until test -s /flag; do sleep 0.1; done; cat /flag") == "done\n"
    cli.ok("stop", "-t0", "c")
    refused = cli("exec", "c", "true")
    assert refused.status == 125
    assert "can only create exec sessions on running containers: container state improper" in refused.err


def test_exec_on_a_terminal(cli: Cli, image: str) -> None:
    cli.ok("run", "-d", "--name=c", "--network=none", image, "sleep", "1000")
    person = Terminal(cli.argv("exec", "-it", "c", "sh"), cli.environ(PS1="> "))
    person.read_until(b"# ")
    person.type(b"tty; exit 6\n")
    person.read_until(b"/dev/pts/")
    assert person.end() == 6


def test_a_person_leaves_a_container_and_comes_back(cli: Cli, image: str) -> None:
    person = Terminal(cli.argv("run", "--name=c", "--network=none", "-it", image, "sh"), cli.environ())
    person.read_until(b"# ")
    person.type(b"\x10\x11")
    assert person.end() == 0
    assert status_of(cli, "c") == "running 0"
    again = Terminal(cli.argv("attach", "--detach-keys=ctrl-x", "c"), cli.environ())
    again.type(b"echo $((40+2))\n")
    again.read_until(b"42")
    again.type(b"\x18")
    assert again.end() == 0
    last = Terminal(cli.argv("attach", "c"), cli.environ())
    last.type(b"exit 4\n")
    assert last.end() == 4
    assert cli.ok("wait", "c") == "4\n"


def test_init_waits_for_start(cli: Cli, image: str) -> None:
    cli.ok("create", "--name=c", "--network=none", image, "sh", "-c", "echo ran; exit 3")
    assert cli.ok("init", "c") == "c\n"
    assert status_of(cli, "c") == "initialized 0"
    assert cli.ok("start", "c") == "c\n"
    assert cli.ok("wait", "c") == "3\n"
    assert cli.ok("logs", "c") == "ran\n"
    cli.ok("create", "--name=d", "--network=none", image, "true")
    cli.ok("init", "d")
    cli.ok("rm", "-f", "d")
    assert cli.ok("ps", "-aq", "--filter=name=d") == ""


def test_a_container_is_initialized_again_and_started_attached(cli: Cli, image: str) -> None:
    cli.ok("create", "--name=say", "--network=none", image, "sh", "-c", "echo hello; exit 3")
    for _ in range(2):  # new, and after it has ended
        assert cli.ok("init", "say") == "say\n"
        said = cli("start", "-a", "say")
        assert (said.status, said.out) == (3, "hello\n")
    assert cli.ok("init", "--all").split() == [cli.ok("inspect", "say", "--format={{.Id}}").strip()]
    assert cli.ok("rm", "say") == "say\n"  # nothing of it has run yet


@pytest.mark.parametrize(("words", "said"), [
    (("stop", "-a", "x"), "no arguments are needed with --all"),
    (("kill", "-l", "x"), "--latest and containers cannot be used together"),
    (("rm", "-a", "--cidfile=x"), "--all, --latest, and --cidfile cannot be used together"),
    (("restart", "-al"), "--all and --latest cannot be used together"),
    (("rm", "--filter=status=exited", "x"), "--filter takes no arguments"),
    (("start", "--all", "x"), "either start all containers or the container(s) provided in the arguments"),
    (("start", "--sig-proxy", "x"), "you cannot use sig-proxy without --attach: invalid argument"),
    (("start", "-l"), "no such container"),
    (("exec", "", "true"), "name or ID cannot be empty"),
    (("wait", ""), "name or ID cannot be empty"),
    (("wait", "-i", "1x", "x"), 'time: unknown unit "x" in duration "1x"'),
    (("kill", "-s", "65", "x"), "valid signals are 1 through 64"),
    (("attach", "a", "b"), "`rootless attach` accepts at most one argument"),
])  # fmt: skip
def test_choices_that_contradict_each_other(cli: Cli, words: tuple[str, ...], said: str) -> None:
    refused = cli(*words)
    assert (refused.status, refused.err.splitlines()[0]) == (125, f"Error: {said}")


def test_the_end_of_our_input_is_the_end_of_the_containers(cli: Cli, image: str) -> None:
    cli.ok("run", "-di", "--name=reads", "--network=none", image, "sh", "-c", "cat; echo end; exit 4")
    seen = cli("attach", "reads", stdin="one\n")
    assert (seen.status, seen.out) == (4, "one\nend\n")


def test_a_policy_starts_again_what_fails(cli: Cli, image: str) -> None:
    cli.ok("run", "-d", "--name=c", "--network=none", "--restart=on-failure:2", image, "sh", "-c", "echo x; exit 3")
    until = time.monotonic() + DEADLINE_S
    while cli.ok("logs", "c") != "x\nx\nx\n" or status_of(cli, "c") != "exited 3":
        assert time.monotonic() < until
    assert cli.ok("inspect", "c", "--format={{.RestartCount}}") == "2\n"
    cli.ok("run", "-d", "--name=d", "--network=none", "--restart=always", image, "sleep", "1000")
    cli.ok("stop", "-t0", "d")
    assert status_of(cli, "d") == "exited 137"


def test_the_end_of_a_removed_container_is_known(cli: Cli, image: str) -> None:
    cid = cli.ok("run", "-d", "--rm", "--network=none", image, "sh", "-c", "exit 6").strip()
    assert cli.ok("wait", cid) == "6\n"
    assert cli("wait", "nosuch").status == 125


def test_one_of_many_gets_the_name(cli: Cli, image: str) -> None:
    running = [cli.start("create", "--name=x", image, "true", stderr=subprocess.DEVNULL) for _ in range(20)]
    statuses = []
    for one in running:
        one.communicate()
        statuses.append(one.returncode)
    assert sorted(statuses) == [0] + [125] * 19
    assert cli.ok("ps", "-a", "--format={{.Names}}") == "x\n"
    cid = cli.ok("create", "--name=x", "--replace", image, "true").strip()
    assert cli.ok("ps", "-aq", "--no-trunc") == f"{cid}\n"


def test_removing_an_image_by_force_removes_its_containers(cli: Cli, image: str) -> None:
    cli.ok("run", "-d", "--name=c", "--network=none", "--stop-timeout=0", image, "sleep", "1000")
    refused = cli("rmi", image)
    assert (refused.status, "image is in use by a container" in refused.err) == (2, True)
    assert f"Untagged: {image}\n" in cli("rmi", "--force", image).out
    assert (cli.ok("ps", "-aq"), cli.ok("images", "-q")) == ("", "")


def test_a_timeout_ends_the_container(cli: Cli, image: str) -> None:
    """As podman 4.3: status 255, whatever the program said."""
    assert cli("run", "--rm", "--network=none", "--timeout=1", image, "sleep", "1000").status == 255
