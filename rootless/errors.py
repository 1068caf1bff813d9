"""The errors of the project: each says what failed, on which object, and what to do.

A message is lower case without a full stop and names operation and object. A hint is an
imperative sentence or a command that can be pasted. `code` is the exit status of the program
that dies of it (podman's: 125 for us, 126 and 127 for the command of the container).
"""

from __future__ import annotations

EXIT_ENGINE = 125
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127


class RootlessError(Exception):
    """Base of all errors that a person is meant to read."""

    code = EXIT_ENGINE

    def __init__(self, message: str, *, hint: str | None = None, code: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return self.message


class UsageError(RootlessError):
    """A bad flag or combination of flags, found before any effect."""


class InternalError(RootlessError):
    """A fault of ours."""

    def __init__(self, message: str) -> None:
        super().__init__(message, hint="this is a bug of rootless: please report it with the command that you ran")


class SpecError(RootlessError):
    """An invalid config.json or manifest; *pointer* is the JSON pointer of the culprit."""

    def __init__(self, message: str, *, pointer: str = "", hint: str | None = None) -> None:
        super().__init__(f"{pointer or '/'}: {message}", hint=hint)
        self.pointer = pointer


class ImageError(RootlessError):
    """An image cannot be had or used."""


class ReferenceInvalid(ImageError):
    """Not an image reference."""


class ManifestNotFound(ImageError):
    """The registry has no such image."""


class DigestMismatch(ImageError):
    """What arrived is not what was promised."""


class RegistryError(ImageError):
    """The registry answered with an error; *status* is the HTTP status, 0 without an answer."""

    def __init__(self, message: str, *, status: int = 0, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.status = status


class AuthRequired(RegistryError):
    """The registry wants credentials that we do not have, or refused those that we have."""


class UnpackError(RootlessError):
    """A layer cannot be unpacked."""

    def __init__(self, message: str, *, layer: str = "", entry: str = "", hint: str | None = None) -> None:
        where = f"layer {layer[:19]}: " if layer else ""
        what = f"{entry}: " if entry else ""
        super().__init__(f"{where}{what}{message}", hint=hint)
        self.layer, self.entry = layer, entry


class StoreError(RootlessError):
    """The store on disk cannot do what is asked."""


class Locked(StoreError):
    """Somebody else holds the lock."""


class NotFound(StoreError):
    """There is no such image, container, ..."""

    def __init__(self, kind: str, name: str, *, hint: str | None = None) -> None:
        super().__init__(f"no such {kind}: {name}", hint=hint)
        self.kind, self.name = kind, name


class InUse(StoreError):
    """The object is needed by another."""


class Corrupt(StoreError):
    """A file of the store is not what it should be."""

    def __init__(self, path: str, why: str, *, hint: str | None = None) -> None:
        super().__init__(f"{path}: {why}", hint=hint)
        self.path = path


class NotSupported(RootlessError):
    """A feature is not available here; *reasons* has one line for each thing that was tried."""

    def __init__(self, feature: str, reasons: tuple[str, ...] = (), *, hint: str | None = None) -> None:
        detail = "; ".join(reasons)
        super().__init__(f"{feature}: {detail}" if detail else feature, hint=hint)
        self.feature, self.reasons = feature, reasons


class KernelError(RootlessError, OSError):
    """A system call failed. Also an OSError, so that errno handling keeps working."""

    def __init__(self, syscall: str, errno: int, what: str = "", *, hint: str | None = None) -> None:
        import posix

        self.syscall = syscall
        text = f"{syscall}{' ' + what if what else ''}: {posix.strerror(errno).lower()}"
        RootlessError.__init__(self, text, hint=hint)
        self.errno = errno
        self.strerror = posix.strerror(errno)

    def __str__(self) -> str:
        return self.message


class LaunchError(RootlessError):
    """A step between clone and exec failed; *syscall* and *errno* say at what, where that is known."""

    syscall = ""
    errno = 0


class WorkdirError(LaunchError):
    """The working directory of the process cannot be entered; *errno* says why."""

    def __init__(self, message: str, errno: int) -> None:
        super().__init__(message)
        self.errno = errno


class ExecNotFound(LaunchError):
    """The container's program does not exist (127)."""

    code = EXIT_NOT_FOUND


class ExecNotExecutable(LaunchError):
    """The container's program cannot be executed (126)."""

    code = EXIT_NOT_EXECUTABLE


class ContainerStateError(RootlessError):
    """The verb is not allowed in the container's state."""


class PeerGone(RootlessError):
    """The supervisor, FUSE or network process died; *last* has its last lines on stderr."""

    def __init__(self, which: str, last: str = "", *, hint: str | None = None) -> None:
        super().__init__(f"{which} ended unexpectedly" + (f": {last.strip()}" if last.strip() else ""), hint=hint)
        self.which, self.last = which, last
