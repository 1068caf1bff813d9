"""Merged copies, shifted copies and deletion: what the copy driver and keep-id stand on."""

from __future__ import annotations

import os
import platform
import stat
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import NotSupported
from rootless.kernel import process
from rootless.kernel._sys import lib
from rootless.kernel.fds import open_fd
from rootless.mount.copy import CopyDriver
from rootless.mount.driver import RootfsRequest
from rootless.mount.overlayfs import OverlayDriver
from rootless.spec.idmap import id_map
from rootless.store import copytree, gc, layers, layout, merged, shifted, trees
from rootless.store.images import ImageRecord
from rootless.store.layers import StagedLayer
from rootless.store.layout import Roots
from tests.support.images import Directory, Fifo, File, Hardlink, Layer, Opaque, Symlink, Whiteout
from tests.support.unpacking import Tree, Unpacked, in_layers, tree, unpack
from tests.support.userns import in_userns, remove_tree

pytestmark = pytest.mark.requires("userns", "subuid")

STACK = (
    Layer(
        (
            Directory(".", mode=0o755, uid=1),
            Directory("tmp", mode=0o1777),
            Directory("d", mode=0o750, uid=5, xattrs={"user.k": b"v"}),
            File("d/gone"),
            File("d/su", b"x" * 5000, mode=0o6755, uid=7, gid=8, xattrs={"user.a": b"1"}),
            Hardlink("d/su2", "d/su"),
            File("o/hidden"),
            File("replaced/by/file"),
            Symlink("l", "/d"),
            Fifo("p", mode=0o600, uid=9),
        )
    ),
    Layer((Whiteout("d/gone"), Opaque("o"), File("o/new", b"n"), File("tmp/x"), File("l2", b"2"))),
    Layer((Whiteout("replaced"), File("replaced", b"f"), Hardlink("d/su3", "d/su"))),
)


def plain(found: Tree) -> dict[str, Any]:
    """Return what does not depend on where a tree is; which names are one file is kept."""
    first: dict[int, str] = {}
    for path in sorted(found):
        first.setdefault(found[path].inode, path)
    return {p: (replace(n, inode=0, blocks=0), first[n.inode]) for p, n in found.items()}


def overlay(unpacked: Unpacked, work: Path) -> Tree:
    """Return what the kernel's overlay shows of the layers."""
    from rootless.kernel import mounts

    target = work / "mounted"
    target.mkdir()
    lower = ":".join(reversed(unpacked.directories))
    mounts.mount("overlay", str(target), "overlay", mounts.MS_RDONLY, f"lowerdir={lower},userxattr")
    try:
        return tree(str(target))
    finally:
        mounts.umount2(str(target))


@pytest.mark.requires("overlay")
def test_a_merged_copy_is_what_the_kernel_shows(tmp_path: Path) -> None:
    def look(u: Unpacked) -> tuple[Tree, Tree]:
        target = tmp_path / "copy"
        target.mkdir()
        with (
            merged.open_layers(reversed(u.directories)) as view,
            open_fd(str(target), os.O_RDONLY | os.O_DIRECTORY) as root,
        ):
            copytree.copy_tree(view, root)
        return tree(str(target)), overlay(u, tmp_path)

    copied, expected = in_layers(tmp_path, STACK, look)
    assert plain(copied) == plain(expected)
    assert copied["d/su"] == copied["d/su3"]
    assert copied["d/su2"].inode != copied["d/su"].inode  # copied up without its other name, as overlayfs does
    assert copied["tmp"].mode == 0o1777
    assert sorted(copied) == [
        ".", "d", "d/su", "d/su2", "d/su3", "l", "l2", "o", "o/new", "p", "replaced", "tmp", "tmp/x",
    ]  # fmt: skip


