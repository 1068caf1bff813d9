"""Shut a running network stack in: it parses what a container sends, so it keeps only what it needs.

What is left: the sockets of the host's network namespace, the tap, read-only /etc and the directory of the resolv.conf
that is read again when it changes; no other file, no capability but NET_BIND_SERVICE, no exec that would gain anything,
no ptrace of us, and only the system calls of the loop.

Source: slirp4netns(1) --enable-sandbox; pivot_root(2); capabilities(7)
"""

from __future__ import annotations

import posix

from netns import slirp
from rootless.errors import KernelError
from rootless.kernel import caps, mounts, namespaces, process
from rootless.kernel._sys import lib

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd

CAP_NET_BIND_SERVICE = 1 << 10
_RESOLV_CONF = "/etc/resolv.conf"
_LOCKED = lib.MOUNT_ATTR_RDONLY | lib.MOUNT_ATTR_NOSUID | lib.MOUNT_ATTR_NODEV | lib.MOUNT_ATTR_NOEXEC
_ENOSYS, _EINVAL = 38, 22


def limit_resources() -> None:
    """Let there be as many sockets as allowed, but no core file: it would hold the data of the container."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def directories_of(path: str) -> list[str]:
    """Return the directories that a look-up of *path* passes, following its last component's symlinks.

    Directories, not the file: a resolv.conf is replaced by rename, and a mount of the old file would show that.
    """
    found: list[str] = []
    for _ in range(8):
        directory = path.rpartition("/")[0] or "/"
        if directory not in found:
            found.append(directory)
        try:
            target = posix.readlink(path)
        except OSError:
            break
        path = _join(directory, target)
    return found


def _join(directory: str, target: str) -> str:
    """Return *target* seen from *directory*, without `.` and `..`."""
    words: list[str] = []
    for word in (target if target.startswith("/") else f"{directory}/{target}").split("/"):
        if word == "..":
            words = words[:-1]
        elif word not in ("", "."):
            words.append(word)
    return "/" + "/".join(words)


def leave_file_system() -> None:
    """Replace the root by an empty read-only one that shows /etc and what resolv.conf leads to.

    Raises: KernelError - of the mount calls; needs CAP_SYS_ADMIN
    """
    namespaces.unshare(lib.CLONE_NEWNS)
    mounts.mount("", "/", "", lib.MS_REC | lib.MS_PRIVATE)
    shown = _outermost(directories_of(_RESOLV_CONF))
    # Cloned before the new root covers /etc. Recursively: a mount below that came from a more privileged namespace is
    # locked to its parent, and cloning the parent alone would be EINVAL.
    trees = [(path, mounts.open_tree(path, recursive=True)) for path in shown]
    fs = mounts.fsopen("tmpfs")
    mounts.fsconfig_string(fs, "mode", "755")
    mounts.fsconfig_string(fs, "size", "64k")
    mounts.fsconfig_create(fs)
    root = mounts.fsmount(fs)
    fs.close()
    # Attached first: before Linux 6.15 nothing can be mounted on a detached mount. /etc is a directory that exists.
    mounts.move_mount(root, None, "/etc")
    posix.fchdir(root.fileno())
    for path, tree in trees:
        _make_directories(root, path)
        mounts.move_mount(tree, root, path[1:])
        tree.close()
    mounts.pivot_root(".", ".")
    mounts.umount2(".", lib.MNT_DETACH)
    posix.chdir("/")
    mounts.mount_setattr(root, attr_set=_LOCKED, recursive=True)
    root.close()


def _outermost(paths: list[str]) -> list[str]:
    """Drop paths below another one, and the root itself, which must not be shown."""
    kept: list[str] = []
    for path in sorted(paths):
        if path != "/" and not any(path.startswith(f"{other}/") for other in kept):
            kept.append(path)
    return kept


def _make_directories(root: Fd, path: str) -> None:
    at = ""
    for word in path.strip("/").split("/"):
        at = f"{at}/{word}" if at else word
        try:
            posix.mkdir(at, 0o755, dir_fd=root.fileno())
        except FileExistsError:
            pass


def drop_privileges() -> None:
    """Keep NET_BIND_SERVICE where we have it (real root publishes ports below 1024), nothing else.

    no_new_privs comes before seccomp, which needs it from whoever has no CAP_SYS_ADMIN.
    """
    process.set_no_new_privs()
    caps.clear_ambient()
    caps.drop_bounding()
    _, permitted, _ = caps.get_caps()
    caps.set_caps(permitted & CAP_NET_BIND_SERVICE, permitted & CAP_NET_BIND_SERVICE)
    process.set_dumpable(False)


def filter_system_calls() -> None:
    """Allow only what the loop calls. A kernel or machine without seccomp filters goes without.

    Raises: KernelError(seccomp)
    """
    result = slirp.restrict_system_calls()
    if result < 0 and -result not in (_ENOSYS, _EINVAL):
        raise KernelError("seccomp", -result)


def shut_in() -> None:
    """Do the three above, in the one order that works: mounts need the capabilities, seccomp forbids the rest."""
    leave_file_system()
    drop_privileges()
    filter_system_calls()
