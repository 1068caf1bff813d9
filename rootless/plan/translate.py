"""What was asked, the image and the surroundings -> the OCI Spec of a container and what goes with it.

Pure: files of the root file system are read by a function that the caller gives, directories are
only named. The launcher then makes `files` below `files_dir`, prepares `volumes` and `binds`
(mount/volumes.py), compiles the seccomp filter and launches `spec`.

Source: podman-run(1); image-spec config.md; observed: podman 4.3's config.json for the same flags
"""

from __future__ import annotations

from rootless.errors import KernelError, RootlessError, SpecError, UsageError
from rootless.plan import defaults
from rootless.plan.containermounts import BindUse, SpecialUse, VolumeUse, plan_mounts
from rootless.plan.generated import accounts, generated_files
from rootless.plan.health import health_of
from rootless.plan.masks import masked_paths
from rootless.plan.namespaces import is_joined, namespaces, no_resolver, sysctls
from rootless.plan.options import HealthRequest, Limits, PortRange, RunOptions
from rootless.plan.secrets import SecretFile, no_secret, places, secrets_of, with_variables
from rootless.plan.user import ExecUser, appended, resolve
from rootless.plan.values import expose, octal_umask
from rootless.spec import caps
from rootless.spec.linux import IdMapping, Linux, Personality
from rootless.spec.record import record, replace
from rootless.spec.runtime import OCI_VERSION, CapSets, Process, Rlimit, Root, Spec, User

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.spec.idmap import IdMap
    from rootless.spec.linux import Resources

EXIT_WORKDIR = 126
KEEP_GROUPS = ("keep-groups",)


def _no_devices(path: str, flag: str) -> tuple[int, int]:
    raise UsageError(f"failed to inspect '{path}' in --{flag}: no such file or directory")


@record
class Surroundings:
    """What the translation must know beyond options and image.

    Shape: *root_path* becomes root.path; *files_dir* is where the launcher will write the generated files;
           *volumes_dir* holds NAME/_data; *uid_map*, *gid_map* are the container's ids (None: not checked), *inner_*
           the ranges (inside, outside, size) of a user namespace of the container's own, () for none.
           *default_user* (uid, gid, name) is who keep-id makes the process. *hosts* and *resolv_conf* are the texts of
           these files, None to leave the image's. *localtime* is the zone file of --tz. *hard_limits* are pairs
           (RLIMIT_NAME, hard limit of the caller). *read_file* returns a file of the root file system or None.
           *settle* returns where a path of the root file system is once dangling links are followed inside it.
           *host_path* resolves the links of a bind source: the container's root is mounted over the host's before
           binds are made, and a link with `..` would climb into it. *host_mqueue*: the host has a /dev/mqueue.
           *read_secret* returns the whole name and the value of a secret.
           *new_volume* returns the name of the anonymous volume for a target. *host_devices* are the nodes of the
           host's /dev (only read for --privileged). *namespace_path* returns the path of a namespace (type, mode) with
           mode `container:NAME` or `ns:PATH`. *device_number* returns (major, minor) of (device path, flag).
           *cdi_specs* returns (path, text) of the CDI specifications of this machine. *joined_name* is the host name
           in the UTS namespace of another container
    """

    container_id: str
    name: str
    root_path: str
    files_dir: str
    volumes_dir: str
    read_file: Callable[[str], bytes | None]
    new_volume: Callable[[str], str]
    image_name: str = ""
    image_id: str = ""
    host_name: str = ""
    hosts: str | None = None
    resolv_conf: str | None = None
    localtime: bytes | None = None
    uid_map: IdMap | None = None
    gid_map: IdMap | None = None
    inner_uids: tuple[tuple[int, int, int], ...] = ()
    inner_gids: tuple[tuple[int, int, int], ...] = ()
    default_user: tuple[int, int, str] | None = None
    hard_limits: tuple[tuple[str, int], ...] = ()
    host_devices: tuple[str, ...] = ()
    host_path: Callable[[str], str] = str
    host_mqueue: bool = True
    settle: Callable[[str], str] = str
    read_secret: Callable[[str], tuple[str, bytes]] = no_secret
    engine: str = "rootless"
    namespace_path: Callable[[str, str], str] = no_resolver
    device_number: Callable[[str, str], tuple[int, int]] = _no_devices
    cdi_specs: Callable[[], tuple[tuple[str, str], ...]] = tuple
    joined_name: str = ""


