"""Images and layers become visible together, names move, and only what nobody needs is deleted."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Corrupt, ImageError, InternalError, ReferenceInvalid, StoreError
from rootless.spec.record import replace
from rootless.store import atomic, blobs, gc, images, layers, layout
from rootless.store.images import ImageRecord
from rootless.store.layers import StagedLayer
from rootless.store.layout import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(data=f"{tmp_path}/data", run=f"{tmp_path}/run", tmp="/var/tmp")


def image_of(number: int, *chain: str) -> ImageRecord:
    return ImageRecord(
        id=f"{number:064x}",
        digest="sha256:" + f"{number:064x}",
        config={"config": {"Cmd": ["sh"]}},
        layers=chain,
        links=(),
        created="2020-01-01T00:00:00Z",
    )


def chain(letter: str) -> str:
    return "sha256:" + letter * 64


def add(roots: Roots, image: ImageRecord, *names: str) -> ImageRecord:
    """Commit *image* with an empty tree for each of its layers that is new."""
    with layers.open_staging(roots) as staging:
        fresh = [c for c in image.layers if not layers.exists(roots, c)]
        staged = [StagedLayer(staging.make_dir(f"t{n}"), c, c, "", size_bytes=10) for n, c in enumerate(fresh)]
        return layers.commit(staging, staged, image, names)


def test_a_committed_image_is_found_by_name_and_id(roots: Roots) -> None:
    image = add(roots, image_of(0xABC, chain("a"), chain("b")), "docker.io/library/alpine:latest")
    assert image.size_bytes == 20
    assert len(set(image.links)) == 2
    for text in ("alpine", "alpine:latest", "docker.io/library/alpine", image.id, f"sha256:{image.id}", image.id[:62]):
        assert images.lookup(roots, text) == image
    for text in ("busybox", "alpine:3", "fff"):
        assert images.lookup(roots, text) is None
    with pytest.raises(ReferenceInvalid):
        images.lookup(roots, ":bad")


def test_a_look_up_by_name_reads_one_file(roots: Roots, opened: list[str]) -> None:
    add(roots, image_of(1, chain("a")), "docker.io/library/alpine:latest")
    opened.clear()
    images.lookup(roots, "docker.io/library/alpine:latest")
    assert opened == [images.ref_path(roots, "docker.io/library/alpine:latest")]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Record what os.open is asked for."""
    paths: list[str] = []
    original = os.open

    def recording(path: str, *rest: object, **named: object) -> int:
        paths.append(path)
        return original(path, *rest, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", recording)
    return paths


def test_what_is_local_comes_before_the_public_registry(roots: Roots) -> None:
    add(roots, image_of(1), "docker.io/library/app:latest")
    mine = add(roots, image_of(2), "localhost/app:latest")
    assert images.lookup(roots, "app") == mine


def test_an_ambiguous_id_is_an_error(roots: Roots) -> None:
    add(roots, image_of(1))
    add(roots, image_of(2))
    with pytest.raises(ImageError, match="ambiguous"):
        images.lookup(roots, "000")


def test_a_name_moves_and_the_old_image_stays(roots: Roots) -> None:
    add(roots, image_of(1), "docker.io/library/a:latest", "docker.io/library/a:1")
    add(roots, image_of(2), "docker.io/library/a:latest")
    assert [(i.id[-1], i.names) for i in images.list_images(roots)] == [
        ("1", ("docker.io/library/a:1",)),
        ("2", ("docker.io/library/a:latest",)),
    ]


def test_tag_untag_remove(roots: Roots) -> None:
    image = add(roots, image_of(1), "docker.io/library/a:latest")
    images.tag(roots, image.id, "localhost/b:x")
    found = images.get(roots, image.id)
    assert found is not None
    assert found.names == ("docker.io/library/a:latest", "localhost/b:x")
    assert images.untag(roots, "docker.io/library/a:latest")
    assert not images.untag(roots, "docker.io/library/a:latest")
    assert images.lookup(roots, "b:x") is not None
    assert images.remove(roots, image.id)
    assert not images.remove(roots, image.id)
    assert (images.lookup(roots, "b:x"), images.list_images(roots)) == (None, [])


def test_names_of_any_length(roots: Roots) -> None:
    name = f"registry.example:5000/{'p' * 200}/{'q' * 50}:{'t' * 128}"
    image = add(roots, image_of(1), name, f"registry.example:5000/{'p' * 200}@sha256:{'0' * 64}")
    assert images.lookup(roots, name) == replace(image, names=(name,))
    assert name in images.list_images(roots)[0].names


def test_a_damaged_record_is_named(roots: Roots) -> None:
    image = add(roots, image_of(1), "localhost/a:latest")
    path = images.ref_path(roots, "localhost/a:latest")
    for text in ("", "{}", '{"format": 99}', '{"format": 1, "id": "x"}', "not json"):
        atomic.write_new(path, text.encode())
        with pytest.raises(Corrupt, match=r"localhost\+a:latest"):
            images.lookup(roots, "a")
    del image


def test_layers_that_no_image_needs_are_deleted(roots: Roots) -> None:
    one = add(roots, image_of(1, chain("a"), chain("b")), "localhost/one:latest")
    two = add(roots, image_of(2, chain("a"), chain("c")), "localhost/two:latest")
    assert one.links[0] == two.links[0]
    assert gc.collect(roots) == gc.Collected()
    images.remove(roots, one.id)
    assert gc.collect(roots).layers == (one.links[1],)
    assert (layers.exists(roots, chain("a")), layers.exists(roots, chain("b"))) == (True, False)
    images.remove(roots, two.id)
    assert gc.collect(roots, in_use=[two.links[0]]).layers == (two.links[1],)
    assert gc.collect(roots).layers == (two.links[0],)
    assert os.listdir(f"{roots.data}/l") == os.listdir(f"{roots.data}/staging") == []


def test_nothing_is_deleted_while_somebody_reads(roots: Roots) -> None:
    image = add(roots, image_of(1, chain("a")), "localhost/one:latest")
    images.remove(roots, image.id)
    with layout.lock_shared(roots):
        collected = gc.collect(roots)
    assert collected.layers == ()
    assert "running" in collected.reason
    assert gc.collect(roots).layers == image.links


def test_an_empty_store_has_nothing_to_collect(roots: Roots) -> None:
    assert (gc.collect(roots), gc.sweep_leftovers(roots)) == (gc.Collected(), 0)
    assert not os.path.exists(roots.data)


def test_a_tree_without_a_record_is_swept(roots: Roots) -> None:
    """A power cut between the rename of a tree and the link of its record leaves one."""
    add(roots, image_of(1, chain("a")), "localhost/one:latest")
    os.mkdir(f"{roots.data}/l/ORPHANED")
    assert gc.collect(roots).layers == ("ORPHANED",)


def test_a_record_without_a_tree_is_no_layer(roots: Roots) -> None:
    image = add(roots, image_of(1, chain("a")), "localhost/one:latest")
    os.rmdir(layers.layer_dir(roots, image.links[0]))
    assert not layers.exists(roots, chain("a"))
    again = add(roots, image_of(1, chain("a")), "localhost/one:latest")
    assert layers.exists(roots, chain("a"))
    assert images.lookup(roots, "one") == replace(again, names=("localhost/one:latest",))


def test_an_image_needs_all_of_its_layers(roots: Roots) -> None:
    with layers.open_staging(roots) as staging, pytest.raises(InternalError, match="was not unpacked"):
        layers.commit(staging, [], image_of(1, chain("a")), ["localhost/one:latest"])
    assert images.list_images(roots) == []


def test_a_commit_that_fails_shows_nothing(roots: Roots) -> None:
    with layers.open_staging(roots) as staging:
        staged = [StagedLayer(staging.make_dir("t"), chain("a"), chain("a"), "")]
        os.rmdir(f"{roots.data}/images")
        with pytest.raises(StoreError):
            layers.commit(staging, staged, image_of(1, chain("a")), ["localhost/one:latest"])
    assert images.lookup(roots, "one") is None


def test_staging_is_private_to_its_maker(roots: Roots) -> None:
    with layers.open_staging(roots) as staging:
        path = staging.path
        assert layers.own_staging(path) is None
        assert gc.sweep_leftovers(roots) == 0
        assert os.path.isdir(path)
    assert os.listdir(f"{roots.data}/staging") == []


def test_blobs(roots: Roots) -> None:
    layout.prepare_data(roots)
    digest = blobs.write(roots, b"{}")
    assert digest == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    assert blobs.read(roots, digest) == b"{}"
    Path(blobs.path_of(roots, digest)).write_bytes(b"tampered")
    assert blobs.read(roots, digest) is None
    assert blobs.names(roots) == [digest]
    assert gc.collect(roots) == gc.Collected()
    assert blobs.names(roots) == []


def test_publish_replaces_and_publish_new_does_not(tmp_path: Path) -> None:
    one, two, target = (str(tmp_path / n) for n in ("one", "two", "target"))
    atomic.write_new(one, b"1")
    atomic.write_new(two, b"2")
    assert atomic.publish_new(one, target)
    assert not atomic.publish_new(two, target)
    assert atomic.read_file(target) == b"1"
    atomic.publish(two, target)
    atomic.publish(two, target)
    assert atomic.read_file(target) == b"2"
    assert sorted(os.listdir(tmp_path)) == ["one", "target", "two"]
