"""A Spec and what was prepared for it -> the complete list of operations for the stage.

Pure: everything that must be known about the machine comes in as `LaunchContext`. The order is the
kernel's, and each place where it matters says why.

Source: runtime-spec config.md, config-linux.md, runtime.md#lifecycle; user_namespaces(7), capabilities(7), seccomp(2)
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps

from rootless.errors import SpecError
from rootless.plan.mempolicy import memory_policy_op
from rootless.plan.mounts import MountFacts, dev_ops, encoded, mount_ops
from rootless.plan.wire import FLAGS, OPTIONAL, Op, block, encode
from rootless.spec import caps, mountopts
from rootless.spec.record import record
from rootless.spec.runtime import Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import IdMapping, Linux, MemoryPolicy

CLONE_FLAGS = {
    "user": 0x10000000, "mount": 0x00020000, "pid": 0x20000000, "network": 0x40000000,
    "ipc": 0x08000000, "uts": 0x04000000, "cgroup": 0x02000000, "time": 0x00000080,
}  # fmt: skip
JOIN_ORDER = ("user", "network", "ipc", "uts", "cgroup", "time", "pid", "mount")
SYNC_MAPS, SYNC_HOOKS, SYNC_CGROUP = 1, 2, 3
RLIMITS = ("RLIMIT_CPU", "RLIMIT_FSIZE", "RLIMIT_DATA", "RLIMIT_STACK", "RLIMIT_CORE", "RLIMIT_RSS", "RLIMIT_NPROC",
           "RLIMIT_NOFILE", "RLIMIT_MEMLOCK", "RLIMIT_AS", "RLIMIT_LOCKS", "RLIMIT_SIGPENDING", "RLIMIT_MSGQUEUE",
           "RLIMIT_NICE", "RLIMIT_RTPRIO", "RLIMIT_RTTIME")  # fmt: skip
_SYS_ADMIN = 1 << 21
_SETPCAP = 1 << 8
_NO_LIMIT = (1 << 64) - 1
_IOPRIO_CLASSES = {"IOPRIO_CLASS_RT": 1, "IOPRIO_CLASS_BE": 2, "IOPRIO_CLASS_IDLE": 3}
_POLICIES = {"SCHED_OTHER": 0, "SCHED_FIFO": 1, "SCHED_RR": 2, "SCHED_BATCH": 3, "SCHED_ISO": 4, "SCHED_IDLE": 5,
             "SCHED_DEADLINE": 6}  # fmt: skip
_SCHED_FLAGS = {"SCHED_FLAG_RESET_ON_FORK": 1, "SCHED_FLAG_RECLAIM": 2, "SCHED_FLAG_DL_OVERRUN": 4,
                "SCHED_FLAG_KEEP_POLICY": 8, "SCHED_FLAG_KEEP_PARAMS": 16, "SCHED_FLAG_UTIL_CLAMP_MIN": 32,
                "SCHED_FLAG_UTIL_CLAMP_MAX": 64}  # fmt: skip


@record
class LaunchContext:
    """What the launch has prepared.

    Shape: *slots* names the descriptors that the stage inherits, in order, the first as number
           `first_slot`; "root" is the detached root file system, "cgroup", "start", "mount:DEST",
           "ns:TYPE", "log" as they are used. *hard_limits* are our own hard limits by RLIMIT_ name. *cgroup_adopt*: the
           cgroup cannot be cloned into from ours, somebody moves the helper there before it clones
    """

    bundle: str
    root_path: str
    first_slot: int = 5
    slots: tuple[str, ...] = ()
    seccomp: bytes = b""
    seccomp_flags: int = 0
    seccomp_listener: bool = False
    reaper: bool = False
    parent_death: bool = True
    no_pivot: bool = False
    new_keyring: str = ""
    preserve_fds: int = 0
    hard_limits: tuple[tuple[str, int], ...] = ()
    setgroups: bool = True
    tty_gid: bool = True
    hooks_outside: bool = False
    hooks_inside: tuple[Op, ...] = ()
    hooks_start: tuple[Op, ...] = ()
    root_attrs: int = 0
    umask_default: int = 0o022
    groups_kept: bool = False
    cwd_make: bool = True
    cwd_owner: tuple[int, int] = (0, 0)
    sysctls_required: tuple[str, ...] | None = None  # None: all of them
    memory_policy: MemoryPolicy | None = None
    cgroup_path: str = "/sys/fs/cgroup"
    cgroup_adopt: bool = False
    personality: int | None = None  # of an exec; the container's own comes from the Spec


@record
class LaunchPlan:
    """The list for the stage, and what a person should be told about it."""

    ops: tuple[Op, ...]
    clone_flags: int
    new_userns: bool
    warnings: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """Return the plan as it goes into the memfd."""
        return encode(self.ops)


def plan_launch(spec: Spec, context: LaunchContext) -> LaunchPlan:
    """Return the plan that makes *spec*'s container and runs its process.

    Raises: SpecError with the pointer of what cannot be done
    """
    process = spec.process
    linux = spec.linux
    if process is None or linux is None:
        raise SpecError("is required", pointer="/process" if process is None else "/linux")
    warnings: list[str] = []
    before, clone_flags = _namespaces(linux, context)
    new_userns = bool(clone_flags & CLONE_FLAGS["user"])
    # Until the parent has written the maps we are nobody and may not set ids.
    mapped = [
        Op("SYNC", a=SYNC_MAPS, why="wait for the id maps"),
        Op("SETID", a=_first_id(linux.uid_mappings), b=_first_id(linux.gid_mappings),
           why="become root of the user namespace"),
    ]  # fmt: skip
    if new_userns and before and before[-1].kind in ("UNSHARE", "TIMENS"):
        # A time namespace is for the next child only (time_namespaces(7)) and needs root of the user namespace:
        # the helper makes that one too, and the container is cloned into both.
        before = [Op("UNSHARE", a=CLONE_FLAGS["user"], why="make the user namespace"), *mapped, *before]
        clone_flags &= ~CLONE_FLAGS["user"]
    ops = [*_adopted(context), _close_strange(context), *_oom(process), *before]
    ops.append(Op("CLONE", a=clone_flags, fd=_slot(context, "cgroup"), why="clone the container"))
    if clone_flags & CLONE_FLAGS["user"]:
        ops += mapped
    elif any([n.type == "user" for n in linux.namespaces]):
        ops.append(Op("SETID", OPTIONAL, why="become root of the user namespace"))
    # Whoever could trace or read us before the plan is through would hold descriptors of the host. Not earlier:
    # the files of an undumpable process belong to the machine's root, and its maps could not be written.
    ops.append(Op("DUMPABLE", a=0, why="hide from others"))
    ops.append(Op("SETSID", why="make a session"))
    if context.new_keyring:
        ops.append(Op("KEYRING", OPTIONAL, s=(encoded(context.new_keyring),), why="make a session keyring"))
    if clone_flags & CLONE_FLAGS["mount"]:
        ops += _root(spec, linux, context)
    else:
        ops += context.hooks_inside
    if clone_flags & CLONE_FLAGS["network"]:
        ops.append(Op("LOOPBACK", OPTIONAL, why="bring up lo"))
    if spec.hostname and _has(linux, "uts"):
        # podman's seccomp profile refuses sethostname to a nested engine even in a new uts namespace.
        ops.append(Op("HOSTNAME", OPTIONAL, s=(encoded(spec.hostname),), why=f"set the host name {spec.hostname}"))
    if spec.domainname and _has(linux, "uts"):
        ops.append(Op("DOMAINNAME", OPTIONAL, s=(encoded(spec.domainname),), why="set the domain name"))
    ops += process_ops(process, context, warnings, personality=personality_of(linux))
    return LaunchPlan(tuple(ops), clone_flags, new_userns, tuple(warnings))


def plan_exec(process: Process, namespaces: tuple[str, ...], context: LaunchContext) -> LaunchPlan:
    """Return the plan that runs *process* in a container whose *namespaces* are the slots "ns:TYPE"."""
    warnings: list[str] = []
    ops = [*_adopted(context), *_oom(process), Op("DUMPABLE", a=0, why="hide from the container while joining")]
    ops.append(_close_strange(context))
    joins = {kind: Op("SETNS", a=CLONE_FLAGS[kind], fd=_slot(context, f"ns:{kind}"), why=f"join the {kind} namespace")
             for kind in namespaces}  # fmt: skip
    ops += [joins[kind] for kind in JOIN_ORDER if kind in joins and kind != "cgroup"]
    ops.append(Op("CLONE", fd=_slot(context, "cgroup"), why="clone the process"))
    if "cgroup" in joins:
        # Not before: where cgroup namespaces delegate (mount option nsdelegate), whoever is in one may not enter a
        # cgroup while the one it comes from lies outside (cgroups(7) ENOENT).
        ops.append(joins["cgroup"])
    if "user" in namespaces:
        ops.append(Op("SETID", OPTIONAL, why="become root of the user namespace"))
    ops.append(Op("SETSID", why="make a session"))
    if process.terminal:
        ops.append(_console(process, FLAGS["JOINED"]))
    ops += process_ops(process, context, warnings, personality=context.personality)
    return LaunchPlan(tuple(ops), 0, False, tuple(warnings))


def _oom(process: Process) -> list[Op]:
    """Set oom_score_adj in the helper, to be inherited: /proc/self of what is not dumpable belongs to root."""
    if process.oom_score_adj is None:
        return []
    return [Op("OOM", OPTIONAL, a=process.oom_score_adj, why="set oom_score_adj")]


def _adopted(context: LaunchContext) -> list[Op]:
    return [Op("SYNC", a=SYNC_CGROUP, why="wait to be moved into the cgroup")] if context.cgroup_adopt else []


def _close_strange(context: LaunchContext) -> Op:
    """Close what our caller left open and nobody asked for: a container that waits for `start` would hold it."""
    return Op("CLOSE", a=context.first_slot + len(context.slots), b=0xFFFFFFFF, why="close descriptors of the caller")


def _namespaces(linux: Linux, context: LaunchContext) -> tuple[list[Op], int]:
    flags = 0
    joined: dict[str, Op] = {}
    for at, namespace in enumerate(linux.namespaces):
        bit = CLONE_FLAGS.get(namespace.type)
        if bit is None:
            raise SpecError(f"unknown namespace {namespace.type}", pointer=f"/linux/namespaces/{at}/type")
        if namespace.path is None:
            flags |= bit
        else:
            joined[namespace.type] = Op("SETNS", a=bit, fd=_slot(context, f"ns:{namespace.type}"),
                                        why=f"join the {namespace.type} namespace {namespace.path}")  # fmt: skip
    ops = [joined[kind] for kind in JOIN_ORDER if kind in joined]
    if flags & CLONE_FLAGS["time"]:
        # clone3 takes no CLONE_NEWTIME with other threads' exit signal bits: unshare moves the next child.
        flags &= ~CLONE_FLAGS["time"]
        ops.append(Op("UNSHARE", a=CLONE_FLAGS["time"], why="make a time namespace"))
        lines = [f"{clock} {offset.secs or 0} {offset.nanosecs or 0}" for clock, offset in linux.time_offsets]
        if lines:
            ops.append(Op("TIMENS", s=(encoded("\n".join(lines) + "\n"),), why="set clock offsets"))
    return ops, flags


def _root(spec: Spec, linux: Linux, context: LaunchContext) -> list[Op]:
    ops: list[Op] = []
    propagation = mountopts.PROPAGATION.get(linux.rootfs_propagation or "rslave")
    if propagation is None:
        raise SpecError(f"unknown propagation {linux.rootfs_propagation}", pointer="/linux/rootfsPropagation")
    # Nothing that we mount may reach the namespace that we were cloned from, and pivot_root refuses a
    # shared parent (pivot_root(2) EINVAL).
    outside = (
        propagation
        if not propagation & (mountopts.MS_SHARED | mountopts.MS_UNBINDABLE)
        else mountopts.PROPAGATION["rslave"]
    )
    ops.append(Op("PROPAGATION", a=outside, s=(b"/",), why="stop mount propagation"))
    ops.append(Op("ROOT", fd=_slot(context, "root"), a=context.root_attrs,
                  s=(encoded(context.root_path),), why="attach the root file system"))  # fmt: skip
    slots = tuple(
        [(name[6:], context.first_slot + i) for i, name in enumerate(context.slots) if name.startswith("mount:")]
    )
    facts = MountFacts(context.bundle, slots, context.tty_gid, context.cgroup_path, context.root_path)
    now, later = mount_ops(spec.mounts, facts)
    ops += now
    ops += dev_ops(spec.mounts, tuple([d.path for d in linux.devices]))
    if spec.process is not None and context.cwd_make and spec.process.cwd not in ("", "/"):
        ops.append(Op("MKDIR", OPTIONAL, a=0o755, b=context.cwd_owner[0], c=context.cwd_owner[1],
                      s=(encoded(spec.process.cwd),), why="make the working directory"))  # fmt: skip
    for key, value in linux.sysctl:
        # Before /proc/sys becomes read-only.
        path = "/proc/sys/" + key.replace(".", "/")
        # A default of ours may fail where the outer container's /proc, which is read-only, had to be shown.
        wanted = context.sysctls_required is None or key in context.sysctls_required
        ops.append(Op("WRITE", 0 if wanted else OPTIONAL, s=(encoded(path), encoded(value)), why=f"set sysctl {key}"))
    if spec.process is not None and spec.process.terminal:
        ops.append(_console(spec.process))
    ops += [Op("READONLY", s=(encoded(p),), why=f"make {p} read-only") for p in dict.fromkeys(linux.readonly_paths)]
    ops += [Op("MASK", s=(encoded(p),), why=f"mask {p}") for p in dict.fromkeys(linux.masked_paths)]
    ops += later
    if spec.root is not None and spec.root.readonly:
        ops.append(Op("SETATTR", a=mountopts.MOUNT_ATTR_RDONLY, s=(b"/",), why="make the root read-only"))
    if context.hooks_outside:
        ops.append(Op("SYNC", a=SYNC_HOOKS, why="hooks of the runtime"))
    ops += context.hooks_inside
    ops.append(Op("PIVOT", FLAGS["NO_PIVOT"] if context.no_pivot else 0, why="change the root"))
    if propagation != outside:
        ops.append(Op("PROPAGATION", a=propagation, s=(b"/",), why="propagation of the root"))
    return ops


def _console(process: Process, flags: int = 0) -> Op:
    size = process.console_size
    return Op("CONSOLE", flags, a=size.height if size else 0, b=size.width if size else 0, c=process.user.uid,
              why="open a terminal")  # fmt: skip


def process_ops(
    process: Process, context: LaunchContext, warnings: list[str], *, personality: int | None = None
) -> list[Op]:
    """Return the operations from the limits to execve; what was adapted is added to *warnings*."""
    if not process.args:
        raise SpecError("must have at least one word", pointer="/process/args")
    ops: list[Op] = [Op("NAME", s=(b"rootless:[init]",), why="name the process")]
    ops += _limits(process, context, warnings)
    if personality is not None:
        ops.append(Op("PERSONALITY", a=personality, why="set the personality"))
    if process.io_priority is not None:
        klass = _IOPRIO_CLASSES.get(process.io_priority.class_)
        if klass is None:
            raise SpecError(f"unknown class {process.io_priority.class_}", pointer="/process/ioPriority/class")
        ops.append(Op("IOPRIO", a=klass << 13 | process.io_priority.priority, why="set the I/O priority"))
    if process.scheduler is not None:
        ops.append(_scheduler(process))
    if context.memory_policy is not None:
        ops.append(memory_policy_op(context.memory_policy))
    ops.append(
        Op(
            "UMASK",
            a=process.user.umask if process.user.umask is not None else context.umask_default,
            why="set the umask",
        )
    )
    sets = [caps.mask(names)[0] for names in _cap_names(process)]
    bounding, effective, inheritable, permitted, ambient = sets
    first, *others = caps.names(ambient & ~(inheritable & permitted)) or ("",)
    if first:
        # prctl(2) PR_CAP_AMBIENT_RAISE: EPERM. Builders ask for a dozen that are never inheritable: one line for all.
        also = f" (nor are {', '.join(others)})" if others else ""
        warnings.append(f"can't raise ambient capability {first}: it is not both permitted and inheritable{also}")
    ambient &= inheritable & permitted
    extra = process.user.additional_gids
    if not context.groups_kept and context.setgroups:
        ops.append(Op("GROUPS", s=(struct.pack(f"<{len(extra)}I", *extra),), why="set the groups"))
    elif not context.groups_kept and extra:
        # In a namespace whose gid map was written without privilege setgroups is EPERM (user_namespaces(7)).
        warnings.append(f"the groups {', '.join([str(g) for g in extra])} cannot be given: no subordinate ids")
    ops.append(Op("BOUNDING", a=bounding, why="drop the bounding set"))  # needs CAP_SETPCAP: before the rest goes
    ops.append(Op("USER", a=process.user.uid, b=process.user.gid, why=f"become {process.user.uid}:{process.user.gid}"))
    ops.append(Op("CWD", s=(encoded(process.cwd or "/"),), why=f"chdir to cwd ({process.cwd})"))
    # Without no_new_privs a filter needs CAP_SYS_ADMIN (seccomp(2) EACCES), and it is loaded last.
    borrowed = _SYS_ADMIN if context.seccomp and not process.no_new_privileges else 0
    ops.append(Op("CAPS", a=effective | borrowed, b=permitted | borrowed, c=inheritable, d=0 if borrowed else ambient,
                  why="set the capabilities"))  # fmt: skip
    argv, env = block([encoded(w) for w in process.args]), block([encoded(w) for w in process.env])
    ops.append(Op("LOOKUP", s=(argv, env), why=process.args[0]))
    if process.no_new_privileges:
        ops.append(Op("NNP", why="set no_new_privs"))
    ops += _labels(process)  # before the filter, which may not allow it; they come into force with execve
    ops.append(Op("CLOEXEC", a=3 + context.preserve_fds, why="close what is not the container's"))
    if context.parent_death:
        # After the last change of ids, which would clear it (PR_SET_PDEATHSIG(2const)).
        ops.append(Op("PDEATHSIG", a=9, why="die with the supervisor"))
    start = _slot(context, "start")
    if start >= 0:
        # Nobody's child any more, it may wait for long: only what it waits with stays open, and then `exec` may
        # look at its namespaces (ptrace(2) "PTRACE_MODE_READ" is refused for what is not dumpable).
        if start > context.first_slot:
            ops.append(Op("CLOSE", a=context.first_slot, b=start - 1, why="close what it was made with"))
        ops.append(Op("DUMPABLE", a=1, why="show its namespaces"))
    ops.append(Op("READY", why="created"))
    ops.append(Op("START", fd=start, why="wait for start"))
    if context.seccomp:
        ops.append(Op("SECCOMP", FLAGS["LISTENER"] if context.seccomp_listener else 0, a=context.seccomp_flags,
                      s=(context.seccomp,), why="load the seccomp filter"))  # fmt: skip
    if borrowed:
        ops.append(Op("CAPS", a=effective, b=permitted, c=inheritable, d=ambient, why="set the capabilities"))
    ops += context.hooks_start  # they are the container's: the filter holds for them too
    ops.append(Op("EXEC", FLAGS["REAPER"] if context.reaper else 0, s=(argv, env), why=process.args[0]))
    return ops


def _labels(process: Process) -> list[Op]:
    """Ask the security modules for another label at execve (apparmor(7) changeprofile, selinux setexeccon(3))."""
    ops: list[Op] = []
    if process.apparmor_profile:
        ops.append(Op("WRITE", s=(b"/proc/thread-self/attr/apparmor/exec", encoded(f"exec {process.apparmor_profile}")),
                      why=f"apply the apparmor profile {process.apparmor_profile}"))  # fmt: skip
    if process.selinux_label:
        ops.append(Op("WRITE", s=(b"/proc/thread-self/attr/exec", encoded(process.selinux_label)),
                      why=f"apply the selinux label {process.selinux_label}"))  # fmt: skip
    return ops


def _limits(process: Process, context: LaunchContext, warnings: list[str]) -> list[Op]:
    hard_limits = dict(context.hard_limits)
    ops: list[Op] = []
    for at, limit in enumerate(process.rlimits):
        if limit.type not in RLIMITS:
            raise SpecError(f"unknown limit {limit.type}", pointer=f"/process/rlimits/{at}/type")
        soft, hard = limit.soft, limit.hard
        ours = hard_limits.get(limit.type, _NO_LIMIT)
        if hard > ours or soft > ours:
            # Only CAP_SYS_RESOURCE of the machine raises a hard limit (setrlimit(2) EPERM).
            warnings.append(
                f"{limit.type.lower()}: {min(hard, _NO_LIMIT)} is above our hard limit {ours}, which is used"
            )
            soft, hard = min(soft, ours), min(hard, ours)
        ops.append(Op("RLIMIT", a=RLIMITS.index(limit.type), b=soft, c=hard, why=f"set {limit.type}"))
    return ops


def _scheduler(process: Process) -> Op:
    scheduler = process.scheduler
    assert scheduler is not None
    policy = _POLICIES.get(scheduler.policy)
    if policy is None:
        raise SpecError(f"unknown policy {scheduler.policy}", pointer="/process/scheduler/policy")
    flags = 0
    for at, name in enumerate(scheduler.flags):
        if name not in _SCHED_FLAGS:
            raise SpecError(f"unknown flag {name}", pointer=f"/process/scheduler/flags/{at}")
        flags |= _SCHED_FLAGS[name]
    packed = struct.pack("<IIQiIQQQ", 48, policy, flags, scheduler.nice or 0, scheduler.priority or 0,
                         scheduler.runtime or 0, scheduler.deadline or 0, scheduler.period or 0)  # fmt: skip
    return Op("SCHED", s=(packed,), why=f"set the scheduler {scheduler.policy}")


def personality_of(linux: Linux) -> int | None:
    """Return what personality(2) is told, None to leave it. Raises: SpecError"""
    if linux.personality is None:
        return None
    domains = {"LINUX": 0, "LINUX32": 8}
    if linux.personality.domain not in domains:
        raise SpecError(f"unknown domain {linux.personality.domain}", pointer="/linux/personality/domain")
    return domains[linux.personality.domain]


def _cap_names(process: Process) -> tuple[tuple[str, ...], ...]:
    sets = process.capabilities
    if sets is None:
        return (), (), (), (), ()
    return sets.bounding, sets.effective, sets.inheritable, sets.permitted, sets.ambient


def _first_id(mappings: tuple[IdMapping, ...]) -> int:
    """Return 0 if it is mapped, else the lowest id that is."""
    ids = sorted([m.container_id for m in mappings])
    return ids[0] if ids else 0


def _has(linux: Linux, kind: str) -> bool:
    return any([n.type == kind for n in linux.namespaces])


def _slot(context: LaunchContext, name: str) -> int:
    return context.first_slot + context.slots.index(name) if name in context.slots else -1
