"""Credentials for a registry: from flags, from auth.json and Docker's config.json, from credential helpers.

Shape:   {"auths": {"REGISTRY[/NAMESPACE...]": {"auth": base64("USER:PASSWORD"), "identitytoken": ...}},
         "credHelpers": {"REGISTRY": "NAME"}, "credsStore": "NAME"}; a helper is docker-credential-NAME on PATH
Source:  containers-auth.json(5); Docker's `docker login` and docker-credential-helpers protocol
"""

from __future__ import annotations

import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any

import trio

from rootless.errors import ImageError, UsageError
from rootless.proto.wwwauth import Credentials

HELPER_S = 30.0
DOCKER_HUB = ("docker.io", "index.docker.io", "registry-1.docker.io")
DOCKER_HUB_KEY = "https://index.docker.io/v1/"


def parse_creds(text: str) -> Credentials:
    """Return what `--creds USER[:PASSWORD]` means.

    Raises: UsageError
    """
    user, colon, password = text.partition(":")
    if not user or not colon:
        raise UsageError("credentials are missing a password" if user else "credentials need a user name",
                         hint="write --creds USER:PASSWORD")  # fmt: skip
    return Credentials(user, password)


def authfiles(environ: Mapping[str, str], uid: int, explicit: str = "") -> tuple[str, ...]:
    """Return the files to look into, first hit wins; *uid* is the caller's on the host.

    Raises: ImageError when a file that was named does not exist
    """
    named = explicit or environ.get("REGISTRY_AUTH_FILE", "")
    if named:
        if not os.path.exists(named):
            raise ImageError(
                f"authentication file {named}: no such file or directory",
                hint="it was named by --authfile or REGISTRY_AUTH_FILE",
            )
        return (named,)
    home = environ.get("HOME", "")
    config = environ.get("XDG_CONFIG_HOME") or (f"{home}/.config" if home else "")
    docker = environ.get("DOCKER_CONFIG") or (f"{home}/.docker" if home else "")
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    found = [f"{runtime}/containers/auth.json"] if runtime else []
    fallback = f"/run/containers/{uid}/auth.json"
    if not runtime and os.path.isfile(fallback):  # below a directory that is often root's alone
        found.append(fallback)
    if config:
        found.append(f"{config}/containers/auth.json")
    if docker:
        found.append(f"{docker}/config.json")
    return tuple(found)


class Keyring:
    """Finds credentials when a registry asks for them; *given* beats every file."""

    def __init__(self, files: tuple[str, ...], given: Credentials | None = None) -> None:
        self._files = files
        self._given = given

    async def lookup(self, domain: str, path: str) -> Credentials | None:
        """Return the credentials for the repository *path* of *domain*, None when there are none.

        Checkpoint: only when a helper runs
        Raises: ImageError when a file cannot be read or is not what it should be
        """
        if self._given is not None:
            return self._given
        for file in self._files:
            config = load(file)
            if config is None:
                continue
            found = find(config, domain, path, file)
            if found is None:
                helper = helper_for(config, domain)
                if helper:
                    found = await ask_helper(helper, domain)
            if found is not None:
                return found
        return None


def load(file: str) -> dict[str, Any] | None:
    """Return the decoded file, None when it is absent.

    Raises: ImageError
    """
    try:
        with open(file, "rb") as stream:
            text = stream.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ImageError(f"authentication file {file}: {(error.strerror or str(error)).lower()}") from error
    try:
        value = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ImageError(f"authentication file {file}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ImageError(f"authentication file {file}: not an object")
    return value


def keys_for(domain: str, path: str) -> Iterator[str]:
    """Yield the keys under which credentials may be kept, the most specific first."""
    names = DOCKER_HUB if domain in DOCKER_HUB else (domain,)
    parts = path.split("/")
    for name in names:
        for count in range(len(parts), -1, -1):
            yield "/".join((name, *parts[:count]))


def find(config: dict[str, Any], domain: str, path: str, file: str) -> Credentials | None:
    """Return the credentials that *config*, read from *file*, holds itself.

    Raises: ImageError when an entry is malformed
    """
    auths = config.get("auths")
    if not isinstance(auths, dict):
        return None
    # Docker writes addresses (https://HOST/v1/), podman bare names.
    plain = {_bare(key): entry for key, entry in auths.items()}
    for key in keys_for(domain, path):
        entry = auths.get(key, plain.get(key))
        if not isinstance(entry, dict):
            continue
        token = entry.get("identitytoken") or ""
        user, password = entry.get("username") or "", entry.get("password") or ""
        encoded = entry.get("auth") or ""
        if encoded:
            try:
                user, _, password = b64decode(encoded, validate=True).decode("utf-8").strip("\0").partition(":")
            except (ValueError, TypeError):
                raise ImageError(
                    f"authentication file {file}: the entry for {key} is malformed",
                    hint=f"log in to {domain} again",
                ) from None
        if user or token:
            return Credentials(str(user), str(password), str(token))
    return None


def _bare(key: str) -> str:
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return key.removesuffix("/v1").removesuffix("/v2")


def helper_for(config: dict[str, Any], domain: str) -> str:
    """Return the name of the credential helper for *domain*, "" when there is none."""
    helpers = config.get("credHelpers")
    if isinstance(helpers, dict):
        for name in DOCKER_HUB if domain in DOCKER_HUB else (domain,):
            found = helpers.get(name)
            if isinstance(found, str) and found:
                return found
    store = config.get("credsStore")
    return store if isinstance(store, str) else ""


async def ask_helper(name: str, domain: str) -> Credentials | None:
    """Ask docker-credential-NAME for *domain*; None when it has nothing.

    Checkpoint: yes
    Raises: ImageError when it cannot be run
    """
    if "/" in name:
        raise ImageError(f"credential helper {name!r}: not a plain name")
    program = f"docker-credential-{name}"
    server = DOCKER_HUB_KEY if domain in DOCKER_HUB else domain
    try:
        with trio.fail_after(HELPER_S):
            done = await trio.run_process(
                [program, "get"], stdin=server.encode(), capture_stdout=True, stderr=subprocess.DEVNULL, check=False
            )
    except OSError as error:
        raise ImageError(
            f"credential helper {program}: {(error.strerror or str(error)).lower()}",
            hint="install it, or remove it from credHelpers and credsStore of the configuration",
        ) from error
    except trio.TooSlowError:
        raise ImageError(f"credential helper {program}: no answer within {HELPER_S:.0f} s") from None
    if done.returncode != 0:
        return None
    try:
        value = json.loads(done.stdout or b"")
        user, secret = str(value["Username"]), str(value["Secret"])
    except (ValueError, KeyError, TypeError):
        return None
    if user == "<token>":
        return Credentials(identity_token=secret)
    return Credentials(user, secret) if user or secret else None
