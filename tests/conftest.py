"""Rules that hold for all tests: who runs them, what a unit test may not do, what a test may not leave behind."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from tests.support import capabilities, hygiene
from tests.support.userns import in_userns as run_in_userns

TESTS = Path(__file__).parent
KERNEL_FACING = ("kernel", "fuse", "net", "runtime", "e2e")
# What a unit test may not do, as audit events of the interpreter (sys.addaudithook).
FORBIDDEN_IN_UNIT = frozenset(
    """os.fork os.forkpty os.posix_spawn os.exec os.system subprocess.Popen
    socket.connect socket.bind socket.getaddrinfo socket.sendto""".split()
)
_unit_test_runs = False


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if _unit_test_runs and event in FORBIDDEN_IN_UNIT:
        raise RuntimeError(f"a unit test may not use {event}: put it into another tier")


sys.addaudithook(_audit)

# No database: the account that runs the tests may not write into the tree. No deadline: times are not tested.
hypothesis.settings.register_profile("here", database=None, deadline=None)
hypothesis.settings.load_profile("here")


def tier(item: pytest.Item) -> str:
    """Return the directory of tests/ that *item* lies in."""
    try:
        return item.path.relative_to(TESTS).parts[0]
    except ValueError:
        return ""


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requires(*names): capabilities (tests/support/capabilities.py) that the test needs"
    )
    config.addinivalue_line("markers", "leaves(*kinds): what the test leaves on purpose (mounts, processes, fds)")
    capabilities.demanded()


def pytest_runtest_setup(item: pytest.Item) -> None:
    if tier(item) in KERNEL_FACING and hygiene.is_real_root():
        pytest.fail("runs as real root: use scripts/test, which runs it as an unprivileged account", pytrace=False)
    for mark in item.iter_markers("requires"):
        capabilities.require(*mark.args)


@pytest.fixture(autouse=True)
def unit_tests_stay_inside(request: pytest.FixtureRequest) -> Iterator[None]:
    """Refuse processes and the network while a unit test runs."""
    global _unit_test_runs
    _unit_test_runs = tier(request.node) == "unit"
    yield
    _unit_test_runs = False


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail a test of the other tiers that leaves mounts, processes or file descriptors."""
    if tier(request.node) not in KERNEL_FACING:
        yield
        return
    allowed = {kind for mark in request.node.iter_markers("leaves") for kind in mark.args}
    before = hygiene.look()
    yield
    left = hygiene.left_since(before, allowed)
    if left:
        pytest.fail("the test left behind:\n  " + "\n  ".join(left), pytrace=False)


@pytest.fixture
def require() -> Callable[..., None]:
    """Give `require(*capabilities)`."""
    return capabilities.require


@pytest.fixture
def in_userns() -> Callable[..., Any]:
    """Give `in_userns(body, ids=, net=, pid=)`; skips where user namespaces are missing."""
    capabilities.require("userns")
    return run_in_userns


@pytest.fixture
def workplace(tmp_path: Path) -> Iterator[Path]:
    """Give a directory whose files may belong to subordinate ids: pytest itself could not remove them."""
    from tests.support.userns import remove_tree

    place = tmp_path / "work"
    place.mkdir()
    yield place
    if hygiene.is_real_root() or os.geteuid() == 0:
        return
    remove_tree(place)
