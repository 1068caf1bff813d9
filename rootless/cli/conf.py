"""containers.conf: what `run` and `create` do where no flag says otherwise.

The files are merged key by key, a later one wins:
    /usr/share/containers/containers.conf
    /etc/containers/containers.conf, /etc/containers/containers.conf.d/*.conf
    ~/.config/containers/containers.conf, ~/.config/containers/containers.conf.d/*.conf
CONTAINERS_CONF names a file that is read instead of all of them. docs/configuration.md lists the keys that mean
something here; the others are passed over.

A TOML reader costs more than the whole start of a container, so what the files came to is kept below the run root
with their times and sizes, and read again while these are the same.

Shape:  RUN/containers.conf.json  {"files": [[path, mtime_ns, size], ...], "defaults": {...}}
Source: containers.conf(5)
"""

from __future__ import annotations

import os

from rootless.errors import UsageError
from rootless.spec import jsontext

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rootless.cli.parser import Parsed

CACHE = "containers.conf.json"
_SYSTEM = ("/usr/share/containers/containers.conf", "/etc/containers/containers.conf")

# key of [containers] -> flag whose default it is
FLAGS = {
    "cgroupns": "cgroupns", "cgroups": "cgroups", "dns_options": "dns-option", "dns_searches": "dns-search",
    "dns_servers": "dns", "env_host": "env-host", "http_proxy": "http-proxy", "init": "init", "ipcns": "ipc",
    "log_driver": "log-driver", "netns": "network", "no_hosts": "no-hosts", "pidns": "pid", "read_only": "read-only",
    "shm_size": "shm-size", "tz": "tz", "umask": "umask", "userns": "userns", "utsns": "uts",
}  # fmt: skip
# ... and to what its values are added in front
LISTS = {"annotations": "annotation", "default_ulimits": "ulimit", "devices": "device", "mounts": "mount",
          "volumes": "volume"}  # fmt: skip
ENGINE = {"detach_keys": "detach-keys", "pull_policy": "pull", "stop_timeout": "stop-timeout"}
NETWORKS = ("", "host", "none", "private", "slirp4netns")


def files(environ: Mapping[str, str]) -> list[list[Any]]:
    """Return the files that are there as [path, mtime in ns, size], the weakest first."""
    only = environ.get("CONTAINERS_CONF", "")
    if only:
        return _stamps([only])
    home = environ.get("XDG_CONFIG_HOME") or f"{environ.get('HOME', '')}/.config"
    paths = list(_SYSTEM) + _drop_ins("/etc/containers")
    if home.startswith("/"):
        paths += [f"{home}/containers/containers.conf", *_drop_ins(f"{home}/containers")]
    return _stamps(paths)


def _drop_ins(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(f"{directory}/containers.conf.d"))
    except OSError:
        return []
    return [f"{directory}/containers.conf.d/{name}" for name in names if name.endswith(".conf")]


def _stamps(paths: list[str]) -> list[list[Any]]:
    found: list[list[Any]] = []
    for path in paths:
        try:
            status = os.stat(path)
        except OSError:
            continue
        found.append([path, status.st_mtime_ns, status.st_size])
    return found


def read(environ: Mapping[str, str], run_root: Callable[[], str]) -> dict[str, Any]:
    """Return the defaults that the files set, {} for none.

    Shape:  {"flags": {flag: [value, ...]}, "lists": {flag: [value, ...]}, "fields": {field of RunOptions: value}};
            *run_root* returns where the cache is, and is only asked when there is a file
    Raises: UsageError - a file is not TOML, or a value has another type
    """
    there = files(environ)
    if not there:
        return {}
    cache = f"{run_root()}/{CACHE}"
    try:
        with open(cache, "rb") as file:
            kept = jsontext.loads(file.read())
        if kept["files"] == there:
            defaults: dict[str, Any] = kept["defaults"]
            return defaults
    except (OSError, ValueError, LookupError, TypeError):
        pass
    from rootless.cli.confread import defaults_of

    found = defaults_of([str(path) for path, _, _ in there])
    _keep(cache, jsontext.dumps({"files": there, "defaults": found}))
    return found


def _keep(cache: str, text: str) -> None:
    """Write the cache; a run root that is not there yet, or full, keeps nothing."""
    staged = f"{cache}.{os.getpid()}"
    try:
        fd = os.open(staged, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.write(fd, text.encode())
        finally:
            os.close(fd)
        os.rename(staged, cache)
    except OSError:
        return


def apply(parsed: Parsed, defaults: dict[str, Any]) -> dict[str, Any]:
    """Put *defaults* into what the command line left open; return the fields of RunOptions that no flag sets."""
    given = parsed.values
    maps = any([name in given for name in ("uidmap", "gidmap", "subuidname", "subgidname")])
    for flag, values in defaults.get("flags", {}).items():
        if flag not in given and not (flag == "userns" and maps):
            given[flag] = list(values)
    taken = {text.split(":")[1] if text.count(":") else text for text in given.get("volume", ())}
    taken |= {text.partition(":")[0] for text in given.get("tmpfs", ())}
    for flag, values in defaults.get("lists", {}).items():
        wanted = [text for text in values if flag != "volume" or text.split(":")[min(1, text.count(":"))] not in taken]
        if wanted:
            given[flag] = wanted + given.get(flag, [])
    log = defaults.get("log", {})
    options = given.get("log-opt", [])
    more = [f"{key}={value}" for key, value in log.items() if not any([o.startswith(f"{key}=") for o in options])]
    if more:
        given["log-opt"] = more + options
    if "security" in defaults and not any([o.startswith("seccomp") for o in given.get("security-opt", ())]):
        given["security-opt"] = [*defaults["security"], *given.get("security-opt", [])]
    return {name: _tuples(value) for name, value in defaults.get("fields", {}).items()}


def _tuples(value: Any) -> Any:
    return tuple([_tuples(one) for one in value]) if isinstance(value, list) else value


def wrong(path: str, what: str) -> UsageError:
    """Return the error for a file that cannot be used."""
    return UsageError(f"decode configuration {path}: {what}")
