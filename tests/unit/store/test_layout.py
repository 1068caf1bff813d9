"""Where the roots are, who may own them, and what the locks promise."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rootless.errors import Corrupt, StoreError
from rootless.store import layout
from rootless.store.layout import DataLock, Roots, find_roots

ME = os.geteuid() or 4711  # the rules are those of a user, whoever runs the tests


def roots_of(tmp_path: Path) -> Roots:
    return Roots(data=f"{tmp_path}/data", run=f"{tmp_path}/run", tmp="/var/tmp")


@pytest.mark.parametrize(
    ("flags", "environ", "expected"),
    [
        ({}, {"HOME": "{t}"}, "{t}/.local/share/rootless"),
        ({}, {"HOME": "{t}", "XDG_DATA_HOME": "{t}/x"}, "{t}/x/rootless"),
        ({}, {"HOME": "{t}", "XDG_DATA_HOME": "relative"}, "{t}/.local/share/rootless"),
        ({}, {"HOME": "{t}", "ROOTLESS_ROOT": "{t}/e/"}, "{t}/e"),
        ({"root": "{t}/f"}, {"ROOTLESS_ROOT": "{t}/e"}, "{t}/f"),
    ],
)
def test_data_root(tmp_path: Path, flags: dict[str, str], environ: dict[str, str], expected: str) -> None:
    put = {key: value.format(t=tmp_path) for key, value in environ.items()}
    given = {key: value.format(t=tmp_path) for key, value in flags.items()}
    assert find_roots(**given, runroot=f"{tmp_path}/r", environ=put, uid=os.geteuid()).data == expected.format(
        t=tmp_path
    )


def test_run_root_is_below_the_session_directory(tmp_path: Path) -> None:
    roots = find_roots(environ={"HOME": "/h", "XDG_RUNTIME_DIR": str(tmp_path)}, uid=os.geteuid())
    assert roots.run == f"{tmp_path}/rootless"
    assert os.stat(roots.run).st_mode & 0o7777 == 0o700


def test_relative_roots_are_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_roots(root="a/../b", runroot="r", environ={}, uid=os.geteuid()) == Roots(
        f"{tmp_path}/b", f"{tmp_path}/r", "/var/tmp"
    )


def test_a_run_root_of_another_user_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir()
    with pytest.raises(StoreError, match=f"belongs to uid {os.geteuid()}, not to you") as caught:
        find_roots(runroot=f"{tmp_path}/r", environ={"HOME": "/h"}, uid=os.geteuid() + 1)
    assert "--runroot" in (caught.value.hint or "")


def test_a_link_of_another_user_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "r").symlink_to(tmp_path / "mine")
    with pytest.raises(StoreError, match="symbolic link"):
        find_roots(runroot=f"{tmp_path}/r", environ={"HOME": "/h"}, uid=os.geteuid() + 1)
    assert find_roots(runroot=f"{tmp_path}/r", environ={"HOME": "/h"}, uid=os.geteuid()).run == f"{tmp_path}/r"


def test_an_open_run_root_is_closed(tmp_path: Path) -> None:
    (tmp_path / "r").mkdir(mode=0o777)
    find_roots(runroot=f"{tmp_path}/r", environ={"HOME": "/h"}, uid=os.geteuid())
    assert os.stat(tmp_path / "r").st_mode & 0o7777 == 0o700


def test_a_file_as_root_is_refused(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("")
    with pytest.raises(StoreError, match="not a directory"):
        find_roots(runroot=f"{tmp_path}/f", environ={"HOME": "/h"}, uid=os.geteuid())


def test_no_home_is_said(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no home directory") as caught:
        find_roots(runroot=f"{tmp_path}/r", environ={}, uid=3_999_999_999)
    assert "--root" in (caught.value.hint or "")


def test_a_home_that_cannot_be_written_names_the_flag() -> None:
    roots = Roots(data="/proc/self/rootless", run="/tmp", tmp="/tmp")
    with pytest.raises(StoreError, match="/proc/self") as caught:
        layout.prepare_data(roots)
    assert "--root DIR" in (caught.value.hint or "")


def test_preparing_makes_private_directories_whatever_the_umask(tmp_path: Path) -> None:
    roots = roots_of(tmp_path)
    before = os.umask(0o277)
    try:
        layout.prepare_data(roots)
    finally:
        os.umask(before)
    for name in ("", "/l", "/layers", "/images", "/refs", "/staging", "/blobs/sha256"):
        assert os.stat(roots.data + name).st_mode & 0o7777 == 0o700
    assert layout.read_format(roots) == layout.FORMAT
    layout.prepare_data(roots)


@pytest.mark.parametrize("text", ["2\n", "", "x"])
def test_another_format_is_refused(tmp_path: Path, text: str) -> None:
    roots = roots_of(tmp_path)
    layout.prepare_data(roots)
    Path(roots.data, "format").write_text(text)
    with pytest.raises(Corrupt, match="format"):
        layout.prepare_data(roots)


def test_readers_share_and_a_deleter_is_alone(tmp_path: Path) -> None:
    roots = roots_of(tmp_path)
    with layout.lock_shared(roots), layout.lock_shared(roots):
        assert isinstance(layout.lock_exclusive(roots), str)
    held = layout.lock_exclusive(roots)
    assert isinstance(held, DataLock)
    assert isinstance(layout.lock_exclusive(roots), str)
    held.close()
    held.close()
    layout.lock_shared(roots).close()
