"""Containers that share namespaces, ids and devices with others; defaults from containers.conf."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.requires("busybox")


@pytest.fixture
def image(cli: Cli, sample_ref: str) -> str:
    cli.ok("pull", "-q", sample_ref)
    return sample_ref


@pytest.mark.parametrize("userns", ["host", pytest.param("keep-id", marks=pytest.mark.requires("subuid"))])
def test_the_namespaces_of_another_container(cli: Cli, image: str, userns: str) -> None:
    cli.ok(
        "run", "-d", "--name=one", "--network=none", "--hostname=first", f"--userns={userns}", image, "sleep", "1000"
    )
    cli.ok("exec", "one", "touch", "/dev/shm/left")
    joined = [f"--{kind}=container:one" for kind in ("userns", "pid", "network", "ipc", "uts")]
    look = ("hostname; cat /etc/hostname; ls /dev/shm; tr '\\0' ' ' < /proc/1/cmdline; echo; "
            "cat /proc/self/uid_map")  # fmt: skip
    seen = cli.ok("run", "--rm", *joined, image, "sh", "-c", look)
    name, file, shared, first, *maps = seen.splitlines()
    assert (name, file, shared, first) == ("first", "first", "left", "sleep 1000 ")
    assert [line.split() for line in maps] == [
        line.split() for line in cli.ok("exec", "one", "cat", "/proc/self/uid_map").splitlines()
    ]
    spaces = "for kind in net ipc uts pid user; do readlink /proc/self/ns/$kind; done"
    assert cli.ok("run", "--rm", *joined, image, "sh", "-c", spaces) == cli.ok("exec", "one", "sh", "-c", spaces)


def test_a_container_that_is_not_there(cli: Cli, image: str) -> None:
    missing = cli("run", "--rm", "--pid=container:nope", image, "true")
    assert (missing.status, missing.err) == (
        125, 'Error: looking up container to share pid namespace with: no container with name or ID "nope" found: '
        "no such container\n")  # fmt: skip
    path = cli("run", "--rm", "--network=none", "--ipc=ns:/nope", image, "true")
    assert path.err == "Error: cannot find specified IPC namespace path: stat /nope: no such file or directory\n"


def test_what_a_container_needs_is_started_with_it_and_removed_after_it(cli: Cli, image: str) -> None:
    base = cli.ok("create", "--name=base", "--network=none", image, "sleep", "1000").strip()
    joins = cli.ok("create", "--name=joins", "--network=container:base", image, "sleep", "1000").strip()
    wants = cli.ok("create", "--name=wants", "--network=none", "--requires=joins", image, "sleep", "1000").strip()
    cli.ok("rename", "base", "ground")  # what needs it knows it by its id
    assert cli.ok("inspect", "joins", "--format={{.Dependencies}}") == f"[{base}]\n"
    cli.ok("start", "wants")
    assert cli.ok("ps", "--format={{.Names}}", "--sort=names").split() == ["ground", "joins", "wants"]
    held = cli("rm", "-f", "-t=0", "ground")
    assert held.status == 125
    assert f"container {base} has dependent containers which must be removed before it: {joins}: " in held.err
    assert cli.ok("rm", "-f", "-t=0", "--depend", "ground").split() == [wants, joins, "ground"]
    alone = cli("run", "--rm", "--uts=container:nope", "--hostname=x", image, "true")
    assert (alone.status, "no such container" in alone.err) == (125, True)


@pytest.mark.requires("subuid")
def test_maps_of_ones_own(cli: Cli, image: str) -> None:
    seen = cli.ok("run", "--rm", "--network=none", "--uidmap=0:1:1000", "--uidmap=1000:0:1", image, "sh", "-c",
                  "cat /proc/self/uid_map; stat -c %u /bin/busybox")  # fmt: skip
    assert [line.split() for line in seen.splitlines()] == [["0", "1", "1000"], ["1000", "0", "1"], ["0"]]
    wrong = cli("run", "--rm", "--network=none", "--uidmap=0:0:4000000000", image, "true")
    assert (wrong.status, "of the map 0:0:4000000000 do not exist" in wrong.err) == (125, True)


def test_what_containers_conf_says(cli: Cli, image: str, tmp_path: Path) -> None:
    conf = tmp_path / "containers.conf"
    conf.write_text('[containers]\nenv = ["FROM=conf"]\numask = "0027"\nutsns = "host"\ninit = true\n')
    env = {"CONTAINERS_CONF": str(conf)}
    words = ("run", "--rm", "--network=none", image, "sh", "-c", "echo $FROM; umask; echo $$")
    assert cli(*words, env=env).out == "conf\n0027\n2\n"
    stronger = cli(*words[:2], "--umask=0022", "--init=false", *words[2:], env=env)
    assert stronger.out == "conf\n0022\n1\n"
    conf.write_text("[containers\n")
    broken = cli(*words, env=env)
    assert (broken.status, str(conf) in broken.err) == (125, True)