@record
class Translation:
    """The Spec and what the launcher needs beside it.

    Shape: *files* are (name below files_dir, content), each the source of a bind mount of *spec*. *cwd_make* says
           that a missing working directory shall be made (it is the image's, not the user's). *reaper*: --init.
           *seccomp* is "" for the default profile, "unconfined", or a file. *specials* are mounts to be made before
           the launch. *secret_files* and *secret_env* (NAME=VALUE) are in no record; the spec to be launched is
           `launch_spec`. *exposed* are the image's and --expose's ports; *ports* what is to be published.
           *keep_groups*: the process keeps the caller's groups. *health* is the complete health check
    """

    spec: Spec
    user: ExecUser
    files: tuple[tuple[str, bytes], ...]
    volumes: tuple[VolumeUse, ...]
    binds: tuple[BindUse, ...]
    ports: tuple[PortRange, ...]
    exposed: tuple[PortRange, ...]
    stop_signal: int
    labels: tuple[tuple[str, str], ...]
    cwd_make: bool
    reaper: bool
    seccomp: str
    hostname: str
    warnings: tuple[str, ...]
    specials: tuple[SpecialUse, ...] = ()
    secret_files: tuple[SecretFile, ...] = ()
    secret_env: tuple[str, ...] = ()
    keep_groups: bool = False
    health: HealthRequest | None = None

    @property
    def launch_spec(self) -> Spec:
        """The Spec with the secrets in its environment."""
        return with_variables(self.spec, self.secret_env)


