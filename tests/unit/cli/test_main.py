"""The dispatcher: verbs, help, errors and exit statuses."""

from __future__ import annotations

import sys
import types

import pytest

from rootless import __version__
from rootless.cli import main as program
from rootless.errors import ExecNotFound, RegistryError, UsageError
from rootless.plan.options import GlobalOptions

Captured = pytest.CaptureFixture[str]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """Give a stand-in for the module of the verb `pull`."""
    module = types.ModuleType("rootless.cli.commands.pull")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return module


@pytest.mark.parametrize("argv", [["--version"], ["-v"], ["--root", "/x", "--version"]])
def test_version(argv: list[str], capsys: Captured) -> None:
    assert program.main(argv) == 0
    assert capsys.readouterr().out == f"rootless version {__version__}\n"


@pytest.mark.parametrize("argv", [["--help"], ["-h"], ["help"]])
def test_help_names_every_verb(argv: list[str], capsys: Captured) -> None:
    assert program.main(argv) == 0
    text = capsys.readouterr().out
    assert "\n  rootless [options] COMMAND\n" in text
    for verb in (*program.VERBS, *program.GROUPS):
        assert f"\n  {verb} " in text


def test_no_verb(capsys: Captured) -> None:
    assert program.main([]) == 125
    caught = capsys.readouterr()
    assert caught.err == "Error: missing command 'rootless COMMAND'\n"
    assert "Available Commands" in caught.out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["frob"], "Error: unrecognized command `rootless frob`\nTry 'rootless --help' for more information\n"),
        (
            ["imges"],
            "Error: unrecognized command `rootless imges`\n\nDid you mean this?\n\timages\n\timage\n\n"
            "Try 'rootless --help' for more information\n",
        ),
        (
            ["image", "frob"],
            "Error: unrecognized command `rootless image frob`\nTry 'rootless image --help' for more information\n",
        ),
        (["commit"], "Error: `rootless commit` is not there yet: podman has this command, rootless does not\n"),
        (
            ["generate", "systemd", "x"],
            "Error: `rootless generate` does not exist: `rootless container unit NAME` prints a systemd unit; there is "
            "nothing else to generate\n",
        ),
        (
            ["image", "prune"],
            "Error: `rootless image prune` is not there yet: podman has this command, rootless does not\n",
        ),
        (["--frob"], "Error: unknown flag: --frob\nSee 'rootless --help'\n"),
    ],
)
def test_verbs_that_are_not_there(argv: list[str], message: str, capsys: Captured) -> None:
    assert program.main(argv) == 125
    assert capsys.readouterr().err == message


def test_no_verb_is_both_there_and_refused() -> None:
    assert not set(program.LATER) & {*program.VERBS, *program.GROUPS}
    for group, members in program.LATER_IN_GROUP.items():
        assert not set(members) & set(program.GROUPS[group][1])


def test_a_verb_gets_its_argv_and_the_global_options(command: types.ModuleType) -> None:
    seen: list[tuple[list[str], GlobalOptions]] = []

    def main(argv: list[str], options: GlobalOptions) -> int:
        seen.append((argv, options))
        return 7

    command.main = main  # type: ignore[attr-defined]
    assert program.main(["--root", "/r", "--storage-driver=fuse", "pull", "-q", "x"]) == 7
    assert program.main(["image", "pull", "y"]) == 7
    assert seen == [(["-q", "x"], GlobalOptions(root="/r", storage_driver="fuse")), (["y"], GlobalOptions())]


@pytest.mark.parametrize(
    ("error", "status", "text"),
    [
        (UsageError("bad flag"), 125, "Error: bad flag\n"),
        (ExecNotFound("no such program"), 127, "Error: no such program\n"),
        (RegistryError("no answer", hint="try again"), 125, "Error: no answer\nhint: try again\n"),
        (FileNotFoundError(2, "No such file or directory", "/x"), 125, "Error: /x: no such file or directory\n"),
        (KeyboardInterrupt(), 130, ""),
        (ExceptionGroup("", [ValueError("x"), ExceptionGroup("", [UsageError("inner")])]), 125, "Error: inner\n"),
    ],
)
def test_errors_become_a_line_and_a_status(
    error: BaseException, status: int, text: str, command: types.ModuleType, capsys: Captured
) -> None:
    def main(argv: list[str], options: GlobalOptions) -> int:
        raise error

    command.main = main  # type: ignore[attr-defined]
    assert program.main(["pull", "x"]) == status
    assert capsys.readouterr().err == text


def test_a_fault_of_ours_asks_for_a_report(command: types.ModuleType, capsys: Captured) -> None:
    def main(argv: list[str], options: GlobalOptions) -> int:
        raise ZeroDivisionError("x")

    command.main = main  # type: ignore[attr-defined]
    assert program.main(["pull", "x"]) == 125
    text = capsys.readouterr().err
    assert "Error: internal error: ZeroDivisionError: x\nhint: this is a bug of rootless" in text
