"""The long life of a container: trio takes over what the first poll loop served.

Imported only when the container is still there 50 ms after its start: importing trio costs as much as
ten launches. Everything is handed over as descriptors; while it is imported, pipes and terminal buffer.
"""

from __future__ import annotations

import gc
import math
import time

import trio

from rootless.supervise import control
from rootless.supervise.shape import shape_supervisor
from rootless.supervise.streams import Stream
from rootless.supervise.supervision import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.fds import Fd
    from rootless.supervise.control import Service

CONGESTED_SECONDS = 0.01
DEADLINE_SECONDS = 1.0
COLLECTED_OBJECTS = 20_000


def run_main(s: Supervision, container_id: str, service: Service, finish: Callable[[], None]) -> None:
    """Serve *s* until its container has ended and its output is through; *finish* writes down how it ended.

    Blocks: that long
    """
    gc.set_threshold(COLLECTED_OBJECTS, 20, 50)
    shape_supervisor(container_id)
    s.inbox.hand_over()
    # Signals come through our own inbox; trio's handling of SIGINT would turn ^C into an exception.
    trio.run(_supervise, s, service, finish, restrict_keyboard_interrupt_to_checkpoints=True)


async def _supervise(s: Supervision, service: Service, finish: Callable[[], None]) -> None:
    async with trio.open_nursery() as clients:
        clients.start_soon(control.serve, service, s)
        async with trio.open_nursery() as helpers:
            for stream in s.input:
                helpers.start_soon(_move, s, stream)
            helpers.start_soon(_signals, s)
            helpers.start_soon(_link, s)
            helpers.start_soon(_notifications, s)
            for name, pidfd, words in s.servers:
                helpers.start_soon(_watch, s, name, pidfd, words)
            if s.deadline is not None or service.checks:
                helpers.start_soon(_deadline, s)
            for task in service.tasks:
                helpers.start_soon(task, s)
            async with trio.open_nursery() as output:
                for stream in s.output:
                    output.start_soon(_move, s, stream)
                await trio.lowlevel.wait_readable(s.pidfd.fileno())
                s.reap()
                output.cancel_scope.cancel()
            async with trio.open_nursery() as rest:
                until = trio.current_time() + max(s.drain_deadline() - time.monotonic(), 0.0)
                for stream in s.output:
                    rest.start_soon(_move, s, stream, until)
            helpers.cancel_scope.cancel()
        finish()
        await control.tell_end(service, s)
        clients.cancel_scope.cancel()


async def _move(s: Supervision, stream: Stream, read_until: float = math.inf) -> None:
    """Move one stream to its end, or until *read_until* when there is nothing more to read."""
    while not stream.ended:
        while s.congested and stream in s.output:
            await trio.sleep(CONGESTED_SECONDS)
        number, writing = stream.waiting_for
        try:
            if writing:
                await trio.lowlevel.wait_writable(number)
            else:
                with trio.CancelScope(deadline=read_until) as waiting:
                    await trio.lowlevel.wait_readable(number)
                if waiting.cancelled_caught:
                    return
        except PermissionError:
            await trio.lowlevel.checkpoint()  # epoll refuses plain files, which are always ready (epoll_ctl(2) EPERM)
        except trio.BusyResourceError:
            await trio.sleep(0.01)  # stdin and stdout are one terminal, and both wait for it
        except trio.ClosedResourceError:
            return
        if not stream.ended:
            stream.step()


async def _signals(s: Supervision) -> None:
    while True:
        await trio.lowlevel.wait_readable(s.inbox.fileno())
        s.on_signal()


async def _link(s: Supervision) -> None:
    while s.link is not None and s.link.open:
        await trio.lowlevel.wait_readable(s.link.fileno())
        s.on_link()


async def _notifications(s: Supervision) -> None:
    while s.notifier is not None and s.notify_fd >= 0:
        await trio.lowlevel.wait_readable(s.notify_fd)
        s.notifier.step()


async def _watch(s: Supervision, name: str, pidfd: Fd, words: Callable[[], str]) -> None:
    await trio.lowlevel.wait_readable(pidfd.fileno())
    s.on_server_death(name, words)


async def _deadline(s: Supervision) -> None:
    """Look at the deadline: a health check may set one."""
    while True:
        if s.deadline is not None and time.monotonic() >= s.deadline:
            s.on_deadline()
        left = s.deadline - time.monotonic() if s.deadline is not None else DEADLINE_SECONDS
        await trio.sleep(min(max(left, 0.0), DEADLINE_SECONDS))
