"""What a seccomp profile means: JSON or our own table -> a `Filter` with everything decided.

Three dialects are read: the profiles of containers-common and Docker (`includes`, `excludes`, `archMap`,
`errno` by name), `linux.seccomp` of the runtime spec (a subset, decoded already), and our own table
(`spec/seccomp_table.py`). The result names system calls; `kernel/libseccomp.py` turns names into numbers.

Source: runtime-spec config-linux.md#seccomp; containers-common pkg/seccomp (documented in
        seccomp.json(5)); seccomp(2); seccomp_rule_add(3)
"""

from __future__ import annotations

from rootless.errors import SpecError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.spec.linux import Seccomp

KILL_PROCESS, KILL_THREAD, TRAP, ERRNO = 0x80000000, 0x00000000, 0x00030000, 0x00050000
NOTIFY, TRACE, LOG, ALLOW = 0x7FC00000, 0x7FF00000, 0x7FFC0000, 0x7FFF0000
"""What the kernel is told to do; the low 16 bits carry an errno or a tracer's message."""

ACTIONS: dict[str, int] = {
    "SCMP_ACT_KILL": KILL_THREAD, "SCMP_ACT_KILL_THREAD": KILL_THREAD, "SCMP_ACT_KILL_PROCESS": KILL_PROCESS,
    "SCMP_ACT_TRAP": TRAP, "SCMP_ACT_ERRNO": ERRNO, "SCMP_ACT_NOTIFY": NOTIFY, "SCMP_ACT_TRACE": TRACE,
    "SCMP_ACT_LOG": LOG, "SCMP_ACT_ALLOW": ALLOW,
}  # fmt: skip

NE, LT, LE, EQ, GE, GT, MASKED_EQ = 1, 2, 3, 4, 5, 6, 7
OPERATORS: dict[str, int] = {
    "SCMP_CMP_NE": NE, "SCMP_CMP_LT": LT, "SCMP_CMP_LE": LE, "SCMP_CMP_EQ": EQ, "SCMP_CMP_GE": GE,
    "SCMP_CMP_GT": GT, "SCMP_CMP_MASKED_EQ": MASKED_EQ,
}  # fmt: skip

ARCHES: dict[str, int] = {
    "SCMP_ARCH_X86": 0x40000003, "SCMP_ARCH_X86_64": 0xC000003E, "SCMP_ARCH_X32": 0x4000003E,
    "SCMP_ARCH_ARM": 0x40000028, "SCMP_ARCH_AARCH64": 0xC00000B7, "SCMP_ARCH_MIPS": 0x00000008,
    "SCMP_ARCH_MIPS64": 0x80000008, "SCMP_ARCH_MIPS64N32": 0xA0000008, "SCMP_ARCH_MIPSEL": 0x40000008,
    "SCMP_ARCH_MIPSEL64": 0xC0000008, "SCMP_ARCH_MIPSEL64N32": 0xE0000008, "SCMP_ARCH_PPC": 0x00000014,
    "SCMP_ARCH_PPC64": 0x80000015, "SCMP_ARCH_PPC64LE": 0xC0000015, "SCMP_ARCH_S390": 0x00000016,
    "SCMP_ARCH_S390X": 0x80000016, "SCMP_ARCH_PARISC": 0x0000000F, "SCMP_ARCH_PARISC64": 0x8000000F,
    "SCMP_ARCH_RISCV64": 0xC00000F3, "SCMP_ARCH_LOONGARCH64": 0xC0000102,
}  # fmt: skip
"""libseccomp's name of an architecture -> its AUDIT_ARCH value (x32 has one of libseccomp's own)."""


@record
class Machine:
    """One kind of machine: how profiles call it, and what else its kernel runs."""

    name: str
    """As uname(2) says."""
    go: str
    """As profiles say in `arches`."""
    arches: tuple[str, ...]
    """Its own architecture first, then those that its kernel may run too."""


MACHINES: tuple[Machine, ...] = (
    Machine("x86_64", "amd64", ("SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32")),
    Machine("i686", "x86", ("SCMP_ARCH_X86",)),
    Machine("aarch64", "arm64", ("SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM")),
    Machine("armv7l", "arm", ("SCMP_ARCH_ARM",)),
    Machine("mips64", "mips64", ("SCMP_ARCH_MIPS64", "SCMP_ARCH_MIPS", "SCMP_ARCH_MIPS64N32")),
    Machine("mips64el", "mips64le", ("SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64N32")),
    Machine("ppc64le", "ppc64le", ("SCMP_ARCH_PPC64LE",)),
    Machine("s390x", "s390x", ("SCMP_ARCH_S390X", "SCMP_ARCH_S390")),
    Machine("riscv64", "riscv64", ("SCMP_ARCH_RISCV64",)),
)


