"""A container's record before it starts: its image, its name, what was asked for.

Source: podman-create(1) of podman 4.3
"""

from __future__ import annotations

import os
import sys

from rootless.errors import RootlessError, StoreError, UsageError
from rootless.plan import saved
from rootless.plan.translate import outline, volume_targets
from rootless.spec.record import replace
from rootless.store import containers, images
from rootless.supervise.names import random_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.plan.options import RunOptions
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

NAME_TRIES = 16
LOG_FILE = "ctr.log"
USUAL_VARIANT = {"arm64": "v8", "arm": "v7"}  # what an image is of that names none (image-spec, platform variants)


def check_files(options: RunOptions) -> None:
    """Raises: UsageError - --cidfile exists, or a file that is to be written cannot be"""
    if options.cidfile and os.path.lexists(options.cidfile):
        raise UsageError(
            f"container id file exists. Ensure another container is not using it or delete {options.cidfile}"
        )
    for path in (options.cidfile, options.pidfile, options.supervisor_pidfile):
        if path and not os.access(os.path.dirname(path) or ".", os.W_OK):
            raise UsageError(
                f"opening {'cidfile' if path == options.cidfile else 'pidfile'} {path}",
                hint=f"{os.path.dirname(path) or '.'} must be a directory that you may write to",
            )


def find_image(
    options: RunOptions, roots: Roots, pull: Callable[[RunOptions], None], warn: Callable[[str], None]
) -> ImageRecord:
    """Return the image, pulled if the policy and the store say so.

    Blocks: for a pull
    Raises: RootlessError
    """
    found = images.lookup(roots, options.image) if options.pull not in ("always", "newer") else None
    if found is not None and _other_platform(options, found):
        found = None
    if found is None:
        if options.pull == "never":
            raise StoreError(f"{options.image}: image not known", hint=f"rootless pull {options.image}")
        pull(options)
        found = images.lookup(roots, options.image)
    if found is None:
        raise StoreError(f"{options.image}: image not known")
    if _other_platform(options, found):
        has = f"{found.config.get('os')}/{found.config.get('architecture')}"
        wanted = options.platform or f"{options.os or 'linux'}/{options.arch or found.config.get('architecture')}"
        warn(f"image platform ({has}) does not match the expected platform ({wanted})")
    return found


def _other_platform(options: RunOptions, image: ImageRecord) -> bool:
    wanted_os, _, rest = options.platform.partition("/")
    arch = rest.partition("/")[0] or options.arch
    system = wanted_os or options.os
    variant = rest.partition("/")[2] or options.variant
    has = str(image.config.get("architecture"))
    if (arch and has != arch) or (system and image.config.get("os") != system):
        return True
    return bool(variant) and variant != (image.config.get("variant") or USUAL_VARIANT.get(has, variant))


def planned_mounts(
    options: RunOptions, image: ImageRecord | None, roots: Roots, anonymous: dict[str, str]
) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """Return the names of the anonymous volumes by target, new ones where *anonymous* has none, and all mounts."""
    targets = volume_targets(image.config) if image else ()
    if not targets and not options.volumes:
        return {}, []
    from rootless.plan import recorded

    names = {target: anonymous.get(target) or containers.new_id()
             for target in recorded.anonymous_targets(options, targets)}  # fmt: skip
    return names, list(recorded.mounts(options, targets, f"{roots.data}/volumes", names))


def settled(options: RunOptions, roots: Roots) -> tuple[RunOptions, tuple[str, ...]]:
    """Return *options* with what other containers and patterns of paths give, and warnings. Raises: RootlessError"""
    if options.rootfs:
        options = replace(options, image=os.path.realpath(options.image))  # it is started again from anywhere
    if not options.volumes_from and not any([request.kind == "glob" for request in options.volumes]):
        return options, ()
    from rootless.supervise import inherit

    return inherit.settled(options, roots)


def _make_volumes(roots: Roots, container: containers.Container, options: RunOptions) -> None:
    """Make the volumes of a container that is not started; they are filled at its start."""
    if not [d for d in container.data["mounted"] if d["Type"] == "volume"]:
        return
    from rootless.mount.volumes import make_empty

    make_empty(roots, container.id, container.data["mounted"], container.data["anonymous"], options.volumes)


