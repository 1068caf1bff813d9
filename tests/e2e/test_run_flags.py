"""The flags of `run`, each seen from inside the container; the expected answers are podman 4.3's for the same line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import capabilities, images, registry
from tests.support.cli import Cli, Done
from tests.support.images import Directory, File, Hardlink, Image, Layer, Symlink

pytestmark = pytest.mark.requires("userns", "subuid", "busybox", "registry")

PLAIN_CONFIG = {"Env": ["FOO=bar", "PATH=/bin:/usr/bin"], "Cmd": ["/bin/env"]}
FULL_CONFIG = {
    "User": "alice",
    "WorkingDir": "/job/place",
    "Entrypoint": ["/bin/sh", "-c"],
    "Cmd": ["id -un"],
    "ExposedPorts": {"80/tcp": {}},
    "Volumes": {"/vol": {}, "/away": {}},
    "StopSignal": "SIGINT",
    "Env": ["PATH=/bin"],
}


class Programs:
    """The command line with a store that holds the images `plain` and `full`."""

    def __init__(self, cli: Cli, plain: str, full: str) -> None:
        self.cli, self.plain, self.full = cli, plain, full

    def run(self, *words: str, env: dict[str, str] | None = None) -> Done:
        named = [{"plain": self.plain, "full": self.full}.get(word, word) for word in words]
        return self.cli("run", "--rm", *named, env=env, cwd=self.cli.place)

    def sh(self, flags: list[str], script: str, env: dict[str, str] | None = None) -> str:
        done = self.run("--network=none", *flags, "plain", "sh", "-c", script, env=env)
        assert (done.status, done.err) == (0, ""), done
        return done.out


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory, docker_registry: registry.Registry) -> Iterator[Programs]:
    capabilities.require("userns")
    layer = Layer(
        (
            *images.busybox_members(),
            Directory("vol", uid=1000, gid=1000, mode=0o750),
            File("vol/file", b"content\n", uid=1000, gid=2000),
            Hardlink("vol/same", "vol/file"),
            Symlink("vol/link", "/etc/passwd"),
            Symlink("away", "../../../../../../../../nowhere/yet"),
            Symlink("etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf"),
            Directory("home/alice", uid=1000, gid=1000),
        )
    )
    cli = Cli(tmp_path_factory.mktemp("flags") / "roots")
    plain = Image((layer,), PLAIN_CONFIG).push(docker_registry.host, "plain")
    full = Image((layer,), FULL_CONFIG).push(docker_registry.host, "full")
    cli.ok("pull", "-q", plain)
    cli.ok("pull", "-q", full)
    yield Programs(cli, plain, full)
    cli.clean()


@pytest.fixture(autouse=True)
def nothing_of_a_container_is_left(programs: Programs) -> Iterator[None]:
    yield
    assert os.listdir(programs.cli.run / "containers") == []
    assert os.listdir(programs.cli.data / "containers") == []
    assert os.listdir(programs.cli.data / "names") == []
    assert os.listdir(programs.cli.data / "staging") == []


def test_the_configuration_of_the_image(programs: Programs) -> None:
    assert programs.run("--network=none", "full").out == "alice\n"
    script = (
        "pwd; stat -c '%n %U %a' . /vol /nowhere/yet; ls /vol; touch /vol/mine; cat /vol/link | head -1; env | sort"
    )
    done = programs.run("--network=none", "full", script)
    assert done.err == ""
    lines = done.out.splitlines()
    assert lines[:4] == ["/job/place", ". alice 755", "/vol alice 750", "/nowhere/yet alice 755"]
    assert lines[4:8] == ["file", "link", "same", "root:x:0:0:root:/root:/bin/sh"]
    assert [line.partition("=")[0] for line in lines[8:]] == [
        "HOME",
        "HOSTNAME",
        "PATH",
        "PWD",
        "SHLVL",
        "TERM",
        "container",
    ]
    assert "HOME=/home/alice" in lines
    assert os.listdir(programs.cli.data / "volumes") == []


@pytest.mark.parametrize(
    ("words", "out"),
    [
        (["--entrypoint", "/bin/echo", "full", "a"], "a\n"),
        (["--entrypoint", '["/bin/echo", "a"]', "full", "b"], "a b\n"),
        (["--entrypoint", "", "full", "echo", "hi"], "hi\n"),
        (["-u", "1234:2000", "plain", "id"], "uid=1234(1234) gid=2000(extra) groups=2000(extra)\n"),
        (["-u", "alice", "plain", "id"], "uid=1000(alice) gid=1000(alice) groups=1000(alice),2000(extra)\n"),
        (
            ["--group-add", "extra", "--group-add", "77", "plain", "id"],
            "uid=0(root) gid=0(root) groups=77,2000(extra)\n",
        ),
        (["-w", "/home/alice", "plain", "/bin/pwd"], "/home/alice\n"),
        (
            ["-h", "foo.bar", "plain", "sh", "-c", "hostname; echo $HOSTNAME; cat /etc/hostname"],
            "foo.bar\nfoo.bar\nfoo.bar\n",
        ),
        (["--umask", "27", "plain", "sh", "-c", "umask"], "0027\n"),
        (["--init", "plain", "cat", "/proc/1/comm"], "rootless:[init]\n"),
        (["--ulimit", "nofile=100:200", "plain", "sh", "-c", "ulimit -n; ulimit -Hn"], "100\n200\n"),
        (["--oom-score-adj", "100", "plain", "cat", "/proc/self/oom_score_adj"], "100\n"),
        (["--personality", "LINUX32", "plain", "cat", "/proc/self/personality"], "00000008\n"),
        (["--sysctl", "kernel.msgmax=1234", "plain", "cat", "/proc/sys/kernel/msgmax"], "1234\n"),
        (
            ["--security-opt", "no-new-privileges", "plain", "sh", "-c", "grep NoNew /proc/self/status"],
            "NoNewPrivs:\t1\n",
        ),
        (
            ["--security-opt", "seccomp=unconfined", "plain", "sh", "-c", "grep Seccomp: /proc/self/status"],
            "Seccomp:\t0\n",
        ),
        (["--security-opt", "mask=/etc/passwd", "plain", "cat", "/etc/passwd"], ""),
        (["--cap-drop", "all", "plain", "sh", "-c", "grep CapEff /proc/self/status"], "CapEff:\t0000000000000000\n"),
        (
            ["--cap-add", "net_raw", "-u", "alice", "plain", "sh", "-c", "grep CapEff /proc/self/status"],
            "CapEff:\t0000000000002000\n",
        ),
        (["--device", "/dev/null:/dev/x:r", "plain", "sh", "-c", "cat /dev/x; test -c /dev/x && echo node"], "node\n"),
        (
            [
                "--read-only",
                "plain",
                "sh",
                "-c",
                "touch /x 2>/dev/null || echo no; touch /tmp/x /run/x /var/tmp/x && echo yes",
            ],
            "no\nyes\n",
        ),
        (
            [
                "--tmpfs",
                "/t:size=1m,mode=700",
                "plain",
                "sh",
                "-c",
                "stat -c %a /t; df -k /t | tail -1 | awk '{print $2}'",
            ],
            "700\n1024\n",
        ),
        (["--tmpfs", "/vol", "plain", "cat", "/vol/file"], "content\n"),
        (["--shm-size", "1m", "plain", "sh", "-c", "df -k /dev/shm | tail -1 | awk '{print $2}'"], "1024\n"),
        (["--add-host", "a.b:1.2.3.4", "plain", "grep", "-F", "a.b", "/etc/hosts"], "1.2.3.4\ta.b\n"),
        (["--env-merge", "X=${FOO}-$FOO", "plain", "sh", "-c", "echo $X"], "bar-bar\n"),
        (["--unsetenv", "FOO", "plain", "sh", "-c", "echo $FOO"], "\n"),
        (["--annotation", "a=b", "--label", "c=d", "--expose", "90", "plain", "true"], ""),
        (["--ipc", "none", "plain", "sh", "-c", "grep -c shm /proc/mounts; true"], "0\n"),
        (["--privileged", "plain", "grep", "engine", "/run/.containerenv"], 'engine="rootless"\n'),
        (["--stop-signal", "INT", "--stop-timeout", "3", "plain", "true"], ""),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_flags(programs: Programs, words: list[str], out: str) -> None:
    done = programs.run("--network=none", *words)
    assert (done.status, done.out, done.err) == (0, out, "")


def test_no_signal_is_ignored_or_blocked(programs: Programs) -> None:
    # without a shell, which ignores SIGQUIT for what it runs
    done = programs.run("--network=none", "plain", "grep", "-E", "Sig(Ign|Blk)", "/proc/self/status")
    assert set(done.out.split()[1::2]) == {"0000000000000000"}


def test_environment(programs: Programs, tmp_path: Path) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nFROM_FILE=1\n  BLANKS= x \nHOST_VAR\nFOO=file\n")
    flags = ["--env-file", str(file), "-e", "A=b=c", "-e", "FOO=flag", "-e", "NOT_SET", "-e", "HOST_*"]
    out = programs.sh(flags, "env | sort", env={"HOST_VAR": "h", "HOST_X": "x", "no_proxy": "local"})
    found = dict(line.split("=", 1) for line in out.splitlines())
    assert {name: found.get(name) for name in ("FROM_FILE", "BLANKS", "HOST_VAR", "HOST_X", "FOO", "A", "NOT_SET")} == {
        "FROM_FILE": "1", "BLANKS": " x ", "HOST_VAR": "h", "HOST_X": "x", "FOO": "flag", "A": "b=c", "NOT_SET": None,
    }  # fmt: skip
    assert found["no_proxy"] == "local"
    assert found["container"] == "rootless"
    assert "HOST_VAR" in programs.sh(["--env-host"], "env", env={"HOST_VAR": "h"})
    assert "no_proxy" not in programs.sh(["--http-proxy=false"], "env", env={"no_proxy": "local"})


def test_the_user_is_added_to_passwd(programs: Programs) -> None:
    assert programs.sh(["-u", "1234:55"], "tail -1 /etc/passwd; tail -1 /etc/group") == (
        "1234:*:1234:55:container user:/:/bin/sh\n55:x:55:1234\n"
    )
    assert "1234" not in programs.sh(["-u", "1234", "--passwd=false"], "cat /etc/passwd")
    template = "u$UID:*:$UID:$GID:$NAME:$HOME:/bin/q"
    assert programs.sh(["-u", "1234:55", "--passwd-entry", template], "tail -1 /etc/passwd") == (
        "u1234:*:1234:55:container user:/:/bin/q\n"
    )


def test_generated_files_reach_places_behind_dangling_links(programs: Programs) -> None:
    done = programs.run("--network=host", "plain", "sh", "-c", "readlink /etc/resolv.conf; test -s /etc/resolv.conf")
    assert (done.status, done.out, done.err) == (0, "../run/systemd/resolve/stub-resolv.conf\n", "")


def test_binds(programs: Programs, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("outside\n")
    (tmp_path / "link").symlink_to("../" * 20 + str(tmp_path / "file").lstrip("/"))
    assert (
        programs.sh(["-v", f"{tmp_path}:/x"], "cat /x/file; echo new > /x/made; stat -c %u /x/made") == "outside\n0\n"
    )
    assert (tmp_path / "made").stat().st_uid == os.getuid()
    assert (
        programs.sh(["-v", f"{tmp_path}/link:/y:ro"], "cat /y; echo 1 2>/dev/null > /y || echo no") == "outside\nno\n"
    )
    mount = f"type=bind,src={tmp_path},dst=/x,ro=true"
    assert programs.sh(["--mount", mount], "touch /x/z 2>/dev/null || echo no") == "no\n"
    assert programs.sh(["-v", f"{tmp_path}:/x:noexec,rslave"], "grep ' /x ' /proc/mounts | grep -c noexec") == "1\n"


def test_named_volumes(programs: Programs) -> None:
    try:
        assert programs.sh(["-v", "named:/vol"], "ls /vol; rm /vol/same; echo more > /vol/more") == "file\nlink\nsame\n"
        assert programs.sh(["-v", "named:/elsewhere:ro"], "ls /elsewhere") == "file\nlink\nmore\n"
        assert programs.sh(["-v", "empty:/vol:nocopy"], "ls /vol; stat -c '%u %a' /vol") == "1000 750\n"
        assert (
            programs.sh(["-v", "owned:/vol:U", "-u", "1234"], "stat -c %u /vol /vol/file; touch /vol/x")
            == "1234\n1234\n"
        )
        assert sorted(os.listdir(programs.cli.data / "volumes")) == ["empty", "named", "owned"]
    finally:
        from tests.support.userns import remove_tree

        for name in ("empty", "named", "owned"):
            remove_tree(programs.cli.data / "volumes" / name)


def test_cidfile_and_pidfile(programs: Programs, tmp_path: Path) -> None:
    cid, pid = tmp_path / "cid", tmp_path / "pid"
    out = programs.sh(["--cidfile", str(cid), "--pidfile", str(pid)], "hostname")
    assert cid.read_text()[:12] == out.strip()
    assert len(cid.read_text()) == 64
    assert pid.read_text().isdigit()
    again = programs.run("--network=none", "--cidfile", str(cid), "plain", "true")
    assert again.status == 125
    assert "container id file exists. Ensure another container is not using it or delete" in again.err


def test_host_namespaces(programs: Programs) -> None:
    script = "for n in pid ipc uts cgroup; do readlink /proc/self/ns/$n; done"
    ours = [os.readlink(f"/proc/self/ns/{name}") for name in ("pid", "ipc", "uts", "cgroup")]
    flags = ["--pid=host", "--ipc=host", "--uts=host", "--cgroupns=host"]
    assert programs.sh(flags, script).split() == ours
    assert not set(programs.sh([], script).split()) & set(ours)
    assert programs.sh(["--uts=host"], "hostname").strip() == os.uname().nodename


@pytest.mark.parametrize(
    ("words", "status", "message"),
    [
        (["-v", "/no/such:/x", "plain", "true"], 125, "Error: statfs /no/such: no such file or directory\n"),
        (
            ["-u", "nobody", "plain", "true"],
            126,
            "Error: unable to find user nobody: no matching entries in passwd file\n",
        ),
        (["-w", "/nowhere", "plain", "true"], 126, 'Error: workdir "/nowhere" does not exist on container '),
        (["-w", "/etc/passwd", "plain", "true"], 126, 'Error: workdir "/etc/passwd" exists on container '),
        (["--device", "/no/such", "plain", "true"], 125, "Error: stat /no/such: no such file or directory\n"),
        (
            ["--rootfs", "/no/such", "true"],
            125,
            "Error: running container create option: stat /no/such: no such file or directory\n",
        ),
        (["--cidfile", "/no/such", "plain", "true"], 125, "Error: opening cidfile /no/such\n"),
        (["--pull=never", "localhost/absent", "true"], 125, "Error: localhost/absent: image not known\n"),
        (
            ["--preserve-fds", "9", "plain", "true"],
            125,
            "Error: file descriptor 3 is not available - the preserve-fds option",
        ),
        (
            ["--security-opt", "seccomp=/no/such", "plain", "true"],
            125,
            "Error: opening seccomp profile failed: open /no/such: no such file",
        ),
        (["--frob", "plain", "true"], 125, "Error: unknown flag: --frob\nSee 'rootless run --help'\n"),
    ],
)
def test_what_is_refused_leaves_nothing(programs: Programs, words: list[str], status: int, message: str) -> None:
    done = programs.run("--network=none", *words)
    assert done.status == status
    assert done.err.startswith(message)
    assert done.out == ""


def test_an_image_of_another_platform_is_said(programs: Programs) -> None:
    done = programs.run("--network=none", "--arch", "frob", "-q", "plain", "true")
    assert done.status == 0
    assert "does not match the expected platform (linux/frob)" in done.err
