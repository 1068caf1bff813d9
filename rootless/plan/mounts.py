"""Mounts of a Spec as operations of the stage, with what replaces each where the kernel says no.

A fresh proc or sysfs is refused where the outer one is masked or belongs to another namespace, a
fresh cgroup2 or mqueue likewise: each such MOUNT is followed by the BIND that takes its place (flag
ELSE), so that nothing has to be guessed from the outside.

Source: runtime-spec config.md#mounts, config-linux.md#default-filesystems; mount_namespaces(7) "Restrictions"
"""

from __future__ import annotations

from rootless.plan.wire import ELSE, FLAGS, OPTIONAL, RECURSIVE, Op
from rootless.spec import mountopts
from rootless.spec.mountopts import MountOptions
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Mount

SKIP_MISSING = FLAGS["SKIP_MISSING"]
ORDINARY = FLAGS["NOFOLLOW"] | FLAGS["STRICT"]
NODES = ("null", "zero", "full", "random", "urandom", "tty")
LINKS = (("fd", "/proc/self/fd"), ("stdin", "/proc/self/fd/0"), ("stdout", "/proc/self/fd/1"),
         ("stderr", "/proc/self/fd/2"), ("ptmx", "pts/ptmx"))  # fmt: skip
PROC_FILES = frozenset(
    [f"/proc/{n}" for n in ("cpuinfo", "diskstats", "meminfo", "stat", "swaps", "uptime", "loadavg", "slabinfo",
                            "sys/kernel/ns_last_pid", "sys/crypto/fips_enabled")]
)  # fmt: skip
"""What may be mounted over in /proc: figures that lxcfs and the like adapt to the container."""
_MS_BIND_ONLY = mountopts.MS_BIND | mountopts.MS_REC | mountopts.MS_REMOUNT


@record
class MountFacts:
    """What the translation has to know beyond the Spec.

    Shape: *bundle* is the directory that relative sources start from; *slots* gives the stage's descriptor of a
           mount that was prepared outside, by destination; *tty_gid* says whether gid 5 exists inside;
           *cgroup_path* is the container's own cgroup where it has one, to be shown in place of a fresh cgroup2;
           *root_path* is the root on the host: a source in it means what the container has there by then
    """

    bundle: str = "/"
    slots: tuple[tuple[str, int], ...] = ()
    tty_gid: bool = True
    cgroup_path: str = "/sys/fs/cgroup"
    root_path: str = ""


def encoded(text: str) -> bytes:
    """Return *text* as the kernel sees it (what os.fsencode does)."""
    return text.encode("utf-8", "surrogateescape")


def mount_ops(mounts: tuple[Mount, ...], facts: MountFacts) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
    """Return the operations of all mounts in their order, and those that must wait until the root is complete.

    Shape: the second part holds read-only flags of file systems in which others are still mounted
    """
    now: list[Op] = []
    later: list[Op] = []
    slots = dict(facts.slots)
    for mount in mounts:
        options = mountopts.parse(mount.options)
        target = encoded(_inside(mount.destination, facts))
        if _cleaned(mount.destination) in ("/proc", "/sys"):
            target = encoded(_cleaned(mount.destination))  # with a slash at the end a link would be followed
        kind = "bind" if options.bind or mount.type == "bind" else mount.type or "none"
        if mount.destination in slots:
            attrs = mountopts.attributes(options.flags)
            now.append(Op("ATTACH", fd=slots[mount.destination], a=attrs, s=(b"", target), why=f"mount {kind}"))
        elif kind == "bind":
            now.append(_bind(mount, options, target, facts))
        else:
            now += _new(kind, mount, options, target, facts)
        for spread in options.propagation:
            recursive = RECURSIVE if spread & mountopts.MS_REC else 0
            now.append(Op("SETATTR", recursive, c=spread & ~mountopts.MS_REC, s=(target,), why="propagation"))
        if options.rec_set or options.rec_clear:
            now.append(Op("SETATTR", RECURSIVE, a=options.rec_set, b=options.rec_clear, s=(target,),
                          why="attributes of the tree"))  # fmt: skip
        if kind == "tmpfs" and options.flags & mountopts.MS_RDONLY:
            later.append(Op("SETATTR", a=mountopts.MOUNT_ATTR_RDONLY, s=(target,), why="read-only"))
    return tuple(now), tuple(later)


def _cleaned(path: str) -> str:
    return "/" + "/".join([part for part in path.split("/") if part not in ("", ".")])


def _inside(path: str, facts: MountFacts) -> str:
    """Return what *path* is called in the container, if it is the host's name of something in the root."""
    if facts.root_path and f"{path}/".startswith(f"{facts.root_path}/"):
        return path[len(facts.root_path) :] or "/"
    return path


