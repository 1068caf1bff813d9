"""The program `rootless`: find the verb, import its module, print its errors.

`main` imports only the parser before it knows the verb, and one module for it after: start-up is
what a person waits for. Each module of cli/commands has `COMMAND` (its table) and
`main(argv, options) -> int`.

Source: docs/decisions (exit codes): 125 us, 126 and 127 the container's program, 128+n a signal
"""

from __future__ import annotations

import os
import posix
import sys

from rootless.errors import EXIT_ENGINE, KernelError, LaunchError, RootlessError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.globaloptions import GlobalOptions

EXIT_BROKEN_PIPE = 128 + 13
EXIT_INTERRUPTED = 128 + 2

# verb -> (module of cli/commands, arguments put before the others, one line for --help)
VERBS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "attach": ("attach", (), "Attach to a running container"),
    "completion": ("completion", (), "Generate shell completion scripts"),
    "cp": ("cp", (), "Copy files/folders between a container and the local filesystem"),
    "create": ("create", (), "Create but do not start a container"),
    "diff": ("diff", (), "Inspect changes to a container's file system"),
    "doctor": ("doctor", (), "Try what a container needs from this machine and say what works"),
    "events": ("events", (), "Show events of containers, images and volumes"),
    "exec": ("exec", (), "Run a process in a running container"),
    "images": ("images", (), "List images in local storage"),
    "info": ("info", (), "Display system information"),
    "init": ("init", (), "Initialize one or more containers"),
    "inspect": ("inspect", (), "Display the configuration of an image or container"),
    "kill": ("kill", (), "Kill one or more running containers with a specific signal"),
    "logs": ("logs", (), "Fetch the logs of one or more containers"),
    "mount": ("mount", (), "Mount a container's root file system"),
    "pause": ("pause", (), "Pause all the processes in one or more containers"),
    "port": ("port", (), "List port mappings or a specific mapping for the container"),
    "ps": ("ps", (), "List containers"),
    "pull": ("pull", (), "Pull an image from a registry"),
    "rename": ("rename", (), "Rename an existing container"),
    "restart": ("restart", (), "Restart one or more containers"),
    "rm": ("rm", (), "Remove one or more containers"),
    "rmi": ("rmi", (), "Removes one or more images from local storage"),
    "run": ("run", (), "Run a command in a new container"),
    "start": ("start", (), "Start one or more containers"),
    "stats": ("stats", (), "Display a live stream of container resource usage statistics"),
    "stop": ("stop", (), "Stop one or more containers"),
    "top": ("top", (), "Display the running processes of a container"),
    "umount": ("unmount", (), "Unmount a container's root file system"),
    "unmount": ("unmount", (), "Unmount a container's root file system"),
    "unpause": ("unpause", (), "Unpause the processes in one or more containers"),
    "unshare": ("unshare", (), "Run a command in the user namespace of the containers"),
    "update": ("update", (), "Update the resource limits of a container"),
    "version": ("version", (), "Display the version"),
    "wait": ("wait", (), "Block on one or more containers"),
}
_IMAGE = {
    "diff": ("diff", ("--image",), "Inspect changes to the image's file systems"),
    "inspect": ("inspect", ("--type", "image"), "Display the configuration of an image"),
    "list": ("images", (), "List images in local storage"),
    "ls": ("images", (), "List images in local storage"),
    "pull": ("pull", (), "Pull an image from a registry"),
    "rm": ("rmi", (), "Removes one or more images from local storage"),
}
_CONTAINER = {
    **{
        verb: VERBS[verb]
        for verb in (
            "attach",
            "cp",
            "create",
            "diff",
            "exec",
            "init",
            "kill",
            "logs",
            "mount",
            "pause",
            "port",
            "ps",
            "rename",
            "restart",
            "rm",
            "run",
            "start",
            "stats",
            "stop",
            "top",
            "umount",
            "unmount",
            "unpause",
            "update",
            "wait",
        )
    },
    "diff": ("diff", ("--container",), "Inspect changes to the container's file systems"),
    "exists": ("exists", (), "Check if a container exists in local storage"),
    "inspect": ("inspect", ("--type", "container"), "Display the configuration of a container"),
    "list": ("ps", (), "List containers"),
    "ls": ("ps", (), "List containers"),
    "prune": ("container_prune", (), "Remove all non running containers"),
    "unit": ("unit", (), "Print a systemd unit for a container"),
}
GROUPS: dict[str, tuple[str, dict[str, tuple[str, tuple[str, ...], str]]]] = {
    "container": ("Manage containers", _CONTAINER),
    "healthcheck": ("Manage health checks on containers", {
        "run": ("healthcheck", (), "Run the health check of a container"),
    }),
    "image": ("Manage images", _IMAGE),
    "network": ("Manage networks", {
        "list": ("network", ("ls",), "List networks"),
        "ls": ("network", ("ls",), "List networks"),
    }),
    "secret": ("Manage secrets", {
        "create": ("secret", ("create",), "Create a new secret"),
        "exists": ("secret", ("exists",), "Check if a secret exists in local storage"),
        "inspect": ("secret", ("inspect",), "Inspect a secret"),
        "list": ("secret", ("ls",), "List secrets"),
        "ls": ("secret", ("ls",), "List secrets"),
        "rm": ("secret", ("rm",), "Remove one or more secrets"),
    }),
    "system": ("Manage rootless", {
        "df": ("system", ("df",), "Show disk usage"),
        "events": ("events", (), "Show events of containers, images and volumes"),
        "info": ("info", (), "Display system information"),
        "prune": ("system", ("prune",), "Remove unused data"),
        "reset": ("system", ("reset",), "Reset storage: remove everything"),
    }),
    "volume": ("Manage volumes", {
        "create": ("volume", ("create",), "Create a new volume"),
        "exists": ("volume", ("exists",), "Check if a volume exists"),
        "inspect": ("volume", ("inspect",), "Display detailed information on one or more volumes"),
        "list": ("volume", ("ls",), "List volumes"),
        "ls": ("volume", ("ls",), "List volumes"),
        "prune": ("volume", ("prune",), "Remove all unused volumes"),
        "rm": ("volume", ("rm",), "Remove one or more volumes"),
    }),
}  # fmt: skip

