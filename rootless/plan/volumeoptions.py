"""Options of a volume of the driver `local`: what they mean, and which of them need a privilege that we lack.

Source: podman-volume-create(1) "--opt"; podman 4.3's words
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec import mountopts
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

KEYS = ("device", "o", "type")
# file systems that the kernel lets the root of a user namespace mount, and that make sense for a volume
TYPES = ("tmpfs", "ramfs", "overlay")
_NO_QUOTA = "volume options size and inodes not supported. Filesystem does not support Project Quota"
_BINDS = ("bind", "rbind")


@record
class VolumeOptions:
    """What is mounted for a volume, if anything.

    Shape: *type* tmpfs, ramfs, overlay, bind or "" for a plain directory; *words* are options of mount(8);
           *uid* and *gid* None: as the image or the container has them
    """

    type: str = ""
    device: str = ""
    words: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None
    copy_up: bool = True


def check(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return the options as the record keeps them (podman's: the given ones, and UID, GID).

    Raises: UsageError - podman's words for what it refuses; a reason for what needs root
    """
    kept: dict[str, str] = {}
    for key, value in pairs:
        if key not in KEYS:
            raise UsageError(f"invalid mount option {key} for driver 'local': invalid argument")
        kept[key] = value
    for name, number in _ids(kept.get("o", "")).items():
        kept[name] = str(number)
    parse(kept)
    return kept


def parse(options: Mapping[str, Any]) -> VolumeOptions:
    """Return what *options*, as a record has them, ask for. Raises: UsageError"""
    kind, device = str(options.get("type") or ""), str(options.get("device") or "")
    given = [word for word in str(options.get("o") or "").split(",") if word]
    ids = _ids(",".join(given))
    words: list[str] = []
    copy_up = True
    for word in given:
        name, equals, value = word.partition("=")
        if name in ("uid", "gid") and equals and kind not in TYPES:
            continue
        if name in ("size", "inodes"):
            if kind not in ("tmpfs", "ramfs"):
                raise UsageError(_NO_QUOTA)
            words.append(f"{'nr_inodes' if name == 'inodes' else name}={value}")
        elif word in ("nocopy", "copy"):
            copy_up = word == "copy"
        elif word != "noquota":
            words.append(word)
    if kind in ("none", "bind", "") and (device or kind == "none"):
        if not device or not (kind == "bind" or any([word in _BINDS for word in words])):
            raise UsageError(
                f"volume type {kind or 'of a device'} needs a mount that only root can make",
                hint="tmpfs, ramfs and overlay work, and directories with -o type=none -o o=bind -o device=DIRECTORY",
            )
        if not device.startswith("/"):
            raise UsageError(f"device {device} of a bind must be an absolute path")
        kind = "bind"
    elif kind == "bind":
        kind = ""
    elif kind and kind not in TYPES:
        raise UsageError(
            f"volume type {kind} needs a mount that only root can make",
            hint="tmpfs, ramfs and overlay work, and directories with -o type=none -o o=bind -o device=DIRECTORY",
        )
    return VolumeOptions(kind, device, tuple(words), ids.get("UID"), ids.get("GID"), copy_up)


def mount_words(options: VolumeOptions) -> tuple[int, tuple[str, ...]]:
    """Return the mount attributes and the words for the file system itself."""
    found = mountopts.parse(tuple([word for word in options.words if word not in _BINDS]))
    return mountopts.attributes(found.flags), found.data


def _ids(text: str) -> dict[str, int]:
    found: dict[str, int] = {}
    for word in text.split(","):
        name, equals, value = word.partition("=")
        if name in ("uid", "gid") and equals:
            if not value.isdigit():
                raise UsageError(f"cannot convert {name.upper()} {value} to integer: invalid argument")
            found[name.upper()] = int(value)
    return found
