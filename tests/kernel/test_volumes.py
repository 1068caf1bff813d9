"""Volumes and bind sources of a container: made, filled from the image, owned, deleted; nothing outside is touched."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import KernelError, RootlessError
from rootless.kernel.paths import open_root, settle_in_root
from rootless.mount import hostparts, volumes
from rootless.plan.containermounts import BindUse, VolumeUse
from rootless.plan.options import DeviceRequest
from rootless.store import gc, layout
from rootless.store import volumes as store
from rootless.store.layout import Roots

InUserns = Callable[..., Any]
pytestmark = pytest.mark.requires("userns", "subuid")


@pytest.fixture
def roots(workplace: Path) -> Roots:
    found = Roots(data=str(workplace / "data"), run=str(workplace / "run"), tmp=str(workplace))
    layout.prepare_data(found)
    return found


@pytest.fixture
def image(workplace: Path) -> Path:
    """Give a root file system with content and with links that lead out of it."""
    root = workplace / "image"
    (root / "data" / "sub").mkdir(parents=True)
    (root / "data" / "file").write_text("hello")
    os.link(root / "data" / "file", root / "data" / "other")
    (root / "data" / "link").symlink_to("file")
    (root / "data" / "sub").chmod(0o2750)
    os.mkfifo(root / "data" / "fifo")
    os.setxattr(root / "data" / "file", "user.mark", b"x")
    os.utime(root / "data" / "file", ns=(1, 2_000_000_001))
    (root / "escape").symlink_to("../../../../../../../secret")
    (root / "way").symlink_to("/data")
    return root


def use(roots: Roots, name: str, target: str, **more: Any) -> VolumeUse:
    return VolumeUse(name, f"{store.volumes_dir(roots)}/{name}/_data", target, **more)


def prepare(roots: Roots, image: Path, *uses: VolumeUse, binds: tuple[BindUse, ...] = ()) -> tuple[str, ...]:
    with open_root(str(image)) as root:
        return volumes.prepare(roots, uses, binds, root, (1000, 1001), "c1")


def test_a_fresh_volume_gets_the_content_of_the_image(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> list[Any]:
        os.chown(image / "data", 7, 8)
        os.chown(image / "data" / "file", 9, 10)
        (image / "data").chmod(0o1755)
        assert prepare(roots, image, use(roots, "v", "/data")) == ()
        place = Path(use(roots, "v", "").path)
        top, file = place.stat(), (place / "file").stat()
        return [
            sorted(os.listdir(place)),
            (top.st_uid, top.st_gid, stat.S_IMODE(top.st_mode)),
            (file.st_uid, file.st_gid, file.st_mtime_ns, file.st_ino == (place / "other").stat().st_ino),
            os.getxattr(place / "file", "user.mark"),
            os.readlink(place / "link"),
            oct((place / "sub").stat().st_mode),
            stat.S_ISFIFO((place / "fifo").stat().st_mode),
            store.read_volume(roots, "v")["fresh"],
        ]

    assert in_userns(body, ids="subid") == [
        ["fifo", "file", "link", "other", "sub"],
        (7, 8, 0o1755),
        (9, 10, 2_000_000_001, True),
        b"x",
        "file",
        oct(stat.S_IFDIR | 0o2750),
        True,
        False,
    ]


def test_a_volume_is_filled_once(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> list[str]:
        prepare(roots, image, use(roots, "v", "/data"))
        place = Path(use(roots, "v", "").path)
        for name in ("fifo", "link", "other"):
            (place / name).unlink()
        (place / "file").write_text("mine")
        prepare(roots, image, use(roots, "v", "/data"))
        return [*sorted(os.listdir(place)), (place / "file").read_text()]

    assert in_userns(body, ids="subid") == ["file", "sub", "mine"]


def test_a_fill_that_did_not_end_begins_again(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> list[str]:
        assert store.make_volume(roots, "v")
        store.write_volume(roots, "v", {**store.read_volume(roots, "v"), "filling": True})
        place = Path(use(roots, "v", "").path)
        (place / "half").write_text("left by a crash")
        prepare(roots, image, use(roots, "v", "/data"))
        return sorted(os.listdir(place))

    assert in_userns(body, ids="subid") == ["fifo", "file", "link", "other", "sub"]


def test_what_somebody_put_into_a_volume_stays(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> list[Any]:
        assert store.make_volume(roots, "v")
        place = Path(use(roots, "v", "").path)
        (place / "mine").write_text("")
        prepare(roots, image, use(roots, "v", "/data"))
        return [os.listdir(place), store.read_volume(roots, "v")["fresh"]]

    assert in_userns(body, ids="subid") == [["mine"], False]


@pytest.mark.parametrize("target", ["/nothing", "/data/file", "/escape"])
def test_without_a_directory_in_the_image_the_user_owns_the_volume(
    target: str, roots: Roots, image: Path, in_userns: InUserns
) -> None:
    def body() -> tuple[list[str], int, int]:
        prepare(roots, image, use(roots, "v", target))
        place = use(roots, "v", "").path
        return os.listdir(place), os.stat(place).st_uid, os.stat(place).st_gid

    assert in_userns(body, ids="subid") == ([], 1000, 1001)


def test_links_of_the_image_never_lead_out_of_it(roots: Roots, image: Path, in_userns: InUserns) -> None:
    outside = image.parent / "secret"
    outside.mkdir()
    (outside / "key").write_text("private")
    (image / "relative").symlink_to("../secret")
    (image / "absolute").symlink_to(outside)

    def body() -> list[list[str]]:
        names = ("relative", "absolute", "way")
        prepare(roots, image, *(use(roots, name, f"/{name}") for name in names))
        return [sorted(os.listdir(use(roots, name, "").path)) for name in names]

    assert in_userns(body, ids="subid") == [[], [], ["fifo", "file", "link", "other", "sub"]]


def test_nocopy_takes_owner_and_mode_only(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> tuple[list[str], int]:
        os.chown(image / "data", 7, 8)
        prepare(roots, image, use(roots, "v", "/data", copy_up=False))
        place = use(roots, "v", "").path
        return os.listdir(place), os.stat(place).st_uid

    assert in_userns(body, ids="subid") == ([], 7)


def test_chown_reaches_everything_and_follows_no_link(roots: Roots, image: Path, in_userns: InUserns) -> None:
    outside = image.parent / "outside"
    outside.write_text("")
    tree = image.parent / "tree"
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "a" / "out").symlink_to(outside)
    (tree / "setuid").write_text("")
    (tree / "setuid").chmod(0o4755)

    def body() -> list[Any]:
        bind = BindUse(str(tree), "/x", chown=True)
        prepare(roots, image, use(roots, "v", "/data", chown=True), binds=(bind,))
        found = [tree, tree / "a" / "b", tree / "a" / "out", tree / "setuid", Path(use(roots, "v", "").path) / "sub"]
        owners = {(os.lstat(path).st_uid, os.lstat(path).st_gid) for path in found}
        return [owners, os.stat(outside).st_uid, oct((tree / "setuid").stat().st_mode)]

    assert in_userns(body, ids="subid") == [{(1000, 1001)}, 0, oct(stat.S_IFREG | 0o4755)]


def test_chown_to_an_id_that_is_not_mapped(image: Path, in_userns: InUserns) -> None:
    def body() -> None:
        with pytest.raises(RootlessError, match=r"change the owner of .* to 1000:1000: invalid argument") as caught:
            volumes.chown_tree(str(image), (1000, 1000))
        assert caught.value.code == 126

    in_userns(body, ids="single")


def test_a_failure_takes_anonymous_volumes_away(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> tuple[str, ...]:
        bad = BindUse(str(image / "none"), "/x", chown=True)
        with pytest.raises(RootlessError):
            prepare(
                roots, image, use(roots, "keep", "/data"), use(roots, "anon", "/data", anonymous=True), binds=(bad,)
            )
        return store.list_volumes(roots)

    assert in_userns(body, ids="subid") == ("keep",)


def test_anonymous_volumes_are_found_and_deleted(roots: Roots, image: Path, in_userns: InUserns) -> None:
    def body() -> list[Any]:
        made = prepare(roots, image, use(roots, "anon", "/data", anonymous=True), use(roots, "named", "/data"))
        found = store.anonymous_of(roots, "c1"), store.anonymous_of(roots, "c2")
        volumes.remove_all(roots, made)
        return [made, found, store.list_volumes(roots), store.remove_volume(roots, "anon"), gc.sweep_leftovers(roots)]

    assert in_userns(body, ids="subid") == [("anon",), (("anon",), ()), ("named",), False, 0]


def test_making_a_volume_twice(roots: Roots) -> None:
    assert store.make_volume(roots, "v", labels=(("a", "b"),))
    assert not store.make_volume(roots, "v")
    assert store.read_volume(roots, "v")["labels"] == {"a": "b"}
    assert os.listdir(f"{roots.data}/{layout.STAGING}") == []


def test_sources_of_binds_must_exist(image: Path) -> None:
    volumes.check_binds((BindUse(str(image), "/x"),))
    with pytest.raises(RootlessError, match=r"^statfs /no/such: no such file or directory$") as caught:
        volumes.check_binds((BindUse("/no/such", "/x"),))
    assert caught.value.code == 125
    with pytest.raises(RootlessError, match='chowning host path "/tmp" is not allowed') as caught:
        volumes.check_binds((BindUse("/tmp", "/x", chown=True),))
    assert caught.value.code == 126


@pytest.mark.parametrize(
    ("path", "settled"),
    [
        ("/data/file", "/data/file"),
        ("/new/place", "/new/place"),
        ("/way/new", "/data/new"),
        ("/escape", "/secret"),
        ("/escape/below", "/secret/below"),
        ("/../../x", "/x"),
        ("/data/sub/../../y", "/y"),
        ("relative//./z", "/relative/z"),
    ],
)
def test_where_a_target_will_be_made(path: str, settled: str, image: Path) -> None:
    with open_root(str(image)) as root:
        assert settle_in_root(root, path.encode()) == settled.encode()


def test_links_in_a_circle(image: Path) -> None:
    (image / "a").symlink_to("b")
    (image / "b").symlink_to("a")
    with open_root(str(image)) as root, pytest.raises(KernelError, match="too many levels of symbolic links"):
        settle_in_root(root, b"/a/x")


def test_devices(tmp_path: Path) -> None:
    null = DeviceRequest("/dev/null", "/dev/x", "r")
    assert hostparts.expand_devices((null,)) == (null,)
    assert "/dev/null" in hostparts.device_nodes(usable=True)
    expanded = hostparts.expand_devices((DeviceRequest("/dev", "/devices"),))
    assert DeviceRequest("/dev/null", "/devices/null") in expanded
    for source, message in (
        ("/no/such", "stat /no/such: no such file or directory"),
        (str(tmp_path), f"no devices found in {tmp_path}: invalid argument"),
        ("/etc/passwd", "/etc/passwd is not a valid device: not a device node"),
    ):
        with pytest.raises(RootlessError) as caught:
            hostparts.expand_devices((DeviceRequest(source, source),))
        assert caught.value.message == message


def test_time_zones() -> None:
    assert hostparts.read_zone("") is None
    with pytest.raises(RootlessError, match="stat /usr/share/zoneinfo/No/Where: no such file or directory"):
        hostparts.read_zone("No/Where")
    with pytest.raises(RootlessError, match="is not a time zone"):
        hostparts.read_zone("../../etc/passwd")
