"""From the flags of `run` to RunOptions. Pure: files are read by a function that the caller gives.

The order of checks is podman's, so that a command line with two faults names the same one.

Source: podman-run(1); podman 4.3.1's observed messages
"""

from __future__ import annotations

from rootless.cli.parser import FlagError, split_csv, without_effect
from rootless.cli.table_run import COMMAND, LIFE_FLAGS, LIMIT_FLAGS
from rootless.errors import UsageError
from rootless.plan import values
from rootless.plan.options import (
    DeviceRequest,
    GlobalOptions,
    NetworkRequest,
    PortRange,
    RunOptions,
    SecurityOptions,
    UlimitRequest,
    VolumeRequest,
)
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rootless.cli.parser import Parsed

PULL_POLICIES = ("always", "missing", "never", "newer", "ifnewer", "ifmissing")
_PROXY_NAMES = ("http_proxy", "https_proxy", "ftp_proxy", "no_proxy",
                "HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY")  # fmt: skip


def run_options(
    parsed: Parsed,
    options: GlobalOptions,
    environ: Mapping[str, str],
    cwd: str,
    read_text: Callable[[str], str],
) -> RunOptions:
    """Return what the command line of `run` or `create` asks for.

    *read_text* returns the text of a file of the caller (env files, label files, /etc/passwd) and may raise OSError.
    Raises: UsageError in podman's words; FlagError for a flag or value that does not exist yet
    """
    _check_unsupported_values(parsed)
    os_name, arch, variant, platform = _platform(parsed)
    warnings = without_effect(COMMAND, parsed)
    _check_maps(parsed)
    life: dict[str, Any] = {}
    if not LIFE_FLAGS.isdisjoint(parsed.values):
        from rootless.cli.flags_life import life_options

        life = life_options(parsed, warnings)
    if not LIMIT_FLAGS.isdisjoint(parsed.values):
        from rootless.cli.flags_limits import limits

        life["limits"] = limits(parsed)
    home = environ.get("HOME", "/")
    proxied = parsed.flag("http-proxy", True)
    image_volume = parsed.text("image-volume", "bind") or "bind"
    if image_volume not in ("bind", "tmpfs", "ignore", "anonymous"):
        raise UsageError(f'invalid image volume mode "{image_volume}" required value: bind, tmpfs, ignore')
    name = parsed.text("name")
    if name and not values.is_name(name):
        raise UsageError(f"running container create option: {values.NAME_RULE}")
    umask = parsed.text("umask") or "0022"
    try:
        values.octal_umask(umask)
    except UsageError as error:
        raise UsageError(f"running container create option: {error.message}") from None
    score = parsed.number("oom-score-adj")
    if score is not None and not -1000 <= score <= 1000:
        raise UsageError(f'invalid value "{score}" for --oom-score-adj: must be between -1000 and 1000')
    stop_signal = parsed.text("stop-signal")
    if stop_signal:
        _check_signal(stop_signal)
    entrypoint = _entrypoint(parsed.text("entrypoint")) if parsed.given("entrypoint") else None
    made = RunOptions(
        image=parsed.args[0],
        command=parsed.args[1:],
        pull=_pull_policy(parsed.text("pull", "missing")),
        os=os_name,
        arch=arch,
        variant=variant,
        platform=platform,
        authfile=parsed.text("authfile") or environ.get("REGISTRY_AUTH_FILE", ""),
        tls_verify=parsed.flag("tls-verify") if parsed.given("tls-verify") else None,
        quiet=parsed.flag("quiet"),
        rootfs=parsed.flag("rootfs"),
        image_volume="bind" if image_volume == "anonymous" else image_volume,
        name=name,
        cidfile=parsed.text("cidfile"),
        pidfile=parsed.text("pidfile"),
        preserve_fds=_or(parsed.number("preserve-fds"), 0),
        remove=parsed.flag("rm"),
        labels=_labels(parsed, read_text),
        annotations=_annotations(parsed),
        stop_signal=stop_signal,
        stop_timeout=_or(parsed.number("stop-timeout"), 10),
        timeout=_or(parsed.number("timeout"), 0),
        storage_driver=options.storage_driver,
        interactive=parsed.flag("interactive"),
        tty=parsed.flag("tty"),
        sig_proxy=parsed.flag("sig-proxy", True),
        entrypoint=entrypoint,
        env=_env(parsed, environ, read_text),
        env_merge=_merged(parsed.many("env-merge")),
        env_host=tuple(environ.items()) if parsed.flag("env-host") else (),
        proxy_env=tuple([(n, environ[n]) for n in _PROXY_NAMES if n in environ]) if proxied else (),
        unset_env=parsed.many("unsetenv"),
        unset_env_all=parsed.flag("unsetenv-all"),
        user=parsed.text("user"),
        group_add=_groups(parsed.many("group-add")),
        workdir=parsed.text("workdir"),
        umask=umask,
        init=parsed.flag("init"),
        init_path=parsed.text("init-path"),
        oom_score_adj=score,
        ulimits=_ulimits(parsed.many("ulimit"), read_text),
        tz=parsed.text("tz"),
        personality=_personality(parsed.text("personality")),
        passwd=parsed.flag("passwd", True),
        passwd_entry=parsed.text("passwd-entry"),
        host_users=_host_users(parsed.many("hostuser"), read_text),
        userns=_userns(parsed),
        pid=_namespace(parsed, "pid", ("private", "host")),
        ipc=_namespace(parsed, "ipc", ("private", "none", "shareable", "host")),
        uts=_namespace(parsed, "uts", ("private", "host")),
        cgroupns=_namespace(parsed, "cgroupns", ("private", "host")),
        sysctls=tuple([values.sysctl(text) for text in parsed.many("sysctl")]),
        network=_network(parsed.many("network")),
        hostname=parsed.text("hostname"),
        add_hosts=tuple([values.add_host(text) for text in parsed.many("add-host")]),
        no_hosts=_no_hosts(parsed),
        dns=_dns(parsed),
        dns_search=parsed.many("dns-search"),
        dns_options=parsed.many("dns-option"),
        publish=_publish(parsed.many("publish")),
        publish_all=parsed.flag("publish-all"),
        expose=tuple([values.expose(text) for text in parsed.many("expose")]),
        privileged=parsed.flag("privileged"),
        cap_add=parsed.many("cap-add"),
        cap_drop=parsed.many("cap-drop"),
        security=_security(parsed.many("security-opt"), warnings, cwd, read_text),
        read_only=parsed.flag("read-only"),
        read_only_tmpfs=parsed.flag("read-only-tmpfs", True),
        shm_size=_shm_size(parsed.text("shm-size")),
        volumes=_volumes(parsed, cwd, home),
        devices=_devices(parsed),
        cgroups=_cgroups(parsed.text("cgroups")),
        cgroup_manager=options.cgroup_manager,
        cgroup_parent=parsed.text("cgroup-parent"),
        uid_map=parsed.many("uidmap"),
        gid_map=parsed.many("gidmap"),
        subuid_name=parsed.text("subuidname"),
        subgid_name=parsed.text("subgidname"),
        domainname=parsed.text("domainname"),
        mac_address=_mac_address(parsed),
        chroot_dirs=parsed.many("chrootdirs"),
        systemd=parsed.text("systemd", "true").lower(),
        warnings=tuple(warnings),
    )
    return replace(made, **life) if life else made


