"""Root acts on a container of a user as that user.

A batch system calls `state`, `kill` and `delete` as the machine's root for what its users started. Their state is
theirs to write: a forged pid, cgroup or link must not become root's to kill, to remove or to follow.

Source: setresuid(2); user_namespaces(7): the owner of a user namespace has every capability over it from outside
"""

from __future__ import annotations

import posix

from rootless.kernel.idmaps import read_text


def become_owner(path: str) -> None:
    """Become the owner of *path* for good, if we are the machine's root and it belongs to somebody else."""
    if posix.geteuid() != 0:
        return
    try:
        about = posix.stat(path, follow_symlinks=False)
    except OSError:
        return
    if about.st_uid == 0 or read_text("/proc/self/uid_map").split() != ["0", "0", "4294967295"]:
        return  # ours, or we are root of a user namespace only
    import pwd

    try:
        gid = pwd.getpwuid(about.st_uid).pw_gid
    except KeyError:
        gid = about.st_gid
    posix.setgroups(())
    posix.setresgid(gid, gid, gid)
    posix.setresuid(about.st_uid, about.st_uid, about.st_uid)
