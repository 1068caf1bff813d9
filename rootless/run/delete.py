"""Remove a container: what is left of it, its cgroup, its state, and run the poststop hooks.

Source: runtime-spec runtime.md#delete, #lifecycle (steps 12 and 13)
"""

from __future__ import annotations

from rootless.errors import ContainerStateError, Corrupt, LaunchError, NotFound
from rootless.run import state
from rootless.run.cgroups.find import open_cgroup
from rootless.run.kill import kill_all
from rootless.run.pause import observe
from rootless.run.start import saved_spec, summary
from rootless.run.state import ContainerState
from rootless.spec import state as life

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.runtime import Hooks


def delete(root: str, container: str, *, force: bool = False) -> tuple[str, ...]:
    """Delete *container*; return warnings (a poststop hook that fails is one).

    Blocks: with *force* until the process has ended
    Raises: NotFound (without *force*), ContainerStateError while it runs (without *force*)
    """
    try:
        now = state.load(root, container)
    except NotFound:
        if force:
            _sweep(root, container)
            return ()
        raise
    except Corrupt:
        if not force:
            raise
        state.remove(root, container)
        return ()
    status = observe(root, now)
    if force:
        life.advance(status, life.VERB_FORCE_DELETE)
    elif not life.allows(status, life.VERB_DELETE):
        raise ContainerStateError(f"cannot delete container {container} that is not stopped: {status}", code=1)
    if not kill_all(now, 9):
        raise ContainerStateError(f"container {container} does not end after SIGKILL", code=1)
    with state.hold(root, container):
        return finish(root, now)


def _sweep(root: str, container: str) -> None:
    """Remove a state directory without a state file: create died in its first step."""
    try:
        with state.hold(root, container):
            state.remove(root, container)
    except NotFound:
        pass


def finish(root: str, now: ContainerState) -> tuple[str, ...]:
    """Remove what a stopped container left; every step is tried. Return warnings."""
    wants_hooks = "poststop" in summary(root, now.id).get("hooks", ("poststop",))
    spec = saved_spec(root, now.id) if wants_hooks else None
    open_cgroup(now.cgroup).remove()
    state.remove(root, now.id)
    return _poststop(spec.hooks if spec is not None else None, now)


def _poststop(of: Hooks | None, now: ContainerState) -> tuple[str, ...]:
    if of is None or not of.poststop:
        return ()
    from rootless.run import hooks

    warnings: list[str] = []
    for hook in of.poststop:
        try:
            hooks.run_hooks("poststop", (hook,), now.document(life.STOPPED))
        except hooks.HookFailed as error:
            how = "timed out" if error.status is None else f"failed with exit code {error.status}"
            warnings.append(f"poststop hook {how}: {error.message}")
        except LaunchError as error:
            warnings.append(error.message)
    return tuple(warnings)
