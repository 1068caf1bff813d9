"""The server process: from options to a mounted file system, and to a clean end.

    spawned by mount/fuse.py                                 by hand
    MOUNTPOINT = /dev/fd/N, already mounted                  MOUNTPOINT = a directory, mounted here
      layers opened, INIT answered -> "1" on ready-fd          the same
      sandbox: no_new_privs, few capabilities                  no_new_privs; CAP_SYS_ADMIN stays, to unmount
      poll(/dev/fuse, exit-fd, signals) ... requests           the same
      ends: ENODEV (unmounted), exit-fd at its end,            ends: the same; on SIGTERM it unmounts first
            SIGTERM, SIGINT

Data that programs wrote may still be in the kernel's write-back cache when we are asked to end. So we go on serving
until the kernel says that the mount is gone, or nobody has asked anything for a while.

Source: fuse(4); libfuse lib/fuse_lowlevel.c (mount point /dev/fd/N)
"""

from __future__ import annotations

import _signal
import gc
import os
import select
import sys
import time

from fuse_overlay import binding
from fuse_overlay.layer import Layer
from fuse_overlay.ops_xattr import XattrOps
from fuse_overlay.options import NAME, Options
from fuse_overlay.tree import UPPER, Tree
from fuse_overlay.whiteouts import Workspace
from rootless.kernel import caps, process
from rootless.kernel.mounts import MNT_DETACH, umount2

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

PROCESS_NAME = "rootless:[fuse]"
IDLE_BEFORE_END_MS = 250
LONGEST_END_S = 5.0
# CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID MKNOD SETFCAP: what files of every owner need.
_KEPT_CAPS = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 4 | 1 << 27 | 1 << 31
_CAP_SYS_ADMIN = 1 << 21


