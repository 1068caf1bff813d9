"""Layers on disk, as an unprivileged user makes them: owners, modes, links, whiteouts, and nothing outside."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from rootless.proto.tar import TarError
from rootless.store import merged
from tests.support.images import (
    EPOCH,
    Device,
    Directory,
    Fifo,
    File,
    Hardlink,
    Layer,
    Opaque,
    Symlink,
    Whiteout,
)
from tests.support.unpacking import Node, Tree, Unpacked, in_layers
from tests.support.userns import ChildFailed

pytestmark = pytest.mark.requires("userns", "subuid")


def top(unpacked: Unpacked) -> Tree:
    return unpacked.layer(-1)


def kinds(tree: Tree) -> dict[str, str]:
    return {path: node.kind for path, node in tree.items() if path != "."}


def xattr(node: Node, name: str) -> bytes | None:
    return dict(node.xattrs).get(name)


def raw(*members: tuple[tarfile.TarInfo, bytes]) -> Layer:
    """Return a layer of an archive that the image factory cannot make."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, content in members:
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return Layer(archive=out.getvalue(), compression="none")


# ---- what an entry becomes


def test_owners_modes_and_times_are_the_archives_whatever_the_umask(tmp_path: Path) -> None:
    layer = Layer(
        (
            Directory(".", mode=0o711, uid=3, gid=4, mtime=EPOCH + 1.25),
            Directory("tmp", mode=0o1777, mtime=EPOCH + 2),
            Directory("locked", mode=0o500, uid=33, gid=34),
            File("locked/su", b"x" * 10, mode=0o6755, uid=7, gid=8, mtime=EPOCH + 0.5),
            File("locked/big", b"y" * (3 << 20), mode=0o4711, uid=7),
            File("empty", mode=0o640),
            Symlink("link", "/locked/su", uid=9, gid=9),
            Fifo("pipe", mode=0o622, uid=1),
        ),
    )
    tree = in_layers(tmp_path, (layer,), top)
    seen = {path: (n.kind, n.mode, n.uid, n.gid) for path, n in tree.items()}
    assert seen == {
        ".": ("d", 0o711, 3, 4),
        "tmp": ("d", 0o1777, 0, 0),
        "locked": ("d", 0o500, 33, 34),
        "locked/su": ("-", 0o6755, 7, 8),
        "locked/big": ("-", 0o4711, 7, 0),
        "empty": ("-", 0o640, 0, 0),
        "link": ("l", 0o777, 9, 9),
        "pipe": ("p", 0o622, 1, 0),
    }
    assert tree["."].mtime_ns == (EPOCH * 4 + 5) * 250_000_000
    assert tree["tmp"].mtime_ns == (EPOCH + 2) * 1_000_000_000
    assert tree["locked"].mtime_ns == tree["link"].mtime_ns == tree["pipe"].mtime_ns == EPOCH * 1_000_000_000
    assert tree["locked/su"].mtime_ns == (EPOCH * 2 + 1) * 500_000_000
    assert tree["locked/big"].content == b"y" * (3 << 20)
    assert tree["link"].content == b"/locked/su"


@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_compressions_give_the_same_layer(tmp_path: Path, compression: str) -> None:
    layer = Layer((File("f", os.urandom(300_000)),), compression=compression)

    def look(u: Unpacked) -> tuple[bytes, str]:
        return u.layer(0)["f"].content, u.results[0]["diff_id"]

    assert in_layers(tmp_path, (layer,), look) == (layer.members[0].data, layer.diff_id)  # type: ignore[union-attr]


def test_attributes_and_capabilities_survive_the_change_of_owner(tmp_path: Path) -> None:
    capability = b"\1\0\0\2\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"  # version 2, effective, cap_net_raw
    layer = Layer(
        (
            File("ping", b"x", mode=0o755, uid=5, xattrs={"security.capability": capability, "user.a": b"\0\xff"}),
            Directory("d", xattrs={"user.b": b"dir"}),
        )
    )
    tree = in_layers(tmp_path, (layer,), top)
    assert xattr(tree["ping"], "user.a") == b"\0\xff"
    assert xattr(tree["d"], "user.b") == b"dir"
    found = xattr(tree["ping"], "security.capability")
    assert found is not None
    assert found[4:8] == capability[4:8]


