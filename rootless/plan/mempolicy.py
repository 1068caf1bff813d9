"""linux.memoryPolicy -> one set_mempolicy(2), which the program inherits.

Source: runtime-spec config-linux.md#memory-policy (1.3); set_mempolicy(2), <linux/mempolicy.h>
"""

from __future__ import annotations

from rootless.errors import SpecError
from rootless.plan.wire import Op

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import MemoryPolicy

MODES = {"MPOL_DEFAULT": 0, "MPOL_PREFERRED": 1, "MPOL_BIND": 2, "MPOL_INTERLEAVE": 3, "MPOL_LOCAL": 4,
         "MPOL_PREFERRED_MANY": 5, "MPOL_WEIGHTED_INTERLEAVE": 6}  # fmt: skip
FLAGS = {"MPOL_F_STATIC_NODES": 1 << 15, "MPOL_F_RELATIVE_NODES": 1 << 14, "MPOL_F_NUMA_BALANCING": 1 << 13}
_MAX_NODES = 4096


def memory_policy_op(policy: MemoryPolicy) -> Op:
    """Return the operation for *policy*; whether mode, flags and nodes go together the kernel says.

    Raises: SpecError for a name that it does not have, or a bad list of nodes
    """
    base = "/linux/memoryPolicy"
    mode = MODES.get(policy.mode or "")
    if mode is None:
        raise SpecError(f"invalid memory policy mode {policy.mode or ''!r}", pointer=f"{base}/mode")
    for at, name in enumerate(policy.flags):
        if name not in FLAGS:
            raise SpecError(f"invalid memory policy flag {name!r}", pointer=f"{base}/flags/{at}")
        mode |= FLAGS[name]
    nodes = _nodes(policy.nodes or "", f"{base}/nodes")
    count = nodes.bit_count()
    if count and policy.mode in ("MPOL_DEFAULT", "MPOL_LOCAL"):
        raise SpecError(f"invalid memory policy: mode requires 0 nodes but got {count}", pointer=base)
    size = (nodes.bit_length() + 63) // 64 * 8
    # maxnode counts one more than the bits that are read (get_mempolicy(2) "BUGS").
    return Op("MEMPOLICY", a=mode, b=size * 8 + 1 if size else 0, s=(nodes.to_bytes(size, "little"),),
              why=f"set the memory policy {policy.mode}")  # fmt: skip


def _nodes(text: str, pointer: str) -> int:
    bits = 0
    for part in text.split(",") if text else ():
        low, dash, high = part.strip().partition("-")
        if not low.isdigit() or (dash and not high.isdigit()):
            raise SpecError(f"invalid memory policy nodes {text!r}", pointer=pointer)
        first, last = int(low), int(high) if dash else int(low)
        if last < first or last >= _MAX_NODES:
            raise SpecError(f"invalid memory policy nodes {text!r}", pointer=pointer)
        bits |= ((1 << last - first + 1) - 1) << first
    return bits
