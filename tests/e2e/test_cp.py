"""`cp` and `diff`: files in and out of containers that run and that do not, and nothing beside them."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.requires("busybox", "subuid")
LINKS = "mkdir -p /d/sub; echo f1 >/d/f1; echo f2 >/d/sub/f2; ln -s /etc/passwd /d/abs; ln -s ../../../../out /d/rel"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = tmp_path / "src"
    (source / "s").mkdir(parents=True)
    (source / "a").write_text("a\n")
    (source / "s" / "b").write_text("b\n")
    (source / "l").symlink_to("a")
    return source


def test_stopped_containers(cli: Cli, sample_ref: str, tree: Path, tmp_path: Path) -> None:
    cli.ok("pull", "-q", sample_ref)
    cli.ok("run", "--name=k", "--network=none", "-v=vol:/vol", "--user=5:6", sample_ref, "true")
    cli.ok("run", "--name=k2", "--network=none", sample_ref, "sh", "-c", LINKS)
    out = tmp_path / "out"
    cli.ok("cp", "k2:/d", out)
    assert sorted(os.listdir(out)) == ["abs", "f1", "rel", "sub"]
    assert {os.lstat(path).st_uid for path in out.rglob("*")} == {os.geteuid()}
    cli.ok("cp", "k2:/d", out)
    assert (out / "d" / "sub" / "f2").read_text() == "f2\n"
    cli.ok("cp", "k2:/d/abs", tmp_path / "passwd")
    assert (tmp_path / "passwd").read_text() == cli.ok(
        "run", "--rm", "--network=none", sample_ref, "cat", "/etc/passwd"
    )
    cli.ok("cp", tree, "k:/new")
    cli.ok("cp", f"{tree}/.", "k:/vol")
    cli.ok("create", "--name=k3", "--network=none", "-v=fresh:/etc", sample_ref, "cat", "/etc/a", "/etc/passwd")
    cli.ok("cp", tree / "a", "k3:/etc/a")
    assert cli.ok("start", "-a", "k3").startswith("a\nroot:")
    cli.ok("cp", "-a=false", tree / "a", "k:/tmp/root")
    cli.ok("cp", "k2:/d/.", "k:/new")
    assert cli.ok("run", "--rm", "--network=none", "-v=vol:/v", sample_ref, "stat", "-c", "%u:%g", "/v/s/b") == "5:6\n"
    changed = set(cli.ok("diff", "k").splitlines())
    assert {"A /new", "A /new/s/b", "A /new/f1", "A /tmp/root", "C /tmp"} <= changed
    assert not [line for line in changed if line.startswith("A /vol/")]
    outside = tmp_path / "escaped"
    outside.write_text("kept")
    cli.ok("cp", tree / "a", "k2:/d/rel")
    assert not (tmp_path.parent / "out").exists()
    assert cli.ok("cp", "k2:/out", tmp_path / "found") == ""
    assert (tmp_path / "found").read_text() == "a\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("k:/nosuch", "."), '"/nosuch" could not be found on container k: no such file or directory'),
        (("nosuch", "k:/"), '"nosuch" could not be found on the host: no such file or directory'),
        (("k:/etc", "file"), "destination must be a directory when copying a directory"),
        (("file", "k:/nodir/x"), '"/nodir/x" could not be found on container k: no such file or directory'),
        (("file", "k:/nodir/"), '"/nodir/" could not be found on container k: no such file or directory'),
        (("k:/etc/passwd", "nodir/"), '"nodir/" could not be found on the host: no such file or directory'),
        (("none:/x", "."), 'container "none" does not exist'),
        (("-", "k:/nodir"), "destination must be a directory when copying from stdin"),
        (("-", "k:/tmp"), "source must be a (compressed) tar archive when copying from stdin"),
    ],
)
def test_podmans_words(cli: Cli, sample_ref: str, tmp_path: Path, words: tuple[str, str], message: str) -> None:
    (tmp_path / "file").write_text("")
    cli.ok("create", "-q", "--name=k", "--network=none", sample_ref, "true")
    done = cli("cp", *words, stdin="garbage", cwd=tmp_path)
    assert (done.status, done.err.splitlines()[0]) == (125, f"Error: {message}")


def test_a_running_container(cli: Cli, sample_ref: str, tree: Path, tmp_path: Path) -> None:
    """Volumes and tmpfs are seen as the container sees them; a file that is a mount is written in place."""
    cli.ok("pull", "-q", sample_ref)
    cli.ok("run", "-d", "--name=k", "--network=none", "--userns=keep-id", "-v=vol:/vol", "--tmpfs=/tm", sample_ref,
           "sleep", "1000")  # fmt: skip
    for target in ("/vol", "/tm", "/etc/hosts"):
        cli.ok("cp", tree / "a", f"k:{target}")
    assert cli.ok("exec", "k", "cat", "/vol/a", "/tm/a", "/etc/hosts") == "a\na\na\n"
    assert cli.ok("exec", "k", "stat", "-c", "%u", "/tm/a").strip() == str(os.geteuid())
    cli.ok("cp", "k:/tm/a", tmp_path / "back")
    assert (tmp_path / "back").read_text() == "a\n"
    assert cli("cp", "k:/proc/1/root/etc/passwd", tmp_path / "magic").status == 125
    cli.ok("rm", "-f", "-t=0", "k")


def test_streams(cli: Cli, sample_ref: str, tree: Path) -> None:
    cli.ok("create", "-q", "--name=k", "--network=none", sample_ref, "true")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(tree, "src")
    assert cli("cp", "-", "k:/tmp", stdin=archive.getvalue()).status == 0
    done = subprocess.run(cli.argv("cp", "k:/tmp/src", "-"), capture_output=True, env=cli.environ(), check=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
        assert sorted(tar.getnames()) == ["src", "src/a", "src/l", "src/s", "src/s/b"]
        assert {member.uid for member in tar} == {0}
