"""What an overlay has to do, sentence by sentence: whiteouts, copy-up, rename, links, attributes."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.fuse.trees import Place, make_whiteout, raw, rename, snapshot, xattrs

pytestmark = pytest.mark.requires("subuid", "fuse")
InUserns = Callable[..., Any]
DAY_NS = 86_400 * 10**9


def error_of(do: Callable[[], object]) -> str | None:
    """Return the name of the error that *do* raises."""
    try:
        do()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def as_user(number: int, script: str, *args: Path) -> int:
    """Run a shell script as another user without groups; return its status."""
    words = ["/bin/sh", "-c", script, "sh", *map(str, args)]
    return subprocess.run(words, user=number, group=number, extra_groups=[], check=False).returncode


def let_others_in(place: Path) -> None:
    """Make the way to *place* passable for other users."""
    for path in [place, *place.parents]:
        mode = os.stat(path).st_mode
        if not mode & stat.S_IXOTH:
            os.chmod(path, stat.S_IMODE(mode) | stat.S_IXOTH)


# ---- whiteouts and opaque directories


@pytest.mark.parametrize("form", ["device", "xattr"])
@pytest.mark.parametrize("hidden", ["file", "directory", "link"])
def test_a_whiteout_hides(in_userns: InUserns, workplace: Path, form: str, hidden: str) -> None:
    """In both forms, whatever the lower layer has there; something new may take the place."""

    def body() -> None:
        place = Place(workplace)
        low, mid = place.layer() / "d", place.layer() / "d"
        low.mkdir()
        mid.mkdir()
        (low / "other").write_text("seen")
        if hidden == "file":
            (low / "x").write_text("hidden")
        elif hidden == "directory":
            (low / "x" / "sub").mkdir(parents=True)
        else:
            os.symlink("other", low / "x")
        make_whiteout(mid / "x", form)
        place.layer()
        with place.fuse() as m:
            top = m.path / "d"
            assert os.listdir(top) == ["other"]
            assert error_of(lambda: os.lstat(top / "x")) == "ENOENT"
            (top / "x").mkdir()
            assert os.listdir(top / "x") == []
            (top / "x" / "new").write_text("new")
        with place.fuse() as m:
            assert sorted(os.listdir(m.path / "d")) == ["other", "x"]
            assert os.listdir(m.path / "d" / "x") == ["new"]

    in_userns(body, ids="subid")


@pytest.mark.parametrize("name", ["user.overlay.opaque", "user.fuseoverlayfs.opaque"])
def test_an_opaque_directory_hides_what_is_below(in_userns: InUserns, workplace: Path, name: str) -> None:
    def body() -> None:
        place = Place(workplace)
        for number in range(3):
            directory = place.layer() / "d"
            directory.mkdir()
            (directory / f"f{number}").touch()
            if number == 1:
                os.setxattr(directory, name, b"y")
        with place.fuse() as m:
            assert sorted(os.listdir(m.path / "d")) == ["f1", "f2"]
            assert name not in xattrs(str(m.path / "d"))

    in_userns(body, ids="subid")


def test_a_file_between_two_directories_keeps_them_apart(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        low, middle, top = place.layer(), place.layer(), place.layer()
        (low / "d").mkdir()
        (low / "d" / "low").touch()
        (middle / "d").touch()
        (top / "d").mkdir()
        (top / "d" / "top").touch()
        with place.fuse() as m:
            assert os.listdir(m.path / "d") == ["top"]

    in_userns(body, ids="subid")


def test_removed_names_stay_removed(in_userns: InUserns, workplace: Path) -> None:
    """After a new mount, and for the kernel's overlay: a whiteout stands in the upper layer."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "d" / "e").mkdir(parents=True)
        (low / "d" / "e" / "f").write_text("x")
        (low / "g").write_text("x")
        with place.fuse() as m:
            (m.path / "g").unlink()
            (m.path / "d" / "e" / "f").unlink()
            (m.path / "d" / "e").rmdir()
            (m.path / "d").rmdir()
            assert os.listdir(m.path) == []
        with place.fuse() as m:
            assert os.listdir(m.path) == []
            (m.path / "d").mkdir()
            (m.path / "g").symlink_to("d")
        with place.fuse() as m:
            assert snapshot(m.path)["d"][3] == []
        assert sorted(os.listdir(place.upper())) == ["d", "g"]
        assert os.getxattr(place.upper() / "d", "user.overlay.opaque") == b"y"

    in_userns(body, ids="subid")


