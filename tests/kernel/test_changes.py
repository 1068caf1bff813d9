"""`diff`: what a writable layer says of the layers below it, with every form of whiteout, and of two trees."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.engine.changes import Layered, changes

InUserns = Callable[..., Any]
pytestmark = pytest.mark.requires("userns")


@pytest.fixture
def layers(workplace: Path) -> tuple[Path, Path]:
    base, top = workplace / "base", workplace / "top"
    for name in ("etc", "home", "usr/bin", "same"):
        (base / name).mkdir(parents=True)
    for name in ("etc/passwd", "etc/old", "usr/bin/x"):
        (base / name).write_text("")
    (top / "etc").mkdir(parents=True)
    (top / "etc" / "passwd").write_text("changed")
    (top / "etc" / "new").write_text("")
    (top / "added" / "below").mkdir(parents=True)
    return base, top


def same(top: Path, base: Path, name: str) -> None:
    """Give the directory *name* of *top* what it has in *base*, as a copy-up does."""
    (top / name).mkdir(parents=True, exist_ok=True)
    info = (base / name).stat()
    os.utime(top / name, ns=(info.st_atime_ns, info.st_mtime_ns))


def test_an_upper_layer(layers: tuple[Path, Path], in_userns: InUserns) -> None:
    base, top = layers

    def body() -> list[tuple[str, str]]:
        os.mknod(top / "home", 0o020000, 0)
        (top / "usr").mkdir()
        (top / "usr" / "bin").mkdir()
        os.setxattr(top / "usr" / "bin", "user.overlay.opaque", b"y")
        (top / "etc" / "old").write_text("")
        os.setxattr(top / "etc", "user.overlay.opaque", b"x")
        os.setxattr(top / "etc" / "old", "user.overlay.whiteout", b"")
        same(top, base, "same")
        same(top, base, "usr")
        return changes(Layered(str(top), (str(base),)))

    assert in_userns(body) == [
        ("A", "/added"), ("A", "/added/below"), ("C", "/etc"), ("A", "/etc/new"), ("D", "/etc/old"),
        ("C", "/etc/passwd"), ("D", "/home"), ("C", "/usr"), ("D", "/usr/bin"),
    ]  # fmt: skip


def test_a_whole_copy(layers: tuple[Path, Path], in_userns: InUserns) -> None:
    base, top = layers

    def body() -> list[tuple[str, str]]:
        return changes(Layered(str(top), (str(base),), whole=True))

    assert in_userns(body) == [
        ("A", "/added"), ("A", "/added/below"), ("C", "/etc"), ("A", "/etc/new"), ("D", "/etc/old"),
        ("C", "/etc/passwd"), ("D", "/home"), ("D", "/same"), ("D", "/usr"),
    ]  # fmt: skip


def test_two_objects_and_what_is_the_engines(layers: tuple[Path, Path], in_userns: InUserns) -> None:
    base, top = layers
    (top / "run" / "x").mkdir(parents=True)
    (top / "etc" / "hosts").write_text("")

    def body() -> list[list[tuple[str, str]]]:
        one, other = Layered(str(top), (str(base),)), Layered(str(base), ())
        return [changes(one, other), changes(other, other), changes(other)]

    found = in_userns(body)
    assert found[0] == [
        ("A", "/added"), ("A", "/added/below"), ("C", "/etc"), ("A", "/etc/new"), ("C", "/etc/passwd"), ("A", "/run/x"),
    ]  # fmt: skip
    assert found[1] == []
    assert {kind for kind, _ in found[2]} == {"A"}
