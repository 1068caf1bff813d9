"""`rootless run` as a person meets it: on an image from a registry, with each storage driver and identity."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import capabilities
from tests.support.cli import Cli

pytestmark = pytest.mark.requires("userns", "busybox", "registry")


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory, sample_ref: str) -> Iterator[Cli]:
    """The command line, its store filled with the sample image."""
    capabilities.require("userns")
    program = Cli(tmp_path_factory.mktemp("stocked") / "roots")
    program.ok("pull", "-q", sample_ref)
    yield program
    program.clean()


@pytest.fixture
def run(stocked: Cli, sample_ref: str) -> Iterator[Run]:
    """Run the sample image without a network; afterwards nothing of a container may be left."""
    yield Run(stocked, sample_ref)
    assert os.listdir(stocked.run / "containers") == []
    assert os.listdir(stocked.data / "containers") == []
    assert os.listdir(stocked.data / "names") == []


class Run:
    def __init__(self, cli: Cli, image: str) -> None:
        self.cli, self.image = cli, image

    def words(self, *flags: str, command: tuple[str, ...]) -> list[str]:
        network = [] if any(f.startswith("--network") or f == "-p" for f in flags) else ["--network=none"]
        return ["run", "--rm", *network, *flags, self.image, *command]

    def sh(self, script: str, *flags: str, stdin: str | None = None) -> tuple[int, str, str]:
        done = self.cli(*self.words(*flags, command=("sh", "-c", script)), stdin=stdin)
        return done.status, done.out, done.err

    def out(self, script: str, *flags: str, stdin: str | None = None) -> str:
        status, out, err = self.sh(script, *flags, stdin=stdin)
        assert (status, err) == (0, ""), f"{script}: {status} {err}"
        return out


@pytest.mark.requires("subuid")
def test_root_inside_is_the_user_outside(run: Run) -> None:
    maps = run.out("id -u; cat /proc/self/uid_map").split()
    assert maps[:4] == ["0", "0", str(os.getuid()), "1"]
    assert int(maps[6]) >= 65536


@pytest.mark.parametrize("driver", ["overlay", "fuse", "copy", "vfs"])
def test_every_storage_driver_shows_the_same_image(run: Run, driver: str) -> None:
    if driver in ("overlay", "fuse"):
        capabilities.require(driver)
    script = (
        "cd /data && find . | sort && cat linked last && readlink outside"
        " && stat -c '%a %u %g %h' setuid linked opaque/. && echo new > made && rm last && mv kept moved && cat made"
        " moved && ls"
    )
    expected = run.out(script, "--storage-driver=copy")
    found = run.out(script, f"--storage-driver={driver}")
    # A directory's link count is the business of its file system.
    assert re.sub(r"\d+$", "", found, flags=re.M) == re.sub(r"\d+$", "", expected, flags=re.M)


def test_what_a_container_writes_is_not_the_next_ones(run: Run) -> None:
    run.out("echo x > /data/kept; rm /data/last")
    assert "x" not in run.out("cat /data/kept").split()
    assert "last" in run.out("ls /data").split()


def test_namespaces_are_the_containers_own(run: Run) -> None:
    ours = {n: os.readlink(f"/proc/self/ns/{n}") for n in ("pid", "ipc", "uts", "mnt", "net", "cgroup", "user")}
    theirs = dict(
        line.split(" ", 1) for line in run.out("for n in pid ipc uts mnt net cgroup user; do "
                                               "echo $n $(readlink /proc/self/ns/$n); done").splitlines()
    )  # fmt: skip
    assert {n for n in ours if ours[n] == theirs[n]} == set()


def test_the_process_is_confined(run: Run) -> None:
    status = dict(
        line.split(":\t") for line in run.out("cat /proc/self/status").splitlines() if ":\t" in line
    )  # fmt: skip
    assert status["Seccomp"] == "2"
    assert status["CapBnd"] == status["CapEff"] == "00000000800405fb"
    assert status["NoNewPrivs"] == "0"
    assert run.out("grep NoNewPrivs /proc/self/status", "--security-opt=no-new-privileges").split() == [
        "NoNewPrivs:",
        "1",
    ]
    assert "Read-only" in run.sh("echo 1 > /proc/sys/kernel/panic")[2]
    assert run.out("cat /proc/keys; ls /proc/acpi 2>/dev/null; ls /sys/firmware") == ""


def test_no_descriptor_of_ours_reaches_the_container(run: Run) -> None:
    assert run.out("ls /proc/self/fd").split() == ["0", "1", "2", "3"]  # 3 is ls's own


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        (("true",), 0, ""),
        (("sh", "-c", "exit 7"), 7, ""),
        (("sh", "-c", "sh -c 'kill -9 $$'; exit $?"), 137, ""),
        (("absent",), 127, 'exec: "absent": executable file not found in $PATH'),
        (("/absent",), 127, 'exec: "/absent": stat /absent: no such file or directory'),
        (("/etc",), 126, 'exec: "/etc": is a directory'),
        (("/etc/passwd",), 126, 'exec: "/etc/passwd": permission denied'),
    ],
)
def test_the_exit_status_is_the_commands_or_says_why_not(
    run: Run, command: tuple[str, ...], status: int, words: str
) -> None:
    done = run.cli(*run.words(command=command))
    assert done.status == status
    assert words in done.err


def test_stdin_reaches_the_process_only_with_i(run: Run) -> None:
    assert run.out("cat", "-i", stdin="hello\n") == "hello\n"
    assert run.out("cat", stdin="hello\n") == ""


def test_much_output_arrives_whole_and_apart(run: Run) -> None:
    status, out, err = run.sh("i=0; while [ $i -lt 20000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done")
    assert status == 0
    assert out == "".join(f"out {i}\n" for i in range(20000))
    assert err == "".join(f"err {i}\n" for i in range(20000))


def test_a_closed_stdout_ends_the_writer(run: Run) -> None:
    process = run.cli.start(*run.words(command=("sh", "-c", "trap '' INT; sh -c 'yes; echo ended $? >&2'")))
    assert process.stdout and process.stderr and process.stdin
    assert process.stdout.read(4) == b"y\ny\n"
    process.stdout.close()
    assert process.stderr.read() in (b"ended 141\n", b"yes: (null): Broken pipe\nended 1\n")
    process.wait(20)
    process.stdin.close()
    process.stderr.close()


def test_signals_of_the_command_line_reach_the_process(run: Run) -> None:
    process = run.cli.start(
        *run.words(command=("sh", "-c", "trap 'echo got; exit 9' TERM; echo up; while :; do sleep 0.05; done"))
    )
    assert process.stdout
    assert process.stdout.readline() == b"up\n"
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out, err) == (9, b"got\n", b"")


def test_init_reaps_and_forwards(run: Run) -> None:
    assert run.out("cat /proc/1/comm; cat /proc/self/status | grep ^PPid", "--init").split()[0] == "rootless:[init]"
    process = run.cli.start(*run.words("--init", command=("sleep", "60")))
    deadline = time.monotonic() + 20
    while b"sleep" not in _children(run.cli) and time.monotonic() < deadline:
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=20)
    assert process.returncode == 143


def _children(cli: Cli) -> bytes:
    """Return the names of all processes of our containers."""
    names = b""
    for note in cli.run.glob("containers/*/child"):
        pid = note.read_text().split()[0]
        try:
            for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
                names += Path(f"/proc/{child}/comm").read_bytes()
        except OSError:
            continue
    return names


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self.master, slave = pty.openpty()
        self.process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)
        self.seen = b""

    def type(self, text: bytes) -> None:
        os.write(self.master, text)

    def until(self, wanted: bytes, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while wanted not in self.seen:
            left = end - time.monotonic()
            assert left > 0, f"{wanted!r} did not come: {self.seen!r}"
            if select.select([self.master], [], [], left)[0]:
                try:
                    self.seen += os.read(self.master, 65536)
                except OSError:
                    assert wanted in self.seen, f"{wanted!r} did not come: {self.seen!r}"
                    return
        self.seen = self.seen[self.seen.index(wanted) + len(wanted) :]

    def until_echoed(self, word: bytes) -> None:
        """Type *word* until it comes back twice, from the terminal and from cat, which therefore runs."""
        for _ in range(20):
            self.type(word + b"\r")  # lost while a shell's line editor still has the terminal
            try:
                self.until(word + b"\r\n" + word + b"\r\n", 1.0)
                return
            except AssertionError:
                continue
        self.until(word + b"\r\n" + word)

    def close(self) -> int:
        """End the terminal, and what still runs on it; return the exit status."""
        os.close(self.master)
        if self.process.poll() is None:
            self.process.kill()
        return self.process.wait(20)


def test_a_terminal_has_job_control_and_a_size(run: Run, request: pytest.FixtureRequest) -> None:
    terminal = Terminal(run.cli.argv(*run.words("-it", command=("sh",))), run.cli.environ(TERM="xterm"))
    request.addfinalizer(terminal.close)
    terminal.until(b"# ")
    terminal.type(b"tty; test -c /dev/console && echo console-ok\r")
    terminal.until(b"/dev/pts/0")
    terminal.until(b"console-ok")
    terminal.type(b'echo re""ady; cat\r')
    terminal.until(b"\nready")  # the shell's line editor has given the terminal back
    terminal.until_echoed(b"mark")
    terminal.type(b"\x1a")
    terminal.until(b"# ")
    terminal.type(b"jobs\r")
    terminal.until(b"Stopped")
    terminal.type(b"fg\r")
    terminal.until(b"cat\r\n")
    terminal.until_echoed(b"again")
    terminal.type(b"\x03")
    terminal.until(b"# ")
    terminal.type(b"exit 5\r")
    terminal.until(b"exit 5")
    assert terminal.process.wait(20) == 5


@pytest.mark.requires("subuid")
def test_keep_id_makes_the_user_the_user(run: Run) -> None:
    out = run.out("id -u; stat -c %u /bin/busybox; touch /tmp/x; stat -c %u /tmp/x", "--userns=keep-id").split()
    assert out == [str(os.getuid()), "0", str(os.getuid())]
    assert run.out("id -u; id -g", "--userns=keep-id:uid=7,gid=8").split() == ["7", "8"]


@pytest.mark.requires("subuid")
def test_nomap_leaves_the_user_out(run: Run) -> None:
    assert run.out("cat /proc/self/uid_map", "--userns=nomap").split()[:2] == ["0", "1"]


def test_one_id_is_enough(run: Run) -> None:
    assert run.out("id -u; cat /proc/self/uid_map; stat -c %u /data/linked", "--userns=single").split()[1:4] == [
        "0",
        str(os.getuid()),
        "1",
    ]


def test_volumes_binds_and_tmpfs(run: Run, tmp_path: Path) -> None:
    (tmp_path / "in").write_text("from outside\n")
    assert run.out("cat /m/in; echo back > /m/out", "-v", f"{tmp_path}:/m") == "from outside\n"
    assert (tmp_path / "out").read_text() == "back\n"
    assert "Read-only" in run.sh("touch /m/no", "-v", f"{tmp_path}:/m:ro")[2]
    assert run.out("ls /data; mount | grep -c ' /data type tmpfs'", "--tmpfs", "/data").split()[-1] == "1"
    assert "kept" in run.out("ls /data", "--tmpfs", "/data")
    missing = run.sh("true", "-v", f"{tmp_path}/absent:/m")
    assert missing[0] == 125 and f"statfs {tmp_path}/absent: no such file or directory" in missing[2]


def test_a_read_only_root(run: Run) -> None:
    status, _, err = run.sh("touch /x", "--read-only")
    assert status == 1 and "Read-only file system" in err
    assert run.out("touch /tmp/x && echo ok", "--read-only") == "ok\n"


def test_a_working_directory_behind_a_link_stays_inside(run: Run, tmp_path: Path) -> None:
    """podman 4.3 makes a directory on the host for it."""
    root = tmp_path / "root"
    for name in ("bin", "proc", "dev", "sys", "etc", "run", "tmp"):
        (root / name).mkdir(parents=True)
    (root / "bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (root / "bin/busybox").chmod(0o755)
    (root / "escape").symlink_to(tmp_path)
    done = run.cli("run", "--rm", "--network=none", "-w", "/escape/made", "--rootfs", root, "/bin/busybox", "pwd")
    assert not (tmp_path / "made").exists()
    assert done.status in (0, 126), done


def test_the_supervisor_survives_the_first_moment_under_trio(run: Run) -> None:
    """Longer than first.py serves: output, status and signals come through the other loop too."""
    assert run.out("sleep 0.6; echo late; exit 0") == "late\n"
    assert run.sh("sleep 0.4; exit 3")[0] == 3
    assert run.out("sleep 0.4; cat", "-i", stdin="x" * 300_000) == "x" * 300_000
