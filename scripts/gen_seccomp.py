#!/usr/bin/env python3
"""Write the programs of the default seccomp profile: rootless/kernel/data/seccomp-MACHINE-SET.bpf.

    python scripts/gen_seccomp.py [--check]

A start of a container loads a filter, and the kernel runs it over every system call number when it does
(to know which are always allowed). libseccomp's program compares numbers one by one or in a tree of single
numbers; ours is a search over *ranges* of numbers with the same answer, which loads several times faster. The
numbers come from libseccomp: its program for the same rules is asked about every number, and the conditions on
arguments are written out again from the rules. tests/unit/spec/test_seccomp_verdicts.py compares the files with
containers-common's profile.

SET is "default" (podman's eleven capabilities), "none" or "all".
"""

from __future__ import annotations

import struct
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rootless.kernel import libseccomp  # noqa: E402
from rootless.kernel.seccomp import SHIPPED, data_path  # noqa: E402
from rootless.spec.seccomp import ARCHES, EQ, NE, Condition, Filter, Rule, machine  # noqa: E402
from rootless.spec.seccomp_table import default_filter  # noqa: E402
from tests.support import bpf  # noqa: E402

MACHINES = ("x86_64", "aarch64")
X32_BIT = 0x40000000
HIGHEST = 2048
"""Beyond it no architecture has a system call; ARM's own begin at ARM_BASE."""
ARM_BASE = 0x0F0000
KILL = 0

Code = list[tuple[int, int, int, int]]
Answer = int | str
"""A verdict, or the name of a call whose arguments count."""


def ret(value: int) -> Code:
    return [(bpf.RET_K, 0, 0, value)]


def numbers(arch: str) -> list[range]:
    """Return where system call numbers of *arch* may be, in ascending order."""
    if arch == "SCMP_ARCH_X86_64":
        return [range(HIGHEST), range(X32_BIT, X32_BIT + HIGHEST)]
    if arch == "SCMP_ARCH_ARM":
        return [range(HIGHEST), range(ARM_BASE, ARM_BASE + HIGHEST)]
    return [range(HIGHEST)]


def conditional(wanted: Filter, arch: str) -> dict[int, str]:
    """Return number -> name of the calls whose arguments count."""
    found = {}
    for name in {rule.name for rule in wanted.rules if rule.conditions}:
        for token in (arch, "SCMP_ARCH_X32") if arch == "SCMP_ARCH_X86_64" else (arch,):
            number = libseccomp.resolve(name, ARCHES[token])
            if number >= 0:
                found[number] = name
    if arch == "SCMP_ARCH_X86" and "socket" in {rule.name for rule in wanted.rules if rule.conditions}:
        found[359] = "socket"  # libseccomp gives it a pseudo number there: the older way is socketcall(2)
    return found


def intervals(wanted: Filter, arch: str) -> list[tuple[int, Answer]]:
    """Return (first number, answer) of each range, in ascending order from 0; the last one has no end."""
    program = bpf.decode(libseccomp.compile_filter(wanted))
    token = ARCHES[arch]
    judged = conditional(wanted, arch)
    result: list[tuple[int, Answer]] = []
    for numbers_here in numbers(arch):
        for number in numbers_here:
            answer: Answer = judged.get(number) or bpf.run(program, number, token)
            if not result or result[-1][1] != answer:
                result.append((number, answer))
        if result[-1][1] != wanted.default:
            result.append((numbers_here.stop, wanted.default))
    return result


