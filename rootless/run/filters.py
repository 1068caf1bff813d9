"""The seccomp program of a configuration, with crun's annotation that makes unknown names an error."""

from __future__ import annotations

import posix

from rootless.errors import SpecError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.seccomp import SeccompProgram
    from rootless.spec.linux import Seccomp

_STRICT_SECCOMP = "run.oci.seccomp_fail_unknown_syscall"


def seccomp_program(
    seccomp: Seccomp | None, root: str, annotations: tuple[tuple[str, str], ...] = ()
) -> SeccompProgram | None:
    """Return the program of the configuration, None without one. Raises: SpecError, NotSupported"""
    if seccomp is None:
        return None
    if dict(annotations).get(_STRICT_SECCOMP) not in (None, "0"):
        _check_syscalls(seccomp)
    from rootless.kernel.seccomp import oci_program

    return oci_program(seccomp, f"{root}/.cache")


def _check_syscalls(seccomp: Seccomp) -> None:
    """Refuse names that no architecture has, which are skipped otherwise (crun's annotation asks for it)."""
    from rootless.kernel.libseccomp import resolve
    from rootless.spec.seccomp import ARCHES, machine

    native = ARCHES[machine(posix.uname().machine).arches[0]]
    for at, rule in enumerate(seccomp.syscalls):
        for n, name in enumerate(rule.names):
            if resolve(name, native) == -1:
                raise SpecError(f"unknown system call {name!r}", pointer=f"/linux/seccomp/syscalls/{at}/names/{n}")
