"""The cgroup of a container: a scope of the user's systemd, or a directory below ours that is delegated.

The supervisor and what serves the container live in the leaf `supervisor`, the container in `container`: a limit holds
for the container alone, and a fork bomb or a memory hog in it takes nothing from who has to end it.

    scope      asked of the user bus where limits are wanted or the container is to outlive the command; systemd moves
               us and our children out of the session, whose end the container then survives (with linger)
    directory  where our own cgroup may be written (a unit with Delegate=, a batch job, a container with its cgroup)
    none       everything else: one warning names each limit that does not hold

Shape:  SCOPE/supervisor, SCOPE/container   or   OWN[/supervisor], OWN/rootless-ID
Source: kernel Documentation/admin-guide/cgroup-v2.rst "Delegation", "No Internal Process Constraint";
        systemd.resource-control(5) "Delegate="
"""

from __future__ import annotations

import os
import time

from rootless.errors import KernelError, NotSupported
from rootless.kernel.fds import Fd, open_fd

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from rootless.plan.options import RunOptions
    from rootless.plan.resources import ResourcePlan
    from rootless.spec.runtime import Spec
    from rootless.store.layout import Roots

ROOT = "/sys/fs/cgroup"
CONTAINER, SUPERVISOR = "container", "supervisor"
_REMOVE_TRIES, _REMOVE_PAUSE_SECONDS = 50, 0.01
_WAIT_SECONDS, _WAIT_STEP_SECONDS = 10.0, 0.002


class Applied:
    """The cgroup that a container is cloned into.

    Shape: *fd* None: none; *driver* none, v2 or systemd; *path* is the container's leaf
    Owner: the caller calls `remove` when the container has ended
    """

    def __init__(self, driver: str = "none", path: str = "", unit: str = "", *, warnings: tuple[str, ...] = ()) -> None:
        self.driver = driver
        self.path = path
        self.unit = unit
        self.warnings = warnings
        self.fd: Fd | None = None

    def recorded(self) -> dict[str, str]:
        """Return what the container's record keeps of it."""
        return {"driver": self.driver, "path": self.path, "unit": self.unit}

    def oom_killed(self) -> bool:
        """Say whether the kernel has killed for want of memory in it."""
        try:
            with open(f"{self.path}/memory.events") as file:
                return any([line.startswith("oom_kill ") and not line.endswith(" 0\n") for line in file])
        except OSError:
            return False

    def remove(self) -> None:
        """Remove the container's leaf. Blocks: up to half a second, while the dying are in it"""
        if self.fd is not None:
            self.fd.close()
            self.fd = None
        if self.path:
            remove(self.path)


def remove(path: str) -> None:
    """Remove a cgroup and those below it, once they are empty."""
    for _ in range(_REMOVE_TRIES):
        tree = [path]
        for directory in tree:
            try:
                with os.scandir(directory) as entries:
                    tree += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
            except OSError:
                continue
        try:
            for directory in reversed(tree):
                os.rmdir(directory)
            return
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(_REMOVE_PAUSE_SECONDS)


def end(path: str) -> None:
    """Kill whatever lives in the cgroup of a container whose supervisor died, and remove it."""
    if not path.startswith(f"{ROOT}/") or "/rootless-" not in path or not os.path.isdir(path):
        return
    try:
        with open(f"{path}/cgroup.kill", "w") as file:
            file.write("1")
    except OSError:
        pass  # before 5.14; its first process is dead, and its pid namespace with it
    remove(path)