def test_every_form_of_whiteout_is_read(tmp_path: Path) -> None:
    def body() -> list[bytes]:
        for path in ("low/d", "up/d", "low/e"):
            os.makedirs(tmp_path / path)
        for path in ("low/d/a", "low/d/b", "low/d/c", "low/e/x", "up/d/b"):
            (tmp_path / path).write_text("")
        os.mknod(tmp_path / "up/d/a", stat.S_IFCHR)
        os.setxattr(tmp_path / "up/d/b", "user.overlay.whiteout", b"")
        os.setxattr(tmp_path / "up/d", "user.overlay.opaque", b"x")
        os.mkdir(tmp_path / "up/e")
        os.setxattr(tmp_path / "up/e", "user.overlay.opaque", b"y")
        with merged.open_layers((f"{tmp_path}/up", f"{tmp_path}/low")) as view:
            assert view.find((b"d", b"a")) is view.find((b"d", b"b")) is view.find((b"e", b"x")) is None
            assert view.find((b"d", b"c")) is not None
            assert list(view.entries((b"e",))) == []
            return [name for _, name, _ in view.entries((b"d",))]

    assert in_userns(body, ids="subid") == [b"c"]


MKNODAT = {"x86_64": 259, "aarch64": 33}


def refuse_mknod() -> None:
    """Make mknodat(2) fail with EPERM from now on, as on an overlay file system."""
    load, equal, give = 0x20, 0x15, 0x06
    steps = (
        (load, 0, 0, 0),
        (equal, 0, 1, MKNODAT[platform.machine()]),
        (give, 0, 0, 0x00050001),
        (give, 0, 0, 0x7FFF0000),
    )
    program = b"".join(struct.pack("=HBBI", *step) for step in steps)
    process.set_no_new_privs()
    assert lib.rl_seccomp_filter(program, len(program), 0) == 0


@pytest.mark.requires("overlay")
@pytest.mark.skipif(platform.machine() not in MKNODAT, reason="the number of mknodat is not in the test")
def test_whiteouts_where_mknod_is_refused_are_read_or_refused_by_the_overlay_driver(tmp_path: Path) -> None:
    """Before Linux 6.7 overlayfs takes them for empty files: then it must not be used."""
    stack = (Layer((File("d/gone"), File("d/stays"), File("top"))), Layer((Whiteout("d/gone"), Whiteout("top"))))

    def body() -> tuple[list[str], list[str]]:
        store = tmp_path / "store"
        (store / "l").mkdir(parents=True)
        refuse_mknod()
        unpacked = unpack(tmp_path, stack)
        assert unpacked.results[1]["forms"] == ["xattr"]
        for n, directory in enumerate(unpacked.directories):
            os.rename(directory, store / "l" / f"L{n}")
        request = RootfsRequest(
            str(store), ("L0", "L1"), str(tmp_path), str(tmp_path), readonly=True, forms=unpacked.results[1]["forms"]
        )
        try:
            mounted = OverlayDriver().open(request)
        except NotSupported:
            shown = ["d", "d/stays"]
            kernel = tuple(int(n) for n in platform.release().split(".")[:2])
            assert kernel < (6, 7)
        else:
            shown = sorted(path for path in tree(f"/proc/self/fd/{mounted.fd.fileno()}/.") if path != ".")
            mounted.close()
        assert not (tmp_path / ".probe").exists()
        with merged.open_layers(reversed(request.layer_paths)) as view:
            return shown, [os.fsdecode(n) for _, n, _ in view.entries((b"d",))]

    try:
        assert in_userns(body, ids="subid") == (["d", "d/stays"], ["stays"])
    finally:
        remove_tree(tmp_path / "store")


def test_the_copy_driver_gives_a_mount_of_a_private_copy(tmp_path: Path) -> None:
    def look(u: Unpacked) -> dict[str, Any]:
        store, scratch = tmp_path / "store", tmp_path / "scratch"
        (store / "l").mkdir(parents=True)
        scratch.mkdir()
        links = tuple(f"L{n}" for n in range(len(u.directories)))
        for link, directory in zip(links, u.directories, strict=True):
            os.rename(directory, store / "l" / link)
        request = RootfsRequest(str(store), links, str(scratch), str(scratch))
        before = tree(f"{store}/l/L0")
        mounted = CopyDriver().open(request)
        path = f"/proc/self/fd/{mounted.fd.fileno()}"
        names = sorted(os.listdir(path))
        with open(f"{path}/l2", "r+b") as file:
            file.write(b"changed")
        mounted.close()
        again = CopyDriver().open(request)
        kept = Path(f"/proc/self/fd/{again.fd.fileno()}/l2").read_bytes()
        again.close()
        shift = id_map((0, 100, 1000))
        other = RootfsRequest(
            str(store), links, str(tmp_path / "store"), str(scratch), readonly=True, uid_map=shift, gid_map=shift
        )
        moved = CopyDriver().open(other)
        owner = os.stat(f"/proc/self/fd/{moved.fd.fileno()}/d/su")
        with pytest.raises(OSError, match="Read-only"):
            Path(f"/proc/self/fd/{moved.fd.fileno()}/new").touch()
        moved.close()
        assert tree(f"{store}/l/L0") == before
        return {"names": names, "kept": kept, "owner": (owner.st_uid, owner.st_gid, owner.st_mode & 0o7777)}

    seen = in_layers(tmp_path, STACK, look)
    assert seen["names"] == ["d", "l", "l2", "o", "p", "replaced", "tmp"]
    assert seen["kept"] == b"changed"
    assert seen["owner"] == (107, 108, 0o6755)


