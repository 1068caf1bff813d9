"""The server as a process: how it starts, what it may do, how it ends."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rootless import launcher
from rootless.errors import PeerGone
from rootless.kernel import mounts
from rootless.mount.driver import RootfsRequest
from rootless.mount.fuse import FuseDriver, arguments
from rootless.spec.idmap import IdMap, IdRange
from tests.fuse.trees import Place, snapshot, xattrs

pytestmark = pytest.mark.requires("subuid", "fuse")
InUserns = Callable[..., Any]


def status_of(pid: int) -> dict[str, str]:
    """Return /proc/PID/status as a dict."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def program(*args: str, **how: Any) -> subprocess.CompletedProcess[str]:
    """Run rootless-fuse-overlay."""
    words = launcher.command("rootless-fuse-overlay", *args)
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=60, **how)


def test_the_server_has_given_up_what_it_can(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        place.layer()
        with place.fuse() as m:
            os.listdir(m.path)
            status = status_of(m.pid)
            assert status["Name"] == "rootless:[fuse]"
            assert status["NoNewPrivs"] == "1"
            assert int(status["CapBnd"], 16) == 0
            # chown, dac_override, dac_read_search, fowner, fsetid, mknod, setfcap
            assert int(status["CapEff"], 16) == 0x8800001F
            assert status["Threads"] == "1"
            assert int(status["VmRSS"].split()[0]) < 30 * 1024
            assert os.getsid(m.pid) == m.pid
            m.end()

    in_userns(body, ids="subid")


def test_a_killed_server_means_enotconn(in_userns: InUserns, workplace: Path) -> None:
    """For requests that come later and for one that waits: no process hangs."""

    def body() -> None:
        place = Place(workplace)
        (place.layer() / "f").write_text("x")
        with place.fuse() as m:
            # Started before the server stops: a child closes our open files on its way to exec, which asks the server.
            words = ["/bin/sh", "-c", 'read line; exec ls "$1"/unknown', "sh", str(m.path)]
            waiting = subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            file = os.open(m.path / "f", os.O_RDONLY)
            os.kill(m.pid, signal.SIGSTOP)
            assert waiting.stdin is not None
            waiting.stdin.write("\n")
            waiting.stdin.flush()
            end = time.monotonic() + 20
            while time.monotonic() < end:
                status = status_of(waiting.pid)
                if status["Name"] == "ls" and status["State"][0] in "SD":
                    break
            m.kill()
            said = waiting.communicate(timeout=20)[1]
            # ECONNABORTED if its request was under way when the server died, ENOTCONN if it came a moment later
            assert "connection abort" in said or "not connected" in said
            for do in (
                lambda: os.listdir(m.path),
                lambda: os.open(m.path / "f", os.O_RDONLY),
                lambda: os.mkdir(m.path / "d"),
            ):
                with pytest.raises(OSError) as caught:
                    do()
                assert caught.value.errno == errno.ENOTCONN
            with contextlib.suppress(OSError):
                os.close(file)
            assert m.end() == -signal.SIGKILL

    in_userns(body, ids="subid")


@pytest.mark.parametrize("how", ["unmount", "exit-fd", "SIGTERM"])
def test_every_clean_end_keeps_what_was_written(in_userns: InUserns, workplace: Path, how: str) -> None:
    """Also what the kernel still has in its write-back cache."""

    def body() -> None:
        place = Place(workplace)
        place.layer()
        driver = FuseDriver()
        mounted = driver.open(place.request())
        mounts.move_mount(mounted.fd, None, str(place.point("fuse")))
        mounted.fd.close()
        fd = os.open(place.point("fuse") / "f", os.O_CREAT | os.O_WRONLY)
        os.write(fd, b"0123456789" * 30_000)
        if how == "exit-fd":
            assert mounted.exit_fd is not None
            mounted.exit_fd.close()
        elif how == "SIGTERM":
            os.kill(mounted.server_pid, signal.SIGTERM)
        os.close(fd)
        mounts.umount2(str(place.point("fuse")), mounts.MNT_DETACH)
        mounted.close()
        assert os.waitpid(mounted.server_pid, 0)[1] == 0
        assert (place.upper() / "f").stat().st_size == 300_000

    in_userns(body, ids="subid")


def test_the_server_ends_with_its_parent(in_userns: InUserns, workplace: Path) -> None:
    """exit-fd at its end is enough, even while the mount is in use."""

    def body() -> None:
        place = Place(workplace)
        place.layer()
        with place.fuse() as m:
            here = os.open(m.path, os.O_RDONLY)
            assert m._mounted is not None
            assert m._mounted.exit_fd is not None
            m._mounted.exit_fd.close()
            assert os.waitpid(m.pid, 0)[1] == 0
            with pytest.raises(OSError) as caught:
                os.listdir(here)
            assert caught.value.errno == errno.ENOTCONN
            os.close(here)
            mounts.umount2(str(m.path), mounts.MNT_DETACH)
            m._mounted.close()
            m._mounted = None

    in_userns(body, ids="subid")


def test_what_the_server_says_on_a_failed_start_is_in_the_error(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        place.layer()
        place.layers.append("absent")
        request = place.request()
        os.symlink("nowhere", place.base / "store" / "l" / "absent")
        place.scratch("fuse").joinpath("diff").mkdir()
        place.scratch("fuse").joinpath("work").mkdir()
        bare = RootfsRequest(request.store, request.links, request.scratch, request.run_dir, readonly=True)
        mounted = FuseDriver().open(bare)
        with pytest.raises(PeerGone) as caught:
            mounted.wait_ready()
        assert "l/absent: no such file or directory" in str(caught.value)
        mounted.close()
        os.waitpid(mounted.server_pid, 0)

    in_userns(body, ids="subid")


def test_layers_are_shown_with_mapped_ids(in_userns: InUserns, workplace: Path) -> None:
    """keep-id: what the image calls 0 is another id of ours, in both directions."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        for uid in (0, 1, 1000, 1001):
            (low / f"u{uid}").touch()
            os.chown(low / f"u{uid}", uid, uid)
        ids = IdMap((IdRange(0, 1, 1000), IdRange(1000, 0, 1), IdRange(1001, 1001, 5000)))
        with place.fuse(uid_map=ids, gid_map=ids) as m:
            shown = {
                name: (os.lstat(m.path / name).st_uid, os.lstat(m.path / name).st_gid) for name in os.listdir(m.path)
            }
            assert shown == {"u0": (1, 1), "u1": (2, 2), "u1000": (0, 0), "u1001": (1001, 1001)}
            (m.path / "mine").touch()
            os.chown(m.path / "u1001", 1, 5)
            os.chmod(m.path / "u0", 0o600)
            assert os.lstat(m.path / "mine").st_uid == 0
            with pytest.raises(OSError) as caught:
                os.chown(m.path / "u0", 60000, 60000)
            assert caught.value.errno == errno.EINVAL
        on_disk = {
            name: (os.lstat(place.upper() / name).st_uid, os.lstat(place.upper() / name).st_gid)
            for name in ("mine", "u1001", "u0")
        }
        assert on_disk == {"mine": (1000, 1000), "u1001": (0, 4), "u0": (0, 0)}

    in_userns(body, ids="subid")


def test_recorded_owners_are_shown_where_the_ids_exist(in_userns: InUserns, workplace: Path) -> None:
    """A layer that was unpacked on a single-id map, used later with ranges, and the reverse."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        for name, owner in (("f", b"33:44:04755"), ("g", b"33:4000000:0600")):
            (low / name).write_text("x")
            os.chmod(low / name, 0o750)
            os.setxattr(low / name, "user.containers.override_stat", owner)
        (low / "d").mkdir()
        os.setxattr(low / "d", "user.containers.override_stat", b"7:8:0711")
        with place.fuse(squashed=True) as m:
            seen = snapshot(m.path)
            assert seen["f"][:3] == ("0o104755", 33, 44)
            assert seen["g"][:3] == ("0o100750", 0, 0)
            assert seen["d"][:3] == ("0o40711", 7, 8)
            os.chown(m.path / "f", 5, -1)
            (m.path / "d" / "new").touch()
            assert os.lstat(m.path / "f").st_uid == 5
            assert os.lstat(m.path / "f").st_gid == 44
            assert os.lstat(m.path / "d").st_uid == 7
        assert os.lstat(place.upper() / "f").st_gid == 44
        assert xattrs(str(place.upper() / "f")) == {}

    in_userns(body, ids="subid")


def test_by_hand_with_fuse_overlayfs_command_line(in_userns: InUserns, workplace: Path) -> None:
    """It mounts, goes to the background when it serves, and ends when it is unmounted."""

    def body() -> None:
        for name in ("a", "b", "up", "wk", "m"):
            (workplace / name).mkdir()
        (workplace / "a" / "f").write_text("a")
        (workplace / "b" / "g").write_text("b")
        options = (
            f"lowerdir={workplace}/a:{workplace}/b,upperdir={workplace}/up,workdir={workplace}/wk,threaded=1,nonsense"
        )
        done = program("-o", options, str(workplace / "m"))
        assert done.returncode == 0, done.stderr
        assert "unknown argument ignored: nonsense" in done.stderr
        assert sorted(os.listdir(workplace / "m")) == ["f", "g"]
        (workplace / "m" / "f").write_text("changed")
        mounts.umount2(str(workplace / "m"))
        assert (workplace / "up" / "f").read_text() == "changed"

    in_userns(body, ids="subid", pid=True)


def test_squashed_ids(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        for name in ("a", "m"):
            (workplace / name).mkdir()
        (workplace / "a" / "f").touch()
        os.chown(workplace / "a" / "f", 3, 4)
        for option, owner in (("squash_to_root", (0, 0)), ("squash_to_root,squash_to_uid=9", (9, 0))):
            assert program("-o", f"lowerdir={workplace}/a,{option}", str(workplace / "m")).returncode == 0
            st = os.lstat(workplace / "m" / "f")
            assert (st.st_uid, st.st_gid) == owner
            mounts.umount2(str(workplace / "m"))

    in_userns(body, ids="subid", pid=True)


@pytest.mark.parametrize(
    ("args", "status", "text"),
    [
        (["--help"], 0, "rootless-fuse-overlay: a file system that merges"),
        (["--version"], 0, "rootless-fuse-overlay: version "),
        ([], 1, "no mount point given"),
        (["-o", "lowerdir=/nonexistent", "/mnt"], 1, "open /nonexistent: no such file or directory"),
        (["-o", "upperdir=/tmp", "/mnt"], 1, "upperdir needs a workdir"),
    ],
)
def test_messages(args: list[str], status: int, text: str) -> None:
    done = program(*args)
    assert done.returncode == status
    assert text in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_without_the_device_the_driver_says_so(workplace: Path) -> None:
    place = Place(workplace)
    place.layer()
    refused = FuseDriver(device="/dev/no-such-device").supports(place.request())
    assert refused is not None
    assert "/dev/no-such-device" in refused.reason
    assert "chmod" in refused.hint


def test_the_arguments_escape_paths(workplace: Path) -> None:
    """What the driver writes is what the server reads."""
    from fuse_overlay.options import parse

    request = RootfsRequest("/a,b:c\\d", ("X", "Y"), "/s,1", "/run")
    options = parse(arguments(request))
    assert options.lowerdirs == ("/a,b:c\\d/l/Y", "/a,b:c\\d/l/X")
    assert (options.upperdir, options.workdir) == ("/s,1/diff", "/s,1/work")
    assert options.warnings == ()


@contextlib.contextmanager
def patched_server(place: Path, patch: str) -> Iterator[subprocess.Popen[str]]:
    """Run the server by hand on place/low, place/up, with a few lines of Python executed before it starts."""
    for name in ("low", "m", "up", "wk"):
        (place / name).mkdir(exist_ok=True)
    paths = [launcher.ROOT, *(path for path in sys.path if "packages" in path)]
    script = f"import sys; sys.path[:0] = {paths!r}\n{patch}\nsys.exit(__main__.main(sys.argv[1:]))\n"
    reader, writer = os.pipe()
    words = [launcher.command("rootless-fuse-overlay")[0], "-ISc", script, "-f", f"--ready-fd={writer}", "-o"]
    words += [f"lowerdir={place}/low,upperdir={place}/up,workdir={place}/wk", f"{place}/m"]
    server = subprocess.Popen(words, pass_fds=[writer], stderr=subprocess.PIPE, text=True)
    os.close(writer)
    try:
        assert os.read(reader, 1) == b"1"
        yield server
    finally:
        os.close(reader)
        with contextlib.suppress(OSError):
            mounts.umount2(str(place / "m"), mounts.MNT_DETACH)
        server.wait(30)


def test_a_fault_in_a_handler_is_eio_and_the_server_goes_on(in_userns: InUserns, workplace: Path) -> None:
    """No exception ends the server: the one request fails, the reason is logged."""

    def body() -> None:
        patch = """
from fuse_overlay import ops_xattr, __main__
def broken(self, *_): raise ZeroDivisionError("planted")
ops_xattr.XattrOps.symlink = broken
"""
        with patched_server(workplace, patch) as server:
            with pytest.raises(OSError) as caught:
                os.symlink("x", workplace / "m" / "l")
            assert caught.value.errno == errno.EIO
            (workplace / "m" / "f").write_text("still there")
            mounts.umount2(str(workplace / "m"))
            said = server.communicate(timeout=30)[1]
        assert server.returncode == 0
        assert "symlink: ZeroDivisionError: planted" in said

    in_userns(body, ids="subid")


def test_without_user_attributes_new_directories_hide_by_whiteouts(in_userns: InUserns, workplace: Path) -> None:
    """As on tmpfs before Linux 6.6, where a directory cannot be marked opaque."""

    def body() -> None:
        (workplace / "low" / "d" / "sub").mkdir(parents=True)
        (workplace / "low" / "d" / "f").touch()
        (workplace / "low" / "e").mkdir()
        patch = """
import errno
from fuse_overlay import ops_dir, ops_link, __main__
def refuse(fd): raise OSError(errno.EOPNOTSUPP, "planted")
ops_dir.set_opaque = ops_link.set_opaque = refuse
"""
        top = workplace / "m"
        for round in range(2):
            with patched_server(workplace, patch):
                if round == 0:
                    shutil.rmtree(top / "d")
                    (top / "d").mkdir()
                    (top / "d" / "f").write_text("new")
                    (top / "d" / "f").unlink()
                    (top / "d" / "new").touch()
                    (top / "moving").mkdir()
                    with pytest.raises(OSError) as caught:
                        (top / "moving").rename(top / "e")
                    assert caught.value.errno == errno.EXDEV
                assert os.listdir(top / "d") == ["new"]
                assert sorted(os.listdir(top)) == ["d", "e", "moving"]

    in_userns(body, ids="subid")


def test_a_single_id_is_enough(in_userns: InUserns, workplace: Path) -> None:
    """Without subordinate ids: everything belongs to the user."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "d").mkdir()
        (low / "d" / "f").write_text("x")
        with place.fuse() as m:
            (m.path / "d" / "f").write_text("y")
            (m.path / "d" / "g").touch()
            os.chown(m.path / "d" / "g", 0, 0)
            with pytest.raises(OSError) as caught:
                os.chown(m.path / "d" / "g", 33, 33)
            assert caught.value.errno == errno.EINVAL
            (m.path / "d" / "f").unlink()
        with place.fuse() as m:
            assert os.listdir(m.path / "d") == ["g"]

    in_userns(body)


def test_the_stand_ins_are_taken_out_again() -> None:
    """pyfuse3 is imported without its event loop; who imports logging or trio afterwards gets the real ones."""
    script = """
import sys
sys.path[:0] = sys.argv[1:]
from fuse_overlay import binding
pyfuse3 = binding.load()
assert hasattr(pyfuse3, "init") and hasattr(pyfuse3, "readdir_reply")
left = {"trio", "logging", "typing", "threading", "queue", "pickle", "functools"} & set(sys.modules)
assert not left, left
import logging, functools
assert logging.getLogger("x").name == "x" and functools.reduce
"""
    words = [launcher.command("rootless-fuse-overlay")[0], "-ISc", script, launcher.ROOT, *sys.path]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