def _or(number: int | None, default: int) -> int:
    return default if number is None else number


def _check_unsupported_values(parsed: Parsed) -> None:
    """Refuse the values of a flag that do not exist here, where some do."""
    systemd = parsed.text("systemd", "true").lower()
    if systemd not in ("true", "false", "always"):
        raise UsageError(
            'invalid config provided: --systemd values must be one of "true, false, always": invalid configuration'
        )
    policy = parsed.text("seccomp-policy", "default")
    if policy not in ("", "default", "image"):
        raise UsageError(f'invalid seccomp policy "{policy}": valid policies are ["default" "image"]')
    if policy == "image":
        raise FlagError("--seccomp-policy image is not supported: an image does not choose its own filter here", "")
    if parsed.text("volume-driver", "local") not in ("", "local"):
        raise FlagError(f"--volume-driver {parsed.text('volume-driver')} is not supported: only local is there", "")


def _cgroups(text: str) -> str:
    if text not in ("", "enabled", "disabled", "no-conmon", "split"):
        raise UsageError(f'running container create option: invalid cgroup mode "{text}": invalid argument')
    return text or "enabled"


_MAP_FLAGS = ("uidmap", "gidmap", "subuidname", "subgidname")


def _check_maps(parsed: Parsed) -> None:
    """Judge the form of --uidmap and its like; whether the ids exist is known later (plan/userns.py)."""
    if not any([parsed.given(name) for name in _MAP_FLAGS]):
        return
    if parsed.given("userns"):
        raise UsageError("--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive")
    for name in ("uidmap", "gidmap"):
        for text in parsed.many(name):
            words = text.split(":")
            if len(words) != 3 or not all([word.isascii() and word.isdigit() for word in words]):
                raise UsageError(
                    f"initializing ID mappings: {name[:3].upper()} setting is malformed expected "
                    f'["uint32:uint32:uint32"]: ["{text}"]'
                )


