"""Turn the -errno of a wrapper into a KernelError."""

from __future__ import annotations

from rootless.errors import KernelError


def check(syscall: str, result: int, what: str | bytes = "") -> int:
    """Return *result* unless it is negative.

    Raises: KernelError(syscall) with the errno that the wrapper returned and *what* it was about
    """
    if result < 0:
        if isinstance(what, bytes):
            what = what.decode("utf-8", "backslashreplace")
        raise KernelError(syscall, -result, what)
    return result


def path_bytes(path: str | bytes) -> bytes:
    """Encode a host path as the kernel wants it (os.fsencode without os)."""
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")
