"""Mount options as a table: option -> what it means to the kernel.

A word that the table does not know is data for the file system ("size=64k", "mode=755"), as in
mount(8). `parse` folds a list of words into one MountOptions value; the last word wins, as in
every other runtime.

Source: runtime-spec config.md#linux-mount-options; mount(2), mount_setattr(2);
        crun's and runc's extensions tmpcopyup, idmap, copy-symlink
"""

from __future__ import annotations

from rootless.spec.record import record

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_SYNCHRONOUS = 0x10
MS_REMOUNT = 0x20
MS_MANDLOCK = 0x40
MS_DIRSYNC = 0x80
MS_NOSYMFOLLOW = 0x100
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_REC = 0x4000
MS_SILENT = 0x8000
MS_UNBINDABLE = 0x20000
MS_PRIVATE = 0x40000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MS_RELATIME = 0x200000
MS_I_VERSION = 0x800000
MS_STRICTATIME = 0x1000000
MS_LAZYTIME = 0x2000000

MOUNT_ATTR_RDONLY = 0x1
MOUNT_ATTR_NOSUID = 0x2
MOUNT_ATTR_NODEV = 0x4
MOUNT_ATTR_NOEXEC = 0x8
MOUNT_ATTR__ATIME = 0x70
MOUNT_ATTR_RELATIME = 0x0
MOUNT_ATTR_NOATIME = 0x10
MOUNT_ATTR_STRICTATIME = 0x20
MOUNT_ATTR_NODIRATIME = 0x80
MOUNT_ATTR_IDMAP = 0x100000
MOUNT_ATTR_NOSYMFOLLOW = 0x200000

# fmt: off
FLAGS: dict[str, tuple[bool, int]] = {
    # word: (clears?, ms flags)
    "async":         (True,  MS_SYNCHRONOUS),
    "atime":         (True,  MS_NOATIME),
    "bind":          (False, MS_BIND),
    "defaults":      (False, 0),
    "dev":           (True,  MS_NODEV),
    "diratime":      (True,  MS_NODIRATIME),
    "dirsync":       (False, MS_DIRSYNC),
    "exec":          (True,  MS_NOEXEC),
    "iversion":      (False, MS_I_VERSION),
    "lazytime":      (False, MS_LAZYTIME),
    "loud":          (True,  MS_SILENT),
    "mand":          (False, MS_MANDLOCK),
    "noatime":       (False, MS_NOATIME),
    "nodev":         (False, MS_NODEV),
    "nodiratime":    (False, MS_NODIRATIME),
    "noexec":        (False, MS_NOEXEC),
    "noiversion":    (True,  MS_I_VERSION),
    "nolazytime":    (True,  MS_LAZYTIME),
    "nomand":        (True,  MS_MANDLOCK),
    "norelatime":    (True,  MS_RELATIME),
    "nostrictatime": (True,  MS_STRICTATIME),
    "nosuid":        (False, MS_NOSUID),
    "nosymfollow":   (False, MS_NOSYMFOLLOW),
    "rbind":         (False, MS_BIND | MS_REC),
    "relatime":      (False, MS_RELATIME),
    "remount":       (False, MS_REMOUNT),
    "ro":            (False, MS_RDONLY),
    "rw":            (True,  MS_RDONLY),
    "silent":        (False, MS_SILENT),
    "strictatime":   (False, MS_STRICTATIME),
    "suid":          (True,  MS_NOSUID),
    "symfollow":     (True,  MS_NOSYMFOLLOW),
    "sync":          (False, MS_SYNCHRONOUS),
}
PROPAGATION: dict[str, int] = {
    "private":     MS_PRIVATE,
    "rprivate":    MS_PRIVATE | MS_REC,
    "rshared":     MS_SHARED | MS_REC,
    "rslave":      MS_SLAVE | MS_REC,
    "runbindable": MS_UNBINDABLE | MS_REC,
    "shared":      MS_SHARED,
    "slave":       MS_SLAVE,
    "unbindable":  MS_UNBINDABLE,
}
RECURSIVE: dict[str, tuple[bool, int]] = {
    # word: (clears?, mount attributes), for the whole tree by mount_setattr(AT_RECURSIVE)
    "ratime":         (True,  MOUNT_ATTR_NOATIME),
    "rdev":           (True,  MOUNT_ATTR_NODEV),
    "rdiratime":      (True,  MOUNT_ATTR_NODIRATIME),
    "rexec":          (True,  MOUNT_ATTR_NOEXEC),
    "rnoatime":       (False, MOUNT_ATTR_NOATIME),
    "rnodev":         (False, MOUNT_ATTR_NODEV),
    "rnodiratime":    (False, MOUNT_ATTR_NODIRATIME),
    "rnoexec":        (False, MOUNT_ATTR_NOEXEC),
    "rnorelatime":    (True,  MOUNT_ATTR_RELATIME),
    "rnostrictatime": (True,  MOUNT_ATTR_STRICTATIME),
    "rnosuid":        (False, MOUNT_ATTR_NOSUID),
    "rnosymfollow":   (False, MOUNT_ATTR_NOSYMFOLLOW),
    "rrelatime":      (False, MOUNT_ATTR_RELATIME),
    "rro":            (False, MOUNT_ATTR_RDONLY),
    "rrw":            (True,  MOUNT_ATTR_RDONLY),
    "rstrictatime":   (False, MOUNT_ATTR_STRICTATIME),
    "rsuid":          (True,  MOUNT_ATTR_NOSUID),
    "rsymfollow":     (True,  MOUNT_ATTR_NOSYMFOLLOW),
}
SPECIAL: frozenset[str] = frozenset({"tmpcopyup", "idmap", "ridmap", "copy-symlink", "src-nofollow", "dest-nofollow"})
# fmt: on