def test_attributes_that_this_user_cannot_set_are_counted(tmp_path: Path) -> None:
    layer = Layer(
        (File("f", xattrs={"trusted.mine": b"1", "user.a": b"2"}), Symlink("l", "f", xattrs={"user.a": b"3"}))
    )

    def look(u: Unpacked) -> tuple[int, tuple[tuple[str, bytes], ...]]:
        return u.results[0]["skipped_xattrs"], u.layer(0)["f"].xattrs

    assert in_layers(tmp_path, (layer,), look) == (2, (("user.a", b"2"),))


def test_forged_attributes_are_dropped(tmp_path: Path) -> None:
    forged = {"user.overlay.opaque": b"y", "user.overlay.whiteout": b"", "user.containers.override_stat": b"0:0:0755"}
    layer = Layer((Directory("d", xattrs=forged), File("d/f", xattrs=forged)))
    tree = in_layers(tmp_path, (layer,), top)
    assert [node.xattrs for node in tree.values()] == [(), (), ()]


def test_sparse_files_keep_their_holes(tmp_path: Path) -> None:
    size = 64 << 20
    info = tarfile.TarInfo("GNUSparseFile.0/s")
    info.pax_headers = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.name": "s",
        "GNU.sparse.realsize": str(size),
    }
    table = f"2\n0\n3\n{size - 4096}\n5\n".encode()
    hole = tarfile.TarInfo("GNUSparseFile.0/hole")
    hole.pax_headers = {"GNU.sparse.size": "1048576", "GNU.sparse.map": "", "GNU.sparse.name": "hole"}
    layer = raw((info, table.ljust(512, b"\0") + b"abcvwxyz"), (hole, b""))
    tree = in_layers(tmp_path, (layer,), top)
    content = tree["s"].content
    assert len(content) == size
    assert content[:4] == b"abc\0"
    assert content[-4096:-4090] == b"vwxyz\0"
    assert content.count(0) == size - 8
    assert tree["s"].blocks * 512 < 1 << 20
    assert (len(tree["hole"].content), tree["hole"].blocks) == (1 << 20, 0)


def test_devices_are_left_out_and_counted(tmp_path: Path) -> None:
    """mknod of 0:0 works in a user namespace, and would be a whiteout that the image has forged."""
    layer = Layer(
        (
            Device("null", "c", 1, 3),
            Device("sda", "b", 8, 0),
            Device("forged", "c", 0, 0),
            File("f"),
        )
    )

    def look(u: Unpacked) -> tuple[dict[str, str], int]:
        return kinds(u.layer(0)), u.results[0]["skipped_devices"]

    assert in_layers(tmp_path, (layer,), look) == ({"f": "-"}, 3)


def test_times_before_1970_and_absurd_ones(tmp_path: Path) -> None:
    zero = tarfile.TarInfo("zero")
    zero.pax_headers = {"mtime": "-62135596800"}
    far = tarfile.TarInfo("far")
    far.pax_headers = {"mtime": "9" * 19}
    tree = in_layers(tmp_path, (raw((zero, b""), (far, b"")),), top)
    assert (tree["zero"].mtime_ns, tree["far"].mtime_ns) == (0, 0)


# ---- several entries of one name


def test_a_later_entry_replaces_an_earlier_one(tmp_path: Path) -> None:
    layer = Layer(
        (
            File("file-file", b"old"),
            Hardlink("other-name", "file-file"),
            File("file-file", b"new"),
            Directory("dir-file"),
            File("dir-file/inside"),
            File("dir-file", b"f"),
            Symlink("link-dir", "elsewhere"),
            Directory("link-dir"),
            File("link-dir/x"),
            File("file-dir"),
            Directory("file-dir/sub"),
            Directory("kept"),
            File("kept/x"),
            Directory("kept", mode=0o700),
        )
    )
    tree = in_layers(tmp_path, (layer,), top)
    assert kinds(tree) == {
        "file-file": "-",
        "other-name": "-",
        "dir-file": "-",
        "link-dir": "d",
        "link-dir/x": "-",
        "file-dir": "d",
        "file-dir/sub": "d",
        "kept": "d",
        "kept/x": "-",
    }
    assert (tree["file-file"].content, tree["other-name"].content) == (b"new", b"old")
    assert tree["kept"].mode == 0o700


def test_names_of_one_file_stay_one_file(tmp_path: Path) -> None:
    layer = Layer(
        (
            File("a", b"x", mode=0o4755),
            Hardlink("d/b", "a"),
            Hardlink("c", "/d/b"),
            Symlink("s", "a"),
            Hardlink("t", "s"),
            Hardlink("a", "a"),
        )
    )
    tree = in_layers(tmp_path, (layer,), top)
    assert tree["a"] == tree["d/b"] == tree["c"]
    assert (tree["t"].kind, tree["t"].inode) == ("l", tree["s"].inode)


