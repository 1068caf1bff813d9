"""Compile a filter with libseccomp, opened when it is first needed.

Never on the start-up path: building a profile of 400 rules takes 14 ms, so `kernel/seccomp.py` keeps the
programs and the default profile's ship as data.

Source: seccomp_rule_add(3), seccomp_attr_set(3) SCMP_FLTATR_CTL_OPTIMIZE, seccomp_export_bpf(3)
"""

from __future__ import annotations

import posix

from rootless.errors import KernelError, NotSupported
from rootless.kernel._seccomp import ffi, lib
from rootless.kernel.fds import memfd, read_all
from rootless.spec.seccomp import ARCHES, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.seccomp import Filter

_ATTR_BAD_ARCH, _ATTR_OPTIMIZE = 2, 8
_NR_ERROR = -1
_EEXIST, _EDOM, _EACCES = 17, 33, 13


def version() -> str:
    """Return the library's version, empty where it is not installed or too old to have our symbols."""
    if lib.rl_scmp_open() < 0:
        return ""
    number = lib.rl_scmp_version()
    return f"{number >> 16}.{number >> 8 & 255}.{number & 255}"


def resolve(name: str, arch: int) -> int:
    """Return the number of a system call on *arch*: negative if the architecture lacks it, -1 if unknown."""
    _open()
    return int(lib.rl_scmp_resolve_arch(arch, name.encode()))


def compile_filter(wanted: Filter) -> bytes:
    """Return *wanted* as an array of struct sock_filter for seccomp(2).

    System calls that the library does not know are skipped, as all users of it do: profiles name
    calls of kernels to come. A filter for another kind of machine can be compiled too.

    Raises: NotSupported without the library, KernelError(seccomp_rule_add) for a rule it refuses
    """
    _open()
    context = lib.rl_scmp_init(wanted.default)
    if context == ffi.NULL:
        raise KernelError("seccomp_init", 22, f"with default action {wanted.default:#x}")
    try:
        # 2: a binary tree over the numbers in place of a list; older libraries do not know it.
        lib.rl_scmp_attr_set(context, _ATTR_OPTIMIZE, 2)
        for arch in wanted.arches:
            _check("seccomp_arch_add", lib.rl_scmp_arch_add(context, arch), f"{arch:#x}", _EEXIST, _EDOM)
        if ARCHES[machine(posix.uname().machine).arches[0]] not in wanted.arches:
            _check("seccomp_arch_remove", lib.rl_scmp_arch_remove(context, 0), "native")
        for rule in wanted.rules:
            number = lib.rl_scmp_resolve(rule.name.encode())
            if number == _NR_ERROR:
                continue
            args = ffi.new("struct rl_scmp_arg[]", max(len(rule.conditions), 1))
            for at, condition in enumerate(rule.conditions):
                args[at].arg, args[at].op = condition.index, condition.op
                args[at].a, args[at].b = condition.a, condition.b
            result = lib.rl_scmp_rule_add(context, rule.action, number, len(rule.conditions), args)
            # EEXIST: an earlier rule decides already; EACCES: the rule says what the default says.
            _check("seccomp_rule_add", result, rule.name, _EEXIST, _EACCES, _EDOM)
        with memfd("seccomp") as out:
            _check("seccomp_export_bpf", lib.rl_scmp_export(context, out.fileno()), "")
            posix.lseek(out.fileno(), 0, 0)
            return read_all(out)
    finally:
        lib.rl_scmp_release(context)


def _open() -> None:
    if lib.rl_scmp_open() < 0:
        raise NotSupported("this seccomp profile", ("libseccomp.so.2 cannot be opened",),
                           hint="install libseccomp2 (Debian, Ubuntu) or libseccomp (Fedora)")  # fmt: skip


def _check(call: str, result: int, what: str, *allowed: int) -> None:
    if result < 0 and -result not in allowed:
        raise KernelError(call, -result, what)
