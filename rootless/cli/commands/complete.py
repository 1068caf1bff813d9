"""`rootless __complete WORD...`: what may stand at the last word. Called by the scripts of `rootless completion`.

Shape:   a line for each candidate, `VALUE` or `VALUE<tab>DESCRIPTION`, then `:N`: the sum of 2, no blank after the
         word, and 4, no file names
Source:  the protocol is that of podman's scripts (cobra, "shell completions")
"""

from __future__ import annotations

import os
import sys

from rootless.cli.main import GROUPS, VERBS
from rootless.cli.parser import GLOBAL_FLAGS, HelpWanted, merge_globals, scan
from rootless.cli.tables import command_of
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rootless.cli.parser import Command, Row
    from rootless.plan.options import GlobalOptions
    from rootless.store.layout import Roots

    Candidates = list[tuple[str, str]]

NO_SPACE, NO_FILES = 2, 4
NO_DESCRIPTIONS = "--no-desc"

# what the arguments of a verb are, by the name of its table; a state: only containers in it
_ALIVE, _DEAD = ("running", "paused", "stopping"), ("created", "exited")
CONTAINERS: dict[str, tuple[str, ...]] = {
    "attach": _ALIVE, "container exists": (), "container unit": (), "cp": (), "diff": (), "exec": _ALIVE,
    "healthcheck run": _ALIVE, "init": ("created",), "kill": _ALIVE, "logs": (), "mount": (), "pause": ("running",),
    "port": _ALIVE, "rename": (), "restart": (), "rm": (), "start": (*_DEAD, "initialized"), "stats": _ALIVE,
    "stop": _ALIVE, "top": _ALIVE, "unmount": (), "unpause": ("paused",), "update": _ALIVE, "wait": (),
}  # fmt: skip
IMAGES = ("run", "create", "rmi", "pull", "images")
FIRST_ONLY = ("attach", "container exists", "container unit", "exec", "healthcheck run", "port", "rename", "top",
              "run", "create", "images", "update")  # fmt: skip
SHELLS = ("bash", "fish", "zsh")

_CONTAINER_FILTERS = ("ancestor=", "before=", "exited=", "health=", "id=", "label=", "name=", "network=",
                      "restart-policy=", "since=", "status=", "until=", "volume=")  # fmt: skip
# values of flags, whatever the verb
_VALUES: dict[str, tuple[str, ...]] = {
    "cgroup-manager": ("cgroupfs", "none", "systemd"), "cgroupns": ("host", "private"),
    "cgroups": ("disabled", "enabled", "no-conmon", "split"), "format": ("json", "table"),
    "health-on-failure": ("kill", "none", "restart", "stop"), "image-volume": ("bind", "ignore", "tmpfs"),
    "ipc": ("container:", "host", "none", "private", "shareable"),
    "log-driver": ("journald", "json-file", "k8s-file", "none", "passthrough"),
    "log-level": ("debug", "error", "fatal", "info", "panic", "trace", "warn"),
    "network": ("container:", "host", "none", "private"), "pid": ("container:", "host", "private"),
    "pull": ("always", "missing", "never", "newer"), "restart": ("always", "no", "on-failure", "unless-stopped"),
    "sdnotify": ("conmon", "container", "ignore"), "storage-driver": ("auto", "copy", "fuse", "overlay"),
    "systemd": ("always", "false", "true"), "type": ("all", "container", "image", "volume"),
    "userns": ("host", "keep-id", "nomap"), "uts": ("container:", "host", "private"),
}  # fmt: skip


def main(argv: list[str], options: GlobalOptions) -> int:
    """Print the candidates; nothing that goes wrong is worth a word while somebody types."""
    described = argv[:1] != [NO_DESCRIPTIONS]
    words = argv if described else argv[1:]
    try:
        found, directive = candidates(words or [""], options)
    except (RootlessError, OSError, ValueError):
        found, directive = [], 0
    for value, text in found:
        sys.stdout.write(f"{value}\t{text}\n" if text and described else f"{value}\n")
    sys.stdout.write(f":{directive}\n")
    return 0


