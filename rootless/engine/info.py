"""What `info` tells about the machine and the store, as a tree of values.

Shape: each node is a tuple of (Go's field name, JSON's name, value); templates use the first, JSON and YAML the second

Source: podman 4.3's `info`, observed; proc_meminfo(5), proc_stat(5), os-release(5)
"""

from __future__ import annotations

import os
import sys

from rootless import __version__
from rootless.errors import RootlessError
from rootless.kernel import idmaps
from rootless.kernel.hints import read_settings
from rootless.kernel.probe import cgroup_version, existing_parent, file_system, probe_storage
from rootless.plan.defaults import CAPABILITIES
from rootless.plan.userns import UsernsMode, plan_userns
from rootless.spec import facts as f
from rootless.spec.platform import from_machine
from rootless.store import containers, images

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.spec.facts import Finding
    from rootless.spec.idmap import IdMap
    from rootless.store.layout import Roots

    Tree = tuple[tuple[str, str, Any], ...]


def gather(roots: Roots, environ: Mapping[str, str], *, driver: str, cgroup_manager: str) -> Tree:
    """Return the whole document; *driver* and *cgroup_manager* are what was asked for, "" for nothing.

    Blocks: 50 ms (the storage drivers are tried)
    """
    found = probe_storage(roots.data, roots.run, environ)
    return (
        ("Host", "host", _host(environ, cgroup_manager)),
        ("Store", "store", _store(roots, found, driver)),
        ("Registries", "registries", {}),
        ("Plugins", "plugins", (
            ("Volume", "volume", ["local"]),
            ("Network", "network", ["private", "none", "host"]),
            ("Log", "log", ["none"]),
            ("Authorization", "authorization", None),
        )),
        ("Version", "version", _version()),
    )  # fmt: skip


def choose(found: tuple[Finding, ...], wanted: str) -> tuple[str, str]:
    """Return the storage driver that a run would use and why, as `mount.driver.open_root` decides."""
    from rootless.mount.driver import ALIASES

    wanted = ALIASES.get(wanted, wanted) or "auto"
    if wanted != "auto":
        return wanted, "asked for"
    reasons: list[str] = []
    for name, probe in (("overlay", f.OVERLAY), ("fuse", f.FUSE)):
        finding = next((one for one in found if one.name == probe), f.Finding(probe, False, "not tried"))
        if finding.works:
            return name, "; ".join(reasons) or "the first that works"
        reasons.append(f"{name}: {finding.detail}")
    return "copy", "; ".join(reasons)


def _host(environ: Mapping[str, str], cgroup_manager: str) -> Tree:
    uname = os.uname()
    memory = _meminfo()
    controllers = idmaps.read_text(f"/sys/fs/cgroup{_own_cgroup()}/cgroup.controllers").split()
    distribution = _os_release()
    return (
        ("Arch", "arch", from_machine(uname.machine).architecture),
        ("CgroupManager", "cgroupManager", cgroup_manager or "auto"),
        ("CgroupsVersion", "cgroupVersion", cgroup_version()),
        ("CgroupControllers", "cgroupControllers", controllers),
        ("CPUs", "cpus", os.cpu_count() or 1),
        ("CPUUtilization", "cpuUtilization", _cpu()),
        ("Distribution", "distribution", (
            ("Distribution", "distribution", distribution.get("ID", "unknown")),
            ("Variant", "variant", distribution.get("VARIANT_ID", "")),
            ("Version", "version", distribution.get("VERSION_ID", "unknown")),
            ("Codename", "codename", distribution.get("VERSION_CODENAME", "")),
        )),
        ("EventLogger", "eventLogger", "none"),
        ("Hostname", "hostname", uname.nodename),
        ("IDMappings", "idMappings", _id_mappings(environ)),
        ("Kernel", "kernel", uname.release),
        ("LogDriver", "logDriver", "none"),
        ("MemFree", "memFree", memory.get("MemFree", 0)),
        ("MemTotal", "memTotal", memory.get("MemTotal", 0)),
        ("NetworkBackend", "networkBackend", "rootless-netstack"),
        ("OCIRuntime", "ociRuntime", (
            ("Name", "name", "rootless-oci"),
            ("Path", "path", _program("rootless-oci")),
            ("Version", "version", f"rootless-oci version {__version__}"),
        )),
        ("OS", "os", "linux"),
        ("ServiceIsRemote", "serviceIsRemote", False),
        ("Security", "security", (
            ("AppArmorEnabled", "apparmorEnabled",
             idmaps.read_text("/sys/module/apparmor/parameters/enabled").startswith("Y")),
            ("DefaultCapabilities", "capabilities", ",".join(sorted(CAPABILITIES))),
            ("Rootless", "rootless", os.getuid() != 0),
            ("SECCOMPEnabled", "seccompEnabled", True),
            ("SECCOMPProfilePath", "seccompProfilePath", "default"),
            ("SELinuxEnabled", "selinuxEnabled", os.path.exists("/sys/fs/selinux/enforce")),
        )),
        ("SwapFree", "swapFree", memory.get("SwapFree", 0)),
        ("SwapTotal", "swapTotal", memory.get("SwapTotal", 0)),
        ("Uptime", "uptime", uptime(float((idmaps.read_text("/proc/uptime").split() or ["0"])[0]))),
        ("Container", "container", read_settings(environ).container),
    )  # fmt: skip