_ATIME_MODES = frozenset({MOUNT_ATTR_NOATIME, MOUNT_ATTR_STRICTATIME, MOUNT_ATTR_RELATIME})
_TO_ATTR = (
    (MS_RDONLY, MOUNT_ATTR_RDONLY),
    (MS_NOSUID, MOUNT_ATTR_NOSUID),
    (MS_NODEV, MOUNT_ATTR_NODEV),
    (MS_NOEXEC, MOUNT_ATTR_NOEXEC),
    (MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
    (MS_NOSYMFOLLOW, MOUNT_ATTR_NOSYMFOLLOW),
)


@record
class MountOptions:
    """What a list of mount options means.

    Shape: `flags` set and `cleared` MS_* bits (never both); `propagation` MS_* values in order;
           `rec_set`, `rec_clear` MOUNT_ATTR_* for the whole tree (mount_setattr(2) wants the whole
           atime field cleared when it sets a mode: that is already in `rec_clear`); `data` the words
           that belong to the file system; `idmap` is "", "idmap", "ridmap" or an explicit mapping
           "uids=..;gids=.." as crun takes it
    """

    flags: int = 0
    cleared: int = 0
    propagation: tuple[int, ...] = ()
    rec_set: int = 0
    rec_clear: int = 0
    data: tuple[str, ...] = ()
    tmpcopyup: bool = False
    idmap: str = ""
    idmap_recursive: bool = False
    copy_symlink: bool = False
    src_nofollow: bool = False
    dest_nofollow: bool = False

    @property
    def bind(self) -> bool:
        """Whether this is a bind mount."""
        return bool(self.flags & MS_BIND)

    @property
    def recursive(self) -> bool:
        """Whether a bind takes the submounts along."""
        return bool(self.flags & MS_REC)


def parse(words: tuple[str, ...]) -> MountOptions:
    """Fold option words into one value; later words win over earlier ones."""
    flags = cleared = rec_set = rec_clear = 0
    propagation: list[int] = []
    data: list[str] = []
    special: dict[str, object] = {}
    for word in words:
        plain = FLAGS.get(word)
        if plain is not None:
            clears, bits = plain
            if clears:
                flags, cleared = flags & ~bits, cleared | bits
            else:
                flags, cleared = flags | bits, cleared & ~bits
            continue
        spread = PROPAGATION.get(word)
        if spread is not None:
            propagation.append(spread)
            continue
        tree = RECURSIVE.get(word)
        if tree is not None:
            clears, bits = tree
            if bits in _ATIME_MODES:
                # atime is a field, not bits: EINVAL unless all of it is cleared with a change of mode.
                rec_clear |= MOUNT_ATTR__ATIME
                rec_set = rec_set & ~MOUNT_ATTR__ATIME | (0 if clears else bits)
            elif clears:
                rec_set, rec_clear = rec_set & ~bits, rec_clear | bits
            else:
                rec_set, rec_clear = rec_set | bits, rec_clear & ~bits
            continue
        if word == "tmpcopyup":
            special["tmpcopyup"] = True
        elif word in ("idmap", "ridmap") or word.startswith(("idmap=", "ridmap=")):
            name, _, mapping = word.partition("=")
            special["idmap"] = mapping or name
            special["idmap_recursive"] = name == "ridmap"
        elif word in SPECIAL:
            special[word.replace("-", "_")] = True
        elif word:
            data.append(word)
    return MountOptions(flags, cleared, tuple(propagation), rec_set, rec_clear, tuple(data), **special)  # type: ignore[arg-type]


def attributes(flags: int) -> int:
    """Translate the per-mount MS_* bits of *flags* to MOUNT_ATTR_*.

    Source: mount_setattr(2); strictatime and noatime are values of one field, relatime is its zero
    """
    made = 0
    for flag, attribute in _TO_ATTR:
        if flags & flag:
            made |= attribute
    if flags & MS_NOATIME:
        made |= MOUNT_ATTR_NOATIME
    elif flags & MS_STRICTATIME:
        made |= MOUNT_ATTR_STRICTATIME
    return made


def known() -> tuple[str, ...]:
    """Return every option word with a meaning of its own, sorted (for `features`)."""
    return tuple(sorted({*FLAGS, *PROPAGATION, *RECURSIVE, "tmpcopyup", "idmap", "ridmap"}))