def translate(options: RunOptions, image: dict[str, Any], around: Surroundings) -> Translation:
    """Return the container that *options* ask for.

    Shape: *image* is the decoded image config ({} for a bare root file system)
    Raises: UsageError (125), RootlessError (126) for users, groups and directories; podman's words
    """
    warnings = list(options.warnings)
    if any([not device.target for device in options.devices]):
        from rootless.plan.cdi import with_devices

        options = with_devices(options, around.cdi_specs(), warnings)
    config = _object(image, "config")
    passwd, group = around.read_file("/etc/passwd"), around.read_file("/etc/group")
    user = _user(options, config, around, passwd, group)
    hostname = _hostname(options, around)
    cwd, cwd_make = _cwd(options, config, around)
    args = _args(options, config)
    systemd = _is_systemd(options, args)
    if options.init and options.init_path:
        args = (defaults.INIT_TARGET, "--", *args)
    files = generated_files(options, around, hostname)
    if options.passwd:
        files += accounts(options, around, user, cwd, passwd, group)
    secret_files, secret_env = secrets_of(options, around.read_secret)
    mounted = [request.target for request in options.volumes]
    files = [entry for entry in files if entry[0] not in mounted]
    exposed = _exposed(config) + options.expose
    network = options.network.mode
    plan = plan_mounts(
        options,
        _targets(config),
        tuple([(target, f"{around.files_dir}/{name}") for target, name, _ in files]),
        network=network,
        tty_gid=around.gid_map is None or around.gid_map.lookup(defaults.TTY_GID) is not None,
        volumes_dir=around.volumes_dir,
        new_volume=around.new_volume,
        host_devices=around.host_devices,
        settle=around.settle,
        host_path=around.host_path,
        host_mqueue=around.host_mqueue,
        secrets=places(secret_files),
        owner=(user.uid, user.gid),
        shm_source=_joined_shm(options, around),
        systemd=systemd,
    )
    stop_signal = _stop_signal(options, config, warnings)
    env = _env(options, config, user, hostname)
    if systemd:
        env += (f"container_uuid={around.container_id[:32]}",)
        if not options.stop_signal and not _text(config, "StopSignal"):
            stop_signal = defaults.SYSTEMD_STOP_SIGNAL
    process = Process(
        args=args,
        cwd=cwd,
        user=User(user.uid, user.gid, octal_umask(options.umask), user.groups),
        terminal=options.tty,
        env=env,
        capabilities=capability_sets(options, user.uid != 0),
        rlimits=_rlimits(options, around, warnings),
        no_new_privileges=options.security.no_new_privileges,
        oom_score_adj=options.oom_score_adj,
    )
    masked, readonly = masked_paths(options, network)
    linux = Linux(
        namespaces=namespaces(options, bool(around.inner_uids), around.namespace_path),
        uid_mappings=tuple([IdMapping(*triple) for triple in around.inner_uids]),
        gid_mappings=tuple([IdMapping(*triple) for triple in around.inner_gids]),
        rootfs_propagation=plan.propagation,
        masked_paths=masked,
        readonly_paths=readonly,
        personality=Personality(options.personality) if options.personality else None,
        sysctl=sysctls(options, around.gid_map),
        resources=_resources(options, around),
    )
    spec = Spec(
        oci_version=OCI_VERSION,
        process=process,
        root=Root(around.root_path, options.read_only),
        hostname=hostname if options.uts == "private" else None,
        domainname=_domainname(options) or None,
        mounts=plan.mounts,
        annotations=(("org.opencontainers.image.stopSignal", str(stop_signal)), *options.annotations),
        linux=linux,
    )
    return Translation(
        spec=spec,
        user=user,
        files=tuple([(name, content) for _, name, content in files]),
        volumes=plan.volumes,
        binds=plan.binds,
        ports=_ports(options, exposed),
        exposed=exposed,
        stop_signal=stop_signal,
        labels=_labels(options, config),
        cwd_make=cwd_make,
        reaper=options.init and not options.init_path,
        seccomp="unconfined" if options.privileged and not options.security.seccomp else options.security.seccomp,
        hostname=hostname,
        warnings=tuple(warnings),
        keep_groups=options.group_add == KEEP_GROUPS,
        health=health_of(options, config),
        specials=plan.specials,
        secret_files=secret_files,
        secret_env=secret_env,
    )


def _is(value: Any, kind: type) -> bool:
    """Say whether *value*, which comes from JSON, is a *kind*."""
    return isinstance(value, kind)


def _object(value: dict[str, Any], key: str) -> dict[str, Any]:
    found: Any = value.get(key)
    if found is not None and not _is(found, dict):
        raise SpecError("an object is needed", pointer=f"/{key}")
    members: dict[str, Any] = found or {}
    return members


def _words(config: dict[str, Any], key: str) -> tuple[str, ...]:
    found: Any = config.get(key) or ()
    if isinstance(found, str):
        return ("/bin/sh", "-c", found)  # the oldest images of docker
    words: list[Any] = list(found) if _is(found, list) or found == () else [None]
    if not all(_is(word, str) for word in words):
        raise SpecError("an array of strings is needed", pointer=f"/config/{key}")
    return tuple(words)


def _text(config: dict[str, Any], key: str) -> str:
    found = config.get(key) or ""
    if not isinstance(found, str):
        raise SpecError("a string is needed", pointer=f"/config/{key}")
    return found


def _args(options: RunOptions, config: dict[str, Any]) -> tuple[str, ...]:
    """Return entrypoint and command: an entrypoint of the user's does without the image's command."""
    if options.entrypoint is None:
        entrypoint = _words(config, "Entrypoint")
    else:
        entrypoint = tuple([word for word in options.entrypoint if word]) if len(options.entrypoint) == 1 else (
            options.entrypoint
        )  # fmt: skip
    command = options.command
    if not command and not options.entrypoint:
        command = _words(config, "Cmd")
    if not entrypoint and not command:
        raise UsageError("no command or entrypoint provided, and no CMD or ENTRYPOINT from image")
    return entrypoint + command


