"""Name every place on disk, and say who may lock what.

Shape:
    DATA  (--root, ROOTLESS_ROOT, $XDG_DATA_HOME/rootless, ~/.local/share/rootless; may be a network home; 0700:
    |      layers hold setuid files of ids that are not the user's, which nobody else may reach)
    |- format                  the number of this layout, a line of text
    |- lock                    the data lock, see below
    |- blobs/sha256/HEX        manifests and image configs as they came; layer blobs are not kept
    |- layers/HEX.json         the record of one layer, HEX its chain id; claimed by link(2)
    |- l/XXXXXXXX/             the tree of that layer; short, because mount options hold one page
    |- shifted/LINK-HEX.json   the record of a copy of l/LINK for another map of ids; its tree is in l/ too
    |- images/HEX.json         the record of one image, HEX the digest of its config: config, layers, links
    |- refs/NAME               the same file under a reference (a hard link); "/" is written "+"
    |- containers/, names/     containers (store/containers.py)
    |- volumes/, secrets/      named volumes (store/volumes.py), secrets (store/secrets.py)
    |- staging/ID.lock, ID/    what one process is making or deleting; nothing in it is visible yet

    RUN   (--runroot, ROOTLESS_RUNROOT, $XDG_RUNTIME_DIR/rootless, /tmp/rootless-UID; 0700, the caller's own, never
          on a network file system): liveness locks, sockets, pids, OCI state
    TMP   (--tmpdir, ROOTLESS_TMPDIR, $TMPDIR, /var/tmp; node-local): uppers that DATA cannot hold

Locks (flock(2), which reaches across NFS clients; taken in this order, never the other way round):
    1. DATA/lock      shared: who commits a layer or an image (open_staging), and every live container, from the lookup
                      of its image to its end. Exclusive, without waiting: who deletes layers (gc.collect). So what a
                      reader has seen under the shared lock stays. If the file system cannot lock, nothing is deleted.
    2. staging/ID.lock exclusive: the maker of staging/ID. A directory whose lock is free was left by a crash: the
                      next command deletes it (gc.sweep_leftovers).
    Names are removed (rmi, untag) under the shared lock: a record is one file, and unlink(2) is atomic.
Order of a commit: trees and records are written in staging, one syncfs(2), then only renames and links. So what is
    visible after a power cut is whole.
Source: flock(2) · nfs(5) · architecture.md decision 5
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat

from rootless.errors import Corrupt, StoreError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

FORMAT = 1

LINKS = "l"
LAYERS = "layers"
IMAGES = "images"
REFS = "refs"
SHIFTED = "shifted"
STAGING = "staging"
BLOBS = "blobs/sha256"
LOCK = "lock"

_DIRECTORIES = (LAYERS, LINKS, SHIFTED, IMAGES, REFS, STAGING, "blobs", BLOBS)


@record
class Roots:
    """The three roots: absolute host paths without a trailing slash."""

    data: str
    run: str
    tmp: str


def find_roots(
    *,
    root: str | None = None,
    runroot: str | None = None,
    tmpdir: str | None = None,
    environ: Mapping[str, str],
    uid: int,
) -> Roots:
    """Return the roots that flags, ROOTLESS_* and XDG variables name; make the run root.

    Call it before the user namespace is entered: *uid* is the caller's on the host.
    The data root is made by `prepare_data` when something is to be written.

    Raises: StoreError — a root cannot be made or belongs to somebody else; the hint names the flag
    """
    data = root or environ.get("ROOTLESS_ROOT") or _default_data(environ, uid)
    tmp = tmpdir or environ.get("ROOTLESS_TMPDIR") or environ.get("TMPDIR") or "/var/tmp"
    run = runroot or environ.get("ROOTLESS_RUNROOT")
    if not run:
        session = environ.get("XDG_RUNTIME_DIR", "")
        run = session + "/rootless" if session[:1] == "/" and os.path.isdir(session) else f"/tmp/rootless-{uid}"
    roots = Roots(data=_absolute(data), run=_absolute(run), tmp=_absolute(tmp))
    _private_directory(roots.run, uid, "--runroot", "ROOTLESS_RUNROOT")
    return roots


def prepare_data(roots: Roots) -> None:
    """Make the data root and its directories; refuse a layout that this version does not know.

    Raises: StoreError — it cannot be made (HOME not writable ...); Corrupt — another format
    """
    found = read_format(roots)
    if found == FORMAT and os.path.isdir(f"{roots.data}/{STAGING}"):
        return
    _private_directory(roots.data, os.geteuid(), "--root", "ROOTLESS_ROOT")
    try:
        for name in _DIRECTORIES:
            make_directory(f"{roots.data}/{name}")
        if found is None:
            temporary = f"{roots.data}/.format-{os.getpid()}"
            with open(temporary, "w") as out:
                out.write(f"{FORMAT}\n")
            os.rename(temporary, f"{roots.data}/format")
    except OSError as error:
        raise _cannot_use(roots.data, error, "--root", "ROOTLESS_ROOT") from error


def read_format(roots: Roots) -> int | None:
    """Return the format of the store, None if there is no store yet.

    Raises: Corrupt — it is not one that this version reads
    """
    path = f"{roots.data}/format"
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _cannot_use(roots.data, error, "--root", "ROOTLESS_ROOT") from error
    try:
        text = os.read(fd, 32)
    finally:
        os.close(fd)
    if text.strip() != b"%d" % FORMAT:
        raise Corrupt(
            path,
            f"the store has format {text.strip().decode('ascii', 'replace') or '?'}, this version reads {FORMAT}",
            hint="use the version of rootless that wrote it, or another store with --root",
        )
    return FORMAT


class DataLock:
    """A held lock on the data root; it ends with `close` or with the process.

    Owner: the holder closes it. Children of posix_spawn do not inherit it (O_CLOEXEC).
    """

    __slots__ = ("_fd", "reason")

    def __init__(self, fd: int, reason: str) -> None:
        self._fd = fd
        self.reason = reason

    def close(self) -> None:
        """Give the lock back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def fileno(self) -> int:
        """Return the descriptor that holds the lock, -1 if this file system has no locks."""
        return self._fd

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock_shared(roots: Roots) -> DataLock:
    """Promise that what is seen in the store from now on stays, until the lock is closed.

    Where the file system cannot lock, the result has a `reason` and holds nothing: deleters refuse there.

    Blocks: while somebody deletes (short: trees are removed after the lock was given back)
    """
    return _lock(roots, fcntl.LOCK_SH, wait=True)


