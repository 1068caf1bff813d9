"""The seam of the network: drivers by name, and what a launch does with them.

    pending = choose(config).prepare(config)   # starts what has to be started; no namespace is needed yet
    pending.attach(netns)                      # the container's network namespace exists now
    attachment = pending.wait_ready(10_000)    # before START: the first instruction of the container finds a network
    ...
    attachment.close()                         # the network ends; nobody waits for it

`pending.close()` undoes everything instead. `private` starts a process of its own (drv_private.py); `none` and `host`
have nothing to start.
"""

from __future__ import annotations

from netns.config import NetConfig, PortForward
from rootless.errors import UsageError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from rootless.kernel.fds import Fd

    class Pending(Protocol):
        """A network that is being made. *pidfd* is readable when its process has died; None: it has none."""

        pid: int
        pidfd: Fd | None

        def attach(self, netns: Fd) -> None:
            """Say which namespace. Owner: *netns* stays the caller's."""

        def wait_ready(self, timeout_ms: int) -> Attachment:
            """Return when the network is up.

            Blocks: up to *timeout_ms*
            Raises: RootlessError - what the process said, PeerGone, a deadline
            """

        def close(self) -> None:
            """Undo everything; blocks until its process is gone. Harmless after wait_ready."""

    class NetworkDriver(Protocol):
        name: str

        def supports(self, config: NetConfig) -> Unsupported | None:
            """Return why this driver cannot serve *config* here, or None."""

        def prepare(self, config: NetConfig) -> Pending: ...


@record
class Unsupported:
    """Why a driver is not available, and what would change that."""

    reason: str
    hint: str = ""


class Attachment:
    """A container's network that is up.

    *control* keeps its process alive: closing it (or dying) ends the network. *pidfd* is readable when that process
    has died; whoever started it reaps *pid*.
    """

    def __init__(
        self,
        mode: str,
        *,
        address: str = "",
        gateway: str = "",
        nameserver: str = "",
        address6: str = "",
        gateway6: str = "",
        device: str = "",
        mtu: int = 0,
        ports: tuple[PortForward, ...] = (),
        warnings: tuple[str, ...] = (),
        pid: int = 0,
        pidfd: Fd | None = None,
        control: Fd | None = None,
        log: Fd | None = None,
    ) -> None:
        self.mode = mode
        self.address, self.gateway, self.nameserver = address, gateway, nameserver
        self.address6, self.gateway6 = address6, gateway6
        self.device, self.mtu = device, mtu
        self.ports = ports
        self.warnings = warnings
        self.pid, self.pidfd, self.control, self.log = pid, pidfd, control, log

    def close(self) -> None:
        """Ask the process to end, and forget it. Blocks: no"""
        for fd in (self.control, self.pidfd, self.log):
            if fd is not None:
                fd.close()

    def last_words(self) -> str:
        """Return what its process wrote on stderr, for PeerGone."""
        from netns.drv_private import read_log

        return read_log(self.log) if self.log is not None else ""


def choose(config: NetConfig) -> NetworkDriver:
    """Return the driver for *config*.

    Raises: UsageError - no such mode
    """
    if config.mode == "private":
        from netns.drv_private import PrivateDriver

        return PrivateDriver()
    if config.mode == "none":
        from netns.drv_none import NoneDriver

        return NoneDriver()
    if config.mode == "host":
        from netns.drv_host import HostDriver

        return HostDriver()
    raise UsageError(f"no such network mode: {config.mode}", hint="use private, none or host")