def _is_systemd(options: RunOptions, args: tuple[str, ...]) -> bool:
    """Say whether the container's program is to be prepared for as an init of systemd's kind."""
    if options.systemd != "true":
        return options.systemd == "always"
    return args[0] in defaults.SYSTEMD_PROGRAMS or args[0].rpartition("/")[2] == "systemd"


def _user(
    options: RunOptions, config: dict[str, Any], around: Surroundings, passwd: bytes | None, group: bytes | None
) -> ExecUser:
    if passwd is not None and options.host_users:
        passwd = appended(passwd, list(options.host_users))
    added = () if options.group_add == KEEP_GROUPS else options.group_add
    asked = options.user
    if not asked and around.default_user:
        uid, gid, name = around.default_user
        user = resolve(f"{uid}:{gid}", added, passwd, group)
        if not user.in_passwd:
            user = replace(user, name=name or str(uid))
    else:
        user = resolve(asked or _text(config, "User"), added, passwd, group)
    for number, what, table in ((user.uid, "user", around.uid_map), (user.gid, "group", around.gid_map)):
        if table is not None and table.lookup(number) is None:
            raise RootlessError(
                f"{what} id {number} does not exist in the container: {table.size} id(s) are mapped",
                hint="give the account subordinate ids (usermod --add-subuids, --add-subgids), "
                "or choose a mapped id with --user",
                code=126,
            )
    table = around.gid_map
    if table is not None:
        user = replace(user, groups=tuple([gid for gid in user.groups if table.lookup(gid) is not None]))
    return user


def _hostname(options: RunOptions, around: Surroundings) -> str:
    if options.add_hosts and options.network.mode.startswith("container:"):
        raise UsageError(
            "invalid config provided: cannot set extra host entries when the container is joined to another "
            "containers network namespace: invalid configuration"
        )
    if options.hostname and (options.uts == "host" or options.uts.startswith("container:")):
        raise UsageError(
            "invalid config provided: cannot set hostname when running in the host UTS namespace: invalid configuration"
        )
    if options.uts == "host":
        return around.host_name
    if is_joined(options.uts):
        # the namespace has a name already, which is not ours to change
        return around.joined_name or options.hostname or around.container_id[:12]
    if options.hostname:
        return options.hostname
    if options.network.mode == "host" and around.host_name:
        return around.host_name
    return around.container_id[:12]


def _joined_shm(options: RunOptions, around: Surroundings) -> str:
    """Return the /dev/shm that belongs to the IPC namespace of another container: POSIX shared memory is files."""
    if not options.ipc.startswith("container:"):
        return ""
    process, mark, _ = around.namespace_path("ipc", options.ipc).rpartition("/ns/")
    return f"{process}/root/dev/shm" if mark else ""


def _domainname(options: RunOptions) -> str:
    """Return the NIS domain name: a name of the container's own UTS namespace only."""
    if options.domainname and options.uts != "private":
        raise UsageError("cannot set the domain name of a UTS namespace that is not the container's own")
    return options.domainname


def _resources(options: RunOptions, around: Surroundings) -> Resources | None:
    if options.limits == Limits():
        return None
    from rootless.plan.limits import resources_of

    return resources_of(options.limits, around.device_number)


def _cwd(options: RunOptions, config: dict[str, Any], around: Surroundings) -> tuple[str, bool]:
    """Return the working directory and whether it may be made; resolving it is the stage's, inside the root."""
    if options.workdir:
        if not options.workdir.startswith("/"):
            raise RootlessError(
                f'workdir "{options.workdir}" does not exist on container {around.container_id}', code=EXIT_WORKDIR
            )
        return options.workdir, False
    cwd = _text(config, "WorkingDir") or "/"
    path = cwd if cwd.startswith("/") else f"/{cwd}"
    try:
        return around.settle(path), True
    except KernelError as error:
        reason = (error.strerror or "").lower()
        raise RootlessError(
            f"creating container {around.container_id} workdir: mkdir {path}: {reason}", code=EXIT_WORKDIR
        ) from error


