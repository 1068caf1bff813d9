"""Man pages and help come from the tables of the verbs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from rootless.cli import main as program
from rootless.cli import manpage, tables
from rootless.cli.help import command_help
from rootless.cli.parser import Command
from rootless.plan.options import GlobalOptions

ROOT = Path(__file__).resolve().parents[3]


def test_the_pages_in_the_tree_are_current() -> None:
    """docs/man is what scripts/gen_man.py writes: run it after a table has changed."""
    spec = importlib.util.spec_from_file_location("gen_man", ROOT / "scripts/gen_man.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    there = {path.name: path.read_text() for path in (ROOT / "docs/man").glob("*.1")}
    made: dict[str, str] = script.pages()
    assert sorted(there) == sorted(made)
    assert [name for name, text in made.items() if there[name] != text] == []


def test_a_page_says_what_help_says() -> None:
    commands = tables.every_command(GlobalOptions())
    assert {"run", "ps", "inspect", "container unit", "network ls"} <= set(commands)
    for command in commands.values():
        page, text = manpage.command_page(command), command_help(command)
        plain = page.replace(r"\-", "-").replace(r"\fB", "").replace(r"\fR", "")
        for row in command.flags:
            assert f"--{row[0]}" in text
            assert f"--{row[0]}" in plain, f"{command.name} --{row[0]}"


def test_what_troff_would_read_is_escaped() -> None:
    command = Command(
        "x", ".dot", description="'quote\n\n  a\\b\n  c\n\nend", flags=(("f", "", "bool", "", "", "", ""),)
    )
    page = manpage.command_page(command)
    assert "\\- \\&.dot" in page and "\n\\&'quote\n.PP\n.nf\n  a\\eb\n  c\n\n.fi\nend\n" in page


def test_help_man(capsys: pytest.CaptureFixture[str]) -> None:
    assert program.main(["help", "--man", "container", "unit"]) == 0
    assert capsys.readouterr().out.startswith('.TH "ROOTLESS\\-CONTAINER\\-UNIT" 1')
    assert program.main(["help", "--man", "nosuch"]) == 125


def test_every_verb_has_a_table() -> None:
    """What `--help` names can be asked for its own help; no verb is a promise."""
    missing = [words for words, _ in tables.paths() if tables.command_of(words, GlobalOptions()) is None]
    assert missing == []
