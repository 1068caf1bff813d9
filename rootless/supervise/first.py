"""The first second of a container: one plain poll(2) loop, so that a short one never imports trio.

Source: docs/decisions/0015-trio-after-a-second.md
"""

from __future__ import annotations

import _thread
import posix
import select
import time

from rootless.kernel.fds import pipe
from rootless.supervise.streams import Stream
from rootless.supervise.supervision import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

FIRST_SECONDS = 1.0
LOADING_NICE = 10


def run_first(s: Supervision, client: int, seconds: float = FIRST_SECONDS) -> bool:
    """Serve *s* for *seconds*, until *client* is readable, or until its container has ended; say whether it was that.

    Blocks: up to *seconds*, and after the container's end until the streams are drained
    """
    until = time.monotonic() + seconds
    while s.exit_status is None:
        now = time.monotonic()
        if now >= until:
            return False
        if _turn(s, until - now, client) and s.exit_status is None:
            return False
    drain(s)
    return True


def run_while_loading(s: Supervision, load: Callable[[], object], *, urgent: bool) -> bool:
    """Serve *s* while *load* imports what a long life needs, in a thread that ends with it.

    Importing trio takes a tenth of a second: a container that ends meanwhile, and who waits for that, need not wait for
    it; nor do others who want the processor, unless it is *urgent*.

    Blocks:  until one of both is over
    Returns: whether it was the container, with its output through
    Raises:  what *load* raised
    """
    done, tell = pipe()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            if not urgent:
                # Linux: of this thread alone (setpriority(2), "C library/kernel differences"), which ends soon.
                posix.setpriority(posix.PRIO_PROCESS, 0, LOADING_NICE)
            load()
        except BaseException as error:
            failed.append(error)
        tell.close()

    _thread.start_new_thread(work, ())
    with done:
        while s.exit_status is None:
            if _turn(s, 60.0, done.fileno()):
                break
    if s.exit_status is None:
        if failed:
            raise failed[0]
        return False
    drain(s)
    return True


def drain(s: Supervision) -> None:
    """Move what the container wrote before it ended; what was read already has all the time that its reader takes."""
    until = s.drain_deadline()
    while any([not stream.ended for stream in s.output]):
        left = until - time.monotonic()
        writing = any([stream.waiting_for[1] for stream in s.output if not stream.ended])
        if not _turn(s, 60.0 if writing else max(left, 0.0)) and left <= 0 and not writing:
            break


def _turn(s: Supervision, seconds: float, wake: int = -1) -> bool:
    """Wait for one thing or more, and do it.

    Returns: whether there was one; with *wake*, whether that descriptor was readable
    """
    if s.deadline is not None:
        seconds = min(seconds, max(s.deadline - time.monotonic(), 0.0))
    poller = select.poll()
    ended = s.exit_status is not None
    if not ended:
        poller.register(s.pidfd.fileno(), select.POLLIN)
        for _, pidfd, _ in s.servers:
            poller.register(pidfd.fileno(), select.POLLIN)
    poller.register(s.inbox.fileno(), select.POLLIN)
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    link = s.link.fileno() if s.link is not None and s.link.open else -1
    if link >= 0:
        poller.register(link, select.POLLIN)
    notify = s.notify_fd
    if notify >= 0:
        poller.register(notify, select.POLLIN)
    by_number: dict[int, list[tuple[Stream, bool]]] = {}
    for stream in s.output if ended else s.streams:
        if stream.ended:
            continue
        number, writing = stream.waiting_for
        events = by_number.setdefault(number, [])
        events.append((stream, writing))
        poller.register(number, (select.POLLOUT if writing else select.POLLIN) | _known(events))
    ready = dict(poller.poll(seconds * 1000))
    if not ready and s.deadline is not None and time.monotonic() >= s.deadline:
        s.on_deadline()
    for number, events in by_number.items():
        state = ready.get(number, 0)
        for stream, writing in events:
            if state & (
                (select.POLLOUT if writing else select.POLLIN) | select.POLLHUP | select.POLLERR | select.POLLNVAL
            ):
                stream.step()
    if s.inbox.fileno() in ready:
        s.on_signal()
    if link in ready:
        s.on_link()
    if notify in ready and s.notifier is not None:
        s.notifier.step()
    if not ended:
        for name, pidfd, words in s.servers:
            if pidfd.fileno() in ready:
                s.on_server_death(name, words)
        if s.fault is not None:
            s.servers = ()
        if s.pidfd.fileno() in ready:
            s.reap()
    return wake in ready if wake >= 0 else bool(ready)


def _known(events: list[tuple[Stream, bool]]) -> int:
    mask = 0
    for _, writing in events:
        mask |= select.POLLOUT if writing else select.POLLIN
    return mask
