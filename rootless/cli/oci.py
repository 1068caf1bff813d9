"""`rootless-oci`: an OCI runtime for other engines, with the command line of runc.

What other programs read byte by byte is kept as runc has it: one JSON object for each line of the log,
`state` and `list` without surprises, exit 1 for our own errors (255 for exec's).

Source: runtime-spec runtime.md#operations; runc(8); conmon reads `msg` and `level` of the log
"""

from __future__ import annotations

import posix
import sys
import time

from rootless.cli.oci_flags import GLOBALS, VERBS, Words, help_text, parse
from rootless.errors import InternalError, KernelError, LaunchError, RootlessError, UsageError
from rootless.spec.jsontext import dumps

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

EXIT_ERROR: Final = 1
EXIT_EXEC_ERROR: Final = 255
_LEVELS = {"debug": 0, "info": 1, "warning": 2, "warn": 2, "error": 3}


class Log:
    """The log that engines read: a file, or stderr; text as logfmt, or a JSON object for each line."""

    def __init__(self, words: Words) -> None:
        self.format = words.text("log-format", "text")
        if self.format not in ("text", "json"):
            raise UsageError(f"unknown log-format {self.format!r}", code=EXIT_ERROR)
        level = words.text("log-level", "debug" if words.flag("debug") else "info")
        if level not in _LEVELS:
            raise UsageError(f"unknown log-level {level!r}", code=EXIT_ERROR)
        self._least = _LEVELS["debug"] if words.flag("debug") else _LEVELS[level]
        self._syslog = False
        self.fd = 2
        self.path = ""
        self._open(words.text("log"))

    def _open(self, target: str) -> None:
        if target.startswith("file:"):
            target = target[5:]
        elif target.startswith(("syslog:", "journald:")):
            self._syslog = True
            return
        if target:
            try:
                self.fd = posix.open(target, posix.O_WRONLY | posix.O_CREAT | posix.O_APPEND | posix.O_CLOEXEC, 0o644)
            except OSError as error:
                reason = posix.strerror(error.errno or 0).lower()
                raise UsageError(f"open {target}: {reason}", code=EXIT_ERROR) from None
            self.path = target

    def write(self, level: str, message: str) -> None:
        """Write one line, unless *level* is below what was asked for."""
        if _LEVELS[level] < self._least:
            return
        if self._syslog:
            import syslog

            syslog.openlog("rootless-oci")
            syslog.syslog(syslog.LOG_ERR if level == "error" else syslog.LOG_WARNING, message)
            return
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if self.format == "json":
            line = dumps({"level": level, "msg": message, "time": when})
        else:
            line = f'time="{when}" level={level} msg={dumps(message)}'
        try:
            posix.write(self.fd, _encoded(line) + b"\n")
        except OSError:
            pass  # a log that cannot be written must not stop a container

    def fatal(self, error: RootlessError) -> None:
        """Write *error* to the log, and for a person to stderr where the log is elsewhere."""
        message = error.message
        if self.path or self._syslog or self.format == "json":
            self.write("error", message)
        if self.path or self._syslog or self.format == "text":
            _complain(message)
        hint = error.hint or _known_hint(error)
        if hint and not self.path:
            _complain(f"hint: {hint}")


def _encoded(text: str) -> bytes:
    """Encode a message: file names as they were, what is no text at all as an escape."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def _known_hint(error: RootlessError) -> str | None:
    """Return what the table of hints says about a system call that failed; imported only now."""
    if not isinstance(error, (KernelError, LaunchError)) or not error.syscall:
        return None
    from rootless.kernel.hints import hint_for

    environ = {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in posix.environ.items()}
    return hint_for(error, environ)


def _complain(text: str) -> None:
    try:
        posix.write(2, _encoded(text) + b"\n")
    except OSError:
        pass


def main(argv: list[str]) -> int:
    """Run one verb; return the exit status."""
    try:
        words = parse(GLOBALS, argv, interspersed=False)
        if words.flag("version"):
            sys.stdout.write(version_text())
            return 0
        if words.flag("help") or not words.args or words.args[0] in ("help", "h"):
            return _help(words)
        log = Log(words)
    except UsageError as error:
        _complain(f"rootless-oci: {error.message}")
        return EXIT_ERROR
    name, rest = words.args[0], list(words.args[1:])
    verb = VERBS.get(name)
    if verb is None:
        if "-h" in rest or "--help" in rest:
            _complain(f"No help topic for '{name}'")
        else:
            log.fatal(UsageError(f"unknown command {name!r}", hint="rootless-oci --help lists the commands"))
        return EXIT_ERROR
    failed = EXIT_EXEC_ERROR if name == "exec" else EXIT_ERROR
    try:
        flags = parse((*verb.flags, (("help", "h"), "bool", "")), rest, interspersed=verb.interspersed)
        if flags.flag("help"):
            sys.stdout.write(help_text(name))
            return 0
        count = len(flags.args)
        if count < verb.least or 0 <= verb.most < count:
            wanted = "exactly" if verb.least == verb.most else "a minimum of" if count < verb.least else "a maximum of"
            number = verb.least if count < verb.least else verb.most
            raise UsageError(f'"rootless-oci {name}" requires {wanted} {number} argument(s)')
        from rootless.cli import oci_verbs

        log.write("debug", f"{name} {' '.join(flags.args)}")
        return oci_verbs.run_verb(name, words, flags, log)
    except RootlessError as error:
        log.fatal(error)
    except RecursionError:
        log.fatal(UsageError("the configuration is nested too deeply"))
    except OSError as error:
        reason = posix.strerror(error.errno or 0).lower()
        log.fatal(RootlessError(f"{error.filename or name}: {reason}"))
    except Exception as error:
        if words.flag("debug"):
            raise
        log.fatal(InternalError(f"{type(error).__name__}: {error}"))
    return failed


def _help(words: Words) -> int:
    topic = words.args[1] if len(words.args) > 1 else ""
    if words.args and words.args[0] not in ("help", "h"):
        topic = words.args[0]
    if topic and topic not in VERBS:
        _complain(f"No help topic for '{topic}'")
        return EXIT_ERROR
    sys.stdout.write(help_text(topic))
    return 0


def version_text() -> str:
    """Return what --version prints: three lines and the library, in runc's form."""
    from rootless import __version__
    from rootless.kernel import libseccomp
    from rootless.spec.runtime import OCI_VERSION

    library = libseccomp.version()
    lines = [f"rootless-oci version {__version__}", "commit: release", f"spec: {OCI_VERSION}"]
    if library:
        lines.append(f"libseccomp: {library}")
    # One line of features, as crun has it.
    lines.append(f"+SYSTEMD +CAP{' +SECCOMP' if library else ''}")
    return "\n".join(lines) + "\n"
