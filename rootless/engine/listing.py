"""Containers as listings show them: what they are, what they do now, the words of `podman ps`.

Nothing here is expensive to import or to call: a listing reads one small file for each container.

Source: podman-ps(1) of podman 4.3 and its output
"""

from __future__ import annotations

from rootless.spec import moment
from rootless.store import overview

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rootless.store.containers import Container
    from rootless.store.layout import Roots

ALIVE = ("running", "starting", "initialized", "paused", "stopping")
NAMESPACES = (("Mnt", "mnt"), ("Cgroup", "cgroup"), ("Ipc", "ipc"), ("Net", "net"), ("Pidns", "pid"), ("Uts", "uts"),
              ("User", "user"))  # fmt: skip


class Listed:
    """A container and what it does now.

    Shape: *status* as store/overview.py says it; *health* is starting, healthy, unhealthy or empty
    """

    __slots__ = ("data", "health", "id", "name", "status")

    def __init__(self, cid: str, data: dict[str, Any], status: str, health: str = "") -> None:
        self.id, self.data, self.status, self.health = cid, data, status, health
        self.name = str(data.get("name", ""))

    @property
    def container(self) -> Container:
        from rootless.store.containers import Container

        return Container(self.id, self.name, self.data)

    @property
    def exit_code(self) -> int:
        return int(self.state.get("exit_code") or 0)

    @property
    def state(self) -> dict[str, Any]:
        return self.data.get("state") or {}

    @property
    def pid(self) -> int:
        return int(self.state.get("pid") or 0) if self.status in ALIVE else 0

    @property
    def image(self) -> str:
        """The name of its image; nothing for one that was made from a directory."""
        return str(self.data.get("image") or "") if self.data.get("image_id") else ""

    @property
    def image_id(self) -> str:
        return str(self.data.get("image_id") or "")

    def moment(self, name: str) -> int | None:
        """Return when it was `created`, `started` or `finished`, in nanoseconds; None when it was not."""
        return moment.parse(self.data.get(name) if name == "created" else self.state.get(name))


def list_all(roots: Roots, environ: Mapping[str, str] | None = None) -> list[Listed]:
    """Return all containers, oldest first; with *environ*, what dead supervisors left is ended and put away before.

    Raises: RootlessError
    """
    held, orphans = overview.locks(roots)
    if environ is not None and (orphans or overview.half_done(roots)):
        from rootless.engine.containers import settle

        settle(roots, environ)
        held, _ = overview.locks(roots)
    machine = overview.machine_id()
    found = []
    records = overview.records(roots)
    lost = [cid for cid, data in records if overview.is_lost(roots, cid, data, held, machine)]
    if lost and environ is not None:
        from rootless.engine.containers import settle

        settle(roots, environ, lost=lost)
        records = overview.records(roots)
    for cid, data in records:
        status = overview.status(roots, cid, data, held, machine)
        health = ""
        if cid in held:
            known = overview.health(roots, cid)
            if known is not None:
                health = str(known.get("Status") or "")
        found.append(Listed(cid, data, status, health))
    return found


def find(roots: Roots, text: str) -> Listed:
    """Return the container *text*.

    Raises: NotFound in podman's words; StoreError when it is ambiguous
    """
    found = overview.find(roots, text)
    if found is None:
        from rootless.engine.filters import no_container

        raise no_container(text)
    return look_at(roots, *found)


def latest(roots: Roots) -> Listed:
    """Return the container that was made last.

    Raises: NotFound
    """
    every = overview.records(roots)
    if not every:
        from rootless.errors import NotFound

        error = NotFound("container", "")
        error.message = "no containers to act on: no such container"
        raise error
    return look_at(roots, *every[-1])


def look_at(roots: Roots, cid: str, data: dict[str, Any]) -> Listed:
    """Return what the container with this record does now."""
    alive = {cid} if overview.held(roots, cid) else set()
    status = overview.status(roots, cid, data, alive, overview.machine_id())
    known = overview.health(roots, cid) if alive else None
    return Listed(cid, data, status, str((known or {}).get("Status") or ""))


class Commands:
    """The words of a container without the entrypoint that its image, or --entrypoint, put before them."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._entries: dict[str, tuple[str, ...]] = {}

    def of(self, data: dict[str, Any]) -> tuple[str, ...]:
        """Return the command of the container with the record *data*."""
        words = tuple([str(word) for word in data.get("args") or ()])
        asked = data.get("options") or {}
        entry = asked.get("entrypoint")
        if entry is None:
            image_id = str(data.get("image_id") or "")
            if image_id not in self._entries:
                self._entries[image_id] = self._entry(image_id)
            entry = self._entries[image_id]
        entry = tuple([word for word in entry if word])
        return words[len(entry) :] if words[: len(entry)] == entry else words

    def _entry(self, image_id: str) -> tuple[str, ...]:
        config = (overview.image(self._roots, image_id).get("config") or {}).get("config")
        return tuple((config.get("Entrypoint") or ()) if isinstance(config, dict) else ())


def namespaces(pid: int) -> dict[str, str]:
    """Return the numbers of a process's namespaces as `ps --ns` shows them; none of a process that is not there."""
    import posix

    found: dict[str, str] = {}
    for field, name in NAMESPACES if pid else ():
        try:
            found[field] = posix.readlink(f"/proc/{pid}/ns/{name}").partition("[")[2].rstrip("]")
        except OSError:
            continue
    return found


def merged_ports(ports: list[list[Any]]) -> list[tuple[str, int, int, int, str]]:
    """Return (address, host port, container port, how many, protocol), neighbours in one range; podman's order."""
    found: list[tuple[str, int, int, int, str]] = []
    for host_ip, host, inside, protocol in sorted(ports, key=lambda port: (port[3], port[0], port[2], port[1])):
        address = "" if host_ip in ("0.0.0.0", "::") else str(host_ip)
        if found:
            before = found[-1]
            if (before[0], before[1] + before[3], before[2] + before[3], before[4]) == (
                address,
                host,
                inside,
                protocol,
            ):
                found[-1] = (address, before[1], before[2], before[3] + 1, protocol)
                continue
        found.append((address, int(host), int(inside), 1, str(protocol)))
    return found


def ports_text(ports: list[list[Any]]) -> str:
    """Return published ports as the table shows them."""
    parts = []
    for address, host, inside, count, protocol in merged_ports(ports):
        outer, inner = (
            (str(host), str(inside)) if count == 1 else (f"{host}-{host + count - 1}", f"{inside}-{inside + count - 1}")
        )
        parts.append(f"{address or '0.0.0.0'}:{outer}->{inner}/{protocol}")
    return ", ".join(parts)