def check_rootfs(options: RunOptions) -> None:
    """Raises: RootlessError - the directory of --rootfs is none"""
    if not os.path.isdir(options.image):
        reason = "not a directory" if os.path.lexists(options.image) else "no such file or directory"
        raise RootlessError(f"running container create option: stat {options.image}: {reason}")


def free_name(roots: Roots) -> str:
    """Return a random name that nobody has."""
    for _ in range(NAME_TRIES):
        name = random_name()
        if not os.path.lexists(f"{roots.data}/{containers.NAMES}/{name}"):
            return name
    return f"{random_name()}{os.getpid()}"


def new_record(
    cid: str, name: str, options: RunOptions, image: ImageRecord | None, roots: Roots, driver: str
) -> dict[str, Any]:
    """Return the record of a container that nobody has started."""
    known = outline(options, image.config if image else {}, cid)
    anonymous, mounted = planned_mounts(options, image, roots, {})
    return {
        "format": containers.FORMAT,
        "id": cid,
        "name": name,
        "created": containers.now(),
        "image": image.names[0] if image and image.names else options.image,
        "image_id": image.id if image else "",
        "machine": containers.machine_id(),
        "boot": containers.boot_id(),
        "auto_remove": options.remove,
        "anonymous": anonymous,
        "anonymous_volumes": list(anonymous.values()),
        "driver": options.storage_driver or driver,
        "driver_reason": "",
        "args": list(known.args),
        "env": list(known.env),
        "cwd": known.cwd,
        "user": options.user,
        "hostname": known.hostname,
        "tty": options.tty,
        "interactive": options.interactive,
        "labels": dict(known.labels),
        "annotations": dict(options.annotations),
        "stop_signal": known.stop_signal,
        "stop_timeout": options.stop_timeout,
        "userns": options.userns,
        "network": {"mode": options.network.mode},
        "ports": [[p.host_ip, p.host_port + at, p.container_port + at, p.protocol]
                  for p in options.publish for at in range(p.length)],
        "mounts": [[d.get("Name", ""), d["Source"], d["Destination"]] for d in mounted if d["Type"] != "image"],
        "mounted": mounted,
        "log": log_of(cid, name, options, image, roots),
        "restart_count": 0,
        "options": saved.encode(options),
        "create_command": list(sys.argv),
        "state": {"status": "created"},
    }  # fmt: skip


def log_of(cid: str, name: str, options: RunOptions, image: ImageRecord | None, roots: Roots) -> dict[str, Any]:
    """Return what --log-driver and --log-opt make of the output. Raises: UsageError"""
    path = f"{containers.data_dir(roots, cid)}/{LOG_FILE}"
    if not options.log_driver and not options.log_opts:
        return {"driver": "k8s-file", "path": path, "tag": "", "max_size_bytes": 0}
    from rootless.plan.logs import log_config

    fields = {
        "ID": cid, "Name": name, "ImageID": image.id if image else "",
        "ImageName": image.names[0] if image and image.names else options.image,
    }  # fmt: skip
    found = log_config(options.log_driver, options.log_opts, default_path=path, cwd=os.getcwd(), fields=fields)
    return found.as_record()


def create(
    options: RunOptions,
    roots: Roots,
    driver: str,
    pull: Callable[[RunOptions], None],
    warn: Callable[[str], None],
) -> containers.Container:
    """Make a container that is not started: a record, and nothing else.

    Blocks: for a pull
    Raises: RootlessError; nothing is left then
    """
    check_files(options)
    image = None
    if options.rootfs:
        check_rootfs(options)
    else:
        image = find_image(options, roots, pull, warn)
    cid = containers.new_id()
    options, warnings = settled(options, roots)
    for text in warnings:
        warn(text)
    if options.secrets:
        from rootless.store import secrets

        for secret in options.secrets:
            secrets.find(roots, secret.source)
    container = containers.Container(cid, options.name or free_name(roots), {})
    container.data.update(new_record(cid, container.name, options, image, roots, driver))
    containers.create(roots, container)
    _make_volumes(roots, container, options)
    if options.cidfile:
        with open(options.cidfile, "w") as file:
            file.write(cid)
    return container