# ---- nothing outside


@pytest.mark.parametrize(
    "members",
    [
        (Symlink("out", "{outside}"), File("out/victim", b"evil")),
        (Symlink("out", "../../../../../../../..{outside}"), File("out/victim", b"evil")),
        (Symlink("a", "{outside}"), Symlink("b", "a"), Symlink("c", "b"), File("c/victim", b"evil")),
        (Symlink("d/victim", "{outside}/victim"), File("d/victim", b"evil")),
        (Symlink("victim", "{outside}/victim"), Hardlink("x", "victim"), File("x", b"evil")),
        (Symlink("out", "{outside}"), Whiteout("out/victim")),
        (Symlink("out", "{outside}"), Opaque("out")),
        (Symlink("out", "{outside}"), Directory("out/victim")),
        (Symlink("out", "{outside}"), Directory("out", mode=0o777, uid=5)),
        (Symlink("out", "{outside}"), Symlink("out/victim", "x")),
        (Symlink("out", "{outside}"), Directory("out/new", mode=0o777)),
        (Symlink("out", "/proc/self/cwd"), File("out/victim", b"evil")),
        (Symlink("out", "{outside}/victim"), File("out", b"evil")),
        (Symlink("out", "{outside}/victim", uid=5), Fifo("out")),
    ],
)
def test_links_never_lead_out_of_the_layer(tmp_path: Path, members: tuple[Symlink | File, ...]) -> None:
    outside, work = tmp_path / "outside", tmp_path / "work"
    outside.mkdir(mode=0o755)
    work.mkdir()
    (outside / "victim").write_bytes(b"good")
    before = (outside.stat(), (outside / "victim").stat())
    aimed = tuple(replace(m, target=m.target.format(outside=outside)) if isinstance(m, Symlink) else m for m in members)
    in_layers(work, (Layer(aimed),), top)
    assert os.listdir(outside) == ["victim"]
    assert (outside / "victim").read_bytes() == b"good"
    for old, new in zip(before, (outside.stat(), (outside / "victim").stat()), strict=True):
        assert (old.st_mode, old.st_uid, old.st_mtime_ns, old.st_ctime_ns) == (
            new.st_mode,
            new.st_uid,
            new.st_mtime_ns,
            new.st_ctime_ns,
        )


def test_links_inside_are_followed_as_in_a_chroot(tmp_path: Path) -> None:
    layer = Layer(
        (
            Directory("usr/lib"),
            Symlink("lib", "/usr/lib"),
            Symlink("usr/up", "../../../usr"),
            File("lib/one", b"1"),
            File("usr/up/lib/two", b"2"),
            Symlink("dangling", "made/here"),
            File("dangling/three", b"3"),
        )
    )
    tree = in_layers(tmp_path, (layer,), top)
    assert {p: n.content for p, n in tree.items() if n.kind == "-"} == {
        "usr/lib/one": b"1",
        "usr/lib/two": b"2",
        "made/here/three": b"3",
    }
    assert tree["lib"].kind == "l"


def test_a_link_of_a_lower_layer_is_hidden_as_podman_hides_it(tmp_path: Path) -> None:
    """A layer is made without looking at those below it, so `lib/x` over a link `lib` brings a directory."""
    lower = Layer((Directory("usr/lib"), Symlink("lib", "usr/lib")))
    tree = in_layers(tmp_path, (lower, Layer((File("lib/x"),))), top)
    assert kinds(tree) == {"lib": "d", "lib/x": "-"}


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_names_that_leave_the_layer_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ChildFailed, match="outside of the layer"):
        in_layers(tmp_path, (raw((tarfile.TarInfo(name), b"")),), top)


def test_a_circle_of_links_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ChildFailed, match="too many levels of symbolic links"):
        in_layers(tmp_path, (Layer((Symlink("a", "b"), Symlink("b", "a"), File("a/x"))),), top)


# ---- whiteouts


