"""The host's network: the container is started without a network namespace of its own."""

from __future__ import annotations

from netns.drv_none import Nothing

TYPE_CHECKING = False
if TYPE_CHECKING:
    from netns.config import NetConfig
    from netns.driver import Unsupported


class HostDriver:
    name = "host"

    def supports(self, config: NetConfig) -> Unsupported | None:
        return None

    def prepare(self, config: NetConfig) -> Nothing:
        return Nothing("host")
