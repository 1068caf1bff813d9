"""Freeze and thaw a container through its cgroup, and tell a frozen one from a running one.

Source: cgroup-v2.rst "cgroup.freeze"; runc's pause and resume
"""

from __future__ import annotations

from rootless.run import state
from rootless.run.cgroups.find import open_cgroup
from rootless.run.state import ContainerState
from rootless.spec import state as life


def observe(root: str, now: ContainerState) -> str:
    """Return the status that is true now, PAUSED included."""
    status = state.observe(root, now)
    if status in (life.RUNNING, life.CREATED) and open_cgroup(now.cgroup).frozen():
        return life.PAUSED
    return status


def pause(root: str, now: ContainerState) -> None:
    """Freeze all processes. Blocks: until they are

    Raises: ContainerStateError; NotSupported without a cgroup
    """
    life.advance(observe(root, now), life.VERB_PAUSE)
    open_cgroup(now.cgroup).freeze(True)


def resume(root: str, now: ContainerState) -> None:
    """Thaw all processes. Raises: ContainerStateError, NotSupported"""
    life.advance(observe(root, now), life.VERB_RESUME)
    open_cgroup(now.cgroup).freeze(False)