def _store(roots: Roots, found: tuple[Finding, ...], driver: str) -> Tree:
    name, reason = choose(found, driver)
    every = containers.list_containers(roots)
    statuses = [containers.status(roots, one) for one in every]
    running, paused = statuses.count("running") + statuses.count("stopping"), statuses.count("paused")
    place = existing_parent(roots.data)
    disk = os.statvfs(place)
    return (
        ("ConfigFile", "configFile", ""),
        ("ContainerStore", "containerStore", (
            ("Number", "number", len(every)),
            ("Paused", "paused", paused),
            ("Running", "running", running),
            ("Stopped", "stopped", len(every) - running - paused),
        )),
        ("GraphDriverName", "graphDriverName", name),
        ("GraphDriverReason", "graphDriverReason", reason),
        ("GraphOptions", "graphOptions", {}),
        ("GraphRoot", "graphRoot", roots.data),
        ("GraphRootAllocated", "graphRootAllocated", disk.f_blocks * disk.f_frsize),
        ("GraphRootUsed", "graphRootUsed", (disk.f_blocks - disk.f_bfree) * disk.f_frsize),
        ("GraphStatus", "graphStatus", {"Backing Filesystem": _type(place), **{
            title: _said(found, probe) for title, probe in
            (("Kernel overlay", f.OVERLAY), ("FUSE overlay", f.FUSE), ("User xattrs", f.XATTR), ("Reflinks", f.REFLINK))
        }}),
        ("ImageCopyTmpDir", "imageCopyTmpDir", roots.tmp),
        ("ImageStore", "imageStore", (("Number", "number", len(images.list_images(roots))),)),
        ("RunRoot", "runRoot", roots.run),
        ("VolumePath", "volumePath", f"{roots.data}/volumes"),
    )  # fmt: skip


def _said(found: tuple[Finding, ...], name: str) -> str:
    for finding in found:
        if finding.name == name:
            return "works" if finding.works else finding.detail
    return "not tried"


def _type(path: str) -> str:
    try:
        return file_system(path)
    except RootlessError:
        return "unknown"


def _version() -> Tree:
    return (
        ("APIVersion", "APIVersion", __version__),
        ("Version", "Version", __version__),
        ("PythonVersion", "PythonVersion", sys.version.split()[0]),
        ("GitCommit", "GitCommit", ""),
        ("BuiltTime", "BuiltTime", ""),
        ("Built", "Built", 0),
        ("OsArch", "OsArch", f"linux/{from_machine(os.uname().machine).architecture}"),
        ("Os", "Os", "linux"),
    )


def _id_mappings(environ: Mapping[str, str]) -> Tree:
    plan = plan_userns(UsernsMode("host"), idmaps.read_facts(environ))
    return (("GIDMap", "gidmap", _extents(plan.outer_gids)), ("UIDMap", "uidmap", _extents(plan.outer_uids)))


def _extents(ids: IdMap) -> list[dict[str, int]]:
    return [{"container_id": r.container, "host_id": r.host, "size": r.size} for r in ids.ranges]


def _program(name: str) -> str:
    path = f"{os.path.dirname(sys.executable)}/{name}"
    return path if os.path.exists(path) else idmaps.find_tool(name, os.environ)


def _own_cgroup() -> str:
    for line in idmaps.read_text("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            return line[3:].rstrip("/")
    return ""


def _meminfo() -> dict[str, int]:
    found: dict[str, int] = {}
    for line in idmaps.read_text("/proc/meminfo").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def _cpu() -> Tree:
    """Return the shares of user, system and idle time since the machine started."""
    words = [int(word) for word in idmaps.read_text("/proc/stat").partition("\n")[0].split()[1:]] or [0, 0, 0, 1]
    total = sum(words) or 1
    user, system, idle = ((100 * part / total) for part in (words[0] + words[1], words[2], words[3]))
    return (("UserPercent", "userPercent", round(user, 2)), ("SystemPercent", "systemPercent", round(system, 2)),
            ("IdlePercent", "idlePercent", round(idle, 2)))  # fmt: skip


def _os_release() -> dict[str, str]:
    text = idmaps.read_text("/etc/os-release") or idmaps.read_text("/usr/lib/os-release")
    pairs = [line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#")]
    return {key: value.strip().strip("\"'") for key, _, value in pairs}


def uptime(seconds: float) -> str:
    """Return a time span as podman prints it: 50h 3m 7.00s (Approximately 2.08 days)."""
    hours, rest = divmod(seconds, 3600)
    minutes, left = divmod(rest, 60)
    text = f"{int(hours)}h {int(minutes)}m {left:.2f}s"
    return f"{text} (Approximately {seconds / 86400:.2f} days)" if seconds >= 86400 else text
