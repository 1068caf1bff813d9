"""The documents that `rootless-oci spec` and `rootless-oci features` print.

Source: runtime-spec features.md, features-linux.md; config.md and config-linux.md for the starter configuration
"""

from __future__ import annotations

from rootless import __version__
from rootless.spec import caps, mountopts
from rootless.spec.runtime import OCI_VERSION, OCI_VERSION_MAX, OCI_VERSION_MIN

_KEPT_CAPS = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]
_NAMESPACES = ("pid", "network", "ipc", "uts", "mount", "cgroup")
_MASKED = ["/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
           "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi"]  # fmt: skip
_READONLY = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]


def _mount(target: str, kind: str, source: str, *options: str) -> dict[str, object]:
    made: dict[str, object] = {"destination": target, "type": kind, "source": source}
    if options:
        made["options"] = list(options)
    return made


def starter(rootless: bool, uid: int, gid: int) -> dict[str, object]:
    """Return a configuration to begin with; *rootless* maps 0 to *uid* and *gid* and needs no privilege."""
    hidden = ("nosuid", "noexec", "nodev")
    mounts = [
        _mount("/proc", "proc", "proc"),
        _mount("/dev", "tmpfs", "tmpfs", "nosuid", "strictatime", "mode=755", "size=65536k"),
        _mount("/dev/pts", "devpts", "devpts", "nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620",
               *(() if rootless else ("gid=5",))),
        _mount("/dev/shm", "tmpfs", "shm", *hidden, "mode=1777", "size=65536k"),
        _mount("/dev/mqueue", "mqueue", "mqueue", *hidden),
        # A fresh sysfs is refused with the host's network namespace.
        _mount("/sys", "none", "/sys", "rbind", *hidden, "ro") if rootless
        else _mount("/sys", "sysfs", "sysfs", *hidden, "ro"),
        _mount("/sys/fs/cgroup", "cgroup", "cgroup", *hidden, "relatime", "ro"),
    ]  # fmt: skip
    linux: dict[str, object] = {}
    if rootless:
        linux["uidMappings"] = [{"containerID": 0, "hostID": uid, "size": 1}]
        linux["gidMappings"] = [{"containerID": 0, "hostID": gid, "size": 1}]
    else:
        linux["resources"] = {"devices": [{"allow": False, "access": "rwm"}]}
    kinds = [kind for kind in _NAMESPACES if not (rootless and kind == "network")] + (["user"] if rootless else [])
    linux["namespaces"] = [{"type": kind} for kind in kinds]
    linux["maskedPaths"] = _MASKED
    linux["readonlyPaths"] = _READONLY
    return {
        "ociVersion": OCI_VERSION,
        "process": {
            "terminal": True,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": _KEPT_CAPS, "effective": _KEPT_CAPS, "permitted": _KEPT_CAPS},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": True},
        "hostname": "rootless",
        "mounts": mounts,
        "linux": linux,
    }


def features() -> dict[str, object]:
    """Return the features document: what this runtime knows, whatever this machine can do."""
    from rootless.kernel import libseccomp
    from rootless.spec.seccomp import ACTIONS, ARCHES, OPERATORS

    version = libseccomp.version()
    annotations = {"org.rootless.oci.version": __version__, "org.opencontainers.runc.checkpoint.enabled": "false"}
    if version:
        annotations["io.github.seccomp.libseccomp.version"] = version
    flags = ["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
             "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]  # fmt: skip
    return {
        "ociVersionMin": OCI_VERSION_MIN,
        "ociVersionMax": OCI_VERSION_MAX,
        "hooks": ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        "mountOptions": list(mountopts.known()),
        "linux": {
            "namespaces": ["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
            "capabilities": list(caps.NAMES),
            "cgroup": {"v1": False, "v2": True, "systemd": True, "systemdUser": True, "rdma": True},
            "seccomp": {
                "enabled": bool(version),
                "actions": sorted(ACTIONS),
                "operators": sorted(OPERATORS),
                "archs": sorted(ARCHES),
                "knownFlags": flags,
                "supportedFlags": flags,
            },
            "apparmor": {"enabled": True},
            "selinux": {"enabled": True},
            "intelRdt": {"enabled": False},
            "mountExtensions": {"idmap": {"enabled": False}},
            "netDevices": {"enabled": True},
        },
        "annotations": annotations,
        "potentiallyUnsafeConfigAnnotations": ["org.systemd.property."],
    }
