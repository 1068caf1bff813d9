"""Our FUSE overlay, served by a process of its own.

    we (root of our user namespace)                      rootless:[fuse]
      open /dev/fuse                                        .
      fsopen("fuse") ... fsmount -> detached mount          .
      posix_spawn ------ fd 3 = /dev/fuse ----------------> python -IS start.py rootless-fuse-overlay /dev/fd/3
                         fd 4 = ready-fd, 5 = exit-fd       |
                         fd 2 = log pipe                    |
      close our /dev/fuse                                   answers INIT, writes "1" to ready-fd
      (the kernel queues requests until then)               serves; ends when the mount is gone, or exit-fd at its end

The descriptor of /dev/fuse must be opened in the user namespace that mounts. Ours is closed right after the spawn: the
kernel aborts a connection only when its last descriptor is closed, and a server that dies must mean ENOTCONN for the
container, not processes that hang.

Source: fuse(4), Documentation/filesystems/fuse.rst, fsopen(2)
"""

from __future__ import annotations

import errno
import os
import sys

from rootless import launcher
from rootless.errors import KernelError, NotSupported
from rootless.kernel import mounts, process
from rootless.kernel.fds import Fd, open_fd, pipe
from rootless.kernel.undo import Undo
from rootless.mount.driver import RootfsMount, RootfsRequest, Unsupported, prepare_scratch

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.idmap import IdMap

PROGRAM = "rootless-fuse-overlay"
DEVICE = "/dev/fuse"
_FUSE_FD, _READY_FD, _EXIT_FD = 3, 4, 5
_NO_NEW_API = (errno.ENOSYS, errno.EPERM, errno.EINVAL, errno.ENODEV)
_INSTALL = "pip install 'rootless[fuse]' (needs a C compiler and libfuse3-dev)"
_ALLOW = f"as root: chmod 0666 {DEVICE} (modprobe fuse where it does not exist)"


class FuseDriver:
    """Driver `fuse`."""

    name = "fuse"

    def __init__(self, device: str = DEVICE) -> None:
        self._device = device

    def supports(self, request: RootfsRequest) -> Unsupported | None:
        """Return why this driver cannot serve *request*: pyfuse3 or the device is missing."""
        if not any(_exists(f"{place}/pyfuse3") for place in sys.path):
            return Unsupported("pyfuse3 is not installed", _INSTALL)
        if not os.access(self._device, os.R_OK | os.W_OK):
            return Unsupported(f"{self._device} is missing or may not be opened", _ALLOW)
        return None

    def open(self, request: RootfsRequest) -> RootfsMount:
        """Start the server and return its mount at once; requests wait in the kernel until it serves.

        Blocks:  no
        Raises:  KernelError(open): no access to /dev/fuse; KernelError(fsconfig, mount) - EPERM: FUSE is forbidden in
                 user namespaces here (AppArmor, before 4.18); NotSupported: there is nothing to mount
        """
        if not request.links and request.readonly:
            raise NotSupported("fuse", ("there are no layers",))
        if not request.readonly:
            prepare_scratch(request)
        with Undo() as undo:
            device = open_fd(self._device, os.O_RDWR)
            undo.push(device.close)
            mounted = mount_fuse(device, f"{request.run_dir}/root", readonly=request.readonly)
            undo.push(mounted.close)
            ready, ready_end = pipe()
            exit_end, exit_fd = pipe()
            log, log_end = pipe()
            nothing = open_fd("/dev/null", os.O_RDWR)
            for end in (ready, ready_end, exit_end, exit_fd, log, log_end, nothing):
                undo.push(end.close)
            # It must neither keep our stdout open after us, nor block where nobody reads what it says; a session of its
            # own keeps the terminal's ^C, which is meant for the container, away from it.
            os.set_blocking(log_end.fileno(), False)
            standard = {0: nothing, 1: nothing, 2: log_end}
            pid = process.spawn(
                launcher.command(PROGRAM, *arguments(request)),
                fds={**standard, _FUSE_FD: device, _READY_FD: ready_end, _EXIT_FD: exit_end},
                setsid=True,
                elsewhere=True,
            )
            server = process.pidfd_open(pid)
            undo.keep()
        for end in (device, ready_end, exit_end, log_end, nothing):
            end.close()
        return RootfsMount(mounted, self.name, server=server, server_pid=pid, exit_fd=exit_fd, ready=ready, log=log)


def mount_fuse(device: Fd, target: str, *, readonly: bool) -> Fd:
    """Mount a FUSE connection; return it as a detached mount.

    *target* is a directory of ours, used where the new mount calls are missing or forbidden (Docker's seccomp profile).
    """
    options = {"fd": str(device.fileno()), "rootmode": "40000", "user_id": "0", "group_id": "0"}
    try:
        with mounts.fsopen("fuse") as fs:
            mounts.fsconfig_string(fs, "source", PROGRAM)
            mounts.fsconfig_string(fs, "subtype", PROGRAM)
            for key, value in options.items():
                mounts.fsconfig_string(fs, key, value)
            for flag in ("default_permissions", "allow_other", *(("ro",) if readonly else ())):
                mounts.fsconfig_flag(fs, flag)
            mounts.fsconfig_create(fs)
            return mounts.fsmount(fs, mounts.MOUNT_ATTR_NODEV | (mounts.MOUNT_ATTR_RDONLY if readonly else 0))
    except KernelError as error:
        if error.errno not in _NO_NEW_API:
            raise
    text = ",".join([f"{key}={value}" for key, value in options.items()])
    try:
        os.mkdir(target, 0o700)
    except FileExistsError:
        pass
    flags = mounts.MS_NODEV | (mounts.MS_RDONLY if readonly else 0)
    mounts.mount(PROGRAM, target, f"fuse.{PROGRAM}", flags, f"{text},default_permissions,allow_other")
    try:
        return mounts.open_tree(target)
    finally:
        mounts.umount2(target, mounts.MNT_DETACH)


def arguments(request: RootfsRequest) -> list[str]:
    """Return the server's arguments: the topmost layer first, ids as they are to be shown."""
    words = ["lowerdir=" + ":".join([_escape(path) for path in reversed(request.layer_paths)])]
    if request.readonly:
        words.append("ro")
    else:
        words += [f"upperdir={_escape(request.diff)}", f"workdir={_escape(request.work)}"]
    if not request.links:
        del words[0]
    for key, ids in (("uidmapping", request.uid_map), ("gidmapping", request.gid_map)):
        if ids is not None:
            words.append(f"{key}={_mapping(ids)}")
    if request.squashed:
        words.append("read_overrides")
    return ["-f", f"--ready-fd={_READY_FD}", f"--exit-fd={_EXIT_FD}", "-o", ",".join(words), f"/dev/fd/{_FUSE_FD}"]


def _mapping(ids: IdMap) -> str:
    """Return *ids* as the option wants it: an id of the image, the same one in our namespace, how many."""
    return ":".join([f"{r.container}:{r.host}:{r.size}" for r in ids.ranges])


def _escape(path: str) -> str:
    """Write *path* as one element of an option value."""
    return path.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _exists(path: str) -> bool:
    try:
        os.stat(path)
    except OSError:
        return False
    return True