def apply(spec: Spec, options: RunOptions, cid: str, roots: Roots, environ: Mapping[str, str]) -> Applied:
    """Make the cgroup of a container and write its limits.

    Blocks: for the answer of the user's systemd, at most 10 s
    Raises: SpecError for contradicting limits; KernelError(write) - EINVAL, ERANGE: the kernel refuses a value
    Owner:  see Applied
    """
    from rootless.plan.resources import plan_resources
    from rootless.run.cgroups.find import mount_point

    plan = plan_resources(spec.linux.resources if spec.linux else None)
    if options.cgroups == "disabled":
        return _without(plan, "cgroups are switched off")
    if not mount_point():
        return _without(plan, "this machine has no cgroup v2 at /sys/fs/cgroup")
    manager = options.cgroup_manager
    reasons: list[str] = []
    made: Applied | None = None
    stays = bool(plan.writes) or options.detach or options.restart != "no" or manager == "systemd"
    if manager in ("", "systemd") and options.cgroups in ("enabled", "no-conmon") and stays:
        try:
            made = _scope(cid, options)
        except NotSupported as error:
            reasons.append(error.message)
    if made is None and manager in ("", "cgroupfs"):
        try:
            made = _directory(cid, options, bool(plan.writes))
        except NotSupported as error:
            reasons.append(error.message)
    if made is None:
        return _without(plan, "; ".join(dict.fromkeys(reasons)) or f"the cgroup manager is {manager}")
    return _with_limits(made, plan, options)


def _with_limits(made: Applied, plan: ResourcePlan, options: RunOptions) -> Applied:
    from rootless.plan.resources import CgroupWrite
    from rootless.run.cgroups.v2 import V2Cgroup
    from rootless.run.state import CgroupRef

    cgroup = V2Cgroup(CgroupRef(made.driver, made.path, made.unit))
    try:
        failed = cgroup.apply(plan.writes)
        if options.limits.pids is None and options.default_pids > 0:
            # podman's default; nobody asked for it, so nobody misses it where the controller is not there
            cgroup.apply((CgroupWrite("pids.max", str(options.default_pids), "pids limit"),))
        made.fd = open_fd(made.path, os.O_RDONLY | os.O_DIRECTORY)
    except BaseException:
        made.remove()
        raise
    warnings = [f"{', '.join(plan.unsupported)}: cgroup v2 does not have this"] if plan.unsupported else []
    if failed:
        warnings.append(f"running without {', '.join(failed)}: the controllers are not delegated to us")
    made.warnings = tuple(warnings)
    return made


def _without(plan: ResourcePlan, reason: str) -> Applied:
    names = list(dict.fromkeys([write.what for write in plan.writes])) + list(plan.unsupported)
    return Applied(warnings=(f"running without {', '.join(names)}: {reason}",) if names else ())


def _scope(cid: str, options: RunOptions) -> Applied:
    """Have systemd start a scope around us and our children, and make the leaves in it.

    Raises: NotSupported without a user bus, or with systemd's words
    """
    from rootless.run.cgroups.bus import bus_address
    from rootless.run.cgroups.systemd import Bus
    from rootless.run.cgroups.v2 import own_path

    unit = f"rootless-{cid}.scope"
    own = own_path()
    if own.endswith(f"/{unit}/{SUPERVISOR}"):  # a restart: we are there already
        return _leaves(ROOT + own.removesuffix(f"/{SUPERVISOR}"), unit, [])
    if not bus_address():
        raise NotSupported("scope", ("no user bus answers (loginctl enable-linger starts one)",))
    # Whoever is to clone into the scope has to be in it: else it lacks the common ancestor's cgroup.procs (EACCES). So
    # --cgroups no-conmon, which keeps podman's monitor outside, is the same as enabled here.
    pids = [os.getpid(), *_children()]
    properties = [
        ("Description", ("s", f"rootless container {cid[:12]}")),
        ("Slice", ("s", _slice(options.cgroup_parent))),
        ("Delegate", ("b", True)),
        ("DefaultDependencies", ("b", False)),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("PIDs", ("au", pids)),
    ]
    with Bus() as bus:
        bus.call("StartTransientUnit", "ssa(sv)a(sa(sv))", (unit, "fail", properties, []))
    return _leaves(_wait_for_scope(pids[0], unit), unit, pids)


