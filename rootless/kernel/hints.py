"""What a person can do about a system call that failed: a table, never text built where the error is made.

A row holds for a system call and an errno, and only where the machine's settings say that it is the reason. The
first row that fits is the answer. Each has an anchor in docs/errors.md, which says more.

Source: user_namespaces(7), apparmor.d(5) "userns", docs/errors.md
"""

from __future__ import annotations

import os

from rootless.kernel.idmaps import first_free, read_text, user_name
from rootless.spec.facts import Settings
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rootless.errors import KernelError, LaunchError

_EPERM, _ENOENT, _ENXIO, _EACCES, _ENODEV, _EINVAL, _ENOSPC, _EROFS, _ENOSYS, _EDQUOT = (
    1, 2, 6, 13, 19, 22, 28, 30, 38, 122,
)  # fmt: skip


@record
class Hint:
    """One row. *syscall* is a prefix, "" for any; no errnos: any; *text* is filled from the settings."""

    anchor: str
    syscall: str
    errnos: tuple[int, ...]
    when: Callable[[Settings], bool]
    text: str
    what: str = ""
    """A part of what the call was about (a path), "" for anything."""


def _always(_: Settings) -> bool:
    return True


HINTS: tuple[Hint, ...] = (
    Hint("apparmor-userns", "unshare", (_EPERM, _EACCES), lambda s: s.apparmor_restricts_userns,
         "AppArmor forbids user namespaces to programs without a profile: `rootless doctor` prints the profile for "
         "{enter}, to be loaded by an administrator"),
    Hint("apparmor-userns", "uid_map", (_EPERM, _EACCES), lambda s: s.apparmor_restricts_userns,
         "AppArmor forbids user namespaces to programs without a profile: `rootless doctor` prints the profile for "
         "{enter}, to be loaded by an administrator"),
    Hint("apparmor-userns", "mount", (_EACCES, _EPERM),
         lambda s: s.apparmor_restricts_userns and not s.container,
         "AppArmor took the capabilities of the new user namespace away: `rootless doctor` prints the profile for "
         "{enter}, to be loaded by an administrator"),
    Hint("no-userns", "unshare", (_ENOSPC,), lambda s: s.max_user_namespaces == 0,
         "user namespaces are switched off; as root: sysctl -w user.max_user_namespaces=15000"),
    Hint("nesting", "unshare", (_ENOSPC,), _always,
         "too many user namespaces (user.max_user_namespaces is {max_user_namespaces}) or more than 32 inside one "
         "another; as root: sysctl -w user.max_user_namespaces=15000"),
    Hint("userns-clone", "unshare", (_EPERM,), lambda s: s.userns_clone == 0,
         "this kernel allows user namespaces to root only; as root: sysctl -w kernel.unprivileged_userns_clone=1"),
    Hint("nested-seccomp", "unshare", (_EPERM,), lambda s: bool(s.container) or s.seccomp_filtered,
         "a system call filter around us forbids user namespaces: start the outer container with --security-opt "
         "seccomp=unconfined, or with podman, whose filter allows them"),
    Hint("userns-forbidden", "unshare", (_EPERM, _EACCES, _EINVAL, _ENOSYS), _always,
         "this machine does not let its users make user namespaces: `rootless doctor` shows what was tried"),
    Hint("root-map", "uid_map", (_EPERM,), lambda s: s.uid == 0,
         "root without CAP_SETFCAP cannot map id 0: start the outer container with --cap-add SETFCAP,SETUID,SETGID"),
    Hint("nested-map", "newuidmap", (_EPERM,), lambda s: s.nested,
         "a setuid newuidmap cannot work inside this container: as its root, give it file capabilities instead: "
         "chmod u-s /usr/bin/newuidmap /usr/bin/newgidmap; setcap cap_setuid+ep /usr/bin/newuidmap; "
         "setcap cap_setgid+ep /usr/bin/newgidmap"),
    Hint("newuidmap", "newuidmap", (), _always,
         "check the ranges of {name} in /etc/subuid and /etc/subgid, and that newuidmap and newgidmap are setuid root; "
         "as root: apt-get install --reinstall uidmap"),
    Hint("newuidmap", "newgidmap", (), _always,
         "check the ranges of {name} in /etc/subuid and /etc/subgid, and that newuidmap and newgidmap are setuid root; "
         "as root: apt-get install --reinstall uidmap"),
    Hint("nested-apparmor", "mount", (_EACCES,), lambda s: bool(s.container),
         "AppArmor confines the container around us ({apparmor_profile}): start it with --security-opt "
         "apparmor=unconfined"),
    Hint("apparmor-confined", "mount", (_EACCES,), lambda s: bool(s.apparmor_profile),
         "AppArmor's profile {apparmor_profile} confines this shell and what it starts: log in where none does, or "
         "have the profile allow mounts"),
    Hint("masked-proc", "mount(proc)", (_EPERM,), _always,
         "/proc of the container around us is masked: rootless shows that one instead; a fresh one needs "
         "--security-opt unmask=ALL (podman) or systempaths=unconfined (Docker) on the outer container"),
    Hint("overlay", "mount(overlay)", (_EINVAL,), lambda s: bool(s.container),
         "overlay cannot have its upper directory on another overlay: put the store on a volume of the outer container "
         "(--root), or use --storage-driver fuse or copy"),
    Hint("overlay", "mount(overlay)", (), _always,
         "the kernel's overlay does not work in this store: use --storage-driver fuse or copy, or another --root"),
    Hint("fuse-device", "open", (_EACCES, _EPERM), _always,
         "as root: chmod 0666 /dev/fuse", "/dev/fuse"),
    Hint("fuse-device", "open", (_ENOENT, _ENXIO, _ENODEV), lambda s: bool(s.container),
         "start the outer container with --device /dev/fuse", "/dev/fuse"),
    Hint("fuse-device", "open", (_ENOENT, _ENXIO, _ENODEV), _always,
         "as root: modprobe fuse; chmod 0666 /dev/fuse", "/dev/fuse"),
    Hint("tun-device", "open", (_EACCES, _EPERM), _always,
         "as root: chmod 0666 /dev/net/tun; or use --network none or host", "/dev/net/tun"),
    Hint("tun-device", "open", (_ENOENT, _ENXIO, _ENODEV), lambda s: bool(s.container),
         "start the outer container with --device /dev/net/tun, or use --network none or host", "/dev/net/tun"),
    Hint("tun-device", "open", (_ENOENT, _ENXIO, _ENODEV), _always,
         "as root: modprobe tun; chmod 0666 /dev/net/tun; or use --network none or host", "/dev/net/tun"),
    Hint("apparmor-confined", "open", (_EACCES,), lambda s: bool(s.apparmor_profile),
         "AppArmor's profile {apparmor_profile} confines this shell and what it starts: it lacks a rule or the flag "
         "attach_disconnected"),
    Hint("hostname", "sethostname", (_EPERM,), _always,
         "the filter of the container around us forbids it: the container keeps the outer name"),
    Hint("clone3", "clone3", (_ENOSYS,), _always,
         "a filter around us hides clone3: rootless uses the older clone"),
    Hint("memfd-noexec", "posix_spawn", (_EACCES,), lambda s: s.memfd_noexec > 1,
         "programs in memory are forbidden here; as root: sysctl -w vm.memfd_noexec=1"),
    Hint("memfd-noexec", "memfd_create", (_EACCES,), lambda s: s.memfd_noexec > 1,
         "programs in memory are forbidden here; as root: sysctl -w vm.memfd_noexec=1"),
    Hint("old-kernel", "openat2", (_ENOSYS,), _always,
         "rootless needs Linux 5.11 or newer; this is {kernel}"),
    Hint("disk-full", "", (_ENOSPC, _EDQUOT), _always,
         "the disk or the quota is full: free some space (rootless rmi), or move the store with --root"),
    Hint("read-only", "", (_EROFS,), _always,
         "the file system is read-only: choose another place with --root, --runroot or --tmpdir"),
)  # fmt: skip