def condition_code(condition: Condition, narrow: bool) -> tuple[Code, bool]:
    """Return code that compares one argument and ends in a jump to be filled in, and whether equality is wanted.

    Shape: the jumps to "does not hold" are marked by 255
    """
    assert condition.op in (EQ, NE), "only = and != are needed by the default profile"
    low, high = 16 + 8 * condition.index, 20 + 8 * condition.index
    code: Code = [(bpf.LD_W_ABS, 0, 0, low)]
    same = condition.op == EQ
    if narrow:
        code.append((bpf.JEQ_K, 0, 255, condition.a) if same else (bpf.JEQ_K, 255, 0, condition.a))
    elif same:
        code += [(bpf.JEQ_K, 0, 255, condition.a & 0xFFFFFFFF), (bpf.LD_W_ABS, 0, 0, high),
                 (bpf.JEQ_K, 0, 255, condition.a >> 32)]  # fmt: skip
    else:  # a different low word is enough
        code += [(bpf.JEQ_K, 0, 2, condition.a & 0xFFFFFFFF), (bpf.LD_W_ABS, 0, 0, high),
                 (bpf.JEQ_K, 255, 0, condition.a >> 32)]  # fmt: skip
    return code, same


def conditional_code(rules: list[Rule], default: int, narrow: bool) -> Code:
    """Return code that tries *rules* in order: all conditions of one hold -> its action; none -> *default*."""
    code: Code = []
    for rule in rules:
        block: Code = []
        for condition in rule.conditions:
            block += condition_code(condition, narrow)[0]
        block += ret(rule.action)
        end = len(block)
        for at, (op, jt, jf, k) in enumerate(block):
            jump = end - at - 1
            block[at] = (op, jump if jt == 255 else jt, jump if jf == 255 else jf, k)
        code += block
    return code + ret(default)


def tree(parts: list[tuple[int, Answer]], wanted: Filter, narrow: dict[str, bool], arch: str) -> Code:
    """Return a binary search for the accumulator (the number) over the ranges *parts*."""
    if len(parts) == 1:
        answer = parts[0][1]
        if isinstance(answer, int):
            return ret(answer)
        small = narrow["SCMP_ARCH_X32" if parts[0][0] & X32_BIT else arch]
        rules = [rule for rule in wanted.rules if rule.name == answer]
        return conditional_code(rules, wanted.default, small)
    middle = len(parts) // 2
    left, right = tree(parts[:middle], wanted, narrow, arch), tree(parts[middle:], wanted, narrow, arch)
    if len(left) <= 255:
        return [(bpf.JGE_K, len(left), 0, parts[middle][0]), *left, *right]
    return [(bpf.JGE_K, 0, 1, parts[middle][0]), (bpf.JA, 0, 0, len(left)), *left, *right]


def program(machine_name: str, capabilities: frozenset[str]) -> bytes:
    """Return the default profile's program for one machine."""
    own = machine(machine_name)
    wanted = default_filter(capabilities, own)
    narrow = {"SCMP_ARCH_X86_64": False, "SCMP_ARCH_AARCH64": False, "SCMP_ARCH_X86": True, "SCMP_ARCH_X32": True,
              "SCMP_ARCH_ARM": True}  # fmt: skip
    code: Code = [(bpf.LD_W_ABS, 0, 0, 4)]
    for arch in own.arches:
        if arch == "SCMP_ARCH_X32":  # tells itself apart by a bit of the number, not by the architecture
            continue
        body: Code = [(bpf.LD_W_ABS, 0, 0, 0), *tree(intervals(wanted, arch), wanted, narrow, arch)]
        if len(body) > 255:
            code += [(bpf.JEQ_K, 1, 0, ARCHES[arch]), (bpf.JA, 0, 0, len(body))]
        else:
            code += [(bpf.JEQ_K, 0, len(body), ARCHES[arch])]
        code += body
    code += ret(KILL)
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def main(argv: list[str]) -> int:
    check = argv == ["--check"]
    stale = []
    for machine_name in MACHINES:
        for name, capabilities in SHIPPED.items():
            path = Path(data_path(machine_name, name))
            data = program(machine_name, frozenset(capabilities))
            if check:
                if not path.exists() or path.read_bytes() != data:
                    stale.append(path)
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(data)
                print(f"{path.relative_to(ROOT)}: {len(data) // 8} instructions")
    for path in stale:
        print(f"{path.relative_to(ROOT)} is stale: run scripts/gen_seccomp.py", file=sys.stderr)
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