def _slice(parent: str) -> str:
    name = parent.strip("/").rpartition("/")[2]
    return name if name.endswith(".slice") else "user.slice"


def _children() -> list[int]:
    """Return our children, who serve the container: the network, a FUSE server."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as file:
            return [int(word) for word in file.read().split()]
    except OSError:
        return []


def _wait_for_scope(pid: int, unit: str) -> str:
    """Return the directory of the scope once systemd has moved *pid* there (the job runs after the reply)."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while time.monotonic() < deadline:
        try:
            with open(f"/proc/{pid}/cgroup") as file:
                for line in file:
                    if line.startswith("0::") and line.rstrip("\n").endswith(f"/{unit}"):
                        return ROOT + line[3:].rstrip("\n")
        except OSError:
            break
        time.sleep(_WAIT_STEP_SECONDS)
    raise NotSupported("limits", (f"systemd did not move us into {unit} in time",))


def _leaves(full: str, unit: str, pids: list[int]) -> Applied:
    """Make the leaves below *full*, move *pids* out of the container's way and hand the controllers down."""
    from rootless.run.cgroups.v2 import enable_controllers

    path = f"{full}/{CONTAINER}"
    try:
        if pids:
            os.makedirs(f"{full}/{SUPERVISOR}", exist_ok=True)
            for pid in pids:
                _move(pid, f"{full}/{SUPERVISOR}")
        os.makedirs(path, exist_ok=True)
    except OSError as error:
        raise NotSupported("limits", (f"{full}: {os.strerror(error.errno or 0).lower()}",)) from None
    enable_controllers(path)
    return Applied(driver="systemd", path=path, unit=unit)


def _move(pid: int, directory: str) -> None:
    try:
        with open(f"{directory}/cgroup.procs", "w") as file:
            file.write(str(pid))
    except ProcessLookupError:
        pass  # it has ended meanwhile


def _directory(cid: str, options: RunOptions, with_limits: bool) -> Applied:
    """Make a directory below our own cgroup, or below --cgroup-parent.

    Raises: NotSupported - it is not ours to make or to join
    """
    from rootless.run.cgroups.v2 import make_v2, own_path

    own = own_path()
    if not own:
        raise NotSupported("cgroup", ("our own cgroup is outside of what is mounted at /sys/fs/cgroup",))
    own = own.removesuffix(f"/{SUPERVISOR}")
    if options.cgroups == "split" or with_limits:
        _step_aside(ROOT + own.rstrip("/"))
    parent = options.cgroup_parent.rstrip("/")
    if not parent or parent.endswith(".slice"):
        parent = own
    elif not parent.startswith("/"):
        parent = f"{own.rstrip('/')}/{parent}"
    if not os.access(f"{ROOT}{parent}/cgroup.procs", os.W_OK, effective_ids=True):
        raise NotSupported("cgroup", (f"{parent or '/'} is not delegated to us",))
    try:
        made = make_v2(cid, f"{parent.rstrip('/')}/rootless-{cid}")
    except KernelError as error:
        raise NotSupported("cgroup", (error.message,)) from None
    path = made.ref.path
    made.close()
    return Applied(driver="v2", path=path)


def _step_aside(full: str) -> None:
    """Move ourselves into a leaf if our cgroup holds nobody else: only then can it hand controllers down (EBUSY)."""
    ours = {os.getpid(), *_children()}
    try:
        with open(f"{full}/cgroup.procs") as file:
            there = {int(word) for word in file.read().split()}
        if not there or not there <= ours or not os.access(f"{full}/cgroup.procs", os.W_OK, effective_ids=True):
            return
        os.makedirs(f"{full}/{SUPERVISOR}", exist_ok=True)
        for pid in sorted(there):
            _move(pid, f"{full}/{SUPERVISOR}")
    except OSError:
        return  # what is not delegated stays as it is; the limits are then missing, and named
