"""Trees of the caller's own are deleted whatever their modes, without a user namespace."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import StoreError
from rootless.store.trees import remove_tree


@pytest.mark.parametrize("mode", [0o000, 0o111, 0o500, 0o555])
def test_directories_that_are_closed_to_us(tmp_path: Path, mode: int) -> None:
    top = tmp_path / "diff"
    (top / "run" / "deep").mkdir(parents=True)
    (top / "run" / "file").write_text("x")
    (top / "empty").mkdir()
    for path in (top / "run" / "deep", top / "run", top / "empty", top):
        path.chmod(mode)
    remove_tree(str(top))
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_parent_that_is_not_ours_to_change_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "above" / "diff").mkdir(parents=True)
    (tmp_path / "above").chmod(0o500)
    try:
        with pytest.raises(StoreError, match="cannot remove"):
            remove_tree(str(tmp_path / "above" / "diff"))
    finally:
        (tmp_path / "above").chmod(0o700)
