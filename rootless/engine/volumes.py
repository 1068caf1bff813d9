"""Volumes: make them, find them, describe them, remove them.

Source: podman-volume(1) of podman 4.3, its documents and words
"""

from __future__ import annotations

import os
import time

from rootless.errors import InUse, NotFound, StoreError, UsageError
from rootless.plan import volumeoptions
from rootless.plan.values import NAME_RULE, is_name
from rootless.store import containers, events, layout, volumes

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

    from rootless.store.layout import Roots

    Record = dict[str, Any]

EXIT_IN_USE, EXIT_NOT_KNOWN = 2, 1
DRIVER = "local"


def create(
    roots: Roots, name: str, *, driver: str, labels: dict[str, str], options: tuple[tuple[str, str], ...]
) -> str:
    """Make a volume; return its name, a random one where none is given.

    Raises: UsageError, StoreError in podman's words
    """
    if name and not is_name(name):
        raise UsageError(f"running volume create option: {NAME_RULE}")
    name = name or os.urandom(32).hex()
    if driver != DRIVER:
        raise UsageError(
            f"volume {name} uses volume plugin {driver} but it could not be retrieved: no volume plugin with name "
            f"{driver} available: required plugin missing",
            hint="there is one driver: local",
        )
    kept = volumeoptions.check(options)
    layout.prepare_data(roots)
    if not volumes.make_volume(roots, name, labels=tuple(labels.items()), options=kept):
        raise StoreError(f"volume with name {name} already exists: volume already exists")
    events.emit(roots, "volume", "create", name=name)
    return name


def find(roots: Roots, text: str) -> str:
    """Return the name of the volume *text*, which may be the beginning of one name only.

    Raises: NotFound, StoreError in podman's words
    """
    every = volumes.list_volumes(roots)
    if text in every:
        return text
    found = [name for name in every if text and name.startswith(text)]
    if len(found) > 1:
        raise StoreError(f'more than one result for volume name "{text}": volume already exists')
    if not found:
        raise not_known(text)
    return found[0]


def not_known(text: str) -> NotFound:
    """Return podman's error for a volume that does not exist."""
    error = NotFound("volume", text)
    error.message = f'no volume with name "{text}" found: no such volume'
    error.args = (error.message,)
    error.code = EXIT_NOT_KNOWN
    return error


def read_all(roots: Roots) -> list[Record]:
    """Return the records of all volumes, by name; one that is removed meanwhile is left out."""
    found = []
    for name in volumes.list_volumes(roots):
        try:
            found.append(volumes.read_volume(roots, name))
        except NotFound:
            continue
    return found


def document(roots: Roots, record: Record, users: dict[str, list[str]]) -> dict[str, Any]:
    """Return what podman prints of a volume. *users*: store.volumes.users"""
    name = str(record["name"])
    options = dict(sorted((record.get("options") or {}).items()))
    found: dict[str, Any] = {
        "Name": name,
        "Driver": DRIVER,
        "Mountpoint": f"{volumes.volumes_dir(roots)}/{name}/_data",
        "CreatedAt": created_at(record),
        "Labels": dict(sorted((record.get("labels") or {}).items())),
        "Scope": "local",
        "Options": options,
    }
    for key in ("UID", "GID"):
        if int(options.get(key) or 0):
            found[key] = int(options[key])
    if record.get("anonymous"):
        found["Anonymous"] = True
    mounted = bool(options) and bool(volumeoptions.parse(options).type)
    alive = [cid for cid in users.get(name, ()) if containers.is_alive(roots, cid)] if mounted else []
    found["MountCount"] = len(alive)
    if record.get("fresh"):
        found["NeedsCopyUp"] = True
        if "UID" not in options and "GID" not in options:
            found["NeedsChown"] = True
    return found


def created_at(record: Record) -> str:
    """Return when a volume was made, as RFC 3339."""
    return str(record.get("created_at") or containers.rfc3339(int(float(record.get("created") or 0) * 1e9)))


def filter_of(texts: Iterable[str], roots: Roots, *, prune: bool = False) -> Callable[[Record], bool]:
    """Return what --filter lets through; every one of them must agree.

    Raises: UsageError in podman's words
    """
    tests: list[Callable[[Record], bool]] = []
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f"filter input must be in the form of filter=value: {text} is invalid")
        if key == "label!" and not prune:
            raise UsageError(f'"{key}" is an invalid volume filter')
        tests.append(_test(key, value, roots))
    return lambda record: all([test(record) for test in tests])


def _test(key: str, value: str, roots: Roots) -> Callable[[Record], bool]:
    from rootless.engine.filters import labels_match, matcher, until

    if key == "name":
        named = matcher(value)
        return lambda record: named(str(record["name"]))
    if key in ("driver", "scope"):
        return lambda record: value == DRIVER
    if key == "label":
        return lambda record: labels_match(record.get("labels") or {}, value)
    if key == "label!":
        return lambda record: not labels_match(record.get("labels") or {}, value)
    if key == "opt":
        name, equals, wanted = value.partition("=")
        return lambda record: name in (record.get("options") or {}) and (
            not equals or record["options"][name] == wanted)  # fmt: skip
    if key == "until":
        limit = until(value)
        return lambda record: float(record.get("created") or 0) * 1e9 < limit
    if key == "dangling":
        if value.lower() not in ("true", "1", "false", "0"):
            raise UsageError(f'"{value}" is not a valid value for the "dangling" filter - must be true or false')
        used, wanted_free = volumes.users(roots), value.lower() in ("true", "1")
        return lambda record: (record["name"] not in used) == wanted_free
    raise UsageError(f'"{key}" is an invalid volume filter')


def remove(roots: Roots, name: str) -> None:
    """Remove a volume that nobody uses. Call it inside our user namespace.

    Raises: NotFound, InUse (2) in podman's words
    """
    try:
        lock = volumes.hold(roots, name, exclusive=True)
    except NotFound:
        raise not_known(name) from None
    used_by = volumes.users(roots).get(name, [])
    if lock is None and not used_by:
        # A container is being made with it, or one with --rm is just ending.
        used_by = _wait_for_user(roots, name)
    if used_by or lock is None:
        if lock is not None:
            lock.close()
        raise in_use(name, used_by)
    with lock:
        volumes.remove_volume(roots, name)
    events.emit(roots, "volume", "remove", name=name)


def _wait_for_user(roots: Roots, name: str) -> list[str]:
    for _ in range(20):
        found = volumes.users(roots).get(name, [])
        if found:
            return found
        time.sleep(0.01)
    return []


def in_use(name: str, used_by: list[str]) -> InUse:
    """Return podman's error for a volume that containers have."""
    error = InUse(
        f"volume {name} is being used by the following container(s): {', '.join(used_by)}: volume is being used",
        hint="rootless volume rm -f removes the containers too",
    )
    error.code = EXIT_IN_USE
    return error