def machine(name: str) -> Machine:
    """Return the machine that uname(2) calls *name*. Raises: SpecError for one that nobody described"""
    if name in ("i386", "i486", "i586"):
        name = "i686"
    if name.startswith("armv"):
        name = "armv7l"
    for one in MACHINES:
        if one.name == name:
            return one
    raise SpecError(f"no seccomp architecture is known for machine {name}")


@record
class Condition:
    """A comparison of one argument; for MASKED_EQ *a* is the mask and *b* the value."""

    index: int
    op: int
    a: int
    b: int = 0


@record
class Rule:
    """What happens to the system call *name* when all conditions hold."""

    name: str
    action: int
    conditions: tuple[Condition, ...] = ()


@record
class Filter:
    """A whole filter. Rules with the default action are not listed: libseccomp refuses them."""

    default: int
    arches: tuple[int, ...]
    """AUDIT_ARCH values, the machine's own first; a call from another one kills the thread."""
    rules: tuple[Rule, ...]


EPERM = 1
ERRNO_NUMBERS: dict[str, int] = {
    "EPERM": 1, "ENOENT": 2, "ESRCH": 3, "EINTR": 4, "EIO": 5, "ENXIO": 6, "EBADF": 9, "EAGAIN": 11, "ENOMEM": 12,
    "EACCES": 13, "EFAULT": 14, "EBUSY": 16, "EEXIST": 17, "ENODEV": 19, "ENOTDIR": 20, "EISDIR": 21, "EINVAL": 22,
    "ENOTTY": 25, "ENOSPC": 28, "EROFS": 30, "EPIPE": 32, "ENOSYS": 38, "ENOTSUP": 95, "EOPNOTSUPP": 95,
    "EAFNOSUPPORT": 97,
}  # fmt: skip
"""Names that a profile may use beside numbers (asm-generic; mips and sparc, which differ, are not offered)."""


def action_value(name: object, errno: int | None, pointer: str) -> int:
    """Return the kernel's value of an action; without a number ERRNO and TRACE carry EPERM, as runc's do."""
    value = ACTIONS.get(name) if isinstance(name, str) else None
    if value is None:
        raise SpecError(f"unknown action {name!r}", pointer=pointer, hint=f"use one of {', '.join(ACTIONS)}")
    if value in (ERRNO, TRACE):
        number = EPERM if errno is None else errno
        if not 0 <= number <= 0xFFFF:
            raise SpecError(f"errno {number} does not fit in 16 bits", pointer=pointer)
        return value | number
    return value


def arch_values(names: tuple[str, ...], own: Machine, pointer: str) -> tuple[int, ...]:
    """Return AUDIT_ARCH values, the machine's own first: libseccomp adds it in any case."""
    values = [ARCHES[own.arches[0]]]
    for at, name in enumerate(names):
        value = ARCHES.get(name)
        if value is None:
            if name == "SCMP_ARCH_NATIVE":
                continue
            raise SpecError(f"unknown architecture {name!r}", pointer=f"{pointer}/{at}")
        if value not in values:
            values.append(value)
    return tuple(values)


def rules_of(names: tuple[str, ...], action: int, conditions: tuple[Condition, ...], default: int) -> list[Rule]:
    """Return one rule per name; an argument that is compared twice makes alternatives.

    libseccomp takes each argument once in a rule. runc and crun then add the comparisons one by one,
    so that any of them is enough, and profiles rely on it.
    """
    if action == default:
        return []
    indices = [c.index for c in conditions]
    if len(set(indices)) == len(indices):
        return [Rule(name, action, conditions) for name in names]
    return [Rule(name, action, (c,)) for name in names for c in conditions]


def filter_of_spec(seccomp: Seccomp, machine_name: str) -> Filter:
    """Return the filter that `linux.seccomp` of a config.json asks for.

    Raises: SpecError with the JSON pointer of an unknown action, operator or architecture
    """
    base = "/linux/seccomp"
    own = machine(machine_name)
    default = action_value(seccomp.default_action, seccomp.default_errno_ret, f"{base}/defaultAction")
    arches = arch_values(seccomp.architectures, own, f"{base}/architectures")
    rules: list[Rule] = []
    for at, entry in enumerate(seccomp.syscalls):
        pointer = f"{base}/syscalls/{at}"
        action = action_value(entry.action, entry.errno_ret, f"{pointer}/action")
        conditions = tuple(
            [
                _condition(a.index, a.op, a.value, a.value_two or 0, f"{pointer}/args/{n}")
                for n, a in enumerate(entry.args)
            ]
        )
        if not entry.names:
            raise SpecError("a rule without names", pointer=f"{pointer}/names")
        rules += rules_of(entry.names, action, conditions, default)
    return Filter(default, arches, tuple(rules))


