"""The supervisor's side of the control socket: exec, attach, wait, start and what others register.

The socket listens before the container starts, so that clients queue; it is served once trio runs.
Each client has a connection of its own. A client that goes away cancels what only it wanted: a wait, an
attachment. A process that `exec` has started goes on.

Source: architecture.md, "Process model"; proto/frames.py
"""

from __future__ import annotations

import errno
import os
import posix
import socket

import trio

from rootless.errors import RootlessError, UsageError
from rootless.kernel.fds import Fd
from rootless.proto import frames
from rootless.supervise import packets
from rootless.supervise.streams import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from typing import Any

    from rootless.run.create import Created
    from rootless.spec.runtime import Process
    from rootless.supervise.supervision import Supervision

    Handler = Callable[["Client", dict[str, Any], list[Fd]], Awaitable[None]]

SPAWN_SECONDS = 10.0
STALLED_SECONDS = 10.0
CHUNK_BYTES = 65536


class Service:
    """What a supervisor offers to its clients, as far as the container itself is concerned.

    Shape: *listener* is the socket that listens; *process_for* makes a process out of the body of `exec`; *spawn*
           starts one in the container (blocking); *begin* sends START to a container that `init` has made, or is None;
           *tasks* run beside the container; *verbs* are further handlers; *owner* is the uid, in our ids, to whom the
           pipes of a process are given; *tell* adds to the event log
    """

    def __init__(
        self,
        listener: Fd,
        process_for: Callable[[dict[str, Any]], Process],
        spawn: Callable[[Process, tuple[Fd, Fd, Fd], tuple[Fd, ...]], Created],
        owner: Callable[[Process], int],
    ) -> None:
        self.listener = listener
        self.process_for = process_for
        self.spawn = spawn
        self.owner = owner
        self.begin: Callable[[], None] | None = None
        self.began = trio.Event()
        self.ended = trio.Event()
        self.clients: set[Client] = set()
        self.tasks: list[Callable[[Supervision], Awaitable[None]]] = []
        self.verbs: dict[str, Handler] = {}
        self.checks = False
        self.tell: Callable[[str], None] = lambda status: None


class Client:
    """One connection."""

    def __init__(self, sock: Fd) -> None:
        self.sock = sock
        self.wants_end = False
        self.viewer: Viewer | None = None

    async def receive(self) -> tuple[dict[str, Any] | None, list[Fd]]:
        await trio.lowlevel.wait_readable(self.sock.fileno())
        return packets.receive(self.sock)

    def send(self, message: dict[str, Any], fds: tuple[Fd, ...] = ()) -> None:
        """Send; a client that has gone, or does not read, has no use for it."""
        try:
            packets.send(self.sock, message, fds)
        except RootlessError:
            pass


