"""Parse argv as podman does (pflag's habits), from tables of plain tuples.

A table row is a constant, so a command's whole table costs nothing to build: argparse alone would
cost more than the interpreter's start. The same rows give `--help` (cli/help.py) and completion.

Shape:  row = (long name, short letter or "", kind, metavar or "", default as shown or "", help text, refusal)
        kind = bool | string | strings (comma separated, may be repeated) | array (may be repeated) |
               int | uint | float; a row whose refusal is not empty is known, and refused with that reason; one whose
               refusal begins with "~" is accepted, and what follows says why it can do nothing here
Source: podman 4.3; pflag's README "Command line flag syntax" for --x=y, -xyz, -xVALUE, --, -
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan.globaloptions import GlobalOptions
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = tuple[str, str, str, str, str, str, str]

GLOBAL_FLAGS: tuple[Row, ...] = (
    ("cgroup-manager", "", "string", "", "", 'Cgroup manager to use ("cgroupfs"|"systemd"|"none")', ""),
    ("log-level", "", "string", "", '"warn"',
     "Log messages above specified level (trace, debug, info, warn, warning, error, fatal, panic)", ""),
    ("noout", "", "bool", "", "", "Do not output to stdout", ""),
    ("root", "", "string", "", "", "Path to the root directory in which data, including images, is stored", ""),
    ("runroot", "", "string", "", "", "Path to the 'run directory' where all state information is stored", ""),
    ("storage-driver", "", "string", "", "", "How images are mounted (auto|overlay|fuse|copy)", ""),
    ("storage-opt", "", "array", "", "", "Option of the storage driver", ""),
    ("tmpdir", "", "string", "", "", "Path to the directory for temporary files (default: TMPDIR, else /var/tmp)", ""),
)  # fmt: skip

DRIVERS = ("", "auto", "overlay", "fuse", "copy", "vfs")
CGROUP_MANAGERS = ("", "cgroupfs", "systemd", "none")
LOG_LEVELS = ("trace", "debug", "info", "warn", "warning", "error", "fatal", "panic")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")


@record
class Command:
    """One verb: what `--help` says and what its argv may hold.

    Shape: *name* is what stands after the program's name ("run", "image ls"); *usage* what follows it;
    *aliases* are pairs (other spelling, flag); *max_args* -1 is any number. *interspersed* is false
    where the first argument ends the flags (run, exec).
    """

    name: str
    summary: str
    usage: str = ""
    description: str = ""
    flags: tuple[Row, ...] = ()
    examples: tuple[str, ...] = ()
    aliases: tuple[tuple[str, str], ...] = ()
    interspersed: bool = True
    min_args: int = 0
    max_args: int = -1


class FlagError(UsageError):
    """A flag that does not parse; *command* is the verb whose --help says more."""

    def __init__(self, message: str, command: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.command = command


class HelpWanted(Exception):
    """`--help` was given: not an error, caught by cli/main.py."""

    def __init__(self, command: Command) -> None:
        super().__init__(command.name)
        self.command = command


@record
class Parsed:
    """What a command line said. A flag that was not given has no entry in *values*."""

    values: dict[str, list[str]]
    args: tuple[str, ...]

    def given(self, name: str) -> bool:
        """Say whether --NAME was on the command line."""
        return name in self.values

    def flag(self, name: str, default: bool = False) -> bool:
        """Return a bool flag."""
        found = self.values.get(name)
        return default if found is None else found[-1] in _TRUE

    def text(self, name: str, default: str = "") -> str:
        """Return a string flag; the last one wins."""
        found = self.values.get(name)
        return default if found is None else found[-1]

    def number(self, name: str) -> int | None:
        """Return an int or uint flag, None when it was not given."""
        found = self.values.get(name)
        return None if found is None else go_integer(found[-1])

    def many(self, name: str) -> tuple[str, ...]:
        """Return all values of a strings or array flag."""
        return tuple(self.values.get(name, ()))


def parse(command: Command, argv: list[str], options: GlobalOptions) -> tuple[Parsed, GlobalOptions]:
    """Read the argv of *command*; global flags are accepted here too and override *options*.

    Raises: FlagError with podman's words; UsageError for a wrong number of arguments; HelpWanted
    """
    rows = {row[0]: row for row in GLOBAL_FLAGS}
    for row in command.flags:
        rows[row[0]] = row
    parsed = scan(command, rows, argv, command.interspersed)
    count, least, most = len(parsed.args), command.min_args, command.max_args
    if most == 0 and count:
        raise UsageError(f"`rootless {command.name}` takes no arguments")
    if least == most and count != least:
        raise UsageError(f"accepts {least} arg(s), received {count}")
    if count < least:
        raise UsageError(f"requires at least {least} arg(s), only received {count}")
    if 0 <= most < count:
        raise UsageError(f"accepts at most {most} arg(s), received {count}")
    own = [row[0] for row in command.flags]
    return parsed, merge_globals(parsed, options, own)


def merge_globals(parsed: Parsed, options: GlobalOptions, own: list[str]) -> GlobalOptions:
    """Return *options* with the global flags of *parsed*, except those that the command itself defines.

    Raises: UsageError for an unknown log level
    """
    changes: dict[str, str] = {}
    for name in ("root", "runroot", "tmpdir", "log-level", "storage-driver", "cgroup-manager"):
        if name in parsed.values and name not in own:
            changes[name.replace("-", "_")] = parsed.values[name][-1]
    if "log_level" in changes and changes["log_level"].lower() not in LOG_LEVELS:
        choices = ", ".join(LOG_LEVELS)
        raise UsageError(f'Log Level "{changes["log_level"]}" is not supported, choose from: {choices}')
    if changes:
        options = replace(options, **changes)
        _check_choices(changes)
    if "storage-opt" in parsed.values and "storage-opt" not in own:
        options = _storage_options(options, parsed.many("storage-opt"))
    return options


def _check_choices(given: dict[str, str]) -> None:
    driver = given.get("storage_driver", "auto")
    if driver not in DRIVERS:
        raise UsageError(f"unknown storage driver {driver!r}", hint="one of auto, overlay, fuse, copy")
    if given.get("cgroup_manager", "cgroupfs") not in CGROUP_MANAGERS:
        raise UsageError("configuring runtime: cgroup manager must be one of cgroupfs and systemd: invalid argument")


def _storage_options(options: GlobalOptions, given: tuple[str, ...]) -> GlobalOptions:
    """Apply --storage-opt: what containers-storage calls a mount program is our FUSE driver.

    Raises: UsageError for an option that has no meaning here
    """
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"unable to parse key/value option: {text}")
        scope, _, key = name.rpartition(".")
        if scope not in ("", "overlay", "overlay2", "vfs"):
            raise UsageError(f"unknown storage option {name}")
        if key == "mount_program":
            if options.storage_driver in ("", "auto", "overlay"):
                options = replace(options, storage_driver="fuse")
        elif key == "ignore_chown_errors" and value in ("true", "false"):
            pass  # owners that have no id here are squashed and recorded in any case
        elif not (key == "mountopt" and value in ("", "nodev")):  # images are always mounted nodev
            raise UsageError(
                f"overlay: Unknown option {key}", hint="mount_program, ignore_chown_errors and mountopt=nodev exist"
            )
    return replace(options, storage_opts=options.storage_opts + given)


def scan(command: Command, rows: dict[str, Row], argv: list[str], interspersed: bool) -> Parsed:
    """Split *argv* into flag values and arguments.

    Raises: FlagError, HelpWanted
    """
    values: dict[str, list[str]] = {}
    args: list[str] = []
    shorts = {row[1]: row for row in rows.values() if row[1]}
    at, end = 0, len(argv)
    wants_help = False
    while at < end:
        word = argv[at]
        at += 1
        if word == "--":
            args += argv[at:]
            break
        if word == "-" or not word.startswith("-"):
            if not interspersed:
                args += argv[at - 1 :]
                break
            args.append(word)
            continue
        if not word.startswith("--"):
            at, help_here = _bundle(command, shorts, word, argv, at, values)
            wants_help = wants_help or help_here
            continue
        name, equals, value = word[2:].partition("=")
        if not name or name.startswith("-"):
            raise FlagError(f"bad flag syntax: {word}", command.name)
        row = rows.get(name) or _alias(command, rows, name)
        if row is None:
            if name == "help":
                wants_help = True
                continue
            raise FlagError(f"unknown flag: --{name}", command.name)
        if not equals:
            if row[2] == "bool":
                value = "true"
            elif at < end:
                value = argv[at]
                at += 1
            else:
                raise FlagError(f"flag needs an argument: --{name}", command.name)
        _store(command, row, value, values)
    if wants_help or values.pop("help", ["false"])[-1] in _TRUE:
        raise HelpWanted(command)
    _refuse(command, rows, values)
    return Parsed(values, tuple(args))


def _alias(command: Command, rows: dict[str, Row], name: str) -> Row | None:
    for other, real in command.aliases:
        if other == name:
            return rows[real]
    return None


def _bundle(
    command: Command, shorts: dict[str, Row], word: str, argv: list[str], at: int, values: dict[str, list[str]]
) -> tuple[int, bool]:
    """Read `-it`, `-eA=B`, `-e A=B`, `-t=false`; return where to go on and whether -h asked for help."""
    rest = word[1:]
    while rest:
        letter, tail = rest[0], rest[1:]
        row = shorts.get(letter)
        if row is None:
            if letter == "h":
                return at, True
            raise FlagError(f"unknown shorthand flag: '{letter}' in -{rest}", command.name)
        if len(tail) > 1 and tail[0] == "=":
            _store(command, row, tail[1:], values)
            return at, False
        if row[2] == "bool":
            _store(command, row, "true", values)
            rest = tail
            continue
        if tail:
            _store(command, row, tail, values)
        elif at < len(argv):
            _store(command, row, argv[at], values)
            at += 1
        else:
            raise FlagError(f"flag needs an argument: '{letter}' in -{rest}", command.name)
        return at, False
    return at, False


def _store(command: Command, row: Row, value: str, values: dict[str, list[str]]) -> None:
    kind = row[2]
    problem = ""
    if kind == "strings":
        fields, problem = split_csv(value)
        values.setdefault(row[0], []).extend(fields)
    elif kind == "array":
        values.setdefault(row[0], []).append(value)
    else:
        if kind == "bool":
            if value not in _TRUE and value not in _FALSE:
                problem = f'strconv.ParseBool: parsing "{value}": invalid syntax'
        elif kind in ("int", "uint"):
            problem = _integer_problem(value, kind == "uint")
        elif kind == "float":
            try:
                float(value)
            except ValueError:
                problem = f'strconv.ParseFloat: parsing "{value}": invalid syntax'
        values[row[0]] = [value]
    if problem:
        shown = f"-{row[1]}, --{row[0]}" if row[1] else f"--{row[0]}"
        raise FlagError(f'invalid argument "{value}" for "{shown}" flag: {problem}', command.name)


def go_integer(text: str) -> int:
    """Read an integer as Go does with base 0: 0x, 0o, 0b and a leading 0 for octal.

    Raises: ValueError
    """
    sign, digits = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if not digits[:1].isdigit() or not digits.isascii():
        raise ValueError(text)
    octal = len(digits) > 1 and digits[0] == "0" and digits[1].isdigit()
    return sign * int("0o" + digits[1:] if octal else digits, 0)


def _integer_problem(value: str, unsigned: bool) -> str:
    """Judge an integer as Go's strconv does with base 0; "" when it is one."""
    call = "strconv.ParseUint" if unsigned else "strconv.ParseInt"
    try:
        if unsigned and value[:1] in ("+", "-"):
            raise ValueError
        number = go_integer(value)
    except ValueError:
        return f'{call}: parsing "{value}": invalid syntax'
    low, high = (0, 2**64 - 1) if unsigned else (-(2**63), 2**63 - 1)
    return "" if low <= number <= high else f'{call}: parsing "{value}": value out of range'