def _bind(mount: Mount, options: MountOptions, target: bytes, facts: MountFacts) -> Op:
    source = mount.source or ""
    if not source.startswith("/"):
        source = f"{facts.bundle}/{source}"
    # Flags are only added: one that the source carries may be locked (mount_namespaces(7)), and taking it away
    # is not for a container to ask.
    flags = RECURSIVE if options.recursive else 0
    if options.copy_symlink:
        flags |= FLAGS["COPY_LINK"]
    if options.src_nofollow:
        flags |= FLAGS["NOFOLLOW"]
    if options.dest_nofollow:
        flags |= FLAGS["TARGET_NOFOLLOW"]
    if _cleaned(mount.destination) in ("/proc", "/sys"):
        flags |= FLAGS["ORDINARY"]  # see the same for a fresh one below
    if mount.destination in PROC_FILES:
        flags |= FLAGS["IN_PROC"]
    shown, source = source, _inside(source, facts)
    if source != shown:
        flags |= FLAGS["SOURCE_IN_ROOT"]
    return Op("BIND", flags, a=mountopts.attributes(options.flags),
              s=(encoded(source), target), why=f"bind {shown} on {mount.destination}")  # fmt: skip


def _new(kind: str, mount: Mount, options: MountOptions, target: bytes, facts: MountFacts) -> tuple[Op, ...]:
    flags = options.flags & ~_MS_BIND_ONLY
    attrs = mountopts.attributes(options.flags)
    data = options.data
    source = encoded(mount.source or kind)
    why = f"mount {kind} on {mount.destination}"

    def fresh(op_flags: int = 0, words: tuple[str, ...] = data, what: str = kind) -> Op:
        return Op("MOUNT", op_flags, a=flags, s=(source, target, encoded(what), encoded(",".join(words))), why=why)

    def outer(path: str, attributes: int = attrs, op_flags: int = 0) -> Op:
        op_flags |= FLAGS["ORDINARY"] if target in (b"/proc", b"/sys") else 0
        return Op("BIND", RECURSIVE | op_flags, a=attributes, d=1, s=(encoded(path), target), why=f"bind {path}")

    read_only = mountopts.MOUNT_ATTR_RDONLY
    if kind == "proc":
        # What reads /proc trusts it: a link of the image must not put it elsewhere (CVE-2019-19921).
        return fresh(ELSE | ORDINARY), outer("/proc", attrs)
    if kind == "sysfs":
        return fresh(ELSE | ORDINARY), outer("/sys", attrs | read_only)
    if kind == "mqueue":
        return fresh(ELSE), outer("/dev/mqueue", attrs, OPTIONAL)
    if kind in ("cgroup", "cgroup2"):
        return fresh(ELSE | FLAGS["STRICT"], data, "cgroup2"), outer(facts.cgroup_path, attrs | read_only, OPTIONAL)
    if kind == "devpts":
        plain = tuple([w for w in data if not w.startswith("gid=")])
        if plain == data:
            return (fresh(),)
        if not facts.tty_gid:
            return (fresh(0, plain),)
        return fresh(ELSE), fresh(0, plain)
    if kind == "tmpfs" and flags & mountopts.MS_RDONLY:
        flags &= ~mountopts.MS_RDONLY  # others are mounted in it first
    return (fresh(FLAGS["COPYUP"] if options.tmpcopyup and kind == "tmpfs" else 0),)


def dev_ops(mounts: tuple[Mount, ...], devices: tuple[str, ...]) -> tuple[Op, ...]:
    """Return what fills /dev: the nodes of the standard and *devices*, bound from the host, and the links.

    Nothing where /dev is the host's own (a bind): it is complete, and not ours to change.
    """
    for mount in mounts:
        if mount.destination.rstrip("/") == "/dev" and (mount.type == "bind" or "bind" in mount.options
                                                        or "rbind" in mount.options):  # fmt: skip
            return ()
    # No mknod in a user namespace (mknod(2) EPERM): the host's node is bound over an empty file.
    ops = [
        Op("BIND", SKIP_MISSING, s=(encoded(f"/dev/{n}"), encoded(f"/dev/{n}")), why=f"device /dev/{n}") for n in NODES
    ]
    standard = {f"/dev/{n}" for n in NODES} | {f"/dev/{name}" for name, _ in LINKS}
    ops += [
        Op("BIND", s=(encoded(path), encoded(path)), why=f"device {path}") for path in devices if path not in standard
    ]
    ops += [Op("SYMLINK", s=(encoded(text), encoded(f"/dev/{name}")), why=f"/dev/{name}") for name, text in LINKS]
    return tuple(ops)