def test_whiteouts_and_opaque_directories(tmp_path: Path) -> None:
    lower = Layer((File("gone"), File("d/gone"), File("d/stays"), Directory("o", mode=0o750, uid=6), File("o/hidden")))
    upper = Layer((Whiteout("gone"), Whiteout("d/gone"), Opaque("o"), File("o/new")))

    def look(u: Unpacked) -> tuple[Tree, list[str], list[str]]:
        return u.layer(1), u.results[1]["forms"], shown(u)

    tree, forms, names = in_layers(tmp_path, (lower, upper), look)
    assert kinds(tree) == {"gone": "w", "d": "d", "d/gone": "w", "o": "d", "o/new": "-"}
    assert xattr(tree["o"], "user.overlay.opaque") == b"y"
    assert (tree["o"].mode, tree["o"].uid) == (0o750, 6)
    assert forms == ["device", "opaque"]
    assert names == ["d", "d/stays", "o", "o/new"]


def shown(unpacked: Unpacked) -> list[str]:
    """Return the names that the merged view shows."""
    found: list[str] = []
    with merged.open_layers(reversed(unpacked.directories)) as view:
        pending: list[tuple[bytes, ...]] = [()]
        while pending:
            path = pending.pop()
            for _, name, info in list(view.entries(path)):
                found.append(os.fsdecode(b"/".join((*path, name))))
                if stat.S_ISDIR(info.st_mode):
                    pending.append((*path, name))
    return sorted(found)


def test_a_whiteout_is_about_lower_layers_only(tmp_path: Path) -> None:
    lower = Layer((File("f", b"old"), File("d/old"), File("e/old"), File("g/old")))
    upper = Layer(
        (
            File("f", b"new"),
            Whiteout("f"),
            File("d/new"),
            Whiteout("d"),
            Whiteout("e"),
            Directory("e"),
            File("e/new"),
            Whiteout("g"),
            File("g/new"),
        )
    )

    def look(u: Unpacked) -> tuple[Tree, list[str]]:
        return u.layer(1), shown(u)

    tree, names = in_layers(tmp_path, (lower, upper), look)
    assert names == ["d", "d/new", "e", "e/new", "f", "g", "g/new"]
    assert tree["f"].content == b"new"


def test_whiteouts_of_nothing_leave_nothing(tmp_path: Path) -> None:
    """The kernel filters whiteouts in merged directories only: elsewhere they would be listed."""
    lower = Layer((Directory("d"), Whiteout("never")))
    upper = Layer((Whiteout("nothing"), Whiteout("d/nothing"), Whiteout("new/nothing"), File("new/f")))

    def look(u: Unpacked) -> list[dict[str, str]]:
        return [kinds(u.layer(0)), kinds(u.layer(1))]

    assert in_layers(tmp_path, (lower, upper), look) == [{"d": "d"}, {"d": "d", "new": "d", "new/f": "-"}]


# ---- what depends on the layers below


def test_implied_directories_are_those_that_they_would_hide(tmp_path: Path) -> None:
    base = Layer(
        (
            Directory(".", mode=0o751, uid=2, mtime=EPOCH + 9),
            Directory("tmp", mode=0o1777, mtime=EPOCH + 5),
            Directory("home/u", mode=0o700, uid=1000, gid=1000, xattrs={"user.k": b"v"}),
        )
    )
    middle = Layer((File("tmp/one"),))
    upper = Layer((File("tmp/two"), File("home/u/x/y"), Whiteout("tmp/one")))
    tree = in_layers(tmp_path, (base, middle, upper), top)
    assert (tree["."].mode, tree["."].uid, tree["."].mtime_ns) == (0o751, 2, (EPOCH + 9) * 10**9)
    assert (tree["tmp"].mode, tree["tmp"].mtime_ns) == (0o1777, (EPOCH + 5) * 10**9)
    assert (tree["home/u"].mode, tree["home/u"].uid, tree["home/u"].gid) == (0o700, 1000, 1000)
    assert xattr(tree["home/u"], "user.k") == b"v"
    assert (tree["home/u/x"].mode, tree["home/u/x"].uid) == (0o755, 0)


def test_an_entry_that_comes_late_is_not_implied(tmp_path: Path) -> None:
    base = Layer((Directory("d", mode=0o700),))
    upper = Layer((File("d/f"), Directory("d", mode=0o755, mtime=EPOCH + 3)))
    tree = in_layers(tmp_path, (base, upper), top)
    assert (tree["d"].mode, tree["d"].mtime_ns) == (0o755, (EPOCH + 3) * 10**9)


