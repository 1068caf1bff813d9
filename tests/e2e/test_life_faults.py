"""kill -9 of each kind of our processes at a random moment of each verb: the next command finds nothing wrong.

ROOTLESS_TEST_KILLS is the number of kills of each kind (6 where it is not set: 30 in all).
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from tests.support import capabilities, remains
from tests.support.cli import Cli

pytestmark = pytest.mark.requires("userns", "busybox", "registry")
KILLS = int(os.environ.get("ROOTLESS_TEST_KILLS", "6"))
SEED = int(os.environ.get("ROOTLESS_TEST_SEED", str(os.getpid())))
LONG = ("sh", "-c", "trap 'exit 0' TERM; echo up; while :; do echo more; sleep 0.05; done")
HANGS_S = 40.0
KEEPS_VOLUMES = ("rm c", "rm -f", "container prune", "run -d --replace")

# what there is before -> what is done then; c is the container, IMAGE the image
CASES: dict[str, tuple[str, ...]] = {
    "nothing": (
        "run --rm {flags} IMAGE true", "run {flags} IMAGE true", "run --rm {flags} IMAGE sleep 0.2",
        "run -d {flags} --name=c IMAGE sleep 100", "run -d --rm {flags} IMAGE sleep 0.1", "create {flags} IMAGE true",
        "run -d {flags} --restart=always IMAGE sleep 0.1", "run -d {flags} -v /anonymous IMAGE sleep 100",
        "run --rm {flags} -v /anonymous IMAGE true", "create {flags} --name=c -v /anonymous IMAGE true", "images",
        "volume create v", "system df", "system prune -f", "events --stream=false", "unshare true", "info",
    ),
    "running": (
        "stop -t 1 c", "kill c", "restart -t 1 c", "exec c true", "exec c sleep 0.2", "exec -d c sleep 100", "logs c",
        "logs -f c", "top c", "port c", "inspect c", "ps", "ps -a", "rm -f -t 0 c", "wait c", "attach c", "pause c",
        "cp c:/bin/busybox -", "stats --no-stream c", "rename c d", "update --cpus=1 c", "diff c", "mount",
        "run --rm {flags} IMAGE true", "container prune -f", "run -d --replace --name=c {flags} IMAGE sleep 100",
        "exec c kill -9 1",
    ),
    "exited": (
        "start c", "start -a c", "rm c", "logs c", "inspect c", "diff c", "cp c:/bin/busybox -", "container prune -f",
        "wait c", "init c", "rename c d", "ps -a",
    ),
    "created": ("start c", "start -a c", "init c", "rm c", "rm -v c", "inspect c", "ps -a", "container prune -f"),
}  # fmt: skip


def verb_of(text: str) -> str:
    first, *rest = text.split()
    return f"{first} {rest[0]}" if first in ("container", "system", "volume") else first


VERBS = sorted({verb_of(text) for texts in CASES.values() for text in texts})


@dataclass
class Stand:
    """The command line, the family of all that it starts, and the image."""

    cli: Cli
    family: remains.Family
    image: str
    verbs: set[str]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory, sample_ref: str) -> Iterator[Stand]:
    capabilities.require("userns")
    cli = Cli(tmp_path_factory.mktemp("life") / "roots")
    cli.ok("pull", "-q", sample_ref)
    with remains.Family() as family:
        yield Stand(cli, family, sample_ref, {verb for verb in VERBS if cli(*verb.split(), "--help").status == 0})
    cli.clean()


def words(stand: Stand, text: str, flags: list[str]) -> list[str]:
    found: list[str] = []
    for word in text.split():
        found += flags if word == "{flags}" else [stand.image if word == "IMAGE" else word]
    return found


def victim_of(stand: Stand, kind: str, client: subprocess.Popen[bytes]) -> int:
    """Return a process of that *kind*, 0 when there is none right now."""
    if kind == "client":
        return client.pid if client.poll() is None else 0
    if kind in ("network", "fuse"):
        marks = {"network": ("rootless:[net]", "rootless-netstack"), "fuse": ("rootless:[fuse]", "rootless-fuse")}
        found = [pid for pid, line in stand.family.alive().items() if any(mark in line for mark in marks[kind])]
    else:
        note = "pid" if kind == "supervisor" else "child"
        place = stand.cli.run / "containers"
        found = [remains.noted(place / name / note) for name in (os.listdir(place) if place.is_dir() else ())]
        if kind == "supervisor":  # or one that has no order yet
            found += [pid for pid, line in stand.family.alive().items() if "rootless-supervisor" in line]
    return next((pid for pid in found if pid), 0)


def prepare(stand: Stand, state: str, flags: list[str]) -> None:
    """Make the container c as *state* says."""
    cli = stand.cli
    if state == "created":
        cli.ok("create", *flags, "--name=c", "-v", "/anonymous", stand.image, *LONG)
    elif state == "running":
        cli.ok("run", "-d", *flags, "--name=c", "-v", "/anonymous", stand.image, *LONG)
    elif state == "exited":
        cli.ok("run", "-d", *flags, "--name=c", "-v", "/anonymous", stand.image, "echo", "over")
        cli.ok("wait", "c")


def one_kill(stand: Stand, kind: str, flags: list[str], state: str, text: str, chance: random.Random) -> bool:
    """Do it once; say whether somebody was killed."""
    cli = stand.cli
    volumes = set(remains.anonymous_volumes(cli))
    prepare(stand, state, flags)
    client = cli.start(*words(stand, text, flags))
    moment = chance.choice((chance.uniform(0.0, 0.06), chance.uniform(0.0, 0.3)))
    time.sleep(moment)  # the random moment is what is tested
    pid = victim_of(stand, kind, client)
    if pid:
        os.kill(pid, signal.SIGKILL)
    else:
        client.kill()  # some verbs last for as long as the container
    what = f"{kind} killed {moment:.3f} s after: {text} ({state})"
    try:
        out, err = client.communicate(timeout=HANGS_S)
    except subprocess.TimeoutExpired:
        client.kill()
        out, err = client.communicate()
        pytest.fail(f"{what}: hangs; {out!r} {err!r} {stand.family.alive()}")
    assert b"Traceback" not in err + out, f"{what}: {err.decode()}"
    remains.wait_dead(pid)
    listed = cli("ps", "-a")
    assert listed.status == 0 and listed.err == "", f"{what}: ps: {listed}"
    wrong = remains.settled(cli, stand.family)
    assert wrong == [], f"{what}: {wrong}"
    removed = cli("rm", "-f", "-a", "-v", "-t", "0")
    assert removed.status == 0 and "Traceback" not in removed.err, f"{what}: rm: {removed}"
    wrong = remains.empty(cli, stand.family)
    if not text.startswith(KEEPS_VOLUMES):
        wrong += [f"volume {name}" for name in remains.anonymous_volumes(cli) if name not in volumes]
    assert wrong == [], f"{what}: after rm: {wrong}"
    return bool(pid)


@pytest.mark.parametrize("kind", ["client", "supervisor", "container", "network", "fuse"])
@pytest.mark.timeout(7200)
def test_a_kill_at_any_moment_of_any_verb(stand: Stand, kind: str) -> None:
    flags = ["--network=none"]
    if kind == "network":
        capabilities.require("tun")
        flags = []
    if kind == "fuse":
        capabilities.require("fuse")
        flags.append("--storage-driver=fuse")
    chance = random.Random(SEED)
    every = [(state, text) for state, texts in CASES.items() for text in texts if verb_of(text) in stand.verbs]
    if kind != "client":
        # what has none of these processes around it has no such victim
        every = [case for case in every if case[0] == "running" or case[1].startswith(("run", "start", "init"))]
    killed = tried = 0
    while killed < KILLS and tried < 5 * KILLS + 20:
        if tried % len(every) == 0:
            chance.shuffle(every)
        state, text = every[tried % len(every)]
        tried += 1
        killed += one_kill(stand, kind, flags, state, text, chance)
    print(f"{kind}: {killed} kills in {tried} attempts, seed {SEED}")
    assert killed >= KILLS
