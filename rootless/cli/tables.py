"""Find the table of any verb: what help, completion and man pages are made from.

Every module of cli/commands parses its argv with its table first, and `--help` ends that with HelpWanted, which holds
the table: so one way fits all verbs, whatever their modules look like inside.
"""

from __future__ import annotations

from rootless.cli.main import GROUPS, VERBS
from rootless.cli.parser import Command, HelpWanted
from rootless.errors import RootlessError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from rootless.plan.options import GlobalOptions


def paths() -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the words of each verb, `("container", "ls")` or `("run",)`, and its line of help."""
    for verb, entry in VERBS.items():
        yield (verb,), entry[2]
    for group, (_, members) in GROUPS.items():
        for verb, entry in members.items():
            yield (group, verb), entry[2]


def command_of(words: tuple[str, ...], options: GlobalOptions) -> Command | None:
    """Return the table of the verb with these words, None when there is no such verb."""
    if len(words) == 1:
        entry = VERBS.get(words[0])
    else:
        entry = GROUPS[words[0]][1].get(words[1]) if words[0] in GROUPS else None
    if entry is None:
        return None
    module, prefix, _ = entry
    try:
        code = __import__(f"rootless.cli.commands.{module}", fromlist=["main"])
        code.main([*prefix, "--help"], options)
    except HelpWanted as wanted:
        return wanted.command
    except (ImportError, RootlessError):
        return None
    return None


def every_command(options: GlobalOptions) -> dict[str, Command]:
    """Return all tables by the names of their commands; a verb with several spellings is there once."""
    found: dict[str, Command] = {}
    for words, _ in paths():
        command = command_of(words, options)
        if command is not None:
            found.setdefault(command.name, command)
    return found