# verbs for programs: nobody types them
HIDDEN: dict[str, tuple[str, tuple[str, ...], str]] = {"__complete": ("complete", (), "")}
# what took the place of a verb of podman that will not come
INSTEAD = {"generate": "`rootless container unit NAME` prints a systemd unit; there is nothing else to generate"}

# podman's other verbs: known, and refused in one line each
LATER = (
    "auto-update", "build", "buildx", "commit", "export", "history", "import", "kube", "load", "login",
    "logout", "machine", "manifest", "play", "pod", "push", "save", "search", "tag", "untag",
)  # fmt: skip
LATER_IN_GROUP = {
    "image": ("build", "exists", "history", "import", "load", "mount", "prune", "push", "save", "scp",
              "search", "sign", "tag", "tree", "trust", "unmount", "untag"),
    "container": ("checkpoint", "cleanup", "clone", "commit", "export", "restore", "runlabel"),
    "network": ("connect", "create", "disconnect", "exists", "inspect", "prune", "reload", "rm"),
    "system": ("connection", "migrate", "renumber", "service"),
    "volume": ("export", "import", "mount", "reload", "unmount"),
}  # fmt: skip


def main(argv: list[str]) -> int:
    """Run the command line *argv* (without the program's name) and return the exit status.

    Blocks: until the command ends. Output is flushed; the launcher ends the process with os._exit.
    """
    try:
        try:
            status = _dispatch(argv)
            sys.stdout.flush()
            return status
        finally:
            sys.stderr.flush()
    except BrokenPipeError:
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except Exception as error:
        return told(error)


def told(error: Exception) -> int:
    """Tell the person of whatever went wrong, and return the exit status for it."""
    if isinstance(error, RootlessError):
        return report(error)
    if isinstance(error, OSError):
        return report(RootlessError(_describe(error)))
    return unexpected(error)


def report(error: RootlessError) -> int:
    """Print *error* as podman does, its hint below, and return its exit status."""
    text = f"Error: {error.message}\n"
    command = getattr(error, "command", "")
    if command:
        text += f"See 'rootless {command} --help'\n"
    hint = error.hint or _known_hint(error)
    if hint:
        text += f"hint: {hint}\n"
    _to_stderr(text)
    return error.code


def _known_hint(error: RootlessError) -> str | None:
    """Return what the table of hints says about a failed system call; imported only now."""
    if not isinstance(error, (KernelError, LaunchError)) or not error.syscall:
        return None
    from rootless.kernel.hints import hint_for

    return hint_for(error, os.environ)


def warn(text: str) -> None:
    """Print one warning to the person."""
    _to_stderr(f"rootless: warning: {text}\n")


def _to_stderr(text: str) -> None:
    try:
        sys.stdout.flush()
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens; the exit status still says it


def _dispatch(argv: list[str]) -> int:
    if argv and argv[0] in ("--version", "-v"):
        return _print_version()
    from rootless.cli.parser import GLOBAL_FLAGS, Command, HelpWanted, merge_globals, scan
    from rootless.plan.globaloptions import GlobalOptions

    own = (("version", "v", "bool", "", "", "", ""),)
    rows = {row[0]: row for row in GLOBAL_FLAGS + own}
    top = Command("", "")
    try:
        parsed = scan(top, rows, argv, interspersed=False)
    except HelpWanted:
        sys.stdout.write(_program_help())
        return 0
    except UsageError as error:
        raise UsageError(f"{error.message}\nSee 'rootless --help'") from None
    options = merge_globals(parsed, GlobalOptions(), [])
    if parsed.flag("version"):
        return _print_version()
    words = list(parsed.args)
    if parsed.flag("noout"):
        _silence_stdout()
    if options.log_level.lower() in ("trace", "debug", "info"):
        _start_logging(options.log_level.lower())
    if not words:
        sys.stdout.write(_program_help())
        raise UsageError("missing command 'rootless COMMAND'")
    try:
        return _run_verb(words, options)
    except HelpWanted as wanted:
        from rootless.cli.help import command_help

        sys.stdout.write(command_help(wanted.command))
        return 0


