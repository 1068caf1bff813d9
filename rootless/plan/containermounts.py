"""The mounts of an engine's container, in order: the standard's, the user's, generated files.

A mount of the user takes the place of a default on the same target; parents come before children.

Source: runtime-spec config-linux.md#default-filesystems; observed: podman 4.3's config.json
"""

from __future__ import annotations

from rootless.plan import defaults
from rootless.plan.devices import device_mounts, privileged
from rootless.plan.masks import writable_cgroups
from rootless.plan.options import RunOptions, VolumeRequest
from rootless.spec.record import record, replace
from rootless.spec.runtime import Mount

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROPAGATIONS = ("private", "rprivate", "slave", "rslave", "shared", "rshared", "unbindable", "runbindable")


@record
class VolumeUse:
    """A named or anonymous volume of the container, to be made and filled before the launch.

    Shape: *path* is its directory on the host, *target* its place in the container
    """

    name: str
    path: str
    target: str
    anonymous: bool = False
    copy_up: bool = True
    chown: bool = False
    driver_options: tuple[tuple[str, str], ...] = ()


@record
class BindUse:
    """A host path that is mounted; it must exist. *chown* is podman's U."""

    source: str
    target: str
    chown: bool = False


@record
class SpecialUse:
    """A mount that is made before the launch and handed to the stage as a descriptor.

    Shape: *kind* is overlay (a writable view of the directory *source*, with *upper* and *work* where the user gives
           them), image (*source* is its name) or idmap (*source* with other owners, see VolumeRequest.idmap)
    """

    kind: str
    source: str
    target: str
    read_only: bool = False
    recursive: bool = True
    upper: str = ""
    work: str = ""
    idmap: str = ""
    chown: bool = False


@record
class MountPlan:
    """All mounts, and what the host must prepare for them."""

    mounts: tuple[Mount, ...]
    volumes: tuple[VolumeUse, ...]
    binds: tuple[BindUse, ...]
    propagation: str | None
    specials: tuple[SpecialUse, ...] = ()


def plan_mounts(
    options: RunOptions,
    image_volumes: tuple[str, ...],
    files: tuple[tuple[str, str], ...],
    *,
    network: str,
    tty_gid: bool,
    volumes_dir: str,
    new_volume: Callable[[str], str],
    host_devices: tuple[str, ...],
    settle: Callable[[str], str],
    host_path: Callable[[str], str],
    host_mqueue: bool,
    secrets: tuple[str, ...] = (),
    owner: tuple[int, int] = (0, 0),
    shm_source: str = "",
    systemd: bool = False,
) -> MountPlan:
    """Return the mounts in the order in which they must be made.

    Shape: *files* are (target, host path) of generated files; *network* is private, none or host; *settle* returns
           where a target is once dangling links of the image are followed inside the root, *host_path* a source
           without links; *secrets* are targets at which the launcher mounts what holds secrets; *owner* is the
           process's, in the container; *shm_source* is the /dev/shm of the container whose IPC namespace is joined;
           *systemd*: its program is an init that mounts and makes cgroups
    """
    volumes: list[VolumeUse] = []
    binds: list[BindUse] = []
    specials: list[SpecialUse] = []
    asked: dict[str, Mount] = {target: Mount(target, "tmpfs", "tmpfs", defaults.SECRET_OPTIONS) for target in secrets}
    for request in (*image_requests(options, image_volumes), *options.volumes):
        request = replace(request, target=settle(request.target))
        if request.kind == "bind":
            request = replace(request, source=host_path(request.source))
        elif request.chown and request.kind in ("tmpfs", "ramfs"):
            request = replace(request, options=(*request.options, f"uid={owner[0]}", f"gid={owner[1]}"))
        asked[request.target] = _asked(request, volumes_dir, new_volume, volumes, binds, specials)
    if options.read_only and options.read_only_tmpfs:
        for target in defaults.READONLY_TMPFS:
            if target not in asked:
                asked[target] = _tmpfs(VolumeRequest("tmpfs", "", target))
    for target in defaults.SYSTEMD_TMPFS if systemd else ():
        if target not in asked:
            asked[target] = _tmpfs(VolumeRequest("tmpfs", "", target))
    devices = options.devices
    if options.privileged:
        named = [device.target for device in devices]
        devices += tuple([d for d in privileged(host_devices) if d.target not in named])
    own_dev = "/dev" in asked and asked["/dev"].type == "bind"
    found = {
        mount.destination: mount for mount in _standard(options, network, tty_gid, host_mqueue, shm_source, systemd)
    }
    if own_dev:
        for target in [t for t in found if t.startswith("/dev/")]:
            del found[target]
    covered = [mount.destination for mount in asked.values()]
    for target, path in files:
        # podman leaves the marker out below a mount of the user; hosts and its like are wanted there too
        if target.startswith("/run/") and "/run" in covered:
            continue
        target = settle(target)
        read_only = ("ro", "nosuid", "noexec", "nodev") if options.read_only else ()
        found[target] = Mount(target, path, "bind", defaults.FILE_OPTIONS + read_only)
    if options.init and options.init_path:
        found[defaults.INIT_TARGET] = Mount(defaults.INIT_TARGET, host_path(options.init_path), "bind",
                                            ("bind", "ro", "nosuid", "nodev", "rprivate"))  # fmt: skip
    if not own_dev:
        found.update({mount.destination: mount for mount in device_mounts(devices)})
    found.update(asked)
    ordered = sorted(found.values(), key=_depth)
    return MountPlan(tuple(ordered), tuple(volumes), tuple(binds), _root_propagation(asked), tuple(specials))


