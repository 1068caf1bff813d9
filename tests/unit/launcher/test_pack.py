"""The pack of the start-up path: imports from it, falls back where a source changed, names the files that are here."""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from rootless import pack

BUILDER = Path(__file__).parents[3] / "scripts/hatch_build.py"


@pytest.fixture
def builder() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build_for_tests", BUILDER)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    """A package of two modules; sys is as before afterwards."""
    root = tmp_path / "tree"
    (root / "rootless").mkdir(parents=True)
    package = root / "packed_example"
    package.mkdir()
    (package / "__init__.py").write_text("where = __file__\n")
    (package / "inner.py").write_text("def fails():\n    raise ValueError('inside')\nVALUE = 1\n")
    before = list(sys.meta_path), list(sys.path), set(sys.modules)
    yield root
    sys.meta_path[:], sys.path[:] = before[0], before[1]
    for name in set(sys.modules) - before[2]:
        del sys.modules[name]


def write(builder: ModuleType, root: Path, *, checked: bool) -> None:
    vars(builder)["FIRST"] = ("packed_example.top",)
    sources = sorted(root.glob("packed_example/*.py"))
    Path(pack.pack_path(str(root))).write_bytes(pack.MAGIC + builder.pack_body(root, sources, checked=checked))


def test_modules_come_from_the_pack(builder: ModuleType, tree: Path) -> None:
    """Without any source on sys.path both modules are there, with their paths."""
    write(builder, tree, checked=True)
    pack.install(str(tree))
    inner = importlib.import_module("packed_example.inner")
    assert inner.VALUE == 1
    assert inner.__file__ == str(tree / "packed_example/inner.py")
    package = sys.modules["packed_example"]
    assert package.where == str(tree / "packed_example/__init__.py")
    assert list(package.__path__) == [str(tree / "packed_example")]


def test_a_changed_source_wins(builder: ModuleType, tree: Path) -> None:
    """An entry that is older than its source is not used; the others still are."""
    write(builder, tree, checked=True)
    (tree / "packed_example/inner.py").write_text("VALUE = 2\n")
    pack.install(str(tree))
    assert importlib.import_module("packed_example.inner").VALUE == 2


def test_a_source_that_is_gone_is_not_imported(builder: ModuleType, tree: Path) -> None:
    """What was deleted stays deleted."""
    write(builder, tree, checked=True)
    (tree / "packed_example/inner.py").unlink()
    pack.install(str(tree))
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("packed_example.inner")


def test_a_pack_that_moved_names_the_files_that_are_here(builder: ModuleType, tree: Path) -> None:
    """As in a wheel: compiled in one place, installed in another, times not compared."""
    write(builder, tree, checked=False)
    moved = tree.parent / "moved"
    shutil.copytree(tree, moved)
    os.utime(moved / "packed_example/inner.py", (1, 1))
    pack.install(str(moved))
    inner = importlib.import_module("packed_example.inner")
    with pytest.raises(ValueError, match="inside") as caught:
        inner.fails()
    assert str(caught.traceback[-1].path) == str(moved / "packed_example/inner.py")


def test_a_pack_that_is_replaced_meanwhile_is_left_alone(builder: ModuleType, tree: Path) -> None:
    """The offsets of one version never read the code of another."""
    write(builder, tree, checked=False)
    pack.install(str(tree))
    importlib.import_module("packed_example")
    (tree / "packed_example/__init__.py").write_text("# longer\n" * 50)
    path = Path(pack.pack_path(str(tree)))
    path.rename(path.with_suffix(".old"))
    write(builder, tree, checked=False)
    assert importlib.import_module("packed_example.inner").VALUE == 1
    modules = list(sys.modules.items())
    from_pack = {name for name, module in modules if isinstance(getattr(module, "__loader__", None), pack.Pack)}
    assert from_pack == {"packed_example"}


def batch(tree: Path, **sources: str) -> None:
    for name, text in sources.items():
        (tree / f"packed_example/{name}.py").write_text(text)


def test_what_a_module_stands_on_is_run_before_it(builder: ModuleType, tree: Path) -> None:
    """In Python's order, each once, and known to its package; what is asked for on a condition waits."""
    batch(
        tree,
        log="seen = []\n",
        low="from packed_example.log import seen\nseen.append('low')\n",
        late="from packed_example.log import seen\nseen.append('late')\n",
        middle="import packed_example.low\nfrom packed_example.log import seen\nseen.append('middle')\n",
        top="from packed_example import middle\nfrom packed_example.low import seen\n"
        "if not seen:\n    import packed_example.late\nseen.append('top')\n",
    )
    write(builder, tree, checked=True)
    pack.install(str(tree))
    top = importlib.import_module("packed_example.top")
    assert top.seen == ["low", "middle", "top"]
    assert sys.modules["packed_example"].middle is top.middle
    assert top.middle.__spec__.origin == top.middle.__file__ == str(tree / "packed_example/middle.py")
    assert top.middle.__package__ == "packed_example"
    assert "packed_example.late" not in sys.modules


def test_a_module_that_fails_leaves_nothing(builder: ModuleType, tree: Path) -> None:
    """Its error is what the import raises, and the next attempt raises it again."""
    batch(tree, low="raise ValueError('inside')\n", top="import packed_example.low\n")
    write(builder, tree, checked=True)
    pack.install(str(tree))
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"):
            importlib.import_module("packed_example.top")
        assert {"packed_example.low", "packed_example.top"} & set(sys.modules) == set()


def test_a_circle_is_imported_as_python_would(builder: ModuleType, tree: Path) -> None:
    """Two modules that import each other, by name."""
    batch(
        tree,
        one="import packed_example.two\ndef value():\n    return packed_example.two.VALUE\n",
        two="import packed_example.one\nVALUE = 7\n",
    )
    write(builder, tree, checked=True)
    pack.install(str(tree))
    assert importlib.import_module("packed_example.one").value() == 7


def test_a_changed_source_below_wins(builder: ModuleType, tree: Path) -> None:
    """What was packed of it is not run, what was packed of the others is."""
    batch(tree, low="VALUE = 1\n", top="from packed_example.low import VALUE\n")
    write(builder, tree, checked=True)
    batch(tree, low="VALUE = 'changed'\n")
    sys.path.append(str(tree))
    pack.install(str(tree))
    assert importlib.import_module("packed_example.top").VALUE == "changed"
    assert isinstance(sys.modules["packed_example.top"].__loader__, pack.Pack)


@pytest.mark.parametrize("data", [b"", b"something else entirely", None])
def test_no_pack_is_no_fault(tree: Path, data: bytes | None) -> None:
    """Without a pack, or with a file that is none, nothing changes."""
    if data is not None:
        Path(pack.pack_path(str(tree))).write_bytes(data)
    before = list(sys.meta_path)
    pack.install(str(tree))
    assert sys.meta_path == before
