"""Completion: what may stand at the last word, from the tables that help is printed from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.cli.commands import complete
from rootless.plan.options import GlobalOptions
from rootless.store import containers, layout
from rootless.store.containers import Container


@pytest.fixture
def options(tmp_path: Path) -> GlobalOptions:
    """Roots with two containers, of which none runs."""
    roots = layout.Roots(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path))
    (tmp_path / "run").mkdir(mode=0o700)
    layout.prepare_data(roots)
    for name, letter in (("web", "a"), ("db", "b")):
        data: dict[str, Any] = {"name": name, "created": name, "machine": containers.machine_id(), "image": "i"}
        data |= {"image_id": "x", "state": {"status": "exited"}}
        containers.create(roots, Container(letter * 64, name, data))
    return GlobalOptions(root=roots.data, runroot=roots.run, tmpdir=roots.tmp)


def values(words: str, options: GlobalOptions) -> tuple[list[str], int]:
    found, directive = complete.candidates(words.split(" "), options)
    return [value for value, _ in found], directive


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("p", ["pause", "port", "ps", "pull"]),
        ("container pr", ["prune"]),
        ("--log-level w", ["warn"]),
        ("--log-level=w", ["--log-level=warn"]),
        ("ps --f", ["--filter", "--format"]),
        ("ps -n 3 --fo", ["--format"]),
        ("ps --sort s", ["size", "status"]),
        ("run --pull=al", ["--pull=always"]),
        ("start ", ["db", "web"]),
        ("start w", ["web"]),
        ("rm web ", ["db"]),
        ("rm aaa", ["a" * 12]),
        ("rename web ", []),
        ("stop ", []),
        ("help com", ["completion"]),
        ("run image ", []),
        ("top web ppi", ["ppid"]),
        ("completion f", ["fish"]),
        ("nosuch ", []),
    ],
)
def test_candidates(words: str, expected: list[str], options: GlobalOptions) -> None:
    assert values(words, options)[0] == expected


def test_directives(options: GlobalOptions) -> None:
    assert values("ps --filter st", options) == (["status="], complete.NO_FILES | complete.NO_SPACE)
    assert values("run -v /", options) == ([], 0)
    assert values("ps ", options) == ([], complete.NO_FILES)


def test_every_flag_of_a_verb_is_offered(options: GlobalOptions) -> None:
    from rootless.cli.table_run import COMMAND

    offered = set(values("run --", options)[0])
    for row in COMMAND.flags:
        assert (f"--{row[0]}" in offered) == (not row[6]), row[0]


def test_lines_for_the_scripts(options: GlobalOptions, capsys: pytest.CaptureFixture[str]) -> None:
    assert complete.main(["ps", "--forma"], options) == 0
    assert capsys.readouterr().out == "--format\tPretty-print containers to JSON or using a Go template\n:4\n"
    complete.main(["--no-desc", "ps", "--forma"], options)
    assert capsys.readouterr().out == "--format\n:4\n"