def _env(options: RunOptions, config: dict[str, Any], user: ExecUser, hostname: str) -> tuple[str, ...]:
    """Merge the environment: defaults, image, the caller's (--env-host), then --env-file and -e."""
    env = dict(defaults.ENV if options.default_env is None else options.default_env)
    env.update(options.proxy_env)
    for line in _words(config, "Env"):
        name, equals, value = line.partition("=")
        if name and equals:
            env[name] = value
    for name, value in options.env_merge:
        env[name] = expand(value, env)
    env.update(options.env_host)
    if options.unset_env_all:
        env.clear()
    for name in options.unset_env:
        env.pop(name, None)
    env.update(options.env)
    env.setdefault("HOME", user.home)
    env.setdefault("HOSTNAME", hostname)
    return tuple([f"{name}={value}" for name, value in env.items()])


def expand(text: str, values: dict[str, str]) -> str:
    """Replace $NAME and ${NAME} by what *values* say, by nothing where they say nothing."""
    out, at = "", 0
    while at < len(text):
        start = text.find("$", at)
        if start < 0:
            return out + text[at:]
        out += text[at:start]
        if text[start + 1 : start + 2] == "{" and "}" in text[start:]:
            end = text.index("}", start)
            out += values.get(text[start + 2 : end], "")
            at = end + 1
            continue
        end = start + 1
        while end < len(text) and (text[end].isalnum() or text[end] == "_"):
            end += 1
        out += values.get(text[start + 1 : end], "") if end > start + 1 else "$"
        at = end
    return out


def capability_sets(options: RunOptions, unprivileged: bool) -> CapSets:
    """Return the five sets: a process that is not root has only what was added, and has it ambient.

    Raises: UsageError in podman's words
    """
    added = [caps.normal(name) for name in options.cap_add]
    dropped = [caps.normal(name) for name in options.cap_drop]
    for name in (*added, *dropped):
        if name != "CAP_ALL" and name not in caps.BITS:
            raise UsageError(f'"{name}": unknown capability')
    if "CAP_ALL" in added and "CAP_ALL" in dropped:
        raise UsageError("adding all caps and removing all caps not allowed")
    for name in added:
        if name in dropped and name != "CAP_ALL":
            raise UsageError(f'capability "{name}" cannot be dropped and added')
    base: set[str] = set()
    usual = defaults.CAPABILITIES if options.default_capabilities is None else options.default_capabilities
    if options.privileged or "CAP_ALL" in added:
        base = set(caps.NAMES)
    elif "CAP_ALL" not in dropped:
        base = set(usual)
    base |= {name for name in added if name != "CAP_ALL"}
    if not options.privileged:
        base -= set(dropped)
    bounding = tuple(sorted(base))
    if not unprivileged:
        return CapSets(bounding, bounding, (), bounding, ())
    own = bounding if "CAP_ALL" in added else tuple(sorted(set(added)))
    return CapSets(bounding, own, own, own, own)


def _rlimits(options: RunOptions, around: Surroundings, warnings: list[str]) -> tuple[Rlimit, ...]:
    """Return the limits: the defaults no higher than the caller's own, which only real root can raise."""
    hard_limits = dict(around.hard_limits)
    found: dict[str, Rlimit] = {}
    low: list[str] = []
    for name, wanted, least in defaults.RLIMITS:
        hard = hard_limits.get(name, wanted)
        found[name] = Rlimit(name, min(wanted, hard), min(wanted, hard))
        if hard < least:
            low.append(f"{name} {hard}")
    for limit in options.ulimits:
        name = "RLIMIT_" + limit.name.upper()
        soft, hard = [value if value >= 0 else (1 << 64) - 1 for value in (limit.soft, limit.hard)]
        found[name] = Rlimit(name, soft, hard)
        low = [text for text in low if not text.startswith(f"{name} ")]
    if low:
        warnings.append(f"the caller's hard limits are low and hold in the container too: {', '.join(low)}")
    return tuple(found.values())


