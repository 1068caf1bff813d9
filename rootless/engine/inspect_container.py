"""Everything that is known of a container, as the document that `podman inspect` prints: its keys, order and types.

What was asked for is read from the record's "options" (plan/saved.py leaves out what has its default), what is from the
kernel and the run directory.

Source: podman 4.3's document, observed; its libpod/define/container_inspect.go
"""

from __future__ import annotations

import os

from rootless.engine.listing import Commands, Listed
from rootless.plan.namespaces import recorded_needs
from rootless.spec import caps, moment
from rootless.store import overview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.layout import Roots

_DEFAULT_INTERVAL_NS = 30 * moment.SECOND_NS
SHM_BYTES = 65536000
_TMPFS = "rw,rprivate,nosuid,nodev,tmpcopyup"
# what --read-only-tmpfs covers
_SCRATCH = ("/run", "/tmp", "/var/tmp")


def document(roots: Roots, one: Listed, *, size: tuple[int, int] | None = None) -> dict[str, Any]:
    """Return what podman prints of a container; *size* is what its writable layer holds, and with its image."""
    data = one.data
    asked: dict[str, Any] = data.get("options") or {}
    image = overview.image(roots, one.image_id)
    config = (image.get("config") or {}).get("config") or {}
    run_dir, scratch = f"{roots.run}/containers/{one.id}", f"{roots.data}/containers/{one.id}"
    args = [str(word) for word in data.get("args") or ()]
    effective, bounding = _capabilities(one, asked)
    found: dict[str, Any] = {
        "Id": one.id,
        "Created": _time(data.get("created")),
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": _state(roots, one),
        "Image": one.image_id,
        "ImageDigest": str(image.get("digest") or ""),
        "ImageName": one.image,
        "Rootfs": "" if one.image_id else str(data.get("image") or ""),
        "Pod": "",
        "ResolvConfPath": _existing(f"{run_dir}/resolv.conf"),
        "HostnamePath": _existing(f"{run_dir}/hostname"),
        "HostsPath": _existing(f"{run_dir}/hosts"),
        "StaticDir": scratch,
        **({"OCIConfigPath": ""} if one.state.get("started") else {}),
        "OCIRuntime": "rootless-oci",
        "ConmonPidFile": str(asked.get("supervisor_pidfile") or f"{run_dir}/pid"),
        "PidFile": str(asked.get("pidfile") or f"{run_dir}/child"),
        "Name": one.name,
        "RestartCount": int(data.get("restart_count") or 0),
        "Driver": str(data.get("driver") or ""),
        "DriverReason": str(data.get("driver_reason") or ""),
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "EffectiveCaps": effective,
        "BoundingCaps": bounding,
        "ExecIDs": [],
        "GraphDriver": _graph(roots, one, image),
    }
    if size is not None:
        found |= {"SizeRw": size[0], "SizeRootFs": size[1]}
    mounts = _mounts(one)
    found |= {
        "Mounts": mounts,
        "Dependencies": recorded_needs(asked),
        "NetworkSettings": _network(one, asked, config),
        "Namespace": "",
        "IsInfra": False,
        "IsService": False,
        "Config": _config(roots, one, asked, config, args),
        "HostConfig": _host_config(one, asked, mounts, bounding, _ports(one, asked, config)),
    }
    return found


def _time(text: object) -> str:
    return moment.trimmed(str(text)) if text else moment.NEVER


def _existing(path: str) -> str:
    return path if os.path.exists(path) else ""


def _state(roots: Roots, one: Listed) -> dict[str, Any]:
    state = one.state
    alive = one.status in ("running", "paused", "stopping", "initialized")
    found: dict[str, Any] = {
        "OciVersion": "1.0.2",
        "Status": "created" if one.status == "starting" else one.status,
        "Running": one.status in ("running", "stopping"),
        "Paused": one.status == "paused",
        "Restarting": False,
        "OOMKilled": bool(state.get("oom_killed")),
        "Dead": False,
        "Pid": one.pid,
    }
    if alive:
        found["ConmonPid"] = _supervisor(roots, one.id)
    found |= {
        "ExitCode": one.exit_code,
        "Error": str(state.get("error") or ""),
        "StartedAt": _time(state.get("started")),
        "FinishedAt": _time(state.get("finished")),
        "Health": _health(roots, one),
    }
    path = str((one.data.get("cgroup") or {}).get("path") or "")
    if path and alive:
        found["CgroupPath"] = path.removeprefix("/sys/fs/cgroup")
    return found | {"CheckpointedAt": moment.NEVER, "RestoredAt": moment.NEVER}


