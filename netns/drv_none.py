"""No network: the container has a network namespace of its own with nothing but lo, which the stage brings up."""

from __future__ import annotations

from netns.driver import Attachment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.config import NetConfig
    from netns.driver import Unsupported
    from rootless.kernel.fds import Fd


class Nothing:
    """A network without anything to start."""

    pid = 0
    pidfd: Fd | None = None

    def __init__(self, mode: str) -> None:
        self._mode = mode

    def attach(self, netns: Fd) -> None:
        """There is nobody to tell."""

    def wait_ready(self, timeout_ms: int) -> Attachment:
        return Attachment(self._mode)

    def close(self) -> None:
        """There is nothing to undo."""


class NoneDriver:
    name = "none"

    def supports(self, config: NetConfig) -> Unsupported | None:
        return None

    def prepare(self, config: NetConfig) -> Nothing:
        return Nothing("none")
