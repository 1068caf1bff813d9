"""One foreground `run`, from options to exit status: image, identity, storage, network, launch, end.

The command that a person typed becomes the container's supervisor: there is no daemon to hand it to.

Source: architecture.md, "The life of `rootless run`"
"""

from __future__ import annotations

import errno
import os
import posix

from netns import resolv
from netns.config import NetConfig
from netns.driver import choose
from rootless.errors import RootlessError, StoreError, UsageError, WorkdirError
from rootless.kernel.enter import Identity
from rootless.kernel.fds import Fd
from rootless.kernel.overlayprobe import forget, refused_drivers
from rootless.kernel.paths import read_in_root, settle_in_root
from rootless.kernel.seccomp import program_for
from rootless.kernel.undo import Undo
from rootless.mount.driver import RootfsMount, RootfsRequest, detached_directory, open_root
from rootless.plan.translate import Surroundings, Translation, translate
from rootless.run.create import hard_limits
from rootless.spec.record import record, replace
from rootless.store import containers, images, layout
from rootless.supervise.early import Early, network
from rootless.supervise.first import run_first
from rootless.supervise.launch import Launched, LaunchRequest, launch
from rootless.supervise.names import random_name
from rootless.supervise.orphans import clean_orphans, kill_orphans

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netns.driver import Pending
    from rootless.plan.options import RunOptions
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

NAME_TRIES = 16


@record
class Caller:
    """What a run needs from the front end.

    Shape: *pull* brings an image into the store (in a child process); *warn* shows one line; *trace* is called with
           a stage's name when it is over
    """

    environ: Mapping[str, str]
    pull: Callable[[RunOptions], None]
    warn: Callable[[str], None]
    trace: Callable[[str], None]


@record
class Prepared:
    """A container that can be launched."""

    cid: str
    name: str
    image: ImageRecord | None
    roots: Roots
    identity: Identity
    rootfs: RootfsMount
    pending: Pending
    net: NetConfig
    translation: Translation
    lock: Fd


def run(options: RunOptions, roots: Roots, driver: str, caller: Caller, early: Early) -> int:
    """Run a container in the foreground; return its exit status.

    Blocks:  until it has ended
    Raises:  RootlessError; nothing of the container is left then, except what a record without --rm tells
    """
    orphans = kill_orphans(roots)
    if options.cidfile and os.path.lexists(options.cidfile):
        raise UsageError(
            f"container id file exists. Ensure another container is not using it or delete {options.cidfile}"
        )
    for path in (options.cidfile, options.pidfile):
        if path and not os.access(os.path.dirname(path) or ".", os.W_OK):
            raise UsageError(f"opening {'cidfile' if path == options.cidfile else 'pidfile'} {path}: cannot be written")
    data_lock = layout.lock_shared(roots)
    image = None if options.rootfs else _image(options, roots, caller)
    caller.trace("image")
    identity = early.entering.finish()
    for text in (*identity.warnings, *early.warnings):
        caller.warn(text)
    caller.trace("identity")
    layout.prepare_data(roots)
    clean_orphans(roots, orphans)
    with Undo() as undo:
        undo.push(data_lock.close)
        prepared, warnings = _prepare(options, roots, driver, caller, image, identity, early, undo)
        for text in warnings:
            caller.warn(text)
        launched, container = _start(options, prepared, caller, undo)
        status = _see_through(options, prepared, launched, container, caller)
    return status


def _image(options: RunOptions, roots: Roots, caller: Caller) -> ImageRecord:
    """Return the image, pulled if the policy and the store say so."""
    found = images.lookup(roots, options.image) if options.pull not in ("always", "newer") else None
    if found is not None and _other_platform(options, found):
        found = None
    if found is None:
        if options.pull == "never":
            raise StoreError(f"{options.image}: image not known", hint=f"rootless pull {options.image}")
        caller.pull(options)
        found = images.lookup(roots, options.image)
    if found is None:
        raise StoreError(f"{options.image}: image not known")
    if _other_platform(options, found):
        has = f"{found.config.get('os')}/{found.config.get('architecture')}"
        wanted = options.platform or f"{options.os or 'linux'}/{options.arch or found.config.get('architecture')}"
        caller.warn(f"image platform ({has}) does not match the expected platform ({wanted})")
    return found


def _other_platform(options: RunOptions, image: ImageRecord) -> bool:
    wanted_os, _, rest = options.platform.partition("/")
    arch = rest.partition("/")[0] or options.arch
    system = wanted_os or options.os
    return bool((arch and image.config.get("architecture") != arch) or (system and image.config.get("os") != system))