def test_a_whiteout_cannot_be_made_by_hand(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        place.layer()
        with place.fuse() as m:
            assert error_of(lambda: os.mknod(m.path / "x", stat.S_IFCHR, 0)) == "EPERM"

    in_userns(body, ids="subid")


# ---- copy-up


@pytest.mark.parametrize("change", ["append", "chmod", "rename", "link", "xattr", "touch", "truncate"])
def test_copy_up_keeps_everything_else(in_userns: InUserns, workplace: Path, change: str) -> None:
    def body() -> None:
        place = Place(workplace)
        low = place.layer() / "a" / "b"
        low.mkdir(parents=True)
        os.chmod(low.parent, 0o751)
        os.chown(low, 12, 34)
        os.setxattr(low, "user.dir", b"kept")
        old = time.time_ns() // DAY_NS * DAY_NS - 1000 * DAY_NS + 123_456_789
        file = low / "f"
        with file.open("wb") as out:
            out.write(b"head")
            out.seek(5_000_000)
            out.write(b"tail")
        os.chown(file, 1000, 2000)
        os.chmod(file, 0o6751)
        os.setxattr(file, "user.x", b"value")
        for path in (file, low, low.parent):
            os.utime(path, ns=(old, old))
        before_dirs = [(p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in (low, low.parent)]
        layer = raw(place.base / "store" / "l" / "L0")
        with place.fuse() as m:
            path = m.path / "a" / "b" / "f"
            ino = path.stat().st_ino
            if change == "append":
                with path.open("ab") as out:
                    out.write(b"!")
            elif change == "chmod":
                path.chmod(0o6755)
            elif change == "rename":
                path = path.rename(path.with_name("g"))
            elif change == "link":
                os.link(path, path.with_name("g"))
            elif change == "xattr":
                os.setxattr(path, "user.y", b"")
            elif change == "touch":
                os.utime(path, ns=(old, old + 1))
            else:
                os.truncate(path, 2)
            st = path.stat()
            assert st.st_ino == ino
            assert (st.st_uid, st.st_gid) == (1000, 2000)
            if change in ("rename", "link", "xattr", "touch"):
                assert stat.S_IMODE(st.st_mode) == 0o6751
                assert st.st_size == 5_000_004
                assert st.st_blocks < 2000, "holes stay holes"
                assert path.read_bytes().strip(b"\0") == b"head" + bytes(4_999_996) + b"tail"
            if change in ("chmod", "rename", "link", "xattr"):
                assert st.st_mtime_ns == old
            assert os.getxattr(path, "user.x") == b"value"
            directories = [m.path / "a" / "b", m.path / "a"]
            assert [(p.stat().st_mode, p.stat().st_uid, p.stat().st_gid) for p in directories] == before_dirs
            assert directories[1].stat().st_mtime_ns == old
            if change in ("append", "chmod", "xattr", "touch", "truncate"):
                assert directories[0].stat().st_mtime_ns == old, "nothing visible happened to the directory"
            assert os.getxattr(directories[0], "user.dir") == b"kept"
        assert raw(place.base / "store" / "l" / "L0") == layer
        assert os.listdir(place.scratch("fuse") / "work" / "work") == []

    in_userns(body, ids="subid")


def test_a_reader_sees_what_is_written_after_copy_up(in_userns: InUserns, workplace: Path) -> None:
    """One file, whichever descriptor: also where the kernel has nothing cached."""

    def body() -> None:
        place = Place(workplace)
        (place.layer() / "f").write_bytes(b"a" * 300_000)
        with place.fuse() as m, (m.path / "f").open("rb", buffering=0) as reader:
            assert reader.read(10) == b"a" * 10
            with (m.path / "f").open("r+b") as writer:
                writer.seek(200_000)
                writer.write(b"b")
            os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert os.pread(reader.fileno(), 3, 199_999) == b"aba"

    in_userns(body, ids="subid")


def test_a_removed_file_lives_as_long_as_it_is_open(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        (place.layer() / "low").write_text("lower text")
        with place.fuse() as m:
            (m.path / "up").write_text("upper text")
            for name in ("low", "up"):
                with (m.path / name).open("r+") as file:
                    (m.path / name).unlink()
                    assert os.fstat(file.fileno()).st_nlink == 0
                    os.fchmod(file.fileno(), 0o600)
                    os.fchown(file.fileno(), 5, 6)
                    os.pwrite(file.fileno(), b"X", 0)
                    os.ftruncate(file.fileno(), 5)
                    assert (
                        os.pread(file.fileno(), 99, 0)
                        == ("X" + name[0:0] + ("ower" if name == "low" else "pper")).encode()
                    )
                    st = os.fstat(file.fileno())
                    assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode), st.st_size) == (5, 6, 0o600, 5)
                    with open(f"/proc/self/fd/{file.fileno()}") as again:
                        assert len(again.read()) == 5
                assert error_of(lambda name=name: os.lstat(m.path / name)) == "ENOENT"  # type: ignore[misc]
            with (m.path / "f").open("w+") as file:
                os.unlink(m.path / "f")
                (m.path / "f").write_text("another")
                file.write("one")
                file.flush()
                assert (m.path / "f").read_text() == "another"
        assert sorted(os.listdir(place.upper())) == ["f", "low"]

    in_userns(body, ids="subid")


# ---- rename


@pytest.mark.parametrize("source", ["upper", "lower", "copied", "dir", "lowerdir", "opaquedir"])
@pytest.mark.parametrize("target", ["none", "upper", "lower", "whiteout", "emptied", "dir", "fulldir"])
@pytest.mark.parametrize("flags", [0, 1, 2])
def test_rename_does_what_kernel_overlayfs_does(
    in_userns: InUserns, workplace: Path, source: str, target: str, flags: int, require: Callable[..., None]
) -> None:
    """The same error or the same tree, now, after a new mount, and for the kernel reading what we wrote."""
    require("overlay")

    def prepare(top: Path) -> None:
        if source == "upper":
            (top / "s").write_text("s")
        elif source == "copied":
            os.chmod(top / "s", 0o640)
        elif source == "dir":
            (top / "s").mkdir()
            (top / "s" / "f").write_text("f")
        elif source == "opaquedir":
            (top / "s" / "low").unlink()
            (top / "s").rmdir()
            (top / "s").mkdir()
            (top / "s" / "f").write_text("f")
        if target == "upper":
            (top / "d" / "t").write_text("t")
        elif target == "whiteout":
            (top / "d" / "t").unlink()
        elif target == "emptied":
            (top / "d" / "t" / "low").unlink()
        elif target == "dir":
            (top / "d" / "t").mkdir()

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "d").mkdir()
        if source in ("lower", "copied"):
            (low / "s").write_text("lower s")
        elif source in ("lowerdir", "opaquedir"):
            (low / "s").mkdir()
            (low / "s" / "low").write_text("x")
        if target in ("lower", "whiteout"):
            (low / "d" / "t").write_text("lower t")
        elif target in ("emptied", "fulldir"):
            (low / "d" / "t").mkdir()
            (low / "d" / "t" / "low").write_text("x")
        with place.kernel() as kernel, place.fuse() as m:
            results = []
            for top in (m.path, kernel):
                prepare(top)
                results.append(error_of(lambda top=top: rename(f"{top}/s", f"{top}/d/t", flags)))  # type: ignore[misc]
            assert results[0] == results[1]
            expected = snapshot(kernel, links=True)
            expected["."] = snapshot(m.path)["."]  # the modes of the two upper directories are not ours to compare
            assert snapshot(m.path, links=True) == expected
        with place.fuse() as m:
            assert snapshot(m.path, links=True) == expected
        with place.kernel(kind="check", upper_of="fuse") as check:
            assert snapshot(check, links=True) == expected

    in_userns(body, ids="subid")


