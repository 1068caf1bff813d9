"""The environment of the container's process: one value for each name, and HOME from its own /etc/passwd.

Source: runc's behaviour, which engines count on; POSIX "HOME ... at login"
"""

from __future__ import annotations

from rootless.errors import KernelError
from rootless.kernel.paths import open_root, read_in_root
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd
    from rootless.spec.runtime import Process, Spec

_PASSWD_LIMIT_BYTES = 1 << 20


def with_home(spec: Spec, rootfs: str) -> Spec:
    """Return *spec* with HOME in the environment of its process."""
    if spec.process is None:
        return spec
    spec = replace(spec, process=with_unique_names(spec.process))
    if spec.process is None or not _lacks_home(spec.process):
        return spec
    try:
        with open_root(rootfs) as root:
            return replace(spec, process=process_with_home(spec.process, root))
    except KernelError:
        # The directory is readable for the container's root only: it will find its own home.
        return replace(spec, process=_set(spec.process, "/"))


def process_with_home(process: Process, root: Fd) -> Process:
    """Return *process* with HOME from /etc/passwd below *root*, "/" where its user has no line."""
    process = with_unique_names(process)
    if not _lacks_home(process):
        return process
    text = read_in_root(root, b"/etc/passwd", _PASSWD_LIMIT_BYTES) or b""
    return _set(process, _home(text, process.user.uid))


def with_unique_names(process: Process) -> Process:
    """Return *process* with one word for each name of its environment: the last, at the place of the first."""
    words: dict[str, str] = {}
    for word in process.env:
        words[word.partition("=")[0]] = word
    return process if len(words) == len(process.env) else replace(process, env=tuple(words.values()))


def _lacks_home(process: Process) -> bool:
    """Say whether HOME is missing or empty (the last one in the list counts)."""
    given = [word for word in process.env if word.startswith("HOME=")]
    return not given or given[-1] == "HOME="


def _set(process: Process, home: str) -> Process:
    kept = [word for word in process.env if not word.startswith("HOME=")]
    return replace(process, env=(*kept, f"HOME={home}"))


def _home(passwd: bytes, uid: int) -> str:
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) >= 6 and fields[2].isdigit() and int(fields[2]) == uid:
            return fields[5].decode("utf-8", "surrogateescape") or "/"
    return "/"
