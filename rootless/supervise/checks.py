"""Health checks run by the supervisor, under trio: no timer of a service manager is needed.

    checks = Checks(rules, world)            # health.rules_of(options.health) gave the rules
    nursery.start_soon(checks.run)           # one check at once, then one each interval after the end of the last
    result = await checks.once()             # `healthcheck run`: health.answer(result) is the reply

One check at a time. A check's program that takes longer than its timeout is killed with its process group, so that
slow ones cannot pile up.
"""

from __future__ import annotations

import errno
import posix

import trio

from rootless.errors import KernelError, RootlessError
from rootless.kernel.fds import Fd, open_fd, pipe
from rootless.kernel.process import pidfd_send_signal
from rootless.store.containers import now
from rootless.supervise import health
from rootless.supervise.health import Result, Rules

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Protocol

    class Process(Protocol):
        """A process in the container that is our child (run.create.Created is one)."""

        pid: int
        pidfd: Fd

        def close(self) -> None: ...

    class World(Protocol):
        """What the checks need from the supervisor.

        spawn   starts *args* in the container as its user, with its environment and working directory, stdio as given,
                its own process group; it runs when this returns. Called in a thread. Blocks: some milliseconds.
                The descriptors stay ours. Raises: RootlessError; ExecNotFound, ExecNotExecutable for what is not there
        ready   says whether processes can be started now: not when paused or stopping
        write   puts the document away (health.write)
        event   tells of a result: podman's event health_status
        act     does what on_failure says, "kill", "restart" or "stop"; returns at once
        """

        def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Process: ...
        def ready(self) -> bool: ...
        def write(self, document: dict[str, Any]) -> None: ...
        def event(self, status: str) -> None: ...
        def act(self, action: str) -> None: ...


SIGKILL = 9
READ_BYTES = 65536
KEPT_BYTES = 4 * health.OUTPUT_CHARS
NOT_STARTED = 125
NOT_THERE = (126, 127)


class Checks:
    """The checks of one life of a container; make it when the life begins, inside trio's run.

    Shape: *before* is the document of an earlier life, whose log is kept; *on_healthy* is called at each success
    """

    def __init__(self, rules: Rules, world: World, *, before: dict[str, Any] | None = None) -> None:
        self.rules = rules
        self.document = health.starting(before)
        self._world = world
        self._began = trio.current_time()
        self._one = trio.Lock()
        world.write(self.document)

    async def run(self) -> None:
        """Check for ever; returns only where the checks wait for a person."""
        if self.rules.interval_ns <= 0:
            return
        while True:
            if self._world.ready():
                await self.once()
            await trio.sleep(self.rules.interval_ns / health.NS)

    async def once(self) -> Result:
        """Run one check, write it down and do what its result asks for."""
        async with self._one:
            # The clock of the wall may be set back; the start period runs on trio's, which is monotonic.
            early = trio.current_time() - self._began < self.rules.start_period_ns / health.NS
            result = await self._probe()
            self.document = health.with_result(self.document, result, self.rules, in_start_period=early)
            self._world.write(self.document)
            self._world.event(self.document["Status"])
            if self.document["Status"] == health.UNHEALTHY and self.rules.on_failure != "none":
                self._world.act(self.rules.on_failure)
            return result

    async def _probe(self) -> Result:
        begun = now()
        output = bytearray()
        attempt = _Attempt(self._world, self.rules.args)
        code, error = health.EXIT_TOO_LONG, ""
        try:
            with attempt.reader, trio.move_on_after(self.rules.timeout_ns / health.NS) as limit:
                await trio.to_thread.run_sync(attempt.start, abandon_on_cancel=True)
                code = 1 if await attempt.follow(output) else 0
            if limit.cancelled_caught:
                error = health.too_long(self.rules)
        except RootlessError as problem:
            # What the image does not have is a failed check; what we could not do is told to who asked.
            code = 1 if problem.code in NOT_THERE else NOT_STARTED
            error = "" if code == 1 else problem.message
            output[:] = problem.message.encode()
        finally:
            attempt.end()
        return Result(begun, now(), code, health.output_text(bytes(output)), error)


class _Attempt:
    """One run of the program: started in a thread, which may come back only after everybody has stopped waiting.

    Owner: the thread closes the descriptors it was given; *reader* is the event loop's
    """

    def __init__(self, world: World, args: tuple[str, ...]) -> None:
        self._world = world
        self._args = args
        self._null = open_fd("/dev/null", posix.O_RDONLY)
        self.reader, self._writer = pipe()
        posix.set_blocking(self.reader.fileno(), False)
        self._process: Process | None = None
        self._given_up = False

    def start(self) -> None:
        """Start it. Blocks: as World.spawn"""
        with self._null, self._writer:
            self._process = self._world.spawn(self._args, (self._null, self._writer, self._writer))
        if self._given_up:
            self.end()

    async def follow(self, output: bytearray) -> int:
        """Collect the beginning of its output and return its exit status."""
        process = self._process
        assert process is not None
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._collect, output)
            await trio.lowlevel.wait_readable(process.pidfd.fileno())
            # What it started may hold the pipe for ever: what is there now is all that is taken.
            nursery.cancel_scope.cancel()
        while self._take(output):
            pass
        return self._reap()

    async def _collect(self, output: bytearray) -> None:
        while True:
            await trio.lowlevel.wait_readable(self.reader.fileno())
            if not self._take(output):
                return

    def _take(self, output: bytearray) -> bool:
        """Read once; False when there is nothing, or no writer any more."""
        try:
            data = posix.read(self.reader.fileno(), READ_BYTES)
        except BlockingIOError:
            return False
        output += data[: KEPT_BYTES - len(output)]
        return bool(data)

    def _reap(self) -> int:
        process, self._process = self._process, None
        if process is None:
            return 0
        try:
            _, status = posix.waitpid(process.pid, 0)
        except ChildProcessError:
            return 0
        finally:
            process.close()
        return posix.waitstatus_to_exitcode(status) if posix.WIFEXITED(status) else 128 + posix.WTERMSIG(status)

    def end(self) -> None:
        """Kill what still runs and reap it; a thread that is still starting it will."""
        self._given_up = True
        process = self._process
        if process is None:
            return
        try:
            if posix.getpgid(process.pid) == process.pid:
                posix.killpg(process.pid, SIGKILL)
            pidfd_send_signal(process.pidfd, SIGKILL)
        except (KernelError, OSError) as error:
            if error.errno != errno.ESRCH:
                raise
        self._reap()