def _stop_signal(options: RunOptions, config: dict[str, Any], warnings: list[str]) -> int:
    text = options.stop_signal or _text(config, "StopSignal")
    if not text:
        return defaults.STOP_SIGNAL
    from rootless.spec.signals import number

    found = number(text)
    if found is None:
        warnings.append(f"the image's stop signal {text} does not exist; SIGTERM is used")
        return defaults.STOP_SIGNAL
    return found


def _labels(options: RunOptions, config: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    labels = {key: str(value) for key, value in _object(config, "Labels").items()}
    labels.update(options.labels)
    return tuple(labels.items())


def _keys(config: dict[str, Any], key: str) -> tuple[str, ...]:
    found: Any = config.get(key) or ()
    if not _is(found, dict) and not _is(found, list) and found != ():
        raise SpecError("an object is needed", pointer=f"/config/{key}")
    names: list[Any] = list(found)
    return tuple([name for name in names if isinstance(name, str)])


def volume_targets(image: dict[str, Any]) -> tuple[str, ...]:
    """Return the VOLUMEs of an image as absolute, clean paths. Raises: SpecError"""
    return _targets(_object(image, "config"))


def _targets(config: dict[str, Any]) -> tuple[str, ...]:
    """Return the image's VOLUMEs as absolute, clean paths."""
    found: list[str] = []
    for name in _keys(config, "Volumes"):
        parts: list[str] = []
        for part in name.split("/"):
            if part == "..":
                del parts[-1:]
            elif part and part != ".":
                parts.append(part)
        if parts:
            found.append("/" + "/".join(parts))
    return tuple(dict.fromkeys(found))


def _exposed(config: dict[str, Any]) -> tuple[PortRange, ...]:
    found: list[PortRange] = []
    for text in _keys(config, "ExposedPorts"):
        try:
            found.append(expose(text))
        except UsageError:
            raise SpecError(f"{text} is not a port", pointer="/config/ExposedPorts") from None
    return tuple(found)


def _ports(options: RunOptions, exposed: tuple[PortRange, ...]) -> tuple[PortRange, ...]:
    """Return what is published: -p, and with -P every exposed port that -p does not name."""
    if not options.publish_all:
        return options.publish
    taken = {(port.container_port + n, port.protocol) for port in options.publish for n in range(port.length)}
    more = [
        PortRange("", 0, port.container_port + n, 1, port.protocol)
        for port in exposed
        for n in range(port.length)
        if (port.container_port + n, port.protocol) not in taken
    ]
    return options.publish + tuple(dict.fromkeys(more))


_NOBODY = ExecUser(0, 0, (), "", "", False, False)


@record
class Outline:
    """What is known of a container before its root file system is there to look into."""

    args: tuple[str, ...]
    env: tuple[str, ...]
    cwd: str
    hostname: str
    labels: tuple[tuple[str, str], ...]
    stop_signal: int


def outline(options: RunOptions, image: dict[str, Any], container_id: str) -> Outline:
    """Return what options and image say by themselves. Raises: UsageError, SpecError"""
    config = _object(image, "config")
    hostname = options.hostname or container_id[:12]
    env = _env(options, config, _NOBODY, hostname)
    return Outline(
        args=_args(options, config),
        env=tuple([line for line in env if line != "HOME="]),
        cwd=options.workdir or _text(config, "WorkingDir") or "/",
        hostname=hostname,
        labels=_labels(options, config),
        stop_signal=_stop_signal(options, config, []),
    )
