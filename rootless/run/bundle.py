"""Load the configuration of a bundle and refuse what could not run, before any effect.

Source: runtime-spec bundle.md, config.md
"""

from __future__ import annotations

import errno
import posix

from rootless.errors import KernelError, RootlessError, SpecError
from rootless.kernel.fds import read_file
from rootless.spec import mountopts
from rootless.spec.codec import decode
from rootless.spec.jsontext import JSONTextError, loads
from rootless.spec.record import record
from rootless.spec.runtime import Process, Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import IdMapping, Linux
    from rootless.spec.runtime import Mount

CONFIG = "config.json"
_UNIQUE = ("pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time")
_UTS_SYSCTLS = {"kernel.domainname": "domainname"}
_IPC_SYSCTLS = frozenset({
    "kernel.msgmax", "kernel.msgmnb", "kernel.msgmni", "kernel.sem", "kernel.shmall", "kernel.shmmax", "kernel.shmmni",
    "kernel.shm_rmid_forced",
})  # fmt: skip


@record
class Bundle:
    """A bundle directory: its absolute path, the root file system, the configuration and its text."""

    path: str
    rootfs: str
    spec: Spec
    text: bytes


def load_bundle(path: str, config: str = CONFIG) -> Bundle:
    """Read and check the bundle at *path*.

    Raises: SpecError with a JSON pointer; KernelError(open); RootlessError when there is no bundle
    """
    bundle = absolute(path)
    where = config if config.startswith("/") else f"{bundle}/{config}"
    try:
        text = read_file(where)
    except KernelError as error:
        if error.errno == errno.ENOENT:
            raise RootlessError(f"open {where}: no such file or directory", code=1) from None
        raise
    spec = parse_spec(text)
    check_spec(spec)
    assert spec.root is not None
    root = spec.root.path
    return Bundle(bundle, root if root.startswith("/") else normal(f"{bundle}/{root}"), spec, text)


def parse_spec(text: bytes) -> Spec:
    """Decode the text of a config.json. Raises: SpecError"""
    return decode(Spec, parse_json(text))


def parse_json(text: bytes) -> object:
    """Decode JSON text. Raises: SpecError"""
    try:
        return loads(text)
    except JSONTextError as error:
        raise SpecError(f"not JSON: {error}") from None


def absolute(path: str) -> str:
    """Return *path* from /, without `.` and `..`; a path that exists keeps its links."""
    if not path.startswith("/"):
        path = f"{posix.getcwd()}/{path}"
    return normal(path)