# ---- hard links


def test_hard_links_of_a_layer_stay_one_file(in_userns: InUserns, workplace: Path) -> None:
    """One inode number, one link count; a change by one name is seen by the others, looked up before or after."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "sub").mkdir()
        (low / "one").write_text("old")
        for name in ("two", "sub/three", "four"):
            os.link(low / "one", low / name)
        with place.fuse() as m:
            one, two, three, four = (m.path / name for name in ("one", "two", "sub/three", "four"))
            assert one.stat().st_ino == two.stat().st_ino
            assert one.stat().st_nlink == 4
            two.write_text("new")
            assert one.read_text() == "new"
            assert three.read_text() == "new"
            assert {path.stat().st_ino for path in (one, two, three)} == {one.stat().st_ino}
            assert one.stat().st_nlink == 4
            one.unlink()
            assert two.stat().st_nlink == 3
            two.unlink()
            three.unlink()
            assert four.read_text() == "new"
            assert four.stat().st_nlink == 1
            os.link(four, one)
            assert four.stat().st_nlink == 2
            four.unlink()
            assert one.stat().st_nlink == 1
        with place.fuse() as m:
            assert (m.path / "one").read_text() == "new"
            assert sorted(os.listdir(m.path)) == ["one", "sub"]
            assert os.listdir(m.path / "sub") == []

    in_userns(body, ids="subid")


def test_a_lower_link_that_was_removed_counts_no_more(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "one").write_text("x")
        os.link(low / "one", low / "two")
        with place.fuse() as m:
            assert (m.path / "one").stat().st_nlink == 2
            (m.path / "two").unlink()
            assert (m.path / "one").stat().st_nlink == 1
            (m.path / "one").chmod(0o600)
            assert (m.path / "one").stat().st_nlink == 1

    in_userns(body, ids="subid")


def test_inode_numbers_are_stable_and_unique(in_userns: InUserns, workplace: Path) -> None:
    """The number of a file on disk is shown, from mount to mount; layers of other devices do not collide."""

    def body() -> None:
        from rootless.kernel import mounts

        place = Place(workplace)
        low, other = place.layer(), place.layer()
        mounts.mount("none", str(other), "tmpfs")
        for number in range(40):
            (low / f"a{number}").touch()
            (other / f"b{number}").touch()
        seen: list[dict[str, int]] = []
        for _ in range(2):
            with place.fuse() as m:
                found = {name: os.lstat(m.path / name).st_ino for name in os.listdir(m.path)}
                assert len(set(found.values())) == 80
                (m.path / "a1").chmod(0o600)
                assert os.lstat(m.path / "a1").st_ino == found.pop("a1")
                with os.scandir(m.path) as entries:
                    assert {e.name: e.inode() for e in entries if e.name != "a1"} == found
                seen.append(found)
        assert seen[0] == seen[1]
        mounts.umount2(str(other))

    in_userns(body, ids="subid")


# ---- extended attributes


def test_attributes_of_the_overlay_are_its_own(in_userns: InUserns, workplace: Path) -> None:
    """They are not shown; those that a program sets by such names are kept under others and shown again."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "f").touch()
        for name in ("user.overlay.origin", "user.fuseoverlayfs.x", "user.containers.override_stat", "user.mine"):
            os.setxattr(low / "f", name, b"1")
        with place.fuse() as m:
            path = str(m.path / "f")
            assert xattrs(path) == {"user.mine": b"1"}
            assert error_of(lambda: os.getxattr(path, "user.overlay.origin")) == "ENODATA"
            assert error_of(lambda: os.setxattr(path, "user.containers.override_stat", b"0:0:0")) == "EPERM"
            os.setxattr(path, "user.overlay.opaque", b"y")
            os.mkdir(m.path / "d")
            os.setxattr(m.path / "d", "user.overlay.opaque", b"y")
            assert xattrs(path) == {"user.mine": b"1", "user.overlay.opaque": b"y"}
            os.removexattr(path, "user.mine")
            assert xattrs(path) == {"user.overlay.opaque": b"y"}
            assert error_of(lambda: os.removexattr(path, "user.mine")) == "ENODATA"
            assert error_of(lambda: os.setxattr(path, "user.n", b"", os.XATTR_REPLACE)) == "ENODATA"
            assert error_of(lambda: os.setxattr(path, "user.overlay.opaque", b"", os.XATTR_CREATE)) == "EEXIST"
        assert xattrs(str(place.upper() / "d")) == {"user.overlay.overlay.opaque": b"y"}

    in_userns(body, ids="subid")


def test_acls_are_kept_and_count(in_userns: InUserns, workplace: Path) -> None:
    """A named user may read; a default ACL is inherited by new files."""

    def acl(*entries: tuple[int, int, int]) -> bytes:
        packed = b"".join(
            tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + (who & 0xFFFFFFFF).to_bytes(4, "little")
            for tag, perm, who in entries
        )
        return (2).to_bytes(4, "little") + packed

    rule = acl((1, 7, -1), (2, 4, 1000), (4, 0, -1), (16, 7, -1), (32, 0, -1))

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        (low / "d").mkdir(0o700)
        with place.fuse() as m:
            os.setxattr(m.path / "d", "system.posix_acl_default", rule)
            (m.path / "d" / "f").write_text("x")
            assert os.getxattr(m.path / "d" / "f", "system.posix_acl_access")[:4] == rule[:4]
            os.setxattr(m.path / "d" / "f", "system.posix_acl_access", rule)
            os.chmod(m.path / "d", 0o711)
            workplace.chmod(0o755)
            assert as_user(1000, 'test -r "$1"/d/f && ! test -w "$1"/d/f', m.path) == 0

    let_others_in(workplace)
    in_userns(body, ids="subid")
