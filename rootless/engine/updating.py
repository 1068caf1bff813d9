"""Change the limits of a container: in its cgroup while it runs, and in its record for the next start.

A limit that somebody asks for by hand and that cannot be applied is an error here, not a warning.

Source: podman-update(1); cgroup-v2.rst
"""

from __future__ import annotations

from rootless.engine import life
from rootless.engine.pausing import cgroup_of
from rootless.errors import ContainerStateError, NotSupported
from rootless.mount.hostparts import device_number
from rootless.plan import saved
from rootless.plan.limits import resources_of
from rootless.plan.options import Limits
from rootless.plan.resources import plan_resources
from rootless.run.cgroups.find import open_cgroup
from rootless.spec.record import fields, replace
from rootless.store import containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.containers import Container
    from rootless.store.layout import Roots


def merged(old: Limits, new: Limits) -> Limits:
    """Return *old* with all that *new* says."""
    defaults = Limits()
    changes: dict[str, Any] = {}
    for name in fields(new):
        value = getattr(new, name)
        if value != getattr(defaults, name):
            changes[name] = value
    if "memory" in changes and "memory_swap" not in changes:
        changes["memory_swap"] = None  # twice the new memory again
    return replace(old, **changes)


def update(roots: Roots, container: Container, new: Limits, restart: tuple[str, int] | None = None) -> tuple[str, ...]:
    """Apply *new* to the container; return warnings about what cgroup v2 does not know.

    Raises: ContainerStateError; NotSupported - no cgroup, or no such controller in it; KernelError(write); SpecError
    """
    status = containers.status(roots, container)
    life.check_here(container, status)
    options = saved.decode(dict(container.data.get("options") or {}))
    wanted = merged(options.limits, new)
    warnings: tuple[str, ...] = ()
    if status in ("running", "paused", "initialized", "stopping") and new != Limits():
        # What belongs together (swap and memory, quota and period) is written together.
        plan = plan_resources(resources_of(wanted, device_number))
        ref = cgroup_of(container)
        failed = open_cgroup(ref).apply(plan.writes)
        if failed:
            why = f"the cgroup {ref.path} has no such controller" if ref.path else "it has no cgroup of its own"
            raise NotSupported(
                f"updating container {container.id}: cannot set {', '.join(dict.fromkeys(failed))}", (why,),
                hint="start it where a cgroup is delegated: in a login session of systemd, for one",
            )  # fmt: skip
        warnings = tuple([f"{name}: cgroup v2 does not have this" for name in plan.unsupported])
    changed = replace(options, limits=wanted)
    if restart is not None:
        changed = replace(changed, restart=restart[0], restart_tries=restart[1])

    def write(data: dict[str, Any]) -> None:
        data["options"] = saved.encode(changed)

    if containers.update(roots, container.id, write) is None:
        raise ContainerStateError(f"container {container.id} was removed meanwhile")
    return warnings
