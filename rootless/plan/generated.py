"""The files that a container gets beside its image: hosts, resolv.conf, hostname, the marker, passwd and group.

Source: podman-run(1) "--passwd-entry", "--hostuser", "--chrootdirs"; observed: podman 4.3
"""

from __future__ import annotations

from rootless.plan.options import RunOptions
from rootless.plan.user import ExecUser, appended, passwd_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.plan.translate import Surroundings


def generated_files(options: RunOptions, around: Surroundings, hostname: str) -> list[tuple[str, str, bytes]]:
    """Return the generated files as (target, name below files_dir, content)."""
    found: list[tuple[str, str, bytes]] = []
    if around.hosts is not None and not options.no_hosts:
        found.append(("/etc/hosts", "hosts", _bytes(around.hosts)))
    if around.resolv_conf is not None and (around.resolv_conf or options.network.mode != "none"):
        # without a network there is nobody to ask: the image's file is as good as an empty one
        found.append(("/etc/resolv.conf", "resolv.conf", _bytes(around.resolv_conf)))
    found.append(("/etc/hostname", "hostname", _bytes(hostname + "\n")))
    if around.localtime is not None:
        found.append(("/etc/localtime", "localtime", around.localtime))
    marker = b""
    if options.privileged:
        lines = (("engine", around.engine), ("name", around.name), ("id", around.container_id),
                 ("image", around.image_name), ("imageid", around.image_id))  # fmt: skip
        marker = _bytes("".join([f'{key}="{value}"\n' for key, value in lines]) + "rootless=1\n")
    found.append(("/run/.containerenv", "containerenv", marker))
    for directory in options.chroot_dirs:
        inside = [(f"{directory.rstrip('/')}{target}", name, content) for target, name, content in found
                  if target in ("/etc/hosts", "/etc/resolv.conf", "/etc/hostname", "/run/.containerenv")]  # fmt: skip
        found += inside
    return found


def accounts(
    options: RunOptions, around: Surroundings, user: ExecUser, cwd: str, passwd: bytes | None, group: bytes | None
) -> list[tuple[str, str, bytes]]:
    """Return passwd and group with the user added, where the image has these files and lacks the user."""
    found: list[tuple[str, str, bytes]] = []
    known = [line.partition(b":")[0].decode("utf-8", "replace") for line in (passwd or b"").split(b"\n")]
    missing = tuple([line for line in options.host_users if line.partition(":")[0] not in known])
    lines = passwd_lines(user, cwd, options.passwd_entry, missing)
    if passwd is not None and lines:
        found.append(("/etc/passwd", "passwd", appended(passwd, lines)))
    if group is not None and not user.group_in_file and not user.in_passwd:
        member = user.name
        name = member if around.default_user and not options.user else str(user.gid)
        found.append(("/etc/group", "group", appended(group, [f"{name}:x:{user.gid}:{member}"])))
    return found


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
