"""Volumes as podman lists and finds them."""

from __future__ import annotations

from pathlib import Path

import pytest

from rootless.engine import copying, volumes
from rootless.errors import InUse, NotFound, StoreError, UsageError
from rootless.store import containers, layout
from rootless.store import volumes as store
from rootless.store.layout import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    found = Roots(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path))
    layout.prepare_data(found)
    return found


def create(roots: Roots, name: str, *options: tuple[str, str], **labels: str) -> str:
    return volumes.create(roots, name, driver="local", labels=labels, options=options)


def use(roots: Roots, name: str, volume: str) -> str:
    cid = containers.new_id()
    containers.create(roots, containers.Container(cid, name, {"id": cid, "name": name, "mounts": [[volume, "", "/x"]]}))
    return cid


def test_making_and_finding(roots: Roots) -> None:
    assert create(roots, "v1", a="b") == "v1"
    assert len(create(roots, "")) == 64
    create(roots, "v2")
    assert volumes.find(roots, "v1") == "v1"
    with pytest.raises(StoreError, match='more than one result for volume name "v": volume already exists'):
        volumes.find(roots, "v")
    with pytest.raises(NotFound, match='no volume with name "x" found: no such volume') as caught:
        volumes.find(roots, "x")
    assert caught.value.code == 1
    with pytest.raises(StoreError, match="volume with name v1 already exists: volume already exists"):
        create(roots, "v1")
    with pytest.raises(UsageError, match="names must match"):
        create(roots, "a/b")


def test_documents(roots: Roots) -> None:
    create(roots, "v", ("o", "uid=5"), a="b")
    (record,) = volumes.read_all(roots)
    document = volumes.document(roots, record, {})
    assert document.pop("CreatedAt").endswith("Z")
    assert document == {
        "Name": "v", "Driver": "local", "Mountpoint": f"{roots.data}/volumes/v/_data", "Labels": {"a": "b"},
        "Scope": "local", "Options": {"UID": "5", "o": "uid=5"}, "UID": 5, "MountCount": 0, "NeedsCopyUp": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("name=v1", ["v1"]), ("name=^v", ["v1", "v2"]), ("label=a", ["v1"]), ("label=a=x", []),
        ("driver=local", ["v1", "v2"]),
        ("driver=nfs", []), ("dangling=true", ["v2"]), ("dangling=0", ["v1"]), ("opt=type", ["v2"]),
        ("opt=type=tmpfs", ["v2"]), ("opt=type=x", []), ("until=1h", []),
    ],
)  # fmt: skip
def test_filters(roots: Roots, text: str, found: list[str]) -> None:
    create(roots, "v1", a="b")
    create(roots, "v2", ("type", "tmpfs"), ("device", "tmpfs"))
    use(roots, "c", "v1")
    wanted = volumes.filter_of([text], roots)
    assert [record["name"] for record in volumes.read_all(roots) if wanted(record)] == found


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo=bar", '"foo" is an invalid volume filter'),
        ("label!=x", '"label!" is an invalid volume filter'),
        ("foo", "filter input must be in the form of filter=value: foo is invalid"),
        ("dangling=x", '"x" is not a valid value for the "dangling" filter - must be true or false'),
    ],
)
def test_wrong_filters(roots: Roots, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        volumes.filter_of([text], roots)
    assert caught.value.message == message


def test_a_volume_that_is_held_stays(roots: Roots) -> None:
    """A container that is just being made has no record yet, but holds its volumes."""
    create(roots, "v")
    lock = store.hold(roots, "v")
    assert lock is not None
    with lock, pytest.raises(InUse) as caught:
        volumes.remove(roots, "v")
    assert caught.value.code == 2
    volumes.remove(roots, "v")
    with pytest.raises(NotFound):
        volumes.remove(roots, "v")
    with pytest.raises(NotFound):
        store.hold(roots, "v")


@pytest.mark.parametrize(
    ("source", "destination", "places"),
    [
        ("c:/x", ".", (("c", "/x"), ("", "."))),
        ("./c:/x", "c:rel", (("", "./c:/x"), ("c", "rel"))),
        ("a:/x", "b:/y", (("a", "/x"), ("b", "/y"))),
        ("-", "c:/", (("", "-"), ("c", "/"))),
    ],
)
def test_arguments_of_cp(source: str, destination: str, places: tuple[tuple[str, str], tuple[str, str]]) -> None:
    assert tuple([(place.container, place.path) for place in copying.parse(source, destination)]) == places


@pytest.mark.parametrize(
    ("source", "destination", "message"),
    [
        ("", "c:/", 'invalid arguments "", "c:/": you must specify paths'),
        ("x", "c:", 'invalid arguments "x", "c:": you must specify paths'),
        ("a", "b", "name or ID cannot be empty"),
    ],
)
def test_wrong_arguments_of_cp(source: str, destination: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        copying.parse(source, destination)
    assert caught.value.message == message
