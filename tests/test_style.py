"""The rules of the tree that a program can check: linters, imports, sizes, words."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("rootless", "fuse_overlay", "netns")
LIMIT_LINES = 600

# Decision 11: from argv to START none of these is imported. OFF_PATH lists what is not part of that path.
BANNED_AT_START = frozenset(
    """typing dataclasses enum re json pathlib subprocess socket logging argparse trio tempfile shutil contextlib
    functools collections signal hashlib threading asyncio ssl httpx rich inspect uuid secrets""".split()
)
ON_PATH = (
    "rootless/*.py",
    "rootless/spec/*.py",
    "rootless/plan/*.py",
    "rootless/kernel/*.py",
    "rootless/stage/*.py",
    "rootless/run/**/*.py",
    "rootless/mount/*.py",
    "rootless/supervise/launch.py",
    "rootless/supervise/first.py",
    "rootless/cli/main.py",
    "rootless/cli/parser.py",
    "rootless/cli/flags_run.py",
    "rootless/cli/oci.py",
    "rootless/cli/commands/*.py",
    "rootless/cli/output.py",
    "rootless/cli/go*.py",
    "rootless/engine/*.py",
    "rootless/store/*.py",
    "rootless/supervise/client.py",
    "netns/driver.py",
    "netns/drv_*.py",
    "netns/config.py",
    "netns/resolv.py",
    "netns/addressing.py",
    "netns/rtnetlink.py",
)
OFF_PATH = ("**/build_*.py", "rootless/__main__.py", "rootless/engine/pulling.py")

PURE = ("rootless/spec", "rootless/proto", "rootless/plan")
IMPURE = frozenset("os posix socket _socket subprocess time random trio select fcntl pathlib tempfile shutil".split())
TRIO = (
    "rootless/pull",
    "rootless/unpack",
    "rootless/mount",
    "rootless/supervise",
    "rootless/engine",
    "rootless/cli",
    "netns",
)
FORKS = ("rootless/kernel/fork.py", "rootless/kernel/probe.py", "rootless/supervise/detach.py", "tests/support/")

UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")


def sources(*patterns: str, skip: tuple[str, ...] = ()) -> list[Path]:
    """Return the tracked-looking files that match *patterns*, relative to the root."""
    skipped = {path for pattern in skip for path in ROOT.glob(pattern)}
    found = {path for pattern in patterns for path in ROOT.glob(pattern)} - skipped
    return sorted(path for path in found if "__pycache__" not in path.parts and path.is_file())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def all_python() -> list[Path]:
    return sources("rootless/**/*.py", "fuse_overlay/**/*.py", "netns/**/*.py", "tests/**/*.py", "scripts/*.py")


def all_text() -> list[Path]:
    made = ("**/_*.c", "scripts/debian-packages")
    shell = sources("scripts/*", ".ci/*", "docs/**/*.md", "*.md", "*.toml", "**/src/*.c", skip=made)
    c = [p for package in PACKAGES for p in sources(f"{package}/**/*.c", f"{package}/**/*.h", skip=made)]
    return [p for p in {*all_python(), *shell, *c} if p.suffix != ".pyc"]


def imported(tree: ast.AST, *, at_import_only: bool = False) -> Iterator[tuple[int, str]]:
    """Give (line, module) of each import outside `if TYPE_CHECKING`, of those inside functions only where asked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for other in node.orelse:
                yield from imported(ast.Module([other], []), at_import_only=at_import_only)
            continue
        # A handler of ImportError is for other interpreters.
        if at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ExceptHandler):
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            yield node.lineno, node.module
        else:
            yield from imported(node, at_import_only=at_import_only)


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=False)


def tool(name: str) -> str:
    path = shutil.which(name, path=f"{Path(sys.prefix) / 'bin'}:/usr/bin:/bin")
    if path is None:
        pytest.skip(f"no {name}")
    return path


def test_modules_are_not_too_long() -> None:
    """No module of the product and no C file passes the limit."""
    made = ("**/_*.c",)
    files = [p for package in PACKAGES for p in sources(f"{package}/**/*.py", f"{package}/**/*.[ch]", skip=made)]
    long = {relative(p): n for p in files if (n := len(p.read_text().splitlines())) > LIMIT_LINES}
    assert long == {}


