"""The layers of an image through their worker processes into the store, and every way in which that can fail."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import trio

from rootless.errors import DigestMismatch, StoreError, UnpackError
from rootless.kernel import mounts
from rootless.spec.image import chain_ids
from rootless.store import gc, images, layers, layout
from rootless.store.images import ImageRecord
from rootless.store.layout import Roots
from rootless.unpack.pipeline import LayerPlan, LayerResult, Unpack, open_unpack
from tests.support.images import Directory, File, Hardlink, Image, Layer, Whiteout
from tests.support.unpacking import tree
from tests.support.userns import in_userns

pytestmark = pytest.mark.requires("userns", "subuid")

BASE = Layer((Directory("tmp", mode=0o1777), File("bin/a", b"tool", mode=0o4755, uid=3), File("gone")))
MIDDLE = Layer((File("tmp/x", os.urandom(200_000)),), compression="zstd")
TOP = Layer((Hardlink("bin/b", "bin/a"), Whiteout("gone"), File("f")), compression="none")
IMAGE = Image((BASE, MIDDLE, TOP))


def plans(image: Image) -> list[LayerPlan]:
    chain = [str(c) for c in chain_ids(tuple(layer.diff_id for layer in image.layers))]
    return [
        LayerPlan(
            chain_id=chain[n],
            diff_id=layer.diff_id,
            parent=chain[n - 1] if n else "",
            compression="" if layer.compression == "none" else layer.compression,
            digest=layer.digest,
        )
        for n, layer in enumerate(image.layers)
    ]


def record(image: Image) -> ImageRecord:
    return ImageRecord(
        id=image.id, digest=image.digest, config={}, layers=tuple(p.chain_id for p in plans(image)), links=()
    )


async def feed(unpack: Unpack, index: int, blob: bytes) -> LayerResult:
    async with unpack.open_layer(index) as sink:
        for at in range(0, len(blob), 50_000):
            await sink.write(blob[at : at + 50_000])
        return await sink.finish()


async def store(roots: Roots, image: Image, names: Sequence[str] = ("localhost/x:latest",)) -> ImageRecord:
    """Unpack the layers from the top down, which they may arrive in, and commit the image."""
    with layers.open_staging(roots) as staging:
        async with open_unpack(staging, plans(image)) as unpack, trio.open_nursery() as nursery:
            for index in reversed(range(len(image.layers))):
                if unpack.needed(index):
                    nursery.start_soon(feed, unpack, index, image.layers[index].blob)
        return layers.commit(staging, unpack.staged(), record(image), names)


def roots_in(work: Path) -> Roots:
    return layout.find_roots(root=f"{work}/data", runroot=f"{work}/run", environ={}, uid=0)


def files(roots: Roots) -> list[str]:
    """Return what the store holds besides its empty directories."""
    found = []
    for directory, _, names in os.walk(roots.data):
        found += [
            os.path.relpath(f"{directory}/{name}", roots.data) for name in names if name not in ("lock", "format")
        ]
    trees = os.listdir(f"{roots.data}/l") + os.listdir(f"{roots.data}/staging")
    return found + trees


def children() -> str:
    return Path(f"/proc/self/task/{os.getpid()}/children").read_text()


def in_store(work: Path, body: Any) -> Any:
    """Run *body*(roots) in a user namespace; the store is deleted afterwards, and no process may be left."""

    def inside() -> Any:
        os.umask(0o077)
        roots = roots_in(work)
        layout.prepare_data(roots)
        try:
            result = body(roots)
            assert children() == ""
            return result
        finally:
            from rootless.store.trees import remove_tree

            remove_tree(roots.data)

    return in_userns(inside, ids="subid")


def test_layers_that_come_in_any_order_are_finished_on_top_of_each_other(tmp_path: Path) -> None:
    def body(roots: Roots) -> Any:
        image = trio.run(store, roots, IMAGE)
        assert images.lookup(roots, "x") == image
        assert os.listdir(f"{roots.data}/staging") == []
        return [tree(layers.layer_dir(roots, link)) for link in image.links], image

    (base, middle, top), image = in_store(tmp_path, body)
    assert (middle["tmp"].mode, middle["tmp/x"].content) == (0o1777, MIDDLE.members[0].data)  # type: ignore[union-attr]
    assert (top["bin/b"].content, top["bin/b"].mode, top["bin/b"].uid) == (b"tool", 0o4755, 3)
    assert (top["gone"].kind, base["gone"].kind) == ("w", "-")
    assert image.size_bytes == 4 + 200_000 + 4


def test_layers_in_the_store_are_not_unpacked_again(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        first = trio.run(store, roots, Image((BASE, MIDDLE)))
        other = Image((BASE, Layer((Hardlink("c", "bin/a"),))))
        with layers.open_staging(roots) as staging:
            unpack = Unpack(staging, plans(other))
            assert [unpack.needed(0), unpack.needed(1)] == [False, True]
        second = trio.run(store, roots, other, ["localhost/y:latest"])
        assert second.links[0] == first.links[0]
        assert tree(layers.layer_dir(roots, second.links[1]))["c"].content == b"tool"

    in_store(tmp_path, body)


def test_two_pulls_of_one_layer_share_it(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def both() -> None:
            with layers.open_staging(roots) as one, layers.open_staging(roots) as two:
                found = []
                for staging, name in ((one, "a"), (two, "b")):
                    async with open_unpack(staging, plans(IMAGE)) as unpack:
                        for index, layer in enumerate(IMAGE.layers):
                            await feed(unpack, index, layer.blob)
                        found.append((staging, unpack.staged(), [f"localhost/{name}:latest"]))
                committed = [layers.commit(s, staged, record(IMAGE), names) for s, staged, names in found]
                assert committed[0].links == committed[1].links
            assert len(os.listdir(f"{roots.data}/l")) == 3
            assert len(layers.list_layers(roots)) == 3
            seen = images.lookup(roots, "b")
            assert seen is not None
            assert seen.links == committed[0].links

        trio.run(both)

    in_store(tmp_path, body)


TRUNCATED = Layer((File("f", os.urandom(500_000)),))


@pytest.mark.parametrize(
    ("blob", "message"),
    [
        (TRUNCATED.blob[:-20], "the gzip stream is cut off"),
        (TRUNCATED.blob[:250_000], "cut off"),
        (TRUNCATED.blob[:250_000] + b"\0" * 64 + TRUNCATED.blob[250_064:], "damaged|checksum|cut off|header"),
        (b"not gzip at all" * 10, "not gzip"),
        (b"", "cut off"),
    ],
)
def test_a_damaged_layer_leaves_nothing(tmp_path: Path, blob: bytes, message: str) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(Image((TRUNCATED,)))) as unpack:
                    with pytest.raises((UnpackError, DigestMismatch), match=message):
                        await feed(unpack, 0, blob)

        trio.run(run)
        assert files(roots) == []

    in_store(tmp_path, body)


def test_unpacked_bytes_are_checked_against_the_config(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(Image((BASE,)))) as unpack:
                    with pytest.raises(
                        DigestMismatch, match=f"{Layer((File('x'),)).diff_id}.*promises.*{BASE.diff_id}"
                    ):
                        await feed(unpack, 0, Layer((File("x"),)).blob)

        trio.run(run)
        assert files(roots) == []

    in_store(tmp_path, body)


def test_a_fault_names_layer_and_entry(tmp_path: Path) -> None:
    bad = Layer((File("fine"), Hardlink("dir/bad", "nowhere")))

    def body(roots: Roots) -> str:
        async def run() -> str:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(Image((bad,)))) as unpack:
                    with pytest.raises(UnpackError) as caught:
                        await feed(unpack, 0, bad.blob)
                    return str(caught.value)

        return trio.run(run)

    text = in_store(tmp_path, body)
    assert bad.digest[:19] in text
    assert "dir/bad: a hard link to nowhere" in text


def test_a_layer_can_be_tried_again(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(IMAGE)) as unpack:
                    with pytest.raises(UnpackError):
                        await feed(unpack, 0, BASE.blob[:-10])
                    with pytest.raises(UnpackError):
                        await feed(unpack, 0, b"x")
                    for index, layer in enumerate(IMAGE.layers):
                        await feed(unpack, index, layer.blob)
                    layers.commit(staging, unpack.staged(), record(IMAGE), ["localhost/x:latest"])

        trio.run(run)
        assert images.lookup(roots, "x") is not None

    in_store(tmp_path, body)


def test_a_cancelled_layer_leaves_no_process_and_no_file(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(IMAGE)) as unpack:
                    with trio.CancelScope() as scope:
                        async with unpack.open_layer(0) as sink:
                            await sink.write(BASE.blob[:100])
                            scope.cancel()
                            await trio.lowlevel.checkpoint()

        trio.run(run)
        assert files(roots) == []

    in_store(tmp_path, body)


def test_a_layer_above_a_failed_one_fails_too(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(IMAGE)) as unpack:
                    async with trio.open_nursery() as nursery:

                        async def upper() -> None:
                            with pytest.raises(UnpackError, match="a layer below it failed"):
                                await feed(unpack, 1, MIDDLE.blob)

                        nursery.start_soon(upper)
                        with pytest.raises(UnpackError, match="not gzip"):
                            await feed(unpack, 0, b"rubbish" * 20)

        trio.run(run)

    in_store(tmp_path, body)


def test_a_worker_that_is_killed_is_reported(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(IMAGE)) as unpack, unpack.open_layer(0) as sink:
                    os.kill(int(children()), signal.SIGKILL)
                    with pytest.raises(UnpackError, match="the unpacker died"):
                        await sink.write(os.urandom(4 << 20))
                        await sink.finish()

        trio.run(run)
        assert files(roots) == []

    in_store(tmp_path, body)


@pytest.mark.parametrize("size", ["64k", "256k", "1m", "5m"])
def test_a_full_disk_is_said_and_leaves_the_store_as_it_was(tmp_path: Path, size: str) -> None:
    big = Layer(tuple(File(f"f{n}", os.urandom(70_000)) for n in range(100)))

    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(Image((big,)))) as unpack:
                    with pytest.raises(UnpackError, match="no space left on device") as caught:
                        await feed(unpack, 0, big.blob)
                    assert "free some space" in (caught.value.hint or "")

        small = Image((Layer((File("f", b"x"),)),))
        mounts.mount("tmpfs", roots.data, "tmpfs", 0, f"size={size}")
        try:
            layout.prepare_data(roots)
            trio.run(run)
            assert files(roots) == []
            trio.run(store, roots, small)
            assert images.lookup(roots, "x") is not None
        finally:
            mounts.umount2(roots.data)

    in_store(tmp_path, body)


def test_a_disk_that_is_full_at_the_end_leaves_the_store_as_it_was(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        async def run() -> None:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(IMAGE)) as unpack:
                    for index, layer in enumerate(IMAGE.layers):
                        await feed(unpack, index, layer.blob)
                    filler = f"{roots.data}/filler"
                    with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
                        while file.write(bytes(4096)):
                            pass
                    with pytest.raises(StoreError, match="no space left on device") as caught:
                        layers.commit(staging, unpack.staged(), record(IMAGE), ["localhost/x:latest"])
                    assert "free some space" in (caught.value.hint or "")
                    os.unlink(filler)

        mounts.mount("tmpfs", roots.data, "tmpfs", 0, "size=2m")
        try:
            layout.prepare_data(roots)
            trio.run(run)
            assert files(roots) == []
            trio.run(store, roots, IMAGE)
            assert images.lookup(roots, "x") is not None
        finally:
            mounts.umount2(roots.data)

    in_store(tmp_path, body)


KILLED = """
import os, signal, sys
from rootless.store import layers, layout
roots = layout.find_roots(root=sys.argv[1], runroot=sys.argv[2], environ={}, uid=0)
staging = layers.open_staging(roots)
open(staging.make_dir("tree-0") + "/f", "w").close()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_pull_leaves_is_swept_and_what_a_live_one_has_is_not(tmp_path: Path) -> None:
    def body(roots: Roots) -> None:
        dead = subprocess.run([sys.executable, "-c", KILLED, roots.data, roots.run], check=False)
        assert dead.returncode == -signal.SIGKILL
        with layers.open_staging(roots) as live:
            live.make_dir("tree-0")
            assert len(os.listdir(f"{roots.data}/staging")) == 4
            assert gc.sweep_leftovers(roots) == 1
            assert os.path.isdir(f"{live.path}/tree-0")
            assert gc.sweep_leftovers(roots) == 0
        assert os.listdir(f"{roots.data}/staging") == []

    in_store(tmp_path, body)


def test_the_worker_is_confined(tmp_path: Path) -> None:
    big = Layer((File("f", os.urandom(4 << 20)),))

    def body(roots: Roots) -> dict[str, Any]:
        async def run() -> dict[str, Any]:
            with layers.open_staging(roots) as staging:
                async with open_unpack(staging, plans(Image((big,)))) as unpack, unpack.open_layer(0) as sink:
                    await sink.write(big.blob)  # more than a pipe holds: it has begun to read
                    pid = int(children())
                    status = dict(line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
                    numbers = sorted(int(n) for n in os.listdir(f"/proc/{pid}/fd"))
                    return {"nnp": status["NoNewPrivs"], "fds": numbers, "name": status["Name"]}

        return trio.run(run)

    seen = in_store(tmp_path, body)
    assert (seen["nnp"], seen["name"]) == ("1", "rootless:[unp]")
    assert set(seen["fds"]) <= set(range(10))