def test_shifted_copies_are_made_once_and_go_with_their_layer(tmp_path: Path) -> None:
    keep_id = id_map((0, 1, 1000), (1000, 0, 1), (1001, 1001, 100))
    data = tmp_path / "data"
    data.mkdir()

    def look(u: Unpacked) -> tuple[Tree, Tree]:
        roots = Roots(data=str(data / "root"), run=str(data), tmp="/var/tmp")
        layout.prepare_data(roots)
        with layers.open_staging(roots) as staging:
            staged = []
            for n, directory in enumerate(u.directories):
                os.rename(directory, f"{staging.path}/t{n}")
                staged.append(StagedLayer(f"{staging.path}/t{n}", f"sha256:{n:064}", f"sha256:{n:064}", ""))
            image = ImageRecord("1" * 64, "sha256:" + "1" * 64, {}, tuple(s.chain_id for s in staged), ())
            links = layers.commit(staging, staged, image).links
        same = id_map((0, 0, 2000))
        assert shifted.shifted_layers(roots, links, same, same) == links
        copies = shifted.shifted_layers(roots, links, keep_id, keep_id)
        assert not set(copies) & set(links)
        assert shifted.shifted_layers(roots, links, keep_id, keep_id) == copies
        assert {(c.of, c.link) for c in shifted.list_shifted(roots)} == set(zip(links, copies, strict=True))
        found = tree(layers.layer_dir(roots, copies[0])), tree(layers.layer_dir(roots, copies[1]))
        assert gc.collect(roots) == gc.Collected()
        assert set(gc.collect(roots, in_use=copies[:1]).layers) == set()
        from rootless.store import images

        images.remove(roots, "1" * 64)
        assert set(gc.collect(roots).layers) == {*links, *copies}
        assert shifted.list_shifted(roots) == []
        return found

    base, middle = in_layers(tmp_path, STACK, look)
    assert (base["d/su"].uid, base["d/su"].gid, base["d/su"].mode) == (8, 9, 0o6755)
    assert base["d/su"].inode == base["d/su2"].inode
    assert (base["d"].uid, base["."].uid) == (6, 2)
    assert (middle["d/gone"].kind, dict(middle["o"].xattrs)) == ("w", {"user.overlay.opaque": b"y"})


def test_trees_of_any_owner_mode_and_depth_are_deleted(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("")

    def body() -> list[str]:
        top = tmp_path / "top"
        (top / "a/b").mkdir(parents=True)
        (top / "a/f").write_text("")
        (top / "a/link").symlink_to(outside)
        os.mknod(top / "a/white", stat.S_IFCHR)
        os.mkfifo(top / "a/fifo")
        os.chown(top / "a/b", 33, 33)
        os.chmod(top / "a/b", 0)
        os.chmod(top / "a", 0)
        os.chown(top / "a", 7, 7)
        here = os.getcwd()
        os.chdir(top)
        for _ in range(1500):  # deeper than Python's stack and than PATH_MAX
            os.mkdir("deep")
            os.chdir("deep")
        os.chdir(here)
        trees.remove_tree(str(top))
        trees.remove_tree(str(top))
        trees.remove_tree(f"{tmp_path}/no/such")
        (tmp_path / "file").write_text("")
        trees.remove_tree(f"{tmp_path}/file")
        return sorted(os.listdir(tmp_path))

    assert in_userns(body, ids="subid") == ["outside"]
    assert os.listdir(outside) == ["kept"]