def _run_verb(words: list[str], options: GlobalOptions) -> int:
    verb, rest = words[0], words[1:]
    if verb == "help":
        return _help(rest, options)
    entry = VERBS.get(verb) or HIDDEN.get(verb)
    if entry is None and verb in GROUPS:
        summary, members = GROUPS[verb]
        if not rest or rest[0] in ("--help", "-h"):
            from rootless.cli.help import group_help

            sys.stdout.write(group_help(verb, summary, tuple((k, v[2]) for k, v in members.items())))
            if rest:
                return 0
            raise UsageError(f"missing command 'rootless {verb} COMMAND'")
        entry = members.get(rest[0])
        if entry is None:
            _unknown_in_group(verb, rest[0])
            return EXIT_ENGINE
        rest = rest[1:]
    if entry is None:
        if verb in INSTEAD:
            raise UsageError(f"`rootless {verb}` does not exist: {INSTEAD[verb]}")
        if verb in LATER:
            raise UsageError(f"`rootless {verb}` is not there yet: podman has this command, rootless does not")
        raise UsageError(*_unknown(verb))
    module, prefix, _ = entry
    code = __import__(f"rootless.cli.commands.{module}", fromlist=["main"])
    status: int = code.main([*prefix, *rest], options)
    return status


def _help(rest: list[str], options: GlobalOptions) -> int:
    names = [word for word in rest if not word.startswith("-")]
    if "--man" in rest:
        return _man(tuple(names), options)
    if not names:
        sys.stdout.write(_program_help())
        return 0
    if names[0] in VERBS or names[0] in GROUPS:
        return _run_verb([*names[: 2 if names[0] in GROUPS else 1], "--help"], options)
    raise UsageError(f"unknown help topic `{' '.join(names)}`")


def _man(names: tuple[str, ...], options: GlobalOptions) -> int:
    """Print the man page of a verb, made from its table."""
    from rootless.cli import manpage, tables

    command = tables.command_of(names, options) if 0 < len(names) < 3 else None
    if command is None:
        raise UsageError(f"no man page for `{' '.join(names)}`", hint="rootless help --man VERB")
    sys.stdout.write(manpage.command_page(command))
    return 0


def _program_help() -> str:
    from rootless.cli.help import program_help

    verbs = [(name, entry[2]) for name, entry in VERBS.items()]
    verbs += [(name, group[0]) for name, group in GROUPS.items()]
    return program_help(tuple(sorted(verbs)))


def _unknown_in_group(group: str, verb: str) -> None:
    if verb in LATER_IN_GROUP.get(group, ()):
        raise UsageError(f"`rootless {group} {verb}` is not there yet: podman has this command, rootless does not")
    raise UsageError(
        f"unrecognized command `rootless {group} {verb}`\nTry 'rootless {group} --help' for more information"
    )


def _unknown(verb: str) -> tuple[str]:
    """Return podman's text for a verb that nobody knows, with the verbs that look like it."""
    near = [name for name in (*VERBS, *GROUPS) if _distance(verb, name) <= 2 or name.startswith(verb.lower())]
    text = f"unrecognized command `rootless {verb}`\n"
    if near:
        text += "\nDid you mean this?\n" + "".join([f"\t{name}\n" for name in near]) + "\n"
    return (text + "Try 'rootless --help' for more information",)


def _distance(one: str, other: str) -> int:
    """Return the edit distance of two words."""
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        last, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            last, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, last + (a != b))
    return row[-1]


def _print_version() -> int:
    from rootless import __version__

    sys.stdout.write(f"rootless version {__version__}\n")
    return 0


def _start_logging(level: str) -> None:
    import logging

    shown = {"trace": logging.DEBUG, "debug": logging.DEBUG, "info": logging.INFO}[level]
    logging.basicConfig(level=shown, format="%(asctime)s %(name)s %(levelname)s %(message)s", stream=sys.stderr)
    logging.getLogger("rootless").setLevel(shown)


def _silence_stdout() -> None:
    """Point stdout at /dev/null, so that a flush at the end cannot fail."""
    null = posix.open("/dev/null", posix.O_WRONLY | posix.O_CLOEXEC)
    posix.dup2(null, 1)
    posix.close(null)


def _describe(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    reason = (error.strerror or str(error)).lower()
    return f"{' -> '.join(names)}: {reason}" if names else reason


def unexpected(error: Exception) -> int:
    """Report what is not meant for a person: the first leaf of a group that is, or a fault of ours."""
    pending: list[BaseException] = [error]
    while pending:
        one = pending.pop(0)
        if isinstance(one, BaseExceptionGroup):
            pending += one.exceptions
        elif isinstance(one, RootlessError):
            return report(one)
        elif isinstance(one, KeyboardInterrupt):
            return EXIT_INTERRUPTED
        elif isinstance(one, BrokenPipeError):
            _silence_stdout()
            return EXIT_BROKEN_PIPE
    import traceback

    from rootless.errors import InternalError

    _to_stderr(traceback.format_exc())
    return report(InternalError(f"internal error: {type(error).__name__}: {error}"))
