"""What a front end may ask for: plain values, already parsed and checked for their form.

Nothing here knows argv, the image or the machine. `cli/flags_run.py` makes `RunOptions` from
podman's flags, `plan/translate.py` turns them into an OCI Spec.

Source: podman-run(1) of podman 4.3
"""

from __future__ import annotations

from rootless.plan.globaloptions import GlobalOptions as GlobalOptions
from rootless.spec.record import record


@record
class PortRange:
    """One `-p`: *length* ports in a row. *host_port* 0 means: any free port; *host_ip* "" means: all addresses."""

    host_ip: str
    host_port: int
    container_port: int
    length: int = 1
    protocol: str = "tcp"


@record
class VolumeRequest:
    """One `-v`, `--mount` or `--tmpfs`.

    Shape: kind `bind` (source is an absolute host path), `volume` (source is a volume's name, empty for an
    anonymous one), `image` (source is its name), `glob` (source is a pattern; what it finds becomes binds),
    `tmpfs`, `ramfs` and `devpts` (no source). *options* are OCI mount options without the defaults of the
    kind; *chown* is podman's `U`, *copy_up* is false for `nocopy` (and for a tmpfs with `notmpcopyup`).
    *overlay* is podman's `O`, with *upper* and *work* where the user gives them. *idmap* is "" for none,
    "container" for the container's map, else `uids=...;gids=...`. *driver_options* are for a volume that is made.
    *inherited*: it comes from --volumes-from, and gives way to what the user mounts there.
    """

    kind: str
    source: str
    target: str
    options: tuple[str, ...] = ()
    chown: bool = False
    copy_up: bool = True
    overlay: bool = False
    upper: str = ""
    work: str = ""
    idmap: str = ""
    driver_options: tuple[tuple[str, str], ...] = ()
    inherited: bool = False


@record
class DeviceRequest:
    """One `--device`: *permissions* is a subset of `rwm`. *target* "": *source* is a CDI name, vendor/class=device."""

    source: str
    target: str
    permissions: str = "rwm"


@record
class UlimitRequest:
    """One `--ulimit`: *name* in lower case without `RLIMIT_`; -1 is unlimited."""

    name: str
    soft: int
    hard: int


@record
class SecurityOptions:
    """What `--security-opt` says.

    Shape: *seccomp* is "" for our default profile, "unconfined", or the path of a profile file.
    *unmask* may hold "ALL". *proc_opts* are mount options of /proc.
    """

    no_new_privileges: bool = False
    seccomp: str = ""
    mask: tuple[str, ...] = ()
    unmask: tuple[str, ...] = ()
    proc_opts: tuple[str, ...] = ()


@record
class NetworkRequest:
    """`--network`: *mode* is private, none, host; *options* are `key=value` after the colon."""

    mode: str = "private"
    options: tuple[str, ...] = ()


@record
class HealthRequest:
    """A health check as --health-* or the image's HEALTHCHECK ask for it.

    Shape: *test* is ("CMD", argv...), ("CMD-SHELL", text) or ("NONE",), empty: the image's; durations in nanoseconds,
           0: the image's, else podman's default; *interval_ns* -1: only by hand; *on_failure* none, kill, restart, stop
    """

    test: tuple[str, ...] = ()
    interval_ns: int = 0
    timeout_ns: int = 0
    start_period_ns: int = 0
    retries: int = 0
    on_failure: str = "none"


@record
class Limits:
    """Resource limits; None or empty: not asked for. Sizes in bytes, -1 unlimited; devices are (path, number)."""

    memory: int | None = None
    memory_swap: int | None = None
    memory_reservation: int | None = None
    memory_swappiness: int | None = None
    oom_kill_disable: bool = False
    cpu_shares: int | None = None
    cpu_period: int | None = None
    cpu_quota: int | None = None
    cpu_rt_period: int | None = None
    cpu_rt_runtime: int | None = None
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    pids: int | None = None
    blkio_weight: int | None = None
    blkio_weight_device: tuple[tuple[str, int], ...] = ()
    read_bps: tuple[tuple[str, int], ...] = ()
    read_iops: tuple[tuple[str, int], ...] = ()
    write_bps: tuple[tuple[str, int], ...] = ()
    write_iops: tuple[tuple[str, int], ...] = ()
    unified: tuple[tuple[str, str], ...] = ()


@record
class SecretRequest:
    """One `--secret`: *kind* mount (a file, *target* its path) or env (*target* the variable)."""

    source: str
    kind: str = "mount"
    target: str = ""
    uid: int = 0
    gid: int = 0
    mode: int = 0o444


