"""The loop that runs health checks, with programs of this machine under a clock that jumps."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from rootless.errors import RootlessError
from rootless.kernel.fds import Fd
from rootless.kernel.process import pidfd_open
from rootless.plan.options import HealthRequest
from rootless.supervise import health
from rootless.supervise.checks import Checks
from rootless.supervise.health import Rules, rules_of

S = health.NS


def rules(*args: str, retries: int = 3, **more: Any) -> Rules:
    found = rules_of(HealthRequest(test=("CMD", *(args or ("true",))), retries=retries, **more))
    assert found is not None
    return found


class Host:
    """Starts programs of this machine, with an account of what was asked. A fake of the container, not of our code."""

    def __init__(self, on_write: Callable[[dict[str, Any]], None] | None = None) -> None:
        self.documents: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.events: list[str] = []
        self.acts: list[str] = []
        self.pids: list[int] = []
        self.paused = False
        self.on_write = on_write

    def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Child:
        try:
            process = subprocess.Popen(
                args, stdin=stdio[0].fileno(), stdout=stdio[1].fileno(), stderr=stdio[2].fileno(), process_group=0
            )
        except OSError as error:
            raise RootlessError(f"{args[0]}: {os.strerror(error.errno or 0)}", code=127) from None
        process.returncode = 0  # the checks reap it
        self.pids.append(process.pid)
        return Child(process.pid)

    def ready(self) -> bool:
        return not self.paused

    def write(self, document: dict[str, Any]) -> None:
        self.documents.append(document)
        self.times.append(trio.current_time())
        if self.on_write:
            self.on_write(document)

    def event(self, status: str) -> None:
        self.events.append(status)

    def act(self, action: str) -> None:
        self.acts.append(action)


class Child:
    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.pidfd = pidfd_open(pid)

    def close(self) -> None:
        self.pidfd.close()


class Silent(Host):
    """Programs that answer at once with the next of *codes*: only the schedule is looked at."""

    def __init__(self, codes: list[int], **more: Any) -> None:
        super().__init__(**more)
        self.codes = codes

    def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Child:
        return super().spawn(("sh", "-c", f"echo said; exit {self.codes.pop(0)}"), stdio)


async def until(world: Host, checks: Checks, documents: int) -> None:
    """Run *checks* until so many documents have been written."""
    async with trio.open_nursery() as nursery:

        def enough(_: dict[str, Any]) -> None:
            if len(world.documents) >= documents:
                nursery.cancel_scope.cancel()

        world.on_write = enough
        nursery.start_soon(checks.run)


async def test_the_schedule(autojump_clock: trio.testing.MockClock) -> None:
    autojump_clock.autojump_threshold = 0.2  # real programs run meanwhile; the clock waits for them
    world = Silent([1, 1, 1, 0, 0])
    checks = Checks(rules(retries=2, interval_ns=3600 * S, start_period_ns=S, timeout_ns=10**6 * S), world)
    began = trio.current_time()
    await until(world, checks, 6)
    hours = [round((moment - began) / 3600) for moment in world.times[1:]]
    assert hours == [0, 1, 2, 3, 4]
    assert [d["Status"] for d in world.documents] == [
        "starting",
        "starting",
        "starting",
        "unhealthy",
        "healthy",
        "healthy",
    ]
    assert [d["FailingStreak"] for d in world.documents] == [0, 0, 1, 2, 0, 0]
    assert world.documents[1]["Log"][0]["Output"] == "said"
    assert world.events == [d["Status"] for d in world.documents[1:]]


@pytest.mark.parametrize("action", ["kill", "restart", "stop"])
async def test_unhealthy_asks_for_the_action(action: str) -> None:
    world = Silent([1, 1])
    checks = Checks(rules(retries=2, on_failure=action), world)
    await checks.once()
    assert world.acts == []
    await checks.once()
    assert world.acts == [action]


async def test_nothing_is_asked_for_with_none() -> None:
    world = Silent([1])
    await Checks(rules(retries=1), world).once()
    assert world.documents[-1]["Status"] == "unhealthy" and world.acts == []


async def test_no_check_of_a_paused_container(autojump_clock: trio.testing.MockClock) -> None:
    world = Host()
    world.paused = True
    with trio.move_on_after(300):
        await Checks(rules(), world).run()
    assert world.pids == []


async def test_a_negative_interval_waits_for_a_person() -> None:
    world = Host()
    await Checks(rules(interval_ns=-1), world).run()
    assert world.pids == []


async def test_both_streams_are_kept_and_the_rest_is_read_away() -> None:
    world = Host()
    checks = Checks(
        rules("sh", "-c", "echo out; echo err >&2; head -c 1000000 /dev/zero | tr '\\0' x; exit 125"), world
    )
    found = await checks.once()
    assert found.exit_code == 1 and found.error == ""
    assert found.output == ("out\nerr\n" + "x" * 500)[:500]


async def test_a_slow_check_is_killed_with_its_children(tmp_path: Path) -> None:
    world = Host()
    script = f"echo begun; (sleep 1000; touch {tmp_path}/never) & wait"
    found = await Checks(rules("sh", "-c", script, timeout_ns=S // 5), world).once()
    assert (found.exit_code, found.output) == (-1, "begun")
    assert found.error == "healthcheck command exceeded timeout of 200ms"
    with pytest.raises(ProcessLookupError):
        for _ in range(500):
            os.killpg(world.pids[0], 0)
            time.sleep(0.01)


async def test_a_child_that_keeps_the_pipe_is_not_waited_for() -> None:
    world = Host()
    try:
        found = await Checks(rules("sh", "-c", "sleep 1000 & echo done"), world).once()
        assert (found.exit_code, found.output) == (0, "done")
    finally:
        os.killpg(world.pids[0], 9)


async def test_a_program_that_is_not_there_is_a_failed_check() -> None:
    found = await Checks(rules("/no/such/program"), Host()).once()
    assert (found.exit_code, found.error) == (1, "")
    assert found.output == "/no/such/program: No such file or directory"


class Faulty(Host):
    def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Child:
        raise RootlessError("the kernel said no")


async def test_a_fault_of_ours_is_told_to_who_asked() -> None:
    world = Faulty()
    found = await Checks(rules(), world).once()
    assert found.exit_code == 125 and world.documents[-1]["FailingStreak"] == 1
    with pytest.raises(RootlessError, match="the kernel said no"):
        health.answer(found)


class Stuck(Host):
    """A container whose kernel side hangs: the program starts long after everybody has stopped waiting."""

    def __init__(self) -> None:
        super().__init__()
        self.go_read, self.go_write = os.pipe()

    def spawn(self, args: tuple[str, ...], stdio: tuple[Fd, Fd, Fd]) -> Child:
        os.read(self.go_read, 1)
        return super().spawn(args, stdio)


async def test_a_program_that_starts_too_late_is_killed() -> None:
    world = Stuck()
    found = await Checks(rules("sleep", "1000", timeout_ns=S // 10), world).once()
    assert found.exit_code == -1 and world.pids == []
    os.write(world.go_write, b"x")
    for _ in range(500):
        if world.pids and not Path(f"/proc/{world.pids[0]}").exists():
            break
        await trio.sleep(0.01)
    assert world.pids and not Path(f"/proc/{world.pids[0]}").exists()
    os.close(world.go_read)
    os.close(world.go_write)