def candidates(words: list[str], options: GlobalOptions) -> tuple[Candidates, int]:
    """Return what may stand at the last of *words*, and the directive."""
    *before, current = words
    own = (("version", "v", "bool", "", "", "Print the version", ""), ("help", "h", "bool", "", "", "Help", ""))
    rows = {row[0]: row for row in (*GLOBAL_FLAGS, *own)}
    at, waiting = _verb_at(rows, before)
    if at < 0:
        return _flag_or(rows, before, current, waiting, options, None, lambda: (_verbs(), NO_FILES))
    options = _with_globals(before[:at], options)
    verb, rest = before[at], before[at + 1 :]
    path: tuple[str, ...] = (verb,)
    if verb == "help":
        return _matching(_verbs(), current), NO_FILES
    if verb in GROUPS and verb not in VERBS:
        if not rest:
            members = [(name, entry[2]) for name, entry in GROUPS[verb][1].items()]
            return _matching(members, current), NO_FILES
        path, rest = (verb, rest[0]), rest[1:]
    command = command_of(path, options)
    if command is None:
        return [], NO_FILES
    return _in_command(command, rest, current, options)


def _in_command(command: Command, before: list[str], current: str, options: GlobalOptions) -> tuple[Candidates, int]:
    rows = {row[0]: row for row in GLOBAL_FLAGS} | {row[0]: row for row in command.flags if not row[6]}
    rows.setdefault("help", ("help", "h" if not any([r[1] == "h" for r in rows.values()]) else "", "bool", "", "",
                             "Print this text", ""))  # fmt: skip
    arguments: list[str] = []
    waiting: Row | None = None
    for at, word in enumerate(before):
        if waiting is not None:
            waiting = None
        elif word == "--" or (arguments and not command.interspersed):
            arguments += before[at + (word == "--") :]
            break
        elif len(word) > 1 and word[0] == "-":
            waiting = _waits(rows, word)
        else:
            arguments.append(word)
    if arguments and not command.interspersed and waiting is None:
        return _matching(_arguments(command, arguments, current, options), current) if command.name == "top" else [], 0
    if "--" in before and waiting is None:
        return _matching(_arguments(command, arguments, current, options), current), 0

    def others() -> tuple[Candidates, int]:
        found = _arguments(command, arguments, current, options)
        return found, 0 if command.name in ("cp", "run", "create", "exec", "unshare") and not found else NO_FILES

    return _flag_or(rows, before, current, waiting, options, command, others)


def _flag_or(
    rows: dict[str, Row],
    before: list[str],
    current: str,
    waiting: Row | None,
    options: GlobalOptions,
    command: Command | None,
    others: Callable[[], tuple[Candidates, int]],
) -> tuple[Candidates, int]:
    if waiting is not None:
        return _values(waiting[0], current, "", options, command)
    if current.startswith("--") and "=" in current:
        name, _, value = current[2:].partition("=")
        return _values(name, value, f"--{name}=", options, command) if name in rows else ([], NO_FILES)
    if current.startswith("-"):
        flags = [(f"--{row[0]}", row[5]) for row in rows.values()]
        if not current.startswith("--"):
            flags += [(f"-{row[1]}", row[5]) for row in rows.values() if row[1]]
        return _matching(sorted(flags), current), NO_FILES
    found, directive = others()
    return _matching(found, current), directive


def _verb_at(rows: dict[str, Row], before: list[str]) -> tuple[int, Row | None]:
    """Return where the verb stands, -1 while there is none, and the global flag that waits for its value."""
    waiting: Row | None = None
    for at, word in enumerate(before):
        if waiting is not None:
            waiting = None
        elif len(word) > 1 and word[0] == "-":
            waiting = _waits(rows, word)
        else:
            return at, None
    return -1, waiting


def _waits(rows: dict[str, Row], word: str) -> Row | None:
    """Return the flag whose value is the next word."""
    if word.startswith("--"):
        row = rows.get(word[2:])
        return row if row is not None and row[2] != "bool" else None
    shorts = {row[1]: row for row in rows.values() if row[1]}
    for at, letter in enumerate(word[1:], 1):
        row = shorts.get(letter)
        if row is None:
            return None
        if row[2] != "bool":
            return row if at == len(word) - 1 else None
    return None


