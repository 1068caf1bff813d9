"""`cp`: trees are merged by descriptors; no link leads out, neither of what is copied nor of where it goes."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rootless.engine import tarstreams
from rootless.errors import RootlessError
from rootless.kernel.fds import Fd, open_fd
from rootless.kernel.undo import Undo
from rootless.mount.view import View
from rootless.store.copyinto import Merger

InUserns = Callable[..., Any]
pytestmark = pytest.mark.requires("userns")


@pytest.fixture
def source(workplace: Path) -> Path:
    tree = workplace / "source"
    (tree / "sub").mkdir(parents=True)
    (tree / "file").write_text("new")
    os.link(tree / "file", tree / "other")
    (tree / "sub" / "deep").write_text("deep")
    (tree / "link").symlink_to("/etc/passwd")
    (tree / "file").chmod(0o4755)
    os.utime(tree / "file", ns=(1, 2_000_000_001))
    return tree


def opened(path: Path) -> Fd:
    return open_fd(str(path), os.O_RDONLY | os.O_DIRECTORY)


def merge(source: Path, target: Path, *, overwrite: bool = False) -> None:
    merger = Merger(lambda uid, gid: (0, 0), overwrite=overwrite)
    try:
        with opened(source) as src, opened(target) as dst:
            merger.contents(src, dst)
    finally:
        merger.close()


def test_trees_are_merged(source: Path, workplace: Path, in_userns: InUserns) -> None:
    target = workplace / "target"
    (target / "sub").mkdir(parents=True)
    (target / "sub" / "kept").write_text("kept")
    (target / "file").write_text("old")

    def body() -> list[Any]:
        merge(source, target)
        info = (target / "file").stat()
        return [
            sorted(os.listdir(target)), sorted(os.listdir(target / "sub")), (target / "file").read_text(),
            oct(info.st_mode), info.st_mtime_ns, info.st_ino == (target / "other").stat().st_ino,
            os.readlink(target / "link"),
        ]  # fmt: skip

    assert in_userns(body) == [
        ["file", "link", "other", "sub"], ["deep", "kept"], "new", oct(stat.S_IFREG | 0o4755), 2_000_000_001, True,
        "/etc/passwd",
    ]  # fmt: skip


def test_links_in_the_target_are_replaced_not_followed(source: Path, workplace: Path, in_userns: InUserns) -> None:
    outside = workplace / "outside"
    outside.mkdir()
    (outside / "secret").write_text("secret")
    target = workplace / "target"
    target.mkdir()
    (target / "file").symlink_to(outside / "secret")
    (target / "sub").symlink_to(outside)

    def body() -> list[Any]:
        with pytest.raises(RootlessError, match="sub: exists but is not a directory"):
            merge(source, target)
        merge(source, target, overwrite=True)
        return [(target / "file").is_symlink(), (target / "sub").is_symlink(), sorted(os.listdir(outside)),
                (outside / "secret").read_text()]  # fmt: skip

    assert in_userns(body) == [False, False, ["secret"], "secret"]


def test_a_directory_in_the_way(source: Path, workplace: Path, in_userns: InUserns) -> None:
    target = workplace / "target"
    (target / "file" / "full").mkdir(parents=True)

    def body() -> str:
        with pytest.raises(RootlessError, match="file: exists but is a directory"):
            merge(source, target)
        merge(source, target, overwrite=True)
        return (target / "file").read_text()

    assert in_userns(body) == "new"


def extract(data: bytes, target: Path, workplace: Path) -> None:
    archive = workplace / "archive"
    archive.write_bytes(data)
    with opened(target) as directory, open(archive, "rb") as stream:
        view = View(directory, Undo(), None, None)
        tarstreams.extract(stream.fileno(), directory, view, (0, 0), overwrite=False)


def made(*members: tuple[str, bytes, str], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as tar:  # type: ignore[call-overload]
        for name, kind, text in members:
            member = tarfile.TarInfo(name)
            member.type = kind
            if kind == tarfile.REGTYPE:
                member.size = len(text)
                tar.addfile(member, io.BytesIO(text.encode()))
            else:
                member.linkname = text
                tar.addfile(member)
    return out.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
def test_an_archive_is_unpacked(mode: str, workplace: Path, in_userns: InUserns) -> None:
    target = workplace / "target"
    target.mkdir()
    data = made(
        ("a/b", tarfile.REGTYPE, "text"), ("a/l", tarfile.SYMTYPE, "b"), ("h", tarfile.LNKTYPE, "a/b"), mode=mode
    )

    def body() -> list[Any]:
        extract(data, target, workplace)
        return [(target / "a" / "b").read_text(), os.readlink(target / "a" / "l"), (target / "h").stat().st_nlink]

    assert in_userns(body) == ["text", "b", 2]


@pytest.mark.parametrize(
    "members",
    [
        (("../evil", tarfile.REGTYPE, "x"),),
        (("out", tarfile.SYMTYPE, "../outside"), ("out/evil", tarfile.REGTYPE, "x")),
        (("l", tarfile.LNKTYPE, "../outside/secret"),),
    ],
)
def test_archives_that_lead_out(
    members: tuple[tuple[str, bytes, str], ...], workplace: Path, in_userns: InUserns
) -> None:
    outside, target = workplace / "outside", workplace / "target"
    outside.mkdir()
    target.mkdir()
    (outside / "secret").write_text("secret")

    def body() -> list[str]:
        with pytest.raises(RootlessError):
            extract(made(*members), target, workplace)
        return [*sorted(os.listdir(outside)), *[name for name in os.listdir(target) if name != "out"]]

    assert in_userns(body) == ["secret"]


def test_a_tree_as_an_archive(source: Path, workplace: Path, in_userns: InUserns) -> None:
    path = workplace / "archive"

    def body() -> list[Any]:
        with opened(source) as src, open(path, "wb") as out:
            tarstreams.write(out.fileno(), src, b"top", None)
        with tarfile.open(path) as tar:
            return sorted([(m.name, m.type, m.linkname) for m in tar])

    found = in_userns(body)
    assert [entry[0] for entry in found] == ["top", "top/file", "top/link", "top/other", "top/sub", "top/sub/deep"]
    assert sorted([entry[1] for entry in found if entry[0] in ("top/file", "top/other")]) == [b"0", b"1"]
    assert ("top/link", b"2", "/etc/passwd") in found


def test_what_is_no_archive(workplace: Path, in_userns: InUserns) -> None:
    target = workplace / "target"
    target.mkdir()

    def body() -> None:
        with pytest.raises(RootlessError, match=r"source must be a \(compressed\) tar archive"):
            extract(b"garbage", target, workplace)

    in_userns(body)
