"""From options to a container that can be launched: storage, network, the Spec, volumes and generated files.

Everything that is made is pushed on an undo stack. A container that is started again goes through the same steps, with
its own id, name, writable layer and anonymous volumes.

Source: architecture.md, "The life of `rootless run`"
"""

from __future__ import annotations

import errno
import os
import posix

from netns import resolv
from netns.config import NetConfig
from netns.driver import choose
from rootless.errors import KernelError, RootlessError
from rootless.kernel.enter import Identity
from rootless.kernel.fds import Fd
from rootless.kernel.overlayprobe import forget, refused_drivers
from rootless.kernel.paths import read_in_root, settle_in_root
from rootless.kernel.undo import Undo
from rootless.mount.driver import RootfsMount, RootfsRequest, detached_directory, open_root
from rootless.plan.namespaces import is_joined, modes_of
from rootless.plan.translate import Surroundings, Translation, translate
from rootless.run.create import hard_limits
from rootless.spec.record import record
from rootless.store import containers, layout
from rootless.supervise.early import network

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from netns.driver import Pending
    from rootless.plan.options import RunOptions
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots


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
class Basis:
    """What stays the same however often a container is started.

    Shape: *volumes* are the names of its anonymous volumes by target
    """

    cid: str
    name: str
    options: RunOptions
    image: ImageRecord | None
    roots: Roots
    driver: str
    identity: Identity
    caller: Caller
    volumes: dict[str, str]


@record
class Prepared:
    """A container that can be launched."""

    rootfs: RootfsMount
    pending: Pending
    net: NetConfig
    around: Surroundings
    translation: Translation


def prepare(basis: Basis, net: NetConfig, pending: Pending | None, undo: Undo) -> tuple[Prepared, list[str]]:
    """Mount the root, translate the options, write the generated files; return that and warnings.

    Shape:  *pending* None: the ports of the image decide about the network, which is begun here
    Raises: RootlessError; *undo* holds what was made
    """
    roots, options = basis.roots, basis.options
    warnings: list[str] = []
    run_dir = containers.run_dir(roots, basis.cid)
    if not os.path.isdir(f"{run_dir}/root"):
        os.mkdir(f"{run_dir}/root", 0o700)
    rootfs = _rootfs(basis, run_dir, undo)
    basis.caller.trace("mount")
    around = _around(basis, run_dir, net, rootfs)
    if any([is_joined(mode) for _, mode in modes_of(options)]):
        from rootless.supervise.joining import like_the_others

        around = like_the_others(options, roots, around)
    try:
        translation = translate(options, basis.image.config if basis.image else {}, around)
    except (OSError, KernelError):
        from rootless.supervise.launch import blame_server

        blame_server(rootfs)
        raise
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
    return Prepared(rootfs, pending, net, around, translation), warnings


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


def _rootfs(basis: Basis, run_dir: str, undo: Undo) -> RootfsMount:
    options, roots, cid, image, identity = basis.options, basis.roots, basis.cid, basis.image, basis.identity
    scratch = containers.data_dir(roots, cid)
    for directory in (f"{roots.data}/{containers.CONTAINERS}", scratch):
        if not os.path.isdir(directory):
            layout.make_directory(directory)
    undo.push(lambda: containers.discard(roots, cid) if containers.read(roots, cid) is None else None)
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
    request = RootfsRequest(
        store=roots.data, links=links, scratch=scratch, run_dir=run_dir, forms=image.forms,
        # Owners that were recorded for want of ids can be shown once there are ids to show them as.
        squashed=bool(image.squashed) and not plan.squashes, volatile=options.remove,
    )  # fmt: skip
    wanted = options.storage_driver or basis.driver or "auto"
    refused = refused_drivers(roots.run, scratch, single=plan.squashes) if wanted == "auto" else {}
    mounted = open_root(wanted, request, refused=refused)
    if wanted == "auto" and not refused and mounted.driver != "overlay":
        forget(roots.run)
    undo.push(mounted.close)
    return mounted


