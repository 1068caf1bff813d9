"""Decision 11: what a short command may import, from the interpreter's own account of it (-X importtime)."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from rootless.launcher import START
from tests.support.cli import Cli
from tests.test_style import BANNED_AT_START


def imports(cli: Cli, words: Sequence[str]) -> tuple[int, set[str], str]:
    """Run `rootless WORDS`; return its status, the modules it imported, and what else it said on stderr."""
    argv = cli.argv(*words)
    done = subprocess.run(
        [sys.executable, "-IS", "-X", "importtime", START, "rootless", *argv[1:]],
        env=cli.environ(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    lines = done.stderr.splitlines()
    names = {line.rpartition("|")[2].strip() for line in lines if line.startswith("import time:")}
    return done.returncode, names, "\n".join(line for line in lines if not line.startswith("import time:"))


def banned(names: set[str]) -> set[str]:
    return {name for name in names if name.split(".")[0] in BANNED_AT_START}


@pytest.mark.parametrize("word", ["--version", "--help"])
def test_asking_for_words_imports_little(cli: Cli, word: str) -> None:
    """--version and --help load nothing expensive and few modules of ours."""
    status, names, said = imports(cli, [word])
    assert (status, said) == (0, "")
    assert banned(names) == set()
    assert len({name for name in names if name.startswith("rootless")}) < 20


@pytest.mark.requires("overlay")
@pytest.mark.parametrize(
    "options",
    [
        pytest.param(["--network=none"], id="none"),
        pytest.param(["--network=private"], id="private", marks=pytest.mark.requires("tun")),
    ],
)
def test_a_short_run_imports_nothing_banned(cli: Cli, sample_ref: str, options: list[str]) -> None:
    """From argv to the end of a short container no module of the banned list is imported."""
    cli.ok("pull", "-q", sample_ref)
    status, names, said = imports(cli, ["run", "--rm", *options, sample_ref, "true"])
    assert (status, said) == (0, "")
    assert banned(names) == set()
    # of modules that come in a batch only the one that was asked for is told
    assert "rootless.supervise.session" in names


@pytest.mark.requires("fuse")
def test_a_short_run_on_fuse_imports_nothing_banned(cli: Cli, sample_ref: str) -> None:
    """The same where the root file system is served by our FUSE overlay."""
    cli.ok("pull", "-q", sample_ref)
    words = ["--storage-driver=fuse", "run", "--rm", "--network=none", sample_ref, "true"]
    status, names, said = imports(cli, words)
    assert (status, said) == (0, "")
    assert banned(names) == set()


LIFE = (
    "create --network=none --name=c IMAGE sleep 100", "start c", "ps", "ps -a", "exec c true", "logs c", "inspect c",
    "images", "top c", "port c", "cp c:/etc/passwd TMP", "diff c", "volume create v", "volume ls", "volume inspect v",
    "volume rm v", "secret ls", "unshare true", "stop -t 0 c", "start c", "kill c", "wait c", "rm c",
    "run -d --network=none --name=d IMAGE sleep 100", "rm -f -t 0 d",
)  # fmt: skip


def test_the_verbs_of_a_day_import_nothing_banned(cli: Cli, sample_ref: str) -> None:
    """What a person does with containers all day is as cheap: the supervisor alone imports trio, when it stays."""
    cli.ok("pull", "-q", sample_ref)
    found = {}
    for words in LIFE:
        status, names, said = imports(cli, words.replace("IMAGE", sample_ref).replace("TMP", str(cli.tmp)).split())
        assert (status, said) == (0, ""), words
        assert "rootless.cli.main" in names
        found[words] = banned(names)
    assert {words: sorted(names) for words, names in found.items() if names} == {}


def test_a_supervisor_started_beside_imports_nothing_banned(cli: Cli) -> None:
    """It gets ready without a word from anybody, and ends when the command line does."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    supervisor = subprocess.Popen(
        [sys.executable, "-IS", "-X", "importtime", START, "rootless-supervisor", str(theirs.fileno()), "run", "-d"],
        env=cli.environ(), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, pass_fds=[theirs.fileno()],
    )  # fmt: skip
    theirs.close()
    ours.close()
    _, said = supervisor.communicate(timeout=60)
    names = {line.rpartition("|")[2].strip() for line in said.splitlines()}
    assert supervisor.returncode == 0, said
    assert "rootless.supervise.session" in names
    assert banned(names) == set()


@pytest.mark.parametrize(
    "words", [["run", "-d", "--bogus"], ["start", "nobody"], ["run", "--rm", "--network=none", "IMAGE", "-d"]]
)
def test_a_supervisor_that_gets_no_order_ends(cli: Cli, sample_ref: str, words: list[str]) -> None:
    """The launcher's guess was wrong, or the command line was: nothing of ours stays."""
    cli.ok("pull", "-q", sample_ref)
    done = cli(*[sample_ref if word == "IMAGE" else word for word in words])
    assert done.status != 0, done
    until = time.monotonic() + 10
    while (left := supervisors(cli)) and time.monotonic() < until:
        time.sleep(0.02)
    assert left == []


def supervisors(cli: Cli) -> list[str]:
    """Return the command lines of supervisors that were started beside one of ours and did not become one."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                ours = os.fsencode(str(cli.place)) in file.read()
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                words = file.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        if ours and "rootless-supervisor" in words:
            found.append(" ".join(words))
    return found


@pytest.fixture(params=["compiled", "script"])
def any_launcher(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The launcher that is installed, and the shell script that takes its place where it does not compile."""
    from tests.support.cli import launcher

    if request.param == "compiled":
        return launcher()
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    site = tmp_path / f"odd, place/lib/{python}/site-packages"
    site.mkdir(parents=True)
    root = Path(START).parents[1]
    (site / "_rootless.pth").write_text(f"{root}\n")
    path = tmp_path / "odd, place/bin/rootless"
    path.parent.mkdir()
    text = (Path(__file__).parents[2] / "scripts/launcher.sh").read_text()
    path.write_text(text.replace("@PROGRAM@", "rootless").replace("@PYTHON@", python).replace("@BASE@", sys.executable))
    path.chmod(0o755)
    return str(path)


def test_the_launcher_survives_odd_calls(cli: Cli, any_launcher: str) -> None:
    """The launcher finds its environment through a symbolic link, PATH, and a relative path."""
    path = any_launcher
    link = cli.place / "a link"
    link.symlink_to(path)
    directory, name = os.path.split(path)
    calls = [
        ([str(link), "--version"], {}),
        ([f"./{name}", "--version"], {"cwd": directory}),
        ([f"../{os.path.basename(directory)}/{name}", "--version"], {"cwd": directory}),
        (["/bin/sh", "-c", f"PATH='{directory}':$PATH; {name} --version"], {}),
    ]
    for argv, where in calls:
        done = subprocess.run(
            argv, env=cli.environ(), capture_output=True, text=True, check=False, cwd=where.get("cwd")
        )
        assert (done.returncode, done.stderr) == (0, ""), argv
        assert done.stdout.startswith("rootless version ")