def test_hard_links_to_files_of_lower_layers_are_copied_up(tmp_path: Path) -> None:
    base = Layer((Directory("bin", mode=0o711), File("bin/a", b"tool", mode=0o4755, uid=3, xattrs={"user.k": b"v"})))
    upper = Layer((Hardlink("sbin/b", "bin/a"), Hardlink("sbin/c", "sbin/b")))
    tree = in_layers(tmp_path, (base, Layer((File("other"),)), upper), top)
    file = tree["bin/a"]
    assert (file.kind, file.content, file.mode, file.uid) == ("-", b"tool", 0o4755, 3)
    assert file.mtime_ns == EPOCH * 10**9
    assert xattr(file, "user.k") == b"v"
    assert tree["sbin/b"] == tree["sbin/c"] == file
    assert tree["bin"].mode == 0o711


def test_a_link_to_a_file_that_the_layer_removes_keeps_the_file(tmp_path: Path) -> None:
    base = Layer((File("a", b"1"), File("b", b"2")))
    upper = Layer((Hardlink("x", "a"), Whiteout("a"), Hardlink("y", "b"), File("b", b"new")))

    def look(u: Unpacked) -> tuple[dict[str, bytes], list[str]]:
        return {p: n.content for p, n in u.layer(1).items() if n.kind == "-"}, shown(u)

    assert in_layers(tmp_path, (base, upper), look) == ({"x": b"1", "y": b"2", "b": b"new"}, ["b", "x", "y"])


def test_a_hard_link_does_not_read_through_links_of_lower_layers(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"host")
    work = tmp_path / "work"
    work.mkdir()
    base = Layer((Symlink("out", str(tmp_path)), Symlink("file", str(secret))))
    with pytest.raises(ChildFailed, match="which is no file"):
        in_layers(work, (base, Layer((Hardlink("x", "out/secret"),))), top)
    tree = in_layers(work, (base, Layer((Hardlink("y", "file"),))), top)
    assert (tree["y"].kind, tree["y"].content) == ("l", os.fsencode(secret))


def test_a_hard_link_to_nothing_is_an_error(tmp_path: Path) -> None:
    for lower in ((File("f"),), (Directory("nothing"),)):
        with pytest.raises(ChildFailed, match=f"{TarError.__name__}.*x: a hard link to nothing"):
            in_layers(tmp_path, (Layer(lower), Layer((Hardlink("x", "nothing"),))), top)


# ---- owners that this user cannot give


@pytest.mark.parametrize("ids", ["single", "subid"])
def test_owners_beyond_the_map_are_squashed_recorded_and_counted(tmp_path: Path, ids: str) -> None:
    uid = 33 if ids == "single" else 10_000_000
    layer = Layer(
        (
            Directory("d", mode=0o2750, uid=uid, gid=uid),
            File("d/su", b"x", mode=0o6755, uid=uid, gid=uid),
            File("d/mine", mode=0o4755),
            Symlink("l", "x", uid=uid),
        )
    )

    def look(u: Unpacked) -> tuple[Tree, int]:
        return u.layer(0), u.results[0]["squashed"]

    tree, squashed = in_layers(tmp_path, (layer,), look, ids=ids)
    assert squashed == 3
    assert {n.uid for n in tree.values()} == {n.gid for n in tree.values()} == {0}
    assert xattr(tree["d/su"], "user.containers.override_stat") == b"%d:%d:06755" % (uid, uid)
    assert xattr(tree["d"], "user.containers.override_stat") == b"%d:%d:02750" % (uid, uid)
    assert (tree["d/su"].mode, tree["d"].mode, tree["d/mine"].mode) == (0o755, 0o2750, 0o4755)
    assert tree["d/mine"].xattrs == ()


def test_default_acls_of_a_directory_are_not_inherited_by_what_the_layer_puts_there(tmp_path: Path) -> None:
    acl = b"\2\0\0\0" + b"".join(
        tag.to_bytes(2, "little") + perm.to_bytes(2, "little") + who.to_bytes(4, "little")
        for tag, perm, who in ((1, 7, 2**32 - 1), (2, 7, 5), (4, 5, 2**32 - 1), (16, 7, 2**32 - 1), (32, 5, 2**32 - 1))
    )
    layer = Layer((Directory("d", xattrs={"system.posix_acl_default": acl}), File("d/f", mode=0o640), Directory("d/e")))
    tree = in_layers(tmp_path, (layer,), top)
    assert xattr(tree["d"], "system.posix_acl_default") is not None
    assert (tree["d/f"].mode, tree["d/f"].xattrs, tree["d/e"].xattrs) == (0o640, (), ())
