"""Labels of the security modules: what a configuration asks for, against what this machine has.

Source: apparmor(7); runc's validation of processLabel; kernel Documentation/admin-guide/LSM
"""

from __future__ import annotations

import posix

from rootless.errors import KernelError, SpecError
from rootless.kernel.fds import read_file
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import Linux
    from rootless.spec.runtime import Process

_APPARMOR = "/sys/module/apparmor/parameters/enabled"
_SELINUX = "/sys/fs/selinux/enforce"


def checked_labels(process: Process, base: str = "/process") -> Process:
    """Return *process* with the labels that are to be set here.

    Raises: SpecError - a label that this machine's kernel does not know: to run without it would be to run unconfined
    """
    if process.apparmor_profile and not _apparmor():
        if process.apparmor_profile != "unconfined":
            raise SpecError(
                f"cannot apply profile {process.apparmor_profile!r}: AppArmor is not enabled on this machine",
                pointer=f"{base}/apparmorProfile",
            )
        process = replace(process, apparmor_profile=None)
    if process.selinux_label and not posix.access(_SELINUX, posix.F_OK):
        raise SpecError(
            f"cannot apply label {process.selinux_label!r}: SELinux is disabled or not supported on this machine",
            pointer=f"{base}/selinuxLabel",
        )
    return process


def mount_label_warnings(linux: Linux) -> tuple[str, ...]:
    """Say that a mount label has no effect."""
    if not linux.mount_label:
        return ()
    return (f"mountLabel {linux.mount_label} has no effect: few file systems take a label in a user namespace",)


def _apparmor() -> bool:
    try:
        return read_file(_APPARMOR, limit_bytes=16).startswith(b"Y")
    except KernelError:
        return False
