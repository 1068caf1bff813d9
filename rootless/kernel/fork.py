"""Fork a child that goes on in Python, for work whose modules are loaded already.

An interpreter of its own takes 10 ms to start and 20 more to import what we have; a fork takes one. It is right only
while this process has a single thread and nothing that two processes must not share (an event loop, a connection in
use), and the child must never return into the frames that it was forked in: it ends here.
"""

from __future__ import annotations

import _signal
import gc
import os
import posix
import sys

from rootless.kernel.fds import Fd, close_range
from rootless.kernel.namespaces import assert_single_threaded

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

CHANNEL_FD = 3
"""Where the child finds the one descriptor that it is given, beside stdio."""

_INTERRUPTED = 130


def fork_child(channel: Fd, work: Callable[[], int]) -> int:
    """Run *work* in a child that has stdio and, as CHANNEL_FD, *channel*; it exits with what *work* returns.

    Signals that are ignored stay so (nohup(1)), the others do what they do by default.

    Raises: InternalError - there are other threads, whose locks the child would have and never get back
    Owner:  *channel* stays open here; the caller waits for the child
    """
    assert_single_threaded()
    pid = posix.fork()
    if pid:
        return pid
    code = 1
    try:
        # What the frames below us own is neither closed (its numbers will be others' soon) nor copied by a collection.
        gc.freeze()
        for number in (_signal.SIGINT, _signal.SIGTERM, _signal.SIGHUP):
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, _signal.SIG_DFL)
        posix.dup2(channel.fileno(), CHANNEL_FD, False)
        close_range(CHANNEL_FD + 1)
        code = work()
    except KeyboardInterrupt:
        code = _INTERRUPTED
    except BaseException as error:
        sys.excepthook(type(error), error, error.__traceback__)
    finally:
        os._exit(code)
