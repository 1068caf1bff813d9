"""What an overlay has to do beside the overlay's own rules: set-id bits, odd names, many layers, read-only mounts."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tests.fuse.test_overlay import InUserns, as_user, error_of, let_others_in
from tests.fuse.trees import Place, describe, make_whiteout

pytestmark = pytest.mark.requires("subuid", "fuse")


def test_set_id_bits_go_with_a_write(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        (place.layer() / "f").write_text("program")
        os.chmod(place.base / "store" / "l" / "L0" / "f", 0o6755)
        with place.fuse() as m:
            with (m.path / "f").open("r+") as file:
                assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o6755
                file.write("x")
                file.flush()
                assert stat.S_IMODE(os.fstat(file.fileno()).st_mode) == 0o755
            os.chmod(m.path / "f", 0o6755)
            os.chown(m.path / "f", 1, 1)
            assert stat.S_IMODE(os.lstat(m.path / "f").st_mode) == 0o755

    in_userns(body, ids="subid")


def test_a_set_group_id_directory_gives_its_group(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        place.layer()
        workplace.chmod(0o755)
        with place.fuse() as m:
            (m.path / "d").mkdir()
            os.chown(m.path / "d", 1000, 77)
            os.chmod(m.path / "d", 0o2777)
            script = 'umask 022; cd "$1"/d && mkdir sub && echo x >file && mkfifo fifo'
            assert as_user(1000, script, m.path) == 0
            for name, mode in (("sub", 0o2755), ("file", 0o644), ("fifo", 0o644)):
                st = os.lstat(m.path / "d" / name)
                assert (st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)) == (1000, 77, mode), name

    let_others_in(workplace)
    in_userns(body, ids="subid")


def test_names_are_bytes(in_userns: InUserns, workplace: Path) -> None:
    """Any byte but / and 0, up to 255 of them, in layers and in paths of layers."""

    def body() -> None:
        place = Place(workplace / "a, b:c\\d\\,e \udcff")
        odd = [
            b"plain",
            b"a,b",
            b"a:b",
            b" blank ",
            b"back\\slash",
            b"\xff\xfe",
            "ümlaut".encode(),
            b"x" * 255,
            b".wh.x",
            b"\n",
        ]
        low = place.layer("L,0:x y\\")
        for name in odd:
            Path(os.fsdecode(os.fsencode(low) + b"/" + name)).write_bytes(name)
        with place.fuse() as m:
            top = os.fsencode(m.path)
            assert sorted(os.listdir(top)) == sorted(odd)
            for name in odd:
                assert Path(os.fsdecode(top + b"/" + name)).read_bytes() == name
                os.rename(top + b"/" + name, top + b"/tmp")
                os.rename(top + b"/tmp", top + b"/" + name)
            assert error_of(lambda: os.lstat(top + b"/" + b"y" * 256)) == "ENAMETOOLONG"
        assert sorted(os.listdir(os.fsencode(place.upper()))) == sorted(odd)

    in_userns(body, ids="subid")


def test_a_hundred_layers(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace / ("long name, with: all" * 8))
        for number in range(100):
            layer = place.layer()
            (layer / "d").mkdir()
            (layer / "d" / f"f{number}").write_text(str(number))
            (layer / "same").write_text(str(number))
            if number % 10 == 5:
                make_whiteout(layer / "d" / f"f{number - 1}", "device")
        with place.fuse() as m:
            expected = {f"f{n}" for n in range(100) if n % 10 != 4}
            assert set(os.listdir(m.path / "d")) == expected
            assert (m.path / "same").read_text() == "99"
            assert (m.path / "d" / "f0").read_text() == "0"
            for name in expected:
                (m.path / "d" / name).unlink()
            (m.path / "d").rmdir()
            assert os.listdir(m.path) == ["same"]

    in_userns(body, ids="subid")


def test_a_read_only_mount_refuses_changes(in_userns: InUserns, workplace: Path) -> None:
    def body() -> None:
        place = Place(workplace)
        (place.layer() / "f").write_text("x")
        with place.fuse(readonly=True) as m:
            assert (m.path / "f").read_text() == "x"
            for change in (
                lambda: (m.path / "f").write_text("y"),
                lambda: (m.path / "n").touch(),
                lambda: (m.path / "f").unlink(),
                lambda: os.setxattr(m.path / "f", "user.x", b""),
                lambda: os.truncate(m.path / "f", 0),
            ):
                assert error_of(change) == "EROFS"
        assert not place.upper().exists()

    in_userns(body, ids="subid")


def test_directories_can_be_read_while_they_change(in_userns: InUserns, workplace: Path) -> None:
    """What is there all the time is listed once, whatever comes and goes."""

    def body() -> None:
        place = Place(workplace)
        low = place.layer()
        for number in range(500):
            (low / f"low{number}").touch()
        with place.fuse() as m:
            for number in range(500):
                (m.path / f"up{number}").touch()
            seen = []
            with os.scandir(m.path) as entries:
                for at, entry in enumerate(entries):
                    seen.append(entry.name)
                    if at % 5 == 0:
                        (m.path / f"new{at}").touch()
                        if entry.name.startswith("low"):
                            (m.path / entry.name).unlink()
            stable = [name for name in seen if not name.startswith("new")]
            assert len(stable) == len(set(stable)) == 1000

    in_userns(body, ids="subid")


def test_describe_sees_a_difference(tmp_path: Path) -> None:
    """The helper that the comparisons stand on."""
    (tmp_path / "f").write_text("x")
    before = describe(str(tmp_path / "f"))
    os.chmod(tmp_path / "f", 0o600)
    assert describe(str(tmp_path / "f")) != before or before[0] == "0o100600"