def _around(basis: Basis, run_dir: str, net: NetConfig, rootfs: RootfsMount) -> Surroundings:
    options, roots, cid, name, image = basis.options, basis.roots, basis.cid, basis.name, basis.image
    identity, caller = basis.identity, basis.caller
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
        new_volume=lambda target: basis.volumes.setdefault(target, containers.new_id()),
        host_path=os.path.realpath,
        host_mqueue=os.path.isdir("/dev/mqueue"),
        settle=lambda path: os.fsdecode(settle_in_root(rootfs.fd, os.fsencode(path))),
        read_secret=lambda text: _read_secret(roots, text),
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
        device_number=_device_number,
        cdi_specs=_cdi_specs,
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


def _device_number(path: str, flag: str) -> tuple[int, int]:
    from rootless.mount.hostparts import device_number

    return device_number(path, flag)


def _cdi_specs() -> tuple[tuple[str, str], ...]:
    from rootless.mount.hostparts import cdi_specs

    return cdi_specs()


def _host_devices() -> tuple[str, ...]:
    from rootless.mount.hostparts import device_nodes

    return device_nodes(usable=True)


def prepared_volumes(basis: Basis, p: Prepared, owner: tuple[int, int], undo: Undo) -> tuple[str, ...]:
    """Make what -v, --mount and the image's VOLUMEs ask for; return the names of new anonymous volumes.

    Owner: *undo* lets volumes go, which cannot be removed until then
    """
    t = p.translation
    if not t.volumes and not t.binds:
        return ()
    from rootless.mount import volumes

    volumes.check_binds(t.binds)
    holds: list[Fd] = []
    try:
        return volumes.prepare(basis.roots, t.volumes, t.binds, p.rootfs.fd, owner, basis.cid, holds)
    finally:
        for lock in holds:
            undo.push(lock.close)


def remove_volumes(roots: Roots, names: tuple[str, ...]) -> None:
    if names:
        from rootless.mount.volumes import remove_all

        remove_all(roots, names)


def prepared_mounts(basis: Basis, p: Prepared, owner: tuple[int, int], undo: Undo) -> tuple[tuple[str, Fd], ...]:
    """Return the mounts that are made outside, by destination; *undo* ends what serves them."""
    t = p.translation
    found: tuple[tuple[str, Fd], ...] = ()
    if any(["tmpcopyup" in mount.options for mount in t.spec.mounts]):
        from rootless.supervise.tmpfs import prepared_tmpfs

        found = prepared_tmpfs(t.spec, p.rootfs.fd)
    if basis.options.ipc.startswith("container:"):
        from rootless.supervise.joining import shared_memory

        found += shared_memory(t.spec)
    if not t.specials and not t.secret_files and not t.volumes:
        return found
    from rootless.mount.volumemounts import is_needed, open_mounts

    if not is_needed(t, basis.roots):
        return found
    from rootless.mount.specials import Around

    plan, scratch = basis.identity.plan, containers.data_dir(basis.roots, basis.cid)
    around = Around(basis.roots, scratch, containers.run_dir(basis.roots, basis.cid),
                    basis.options.storage_driver or basis.driver or "auto", owner,
                    plan.inner_uids, plan.inner_gids)  # fmt: skip
    return found + open_mounts(t, around, p.rootfs.fd, undo)


def _read_secret(roots: Roots, name: str) -> tuple[str, bytes]:
    from rootless.store.secrets import read_value

    return read_value(roots, name)


RESOLVED_CONF = "/run/systemd/resolve/resolv.conf"


def _host_text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(1 << 20)
    except OSError:
        return ""


def workdir_missing(translation: Translation, cid: str, code: int) -> RootlessError:
    """Say in podman's words that --workdir names nothing that could be entered."""
    cwd = translation.spec.process.cwd if translation.spec.process else ""
    if code == errno.ENOENT:
        return RootlessError(f'workdir "{cwd}" does not exist on container {cid}', code=126)
    if code == errno.ENOTDIR:
        return RootlessError(f'workdir "{cwd}" exists on container {cid}, but is not a directory', code=126)
    return RootlessError(f'workdir "{cwd}" on container {cid}: {posix.strerror(code).lower()}', code=126)
