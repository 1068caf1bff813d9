"""Volumes, secrets and everything that is mounted into a container, by the command line."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support.cli import Cli

pytestmark = pytest.mark.requires("busybox", "subuid")
RUN = ("run", "--rm", "--network=none")


def test_named_volumes(cli: Cli, sample_ref: str) -> None:
    """A volume is filled from the image once, kept while a container has it, and removed with it by force."""
    cli.ok("pull", "-q", sample_ref)
    assert cli.ok("volume", "create", "--label=a=b", "v1") == "v1\n"
    quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    racing = [cli.start("volume", "create", "race", **quiet) for _ in range(8)]
    assert sorted([one.wait() for one in racing]) == [0, *[125] * 7]
    cli.ok("volume", "rm", "race")
    again = cli("volume", "create", "v1")
    assert (again.status, again.err) == (125, "Error: volume with name v1 already exists: volume already exists\n")
    made = cli.ok(
        "create", "--name=user", "--network=none", "-v=v1:/etc", "-v=v2:/new", sample_ref, "touch", "/etc/mine"
    )
    assert cli.ok("volume", "ls", "-q") == "v1\nv2\n"
    used = cli("volume", "rm", "v1", "nosuch")
    assert (used.status, used.out) == (2, "")
    assert f"volume v1 is being used by the following container(s): {made.strip()}: volume is being used" in used.err
    assert cli("start", "-a", "user").status == 0
    names = cli.ok(*RUN, "-v=v1:/x:ro", sample_ref, "ls", "/x").split()
    assert {"passwd", "mine"} <= set(names)
    assert cli(*RUN, "-v=v1:/x:ro", sample_ref, "touch", "/x/y").status == 1
    assert cli.ok("volume", "rm", "-f", "v1") == "v1\n"
    assert (cli.ok("ps", "-aq"), cli("volume", "exists", "v1").status, cli("volume", "exists", "v2").status) == (
        "",
        1,
        0,
    )
    assert cli.ok("volume", "prune", "-f") == "v2\n"


def test_anonymous_volumes_and_those_of_others(cli: Cli, sample_ref: str, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("host")
    cli.ok("pull", "-q", sample_ref)
    cli.ok(
        "create",
        "--name=one",
        "--network=none",
        f"-v={tmp_path}:/bnd:ro",
        "-v=/anon",
        "--tmpfs=/tm",
        sample_ref,
        "true",
    )
    done = cli(*RUN, "--volumes-from=one", sample_ref, "sh", "-c", "cat /bnd/f; echo x >/anon/y")
    assert (done.status, done.out) == (0, "host")
    assert "Unable to match volume /tm from container" in done.err
    assert cli.ok(*RUN, "--volumes-from=one:ro", "-v=/bnd", sample_ref, "sh", "-c", "cat /anon/y; ls /bnd") == "x\n"
    wrong = cli(*RUN, "--volumes-from=one:foo", sample_ref, "true")
    assert (wrong.status, "can only use z,ro,rw options" in wrong.err) == (125, True)
    assert len(cli.ok("volume", "ls", "-q").split()) == 1
    cli.ok("rm", "-v", "one")
    assert cli.ok("volume", "ls", "-q") == ""


def test_special_mounts(cli: Cli, sample_ref: str, tmp_path: Path) -> None:
    """Overlays leave their source alone, images are read-only, a tmpfs volume is shared, propagation is as asked."""
    cli.ok("pull", "-q", sample_ref)
    source = tmp_path / "source"
    source.mkdir()
    (source / "f").write_text("host")
    overlay = ("sh", "-c", "echo changed >/x/f; rm -f /x/g; cat /x/f; stat -c %u /x/f")
    assert cli.ok(*RUN, f"-v={source}:/x:O,U", "-u=33", sample_ref, *overlay) == "changed\n33\n"
    assert ((source / "f").read_text(), os.stat(source / "f").st_uid) == ("host", os.geteuid())
    image = f"--mount=type=image,src={sample_ref},dst=/im"
    assert cli(*RUN, image, sample_ref, "touch", "/im/x").status == 1
    assert cli.ok(*RUN, "--userns=keep-id", f"{image},rw=true", sample_ref, "ls", "/im/etc").split() != []
    assert cli.ok(*RUN, f"--mount=type=glob,src={source}/*,dst=/g", sample_ref, "cat", "/g/f") == "host"
    marks = {}
    for word in ("rshared", "rslave", "private"):
        line = cli.ok(*RUN, f"-v={source}:/x:{word}", sample_ref, "grep", " /x ", "/proc/self/mountinfo")
        marks[word] = "shared:" in line
    assert marks == {"rshared": True, "rslave": False, "private": False}
    idmap = cli(*RUN, f"-v={source}:/x:idmap", sample_ref, "true")
    assert (idmap.status, "option idmap of /x:" in idmap.err) == (125, True)
    cli.ok("volume", "create", "-o=type=tmpfs", "-o=device=tmpfs", "-o=o=size=1m", "tv")
    argv = cli.argv(
        "run", "--rm", "-i", "--network=none", "-v=tv:/t", sample_ref, "sh", "-c", "echo one >/t/f; echo up; cat"
    )
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=cli.environ()) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"up\n"
        assert cli.ok(*RUN, "-v=tv:/t", sample_ref, "cat", "/t/f") == "one\n"
        first.communicate()
    assert cli.ok(*RUN, "-v=tv:/t", sample_ref, "ls", "/t") == ""


def test_secrets(cli: Cli, sample_ref: str) -> None:
    """The value is in the container, as a file or a variable, and in no record."""
    cli.ok("pull", "-q", sample_ref)
    secret = "very-secret-value"
    made = cli.ok("secret", "create", "--label=a=b", "s1", "-", stdin=secret).strip()
    assert cli("secret", "create", "s1", "-", stdin="x").err.startswith("Error: s1: secret name in use\n")
    shown = 'stat -c "%a %u %g" /run/secrets/s1; wc -c </a/b; test "$ENV" = "$(cat /run/secrets/s1)" && echo same'
    asked = ("--secret=s1,uid=5,gid=6,mode=0400", f"--secret={made[:8]},target=/a/b", "--secret=s1,type=env,target=ENV")
    cli.ok("create", "--name=c", "--network=none", *asked, sample_ref, "sh", "-c", shown)
    assert cli.ok("start", "-a", "c") == f"400 5 6\n{len(secret)}\nsame\n"
    assert secret not in cli.ok("inspect", "c") + cli.ok("secret", "inspect", "s1") + cli.ok("secret", "ls")
    places = [path for root in (cli.data / "containers", cli.data / "secrets", cli.run) for path in root.rglob("*")]
    holding = [path.name for path in places if path.is_file() and secret in path.read_text(errors="replace")]
    assert holding == [f"{made}.data"]
    assert cli.ok("secret", "rm", "s1") == f"{made}\n"
    gone = cli("start", "-a", "c")
    assert (gone.status, 'no secret with name or id "s1": no such secret' in gone.err) == (125, True)
    assert cli("secret", "exists", "s1").status == 1


def test_unshare_and_mount(cli: Cli, sample_ref: str) -> None:
    cli.ok("pull", "-q", sample_ref)
    cli.ok("create", "--name=m", "--network=none", sample_ref, "cat", "/made")
    outside = cli("mount", "m")
    assert (outside.status, outside.err) == (
        125, 'Error: cannot run command "rootless mount" in rootless mode, must execute `rootless unshare` first\n'
    )  # fmt: skip
    program = cli.argv()[0]
    script = f'set -e; id -u; echo $HOME; at=$("{program}" mount m); echo hello >"$at/made"; "{program}" mount; '
    script += f'"{program}" umount m'
    uid, home, row, name = cli.ok("unshare", "sh", "-c", script).splitlines()
    assert (uid, home, name) == ("0", cli.environ()["HOME"], "m")
    assert row.endswith("/root")
    assert cli.ok("start", "-a", "m") == "hello\n"
    cli.ok("run", "-d", "--name=live", "--network=none", sample_ref, "sleep", "1000")
    script = f'"{program}" ps --format "{{{{.Names}}}}"; "{program}" cp live:/etc/passwd - | wc -l; '
    script += f'"{program}" stop -t 0 live'
    assert cli.ok("unshare", "sh", "-c", script).split()[0::2] == ["live", "live"]
    missing = cli("unshare", "nosuchcommand")
    assert (missing.status, missing.err) == (127, 'Error: exec: "nosuchcommand": executable file not found in $PATH\n')
    assert cli("unshare", "sh", "-c", "exit 7").status == 7


def test_what_is_used_and_removed(cli: Cli, sample_ref: str) -> None:
    """df counts, prune takes what nobody uses, reset takes everything and kills what runs."""
    cli.ok("pull", "-q", sample_ref)
    cli.ok("run", "--name=dead", "--network=none", "-v=used:/v", sample_ref, "sh", "-c", "echo hello >/v/f")
    cli.ok("volume", "create", "free")
    lines = cli.ok("system", "df", "--format={{.Type}}|{{.Total}}|{{.Active}}").splitlines()
    assert lines == ["Images|1|1", "Containers|1|0", "Local Volumes|2|1"]
    assert "VOLUME NAME  LINKS       SIZE\nfree         0           0B\nused         1           6B\n" in cli.ok(
        "system", "df", "-v"
    )
    assert cli("system", "prune").status == 125
    assert cli("system", "prune", stdin="n\n").out.endswith("Are you sure you want to continue? [y/N] ")
    pruned = cli.ok("system", "prune", "-f", "--volumes")
    assert "Deleted Volumes\nfree\nused\n" in pruned
    assert pruned.endswith("Total reclaimed space: 6B\n")
    cli.ok("run", "-d", "--name=live", "--network=none", sample_ref, "sleep", "1000")
    assert cli.ok("system", "prune", "-af") == "Total reclaimed space: 0B\n"
    assert cli("system", "reset", stdin="").status == 1
    cli.ok("system", "reset", "-f")
    assert (cli.data.exists(), cli.run.exists()) == (False, False)
    cli.run.mkdir(mode=0o700)
