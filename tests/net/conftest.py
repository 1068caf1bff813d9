"""Run a test's body in the small world of world.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.net.world import World
from tests.support import capabilities
from tests.support.userns import in_userns


@pytest.fixture
def in_world() -> Callable[..., Any]:
    """Give `in_world(body, resolver=)`: calls body(world) as root of namespaces that are thrown away."""
    capabilities.require("userns", "tun")

    def run(body: Callable[[World], Any], **options: Any) -> Any:
        def entered() -> Any:
            with World(**options) as world:
                return body(world)

        return in_userns(entered, net=True, pid=True)

    return run
