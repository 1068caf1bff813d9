"""The command line, with fuse-overlayfs's names: `-o lowerdir=A:B,upperdir=U,workdir=W[,...] MOUNTPOINT`.

In a value `\\,` and `\\:` stand for the character itself and `\\\\` for a backslash; before anything else it is one.
Options that we do not know are warned about and ignored, as fuse-overlayfs does.

Source: fuse-overlayfs(1)
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record, replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

NAME = "rootless-fuse-overlay"
FOREVER_S = 1_000_000_000.0
HELP = f"""{NAME}: a file system that merges read-only layers and a writable one, in user space

usage: {NAME} [-f] [-d] -o lowerdir=DIR[:DIR...][,upperdir=DIR,workdir=DIR][,OPTION...] MOUNTPOINT

    -f                     stay in the foreground
    -d, -o debug           print each request (implies -f)
    -o OPTION[,OPTION...]  options, those of fuse-overlayfs:
       lowerdir=A:B        read-only layers, the topmost first
       upperdir=DIR        the layer that receives changes; without it the mount is read-only
       workdir=DIR         an empty directory on the same file system as upperdir
       uidmapping=D:S:N    ids D.. on disk are shown as S.., N of them (more triples after a colon); gidmapping likewise
       squash_to_root, squash_to_uid=N, squash_to_gid=N
                           show one owner for everything
       xattr_permissions=N read and keep owners and modes in extended attributes (2: user.containers.override_stat)
       read_overrides      show the owners that lower layers record in such attributes
       static_nlink        directories have one link
       timeout=SECONDS     how long the kernel may believe names and attributes (default: until they change)
       writeback=0         no write-back caching; fsync=0 or volatile: never wait for the disk
       noxattrs=1, noacl   no extended attributes, no POSIX ACLs
       ro                  read-only, even with an upperdir
       allow_other, allow_root, default_permissions, dev, suid, exec, atime ... are passed to the mount
    -h, --help             this text
    -V, --version          the version

    --ready-fd=N           write 1 to descriptor N when requests are served
    --exit-fd=N            end when descriptor N reaches its end of file
"""

_PASSED = (
    "allow_root", "default_permissions", "allow_other", "suid", "nosuid", "dev", "nodev", "exec", "noexec", "atime",
    "noatime", "diratime", "nodiratime", "max_read", "fsname", "subtype", "auto_unmount",
)  # fmt: skip
# Known to fuse-overlayfs and without a meaning here: one thread serves, inode numbers are checked anyway.
_ACCEPTED = ("threaded", "fast_ino", "fast_ino_check", "ino32_t", "xino", "redirect_dir", "context", "max_write", "rw")
_QUIET = ("splice_write", "splice_read", "splice_move", "kernel_cache", "clone_fd", "max_idle_threads", "max_threads")


@record
class Mapping:
    """*size* ids from *disk* on are shown as *shown* and following."""

    disk: int
    shown: int
    size: int


@record
class Options:
    """What the command line says. Paths are host paths; ids and counts are what they were given as."""

    lowerdirs: tuple[str, ...] = ()
    upperdir: str | None = None
    workdir: str | None = None
    mountpoint: str | None = None
    uid_mappings: tuple[Mapping, ...] = ()
    gid_mappings: tuple[Mapping, ...] = ()
    squash_uid: int | None = None
    squash_gid: int | None = None
    xattr_permissions: int = 0
    read_overrides: bool = False
    timeout: float = FOREVER_S
    readonly: bool = False
    writeback: bool = True
    fsync: bool = True
    xattrs: bool = True
    acl: bool = True
    static_nlink: bool = False
    foreground: bool = False
    background: bool = False
    debug: bool = False
    help: bool = False
    version: bool = False
    ready_fd: int | None = None
    exit_fd: int | None = None
    mount_options: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def escape(path: str) -> str:
    """Return *path* so that it is one element of a lowerdir, or the value of another option."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def split_escaped(text: str, separator: str) -> list[str]:
    """Split at each *separator* that no backslash precedes; empty pieces are left out, escapes stay."""
    pieces: list[str] = []
    current = ""
    at = 0
    while at < len(text):
        char = text[at]
        if char == "\\" and at + 1 < len(text):
            current += text[at : at + 2]
            at += 2
            continue
        if char == separator:
            if current:
                pieces.append(current)
            current = ""
        else:
            current += char
        at += 1
    if current:
        pieces.append(current)
    return pieces


def unescape(text: str) -> str:
    """Resolve `\\:`, `\\,` and `\\\\`."""
    out = ""
    at = 0
    while at < len(text):
        if text[at] == "\\" and text[at + 1 : at + 2] in (":", ",", "\\"):
            at += 1
        out += text[at]
        at += 1
    return out


def parse_mappings(text: str) -> tuple[Mapping, ...]:
    """Read `D:S:N[:D:S:N...]`. Raises: UsageError"""
    try:
        numbers = [int(word) for word in text.replace(",", ":").split(":")]
    except ValueError:
        numbers = []
    if not numbers or len(numbers) % 3 or min(numbers) < 0:
        raise UsageError(f"invalid id mapping {text!r}: triples ID:ID:COUNT are wanted")
    return tuple(Mapping(*numbers[at : at + 3]) for at in range(0, len(numbers), 3))


