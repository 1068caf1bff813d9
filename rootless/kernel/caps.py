"""Capability sets of this thread as bit masks.

Source: capabilities(7), capset(2)
"""

from __future__ import annotations

from rootless.kernel._sys import ffi, lib
from rootless.kernel.check import check


def get_caps() -> tuple[int, int, int]:
    """Return (effective, permitted, inheritable)."""
    sets = [ffi.new("uint64_t *") for _ in range(3)]
    check("capget", lib.rl_capget(*sets))
    return int(sets[0][0]), int(sets[1][0]), int(sets[2][0])


def set_caps(effective: int, permitted: int, inheritable: int = 0) -> None:
    """Replace the three sets. Raises: KernelError(capset) - EPERM: more than is permitted now"""
    check("capset", lib.rl_capset(effective, permitted, inheritable))


def drop_bounding(keep: int = 0) -> None:
    """Remove every capability outside *keep* from the bounding set (needs CAP_SETPCAP)."""
    for cap in range(64):
        held = lib.rl_prctl(lib.PR_CAPBSET_READ, cap, 0, 0, 0)
        if held < 0:
            return  # EINVAL: one past the last capability of this kernel
        if held and not keep >> cap & 1:
            check("prctl(PR_CAPBSET_DROP)", lib.rl_prctl(lib.PR_CAPBSET_DROP, cap, 0, 0, 0))


def clear_ambient() -> None:
    """Empty the ambient set."""
    check("prctl(PR_CAP_AMBIENT)", lib.rl_prctl(lib.PR_CAP_AMBIENT, lib.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
