"""Signal names and numbers, without `import signal` (5 ms, most of it enum).

The numbers are those of every architecture but alpha, mips, parisc and sparc.

Source: signal(7)
"""

from __future__ import annotations

SIGRTMIN, SIGRTMAX = 34, 64
_STANDARD = (
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE", "ALRM", "TERM",
    "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO",
    "PWR", "SYS",
)  # fmt: skip

NUMBERS: dict[str, int] = {name: number for number, name in enumerate(_STANDARD, 1)}
"""Numbers by name without SIG; aliases and real-time signals included."""
NUMBERS.update(
    IOT=NUMBERS["ABRT"], CLD=NUMBERS["CHLD"], POLL=NUMBERS["IO"], UNUSED=NUMBERS["SYS"], RTMIN=SIGRTMIN, RTMAX=SIGRTMAX
)
NUMBERS.update({f"RTMIN+{n}": SIGRTMIN + n for n in range(1, 16)})
NUMBERS.update({f"RTMAX-{n}": SIGRTMAX - n for n in range(1, 15)})
_NAMES = {NUMBERS[name]: "SIG" + name for name in _STANDARD}


def number(text: str) -> int | None:
    """Return the signal that *text* names ("9", "KILL", "sigkill", "SIGRTMIN+3"), None if none.

    Numbers are taken from 1 to SIGRTMAX; 0 is the caller's own business.
    """
    if text.isascii() and text.isdigit():
        value = int(text)
        return value if 1 <= value <= SIGRTMAX else None
    upper = text.upper()
    return NUMBERS.get(upper[3:] if upper.startswith("SIG") else upper)


def name(value: int) -> str:
    """Return "SIGKILL" for 9; real-time signals as "SIGRTMIN+n"."""
    known = _NAMES.get(value)
    if known is not None:
        return known
    if SIGRTMIN <= value <= SIGRTMAX:
        return f"SIGRTMIN+{value - SIGRTMIN}" if value > SIGRTMIN else "SIGRTMIN"
    return f"signal {value}"


def exit_code(status: int) -> int:
    """Turn a wait(2) status into a shell's exit code: the code, or 128 + the signal."""
    signal = status & 0x7F
    return 128 + signal if signal else status >> 8 & 0xFF
