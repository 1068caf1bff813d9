"""The maps of a container's own user namespace: which, and how they are written.

Two callers, two ways. An engine calls us inside its namespace, where we are root and write the files
ourselves; a user calls us from the host, where newuidmap and newgidmap have the privilege that we lack.
A configuration without a user namespace that a user calls gets one all the same, with the user's
default map, as there is no other way to run it.

Source: user_namespaces(7), newuidmap(1); runtime-spec config-linux.md#user-namespace-mappings
"""

from __future__ import annotations

import posix

from rootless.errors import KernelError, NotSupported, RootlessError, SpecError
from rootless.kernel import idmaps
from rootless.kernel.fds import memfd, read_all
from rootless.kernel.process import spawn, wait_pid
from rootless.spec.idmap import parse_map
from rootless.spec.linux import IdMapping, Linux, Namespace
from rootless.spec.record import record, replace
from rootless.spec.runtime import Spec

DIRECT, TOOLS, SINGLE = "direct", "tools", "single"


@record
class Maps:
    """How the maps are written: `direct` by root of our namespace, `tools`, or `single` (one id, by ourselves)."""

    how: str
    uids: tuple[IdMapping, ...]
    gids: tuple[IdMapping, ...]

    @property
    def setgroups(self) -> bool:
        """Whether the namespace may call setgroups(2): one inside ours inherits what ours may (user_namespaces(7))."""
        return self.how == TOOLS or (self.how == DIRECT and may_setgroups())


def with_identity(spec: Spec) -> tuple[Spec, Maps | None, tuple[str, ...]]:
    """Return *spec* with the user namespace that it needs, the maps to write (None: it makes none), and warnings.

    Raises: SpecError when a user of the process is not mapped, or mappings are missing on one side
    """
    linux = spec.linux
    assert linux is not None
    user = [n for n in linux.namespaces if n.type == "user"]
    warnings: tuple[str, ...] = ()
    euid = posix.geteuid()
    if user and user[0].path:
        if linux.uid_mappings or linux.gid_mappings:
            raise SpecError(
                "mappings and the path of a user namespace exclude each other", pointer="/linux/uidMappings"
            )
        return spec, None, ()
    if not user:
        if euid == 0:
            return spec, None, ()
        # First in the list: the others must belong to it.
        linux = replace(linux, namespaces=(Namespace("user"), *linux.namespaces))
    if not linux.uid_mappings and not linux.gid_mappings:
        linux, warnings = _default_maps(linux)
    elif not linux.uid_mappings or not linux.gid_mappings:
        which = "uidMappings" if not linux.uid_mappings else "gidMappings"
        raise SpecError("is missing: a user namespace needs both maps", pointer=f"/linux/{which}")
    spec = replace(spec, linux=linux)
    _check_ids(spec, linux)
    return spec, Maps(_how(linux, euid), linux.uid_mappings, linux.gid_mappings), warnings


def _default_maps(linux: Linux) -> tuple[Linux, tuple[str, ...]]:
    from rootless.plan.userns import UsernsMode, plan_userns

    environ = {k.decode("utf-8", "replace"): v.decode("utf-8", "replace") for k, v in posix.environ.items()}
    plan = plan_userns(UsernsMode("host"), idmaps.read_facts(environ))
    uids = tuple([IdMapping(r.container, r.host, r.size) for r in plan.outer_uids.ranges])
    gids = tuple([IdMapping(r.container, r.host, r.size) for r in plan.outer_gids.ranges])
    warnings = plan.warnings if posix.geteuid() else ()
    return replace(linux, uid_mappings=uids, gid_mappings=gids), warnings


def _how(linux: Linux, euid: int) -> str:
    if euid == 0:
        return DIRECT
    uids, gids = linux.uid_mappings, linux.gid_mappings
    alone = len(uids) == len(gids) == 1 and uids[0].size == gids[0].size == 1
    if alone and uids[0].host_id == euid and gids[0].host_id == posix.getegid():
        return SINGLE
    return TOOLS


def _check_ids(spec: Spec, linux: Linux) -> None:
    process = spec.process
    if process is None:
        return
    for value, mappings, name in (
        (process.user.uid, linux.uid_mappings, "uid"),
        (process.user.gid, linux.gid_mappings, "gid"),
    ):
        if not mapped(mappings, value):
            raise SpecError(f"{value} is not mapped in the container", pointer=f"/process/user/{name}")


def mapped(mappings: tuple[IdMapping, ...], value: int) -> bool:
    """Say whether the container has the id *value*."""
    return any(m.container_id <= value < m.container_id + m.size for m in mappings)


def has_gid(maps: Maps | None, gid: int) -> bool:
    """Say whether *gid* exists inside: in *maps*, or in our own namespace where the container gets no other."""
    if maps is not None:
        return mapped(maps.gids, gid)
    return parse_map(idmaps.read_text("/proc/self/gid_map")).lookup(gid) is not None


def may_setgroups(linux: Linux | None = None) -> bool:
    """Say whether setgroups(2) works in the user namespace that *linux* joins by path, or in our own."""
    joined = [n.path for n in linux.namespaces if n.type == "user" and n.path] if linux else []
    process = joined[0].removesuffix("/ns/user") if joined and joined[0] else "/proc/self"
    return idmaps.read_text(f"{process}/setgroups").strip() != "deny"


def write_maps(maps: Maps, pid: int) -> None:
    """Write the maps of the user namespace of *pid*, which waits for them.

    Blocks: for newuidmap and newgidmap
    Raises: KernelError(write), NotSupported with the tools' words
    """
    if maps.how == TOOLS:
        _by_tools(maps, pid)
        return
    if maps.how == SINGLE:
        # Without privilege gid_map can only be written after setgroups is denied (CVE-2014-8989).
        _write(f"/proc/{pid}/setgroups", "deny")
    _write(f"/proc/{pid}/uid_map", _text(maps.uids))
    _write(f"/proc/{pid}/gid_map", _text(maps.gids))


def _text(mappings: tuple[IdMapping, ...]) -> str:
    return "".join([f"{m.container_id} {m.host_id} {m.size}\n" for m in mappings])


def _write(path: str, text: str) -> None:
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CLOEXEC)
        try:
            posix.write(fd, text.encode())
        finally:
            posix.close(fd)
    except OSError as error:
        raise KernelError("write", error.errno or 0, f"{path} ({' '.join(text.split())})") from None


def _by_tools(maps: Maps, pid: int) -> None:
    """Run both tools at once: each waits for the user database."""
    environ = {"PATH": posix.environ.get(b"PATH", b"").decode("utf-8", "replace")}
    started: list[tuple[str, int]] = []
    with memfd("map-tools") as said:
        try:
            for name, mappings in (("newuidmap", maps.uids), ("newgidmap", maps.gids)):
                tool = idmaps.find_tool(name, environ)
                if not tool:
                    raise NotSupported(f"user namespace with these maps: {name} not found",
                                       hint="install it: apt-get install uidmap")  # fmt: skip
                started.append((name, spawn([tool, str(pid), *_text(mappings).split()], fds={1: said, 2: said})))
        finally:
            failed = [name for name, helper in started if wait_pid(helper) != 0]
        if failed:
            posix.lseek(said.fileno(), 0, 0)
            words = read_all(said, 4096).decode("utf-8", "replace").strip()
            hint = "the ids must be yours or be granted to you in /etc/subuid and /etc/subgid"
            raise RootlessError(f"{' and '.join(failed)}: {words or 'failed'}", hint=hint)
