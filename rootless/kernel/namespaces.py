"""unshare(2) and setns(2) on ourselves, and the one condition both have."""

from __future__ import annotations

import posix

from rootless.errors import InternalError
from rootless.kernel._sys import lib
from rootless.kernel.check import check
from rootless.kernel.fds import Fd

CLONE_NEWUSER: int = lib.CLONE_NEWUSER
CLONE_NEWNS: int = lib.CLONE_NEWNS
CLONE_NEWPID: int = lib.CLONE_NEWPID
CLONE_NEWNET: int = lib.CLONE_NEWNET
CLONE_NEWIPC: int = lib.CLONE_NEWIPC
CLONE_NEWUTS: int = lib.CLONE_NEWUTS
CLONE_NEWCGROUP: int = lib.CLONE_NEWCGROUP
CLONE_NEWTIME: int = lib.CLONE_NEWTIME


def unshare(flags: int) -> None:
    """Move this thread into new namespaces.

    Raises: KernelError(unshare) - EINVAL: CLONE_NEWUSER with more than one thread; ENOSPC: nesting or
            user.max_user_namespaces; EPERM: forbidden by an LSM, a sysctl or seccomp
    Source: unshare(2)
    """
    check("unshare", lib.rl_unshare(flags))


def setns(fd: Fd, flags: int = 0) -> None:
    """Join the namespace (or, for a pidfd, the namespaces in *flags*) of *fd*; per thread.

    Source: setns(2)
    """
    check("setns", lib.rl_setns(fd.fileno(), flags))


def assert_single_threaded() -> None:
    """Raise InternalError if this process has a second thread (fork and CLONE_NEWUSER need one)."""
    if len(posix.listdir("/proc/self/task")) != 1:
        raise InternalError("this step needs a process with one thread")
