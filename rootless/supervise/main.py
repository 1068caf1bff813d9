"""The long life of a container: trio takes over what the first poll loop served.

Imported only when the container is still there 50 ms after its start: importing trio costs as much as
ten launches. Everything is handed over as descriptors; while it is imported, pipes and terminal buffer.
"""

from __future__ import annotations

import time

import trio

from rootless.supervise.first import drain
from rootless.supervise.shape import shape_supervisor
from rootless.supervise.streams import Stream
from rootless.supervise.supervision import Supervision

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.kernel.fds import Fd


def run_main(s: Supervision, container_id: str) -> None:
    """Serve *s* until its container has ended and its output is through. Blocks: that long"""
    shape_supervisor(container_id)
    s.inbox.hand_over()
    # Signals come through our own inbox; trio's handling of SIGINT would turn ^C into an exception.
    trio.run(_supervise, s, restrict_keyboard_interrupt_to_checkpoints=True)
    drain(s)


async def _supervise(s: Supervision) -> None:
    async with trio.open_nursery() as nursery:
        for stream in s.streams:
            nursery.start_soon(_move, stream)
        nursery.start_soon(_signals, s)
        for name, pidfd, words in s.servers:
            nursery.start_soon(_watch, s, name, pidfd, words)
        if s.deadline is not None:
            nursery.start_soon(_deadline, s)
        await trio.lowlevel.wait_readable(s.pidfd.fileno())
        s.reap()
        nursery.cancel_scope.cancel()


async def _move(stream: Stream) -> None:
    while not stream.ended:
        number, writing = stream.waiting_for
        try:
            await (trio.lowlevel.wait_writable(number) if writing else trio.lowlevel.wait_readable(number))
        except PermissionError:
            await trio.lowlevel.checkpoint()  # epoll refuses plain files, which are always ready (epoll_ctl(2) EPERM)
        except trio.BusyResourceError:
            await trio.sleep(0.01)  # stdin and stdout are one terminal, and both wait for it
        stream.step()


async def _signals(s: Supervision) -> None:
    while True:
        await trio.lowlevel.wait_readable(s.inbox.fileno())
        s.on_signal()


async def _watch(s: Supervision, name: str, pidfd: Fd, words: Callable[[], str]) -> None:
    await trio.lowlevel.wait_readable(pidfd.fileno())
    s.on_server_death(name, words)


async def _deadline(s: Supervision) -> None:
    if s.deadline is not None:
        await trio.sleep(max(s.deadline - time.monotonic(), 0.0))
        s.on_deadline()
