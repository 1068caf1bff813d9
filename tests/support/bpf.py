"""An interpreter for seccomp's classic BPF: what would the kernel answer to this system call?

Source: Documentation/networking/filter.rst; seccomp(2) "struct seccomp_data"; kernel/seccomp.c
        seccomp_check_filter (the instructions that a filter may use)
"""

from __future__ import annotations

import struct

LD_W_ABS, LDX_IMM, LD_IMM, LD_MEM, LDX_MEM, ST, STX = 0x20, 0x01, 0x00, 0x60, 0x61, 0x02, 0x03
JA, JEQ_K, JGT_K, JGE_K, JSET_K, RET_K, RET_A = 0x05, 0x15, 0x25, 0x35, 0x45, 0x06, 0x16
AND_K, OR_K, TAX, TXA = 0x54, 0x44, 0x07, 0x87

Instruction = tuple[int, int, int, int]


def decode(program: bytes) -> list[Instruction]:
    """Return (code, jt, jf, k) of each instruction."""
    assert len(program) % 8 == 0, "not an array of struct sock_filter"
    return list(struct.iter_unpack("=HBBI", program))


def run(instructions: list[Instruction], nr: int, arch: int, args: tuple[int, ...] = (0,) * 6) -> int:
    """Return the value that the filter answers; the program counter only ever goes forward."""
    data = struct.pack("=iI7Q", nr if nr < 1 << 31 else nr - (1 << 32), arch, 0, *args)
    accumulator = index = at = 0
    memory = [0] * 16
    while True:
        code, jt, jf, k = instructions[at]
        at += 1
        if code == LD_W_ABS:
            accumulator = struct.unpack_from("=I", data, k)[0]
        elif code == JEQ_K:
            at += jt if accumulator == k else jf
        elif code == JGE_K:
            at += jt if accumulator >= k else jf
        elif code == JGT_K:
            at += jt if accumulator > k else jf
        elif code == JSET_K:
            at += jt if accumulator & k else jf
        elif code == JA:
            at += k
        elif code == RET_K:
            return k
        elif code == RET_A:
            return accumulator
        elif code == AND_K:
            accumulator &= k
        elif code == OR_K:
            accumulator |= k
        elif code == ST:
            memory[k] = accumulator
        elif code == LD_MEM:
            accumulator = memory[k]
        elif code == LD_IMM:
            accumulator = k
        elif code == TAX:
            index = accumulator
        elif code == TXA:
            accumulator = index
        else:
            raise AssertionError(f"instruction {at - 1}: code {code:#x} is not one that we know")