def normal(path: str) -> str:
    """Fold `//`, `.` and `..` as text (what every runtime does to the paths of a bundle)."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            if parts:
                parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    return "/" + "/".join(parts)


def check_spec(spec: Spec) -> None:
    """Refuse a configuration that contradicts itself or that no kernel could carry out.

    Raises: SpecError with the pointer of the culprit
    """
    version = spec.oci_version.partition("-")[0].split(".")
    if len(version) < 2 or not all([part.isdigit() for part in version]) or int(version[0]) != 1:
        raise SpecError(f"{spec.oci_version!r} is not a version 1 of the runtime-spec", pointer="/ociVersion")
    if spec.root is None:
        raise SpecError("is required", pointer="/root")
    if not spec.root.path:
        raise SpecError("is empty", pointer="/root/path")
    if spec.process is None:
        raise SpecError("is required", pointer="/process")
    check_process(spec.process)
    if spec.linux is None:
        raise SpecError("is required", pointer="/linux")
    for at, mount in enumerate(spec.mounts):
        pointer = f"/mounts/{at}/destination"
        if ".." in mount.destination.split("/"):
            raise SpecError(f"{mount.destination!r} leads out of the container", pointer=pointer)
        options = mountopts.parse(mount.options)
        if (options.bind or mount.type == "bind") and not mount.source:
            raise SpecError("a bind mount needs a source", pointer=f"/mounts/{at}/source")
        if options.tmpcopyup and mount.destination.strip("/") == "":
            raise SpecError("tmpcopyup has nothing to copy over the root itself", pointer=f"/mounts/{at}/options")
        mapped = is_mapped(mount)
        if mapped and not (options.bind or mount.type == "bind"):
            raise SpecError("only bind mounts can be id-mapped", pointer=f"/mounts/{at}")
        both = (mount.uid_mappings or spec.linux.uid_mappings) and (mount.gid_mappings or spec.linux.gid_mappings)
        if mapped and not both:
            raise SpecError("an id-mapped mount needs uidMappings and gidMappings", pointer=f"/mounts/{at}")
    _check_linux(spec, spec.linux)
    if spec.hooks is not None:
        for stage in ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop"):
            for at, hook in enumerate(getattr(spec.hooks, stage)):
                if not hook.path.startswith("/"):
                    raise SpecError(f"{hook.path!r} is not an absolute path", pointer=f"/hooks/{_key(stage)}/{at}/path")
                if hook.timeout is not None and hook.timeout <= 0:
                    raise SpecError("must be above 0", pointer=f"/hooks/{_key(stage)}/{at}/timeout")


def _key(name: str) -> str:
    head, *rest = name.split("_")
    return head + "".join([word.capitalize() for word in rest])


def check_process(process: Process, base: str = "/process") -> None:
    """Refuse a process that cannot be started.

    Raises: SpecError
    """
    if not process.args:
        raise SpecError("must have at least one word", pointer=f"{base}/args")
    if not process.args[0]:
        raise SpecError("is empty", pointer=f"{base}/args/0")
    if not process.cwd.startswith("/"):
        raise SpecError(f"{process.cwd!r} is not an absolute path", pointer=f"{base}/cwd")
    for at, limit in enumerate(process.rlimits):
        if limit.soft > limit.hard:
            raise SpecError(f"soft limit {limit.soft} is above hard limit {limit.hard}", pointer=f"{base}/rlimits/{at}")
        if limit.type in [other.type for other in process.rlimits[:at]]:
            raise SpecError(f"{limit.type} is there twice", pointer=f"{base}/rlimits/{at}/type")
    if process.exec_cpu_affinity is not None:
        from rootless.run.affinity import check_affinity

        check_affinity(process.exec_cpu_affinity, base)
    if process.io_priority is not None and not 0 <= process.io_priority.priority <= 7:
        raise SpecError(f"{process.io_priority.priority} is not between 0 and 7", pointer=f"{base}/ioPriority/priority")


def is_mapped(mount: Mount) -> bool:
    """Say whether the owners of a mount are to be mapped (run/idmounts.py)."""
    return bool(mount.uid_mappings or mount.gid_mappings or any(["idmap" in word for word in mount.options]))


def _check_linux(spec: Spec, linux: Linux) -> None:
    kinds = [namespace.type for namespace in linux.namespaces]
    for at, kind in enumerate(kinds):
        if kind in kinds[:at]:
            raise SpecError(f"{kind} is there twice", pointer=f"/linux/namespaces/{at}/type")
        path = linux.namespaces[at].path
        if path and not path.startswith("/"):
            raise SpecError(f"{path!r} is not an absolute path", pointer=f"/linux/namespaces/{at}/path")
    if spec.hostname and "uts" not in kinds:
        raise SpecError("needs a uts namespace of the container's own", pointer="/hostname")
    if spec.domainname and "uts" not in kinds:
        raise SpecError("needs a uts namespace of the container's own", pointer="/domainname")
    if (linux.uid_mappings or linux.gid_mappings) and "user" not in kinds:
        raise SpecError("mappings need a user namespace", pointer="/linux/uidMappings")
    if linux.time_offsets and "time" not in kinds:
        raise SpecError("offsets need a time namespace", pointer="/linux/timeOffsets")
    if linux.net_devices and "network" not in kinds:
        raise SpecError("need a network namespace of the container's own", pointer="/linux/netDevices")
    _check_mappings(linux.uid_mappings, "/linux/uidMappings")
    _check_mappings(linux.gid_mappings, "/linux/gidMappings")
    for clock, _offset in linux.time_offsets:
        if clock not in ("monotonic", "boottime"):
            raise SpecError(f"unknown clock {clock!r}", pointer=f"/linux/timeOffsets/{clock}")
    if linux.rootfs_propagation and linux.rootfs_propagation not in mountopts.PROPAGATION:
        raise SpecError(f"unknown propagation {linux.rootfs_propagation!r}", pointer="/linux/rootfsPropagation")
    if linux.net_devices and posix.geteuid() != 0:
        # Moving an interface needs CAP_NET_ADMIN where it is (rtnetlink(7) EPERM).
        raise SpecError("interfaces of the host belong to the machine's root", pointer="/linux/netDevices")
    for name, device in linux.net_devices:
        pointer = f"/linux/netDevices/{name.replace('~', '~0').replace('/', '~1')}"
        for one, where in ((name, pointer), (device.name, f"{pointer}/name")):
            if one and (len(one.encode("utf-8", "surrogateescape")) > 15 or one in (".", "..") or _strange(one)):
                raise SpecError(f"{one!r} is not the name of an interface", pointer=where)
    if linux.intel_rdt is not None:
        raise SpecError("resctrl belongs to the machine's root: not available rootless", pointer="/linux/intelRdt")
    for key, value in linux.sysctl:
        _check_sysctl(spec, key, value, kinds)


def _strange(name: str) -> bool:
    return any([c in "/:" or c.isspace() for c in name])


def _check_mappings(mappings: tuple[IdMapping, ...], pointer: str) -> None:
    for at, one in enumerate(mappings):
        if one.container_id + one.size > 1 << 32 or one.host_id + one.size > 1 << 32:
            raise SpecError("ends above the last id", pointer=f"{pointer}/{at}")
        for before in mappings[:at]:
            for a, b in ((one.container_id, before.container_id), (one.host_id, before.host_id)):
                if a < b + before.size and b < a + one.size:
                    raise SpecError("overlaps another mapping", pointer=f"{pointer}/{at}")


def _check_sysctl(spec: Spec, key: str, value: str, kinds: list[str]) -> None:
    """Allow only what belongs to a namespace: anything else would change the machine, or fail."""
    pointer = f"/linux/sysctl/{key.replace('~', '~0').replace('/', '~1')}"
    name = key.replace("/", ".") if "/" in key.partition(".")[0] else key
    if name in _IPC_SYSCTLS or name.startswith("fs.mqueue."):
        if "ipc" not in kinds:
            raise SpecError("needs an ipc namespace of the container's own", pointer=pointer)
        return
    if name.startswith("net."):
        if "network" not in kinds:
            raise SpecError("needs a network namespace of the container's own", pointer=pointer)
        return
    if name == "kernel.hostname":
        raise SpecError("use hostname instead", pointer=pointer)
    if name in _UTS_SYSCTLS:
        if "uts" not in kinds:
            raise SpecError("needs a uts namespace of the container's own", pointer=pointer)
        if spec.domainname and spec.domainname != value:
            raise SpecError(f"contradicts domainname {spec.domainname!r}", pointer=pointer)
        return
    if name.startswith("user."):
        if "user" not in kinds:
            raise SpecError("needs a user namespace of the container's own", pointer=pointer)
        return
    raise SpecError("belongs to no namespace", pointer=pointer)
