"""Small files are made later than their entries are read; nobody may be able to tell."""

from __future__ import annotations

import errno
import os
import random
import stat
from pathlib import Path
from typing import Any

import pytest

from rootless.errors import KernelError
from rootless.kernel.fds import open_fd
from rootless.proto import changeset, tar
from rootless.proto.changeset import Hardlink, LayerOp
from rootless.proto.tar import Header
from rootless.store import trees
from rootless.unpack import ownership
from rootless.unpack.extract import Extractor
from tests.support.unpacking import Node, tree
from tests.support.userns import in_userns

pytestmark = pytest.mark.requires("userns", "subuid")

NAMES = [b"a", b"b", b"a/c", b"a/d", b"b/c", b"a/c/e", b"a/c/f", b"b/c/e", b"g"]
KINDS = (tar.REGULAR,) * 6 + (tar.DIRECTORY,) * 3 + (tar.SYMLINK, tar.HARDLINK, tar.FIFO, b"w", b"o")


def entries(source: random.Random) -> list[tuple[Header, bytes]]:
    """Return a short archive whose names meet again and again."""
    found = []
    for number in range(source.randint(2, 25)):
        kind, name = source.choice(KINDS), source.choice(NAMES)
        content = b""
        if kind == tar.REGULAR:
            content = bytes([number]) * source.choice((0, 1, 700))
        parent, _, last = name.rpartition(b"/")
        prefix = parent + b"/" if parent else b""
        if kind == b"w":
            header = Header(prefix + b".wh." + last)
        elif kind == b"o":
            header = Header(name + b"/.wh..wh..opq")
        else:
            header = Header(name, kind, 0o700 + number, number, number, len(content), number * 10**9)
        if kind in (tar.SYMLINK, tar.HARDLINK):
            header.linkname = source.choice(NAMES)
        found.append((header, content))
    return found


def extracted(top: str, archive: list[tuple[Header, bytes]], *, at_once: bool) -> dict[str, Any] | str:
    """Return the tree that *archive* makes, or the error; with *at_once* every file is made before the next entry."""
    os.mkdir(top, 0o755)
    layer = Extractor(open_fd(top, os.O_RDONLY | os.O_DIRECTORY), ownership.current())
    try:
        for header, content in archive:
            op = changeset.layer_op(header)
            assert isinstance(op, LayerOp)
            if isinstance(op, Hardlink) and op.target == op.path:
                continue
            layer.apply(op)
            if content:
                layer.data(0, memoryview(content))
            if at_once:
                layer.small.flush()
        layer.end()
        sizes = layer.size_bytes
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    finally:
        layer.close()
    found = tree(top)
    first: dict[int, str] = {}
    for path in sorted(found):
        first.setdefault(found[path].inode, path)

    def told(node: Node) -> tuple[object, ...]:
        time = 0 if node.kind in "dw" else node.mtime_ns
        return (node.kind, node.mode, node.uid, time, node.content, node.xattrs, first[node.inode])

    return {"size": sizes, **{path: told(node) for path, node in found.items()}}


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_entries_is_kept(tmp_path: Path, seed: int) -> None:
    def body() -> int:
        os.umask(0)
        source = random.Random(seed)
        fine = 0
        for number in range(80):
            archive = entries(source)
            ours = extracted(f"{tmp_path}/batch{number}", archive, at_once=False)
            expected = extracted(f"{tmp_path}/once{number}", archive, at_once=True)
            assert ours == expected, [(h.name, h.type, h.linkname, len(c)) for h, c in archive]
            fine += isinstance(ours, dict)
        for entry in os.listdir(tmp_path):
            trees.remove_tree(f"{tmp_path}/{entry}")
        return fine

    assert in_userns(body, ids="subid") > 30


def test_many_directories_and_files(tmp_path: Path) -> None:
    """More directories than are kept open, more files than a batch holds, and back to the first ones."""

    def body() -> dict[str, Any] | str:
        os.umask(0)
        archive = [(Header(b"d%d" % n, tar.DIRECTORY, 0o755), b"") for n in range(200)]
        for turn in range(6):
            archive += [(Header(b"d%d/f%d" % (n, turn), size_bytes=3), b"%03d" % n) for n in range(200)]
        archive += [(Header(b"d%d/f0" % n, size_bytes=3), b"new") for n in range(200)]
        return extracted(f"{tmp_path}/t", archive, at_once=False)

    found = in_userns(body, ids="subid")
    assert isinstance(found, dict)
    assert len(found) == 1 + 1 + 200 + 1200
    assert found["size"] == 3 * 1400
    assert all(found[f"d{n}/f0"][4] == b"new" and found[f"d{n}/f5"][4] == b"%03d" % n for n in range(200))


def test_a_file_that_cannot_be_made_is_the_one_that_is_named(tmp_path: Path) -> None:
    def body() -> tuple[int | None, bytes]:
        os.umask(0)
        os.mkdir(tmp_path / "t")
        layer = Extractor(open_fd(str(tmp_path / "t"), os.O_RDONLY | os.O_DIRECTORY), ownership.current())
        directory = changeset.layer_op(Header(b"d", tar.DIRECTORY))
        assert directory is not None
        layer.apply(directory)
        for name in (b"d/one", b"d/two", b"three"):
            op = changeset.layer_op(Header(name))
            assert op is not None
            layer.apply(op)
            if name == b"d/one":
                layer.small.flush()
                os.unlink(tmp_path / "t/d/one")
                os.rmdir(tmp_path / "t/d")
        with pytest.raises(KernelError) as caught:
            layer.end()
        failed = layer.small.failed
        layer.close()
        assert failed is not None
        return caught.value.errno, failed.header.name

    assert in_userns(body, ids="subid") == (errno.ENOENT, b"d/two")
    assert stat.S_ISDIR(os.stat(tmp_path / "t").st_mode)