@record
class RunOptions:
    """All of `rootless run` and `rootless create`.

    Shape: *image* is the reference, or the directory when *rootfs* is set. Pairs are (name, value).
    *env* is the merged result of --env-file and -e (already with the values taken from the caller's
    environment), *env_merge* what --env-merge says with $NAME still in it, *env_host* the caller's
    environment when --env-host was given, *proxy_env* the caller's proxy variables unless --http-proxy=false.
    *entrypoint* None: the image's; ("",): none.
    *timeout* and *stop_timeout* in seconds, 0 for *timeout*: no limit; *shm_size* in bytes, None: the default.
    *host_users* are lines of the host's passwd for --hostuser.
    *pid*, *ipc*, *uts*, *userns* and the mode of *network* may be `container:NAME`. *attach* None: all that there is;
    *detach_keys* "" disables them. *restart* no, on-failure, always, unless-stopped; *restart_tries* 0: no end.
    *log_driver* "": k8s-file; *sdnotify* container, conmon, healthy, ignore.
    *cgroups* enabled, disabled, no-conmon, split. *systemd* true, false, always.
    *chroot_dirs* are directories of the container that get the generated files too.
    *group_add* may be ("keep-groups",). *uid_map* and *gid_map* are CONTAINER:OUTER:SIZE.
    """

    image: str
    command: tuple[str, ...] = ()
    # the image
    pull: str = "missing"
    os: str = ""
    arch: str = ""
    variant: str = ""
    platform: str = ""
    authfile: str = ""
    tls_verify: bool | None = None
    quiet: bool = False
    rootfs: bool = False
    image_volume: str = "bind"
    # the container
    name: str = ""
    cidfile: str = ""
    pidfile: str = ""
    preserve_fds: int = 0
    remove: bool = False
    labels: tuple[tuple[str, str], ...] = ()
    annotations: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    stop_timeout: int = 10
    timeout: int = 0
    storage_driver: str = ""
    # the process
    interactive: bool = False
    tty: bool = False
    sig_proxy: bool = True
    entrypoint: tuple[str, ...] | None = None
    env: tuple[tuple[str, str], ...] = ()
    env_merge: tuple[tuple[str, str], ...] = ()
    env_host: tuple[tuple[str, str], ...] = ()
    proxy_env: tuple[tuple[str, str], ...] = ()
    unset_env: tuple[str, ...] = ()
    unset_env_all: bool = False
    user: str = ""
    group_add: tuple[str, ...] = ()
    workdir: str = ""
    umask: str = "0022"
    init: bool = False
    init_path: str = ""
    oom_score_adj: int | None = None
    ulimits: tuple[UlimitRequest, ...] = ()
    tz: str = ""
    personality: str = ""
    # passwd of the container
    passwd: bool = True
    passwd_entry: str = ""
    host_users: tuple[str, ...] = ()
    # namespaces
    userns: str = ""
    pid: str = "private"
    ipc: str = "private"
    uts: str = "private"
    cgroupns: str = "private"
    sysctls: tuple[tuple[str, str], ...] = ()
    # network
    network: NetworkRequest = NetworkRequest()
    hostname: str = ""
    add_hosts: tuple[tuple[str, str], ...] = ()
    no_hosts: bool = False
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    dns_options: tuple[str, ...] = ()
    publish: tuple[PortRange, ...] = ()
    publish_all: bool = False
    expose: tuple[PortRange, ...] = ()
    # privileges
    privileged: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    security: SecurityOptions = SecurityOptions()
    # file systems
    read_only: bool = False
    read_only_tmpfs: bool = True
    shm_size: int | None = None
    volumes: tuple[VolumeRequest, ...] = ()
    devices: tuple[DeviceRequest, ...] = ()
    volumes_from: tuple[str, ...] = ()
    secrets: tuple[SecretRequest, ...] = ()
    # a life beyond the command
    detach: bool = False
    attach: tuple[str, ...] | None = None
    detach_keys: str = "ctrl-p,ctrl-q"
    replace: bool = False
    remove_image: bool = False
    requires: tuple[str, ...] = ()
    restart: str = "no"
    restart_tries: int = 0
    log_driver: str = ""
    log_opts: tuple[tuple[str, str], ...] = ()
    health: HealthRequest | None = None
    no_healthcheck: bool = False
    sdnotify: str = "container"
    supervisor_pidfile: str = ""
    # limits
    limits: Limits = Limits()
    cgroups: str = "enabled"
    cgroup_parent: str = ""
    # maps of its own
    uid_map: tuple[str, ...] = ()
    gid_map: tuple[str, ...] = ()
    subuid_name: str = ""
    subgid_name: str = ""
    domainname: str = ""
    mac_address: str = ""
    chroot_dirs: tuple[str, ...] = ()
    systemd: str = "true"
    # what containers.conf puts in the place of our defaults; None: ours
    default_env: tuple[tuple[str, str], ...] | None = None
    default_capabilities: tuple[str, ...] | None = None
    default_sysctls: tuple[tuple[str, str], ...] | None = None
    default_pids: int = 2048
    # systemd, cgroupfs, none; "": whichever is there
    cgroup_manager: str = ""
    # what the CLI shall print before it starts
    warnings: tuple[str, ...] = ()
