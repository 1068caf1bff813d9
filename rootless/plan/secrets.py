"""Secrets of a container: what --secret asks for, as files and variables with their values.

Nothing of this goes into a record: the values are read anew at each start.

Source: podman-run(1) "--secret"
"""

from __future__ import annotations

from rootless.errors import NotFound
from rootless.plan import defaults
from rootless.plan.options import RunOptions
from rootless.spec.record import record, replace
from rootless.spec.runtime import Spec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def no_secret(name: str) -> tuple[str, bytes]:
    """Stand in where there is no store of secrets."""
    raise NotFound("secret", name)


@record
class SecretFile:
    """A secret that is shown to the container as a file; *uid* and *gid* are ids of the container."""

    target: str
    content: bytes
    uid: int
    gid: int
    mode: int


def secrets_of(
    options: RunOptions, read: Callable[[str], tuple[str, bytes]]
) -> tuple[tuple[SecretFile, ...], tuple[str, ...]]:
    """Return the secrets that become files and those that become variables, with their values."""
    files: dict[str, SecretFile] = {}
    env: dict[str, str] = {}
    for secret in options.secrets:
        name, value = read(secret.source)
        if secret.kind == "env":
            env[secret.target or name] = value.decode("utf-8", "surrogateescape")
            continue
        target = secret.target or name
        if not target.startswith("/"):
            target = f"{defaults.SECRETS}/{target}"
        files[target] = SecretFile(target, value, secret.uid, secret.gid, secret.mode)
    return tuple(files.values()), tuple([f"{key}={value}" for key, value in env.items()])


def places(files: tuple[SecretFile, ...]) -> tuple[str, ...]:
    """Return the targets of mounts that *files* need: one directory for those in it, and each other file."""
    inside = f"{defaults.SECRETS}/"
    places = [defaults.SECRETS if file.target.startswith(inside) else file.target for file in files]
    return tuple(dict.fromkeys(places))


def with_variables(spec: Spec, lines: tuple[str, ...]) -> Spec:
    """Return *spec* with *lines* (NAME=VALUE) in the environment of its process, in place of others of that name."""
    process = spec.process
    if process is None or not lines:
        return spec
    names = tuple([line[: line.index("=") + 1] for line in lines])
    env = tuple([line for line in process.env if not line.startswith(names)]) + lines
    return replace(spec, process=replace(process, env=env))