def _with_globals(words: list[str], options: GlobalOptions) -> GlobalOptions:
    from rootless.cli.parser import Command

    try:
        parsed = scan(Command("", ""), {row[0]: row for row in GLOBAL_FLAGS}, words, interspersed=False)
        return merge_globals(parsed, options, [])
    except (RootlessError, HelpWanted):
        return options


def _verbs() -> Candidates:
    found = [(name, entry[2]) for name, entry in VERBS.items()]
    found += [(name, group[0]) for name, group in GROUPS.items()]
    return sorted([*found, ("help", "Help about any command")])


def _values(
    name: str, current: str, before: str, options: GlobalOptions, command: Command | None
) -> tuple[Candidates, int]:
    """Return the values of a flag; files where nothing is known of it."""
    known: Iterable[str] = _VALUES.get(name, ())
    if name == "sort" and command is not None:
        known = next(
            (row[5].rpartition(":")[2].replace(" ", "").split(",") for row in command.flags if row[0] == name), ()
        )
    elif name == "filter":
        keys = (
            ("dangling=", "id=", "label=", "reference=") if command and command.name == "images" else _CONTAINER_FILTERS
        )
        known = keys if command and command.name in ("ps", "images", "rm", "start", "stop") else ("label=", "until=")
    elif name in ("volumes-from", "requires") or current.startswith("container:"):
        head = "container:" if current.startswith("container:") else ""
        known = [head + one for one, _ in _containers(_roots(options), (), current.removeprefix(head))]
    elif name in ("signal", "stop-signal"):
        from rootless.spec import signals

        known = [signals.name(number) for number in range(1, 32)]
    found = _matching([(before + value, "") for value in known], before + current)
    if not known:
        return [], 0
    open_ended = any([value[-1] in "=:" for value, _ in found])
    return found, NO_FILES | (NO_SPACE if open_ended else 0)


def _arguments(command: Command, arguments: list[str], current: str, options: GlobalOptions) -> Candidates:
    name = command.name
    if arguments and name in FIRST_ONLY and name != "top":
        return []
    if name == "completion":
        return [(shell, "") for shell in SHELLS] if not arguments else []
    if name == "top" and arguments:
        from rootless.engine.top import DESCRIPTORS

        return [(descriptor, "") for descriptor in DESCRIPTORS]
    roots = _roots(options)
    if name.startswith("volume ") and name not in ("volume create", "volume ls"):
        return [(volume, "") for volume in _names(f"{roots.data}/volumes")]
    found: Candidates = []
    if name in CONTAINERS or name == "inspect":
        found += _containers(roots, CONTAINERS.get(name, ()), current)
    if name in IMAGES or name == "inspect":
        found += _images(roots, current)
    return [one for one in found if one[0] not in arguments]


def _roots(options: GlobalOptions) -> Roots:
    from rootless.store.layout import find_roots

    return find_roots(
        root=options.root, runroot=options.runroot, tmpdir=options.tmpdir, environ=os.environ, uid=os.getuid()
    )


def _containers(roots: Roots, states: tuple[str, ...], current: str) -> Candidates:
    """Return the names of containers in one of *states* (none: in any), and the ids that begin with *current*."""
    from rootless.engine.listing import list_all

    found: Candidates = []
    for one in list_all(roots):
        if states and one.status not in states:
            continue
        found.append((one.name, one.image))
        if current and one.id.startswith(current):
            found.append((one.id[:12], one.name))
    return found


def _images(roots: Roots, current: str) -> Candidates:
    from rootless.engine.images import tags
    from rootless.store.images import list_images

    found: Candidates = []
    for image in list_images(roots):
        found += [(name, image.id[:12]) for name in tags(image)]
        if current and image.id.startswith(current):
            found.append((image.id[:12], (tags(image) or ("",))[0]))
        for name in tags(image):
            short = name.rpartition("/")[2].removesuffix(":latest")
            if current and short.startswith(current):
                found.append((short, name))
    return found


def _names(directory: str) -> list[str]:
    try:
        return sorted([name for name in os.listdir(directory) if name[0] != "."])
    except OSError:
        return []


def _matching(found: Candidates, current: str) -> Candidates:
    return list(dict.fromkeys([one for one in found if one[0].startswith(current)]))