def _prepare(
    options: RunOptions,
    roots: Roots,
    driver: str,
    caller: Caller,
    image: ImageRecord | None,
    identity: Identity,
    early: Early,
    undo: Undo,
) -> tuple[Prepared, list[str]]:
    cid = containers.new_id()
    warnings: list[str] = []
    lock = containers.make_run_dir(roots, cid)
    undo.push(lock.close)
    run_dir = containers.run_dir(roots, cid)
    undo.push(lambda: containers.discard_run_dir(roots, cid))
    os.mkdir(f"{run_dir}/root", 0o700)
    net, pending = early.net, early.pending
    rootfs = _rootfs(options, roots, driver, cid, run_dir, image, identity, undo)
    caller.trace("mount")
    name = options.name or _free_name(roots)
    translation = translate(options, image.config if image else {}, _around(
        options, roots, cid, name, run_dir, image, identity, net, rootfs, caller))  # fmt: skip
    _check_places(rootfs)
    warnings += translation.warnings
    if pending is None:
        net, more = network(options, translation.ports)
        warnings += more
        pending = choose(net).prepare(net)
        undo.push(pending.close)
    for file_name, content in translation.files:
        path = f"{run_dir}/{file_name}"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        with Fd(fd):
            os.write(fd, content)
            os.fchmod(fd, 0o644)  # the caller's umask is not the container's
    prepared = Prepared(cid, name, image, roots, identity, rootfs, pending, net, translation, lock)
    return prepared, warnings


def _check_places(rootfs: RootfsMount) -> None:
    """Refuse an image that would have proc or sysfs mounted elsewhere by a symbolic link, as runc does.

    Raises: RootlessError
    """
    for name, kind in (("proc", "proc"), ("sys", "sysfs")):
        try:
            mode = os.stat(name, dir_fd=rootfs.fd.fileno(), follow_symlinks=False).st_mode
        except OSError:
            continue  # it is made, or refused where it is mounted
        if mode & 0o170000 == 0o120000:
            raise RootlessError(
                f'mounting "{kind}" to rootfs at "/{name}": filesystem "{kind}" must be mounted on ordinary directory',
                hint=f"the image has a symbolic link at /{name}",
                code=126,
            )


def _free_name(roots: Roots) -> str:
    for _ in range(NAME_TRIES):
        name = random_name()
        if not os.path.lexists(f"{roots.data}/{containers.NAMES}/{name}"):
            return name
    return f"{random_name()}{os.getpid()}"


def _rootfs(
    options: RunOptions,
    roots: Roots,
    driver: str,
    cid: str,
    run_dir: str,
    image: ImageRecord | None,
    identity: Identity,
    undo: Undo,
) -> RootfsMount:
    if image is None:
        path = os.path.realpath(options.image)
        if not os.path.isdir(path):
            reason = "not a directory" if os.path.lexists(options.image) else "no such file or directory"
            raise RootlessError(f"running container create option: stat {options.image}: {reason}")
        mounted = RootfsMount(detached_directory(path), "rootfs")
        mounted.reason = "asked for"
        undo.push(mounted.close)
        return mounted
    plan = identity.plan
    links = image.links
    if plan.inner_uids is not None and plan.inner_gids is not None:
        from rootless.store.shifted import shifted_layers

        links = shifted_layers(roots, links, plan.inner_uids, plan.inner_gids)
    scratch = containers.data_dir(roots, cid)
    for directory in (f"{roots.data}/{containers.CONTAINERS}", scratch):
        if not os.path.isdir(directory):
            layout.make_directory(directory)
    undo.push(lambda: containers.discard(roots, cid) if containers.read(roots, cid) is None else None)
    request = RootfsRequest(
        store=roots.data, links=links, scratch=scratch, run_dir=run_dir, forms=image.forms,
        # Owners that were recorded for want of ids can be shown once there are ids to show them as.
        squashed=bool(image.squashed) and not plan.squashes, volatile=options.remove,
    )  # fmt: skip
    wanted = options.storage_driver or driver or "auto"
    refused = refused_drivers(roots.run, scratch, single=plan.squashes) if wanted == "auto" else {}
    mounted = open_root(wanted, request, refused=refused)
    if wanted == "auto" and not refused and mounted.driver != "overlay":
        forget(roots.run)
    undo.push(mounted.close)
    return mounted


