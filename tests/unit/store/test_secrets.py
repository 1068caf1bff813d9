"""The store of secrets: names, ids, values that nobody else can read."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from rootless.errors import NotFound, RootlessError, StoreError
from rootless.store import secrets
from rootless.store.layout import Roots


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    return Roots(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path))


def test_a_secret_is_kept_found_and_removed(roots: Roots) -> None:
    made = secrets.create(roots, "one", b"value", labels={"a": "b"})
    assert len(made.id) == 25
    assert secrets.read_value(roots, "one") == ("one", b"value")
    assert secrets.find(roots, made.id[:6]).id == made.id
    for path in Path(secrets.directory(roots)).glob("*.*"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert b"value" not in Path(secrets.directory(roots), f"{made.id}.json").read_bytes()
    with pytest.raises(StoreError, match=r"^one: secret name in use$"):
        secrets.create(roots, "one", b"other")
    secrets.remove(roots, made)
    with pytest.raises(NotFound, match='no secret with name or id "one": no such secret'):
        secrets.find(roots, "one")
    assert secrets.create(roots, "one", b"other").id != made.id


def test_a_name_without_a_record_is_free(roots: Roots) -> None:
    made = secrets.create(roots, "one", b"value")
    os.unlink(f"{secrets.directory(roots)}/{made.id}.json")
    secrets.create(roots, "one", b"other")
    assert secrets.read_value(roots, "one")[1] == b"other"
    assert [secret.name for secret in secrets.list_secrets(roots)] == ["one"]
    assert not Path(secrets.directory(roots), f"{made.id}.data").exists()


@pytest.mark.parametrize("name", ["", ".x", "x.", "a/b", "a,b", "a=b", "x" * 65, "-"])
def test_names_that_are_none(roots: Roots, name: str) -> None:
    with pytest.raises(RootlessError, match="invalid secret name"):
        secrets.create(roots, name, b"value")


@pytest.mark.parametrize("size_bytes", [0, 512000])
def test_sizes_that_are_refused(roots: Roots, size_bytes: int) -> None:
    with pytest.raises(RootlessError, match="larger than 0 and less than 512000 bytes"):
        secrets.create(roots, "one", b"x" * size_bytes)