def _supervisor(roots: Roots, cid: str) -> int:
    try:
        with open(f"{roots.run}/containers/{cid}/pid", "rb", 0) as file:
            return int(file.read(64).split()[0])
    except (OSError, ValueError, IndexError):
        return 0


def _health(roots: Roots, one: Listed) -> dict[str, Any]:
    known = overview.health(roots, one.id) or {}
    return {
        "Status": str(known.get("Status") or ""),
        "FailingStreak": int(known.get("FailingStreak") or 0),
        "Log": known.get("Log") or None,
    }


def _capabilities(one: Listed, asked: dict[str, Any]) -> tuple[list[str], list[str]]:
    """Return the effective and the bounding set: what the kernel says of a live process, else what was asked for."""
    if one.pid:
        found: dict[str, int] = {}
        try:
            with open(f"/proc/{one.pid}/status", encoding="utf-8", errors="replace") as file:
                for line in file:
                    if line.startswith(("CapEff:", "CapBnd:")):
                        found[line[:6]] = int(line[7:], 16)
            return sorted(caps.names(found["CapEff"])), sorted(caps.names(found["CapBnd"]))
        except (OSError, KeyError, ValueError):
            pass
    from rootless.plan import defaults

    added = {caps.normal(name) for name in asked.get("cap_add") or ()}
    dropped = {caps.normal(name) for name in asked.get("cap_drop") or ()}
    base: set[str] = set()
    if asked.get("privileged") or "CAP_ALL" in added:
        base = set(caps.NAMES)
    elif "CAP_ALL" not in dropped:
        base = set(defaults.CAPABILITIES)
    base |= added - {"CAP_ALL"}
    if not asked.get("privileged"):
        base -= dropped
    user = str(one.data.get("user") or "").partition(":")[0]
    bounding = sorted(base)
    return (bounding if user in ("", "0", "root") else sorted(added - {"CAP_ALL"})), bounding


def _graph(roots: Roots, one: Listed, image: dict[str, Any]) -> dict[str, Any]:
    """Return where the layers lie. MergedDir is where the host sees the root of a running container."""
    places: dict[str, str] = {}
    if one.image_id:
        links = one.data.get("links") or image.get("links") or ()
        scratch = f"{roots.data}/containers/{one.id}"
        if links:
            places["LowerDir"] = ":".join([f"{roots.data}/l/{link}" for link in reversed(links)])
        if one.pid:
            places["MergedDir"] = f"/proc/{one.pid}/root"
        places |= {"UpperDir": f"{scratch}/diff", "WorkDir": f"{scratch}/work"}
    return {"Name": str(one.data.get("driver") or ""), "Data": places}


def _mounts(one: Listed) -> list[dict[str, Any]]:
    """Return volumes, binds and images: podman's documents are in the record (plan/recorded.py)."""
    if "mounted" in one.data:
        return [dict(mount) for mount in one.data["mounted"]]
    found: list[dict[str, Any]] = []
    for name, source, target in [mount[:3] for mount in one.data.get("mounts") or ()]:
        entry: dict[str, Any] = {"Type": "volume", "Name": name} if name else {"Type": "bind"}
        entry |= {"Source": source, "Destination": target, "Driver": "local" if name else "", "Mode": "",
                  "Options": ["nosuid", "nodev", "rbind"] if name else ["rbind"], "RW": True,
                  "Propagation": "rprivate"}  # fmt: skip
        found.append(entry)
    return found