def find(settings: Settings, syscall: str, errno: int, what: str = "") -> Hint | None:
    """Return the first row for a failure, None where nothing is known about it."""
    for hint in HINTS:
        if (
            syscall.startswith(hint.syscall)
            and (not hint.errnos or errno in hint.errnos)
            and hint.what in what
            and hint.when(settings)
        ):
            return hint
    return None


def text(hint: Hint, settings: Settings) -> str:
    """Return what the row says here."""
    values = {name: getattr(settings, name) for name in ("enter", "name", "kernel", "max_user_namespaces")}
    return hint.text.format(**values, apparmor_profile=settings.apparmor_profile or "its profile")


def hint_for(error: KernelError | LaunchError, environ: Mapping[str, str]) -> str | None:
    """Return what to do about *error*, None where nothing is known. Reads the machine's switches now."""
    settings = read_settings(environ)
    hint = find(settings, error.syscall, error.errno or 0, error.message)
    return text(hint, settings) if hint is not None else None


APPARMOR_PROFILE = """\
# /etc/apparmor.d/rootless: lets rootless make user namespaces (Ubuntu 23.10 and newer)
abi <abi/4.0>,
include <tunables/global>

profile rootless "{enter}" flags=(unconfined) {{
  userns,
  include if exists <local/rootless>
}}
"""