class Viewer:
    """An attached client's stdout and stderr: what they are behind is queued."""

    def __init__(self, targets: dict[int, Fd]) -> None:
        self._targets = targets
        self._queues: dict[int, bytearray] = {number: bytearray() for number in targets}
        self._wake = trio.Event()
        for fd in targets.values():
            posix.set_blocking(fd.fileno(), False)

    @property
    def queued_bytes(self) -> int:
        return sum([len(queue) for queue in self._queues.values()])

    def push(self, number: int, data: bytes) -> None:
        if number in self._targets:
            self._queues[number] += data
            self._wake.set()

    async def flush(self) -> bool:
        """Write what is queued; say whether the reader is still there and moves."""
        for number, queue in self._queues.items():
            while queue and number in self._targets:
                target = self._targets[number]
                with trio.move_on_after(STALLED_SECONDS) as waiting:
                    await trio.lowlevel.wait_writable(target.fileno())
                if waiting.cancelled_caught:
                    return False
                try:
                    done = posix.write(target.fileno(), queue[:CHUNK_BYTES])
                except BlockingIOError:
                    continue
                except OSError:
                    self._drop(number)
                    break
                del queue[:done]
        return bool(self._targets)

    async def run(self) -> None:
        """Write whatever comes until the reader has gone or stalls."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            if not await self.flush():
                return

    def _drop(self, number: int) -> None:
        self._targets.pop(number).close()
        self._queues[number].clear()

    def close(self) -> None:
        for number in list(self._targets):
            self._drop(number)


async def serve(service: Service, s: Supervision) -> None:
    """Accept clients until cancelled."""
    async with trio.open_nursery() as nursery:
        while True:
            await trio.lowlevel.wait_readable(service.listener.fileno())
            sock = accept(service.listener)
            if sock is not None:
                nursery.start_soon(_serve_client, service, s, Client(sock))


def accept(listener: Fd) -> Fd | None:
    """Return the connection of a client that waits, if there is one still."""
    borrowed = socket.socket(fileno=listener.fileno())
    try:
        connection, _ = borrowed.accept()
    except OSError:
        return None
    finally:
        borrowed.detach()
    return Fd(connection.detach())


async def _serve_client(service: Service, s: Supervision, client: Client) -> None:
    service.clients.add(client)
    try:
        with client.sock:
            message, fds = await client.receive()
            if message is None:
                return
            try:
                await _answer(service, s, client, message, fds)
            except RootlessError as error:
                client.send(frames.failure(error))
            except OSError as error:
                client.send(frames.failure(RootlessError(os.strerror(error.errno or errno.EIO).lower())))
            finally:
                for fd in fds:
                    fd.close()
    except (RootlessError, trio.ClosedResourceError):
        pass  # it has gone in the middle of a word
    finally:
        service.clients.discard(client)


async def _answer(service: Service, s: Supervision, client: Client, message: dict[str, Any], fds: list[Fd]) -> None:
    verb = message.get("verb")
    if message.get("v") != frames.VERSION and verb not in ("wait", "start"):
        raise UsageError("the container's supervisor is of another version of rootless",
                         hint="restart the container: rootless restart")  # fmt: skip
    if verb == "exec":
        await _exec(service, s, client, message, fds)
    elif verb == "attach":
        service.tell("attach")
        await _attach(service, s, client, message, fds)
    elif verb == "wait":
        client.wants_end = True
        await service.ended.wait()
    elif verb == "start":
        await _start(service, client)
    elif isinstance(verb, str) and verb in service.verbs:
        await service.verbs[verb](client, message, fds)
    else:
        raise UsageError(f"the supervisor does not know {verb}")


async def _start(service: Service, client: Client) -> None:
    if service.begin is None:
        raise RootlessError("the container runs already: container state improper")
    begin, service.begin = service.begin, None
    await trio.to_thread.run_sync(begin)
    service.began.set()
    client.send({"ok": {}})


async def _exec(service: Service, s: Supervision, client: Client, body: dict[str, Any], fds: list[Fd]) -> None:
    null = Fd(posix.open("/dev/null", posix.O_RDWR | posix.O_CLOEXEC))
    with null:
        given = fds if len(fds) >= 3 else [null, null, null]

        def begin() -> Created:
            # All of it in the thread: looking a user up in the container's root may wait for a file server.
            process = service.process_for(body)
            if process.terminal:
                return service.spawn(process, (null, null, null), tuple(given[3:]))
            for fd in given[:3]:
                _give(fd, service.owner(process))
            return service.spawn(process, (given[0], given[1], given[2]), tuple(given[3:]))

        created = None
        with trio.move_on_after(SPAWN_SECONDS):
            created = await trio.to_thread.run_sync(begin, abandon_on_cancel=True)
    for fd in fds:
        fd.close()  # the process has its own; the end of its output is the end of theirs
    if created is None:
        raise RootlessError(f"the process did not start within {SPAWN_SECONDS:.0f} seconds: the container is frozen")
    master = created.console
    created.console = None
    client.send({"ok": {"pid": created.pid}}, (master,) if master is not None else ())
    service.tell("exec")
    # A process that goes on without its client must find a terminal that somebody reads.
    async with trio.open_nursery() as nursery:
        if master is not None:
            nursery.start_soon(_outlive, client, master)
        await trio.lowlevel.wait_readable(created.pidfd.fileno())
        nursery.cancel_scope.cancel()
    _, status = posix.waitpid(created.pid, 0)
    created.close()
    if master is not None:
        master.close()
    code = 128 + posix.WTERMSIG(status) if posix.WIFSIGNALED(status) else posix.WEXITSTATUS(status)
    client.send({"exit": code})
    service.tell("exec_died")


def _give(fd: Fd, owner: int) -> None:
    """/dev/stdout is opened again by its path, which asks for the owner of the pipe."""
    try:
        os.fchown(fd.fileno(), owner, -1)
    except OSError:
        pass


async def _outlive(client: Client, master: Fd) -> None:
    """Read the terminal once the client that did so has gone."""
    message, fds = await client.receive()
    while message is not None:
        for fd in fds:
            fd.close()
        message, fds = await client.receive()
    posix.set_blocking(master.fileno(), False)
    stream = Stream(master, None)
    while not stream.ended:
        await trio.lowlevel.wait_readable(master.fileno())
        stream.step()


async def _attach(service: Service, s: Supervision, client: Client, body: dict[str, Any], fds: list[Fd]) -> None:
    """Show the output to the client, and take its input.

    Shape: *body* says which of stdin, stdout, stderr come as descriptors, in this order
    """
    wanted = [name for name in ("stdin", "stdout", "stderr") if body.get(name)]
    if len(wanted) != len(fds):
        raise UsageError("attach: descriptors are missing")
    given = dict(zip(wanted, [Fd(fd.detach()) for fd in fds], strict=True))
    source = given.pop("stdin", None)
    viewer = Viewer({1 if name == "stdout" else 2: fd for name, fd in given.items()})
    client.viewer, client.wants_end = viewer, True
    s.viewers.append(viewer)
    client.send({"ok": {"tty": s.console is not None}})
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(viewer.run)
            if source is not None:
                nursery.start_soon(_feed, s, source, bool(body.get("close_stdin")))
            await _listen(s, client)
            nursery.cancel_scope.cancel()
    finally:
        s.viewers.remove(viewer)
        viewer.close()
        if source is not None:
            source.close()


async def _listen(s: Supervision, client: Client) -> None:
    """Do what the attached client asks for until it goes."""
    while True:
        message, fds = await client.receive()
        for fd in fds:
            fd.close()
        if message is None:
            return
        if "resize" in message:
            s.set_size(message["resize"])
        if "signal" in message:
            s.kill(int(message["signal"]))


async def _feed(s: Supervision, source: Fd, close_at_end: bool) -> None:
    """Move the client's input into the container, whose stdin stays open for the next one unless it is to end."""
    target = s.feed
    if target is None or target.closed:
        return
    if s.console is not None:
        stream = Stream(source, target, end_text=b"\x04" if close_at_end else b"", keep_target=True)
    else:
        stream = Stream(source, target, keep_target=not close_at_end)
    while not stream.ended:
        number, writing = stream.waiting_for
        try:
            await (trio.lowlevel.wait_writable(number) if writing else trio.lowlevel.wait_readable(number))
        except PermissionError:
            await trio.lowlevel.checkpoint()
        stream.step()


async def tell_end(service: Service, s: Supervision) -> None:
    """Give those who are attached the rest of the output, and tell all who wait how it ended."""
    service.ended.set()
    for client in list(service.clients):
        if client.viewer is not None:
            await client.viewer.flush()
            client.viewer.close()
    for client in list(service.clients):
        if client.wants_end:
            client.send({"exit": s.exit_status})
    with trio.move_on_after(0):
        # Clients that queued while the container ended get an answer too: the end of the connection.
        await trio.lowlevel.checkpoint()
