"""Mounts that are made before the launch: overlays where the disk cannot hold an upper, secrets, mapped owners."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import NotSupported, RootlessError
from rootless.kernel import mounts
from rootless.kernel.paths import read_in_root
from rootless.kernel.undo import Undo
from rootless.mount.secretfiles import open_secrets
from rootless.mount.specials import Around, open_specials, outer_ids
from rootless.plan.containermounts import SpecialUse
from rootless.plan.secrets import SecretFile
from rootless.spec.idmap import parse_map
from rootless.store import layout
from rootless.store.layout import Roots

InUserns = Callable[..., Any]
pytestmark = pytest.mark.requires("userns", "subuid")


@pytest.fixture
def around(workplace: Path) -> Around:
    roots = Roots(data=str(workplace / "data"), run=str(workplace / "run"), tmp=str(workplace))
    layout.prepare_data(roots)
    for name in ("run/c/root", "scratch", "source", "target"):
        (workplace / name).mkdir(parents=True)
    (workplace / "source" / "file").write_text("below")
    return Around(roots, str(workplace / "scratch"), str(workplace / "run" / "c"), "auto", (5, 6))


def overlay(workplace: Path, **more: Any) -> SpecialUse:
    return SpecialUse("overlay", str(workplace / "source"), "/x", **more)


def attached(use: SpecialUse, around: Around, workplace: Path) -> Path:
    """Attach what *use* gives at a place where it can be looked into."""
    ((_, fd),) = open_specials((use,), {}, around, Undo())
    mounts.move_mount(fd, None, str(workplace / "target"))
    return workplace / "target"


@pytest.mark.parametrize("disk", [pytest.param("here", marks=pytest.mark.requires("overlay")), "overlay"])
def test_an_overlay_leaves_its_source_alone(disk: str, around: Around, workplace: Path, in_userns: InUserns) -> None:
    def body() -> list[Any]:
        if disk == "overlay":
            for name in ("lower", "upper", "work"):
                (workplace / name).mkdir()
            text = f"lowerdir={workplace}/lower,upperdir={workplace}/upper,workdir={workplace}/work,userxattr"
            mounts.mount("overlay", around.scratch, "overlay", 0, text.encode())
        try:
            target = attached(overlay(workplace, chown=True), around, workplace)
        except RootlessError as error:
            pytest.skip(f"{error} (tmpfs has no user attributes before 6.6)")
        (target / "file").write_text("above")
        (target / "new").write_text("")
        source = (workplace / "source" / "file").read_text()
        return [sorted(os.listdir(target)), (target / "file").stat().st_uid, source,
                os.listdir(workplace / "source"), os.listdir(around.place)]  # fmt: skip

    assert in_userns(body, ids="subid") == [["file", "new"], 5, "below", ["file"], []]


def test_places_of_the_users_stay(around: Around, workplace: Path, in_userns: InUserns) -> None:
    def body() -> list[str]:
        for name in ("up,per", "wo:rk"):
            (workplace / name).mkdir()
        use = overlay(workplace, upper=str(workplace / "up,per"), work=str(workplace / "wo:rk"))
        (attached(use, around, workplace) / "new").write_text("")
        return os.listdir(workplace / "up,per")

    assert in_userns(body, ids="subid") == ["new"]


def test_a_file_cannot_be_overlaid(around: Around, workplace: Path, in_userns: InUserns) -> None:
    def body() -> None:
        use = SpecialUse("overlay", str(workplace / "source" / "file"), "/x")
        with pytest.raises(RootlessError, match="not a directory") as caught:
            open_specials((use,), {}, around, Undo())
        assert caught.value.code == 126

    in_userns(body, ids="subid")


def test_secrets_are_on_a_file_system_of_their_own(around: Around, workplace: Path, in_userns: InUserns) -> None:
    files = (
        SecretFile("/run/secrets/one", b"1", 5, 6, 0o400),
        SecretFile("/run/secrets/a/../b/two", b"2", 0, 0, 0o444),
        SecretFile("/elsewhere", b"3", 0, 0, 0o440),
    )
    uids = parse_map("0 10 5\n5 20 10\n")

    def body() -> list[Any]:
        opened = dict(open_secrets(files, around.place, outer_ids(uids, uids)))
        mounts.move_mount(opened["/run/secrets"], None, str(workplace / "target"))
        target = workplace / "target"
        info = (target / "one").stat()
        whole = os.fstat(opened["/elsewhere"].fileno())
        return [
            (info.st_uid, info.st_gid, oct(stat.S_IMODE(info.st_mode))), (target / "a" / "b" / "two").read_text(),
            (target.stat().st_uid, oct(stat.S_IMODE(whole.st_mode)), stat.S_ISREG(whole.st_mode)), sorted(opened),
            os.listdir(around.place),
        ]  # fmt: skip

    assert in_userns(body, ids="subid") == [
        (20, 21, "0o400"), "2", (10, "0o440", True), ["/elsewhere", "/run/secrets"], [],
    ]  # fmt: skip


def test_owners_are_mapped_for_who_mounted_the_file_system(
    around: Around, workplace: Path, in_userns: InUserns
) -> None:
    """A directory of the host cannot be mapped, a tmpfs of ours can (from 6.12)."""

    def body() -> list[int]:
        with pytest.raises(NotSupported, match="option idmap of /x: operation not permitted"):
            open_specials((SpecialUse("idmap", str(workplace / "source"), "/x", idmap="uids=0-5-10;gids=0-5-10"),),
                          {}, around, Undo())  # fmt: skip
        with mounts.fsopen("tmpfs") as fs:
            mounts.fsconfig_create(fs)
            tree = mounts.fsmount(fs)
        use = SpecialUse("idmap", "", "/x", idmap="uids=0-5-10;gids=0-6-10")
        try:
            ((_, fd),) = open_specials((use,), {"/x": tree}, around, Undo())
        except NotSupported as error:
            pytest.skip(f"{error}")
        info = os.fstat(fd.fileno())
        assert read_in_root(fd, b"/nothing") is None
        return [info.st_uid, info.st_gid]

    assert in_userns(body, ids="subid") == [5, 6]