def filter_of_profile(profile: Any, capabilities: frozenset[str], machine_name: str) -> Filter:
    """Return the filter of a profile in the JSON of containers-common and Docker.

    *capabilities* is the bounding set that the container will have; rules are chosen by it.

    Raises: SpecError with the JSON pointer of what is wrong
    """
    own = machine(machine_name)
    whole = _object(profile, "")
    default = action_value(
        whole.get("defaultAction"), _errno(whole, "defaultErrno", "defaultErrnoRet", ""), "/defaultAction"
    )
    names = _strings(whole, "architectures", "")
    arch_map = _list(whole, "archMap", "")
    if names and arch_map:
        raise SpecError("architectures and archMap exclude each other", pointer="/architectures")
    for at, item in enumerate(arch_map):
        entry = _object(item, f"/archMap/{at}")
        if entry.get("architecture") == own.arches[0]:
            names = (own.arches[0], *_strings(entry, "subArchitectures", f"/archMap/{at}"))
    arches = arch_values(names, own, "/architectures")
    rules: list[Rule] = []
    for at, item in enumerate(_list(whole, "syscalls", "")):
        pointer = f"/syscalls/{at}"
        entry = _object(item, pointer)
        if _applies(entry, capabilities, own.go, pointer):
            rules += _entry_rules(entry, default, pointer)
    return Filter(default, arches, tuple(rules))


def _applies(entry: dict[str, Any], capabilities: frozenset[str], go: str, pointer: str) -> bool:
    """Say whether an entry counts: all capabilities of includes, any of its arches, none of excludes."""
    for key in ("includes", "excludes"):
        if not entry.get(key):
            continue
        conditions = _object(entry[key], f"{pointer}/{key}")
        arches = _strings(conditions, "arches", f"{pointer}/{key}")
        caps = _strings(conditions, "caps", f"{pointer}/{key}")
        if key == "includes":
            if (arches and go not in arches) or not capabilities.issuperset(caps):
                return False
        elif go in arches or not capabilities.isdisjoint(caps):
            return False
    return True


def _entry_rules(entry: dict[str, Any], default: int, pointer: str) -> list[Rule]:
    names = _strings(entry, "names", pointer)
    if isinstance(entry.get("name"), str) and entry["name"]:
        if names:
            raise SpecError("name and names exclude each other", pointer=f"{pointer}/name")
        names = (entry["name"],)
    action = action_value(entry.get("action"), _errno(entry, "errno", "errnoRet", pointer), f"{pointer}/action")
    conditions: list[Condition] = []
    for at, item in enumerate(_list(entry, "args", pointer)):
        where = f"{pointer}/args/{at}"
        arg = _object(item, where)
        conditions.append(
            _condition(arg.get("index"), arg.get("op"), arg.get("value"), arg.get("valueTwo") or 0, where)
        )
    return rules_of(names, action, tuple(conditions), default)


def _condition(index: object, op: object, a: object, b: object, pointer: str) -> Condition:
    if not isinstance(index, int) or not 0 <= index <= 5:
        raise SpecError("an argument's index is 0 to 5", pointer=f"{pointer}/index")
    value = OPERATORS.get(op) if isinstance(op, str) else None
    if value is None:
        raise SpecError(f"unknown operator {op!r}", pointer=f"{pointer}/op", hint=f"use one of {', '.join(OPERATORS)}")
    for name, number in (("value", a), ("valueTwo", b)):
        if not isinstance(number, int) or not 0 <= number < 1 << 64:
            raise SpecError("a number of 64 bits is needed here", pointer=f"{pointer}/{name}")
    assert isinstance(a, int) and isinstance(b, int)
    return Condition(index, value, a, b)


def _errno(entry: dict[str, Any], name_key: str, number_key: str, pointer: str) -> int | None:
    """Return the errno of an entry: its name wins over its number."""
    name = entry.get(name_key)
    if name:
        number = ERRNO_NUMBERS.get(name) if isinstance(name, str) else None
        if number is None and isinstance(name, str) and name.isdigit():
            number = int(name)
        if number is None:
            raise SpecError(f"unknown errno {name!r}", pointer=f"{pointer}/{name_key}")
        return number
    number = entry.get(number_key)
    if number is None or (isinstance(number, int) and number >= 0):
        return number
    raise SpecError("a number is needed here", pointer=f"{pointer}/{number_key}")


def _object(value: Any, pointer: str) -> dict[str, Any]:
    if value.__class__ is not dict:
        raise SpecError("an object is needed here", pointer=pointer)
    found: dict[str, Any] = value
    return found


def _list(holder: dict[str, Any], key: str, pointer: str) -> list[Any]:
    value = holder.get(key)
    if value is None:
        return []
    if value.__class__ is not list:
        raise SpecError("an array is needed here", pointer=f"{pointer}/{key}")
    found: list[Any] = value
    return found


def _strings(holder: dict[str, Any], key: str, pointer: str) -> tuple[str, ...]:
    values = _list(holder, key, pointer)
    for at, value in enumerate(values):
        if not isinstance(value, str):
            raise SpecError("a string is needed here", pointer=f"{pointer}/{key}/{at}")
    return tuple(values)
