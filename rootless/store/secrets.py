"""Secrets on disk: what they are called and when they were made, apart from what they say.

Shape:
    DATA/secrets/            0700
    |- ID.json               id (25 hex digits), name, created, updated, driver, driver_options, labels; 0600
    |- ID.data               the value, 0600; it goes first when a secret is removed
    |- names/NAME            a file with the ID
    flock on DATA/secrets: exclusive for who makes or removes one; what has no record then was left by a crash.

Source: podman-secret-create(1); podman 4.3's words
"""

from __future__ import annotations

import fcntl
import os

from rootless.errors import NotFound, RootlessError, StoreError
from rootless.kernel.fds import Fd, open_fd
from rootless.spec.record import record
from rootless.store import atomic, containers, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.store.layout import Roots

SECRETS = "secrets"
DRIVERS = ("file",)
MAX_BYTES = 512000
_HEX_DIGITS = 25
_ALNUM = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")
_NAME = _ALNUM | frozenset("-_.")


@record
class Secret:
    """One secret without its value."""

    id: str
    name: str
    data: dict[str, Any]


def directory(roots: Roots) -> str:
    """Return where the secrets are."""
    return f"{roots.data}/{SECRETS}"


def create(
    roots: Roots, name: str, value: bytes, *, driver: str = "file", driver_options: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
) -> Secret:  # fmt: skip
    """Keep a new secret.

    Raises: RootlessError, StoreError in podman's words
    """
    good = 0 < len(name) <= 64 and _NAME.issuperset(name) and name[0] in _ALNUM and name[-1] in _ALNUM
    if not good:
        raise RootlessError(
            "only 64 [a-zA-Z0-9-_.] characters allowed, and the start and end character must be [a-zA-Z0-9]: "
            f"{name}: invalid secret name"
        )
    if not 0 < len(value) < MAX_BYTES:
        raise RootlessError("secret data must be larger than 0 and less than 512000 bytes")
    if driver not in DRIVERS:
        raise RootlessError("invalid driver", hint="secrets are kept by the driver file")
    place = directory(roots)
    layout.prepare_data(roots)
    for path in (place, f"{place}/names"):
        layout.make_directory(path)
    secret_id = os.urandom(16).hex()[:_HEX_DIGITS]
    now = containers.now()
    options = {"path": f"{place}", **(driver_options or {})}
    data: dict[str, Any] = {"id": secret_id, "name": name, "created": now, "updated": now, "driver": driver,
                            "driver_options": options, "labels": labels or {}}  # fmt: skip
    with _locked(place):
        _sweep(place)
        holder = (atomic.read_file(f"{place}/names/{name}") or b"").decode("ascii", "replace")
        if _read(roots, holder) is not None:
            raise StoreError(f"{name}: secret name in use", hint=f"rootless secret rm {name}")
        # The record comes last, by rename: a crash before leaves what the next one sweeps.
        atomic.write_new(f"{place}/names/{name}", secret_id.encode())
        atomic.write_new(f"{place}/{secret_id}.data", value, sync=True)
        atomic.write_record(f"{place}/{secret_id}.json", data, sync=True)
    return Secret(secret_id, name, data)


def _locked(place: str) -> Fd:
    """Return the directory with its lock held; without a lock where this file system has none."""
    directory = open_fd(place, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(directory.fileno(), fcntl.LOCK_EX)
    except OSError:
        pass  # two at one time may then make the same name; the later one has it
    return directory


def _sweep(place: str) -> None:
    """Delete values that have no record. Hold the lock."""
    names = atomic.names_in(place)
    for name in names:
        if name.endswith(".data") and f"{name[:-5]}.json" not in names:
            atomic.remove_file(f"{place}/{name}")


def list_secrets(roots: Roots) -> list[Secret]:
    """Return all secrets, oldest first."""
    names = [name[:-5] for name in atomic.names_in(directory(roots)) if name.endswith(".json")]
    found = [secret for secret in [_read(roots, name) for name in names] if secret is not None]
    return sorted(found, key=_created)


def _created(secret: Secret) -> str:
    return str(secret.data.get("created", ""))


def find(roots: Roots, text: str) -> Secret:
    """Return the secret named *text*, or whose id begins with it.

    Raises: NotFound, StoreError - podman's words
    """
    if text and "/" not in text and text not in (".", ".."):
        holder = atomic.read_file(f"{directory(roots)}/names/{text}")
        found = _read(roots, holder.decode("ascii", "replace")) if holder else None
        if found is not None:
            return found
    matches = [secret for secret in list_secrets(roots) if text and secret.id.startswith(text)]
    if len(matches) > 1:
        raise StoreError(f"more than one result secret with prefix {text}: secret is ambiguous")
    if not matches:
        error = NotFound("secret", text)
        error.message = f'no secret with name or id "{text}": no such secret'
        error.args = (error.message,)
        raise error
    return matches[0]


def read_value(roots: Roots, text: str) -> tuple[str, bytes]:
    """Return the whole name and the value of the secret *text*. Raises: NotFound, StoreError"""
    secret = find(roots, text)
    value = atomic.read_file(f"{directory(roots)}/{secret.id}.data")
    if value is None:
        raise StoreError(f"the value of secret {secret.name} is gone", hint=f"rootless secret rm {secret.name}")
    return secret.name, value


def remove(roots: Roots, secret: Secret) -> None:
    """Delete a secret. Raises: StoreError"""
    place = directory(roots)
    with _locked(place):
        atomic.remove_file(f"{place}/{secret.id}.data")
        atomic.remove_file(f"{place}/{secret.id}.json")
        path = f"{place}/names/{secret.name}"
        if (atomic.read_file(path) or b"").decode("ascii", "replace") == secret.id:
            atomic.remove_file(path)
        _sweep(place)


def _read(roots: Roots, secret_id: str) -> Secret | None:
    if not secret_id or "/" in secret_id:
        return None
    data = atomic.read_record(f"{directory(roots)}/{secret_id}.json")
    return None if data is None else Secret(secret_id, str(data.get("name", "")), data)