def apparmor_profile(enter: str) -> str:
    """Return the profile that an administrator loads so that the program at *enter* may make user namespaces."""
    return APPARMOR_PROFILE.format(enter=enter)


def read_settings(environ: Mapping[str, str], *, proc: str = "/proc", root: str = "") -> Settings:
    """Read the switches that explain failures. Blocks: no"""
    from rootless.kernel.enter import ENTER

    uid = os.getuid()
    filtered = "Seccomp:\t2" in read_text(f"{proc}/self/status")
    nested = read_text(f"{proc}/self/uid_map").split() != ["0", "0", "4294967295"]
    return Settings(
        uid=uid,
        name=user_name(uid) or str(uid),
        enter=os.path.realpath(ENTER),
        container=_container(environ, root) if nested or filtered or _root_is_overlay(proc) else "",
        nested=nested,
        apparmor_restricts_userns=_number(f"{proc}/sys/kernel/apparmor_restrict_unprivileged_userns") == 1,
        apparmor_profile=_confinement(read_text(f"{proc}/self/attr/current")),
        seccomp_filtered=filtered,
        max_user_namespaces=_number(f"{proc}/sys/user/max_user_namespaces"),
        userns_clone=_number(f"{proc}/sys/kernel/unprivileged_userns_clone"),
        memfd_noexec=max(_number(f"{proc}/sys/vm/memfd_noexec"), 0),
        kernel=os.uname().release,
        free_id=max(first_free(read_text(f"{root}/etc/subuid")), first_free(read_text(f"{root}/etc/subgid"))),
    )


def _number(path: str) -> int:
    words = read_text(path).split()
    return int(words[0]) if len(words) == 1 and words[0].isdigit() else -1


def _confinement(label: str) -> str:
    name = label.strip("\0\n ")
    return "" if name in ("", "unconfined") or name.endswith("(unconfined)") else name


def _root_is_overlay(proc: str) -> bool:
    """A machine made from an image still has the image's /.dockerenv, but its root is no overlay."""
    for line in read_text(f"{proc}/self/mountinfo").splitlines():
        words = line.split(" ")
        if words[4:5] == ["/"]:
            return words[words.index("-") + 1] in ("overlay", "fuse.fuse-overlayfs", "fuse.rootless-fuse-overlay")
    return False


def _container(environ: Mapping[str, str], root: str) -> str:
    if environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes"
    for path, name in (("/run/.containerenv", "podman"), ("/.dockerenv", "docker")):
        if os.path.exists(root + path):
            return name
    return environ.get("container", "")
