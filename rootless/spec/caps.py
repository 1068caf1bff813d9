"""Capability names and bits.

A set of capabilities is an int bitmask (bit n = capability n). Names that are not in the table
cannot be granted by anyone who reads it; callers warn about them and go on, as runc does.

Source: capabilities(7), <linux/capability.h> up to 5.9 (CAP_CHECKPOINT_RESTORE); no kernel has
        added one since
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

NAMES: tuple[str, ...] = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID",
    "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN",
    "CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""The name of capability n at index n."""

BITS: dict[str, int] = {name: number for number, name in enumerate(NAMES)}
LAST_CAP = len(NAMES) - 1
ALL = (1 << len(NAMES)) - 1


def normal(name: str) -> str:
    """Return "CAP_X" for "x", "cap_x" or "CAP_X"."""
    upper = name.upper()
    return upper if upper.startswith("CAP_") else "CAP_" + upper


def mask(names: Iterable[str]) -> tuple[int, tuple[str, ...]]:
    """Return the bitmask of *names* and, in order, the names that the table does not have."""
    bits = 0
    unknown: list[str] = []
    for name in names:
        number = BITS.get(name)
        if number is None:
            number = BITS.get(normal(name))
        if number is None:
            unknown.append(name)
        else:
            bits |= 1 << number
    return bits, tuple(unknown)


def names(bits: int) -> tuple[str, ...]:
    """Return the names of the capabilities in *bits*, by number."""
    return tuple([name for number, name in enumerate(NAMES) if bits >> number & 1])
