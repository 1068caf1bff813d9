"""Change the limits of a running container. What cannot be applied is an error here: somebody asked for it.

Source: runc's update; runtime-spec config-linux.md#control-groups
"""

from __future__ import annotations

from rootless.errors import NotSupported
from rootless.plan.resources import plan_resources
from rootless.run.cgroups.find import open_cgroup
from rootless.run.pause import observe
from rootless.run.state import ContainerState
from rootless.spec import state as life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import Resources


def update(root: str, now: ContainerState, resources: Resources) -> tuple[str, ...]:
    """Apply *resources* to the container; return warnings about what cgroup v2 does not know.

    Raises: ContainerStateError; NotSupported for limits without a controller; KernelError(write) with the
            kernel's reason; SpecError
    """
    life.advance(observe(root, now), life.VERB_UPDATE)
    plan = plan_resources(resources)
    cgroup = open_cgroup(now.cgroup)
    if now.cgroup.driver == "systemd":
        from rootless.run.cgroups.systemd import set_properties

        set_properties(now.cgroup.unit, resources)
    failed = cgroup.apply(plan.writes)
    if failed:
        reason = f"the cgroup {now.cgroup.path or 'of the container does not exist'}"
        raise NotSupported(f"cannot set {', '.join(failed)}", (f"{reason}: no such controller, or not ours to write",))
    return tuple([f"{name}: cgroup v2 does not have this" for name in plan.unsupported])