def parse(argv: Sequence[str]) -> Options:
    """Read the arguments behind the program's name.

    Raises: UsageError
    """
    options = Options()
    words = list(argv)
    while words:
        word = words.pop(0)
        if word == "-o":
            if not words:
                raise UsageError("missing argument for -o")
            options = _parse_list(options, words.pop(0))
        elif word.startswith("-o"):
            options = _parse_list(options, word[2:])
        elif word in _FLAGS:
            options = replace(options, **_FLAGS[word])
        elif word.startswith(("--ready-fd=", "--exit-fd=")):
            key, _, value = word[2:].partition("=")
            options = replace(options, **{key.replace("-", "_"): _number(key, value)})
        elif word.startswith("-") and word != "-":
            options = _warned(options, word)
        else:
            options = replace(options, mountpoint=word)  # mount(8) puts the source before it: the last one counts
    return options


def check(options: Options) -> None:
    """Raise UsageError unless *options* are enough for a mount."""
    if options.mountpoint is None:
        raise UsageError("no mount point given", hint=f"see {NAME} --help")
    if not options.lowerdirs and options.upperdir is None:
        raise UsageError("no lowerdir given", hint=f"see {NAME} --help")
    if options.upperdir is not None and options.workdir is None and not options.readonly:
        raise UsageError("upperdir needs a workdir on the same file system")
    if len(options.lowerdirs) > 4000:
        raise UsageError("more than 4000 lower directories")


_FLAGS: dict[str, dict[str, Any]] = {
    "-f": {"foreground": True},
    "-d": {"debug": True, "foreground": True},
    "--debug": {"debug": True, "foreground": True},
    "-h": {"help": True},
    "--help": {"help": True},
    "-V": {"version": True},
    "--version": {"version": True},
    "-s": {},
    "--background": {"foreground": True, "background": True},
}
_BARE: dict[str, dict[str, Any]] = {
    "debug": {"debug": True, "foreground": True},
    "ro": {"readonly": True},
    "squash_to_root": {"squash_uid": 0, "squash_gid": 0},
    "static_nlink": {"static_nlink": True},
    "read_overrides": {"read_overrides": True},
    "volatile": {"fsync": False},
    "noacl": {"acl": False},
}
_SWITCHES = {
    "fsync": ("fsync", True),
    "sync": ("fsync", True),
    "writeback": ("writeback", True),
    "noxattrs": ("xattrs", False),
}
_NUMBERS = {"squash_to_uid": "squash_uid", "squash_to_gid": "squash_gid", "xattr_permissions": "xattr_permissions"}


def _parse_list(options: Options, text: str) -> Options:
    squash: dict[str, Any] = {}
    for option in split_escaped(text, ","):
        if option.startswith("squash_to_") and "=" in option:
            key, _, value = option.partition("=")  # stronger than squash_to_root, wherever it stands
            squash[_NUMBERS.get(key, "")] = _number(key, value)
        else:
            options = _parse_option(options, option)
    squash.pop("", None)
    return replace(options, **squash) if squash else options


def _parse_option(options: Options, option: str) -> Options:
    key, equals, value = option.partition("=")
    if not equals and key in _BARE:
        return replace(options, **_BARE[key])
    if equals and key == "lowerdir":
        return replace(options, lowerdirs=tuple(unescape(part) for part in split_escaped(value, ":")))
    if equals and key == "upperdir":
        return replace(options, upperdir=unescape(value) or None)
    if equals and key == "workdir":
        return replace(options, workdir=unescape(value) or None)
    if equals and key == "uidmapping":
        return replace(options, uid_mappings=parse_mappings(unescape(value)))
    if equals and key == "gidmapping":
        return replace(options, gid_mappings=parse_mappings(unescape(value)))
    if equals and key == "timeout":
        try:
            return replace(options, timeout=max(0.0, float(value)))
        except ValueError:
            raise UsageError(f"invalid timeout value: {value}") from None
    if equals and key in _SWITCHES:
        field, when_set = _SWITCHES[key]
        return replace(options, **{field: (_number(key, value) != 0) is when_set})
    if equals and key in _NUMBERS:
        return replace(options, **{_NUMBERS[key]: _number(key, value)})
    if key in _PASSED:
        return replace(options, mount_options=(*options.mount_options, unescape(option)))
    if key in _QUIET or key in ("rw", "max_write"):
        return options
    if key in _ACCEPTED:
        return replace(options, warnings=(*options.warnings, f"option without effect ignored: {option}"))
    return _warned(options, option)


def _warned(options: Options, what: str) -> Options:
    return replace(options, warnings=(*options.warnings, f"unknown argument ignored: {what}"))


def _number(key: str, value: str) -> int:
    try:
        return int(value)
    except ValueError:
        raise UsageError(f"invalid {key} value: {value}") from None