def test_start_up_path_imports_nothing_expensive() -> None:
    """Modules of the start-up path import nothing of the banned list when they are imported."""
    wrong = [
        f"{relative(path)}:{line} imports {name}"
        for path in sources(*ON_PATH, skip=OFF_PATH)
        for line, name in imported(ast.parse(path.read_text()), at_import_only=True)
        if name.split(".")[0] in BANNED_AT_START
    ]
    assert wrong == []


def test_pure_packages_have_no_effects() -> None:
    """spec, proto and plan import nothing with effects and never call open()."""
    wrong = []
    for path in sources(*(f"{package}/**/*.py" for package in PURE)):
        tree = ast.parse(path.read_text())
        wrong += [f"{relative(path)}:{n} imports {name}" for n, name in imported(tree) if name.split(".")[0] in IMPURE]
        wrong += [
            f"{relative(path)}:{node.lineno} calls open"
            for node in ast.walk(tree)
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open"
        ]
    assert wrong == []


def test_trio_stays_where_it_belongs() -> None:
    """trio is imported in the upper layers only, ctypes and multiprocessing nowhere."""
    wrong = []
    for path in sources(*(f"{package}/**/*.py" for package in PACKAGES)):
        for line, name in imported(ast.parse(path.read_text())):
            top = name.split(".")[0]
            if top in {"ctypes", "multiprocessing"} or (top == "trio" and not relative(path).startswith(TRIO)):
                wrong.append(f"{relative(path)}:{line} imports {name}")
    assert wrong == []


def test_fork_is_where_it_is_audited() -> None:
    """fork and preexec_fn are used in the audited places only."""
    wrong = []
    for path in all_python():
        if relative(path).startswith(FORKS):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr in {"fork", "forkpty"}:
                wrong.append(f"{relative(path)}:{node.lineno} {node.attr}")
            if isinstance(node, ast.keyword) and node.arg == "preexec_fn":
                wrong.append(f"{relative(path)}:{node.value.lineno} preexec_fn")
    assert wrong == []


def test_nothing_is_unfinished() -> None:
    """No notes to the author."""
    wrong = [
        f"{relative(path)}:{number}: {found[0]}"
        for path in all_text()
        if path != Path(__file__).resolve()
        for number, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if (found := UNFINISHED.search(line))
    ]
    assert wrong == []


def test_dependencies_have_a_reason() -> None:
    """Each dependency stands in docs/dependencies.md and docs/licences.md."""
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    names = [
        *project["project"]["dependencies"],
        *project["dependency-groups"]["dev"],
        *project["build-system"]["requires"],
    ]
    for extra in project["project"]["optional-dependencies"].values():
        names += extra
    plain = {re.split(r"[<>=\[ ;]", name)[0] for name in names} - {"rootless"}
    reasons = (ROOT / "docs/dependencies.md").read_text()
    licences = (ROOT / "docs/licences.md").read_text()
    assert sorted(name for name in plain if f"`{name}`" not in reasons) == []
    assert sorted(name for name in plain if f"`{name}`" not in licences) == []


def test_generated_header_is_current() -> None:
    """stage/wire.h is what scripts/gen_wire.py makes of plan/wire.py."""
    if not (ROOT / "scripts/gen_wire.py").exists():
        pytest.skip("no generated header yet")
    done = run(sys.executable, "scripts/gen_wire.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    """ruff finds nothing."""
    ruff = tool("ruff")
    for words in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
        done = run(ruff, *words, *PACKAGES, "tests", "scripts")
        assert done.returncode == 0, done.stdout + done.stderr


def test_shellcheck() -> None:
    """shellcheck finds nothing in the scripts."""
    scripts = [
        p for p in sources("scripts/*", ".ci/*") if p.read_bytes().startswith((b"#!/bin/sh", b"#!/usr/bin/env bash"))
    ]
    done = run(tool("shellcheck"), "-x", *map(str, scripts))
    assert done.returncode == 0, done.stdout
