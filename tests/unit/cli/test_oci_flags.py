"""The command line of rootless-oci: runc's habits, and crun's where they do not contradict."""

from __future__ import annotations

import pytest

from rootless.cli.oci_documents import features, starter
from rootless.cli.oci_flags import GLOBALS, VERBS, help_text, parse
from rootless.errors import UsageError
from rootless.spec.codec import decode
from rootless.spec.runtime import Spec


@pytest.mark.parametrize(
    "argv",
    [
        ["--bundle", "/b", "--pid-file", "p", "id"],
        ["-bundle=/b", "-pid-file=p", "id"],
        ["-b", "/b", "-pid-file", "p", "id"],
        ["id", "--bundle=/b", "--pid-file=p"],
    ],
)
def test_spellings_mean_the_same(argv: list[str]) -> None:
    words = parse(VERBS["create"].flags, argv, interspersed=True)
    assert (words.text("bundle"), words.text("pid-file"), words.args) == ("/b", "p", ("id",))


def test_the_command_of_exec_keeps_its_flags() -> None:
    words = parse(
        VERBS["exec"].flags,
        ["-td", "-e", "A=1", "--env=B=2", "-u1:2", "id", "ls", "-l", "--", "-t"],
        interspersed=False,
    )
    assert words.args == ("id", "ls", "-l", "--", "-t")
    assert words.flag("tty") and words.flag("detach") and not words.flag("ignore-paused")
    assert words.many("env") == ("A=1", "B=2")
    assert words.text("user") == "1:2"


@pytest.mark.parametrize("argv", [["--nope"], ["--bundle"], ["--preserve-fds", "x"], ["-z"]])
def test_wrong_flags_are_refused(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        parse(VERBS["create"].flags, argv, interspersed=True)


def test_global_flags_of_engines() -> None:
    argv = [
        "--root",
        "/r",
        "--log",
        "/l",
        "--log-format",
        "json",
        "--systemd-cgroup",
        "--rootless=true",
        "state",
        "--x",
    ]
    words = parse(GLOBALS, argv, interspersed=False)
    assert (words.text("root"), words.text("log"), words.text("log-format")) == ("/r", "/l", "json")
    assert words.flag("systemd-cgroup") and words.args == ("state", "--x")


@pytest.mark.parametrize("verb", ["", *VERBS])
def test_help_names_the_program_and_the_verb(verb: str) -> None:
    lines = help_text(verb).splitlines()
    assert lines[0] == "NAME:" and f"rootless-oci {verb}".strip() in lines[1]
    assert "USAGE:" in lines


@pytest.mark.parametrize("rootless", [True, False])
def test_the_starter_configuration_is_valid(rootless: bool) -> None:
    assert decode(Spec, starter(rootless, 5, 6)).process is not None


def test_features_is_what_the_specification_wants() -> None:
    document = features()
    assert list(document)[:4] == ["ociVersionMin", "ociVersionMax", "hooks", "mountOptions"]
    assert "rro" in document["mountOptions"]  # type: ignore[operator]
