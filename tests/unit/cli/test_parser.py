"""The parser of flag tables: pflag's habits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli.help import command_help
from rootless.cli.parser import Command, FlagError, HelpWanted, Parsed, go_integer, parse, split_csv
from rootless.errors import UsageError
from rootless.plan.options import GlobalOptions

COMMAND = Command(
    "try",
    "Try the parser",
    "[options] IMAGE [COMMAND]",
    flags=(
        ("env", "e", "array", "", "", "Set a variable", ""),
        ("interactive", "i", "bool", "", "", "Keep stdin", ""),
        ("label", "l", "strings", "", "", "Set labels", ""),
        ("memory", "m", "string", "SIZE", '"1g"', "Set a limit", ""),
        ("number", "n", "int", "", "", "Set a number", ""),
        ("retries", "", "uint", "", "", "Set retries", ""),
        ("share", "", "float", "", "", "Set a share", ""),
        ("tty", "t", "bool", "", "", "Make a terminal", ""),
        ("later", "", "string", "", "", "", "it is not there yet"),
    ),
    aliases=(("mem", "memory"),),
    interspersed=False,
    min_args=1,
)


def read(*argv: str) -> Parsed:
    return parse(COMMAND, list(argv), GlobalOptions())[0]


@pytest.mark.parametrize(
    ("argv", "values", "args"),
    [
        (["x"], {}, ("x",)),
        (["-it", "x"], {"interactive": ["true"], "tty": ["true"]}, ("x",)),
        (["-ite", "A=b", "x"], {"interactive": ["true"], "tty": ["true"], "env": ["A=b"]}, ("x",)),
        (["-eA=b", "-e", "C", "--env=D=e", "--env", "F", "x"], {"env": ["A=b", "C", "D=e", "F"]}, ("x",)),
        (["-e=A=b", "x"], {"env": ["A=b"]}, ("x",)),
        (["-it=false", "x"], {"interactive": ["true"], "tty": ["false"]}, ("x",)),
        (["--tty=0", "x"], {"tty": ["0"]}, ("x",)),
        (["--tty", "false", "x"], {"tty": ["true"]}, ("false", "x")),
        (["-l", 'a,"b,c",d', "-l", "e", "x"], {"label": ["a", "b,c", "d", "e"]}, ("x",)),
        (["-l", "", "x"], {"label": []}, ("x",)),
        (["--mem", "2g", "-m", "3g", "x"], {"memory": ["3g"]}, ("x",)),
        (["--memory=", "x"], {"memory": [""]}, ("x",)),
        (["x", "-t", "--frob"], {}, ("x", "-t", "--frob")),
        (["-t", "--", "-x"], {"tty": ["true"]}, ("-x",)),
        (["-", "-t"], {}, ("-", "-t")),
        (["-n", "-5", "x"], {"number": ["-5"]}, ("x",)),
    ],
)
def test_forms_of_flags(argv: list[str], values: dict[str, list[str]], args: tuple[str, ...]) -> None:
    parsed = read(*argv)
    assert (parsed.values, parsed.args) == (values, args)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--frob", "x"], "unknown flag: --frob"),
        (["-xyz"], "unknown shorthand flag: 'x' in -xyz"),
        (["-ixyz"], "unknown shorthand flag: 'x' in -xyz"),
        (["-e"], "flag needs an argument: 'e' in -e"),
        (["-ie"], "flag needs an argument: 'e' in -e"),
        (["--env"], "flag needs an argument: --env"),
        (["--=x"], "bad flag syntax: --=x"),
        (["---x"], "bad flag syntax: ---x"),
        (
            ["--tty=maybe"],
            'invalid argument "maybe" for "-t, --tty" flag: strconv.ParseBool: parsing "maybe": invalid syntax',
        ),
        (["-n", "x"], 'invalid argument "x" for "-n, --number" flag: strconv.ParseInt: parsing "x": invalid syntax'),
        (
            ["--retries=-1"],
            'invalid argument "-1" for "--retries" flag: strconv.ParseUint: parsing "-1": invalid syntax',
        ),
        (
            ["--number", "99999999999999999999"],
            'invalid argument "99999999999999999999" for "-n, --number" flag: '
            'strconv.ParseInt: parsing "99999999999999999999": value out of range',
        ),
        (["--share=q"], 'invalid argument "q" for "--share" flag: strconv.ParseFloat: parsing "q": invalid syntax'),
        (["--later", "1", "x"], "--later is not supported: it is not there yet"),
    ],
)
def test_what_does_not_parse(argv: list[str], message: str) -> None:
    with pytest.raises(FlagError) as caught:
        read(*argv)
    assert caught.value.message == message
    assert caught.value.code == 125


def test_too_few_arguments() -> None:
    with pytest.raises(UsageError, match=r"requires at least 1 arg\(s\), only received 0"):
        read("-t")


@pytest.mark.parametrize(
    ("most", "argv", "message"),
    [
        (0, ["a"], "`rootless few` takes no arguments"),
        (1, ["a", "b"], "accepts at most 1 arg(s), received 2"),
    ],
)
def test_too_many_arguments(most: int, argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(Command("few", "", max_args=most), argv, GlobalOptions())
    assert caught.value.message == message


def test_flags_between_arguments() -> None:
    flags = (("all", "a", "bool", "", "", "", ""),)
    parsed, _ = parse(Command("mixed", "", flags=flags), ["x", "-a", "y"], GlobalOptions())
    assert parsed.flag("all")
    assert parsed.args == ("x", "y")


def test_global_flags_count_after_the_verb_too() -> None:
    before = GlobalOptions(root="/a", storage_opts=("x",))
    argv = ["--root=/b", "--storage-opt", "mountopt=nodev", "--log-level", "debug", "--storage-driver", "fuse", "x"]
    _, after = parse(COMMAND, argv, before)
    assert after == GlobalOptions(
        root="/b", storage_opts=("x", "mountopt=nodev"), log_level="debug", storage_driver="fuse"
    )


def test_a_mount_program_is_the_fuse_driver() -> None:
    argv = ["--storage-opt", "overlay.mount_program=/usr/bin/fuse-overlayfs", "x"]
    assert parse(COMMAND, argv, GlobalOptions())[1].storage_driver == "fuse"
    assert parse(COMMAND, argv, GlobalOptions(storage_driver="copy"))[1].storage_driver == "copy"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--storage-driver", "frob"], "unknown storage driver 'frob'"),
        (
            ["--cgroup-manager", "frob"],
            "configuring runtime: cgroup manager must be one of cgroupfs and systemd: invalid argument",
        ),
        (["--storage-opt", "foo"], "unable to parse key/value option: foo"),
        (["--storage-opt", "overlay.foo=1"], "overlay: Unknown option foo"),
        (["--storage-opt", "overlay.mountopt=metacopy=on"], "overlay: Unknown option mountopt"),
        (["--storage-opt", "zfs.foo=1"], "unknown storage option zfs.foo"),
    ],
)
def test_global_flags_with_unknown_values(argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse(COMMAND, [*argv, "x"], GlobalOptions())
    assert caught.value.message == message


def test_unknown_log_level() -> None:
    with pytest.raises(UsageError, match='Log Level "foo" is not supported, choose from: trace, debug'):
        parse(COMMAND, ["--log-level", "foo", "x"], GlobalOptions())


@pytest.mark.parametrize("argv", [["--help"], ["-t", "--help"], ["-h"], ["--help", "x"]])
def test_help_is_wanted(argv: list[str]) -> None:
    with pytest.raises(HelpWanted):
        read(*argv)


def test_help_after_the_image_belongs_to_the_container() -> None:
    assert read("x", "--help").args == ("x", "--help")


def test_help_text_names_every_flag_and_why_one_is_refused() -> None:
    text = command_help(COMMAND)
    assert "  rootless try [options] IMAGE [COMMAND]\n" in text
    for row in COMMAND.flags:
        assert f"--{row[0]}" in text
    assert '  -m, --memory SIZE       Set a limit (default "1g")' in text
    assert "(not supported: it is not there yet)" in text


@pytest.mark.parametrize(
    ("text", "number"), [("0", 0), ("-7", -7), ("+7", 7), ("0x10", 16), ("010", 8), ("0o17", 15), ("0b11", 3)]
)
def test_integers_as_go_reads_them(text: str, number: int) -> None:
    assert go_integer(text) == number


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("", []),
        ("a", ["a"]),
        ("a,,b", ["a", "", "b"]),
        ('"a,b",c', ["a,b", "c"]),
        ('"a""b"', ['a"b']),
        ('a,"b"', ["a", "b"]),
    ],
)
def test_comma_separated_fields(text: str, fields: list[str]) -> None:
    assert split_csv(text) == (fields, "")


@pytest.mark.parametrize("text", ['a"b', '"a', '"a"b', 'a,"b'])
def test_wrong_quotes(text: str) -> None:
    assert split_csv(text)[1].startswith("parse error on line 1, column ")


@given(st.lists(st.text(st.characters(blacklist_characters="\n\r")), min_size=1))
def test_quoted_fields_come_back(fields: list[str]) -> None:
    text = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert split_csv(text) == (fields, "")


@given(st.lists(st.text(max_size=6), max_size=5))
def test_any_argv_is_parsed_or_refused(argv: list[str]) -> None:
    try:
        read(*argv)
    except (UsageError, HelpWanted):
        pass


@given(st.lists(st.sampled_from(["-t", "-i", "--tty=true", "-eA", "--env=B", "-m1"])), st.lists(st.text()))
def test_arguments_of_the_container_are_untouched(flags: list[str], rest: list[str]) -> None:
    assert read(*flags, "image", *rest).args == ("image", *rest)
