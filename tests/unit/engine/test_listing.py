"""Listings: states from records and locks, filters, ports, and what `ps` prints."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.commands import exists, network, port, ps, rename
from rootless.engine import filters, linger, listing, unit
from rootless.engine.listing import Listed
from rootless.errors import NotFound, RootlessError, StoreError, UsageError
from rootless.plan.options import GlobalOptions
from rootless.store import containers, layout
from rootless.store.containers import Container
from rootless.store.layout import Roots

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    made = Roots(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path))
    (tmp_path / "run").mkdir(mode=0o700)
    layout.prepare_data(made)
    return made


def keep(roots: Roots, name: str, letter: str, status: str, **more: Any) -> str:
    """Write a record; return the id."""
    cid = letter * 64
    state = {"status": status, "started": "2024-01-01T00:00:00Z", "finished": "2024-01-01T00:00:01Z", "exit_code": 3}
    data: dict[str, Any] = {"name": name, "created": f"2024-01-0{len(containers.ids_of(roots)) + 1}T00:00:00Z",
                            "machine": containers.machine_id(), "image": "docker.io/library/web:latest",
                            "image_id": "c0ffee", "args": ["sleep", "10"], "state": state}  # fmt: skip
    containers.create(roots, Container(cid, name, {**data, **more}))
    return cid


@pytest.fixture
def three(roots: Roots) -> list[Listed]:
    """Containers that were created, have exited, and are of another machine."""
    keep(roots, "new", "a", "created", labels={"x": "1", "org.y": ""}, options={"restart": "always"},
         network={"mode": "none"})  # fmt: skip
    keep(roots, "old-1", "b", "exited", mounts=[["vol", "/s", "/data"]], network={"mode": "private"})
    keep(roots, "far", "c", "running", machine="another")
    return listing.list_all(roots)


def test_states(roots: Roots) -> None:
    """The lock tells who lives; files beside it tell of pauses and ends that are wanted."""
    live = keep(roots, "live", "d", "running")
    keep(roots, "crashed", "e", "running")
    making = keep(roots, "making", "f", "created")
    with containers.make_run_dir(roots, live), containers.make_run_dir(roots, making):
        assert [one.status for one in listing.list_all(roots)] == ["running", "exited", "starting"]
        for mark, expected in (("stopping", "stopping"), ("paused", "paused")):
            Path(containers.run_dir(roots, live), mark).touch()
            assert listing.find(roots, "live").status == expected
        Path(containers.run_dir(roots, live), "health.json").write_text('{"Status": "healthy"}')
        assert listing.find(roots, "d" * 10).health == "healthy"
    assert listing.find(roots, "live").status == "exited"


def test_finding(roots: Roots, three: list[Listed]) -> None:
    assert listing.find(roots, "old-1").id == listing.find(roots, "bb").id == "b" * 64
    assert listing.latest(roots).name == "far"
    with pytest.raises(NotFound) as caught:
        listing.find(roots, "nosuch")
    assert caught.value.message == 'no container with name or ID "nosuch" found: no such container'
    other = "b" * 63 + "0"
    containers.create(roots, Container(other, "b2", {"name": "b2"}))
    with pytest.raises(StoreError, match="more than one result"):
        listing.find(roots, "bbb")


@pytest.mark.parametrize(
    ("given", "names"),
    [
        (["name=old"], ["old-1"]), (["name=^ol"], ["old-1"]), (["name=ar$"], ["far"]), (["name=^new$"], ["new"]),
        (["name=o.d-[0-9]"], ["old-1"]), (["name=new", "name=far"], ["new", "far"]), (["id=bb"], ["old-1"]),
        (["label=x"], ["new"]), (["label=x=1"], ["new"]), (["label=x=2"], []), (["label=x", "label=org.y"], ["new"]),
        (["label=x", "label=z"], []), (["label=org.*"], ["new"]), (["status=created"], ["new"]),
        (["status=stopped"], ["old-1"]), (["status=exited", "status=created"], ["new", "old-1"]),
        (["exited=3"], ["old-1"]), (["exited=0"], []), (["ancestor=web"], ["new", "old-1", "far"]),
        (["ancestor=c0ff"], ["new", "old-1", "far"]), (["ancestor=b"], []), (["before=old-1"], ["new"]),
        (["since=old-1"], ["far"]), (["volume=vol"], ["old-1"]), (["volume=/s:/data"], ["old-1"]),
        (["volume=/data"], ["old-1"]), (["volume=x"], []), (["network=none"], ["new"]),
        (["network=slirp4netns"], ["old-1"]), (["health=none"], ["new", "old-1", "far"]), (["health=healthy"], []),
        (["restart-policy=always"], ["new"]), (["until=2024-01-02"], ["new"]), (["until=1s"], ["new", "old-1", "far"]),
        (["name=new", "label=z"], []),
    ],
)  # fmt: skip
def test_filters(given: list[str], names: list[str], three: list[Listed]) -> None:
    wanted = filters.filter_of(given, three)
    assert [one.name for one in three if wanted(one)] == names


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("foo", 'invalid filter "foo"'), ("bogus=1", "bogus is an invalid filter"),
        ("status=up", "unknown container state: up: invalid argument"), ("exited=x", 'parsing "x": invalid syntax'),
        ("until=x", 'failed to parse value as time or duration: "x"'), ("pod=x", "there are no pods"),
        ("before=x", 'no container with name or ID "x" found: no such container'), ("name=(", "error parsing regexp"),
    ],
)  # fmt: skip
def test_wrong_filters(given: str, words: str, three: list[Listed]) -> None:
    with pytest.raises(RootlessError) as caught:
        filters.filter_of([given], three)
    assert words in caught.value.message


def test_filters_of_prune(three: list[Listed]) -> None:
    wanted = filters.prune_filter(["label!=x", "until=2025-01-01"])
    assert [one.name for one in three if wanted(one)] == ["old-1", "far"]
    with pytest.raises(UsageError, match="name is an invalid filter"):
        filters.prune_filter(["name=x"])


def test_ports_are_merged() -> None:
    ports: list[list[Any]] = [["127.0.0.1", 9000, 90, "udp"], ["0.0.0.0", 8081, 81, "tcp"],
                              ["0.0.0.0", 8080, 80, "tcp"], ["", 9100, 91, "tcp"]]  # fmt: skip
    assert listing.ports_text(ports) == "0.0.0.0:9100->91/tcp, 0.0.0.0:8080-8081->80-81/tcp, 127.0.0.1:9000->90/udp"


def run(roots: Roots, capsys: Captured, module: Any, *argv: str) -> str:
    assert module.main(list(argv), GlobalOptions(root=roots.data, runroot=roots.run, tmpdir=roots.tmp)) == 0
    return capsys.readouterr().out


PODMANS_FIELDS = """
AutoRemove Command CreatedAt Exited ExitedAt ExitCode Id Image ImageID IsInfra Labels Mounts Names Namespaces Networks
Pid Pod PodName Ports Size StartedAt State Status Created
""".split()


def test_ps_prints_podmans_document(roots: Roots, three: list[Listed], capsys: Captured) -> None:
    found = json.loads(run(roots, capsys, ps, "-a", "--format", "{{json .}}"))
    assert [list(one) for one in found] == [PODMANS_FIELDS] * 3
    assert found[0]["ExitedAt"] == 1704067201 and found[0]["State"] == "created" and found[0]["Labels"]["x"] == "1"
    assert found[1]["Mounts"] == ["/data"] and found[1]["Exited"] is True and found[1]["Names"] == ["old-1"]
    assert found[2]["Labels"] is None and found[2]["Ports"] is None


def test_ps_chooses(roots: Roots, three: list[Listed], capsys: Captured) -> None:
    names = ("--format", "{{.Names}}")
    for argv, expected in (
        ([], []), (["-a"], ["new", "old-1", "far"]), (["-n2"], ["old-1", "far"]), (["-l"], ["far"]), (["-n0"], []),
        (["--filter=status=exited"], ["old-1"]), (["-a", "--sort=names"], ["far", "new", "old-1"]),
    ):  # fmt: skip
        assert run(roots, capsys, ps, *argv, *names).split() == expected, argv
    assert run(roots, capsys, ps, "-aq").split() == ["a" * 12, "b" * 12, "c" * 12]
    assert run(roots, capsys, ps) == "CONTAINER ID  IMAGE       COMMAND     CREATED     STATUS      PORTS       NAMES\n"
    row = run(roots, capsys, ps, "-a", "--noheading").splitlines()[1].split("  ")
    assert [cell.strip() for cell in row if cell][:3] == ["b" * 12, "docker.io/library/web:latest", "sleep 10"]


def test_rename(roots: Roots, three: list[Listed], capsys: Captured) -> None:
    run(roots, capsys, rename, "old-1", "fresh")
    assert listing.find(roots, "fresh").id == "b" * 64
    assert sorted(os.listdir(f"{roots.data}/names")) == ["far", "fresh", "new"]
    with pytest.raises(StoreError, match="name new already in use, cannot rename"):
        run(roots, capsys, rename, "fresh", "new")
    with pytest.raises(UsageError, match="names must match"):
        run(roots, capsys, rename, "fresh", "a b")


def test_a_name_that_a_crash_left_is_free(roots: Roots, three: list[Listed]) -> None:
    """A claim whose container has another name, or is gone, holds nobody up."""
    for name, holder in (("left", "a" * 64), ("lost", "9" * 64), ("torn", "")):
        Path(roots.data, "names", name).write_text(holder)
    assert containers.rename(roots, "b" * 64, "left") == "b" * 64
    keep(roots, "lost", "4", "created")
    keep(roots, "torn", "5", "created")
    assert sorted(os.listdir(f"{roots.data}/names")) == ["far", "left", "lost", "new", "torn"]
    assert containers.holder_of(roots, "lost") == "4" * 64
    with pytest.raises(StoreError, match="already in use"):
        keep(roots, "lost", "6", "created")


def test_port_and_exists(roots: Roots, capsys: Captured) -> None:
    keep(roots, "web", "d", "exited", ports=[["0.0.0.0", 8080, 80, "tcp"], ["127.0.0.1", 9000, 90, "udp"]])
    assert run(roots, capsys, port, "web") == "80/tcp -> 0.0.0.0:8080\n90/udp -> 127.0.0.1:9000\n"
    assert run(roots, capsys, port, "web", "90/udp") == "127.0.0.1:9000\n"
    assert run(roots, capsys, port, "-l", "80") == "0.0.0.0:8080\n"
    with pytest.raises(UsageError, match='failed to find published port "90"'):
        run(roots, capsys, port, "web", "90")
    options = GlobalOptions(root=roots.data, runroot=roots.run)
    assert [exists.main([name], options) for name in ("web", "dd", "nosuch")] == [0, 0, 1]


def test_network_ls(capsys: Captured) -> None:
    assert network.main(["ls", "-q"], GlobalOptions()) == 0
    assert capsys.readouterr().out == "host\nnone\nprivate\n"
    network.main(["ls", "--filter", "name=priv", "--format", "{{.Name}} {{.Driver}}"], GlobalOptions())
    assert capsys.readouterr().out == "private user\n"
    network.main(["ls", "--format=json"], GlobalOptions())
    assert [one["name"] for one in json.loads(capsys.readouterr().out)] == ["host", "none", "private"]


def test_a_unit_starts_and_stops() -> None:
    words = ["rootless", "run", "-dit", "--name", "x", "--restart=always", "-e", "A=$b %c", "img", "a b"]
    data = {"stop_timeout": 7, "image": "img", "create_command": words}
    text = unit.unit("web", data, ("/da ta",), unit.UnitRequest(program=("/bin/rootless", "--root=/r")))
    assert "\nExecStart=/bin/rootless --root=/r start -a web\n" in text
    assert "\nExecStop=-/bin/rootless --root=/r stop -t 7 web\n" in text
    assert '\nRequiresMountsFor="/da ta"\n' in text and "TimeoutStopSec=67" in text
    anew = unit.unit("web", data, ("/d",), unit.UnitRequest(program=("/r",), new=True))
    assert 'ExecStart=/r run --rm --replace --name=web -it -e "A=$$b %%c" img "a b"\n' in anew
    assert "\nExecStopPost=-/r rm -f -t 7 -i web\n" in anew
    with pytest.raises(UsageError, match="no create command"):
        unit.unit("web", {}, (), unit.UnitRequest(program=("/r",), new=True))


@pytest.mark.parametrize(
    ("cgroup", "runroot", "kills", "word"),
    [
        ("0::/user.slice/user-7.slice/user@7.service/app.slice/x.scope", "/tmp/r", False, "manager"),
        ("0::/user.slice/user-7.slice/session-1.scope", "/run/user/7/rootless", False, "/run/user/7"),
        ("0::/user.slice/user-7.slice/session-1.scope", "/tmp/r", True, "KillUserProcesses"),
        ("0::/user.slice/user-7.slice/session-1.scope", "/tmp/r", False, ""),
        ("0::/system.slice/slurmd.service/job", "/tmp/r", True, ""),
    ],
)
def test_what_the_end_of_a_session_does(cgroup: str, runroot: str, kills: bool, word: str) -> None:
    found = linger._reason(7, cgroup, runroot, kills)
    assert (word in found) if word else found == ""


def test_settings_of_logind() -> None:
    assert linger.parse_settings("[Login]\n#KillUserProcesses=no\nKillUserProcesses=yes\n") == {
        "KillUserProcesses": "yes"
    }


def test_until_means_a_span_before_now() -> None:
    assert abs(time.time_ns() - 3600 * 10**9 - filters.until("1h")) < 60 * 10**9
    assert filters.until("1700000000") == 1700000000 * 10**9