def _depth(mount: Mount) -> int:
    return mount.destination.rstrip("/").count("/")


def image_requests(options: RunOptions, image_volumes: tuple[str, ...]) -> tuple[VolumeRequest, ...]:
    """Return what the image's VOLUMEs become, unless the user mounts something there."""
    if options.image_volume == "ignore":
        return ()
    taken = [request.target.rstrip("/") for request in options.volumes]
    kind = "tmpfs" if options.image_volume == "tmpfs" else "volume"
    words = ("rprivate", "rw", "nodev", "exec", "nosuid")
    return tuple([VolumeRequest(kind, "", target, words) for target in image_volumes if target not in taken])


def _asked(
    request: VolumeRequest,
    volumes_dir: str,
    new_volume: Callable[[str], str],
    volumes: list[VolumeUse],
    binds: list[BindUse],
    specials: list[SpecialUse],
) -> Mount:
    if request.kind in ("tmpfs", "ramfs"):
        return _tmpfs(request)
    if request.kind == "image":
        specials.append(SpecialUse("image", request.source, request.target, "rw" not in request.options))
        return Mount(request.target, request.source, "image", request.options or ("ro",))
    if request.kind == "devpts":
        return Mount(request.target, "devpts", "devpts", request.options)
    source, words = request.source, list(request.options)
    if request.kind == "volume":
        name = request.source or new_volume(request.target)
        source = f"{volumes_dir}/{name}/_data"
        # An overlay over it is to have another owner, not the volume itself.
        use = VolumeUse(name, source, request.target, not request.source, request.copy_up,
                        request.chown and not request.overlay, request.driver_options)  # fmt: skip
        volumes.append(use)
        words += [w for w in ("nosuid", "nodev") if w not in words and w[2:] not in words]
    else:
        binds.append(BindUse(source, request.target, request.chown and not request.overlay))
    if request.overlay:
        specials.append(SpecialUse("overlay", source, request.target, upper=request.upper, work=request.work,
                                   chown=request.chown))  # fmt: skip
        return Mount(request.target, source, "overlay", ("rw",))
    if request.idmap:
        specials.append(SpecialUse("idmap", source, request.target, recursive="bind" not in words,
                                   idmap=request.idmap))  # fmt: skip
    if "bind" not in words and "rbind" not in words:
        words.append("rbind")
    return Mount(request.target, source, "bind", _with_defaults(words))