def _around(
    options: RunOptions,
    roots: Roots,
    cid: str,
    name: str,
    run_dir: str,
    image: ImageRecord | None,
    identity: Identity,
    net: NetConfig,
    rootfs: RootfsMount,
    caller: Caller,
) -> Surroundings:
    plan = identity.plan
    uids, gids = plan.inner_uids or plan.outer_uids, plan.inner_gids or plan.outer_gids
    hostname = options.hostname or cid[:12]
    hosts_text = None
    if not options.no_hosts:
        hosts_text = resolv.hosts_file(
            net, _host_text("/etc/hosts"), add=options.add_hosts, names=(hostname, name),
            host_address=_host_address() if net.mode == "private" else "",
        )  # fmt: skip
    dns = resolv.DnsOptions(options.dns, options.dns_search, options.dns_options)
    resolv_text = resolv.resolv_conf(net, dns, _host_text("/etc/resolv.conf"), _host_text(RESOLVED_CONF))
    user = None
    if plan.user is not None:
        user = (*plan.user, caller.environ.get("USER", ""))
    return Surroundings(
        container_id=cid,
        name=name,
        root_path=f"{run_dir}/root",
        files_dir=run_dir,
        volumes_dir=f"{roots.data}/volumes",
        read_file=lambda path: read_in_root(rootfs.fd, path.encode()),
        new_volume=containers.new_id,
        host_path=os.path.realpath,
        host_mqueue=os.path.isdir("/dev/mqueue"),
        settle=lambda path: os.fsdecode(settle_in_root(rootfs.fd, os.fsencode(path))),
        image_name=image.names[0] if image and image.names else "",
        image_id=image.id if image else "",
        host_name=posix.uname().nodename,
        hosts=hosts_text,
        resolv_conf=resolv_text,
        localtime=_zone(options.tz),
        uid_map=uids,
        gid_map=gids,
        inner_uids=plan.inner_uids.triples() if plan.inner_uids else (),
        inner_gids=plan.inner_gids.triples() if plan.inner_gids else (),
        default_user=user,
        hard_limits=hard_limits(),
        host_devices=_host_devices() if options.privileged else (),
    )


# Imported where they are needed only: what most runs do without shall cost them nothing.


def _host_address() -> str:
    from netns.netlink import host_address

    return host_address()


def _zone(name: str) -> bytes | None:
    if not name:
        return None
    from rootless.mount.hostparts import read_zone

    return read_zone(name)


def _host_devices() -> tuple[str, ...]:
    from rootless.mount.hostparts import device_nodes

    return device_nodes(usable=True)


def _prepared_volumes(p: Prepared, owner: tuple[int, int]) -> tuple[str, ...]:
    """Make what -v, --mount and the image's VOLUMEs ask for; return the names of new anonymous volumes."""
    t = p.translation
    if not t.volumes and not t.binds:
        return ()
    from rootless.mount import volumes

    volumes.check_binds(t.binds)
    return volumes.prepare(p.roots, t.volumes, t.binds, p.rootfs.fd, owner, p.cid)


def _remove_volumes(roots: Roots, names: tuple[str, ...]) -> None:
    if names:
        from rootless.mount.volumes import remove_all

        remove_all(roots, names)


def _prepared_tmpfs(p: Prepared) -> tuple[tuple[str, Fd], ...]:
    spec = p.translation.spec
    if not any(["tmpcopyup" in mount.options for mount in spec.mounts]):
        return ()
    from rootless.supervise.tmpfs import prepared_tmpfs

    return prepared_tmpfs(spec, p.rootfs.fd)


RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"


def _host_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def _start(options: RunOptions, p: Prepared, caller: Caller, undo: Undo) -> tuple[Launched, containers.Container]:
    t, plan = p.translation, p.identity.plan
    inner_uids, inner_gids = plan.inner_uids, plan.inner_gids
    owner = (
        inner_uids.lookup(t.user.uid) if inner_uids else t.user.uid,
        inner_gids.lookup(t.user.gid) if inner_gids else t.user.gid,
    )
    anonymous = _prepared_volumes(p, (owner[0] or 0, owner[1] or 0))

    with Undo() as first:
        first.push(lambda: _remove_volumes(p.roots, anonymous))
        container = containers.Container(p.cid, p.name, describe(options, p, anonymous))
        containers.create(p.roots, container)
        first.push(lambda: containers.discard(p.roots, p.cid))
        bounding = t.spec.process.capabilities.bounding if t.spec.process and t.spec.process.capabilities else ()
        program = program_for(t.seccomp or "default", frozenset(bounding), p.roots.run)
        gids = inner_gids or plan.outer_gids
        request = LaunchRequest(
            cid=p.cid, spec=t.spec, run_dir=containers.run_dir(p.roots, p.cid), seccomp=program,
            interactive=options.interactive, tty=options.tty, sig_proxy=options.sig_proxy, reaper=t.reaper,
            cwd_make=t.cwd_make, setgroups=plan.setgroups, tty_gid=gids.lookup(5) is not None,
            nested=inner_uids is not None, owner=owner[0], timeout_seconds=options.timeout,
            sysctls=tuple([key for key, _ in options.sysctls]),
            prepared=_prepared_tmpfs(p), preserve_fds=options.preserve_fds,
        )  # fmt: skip
        caller.trace("prepare")
        try:
            launched = launch(request, p.rootfs, p.pending, undo.keep())
        except WorkdirError as error:
            raise _workdir_missing(t, p.cid, error.errno) from error
        first.keep()
    undo.push(launched.close)
    for text in launched.network.warnings:
        caller.warn(text)
    if launched.warnings:
        # What the kernel refused and what took its place, in one line.
        caller.warn("; ".join(launched.warnings))
    return launched, container