def _userns(parsed: Parsed) -> str:
    mode, _, rest = parsed.text("userns").partition(":")
    if mode in ("container", "ns"):
        _needs_value(mode, rest)
    return parsed.text("userns")


def _needs_value(mode: str, value: str) -> None:
    if not value:
        what = "container" if mode == "container" else "path"
        raise UsageError(f"invalid config provided: namespace mode {what} requires a value")


def _devices(parsed: Parsed) -> tuple[DeviceRequest, ...]:
    found = tuple([device(text) for text in parsed.many("device") if text])
    if parsed.text("gpus"):
        from rootless.cli.flags_life import gpus

        found += gpus(parsed.text("gpus"))
    return found


def _platform(parsed: Parsed) -> tuple[str, str, str, str]:
    platform = parsed.text("platform")
    if platform and (parsed.text("arch") or parsed.text("os")):
        raise UsageError("--platform option can not be specified with --arch or --os")
    parts = platform.split("/") if platform else []
    if len(parts) > 3 or (platform and not all(parts)):
        raise UsageError(f'invalid platform syntax for --platform (use OS/ARCH[/VARIANT]): "{platform}"')
    os_name, arch, variant = [*parts, "", "", ""][:3]
    return os_name or parsed.text("os"), arch or parsed.text("arch"), variant or parsed.text("variant"), platform


def _pull_policy(text: str) -> str:
    policy = text.lower()
    if policy not in PULL_POLICIES:
        raise UsageError(f'unsupported pull policy "{text}"')
    return {"ifnewer": "newer", "ifmissing": "missing"}.get(policy, policy)


def _check_signal(text: str) -> None:
    """Judge --stop-signal. Raises: UsageError in podman's words"""
    if text.isdigit():
        if not 1 <= int(text) <= 64:
            raise UsageError("valid signals are 1 through 64" if int(text) else f"invalid signal: {text}")
        return
    from rootless.spec.signals import number

    if number(text) is None:
        raise UsageError(f"invalid signal: {text}")


def _entrypoint(text: str) -> tuple[str, ...]:
    """Return the words of --entrypoint: a JSON array of strings, else one program ('': none)."""
    if text.startswith("["):
        from rootless.spec.jsontext import loads

        try:
            words = loads(text)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
    return (text,)


