"""Other programs as judges: GNU tar writes what we read, podman unpacks the same image to the same files."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from rootless.kernel.fds import open_fd
from rootless.store import copytree, merged
from tests.support.images import (
    EPOCH,
    MEDIA,
    Device,
    Directory,
    Fifo,
    File,
    Hardlink,
    Image,
    Layer,
    Opaque,
    Symlink,
    Whiteout,
    descriptor,
)
from tests.support.unpacking import Tree, Unpacked, in_layers, tree
from tests.support.userns import in_userns, remove_tree

pytestmark = pytest.mark.requires("userns", "subuid")


def plain(found: Tree) -> dict[str, Any]:
    """Return what does not depend on where a tree is; which names are one file is kept."""
    first: dict[int, str] = {}
    for path in sorted(found):
        first.setdefault(found[path].inode, path)
    return {p: (replace(n, inode=0, blocks=0, content=short(n.content)), first[n.inode]) for p, n in found.items()}


def short(content: bytes) -> bytes:
    """Return something of a length that a failure can show."""
    return content if len(content) < 100 else hashlib.sha256(content).digest()


# ---- GNU tar


def make_source(top: Path) -> None:
    """Make a tree with everything that an ordinary user can make."""
    (top / "d/e").mkdir(parents=True)
    (top / "d/file").write_bytes(os.urandom(100_000))
    (top / "d/empty").write_bytes(b"")
    os.chmod(top / "d/file", 0o4751)
    os.chmod(top / "d/e", 0o3770)
    os.link(top / "d/file", top / "d/e/other")
    (top / "link").symlink_to("d/file")
    (top / ("long" * 40)).mkdir()
    (top / ("long" * 40) / ("name" * 50)).write_bytes(b"x")
    (top / "long link").symlink_to("t" * 300)
    (top / "\udcff\n not utf-8").write_bytes(b"y")
    os.mkfifo(top / "fifo", 0o640)
    with open(top / "sparse", "wb") as file:
        for number in range(30):  # more runs than fit into one header
            file.seek(number * 65536)
            file.write(b"%d" % number * 100)
        file.truncate(4 << 20)
    with open(top / "hole", "wb") as file:
        file.truncate(1 << 20)
    everything = [f"{d}/{name}" for d, directories, files in os.walk(top) for name in (*directories, *files)]
    for n, path in enumerate(sorted(everything, reverse=True)):
        os.utime(path, ns=((EPOCH + n) * 10**9 + n, (EPOCH + n) * 10**9 + n), follow_symlinks=False)


@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=gnu", "--sparse"],
        ["--format=oldgnu", "--sparse"],
        ["--format=pax"],
        ["--format=pax", "--sparse", "--sparse-version=0.0"],
        ["--format=pax", "--sparse", "--sparse-version=0.1"],
        ["--format=pax", "--sparse", "--sparse-version=1.0"],
        ["--format=posix", "--xattrs"],
    ],
    ids=" ".join,
)
def test_what_gnu_tar_writes_is_what_it_read(tmp_path: Path, options: list[str]) -> None:
    source, work = tmp_path / "source", tmp_path / "work"
    for directory in (source, work):
        directory.mkdir()
    make_source(source)
    if "--xattrs" in options:
        os.setxattr(source / "d/file", "user.k", b"a=b\n\0c")
    os.utime(source, ns=(EPOCH * 10**9, EPOCH * 10**9))
    done = subprocess.run(
        ["tar", "-c", "--owner=:7", "--group=:8", *options, "-C", str(source), "."],
        capture_output=True,
        check=True,
    )
    layer = Layer(archive=done.stdout)

    def look(u: Unpacked) -> tuple[Tree, list[tuple[str, int]]]:
        found = u.layer(0)
        return found, [(p, n.blocks) for p, n in found.items() if p in ("sparse", "hole")]

    found, blocks = in_layers(work, (layer,), look)
    expected = tree(str(source))
    fine = "pax" in options[0] or "posix" in options[0]
    for path, node in list(expected.items()):
        time = node.mtime_ns if fine else node.mtime_ns // 10**9 * 10**9
        expected[path] = replace(node, uid=7, gid=8, mtime_ns=time)
    assert plain(found) == plain(expected)
    if "--sparse" in options:
        assert max(n for _, n in blocks) * 512 < 1 << 20


# ---- podman

IMAGE = Image(
    (
        Layer(
            (
                Directory("etc", mtime=EPOCH + 1),
                File("etc/motd", b"hello\n", uid=3),
                File("etc/gone", b"x"),
                Directory("tmp", mode=0o1777),
                Directory("usr/lib", mode=0o711, uid=100),
                Symlink("lib", "usr/lib"),
                File("lib/through", b"t"),
                File("usr/setuid", b"s" * 9000, mode=0o6755, uid=33, gid=34, xattrs={"user.k": b"v"}),
                File("usr/two", b"names", mode=0o644, uid=33, gid=34),
                Hardlink("usr/names", "usr/two", uid=33, gid=34),
                Directory("cache", mode=0o700, uid=65535),
                File("cache/old"),
                File("turns/into/file"),
                File("dir"),
                Fifo("fifo", mode=0o622),
                Device("null", "c", 1, 3),
                File("caps", mode=0o755, xattrs={"security.capability": b"\1\0\0\2\0\x20" + b"\0" * 14}),
            )
        ),
        Layer(
            (
                Directory("etc", mode=0o750, mtime=EPOCH + 2),
                Whiteout("etc/gone"),
                Directory("cache", mode=0o700, uid=65535),
                Opaque("cache"),
                File("cache/new", b"n"),
                Whiteout("turns"),
                File("turns", b"file"),
                Whiteout("dir"),
                Directory("dir", mode=0o770),
                Symlink("etc/link", "/etc/motd", uid=5),
            ),
            compression="zstd",
        ),
        Layer((Directory("usr"), File("usr/two", b"new", mode=0o755), Directory("tmp", mode=0o1777), File("tmp/x"))),
    ),
    config={"Cmd": ["true"]},
)


def write_layout(image: Image, top: Path) -> None:
    """Write *image* as an OCI image layout."""
    blobs = top / "blobs/sha256"
    blobs.mkdir(parents=True)
    entry = descriptor(MEDIA["oci"]["manifest"], image.manifest)
    entry["annotations"] = {"org.opencontainers.image.ref.name": "x"}
    for data in (image.manifest, image.config_blob, *(layer.blob for layer in image.layers)):
        (blobs / descriptor("", data)["digest"].partition(":")[2]).write_bytes(data)
    (top / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (top / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


def ours(work: Path) -> Tree:
    def look(u: Unpacked) -> Tree:
        target = work / "copy"
        target.mkdir()
        with (
            merged.open_layers(reversed(u.directories)) as view,
            open_fd(str(target), os.O_RDONLY | os.O_DIRECTORY) as root,
        ):
            copytree.copy_tree(view, root)
        return tree(str(target))

    return in_layers(work, IMAGE.layers, look)


@pytest.mark.requires("podman")
@pytest.mark.leaves("mounts", "processes")
def test_podman_unpacks_the_same_image_to_the_same_files(tmp_path: Path) -> None:
    layout, storage, work = tmp_path / "layout", tmp_path / "storage", tmp_path / "work"
    for directory in (layout, storage, work):
        directory.mkdir()
    write_layout(IMAGE, layout)
    run = tempfile.mkdtemp(prefix="r", dir="/tmp")  # podman refuses a long one
    podman = ["podman", f"--root={storage}/root", f"--runroot={run}", "--storage-driver=vfs"]
    try:
        pulled = subprocess.run(
            [*podman, "--cgroup-manager=cgroupfs", "pull", "-q", f"oci:{layout}:x"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        if pulled.returncode != 0:
            pytest.skip(f"podman cannot pull here: {pulled.stderr.strip().splitlines()[-1]}")
        trees = sorted((storage / "root/vfs/dir").iterdir(), key=lambda path: path.stat().st_ctime_ns)
        expected = in_userns(lambda: max((tree(str(path)) for path in trees), key=complete), ids="subid")
    finally:
        remove_tree(storage)
        remove_tree(run)
    assert complete(expected)
    assert image_of(ours(work)) == image_of(expected)


def image_of(found: Tree) -> dict[str, Any]:
    """Return what the image says: not the time at which the root was made."""
    return plain({**found, ".": replace(found["."], mtime_ns=0)})


def complete(found: Tree) -> bool:
    """Say whether this is the tree of the top layer."""
    return "tmp/x" in found


@pytest.mark.requires("umoci")
def test_umoci_unpacks_the_same_image_to_the_same_files(tmp_path: Path) -> None:
    layout, bundle, work = tmp_path / "layout", tmp_path / "bundle", tmp_path / "work"
    for directory in (layout, work):
        directory.mkdir()
    write_layout(replace(IMAGE, layers=tuple(replace(x, compression="gzip") for x in IMAGE.layers)), layout)
    umoci = shutil.which("umoci") or "umoci"

    def body() -> Tree:
        words = [umoci, "unpack", "--keep-dirlinks", "--image", f"{layout}:x", str(bundle)]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            pytest.skip(f"umoci cannot unpack here: {done.stderr.strip()[-300:]}")
        return tree(f"{bundle}/rootfs")

    try:
        expected = in_userns(body, ids="subid")
    finally:
        remove_tree(bundle)
    expected.pop("null")  # umoci puts an empty file where a device cannot be made, podman nothing
    expected["."] = replace(expected["."], mode=0o555)  # and it has another idea of a root that no layer brings
    assert image_of(ours(work)) == image_of(expected)
