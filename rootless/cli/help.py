"""Print `--help` from the tables of cli/parser.py, in podman's layout. Never imported by a run."""

from __future__ import annotations

from rootless.cli.parser import GLOBAL_FLAGS, Command

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.cli.parser import Row

VALUE_WORD = {"string": "string", "strings": "strings", "array": "stringArray", "int": "int", "uint": "uint",
              "float": "float", "bool": ""}  # fmt: skip


def command_help(command: Command) -> str:
    """Return the help text of one verb."""
    options = " [options]" if command.flags else ""
    parts = [command.summary, ""]
    if command.description:
        parts += ["Description:", *(f"  {line}".rstrip() for line in command.description.splitlines()), ""]
    usage = command.usage if command.usage.startswith("[options]") else f"{options} {command.usage}".strip()
    parts += ["Usage:", f"  rootless {command.name} {usage}".rstrip(), ""]
    if command.examples:
        parts += ["Examples:", *(f"  rootless {line}" for line in command.examples), ""]
    if command.flags:
        parts += ["Options:", *flag_lines(command.flags), ""]
    return "\n".join(parts)


def flag_lines(rows: tuple[Row, ...]) -> list[str]:
    """Return one line per flag, the help texts in one column; a flag that does not work says why."""
    heads: list[tuple[str, str]] = []
    for name, short, kind, metavar, default, text, refusal in sorted(rows):
        word = metavar or VALUE_WORD[kind]
        head = f"  {'-' + short + ',' if short else '   '} --{name}{' ' + word if word else ''}"
        shown = f"{text} (default {default})" if default else text
        why = f"(no effect: {refusal[1:]})" if refusal[:1] == "~" else f"(not supported: {refusal})"
        heads.append((head, why if refusal else shown))
    width = max(len(head) for head, _ in heads) + 3
    return [f"{head.ljust(width)}{text}".rstrip() for head, text in heads]


def program_help(verbs: tuple[tuple[str, str], ...]) -> str:
    """Return the help text of the program itself."""
    width = max(len(name) for name, _ in verbs) + 1
    lines = ["rootless: run containers without root and without a daemon", "", "Usage:",
             "  rootless [options] COMMAND", "", "Available Commands:"]  # fmt: skip
    lines += [f"  {name.ljust(width)}{text}" for name, text in verbs]
    own = (("help", "", "bool", "", "", "Help for rootless", ""),
           ("version", "v", "bool", "", "", "Print the version", ""))  # fmt: skip
    lines += ["", "Options:", *flag_lines(GLOBAL_FLAGS + own), ""]
    return "\n".join(lines)


def group_help(group: str, summary: str, verbs: tuple[tuple[str, str], ...]) -> str:
    """Return the help text of `rootless image` and the like."""
    width = max(len(name) for name, _ in verbs) + 1
    lines = [summary, "", "Usage:", f"  rootless {group} [command]", "", "Available Commands:"]
    lines += [f"  {name.ljust(width)}{text}" for name, text in verbs]
    return "\n".join([*lines, ""])
