"""The verbs that look at containers: ps, inspect, top, port; and rename, prune, units, completion."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rootless.launcher import START
from tests.support.cli import Cli, launcher
from tests.test_style import BANNED_AT_START

pytestmark = pytest.mark.requires("userns", "busybox", "registry")


@pytest.fixture
def two(cli: Cli, sample_ref: str) -> Iterator[Cli]:
    """Run `web` in the background and let `dead` end with 3."""
    cli.ok("pull", "-q", sample_ref)
    cli.ok("run", "-d", "--name=web", "--network=none", "--label=x=1", "--hostname=inside", "-v", "/etc:/host:ro",
           "--user=1:1", sample_ref, "sh", "-c", "sleep 300 & exec sleep 301")  # fmt: skip
    assert cli("run", "--name=dead", "--network=none", sample_ref, "sh", "-c", "exit 3").status == 3
    yield cli
    cli("rm", "-af", "-t0")


def test_what_is_seen_of_two_containers(two: Cli, sample_ref: str) -> None:
    listed = json.loads(two.ok("ps", "-a", "--format=json"))
    assert [(one["Names"], one["State"], one["ExitCode"], one["Image"]) for one in listed] == [
        (["web"], "running", 0, sample_ref), (["dead"], "exited", 3, sample_ref)]  # fmt: skip
    web = listed[0]
    spaces = json.loads(two.ok("ps", "--ns", "--format=json"))[0]["Namespaces"]
    assert spaces["Net"] == os.readlink(f"/proc/{web['Pid']}/ns/net").strip("net:[]")
    seen, dead = json.loads(two.ok("inspect", "web", "dead"))
    assert (seen["State"]["Pid"], seen["Id"], seen["Config"]["Hostname"]) == (web["Pid"], web["Id"], "inside")
    assert [(m["Type"], m["Source"], m["Destination"], m["RW"]) for m in seen["Mounts"]] == [
        ("bind", "/etc", "/host", False)]  # fmt: skip
    assert (dead["State"]["Status"], dead["State"]["ExitCode"]) == ("exited", 3)
    sized = two.ok("inspect", "-s", "--format={{.SizeRw}} {{.SizeRootFs}}", "dead").split()
    assert 0 <= int(sized[0]) < int(sized[1])
    assert two.ok("port", "web") == ""


def test_top(two: Cli) -> None:
    rows = [line.split() for line in two.ok("top", "web", "pid", "ppid", "user", "huser", "comm", "args").splitlines()]
    assert rows[0] == ["PID", "PPID", "USER", "HUSER", "COMMAND", "COMMAND"]
    pid = json.loads(two.ok("inspect", "web"))[0]["State"]["Pid"]
    uid = str(os.stat(f"/proc/{pid}").st_uid)
    seen = [row[1:5] + row[-1:] for row in rows[1:]]
    assert seen == [["0", "daemon", uid, "sleep", "301"], ["1", "daemon", uid, "sleep", "300"]]
    assert "sleep" in two.ok("top", "web", "-o", "comm")
    refused = two("top", "dead")
    assert (refused.status, refused.err) == (125, "Error: top can only be used on running containers\n")


def test_rename_prune_and_exists(two: Cli) -> None:
    two.ok("rename", "web", "site")
    assert two.ok("exec", "site", "hostname") == "inside\n"
    assert (two("container", "exists", "web").status, two("container", "exists", "site").status) == (1, 0)
    asked = two("container", "prune", stdin="n\n")
    assert asked.out.startswith("WARNING! This will remove all non running containers.\n")
    dead = two.ok("inspect", "--format={{.Id}}", "dead")
    assert two.ok("container", "prune", "-f", "--filter=label=none") == ""
    assert two.ok("container", "prune", stdin="y\n").endswith(dead)
    assert two.ok("ps", "-a", "--format={{.Names}}") == "site\n"
    unit = two.ok("container", "unit", "site")
    assert f"ExecStart={launcher()} --root={two.data} --runroot={two.run} --tmpdir={two.tmp} start -a site\n" in unit


LOOKS = (
    "ps", "ps -a --filter name=w", "ps --format {{.ID}}", "images", "inspect web", "inspect IMAGE", "top web",
    "port web", "container exists web", "container unit web", "network ls", "rename web web2",
)  # fmt: skip


def test_looking_imports_nothing_expensive(two: Cli, sample_ref: str) -> None:
    """From argv to the end no module of the banned list is imported, from the interpreter's own account of it."""
    for words in LOOKS:
        argv = two.argv(*words.replace("IMAGE", sample_ref).split(" "))
        done = subprocess.run(
            [sys.executable, "-IS", "-X", "importtime", START, "rootless", *argv[1:]],
            env=two.environ(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        lines = done.stderr.splitlines()
        names = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
        assert (done.returncode, [line for line in lines if not line.startswith("import time:")]) == (0, []), words
        assert {name for name in names if name.split(".")[0] in BANNED_AT_START | {"datetime"}} == set(), words


def test_the_bash_script_completes(two: Cli) -> None:
    """readline splits words at = and :, so the script gives what comes after these."""
    script = two.ok("completion", "bash")
    roots = f"--root={two.data} --runroot={two.run}"
    line = f"{launcher()} {roots} run --network=container:w"
    test = f"{script}\nCOMP_WORDBREAKS=' =:'; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}\n__rootless_complete\n"
    test += 'printf "%s," "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", test], capture_output=True, text=True, env=two.environ(), check=True)
    assert done.stdout == "web,"