def _workdir_missing(translation: Translation, cid: str, code: int) -> RootlessError:
    """Say in podman's words that --workdir names nothing that could be entered."""
    cwd = translation.spec.process.cwd if translation.spec.process else ""
    if code == errno.ENOENT:
        return RootlessError(f'workdir "{cwd}" does not exist on container {cid}', code=126)
    if code == errno.ENOTDIR:
        return RootlessError(f'workdir "{cwd}" exists on container {cid}, but is not a directory', code=126)
    return RootlessError(f'workdir "{cwd}" on container {cid}: {posix.strerror(code).lower()}', code=126)


def _see_through(
    options: RunOptions, p: Prepared, launched: Launched, container: containers.Container, caller: Caller
) -> int:
    """Serve the running container to its end, and put away what it leaves."""
    caller.trace("start")
    state = {"status": "running", "pid": launched.supervision.pid, "started": containers.now()}
    network = launched.network
    container = containers.Container(p.cid, p.name, {
        **container.data,
        "state": state,
        "network": {"mode": network.mode, "address": network.address, "gateway": network.gateway,
                    "address6": network.address6},
        "ports": [[f.host_ip, f.host_port, f.container_port, f.protocol] for f in network.ports],
    })  # fmt: skip
    supervision = launched.supervision
    try:
        containers.write(p.roots, container)
        for path, text in ((options.cidfile, p.cid), (options.pidfile, str(supervision.pid))):
            if path:
                with open(path, "w") as file:
                    file.write(text)
        _serve(options, p.cid, launched)
        status = supervision.exit_status if supervision.exit_status is not None else 125
    except BaseException:
        supervision.kill(9)
        supervision.reap()
        raise
    finally:
        error = supervision.fault.message if supervision.fault else ""
        _put_away(p, container, supervision.exit_status or 0, error)
    caller.trace("run")
    if supervision.fault is not None:
        raise supervision.fault
    return status


def _pass_output(terminal: int) -> None:
    """Let the container's terminal alone process output, or every line would get a second carriage return."""
    import termios

    attributes = termios.tcgetattr(terminal)
    attributes[1] &= ~termios.OPOST
    termios.tcsetattr(terminal, termios.TCSANOW, attributes)


def _put_away(p: Prepared, container: containers.Container, status: int, error: str) -> None:
    if container.auto_remove:
        _remove_volumes(p.roots, tuple(container.data.get("anonymous_volumes", ())))
        containers.discard(p.roots, p.cid)
    else:
        containers.finish(p.roots, container, status, error=error)


def _serve(options: RunOptions, cid: str, launched: Launched) -> None:
    """Serve until the end: a short life by the poll loop alone, a longer one under trio."""
    supervision = launched.supervision
    if options.tty and os.isatty(0):
        from rootless.run.console import RawTerminal

        supervision.resize()
        with RawTerminal(0):
            _pass_output(0)
            _serve(replace(options, tty=False), cid, launched)
    elif not run_first(supervision):
        from rootless.supervise.main import run_main

        run_main(supervision, cid)


def describe(options: RunOptions, p: Prepared, anonymous: tuple[str, ...]) -> dict[str, object]:
    """Return the record of a container that is about to start."""
    t = p.translation
    process = t.spec.process
    return {
        "format": containers.FORMAT,
        "id": p.cid,
        "name": p.name,
        "created": containers.now(),
        "image": p.image.names[0] if p.image and p.image.names else options.image,
        "image_id": p.image.id if p.image else "",
        "machine": containers.machine_id(),
        "boot": containers.boot_id(),
        "auto_remove": options.remove,
        "anonymous_volumes": list(anonymous),
        "driver": p.rootfs.driver,
        "driver_reason": p.rootfs.reason,
        "args": list(process.args) if process else [],
        "env": list(process.env) if process else [],
        "cwd": process.cwd if process else "/",
        "user": options.user,
        "hostname": t.hostname,
        "tty": options.tty,
        "interactive": options.interactive,
        "labels": dict(t.labels),
        "annotations": dict(options.annotations),
        "stop_signal": t.stop_signal,
        "stop_timeout": options.stop_timeout,
        "userns": options.userns,
        "network": {"mode": p.net.mode},
        "ports": [],
        "mounts": [[v.name, v.path, v.target] for v in t.volumes] + [["", b.source, b.target] for b in t.binds],
        "state": {"status": "created"},
    }
