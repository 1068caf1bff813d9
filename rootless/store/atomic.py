"""Small files that are either there and whole, or not there.

A file is written beside its place and then renamed or linked. Who needs it on disk before a power cut uses a staging
directory and one syncfs for everything (store/layers.py); nothing here waits for a disk unless it is asked to.
"""

from __future__ import annotations

import errno
import os

from rootless.errors import Corrupt, StoreError
from rootless.spec import jsontext
from rootless.store import layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS, errno.EXDEV)


def write_new(path: str, data: bytes, *, sync: bool = False) -> None:
    """Write *data* to the new file *path*, mode 0600 whatever the umask.

    Blocks:  for the disk with *sync*
    Raises:  StoreError — no space, read-only ...
    """
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if sync:
                os.fsync(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise cannot("write", path, error) from error


def write_record(path: str, value: dict[str, Any], *, sync: bool = False) -> None:
    """Write the JSON of *value* and the format version to *path*, replacing what is there in one step."""
    temporary = temporary_name(path)
    try:
        write_new(temporary, encode_record(value), sync=sync)
        os.rename(temporary, path)
    except (OSError, StoreError) as error:
        remove_file(temporary)
        raise cannot("write", path, error) from error


def encode_record(value: dict[str, Any]) -> bytes:
    """Return the text of a record: JSON, with the format version first."""
    return jsontext.dumps({"format": layout.FORMAT, **value}).encode()


def read_record(path: str) -> dict[str, Any] | None:
    """Return the record at *path*, None if there is none.

    Raises: Corrupt — not a record, or one of another format
    """
    data = read_file(path)
    if data is None:
        return None
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise Corrupt(path, f"not a record ({error})", hint=f"remove the file {path}") from error
    if not isinstance(value, dict) or value.get("format") != layout.FORMAT:
        raise Corrupt(path, f"not a record of format {layout.FORMAT}", hint=f"remove the file {path}")
    return value


def read_file(path: str) -> bytes | None:
    """Return what the file *path* holds, None if there is none."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None
        raise cannot("read", path, error) from error
    try:
        parts = []
        while part := os.read(fd, 1 << 18):
            parts.append(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)
    except OSError as error:
        raise cannot("read", path, error) from error
    finally:
        os.close(fd)


def publish_new(source: str, path: str) -> bool:
    """Give the file *source* the name *path* too, unless that exists: False then. link(2) decides races, on NFS too."""
    try:
        os.link(source, path)
        return True
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise cannot("write", path, error) from error
    # No hard links here: rename would replace, so the name is claimed by O_EXCL first.
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return False
    except OSError as error:
        raise cannot("write", path, error) from error
    publish(source, path)
    return True


def publish(source: str, path: str) -> None:
    """Give the file *source* the name *path* too, in place of what is there."""
    temporary = temporary_name(path)
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            write_new(temporary, read_file(source) or b"")
        os.rename(temporary, path)
        # rename(2) of two links to one file does nothing at all, and leaves the first.
        remove_file(temporary)
    except OSError as error:
        remove_file(temporary)
        raise cannot("write", path, error) from error


def remove_file(path: str) -> bool:
    """Remove the file *path*; False if there is none."""
    try:
        os.unlink(path)
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise cannot("remove", path, error) from error


def remove_empty(path: str) -> bool:
    """Remove the directory *path*; False if there is none, or somebody else has put something into it meanwhile."""
    try:
        os.rmdir(path)
        return True
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTEMPTY):
            return False
        raise cannot("remove", path, error) from error


def temporary_name(path: str) -> str:
    """Return a name beside *path* that nobody else uses; names with a leading dot are no records."""
    directory, _, name = path.rpartition("/")
    return f"{directory}/.{name[:32]}.{os.getpid()}.{os.urandom(4).hex()}"


def names_in(directory: str) -> list[str]:
    """Return the names in *directory*, sorted, temporary ones left out; none if it does not exist."""
    try:
        return sorted([n for n in os.listdir(directory) if n[0] != "."])
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise cannot("read", directory, error) from error


def cannot(verb: str, path: str, error: OSError | StoreError) -> StoreError:
    """Return the error for a person: what could not be done, and what helps."""
    if isinstance(error, StoreError):
        return error
    code = error.errno or 0
    hint = None
    if code in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space (rootless rmi), or keep the store elsewhere with --root DIR"
    elif code in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "pass --root DIR or set ROOTLESS_ROOT to a directory of your own"
    return StoreError(f"cannot {verb} {path}: {os.strerror(code).lower()}", hint=hint)
