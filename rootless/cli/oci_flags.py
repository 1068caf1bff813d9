"""The command line of `rootless-oci`: runc's verbs and flags, and those of crun that other programs use.

Shape:  a flag row = (names, kind, help); kind is bool, string, list or int. One dash is as good as two, as
        in every program that uses Go's flag package: conmon and Slurm write both.
Source: runc(8) and its sub-pages; crun(1)
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    Row = tuple[tuple[str, ...], str, str]

GLOBALS: tuple[Row, ...] = (
    (("debug",), "bool", "write debug messages to the log"),
    (("log",), "string", "write the log to FILE (default: stderr)"),
    (("log-format",), "string", "format of the log: text (default) or json"),
    (("log-level",), "string", "least level of the log: debug, warning or error"),
    (("root",), "string", "directory of the containers' state"),
    (("systemd-cgroup",), "bool", "let the user's systemd make the cgroup"),
    (("cgroup-manager",), "string", "cgroupfs (default), systemd or disabled"),
    (("rootless",), "string", "accepted; this runtime is always rootless"),
    (("criu",), "string", "accepted and not used: there is no checkpoint"),
    (("help", "h"), "bool", "show help"),
    (("version", "v"), "bool", "print the version"),
)
_CREATE: tuple[Row, ...] = (
    (("bundle", "b"), "string", "bundle directory (default: the current one)"),
    (("config", "f"), "string", "configuration in the bundle (default: config.json)"),
    (("console-socket",), "string", "unix socket that gets the master of the terminal"),
    (("pidfd-socket",), "string", "unix socket that gets a pidfd of the process"),
    (("pid-file",), "string", "file to write the pid to"),
    (("no-pivot",), "bool", "do not use pivot_root"),
    (("no-new-keyring",), "bool", "keep the session keyring of the caller"),
    (("no-subreaper",), "bool", "accepted; this runtime is no subreaper"),
    (("preserve-fds",), "int", "number of descriptors above 2 that the container gets"),
)
_UPDATE: tuple[tuple[str, str, str, str], ...] = (
    # flag, kind, path in the resources, help
    ("resources", "string", "", "file with resources in JSON, - for stdin"),
    ("blkio-weight", "int", "blockIO/weight", "block I/O weight, 10 to 1000"),
    ("cpu-period", "int", "cpu/period", "CPU period in microseconds"),
    ("cpu-quota", "int", "cpu/quota", "CPU quota in microseconds"),
    ("cpu-burst", "int", "cpu/burst", "CPU burst in microseconds"),
    ("cpu-share", "int", "cpu/shares", "CPU shares"),
    ("cpu-rt-period", "int", "cpu/realtimePeriod", "realtime period in microseconds"),
    ("cpu-rt-runtime", "int", "cpu/realtimeRuntime", "realtime runtime in microseconds"),
    ("cpu-idle", "int", "cpu/idle", "1: run only when nothing else does"),
    ("cpuset-cpus", "string", "cpu/cpus", "CPUs to use"),
    ("cpuset-mems", "string", "cpu/mems", "memory nodes to use"),
    ("memory", "size", "memory/limit", "memory limit"),
    ("memory-reservation", "size", "memory/reservation", "memory soft limit"),
    ("memory-swap", "size", "memory/swap", "memory and swap together, -1 for no limit"),
    ("kernel-memory", "size", "memory/kernel", "cgroup v1 only"),
    ("kernel-memory-tcp", "size", "memory/kernelTCP", "cgroup v1 only"),
    ("pids-limit", "int", "pids/limit", "number of tasks, -1 for no limit"),
    ("l3-cache-schema", "string", "", "refused: Intel RDT belongs to the machine's root"),
    ("mem-bw-schema", "string", "", "refused: Intel RDT belongs to the machine's root"),
)
UPDATE_PATHS = {flag: (kind, path) for flag, kind, path, _help in _UPDATE if path}


@record
class Verb:
    """One verb: its usage behind the name, a line of help, its flags, how many arguments it takes."""

    usage: str
    summary: str
    flags: tuple[Row, ...] = ()
    least: int = 1
    most: int = 1
    interspersed: bool = True


VERBS: dict[str, Verb] = {
    "checkpoint": Verb("ID", "refused: needs CRIU and privileges", (), 0, -1),
    "create": Verb("[flags] ID", "create a container", _CREATE),
    "delete": Verb("[flags] ID", "delete what a stopped container holds", (
        (("force", "f"), "bool", "kill the container first; no error if there is none"),
        (("regex", "r"), "bool", "ID is a regular expression"),
    )),
    "events": Verb("[flags] ID", "show what a container uses, and OOM kills", (
        (("interval",), "string", "time between two outputs (default 5s)"),
        (("stats",), "bool", "show the figures once"),
    )),
    "exec": Verb("[flags] ID COMMAND [ARG...]", "run a process in a container", (
        (("console-socket",), "string", "unix socket that gets the master of the terminal"),
        (("pidfd-socket",), "string", "unix socket that gets a pidfd of the process"),
        (("cwd",), "string", "working directory"),
        (("env", "e"), "list", "NAME=VALUE for the environment"),
        (("tty", "t"), "bool", "give it a terminal"),
        (("user", "u"), "string", "UID[:GID]"),
        (("additional-gids", "g"), "list", "further groups"),
        (("process", "p"), "string", "file with the process in JSON"),
        (("detach", "d"), "bool", "do not wait for its end"),
        (("pid-file",), "string", "file to write the pid to"),
        (("process-label",), "string", "SELinux label"),
        (("apparmor",), "string", "AppArmor profile"),
        (("no-new-privs",), "bool", "set no_new_privs"),
        (("cap", "c"), "list", "add a capability"),
        (("preserve-fds",), "int", "number of descriptors above 2 that the process gets"),
        (("cgroup",), "string", "cgroup below the container's"),
        (("ignore-paused",), "bool", "allow a paused container"),
    ), 1, -1, False),
    "features": Verb("", "print what this runtime supports", (), 0, 0),
    "kill": Verb("[flags] ID [SIGNAL]", "send a signal (default SIGTERM)", (
        (("all", "a"), "bool", "to all processes of the container"),
        (("regex", "r"), "bool", "ID is a regular expression"),
    ), 1, 2),
    "list": Verb("[flags]", "list the containers of this root", (
        (("format", "f"), "string", "table (default) or json"),
        (("quiet", "q"), "bool", "ids only"),
    ), 0, 0),
    "pause": Verb("ID", "freeze all processes of a container"),
    "ps": Verb("[flags] ID [PS-OPTION...]", "show the processes of a container", (
        (("format", "f"), "string", "table (default) or json"),
    ), 1, -1, False),
    "restore": Verb("ID", "refused: needs CRIU and privileges", (), 0, -1),
    "resume": Verb("ID", "let the processes of a paused container go on"),
    "run": Verb("[flags] ID", "create and start a container", (
        *_CREATE,
        (("detach", "d"), "bool", "do not wait for its end"),
        (("keep",), "bool", "do not delete the container when it ends"),
    )),
    "spec": Verb("[flags]", "write a starter config.json", (
        (("bundle", "b"), "string", "bundle directory (default: the current one)"),
        (("rootless",), "bool", "for a user without privileges"),
        (("config", "f"), "string", "name of the file (default: config.json)"),
    ), 0, 0),
    "start": Verb("ID", "run the program of a created container"),
    "state": Verb("ID", "print the state of a container"),
    "update": Verb("[flags] ID", "change the limits of a container", tuple(
        [((("resources", "r") if flag == "resources" else (flag,)), "int" if kind == "int" else "string", text)
         for flag, kind, _path, text in _UPDATE]
    )),
}  # fmt: skip


@record
class Words:
    """What a command line said: values by the first name of each flag, and the arguments."""

    values: dict[str, list[str]]
    args: tuple[str, ...]

    def flag(self, name: str) -> bool:
        return self.values.get(name, ["false"])[-1] not in ("false", "0", "f", "F", "FALSE", "False")

    def text(self, name: str, default: str = "") -> str:
        return self.values.get(name, [default])[-1]

    def number(self, name: str) -> int:
        return int(self.values.get(name, ["0"])[-1])

    def many(self, name: str) -> tuple[str, ...]:
        return tuple(self.values.get(name, ()))


def parse(rows: tuple[Row, ...], argv: list[str], *, interspersed: bool) -> Words:
    """Read flags and arguments. Without *interspersed* the first argument ends the flags.

    Raises: UsageError
    """
    names: dict[str, tuple[str, str]] = {}
    for row in rows:
        for name in row[0]:
            names[name] = (row[0][0], row[1])
    values: dict[str, list[str]] = {}
    args: list[str] = []
    at = 0
    while at < len(argv):
        word = argv[at]
        at += 1
        if word == "--":
            args += argv[at:]
            break
        if len(word) < 2 or word[0] != "-":
            args.append(word)
            if not interspersed:
                args += argv[at:]
                break
            continue
        name, equals, value = word.lstrip("-").partition("=")
        found = names.get(name)
        if found is None and word[1] != "-":
            at = _cluster(names, word, argv, at, values)
            continue
        if found is None:
            raise UsageError(f"flag provided but not defined: -{name}", code=1)
        key, kind = found
        if kind == "bool":
            value = value if equals else "true"
        elif not equals:
            if at >= len(argv):
                raise UsageError(f"flag needs an argument: -{name}", code=1)
            value = argv[at]
            at += 1
        _store(values, key, kind, value)
    return Words(values, tuple(args))


def _cluster(
    names: dict[str, tuple[str, str]], word: str, argv: list[str], at: int, values: dict[str, list[str]]
) -> int:
    """Read `-td` or `-uVALUE`, which crun takes and runc does not; return where to go on."""
    rest = word[1:]
    while rest:
        found = names.get(rest[0])
        if found is None:
            raise UsageError(f"flag provided but not defined: {word}", code=1)
        key, kind = found
        rest = rest[1:]
        if kind == "bool":
            _store(values, key, kind, "true")
            continue
        if not rest:
            if at >= len(argv):
                raise UsageError(f"flag needs an argument: {word}", code=1)
            rest = argv[at]
            at += 1
        _store(values, key, kind, rest)
        break
    return at


def _store(values: dict[str, list[str]], key: str, kind: str, value: str) -> None:
    if kind == "int":
        digits = value[1:] if value[:1] == "-" else value
        if not digits.isascii() or not digits.isdigit():
            raise UsageError(f"invalid value {value!r} for flag -{key}: not a number", code=1)
    if kind == "list":
        values.setdefault(key, []).append(value)
    else:
        values[key] = [value]


def help_text(verb: str = "") -> str:
    """Return what --help prints for the program or one verb."""
    if verb:
        one = VERBS[verb]
        lines = [
            "NAME:", f"   rootless-oci {verb} - {one.summary}", "",
            "USAGE:", f"   rootless-oci {verb} {one.usage}".rstrip(), "",
        ]  # fmt: skip
        rows: tuple[Row, ...] = (*one.flags, (("help", "h"), "bool", "show help"))
    else:
        lines = [
            "NAME:", "   rootless-oci - run OCI bundles as an unprivileged user", "",
            "USAGE:", "   rootless-oci [global flags] VERB [flags] [arguments]", "",
            "VERBS:", *[f"   {name:<12}{one.summary}" for name, one in VERBS.items()], "",
        ]  # fmt: skip
        rows = GLOBALS
    lines.append("FLAGS:")
    for names, kind, text in rows:
        shown = ", ".join([("--" if len(n) > 1 else "-") + n for n in names]) + ("" if kind == "bool" else " VALUE")
        lines.append(f"   {shown:<28}{text}")
    return "\n".join(lines) + "\n"
