"""Worker processes of the unpacker: started early, used for one layer after the other, ended with whoever has them.

This imports no event loop, so that a pull can start its workers before it imports what it needs for HTTP: an
interpreter takes as long to start as a small layer to unpack. CHANNEL_FD is where a worker finds its end of the socket;
unpack/worker.py says what goes over it.
"""

from __future__ import annotations

import errno

from rootless import launcher
from rootless.errors import KernelError
from rootless.kernel import process
from rootless.kernel.fds import Fd, socketpair
from rootless.kernel.fork import CHANNEL_FD, fork_child

_SIGKILL = 9


class WorkerProcess:
    """A running worker.

    Owner: whoever has it ends it: `end` for one that waits, `kill` and then `reap` for one that works
    """

    def __init__(self, pid: int, pidfd: Fd, channel: Fd) -> None:
        self.pid = pid
        self.pidfd = pidfd
        self.channel = channel

    def kill(self) -> None:
        """Kill it, if it still lives."""
        if self.pidfd.closed:
            return
        try:
            process.pidfd_send_signal(self.pidfd, _SIGKILL)
        except KernelError as error:
            if error.errno != errno.ESRCH:
                raise

    def reap(self) -> None:
        """Wait for its death and close everything; doing so twice is harmless. Blocks: until it is dead"""
        if self.pidfd.closed:
            return
        self.channel.close()
        process.wait_pid(self.pid)
        self.pidfd.close()

    def end(self) -> None:
        """End a worker that has nothing to do."""
        self.kill()
        self.reap()


def start_worker() -> WorkerProcess:
    """Start a worker, which then waits for a layer.

    Blocks:  until the exec has happened
    Raises:  KernelError(posix_spawn, pidfd_open)
    """
    ours, theirs = socketpair()
    with theirs:
        pid = process.spawn(launcher.command("rootless-unpack"), fds={CHANNEL_FD: theirs})
    return WorkerProcess(pid, process.pidfd_open(pid), ours)


def fork_worker() -> WorkerProcess:
    """As `start_worker`, by a fork of this process: a tenth of the time, and only while it has a single thread.

    Raises:  InternalError, KernelError(pidfd_open)
    """
    from rootless.unpack.worker import main

    ours, theirs = socketpair()
    with theirs:
        pid = fork_child(theirs, lambda: main([]))
    return WorkerProcess(pid, process.pidfd_open(pid), ours)