def split_csv(text: str) -> tuple[list[str], str]:
    """Split one line of comma-separated fields with `"` quotes; return the fields and the problem, if any."""
    if '"' not in text:
        return (text.split(",") if text else []), ""
    fields: list[str] = []
    at, end = 0, len(text)
    while at <= end:
        if text[at : at + 1] == '"':
            field, at = "", at + 1
            while True:
                close = text.find('"', at)
                if close < 0:
                    return fields, f'parse error on line 1, column {end + 1}: extraneous or missing " in quoted-field'
                field += text[at:close]
                at = close + 1
                if text[at : at + 1] != '"':
                    break
                field += '"'
                at += 1
            if at < end and text[at] != ",":
                return fields, f'parse error on line 1, column {at}: extraneous or missing " in quoted-field'
        else:
            stop = text.find(",", at)
            stop = end if stop < 0 else stop
            field = text[at:stop]
            if '"' in field:
                column = at + field.index('"') + 1
                return fields, f'parse error on line 1, column {column}: bare " in non-quoted-field'
            at = stop
        fields.append(field)
        if at >= end:
            break
        at += 1
    return fields, ""


def fate(row: Row) -> str:
    """Return what becomes of a flag: works, warns or refused."""
    return "works" if not row[6] else "warns" if row[6][0] == "~" else "refused"


def without_effect(command: Command, parsed: Parsed) -> list[str]:
    """Return a warning for each flag on the command line that can do nothing here."""
    found = {row[0]: row for row in command.flags if row[6][:1] == "~"}
    return [
        f"--{name} has no effect: {found[name][6][1:]}"
        for name, given in parsed.values.items()
        if name in found and not (found[name][2] == "bool" and given[-1] in _FALSE)
    ]


def _refuse(command: Command, rows: dict[str, Row], values: dict[str, list[str]]) -> None:
    for name, given in values.items():
        row = rows[name]
        if row[6] and row[6][0] != "~" and not (row[2] == "bool" and given[-1] in _FALSE):
            raise FlagError(f"--{name} is not supported: {row[6]}", "")