def _read(path: str, read_text: Callable[[str], str], what: str) -> str:
    try:
        return read_text(path)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise UsageError(f"{what}open {path}: {reason}") from None
    except ValueError:
        raise UsageError(f"{what}{path}: invalid utf8 bytes") from None


def _env(parsed: Parsed, environ: Mapping[str, str], read_text: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    env: dict[str, str] = {}
    for path in parsed.many("env-file"):
        values.add_env_file(env, _read(path, read_text, f'parsing env file "{path}": '), path, environ)
    for line in parsed.many("env"):
        values.add_env(env, line, environ)
    return tuple(env.items())


def _merged(lines: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    for line in lines:
        if line.find("=") < 1:
            raise UsageError(f'invalid environment variable: "{line}"')
    return tuple([(line.partition("=")[0], line.partition("=")[2]) for line in lines])


def _labels(parsed: Parsed, read_text: Callable[[str], str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for path in parsed.many("label-file"):
        values.labels(values.lines_of(_read(path, read_text, "unable to process labels: ")), found)
    values.labels(parsed.many("label"), found)
    return tuple(found.items())


def _annotations(parsed: Parsed) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for item in parsed.many("annotation"):
        key, equals, value = item.partition("=")
        if not equals:
            raise UsageError("annotations must be formatted KEY=VALUE")
        if not key:
            raise UsageError("annotations must have a key: KEY=VALUE")
        found[key] = value
    return tuple(found.items())


def _groups(groups: tuple[str, ...]) -> tuple[str, ...]:
    if "keep-groups" in groups and len(groups) > 1:
        raise UsageError("the '--group-add keep-groups' option is not allowed with any other --group-add options")
    return groups


def _ulimits(texts: tuple[str, ...], read_text: Callable[[str], str]) -> tuple[UlimitRequest, ...]:
    found: dict[str, UlimitRequest] = {}
    for text in texts:
        if text == "host":
            for limit in _caller_limits(_read("/proc/self/limits", read_text, "")):
                found[limit.name] = limit
            continue
        limit = values.ulimit(text)
        found[limit.name] = limit
    return tuple(found.values())


_LIMIT_WORDS = {
    "Max cpu time": "cpu", "Max file size": "fsize", "Max data size": "data", "Max stack size": "stack",
    "Max core file size": "core", "Max resident set": "rss", "Max processes": "nproc", "Max open files": "nofile",
    "Max locked memory": "memlock", "Max address space": "as", "Max file locks": "locks",
    "Max pending signals": "sigpending", "Max msgqueue size": "msgqueue", "Max nice priority": "nice",
    "Max realtime priority": "rtprio", "Max realtime timeout": "rttime",
}  # fmt: skip


def _caller_limits(text: str) -> list[UlimitRequest]:
    """Read /proc/self/limits: the name fills 26 columns, each limit 21."""
    found: list[UlimitRequest] = []
    for line in text.splitlines()[1:]:
        name = _LIMIT_WORDS.get(line[:26].strip())
        soft, hard = line[26:47].strip(), line[47:68].strip()
        if name and soft and hard:
            found.append(UlimitRequest(name, _limit(soft), _limit(hard)))
    return found


def _limit(text: str) -> int:
    return -1 if text == "unlimited" else int(text)


def _personality(text: str) -> str:
    word = text.upper()
    if word and word not in ("LINUX", "LINUX32"):
        raise UsageError(f"unknown personality {text}: LINUX and LINUX32 exist")
    return word


def _host_users(names: tuple[str, ...], read_text: Callable[[str], str]) -> tuple[str, ...]:
    if not names:
        return ()
    lines = {line.split(":", 1)[0]: line for line in _read("/etc/passwd", read_text, "").splitlines() if line}
    by_id = {line.split(":")[2]: line for line in lines.values() if line.count(":") >= 3}
    found: list[str] = []
    for name in names:
        line = lines.get(name) or by_id.get(name)
        if line is None:
            raise UsageError(f"user: unknown user {name}", code=126)
        found.append(line)
    return tuple(found)


def _namespace(parsed: Parsed, flag: str, allowed: tuple[str, ...]) -> str:
    text = parsed.text(flag)
    mode, _, rest = text.partition(":")
    if text in allowed:
        return text
    if not text:
        return "private"
    if mode in ("container", "ns"):
        _needs_value(mode, rest)
        return text
    if mode == "pod":
        raise FlagError(f"--{flag} {text} is not supported: pods are not there yet", "")
    raise UsageError(f"unrecognized namespace mode {text} passed")


def _network(given: tuple[str, ...]) -> NetworkRequest:
    """Read --network; the network driver judges mode and options. `container:NAME` and `ns:PATH` stay one word."""
    if not given:
        return NetworkRequest()
    if len(given) > 1:
        raise UsageError(
            f"cannot set multiple networks without bridge network mode, selected mode "
            f"{given[0].partition(':')[0]}: invalid argument"
        )
    mode, _, rest = given[0].partition(":")
    if mode in ("container", "ns"):
        _needs_value(mode, rest)
        return NetworkRequest(given[0])
    if mode in ("", "default", "slirp4netns"):
        mode = "private"
    return NetworkRequest(mode, tuple([option for option in rest.split(",") if option]))


def _mac_address(parsed: Parsed) -> str:
    text = parsed.text("mac-address")
    if not text:
        return ""
    address = values.mac_address(text)
    if _network(parsed.many("network")).mode != "private":
        raise UsageError(
            "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking"
        )
    return address


def _no_hosts(parsed: Parsed) -> bool:
    if parsed.flag("no-hosts") and parsed.many("add-host"):
        raise UsageError("--no-hosts and --add-host cannot be set together")
    return parsed.flag("no-hosts")


def _dns(parsed: Parsed) -> tuple[str, ...]:
    servers = parsed.many("dns")
    mode = _network(parsed.many("network")).mode.partition(":")[0]
    for server in servers:
        if server == "none":
            if len(servers) > 1:
                raise UsageError("--dns=none is not allowed together with other DNS options")
        elif not values.ip_version(server):
            raise UsageError(f"{server} is not an ip address")
    if mode in ("none", "container") and (
        parsed.given("dns") or parsed.given("dns-option") or parsed.given("dns-search")
    ):
        raise UsageError(f"conflicting options: dns and the network mode: {mode}")
    return servers


def _publish(texts: tuple[str, ...]) -> tuple[PortRange, ...]:
    if not texts:
        return ()
    from netns.config import parse_publish

    found: list[PortRange] = []
    for text in texts:
        for port in parse_publish(text):
            found.append(PortRange(port.host_ip, port.host_port, port.container_port, 1, port.protocol))
    return tuple(found)


def _security(
    texts: tuple[str, ...], warnings: list[str], cwd: str, read_text: Callable[[str], str]
) -> SecurityOptions:
    no_new_privileges, seccomp = False, ""
    mask: list[str] = []
    unmask: list[str] = []
    proc_opts: list[str] = []
    for text in texts:
        mark = "=" if "=" in text else ":"
        key, found, value = text.partition(mark)
        if key == "no-new-privileges":
            if found and value.lower() not in ("true", "false", "1", "0", "t", "f"):
                raise UsageError(f'invalid --security-opt 2: "{text}"')
            no_new_privileges = not found or value.lower() in ("true", "1", "t")
        elif not found:
            raise UsageError(f'invalid --security-opt 1: "{text}"')
        elif key == "seccomp":
            # "builtin" is docker's word for its default profile
            value = "" if value == "builtin" else value
            seccomp = value if value in ("unconfined", "") or value.startswith("/") else f"{cwd}/{value}"
        elif key == "mask":
            mask += _paths(value)
        elif key == "unmask":
            unmask += ["ALL" if path.upper() == "ALL" else path for path in value.split(":") if path]
        elif key == "proc-opts":
            proc_opts += [option for option in value.split(",") if option]
        elif key == "systempaths":
            if value != "unconfined":
                raise UsageError(f'invalid systempaths option "{value}", only `unconfined` is supported')
            unmask.append("ALL")
        elif key == "writable-cgroups" and value.lower() in ("true", "false"):
            if value.lower() == "true":
                unmask.append("/sys/fs/cgroup")
        elif key == "label":
            if value not in ("disable", "nested"):
                warnings.append(f"--security-opt {text} has no effect: labels need SELinux, which is not used")
        elif key == "apparmor":
            if value not in ("unconfined", ""):
                raise UsageError(
                    f'apparmor profile "{value}" specified, but Apparmor is not enabled on this system',
                    hint="rootless containers run without a profile of their own; leave the option out",
                )
        else:
            raise UsageError(f'invalid --security-opt 2: "{text}"')
    if seccomp not in ("", "unconfined"):
        _read(seccomp, read_text, "opening seccomp profile failed: ")
    return SecurityOptions(no_new_privileges, seccomp, tuple(mask), tuple(unmask), tuple(proc_opts))


def _paths(text: str) -> list[str]:
    paths = [path for path in text.split(":") if path]
    for path in paths:
        if not path.startswith("/"):
            raise UsageError(f'path "{path}" of --security-opt mask is not an absolute path')
    return paths


def _shm_size(text: str) -> int | None:
    if not text:
        return None
    try:
        return values.size(text)
    except UsageError as error:
        raise UsageError(f"unable to translate --shm-size: {error.message}") from None


def _volumes(parsed: Parsed, cwd: str, home: str) -> tuple[VolumeRequest, ...]:
    """Collect -v, --mount and --tmpfs; a later -v wins nothing: two mounts on one target are an error."""
    texts, mounts, temporary = parsed.many("volume"), parsed.many("mount"), parsed.many("tmpfs")
    if not texts and not mounts and not temporary:
        return ()
    from rootless.plan import volumespec

    found: list[VolumeRequest] = []
    for text in mounts:
        fields, problem = split_csv(text)
        if problem:
            raise UsageError(f"{text}: {problem}")
        found.append(volumespec.mount(text, fields, cwd, home))
    found += [volumespec.volume(text, cwd, home) for text in texts]
    targets: set[str] = set()
    for one in found:
        if one.target in targets:
            raise UsageError(f"{one.target}: duplicate mount destination")
        targets.add(one.target)
    by_target: dict[str, VolumeRequest] = {}
    for text in temporary:
        one = volumespec.tmpfs(text)
        if one.target in targets:
            raise UsageError(f"{one.target}: duplicate mount destination")
        by_target[one.target] = one
    return tuple(found) + tuple(by_target.values())


def device(text: str) -> DeviceRequest:
    """Read `HOST[:CONTAINER][:PERMISSIONS]`, or `VENDOR/CLASS=NAME` of a CDI specification.

    Raises: UsageError
    """
    if not text.startswith("/") and "/" in text.partition("=")[0] and "=" in text:
        return DeviceRequest(text, "")
    parts = text.split(":")
    if len(parts) > 3 or not parts[0]:
        raise UsageError(f"invalid device specification: {text}")
    source, target, permissions = parts[0], parts[0], "rwm"
    if len(parts) == 2:
        if parts[1].startswith("/"):
            target = parts[1]
        else:
            permissions = parts[1]
    elif len(parts) == 3:
        target, permissions = parts[1] or source, parts[2]
    if not permissions or any(letter not in "rwm" for letter in permissions):
        raise UsageError(f"invalid device mode: {permissions}")
    if not target.startswith("/"):
        raise UsageError(f'invalid container path "{target}", must be an absolute path')
    return DeviceRequest(source, target, permissions)