def _bindings(one: Listed) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for host_ip, host_port, container_port, protocol in one.data.get("ports") or ():
        entry = {"HostIp": "" if host_ip in ("0.0.0.0", "::") else host_ip, "HostPort": str(host_port)}
        found.setdefault(f"{container_port}/{protocol}", []).append(entry)
    return found


def _ports(one: Listed, asked: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Return published ports with their bindings, and exposed ones with none."""
    ports = _bindings(one)
    exposed = [str(name) if "/" in str(name) else f"{name}/tcp" for name in config.get("ExposedPorts") or ()]
    for port in asked.get("expose") or ():
        first, protocol = int(port.get("container_port") or 0), str(port.get("protocol") or "tcp")
        exposed += [f"{number}/{protocol}" for number in range(first, first + int(port.get("length") or 1))]
    for name in exposed:
        ports.setdefault(name, None)
    return {key: ports[key] for key in sorted(ports)}


def _network(one: Listed, asked: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    network = one.data.get("network") or {}
    address, _, prefix = str(network.get("address") or "").partition("/")
    address6, _, prefix6 = str(network.get("address6") or "").partition("/")
    return {
        "EndpointID": "",
        "Gateway": str(network.get("gateway") or ""),
        "IPAddress": address,
        "IPPrefixLen": int(prefix or 24) if address else 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": address6,
        "GlobalIPv6PrefixLen": int(prefix6 or 64) if address6 else 0,
        "MacAddress": str(network.get("mac") or ""),
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": False,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "Ports": _ports(one, asked, config),
        "SandboxKey": f"/proc/{one.pid}/ns/net" if one.pid else "",
    }


def _healthcheck(asked: dict[str, Any], config: dict[str, Any]) -> dict[str, Any] | None:
    """Return the health check of a container as the image spec writes one; what is not there has podman's default."""
    if asked.get("no_healthcheck"):
        return {"Test": ["NONE"]}
    own = asked.get("health")
    theirs = config.get("Healthcheck") or config.get("HealthCheck")
    if isinstance(own, dict) and own.get("test"):
        found: dict[str, Any] = {"Test": list(own["test"])}
        named = (("StartPeriod", "start_period_ns", 0), ("Interval", "interval_ns", _DEFAULT_INTERVAL_NS),
                 ("Timeout", "timeout_ns", _DEFAULT_INTERVAL_NS), ("Retries", "retries", 3))  # fmt: skip
        for key, name, default in named:
            value = int(own.get(name) or default)
            if value:
                found[key] = value
        return found
    return theirs if isinstance(theirs, dict) and theirs.get("Test") else None


def _config(
    roots: Roots, one: Listed, asked: dict[str, Any], config: dict[str, Any], args: list[str]
) -> dict[str, Any]:
    data = one.data
    command = Commands(roots).of(data)
    health = _healthcheck(asked, config)
    found: dict[str, Any] = {
        "Hostname": str(data.get("hostname") or ""),
        "Domainname": str(asked.get("domainname") or ""),
        "User": str(data.get("user") or config.get("User") or ""),
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "Tty": bool(data.get("tty")),
        "OpenStdin": bool(data.get("interactive")),
        "StdinOnce": False,
        "Env": list(data.get("env") or ()),
        "Cmd": list(command),
        "Image": one.image,
        "Volumes": None,
        "WorkingDir": str(data.get("cwd") or "/"),
        "Entrypoint": " ".join(args[: len(args) - len(command)]),
        "OnBuild": None,
        "Labels": data.get("labels") or None,
        "Annotations": data.get("annotations") or {},
        "StopSignal": int(data.get("stop_signal") or 15),
    }
    if health is not None:
        found["Healthcheck"] = health
    found["HealthcheckOnFailureAction"] = str((asked.get("health") or {}).get("on_failure") or "none")
    if asked.get("tz"):
        found["Timezone"] = str(asked["tz"])
    if data.get("create_command"):
        found["CreateCommand"] = list(data["create_command"])
    found |= {
        "Umask": str(asked.get("umask") or "0022").zfill(4),
        "Timeout": int(asked.get("timeout") or 0),
        "StopTimeout": int(data.get("stop_timeout", 10)),
        "Passwd": bool(asked.get("passwd", True)),
        "sdNotifyMode": str(asked.get("sdnotify") or "container"),
    }
    if asked.get("secrets"):
        found["Secrets"] = [
            {"Name": secret.get("source", ""), "ID": "", "UID": secret.get("uid", 0), "GID": secret.get("gid", 0),
             "Mode": secret.get("mode", 0o444)}
            for secret in asked["secrets"]
        ]  # fmt: skip
    return found


def _host_config(
    one: Listed, asked: dict[str, Any], mounts: list[dict[str, Any]], bounding: list[str], ports: dict[str, Any]
) -> dict[str, Any]:
    from rootless.plan import defaults

    data = one.data
    limits: dict[str, Any] = asked.get("limits") or {}
    cgroup, log = data.get("cgroup") or {}, data.get("log") or {}
    usual = set(defaults.CAPABILITIES)
    binds = [
        f"{m.get('Name') or m['Source']}:{m['Destination']}:"
        + ",".join(["rw" if m["RW"] else "ro", m["Propagation"], *m["Options"]])
        for m in mounts
        if m["Type"] != "image"
    ]
    scratch = _SCRATCH if asked.get("read_only") and asked.get("read_only_tmpfs", True) else ()
    tmpfs = dict.fromkeys(scratch, _TMPFS)
    for volume in asked.get("volumes") or ():
        if volume.get("kind") == "tmpfs":
            words = [str(word) for word in volume.get("options") or ()]
            more = [word for word in words if word not in _TMPFS.split(",")]
            tmpfs[str(volume.get("target"))] = ",".join([_TMPFS, *more])
    quota, period = int(limits.get("cpu_quota") or 0), int(limits.get("cpu_period") or 0)
    restart = str(asked.get("restart") or "no")
    return {
        "Binds": binds,
        "CgroupManager": str(cgroup.get("driver") or "none"),
        "CgroupMode": str(asked.get("cgroupns") or "private"),
        "ContainerIDFile": str(asked.get("cidfile") or ""),
        "LogConfig": {
            "Type": str(log.get("driver") or "none"),
            "Config": None,
            "Path": str(log.get("path") or ""),
            "Tag": str(log.get("tag") or ""),
            "Size": _human(int(log.get("max_size_bytes") or 0)),
        },
        "NetworkMode": str((data.get("network") or {}).get("mode") or ""),
        "PortBindings": ports,
        "RestartPolicy": {
            "Name": "" if restart == "no" else restart,
            "MaximumRetryCount": int(asked.get("restart_tries") or 0),
        },
        "AutoRemove": bool(data.get("auto_remove")),
        "VolumeDriver": "",
        "VolumesFrom": list(asked.get("volumes_from") or ()) or None,
        "CapAdd": sorted(set(bounding) - usual),
        "CapDrop": sorted(usual - set(bounding)),
        "Dns": list(asked.get("dns") or ()),
        "DnsOptions": list(asked.get("dns_options") or ()),
        "DnsSearch": list(asked.get("dns_search") or ()),
        "ExtraHosts": [f"{name}:{address}" for name, address in asked.get("add_hosts") or ()],
        "GroupAdd": list(asked.get("group_add") or ()),
        "IpcMode": "shareable" if asked.get("ipc", "private") == "private" else str(asked["ipc"]),
        "Cgroup": "",
        "Cgroups": "default" if asked.get("cgroups", "enabled") == "enabled" else str(asked["cgroups"]),
        "Links": None,
        "OomScoreAdj": int(asked.get("oom_score_adj") or 0),
        "PidMode": str(asked.get("pid") or "private"),
        "Privileged": bool(asked.get("privileged")),
        "PublishAllPorts": bool(asked.get("publish_all")),
        "ReadonlyRootfs": bool(asked.get("read_only")),
        "SecurityOpt": _security(asked.get("security") or {}),
        "Tmpfs": tmpfs,
        "UTSMode": str(asked.get("uts") or "private"),
        "UsernsMode": str(data.get("userns") or ""),
        "ShmSize": int(SHM_BYTES if asked.get("shm_size") is None else asked["shm_size"]),
        "Runtime": "oci",
        "ConsoleSize": [0, 0],
        "Isolation": "",
        "CpuShares": int(limits.get("cpu_shares") or 0),
        "Memory": int(limits.get("memory") or 0),
        "NanoCpus": quota * moment.SECOND_NS // period if quota > 0 and period else 0,
        "CgroupParent": str(asked.get("cgroup_parent") or ""),
        "BlkioWeight": int(limits.get("blkio_weight") or 0),
        "BlkioWeightDevice": _pairs(limits, "blkio_weight_device", "Weight"),
        "BlkioDeviceReadBps": _pairs(limits, "read_bps", "Rate"),
        "BlkioDeviceWriteBps": _pairs(limits, "write_bps", "Rate"),
        "BlkioDeviceReadIOps": _pairs(limits, "read_iops", "Rate"),
        "BlkioDeviceWriteIOps": _pairs(limits, "write_iops", "Rate"),
        "CpuPeriod": period,
        "CpuQuota": quota,
        "CpuRealtimePeriod": int(limits.get("cpu_rt_period") or 0),
        "CpuRealtimeRuntime": int(limits.get("cpu_rt_runtime") or 0),
        "CpusetCpus": str(limits.get("cpuset_cpus") or ""),
        "CpusetMems": str(limits.get("cpuset_mems") or ""),
        "Devices": [
            {"PathOnHost": d.get("source", ""), "PathInContainer": d.get("target", ""), "CgroupPermissions": ""}
            for d in asked.get("devices") or ()
        ],
        "DiskQuota": 0,
        "KernelMemory": 0,
        "MemoryReservation": int(limits.get("memory_reservation") or 0),
        "MemorySwap": int(limits.get("memory_swap") or 0),
        "MemorySwappiness": int(limits.get("memory_swappiness") or 0),
        "OomKillDisable": bool(limits.get("oom_kill_disable")),
        **({"Init": True} if asked.get("init") else {}),
        "PidsLimit": int(limits.get("pids") or 0),
        "Ulimits": _ulimits(asked),
        "CpuCount": 0,
        "CpuPercent": 0,
        "IOMaximumIOps": 0,
        "IOMaximumBandwidth": 0,
        "CgroupConf": dict(limits["unified"]) if limits.get("unified") else None,
    }


def _human(size_bytes: int) -> str:
    for unit, size in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size_bytes >= size:
            return f"{size_bytes / size:.4g}{unit}"
    return f"{size_bytes}B"


def _pairs(limits: dict[str, Any], name: str, value: str) -> list[dict[str, Any]] | None:
    return [{"Path": path, value: number} for path, number in limits.get(name) or ()] or None


def _security(security: dict[str, Any]) -> list[str]:
    found = ["no-new-privileges"] if security.get("no_new_privileges") else []
    if security.get("seccomp"):
        found.append(f"seccomp={security['seccomp']}")
    found += [f"{name}={':'.join(security[name])}" for name in ("mask", "unmask") if security.get(name)]
    return found + ([f"proc-opts={','.join(security['proc_opts'])}"] if security.get("proc_opts") else [])


def _ulimits(asked: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the limits of the process: ours no higher than the caller's hard ones, as a start makes them."""
    import resource

    from rootless.plan import defaults

    found: dict[str, tuple[int, int]] = {}
    for name, wanted, _ in defaults.RLIMITS:
        hard = resource.getrlimit(getattr(resource, name))[1]
        least = wanted if hard < 0 else min(wanted, hard)
        found[name] = (least, least)
    for limit in asked.get("ulimits") or ():
        found[f"RLIMIT_{str(limit.get('name')).upper()}"] = (int(limit.get("soft", -1)), int(limit.get("hard", -1)))
    return [{"Name": name, "Soft": soft, "Hard": hard} for name, (soft, hard) in sorted(found.items())]