class Server:
    """One mount and its loop."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.mountpoint = options.mountpoint or ""
        self.mounted_for_us = self.mountpoint.startswith("/dev/fd/")
        self._ending_since = 0.0
        self._wake = -1
        self._poll = select.poll()
        self._fuse = -1

    def run(self) -> int:
        """Mount and serve; return the exit status. Blocks: until the end

        Raises:  RootlessError: a layer cannot be opened, pyfuse3 is missing, the mount was refused
        """
        options = self.options
        process.set_name(PROCESS_NAME)
        sys.setrecursionlimit(100_000)  # a path may have any depth, and ancestors are opened on the way
        # Nodes and their parents refer to each other, but what is dropped is taken apart first: little is to be found.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        os.umask(0)  # modes arrive with the caller's umask applied
        pyfuse3 = binding.load()
        self._pyfuse3 = pyfuse3
        tree, work = self._open(pyfuse3)
        self._tree = tree
        operations: Any = XattrOps(pyfuse3, options, tree, work)
        if options.debug:
            operations = Traced(operations)
        self._catch_signals()
        ours = binding.handlers(
            pyfuse3,
            operations,
            writeback=options.writeback and UPPER in tree.layers,
            acl=options.acl and options.xattrs,
            ready=self._ready,
            report=report,
        )
        pyfuse3.init(ours, self.mountpoint, self._mount_options())
        try:
            self._sandbox()
            self._serve(pyfuse3)
        finally:
            pyfuse3.close(unmount=not self.mounted_for_us)
        return 0

    def _open(self, pyfuse3: Any) -> tuple[Tree, Workspace | None]:
        """Open the layers and the work directory."""
        options = self.options
        limit = _raise_descriptor_limit()
        layers = {}
        work = None
        if options.upperdir is not None:
            if options.readonly:
                layers[1] = Layer(1, options.upperdir)
            else:
                layers[UPPER] = Layer(UPPER, options.upperdir, writable=True)
                work = Workspace(options.workdir or "")
        for path in options.lowerdirs:
            index = max(layers, default=0) + 1
            layers[index] = Layer(index, path)
        timeout = options.timeout
        make = pyfuse3.EntryAttributes

        def make_attr() -> Any:
            attr = make()
            attr.entry_timeout = timeout
            attr.attr_timeout = timeout
            return attr

        tree = Tree(
            options,
            layers,
            make_attr=make_attr,
            uid_map=_text("/proc/self/uid_map"),
            gid_map=_text("/proc/self/gid_map"),
            max_open_dirs=max(64, min(4096, limit // 2 - len(layers))),
        )
        return tree, work

    def _mount_options(self) -> set[str]:
        """Return what libfuse is told; for a mount that exists already it only parses them."""
        given = set(self.options.mount_options)
        wanted = {"default_permissions"}
        if os.geteuid() == 0:
            wanted |= {"allow_other", "suid"} - ({"suid"} if "nosuid" in given else set())
        if UPPER not in self._tree.layers:
            wanted.add("ro")
        if not any(word.startswith("fsname=") for word in given):
            wanted.add(f"fsname={NAME}")
        if not any(word.startswith("subtype=") for word in given):
            wanted.add(f"subtype={NAME}")
        return wanted | given

    def _ready(self) -> None:
        """Tell the parent that requests will be answered."""
        if self.options.ready_fd is not None:
            try:
                os.write(self.options.ready_fd, b"1")
                os.close(self.options.ready_fd)
            except OSError:
                pass
        if self.options.background:
            nothing = os.open("/dev/null", os.O_RDWR | os.O_CLOEXEC)
            for number in (0, 1, 2):
                os.dup2(nothing, number)
            os.close(nothing)

    def _sandbox(self) -> None:
        """Give up what serving does not need. A namespace where we are not root has nothing to give up."""
        process.set_no_new_privs()
        if self.options.exit_fd is not None:
            # Stopped, it would not see the end of that descriptor; killed, it would lose what is yet to be written.
            process.set_pdeathsig(_signal.SIGCONT)
        keep = _KEPT_CAPS | (0 if self.mounted_for_us else _CAP_SYS_ADMIN)
        effective, permitted, _ = caps.get_caps()
        if permitted & 1 << 8:  # CAP_SETPCAP
            caps.drop_bounding(0)
        caps.clear_ambient()
        caps.set_caps(effective & keep, permitted & keep, 0)
        # Last: /proc/self then belongs to root of the initial namespace, and we have read what we need of it.
        process.set_dumpable(False)

    # ---- the loop

    def _serve(self, pyfuse3: Any) -> None:
        """Serve; a fault inside pyfuse3's loop, which would leave one request without an answer, does not end it."""
        faults = 0
        while True:
            try:
                binding.serve(pyfuse3, self._wait)
                return
            except binding.Ended:
                return
            except Exception as error:
                report("main loop", error)
                faults += 1
                if faults > 100:
                    raise

    def _wait(self, fd: int) -> None:
        """Return when a request is there. Raises: binding.Ended"""
        if self._tree.crowded:
            self._tree.trim()
        if fd != self._fuse:
            self._fuse = fd
            self._poll.register(fd, select.POLLIN)
        while True:
            ready = self._poll.poll(IDLE_BEFORE_END_MS if self._ending_since else None)
            if len(ready) == 1 and ready[0][0] == fd and not self._ending_since:
                return
            if self._ending_since and (not ready or time.monotonic() - self._ending_since > LONGEST_END_S):
                raise binding.Ended
            for number, _ in ready:
                if number != fd:
                    self._end(number)
            if any(number == fd for number, _ in ready):
                return

    def _end(self, number: int) -> None:
        """Begin to end: exit-fd or a signal says so."""
        self._poll.unregister(number)
        if self._ending_since:
            return
        self._ending_since = time.monotonic()
        if not self.mounted_for_us:
            try:
                # Detaching waits for nobody; what was written reaches us while we go on serving.
                umount2(self.mountpoint, MNT_DETACH)
            except OSError:
                pass

    def _catch_signals(self) -> None:
        """Make SIGTERM, SIGINT and SIGHUP readable, and exit-fd's end as well."""
        self._wake, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        _signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (_signal.SIGTERM, _signal.SIGINT, _signal.SIGHUP):
            _signal.signal(number, lambda *_: None)
        _signal.signal(_signal.SIGPIPE, _signal.SIG_IGN)
        self._poll.register(self._wake, select.POLLIN)
        if self.options.exit_fd is not None:
            self._poll.register(self.options.exit_fd, select.POLLIN)


class Traced:
    """Operations that print each request (-d)."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations

    def __getattr__(self, name: str) -> Any:
        call = getattr(self._operations, name)

        def traced(*args: Any) -> Any:
            shown = ", ".join(repr(arg)[:60] for arg in args)
            try:
                result = call(*args)
            except OSError as error:
                say(f"{name}({shown}): {error.strerror}")
                raise
            say(f"{name}({shown})")
            return result

        return traced


def say(text: str) -> None:
    """Write one line to stderr; whoever reads it may be gone."""
    try:
        os.write(2, f"{NAME}: {text}\n".encode("utf-8", "backslashreplace"))
    except OSError:
        pass


def report(where: str, error: BaseException) -> None:
    """Say what went wrong inside a handler and where, without the price of `traceback`."""
    frame = error.__traceback__
    lines = []
    while frame is not None:
        code = frame.tb_frame.f_code
        lines.append(f"{code.co_filename.rpartition('/')[2]}:{frame.tb_lineno} {code.co_name}")
        frame = frame.tb_next
    say(f"{where}: {type(error).__name__}: {error} ({' < '.join(reversed(lines[-5:]))})")


def _raise_descriptor_limit() -> int:
    """Raise the soft limit of open files to the hard one; return it."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else 1 << 20
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(wanted, 1 << 20)), hard))
    except (OSError, ValueError):
        return soft
    return max(soft, min(wanted, 1 << 20))


def _text(path: str) -> str:
    with open(path, encoding="ascii") as file:
        return file.read()
