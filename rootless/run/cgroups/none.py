"""No cgroup: limits are refused when asked for by hand, the rest succeeds without."""

from __future__ import annotations

from rootless.errors import NotSupported
from rootless.run.state import CgroupRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.fds import Fd
    from rootless.plan.resources import CgroupWrite

REASON = "the container has no cgroup of its own"


class NoCgroup:
    """The container lives in the cgroup of whoever made it."""

    ref = CgroupRef()
    fd: Fd | None = None

    def apply(self, writes: tuple[CgroupWrite, ...]) -> tuple[str, ...]:
        """Return all limits as not applied."""
        return tuple([w.what for w in writes])

    def adopt(self, pid: int) -> None:
        """Leave *pid* where it is."""

    def pids(self) -> list[int]:
        """Return nothing: who else lives in the cgroup is not the container's."""
        return []

    def kill(self, signal: int) -> bool:
        """Say that the processes have to be found otherwise."""
        return False

    def freeze(self, frozen: bool) -> None:
        """Raises: NotSupported"""
        raise NotSupported("pause", (REASON,), hint="run where a cgroup is delegated to you")

    def frozen(self) -> bool:
        return False

    def read(self, name: str) -> str:
        return ""

    def remove(self) -> None:
        """Nothing to remove."""

    def close(self) -> None:
        """Nothing to close."""