def lock_exclusive(roots: Roots) -> DataLock | str:
    """Return the deleter's lock, or the reason why nothing may be deleted now."""
    try:
        held = _lock(roots, fcntl.LOCK_EX, wait=False)
    except BlockingIOError:
        return "containers are running or images are being pulled"
    if held.reason:
        return held.reason
    return held


def _lock(roots: Roots, kind: int, *, wait: bool) -> DataLock:
    path = f"{roots.data}/{LOCK}"
    try:
        # NFS turns flock into a byte-range lock, and an exclusive one needs a descriptor open for writing.
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        prepare_data(roots)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if kind == fcntl.LOCK_EX or error.errno not in (errno.EROFS, errno.EACCES):
            raise _cannot_use(roots.data, error, "--root", "ROOTLESS_ROOT") from error
        return DataLock(-1, f"{path}: {error.strerror}")
    try:
        fcntl.flock(fd, kind if wait else kind | fcntl.LOCK_NB)
    except OSError as error:
        os.close(fd)
        if error.errno == errno.EWOULDBLOCK:
            raise
        return DataLock(-1, f"{path} cannot be locked: {os.strerror(error.errno or 0).lower()}")
    return DataLock(fd, "")


def make_directory(path: str, mode: int = 0o700) -> None:
    """Make one directory with exactly *mode*, whatever the umask; an existing one is left as it is."""
    try:
        os.mkdir(path, mode)
    except FileExistsError:
        return
    os.chmod(path, mode)


def _absolute(path: str) -> str:
    return os.path.normpath(os.path.join(os.getcwd(), path) if path[:1] != "/" else path)


def _default_data(environ: Mapping[str, str], uid: int) -> str:
    base = environ.get("XDG_DATA_HOME", "")
    if base[:1] == "/":
        return base + "/rootless"
    home = environ.get("HOME", "")
    if home[:1] != "/":
        import pwd

        try:
            home = pwd.getpwuid(uid).pw_dir
        except KeyError:
            home = ""
    if home[:1] != "/":
        raise StoreError("no home directory to keep images in", hint="pass --root DIR or set ROOTLESS_ROOT")
    return home + "/.local/share/rootless"


def _private_directory(path: str, uid: int, flag: str, variable: str) -> None:
    """Make sure that *path* is a directory of *uid* which nobody else can enter."""
    try:
        info = os.lstat(path)
    except FileNotFoundError:
        info = None
    except OSError as error:
        raise _cannot_use(path, error, flag, variable) from error
    if info is None:
        try:
            _make_parents(os.path.dirname(path))
            make_directory(path)
            info = os.lstat(path)
        except OSError as error:
            raise _cannot_use(path, error, flag, variable) from error
    hint = f"pass {flag} DIR or set {variable} to a directory of your own"
    if stat.S_ISLNK(info.st_mode):
        # In /tmp a link may be somebody else's; in the user's own directories it is the user's way to another disk.
        if info.st_uid != uid and uid != 0:
            raise StoreError(f"{path}: a symbolic link that belongs to uid {info.st_uid}", hint=hint)
        try:
            info = os.stat(path)
        except OSError as error:
            raise _cannot_use(path, error, flag, variable) from error
    if not stat.S_ISDIR(info.st_mode):
        raise StoreError(f"{path}: not a directory", hint=hint)
    if info.st_uid != uid and uid != 0:
        raise StoreError(f"{path}: belongs to uid {info.st_uid}, not to you (uid {uid})", hint=hint)
    if info.st_mode & 0o077:
        try:
            os.chmod(path, 0o700)
        except OSError as error:
            raise _cannot_use(path, error, flag, variable) from error


def _make_parents(path: str) -> None:
    if path in ("", "/") or os.path.isdir(path):
        return
    _make_parents(os.path.dirname(path))
    make_directory(path)


def _cannot_use(path: str, error: OSError, flag: str, variable: str) -> StoreError:
    reason = os.strerror(error.errno or 0).lower()
    where = error.filename if isinstance(error.filename, str) else path
    about = path if where == path or where.startswith(path) else f"{path} ({where})"
    hint = f"pass {flag} DIR or set {variable} to a directory of your own"
    return StoreError(f"cannot use {about}: {reason}", hint=hint)