def _with_defaults(words: list[str]) -> tuple[str, ...]:
    """Add `rw` and `rprivate` where nothing else was said."""
    if "ro" not in words and "rw" not in words:
        words.insert(0, "rw")
    if not any(word in PROPAGATIONS for word in words):
        words.append("rprivate")
    return tuple(words)


def _tmpfs(request: VolumeRequest) -> Mount:
    words = list(request.options)
    words += [w for w in ("nosuid", "nodev") if w not in words and w[2:] not in words]
    if request.copy_up and request.kind == "tmpfs":
        words.append("tmpcopyup")
    return Mount(request.target, request.kind, request.kind, _with_defaults(words))


def _standard(
    options: RunOptions, network: str, tty_gid: bool, host_mqueue: bool, shm_source: str, systemd: bool
) -> list[Mount]:
    mode = "rw" if options.privileged else "ro"
    proc = (*defaults.PROC_OPTIONS, *options.security.proc_opts)
    if options.pid == "host":
        # the host's processes are not ours to show in a fresh proc: EPERM from another user namespace
        found = [Mount("/proc", "/proc", "bind", ("rbind", *defaults.PROC_OPTIONS, "rw", "rprivate"))]
    else:
        found = [Mount("/proc", "proc", "proc", proc)]
    found.append(Mount("/dev", "tmpfs", "tmpfs", defaults.DEV_OPTIONS))
    if network == "host":
        # sysfs shows the network of the namespace that mounts it, which must then be our user namespace's
        found.append(Mount("/sys", "/sys", "bind", ("rprivate", *defaults.SYS_OPTIONS, mode, "rbind")))
    else:
        found.append(Mount("/sys", "sysfs", "sysfs", (*defaults.SYS_OPTIONS, mode)))
    gid = (f"gid={defaults.TTY_GID}",) if tty_gid else ()
    found.append(Mount("/dev/pts", "devpts", "devpts", defaults.DEVPTS_OPTIONS + gid))
    if options.ipc != "host":
        found.append(Mount("/dev/mqueue", "mqueue", "mqueue", defaults.MQUEUE_OPTIONS))
    elif host_mqueue:
        # the queues of the host's IPC namespace: mounting them anew is EPERM from another user namespace
        found.append(Mount("/dev/mqueue", "/dev/mqueue", "bind", ("bind", *defaults.MQUEUE_OPTIONS)))
    if options.ipc == "host" or shm_source:
        found.append(
            Mount("/dev/shm", shm_source or "/dev/shm", "bind", ("rbind", "rprivate", "nosuid", "noexec", "nodev"))
        )
    elif options.ipc != "none":
        size = defaults.SHM_BYTES if options.shm_size is None else options.shm_size
        found.append(Mount("/dev/shm", "shm", "tmpfs", (*defaults.SHM_OPTIONS, f"size={size}")))
    if network != "host":
        if options.cgroupns == "host":
            # the host's hierarchy cannot be mounted from another user namespace (EPERM), only shown
            words = ("rbind", *defaults.CGROUP_OPTIONS, mode)
            found.append(Mount("/sys/fs/cgroup", "/sys/fs/cgroup", "bind", words))
        else:
            mode = "rw" if systemd or writable_cgroups(options) else "ro"
            found.append(Mount("/sys/fs/cgroup", "cgroup", "cgroup", (*defaults.CGROUP_OPTIONS, mode)))
    return found


def _root_propagation(asked: dict[str, Mount]) -> str | None:
    """Return what the root must be so that the propagation of a bind mount can work."""
    words = {word for mount in asked.values() for word in mount.options}
    if "shared" in words or "rshared" in words:
        return "shared"
    return "rslave" if "slave" in words or "rslave" in words else None
