"""The checks that every NetworkDriver must pass; tests run them for each driver in namespaces of their own.

Each check takes a driver, a configuration it supports and a network namespace, and fails by AssertionError.
"""

from __future__ import annotations

import errno
import posix

from netns.driver import Attachment
from rootless.kernel.fds import Fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from netns.config import NetConfig
    from netns.driver import NetworkDriver, Pending

    Check = Callable[[NetworkDriver, NetConfig, Fd], None]

READY_MS = 20_000


def _gone(pid: int) -> bool:
    """Tell whether our child *pid* has ended and is reaped."""
    try:
        posix.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def supports_what_it_is_given(driver: NetworkDriver, config: NetConfig, netns: Fd) -> None:
    """supports() says nothing against the configuration, and does so twice alike."""
    assert driver.supports(config) is None
    assert driver.supports(config) is None


def goes_its_way(driver: NetworkDriver, config: NetConfig, netns: Fd) -> None:
    """prepare, attach, wait_ready, close: the attachment names the mode, and its process ends."""
    before = open_fds()
    pending = driver.prepare(config)
    pending.attach(netns)
    attachment = pending.wait_ready(READY_MS)
    try:
        assert attachment.mode == config.mode == driver.name
        assert len(attachment.ports) == len(config.ports)
        assert all(port.host_port for port in attachment.ports)
        assert (attachment.pid > 0) == (attachment.pidfd is not None) == (attachment.control is not None)
        pending.close()
        assert attachment.control is None or not attachment.control.closed, "close() after wait_ready does nothing"
    finally:
        reap(attachment)
    assert open_fds() == before, "every descriptor is closed again"


def can_be_given_up(driver: NetworkDriver, config: NetConfig, netns: Fd) -> None:
    """close() at each stage before wait_ready leaves no process and no descriptor, and may be repeated."""
    stages: tuple[Callable[[Pending], None], ...] = (lambda pending: None, lambda pending: pending.attach(netns))
    for stage in stages:
        before = open_fds()
        pending = driver.prepare(config)
        stage(pending)
        pid = pending.pid
        pending.close()
        pending.close()
        assert not pid or _gone(pid)
        assert open_fds() == before, "every descriptor is closed again"


def leaves_the_namespace_to_the_caller(driver: NetworkDriver, config: NetConfig, netns: Fd) -> None:
    """The caller's descriptor stays open, and the calling thread stays in its own namespace."""
    here = posix.stat("/proc/thread-self/ns/net").st_ino
    pending = driver.prepare(config)
    pending.attach(netns)
    attachment = pending.wait_ready(READY_MS)
    reap(attachment)
    assert posix.fstat(netns.fileno()).st_ino != here or config.mode == "host"
    assert posix.stat("/proc/thread-self/ns/net").st_ino == here


def reap(attachment: Attachment) -> None:
    """Close *attachment* and wait for its process."""
    attachment.close()
    if attachment.pid:
        try:
            posix.waitpid(attachment.pid, 0)
        except OSError as error:
            assert error.errno == errno.ECHILD


def open_fds() -> list[str]:
    """Return the numbers of our open descriptors."""
    with_listing = posix.listdir("/proc/self/fd")
    return sorted(name for name in with_listing if _is_open(int(name)))


def _is_open(number: int) -> bool:
    try:
        posix.fstat(number)
    except OSError:
        return False
    return True


CHECKS: tuple[Check, ...] = (
    supports_what_it_is_given,
    goes_its_way,
    can_be_given_up,
    leaves_the_namespace_to_the_caller,
)
