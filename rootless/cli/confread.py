"""Read containers.conf: only when its files have changed since they were read last.

Source: containers.conf(5)
"""

from __future__ import annotations

import tomllib
from typing import Any

from rootless.cli.conf import ENGINE, FLAGS, LISTS, NETWORKS, wrong
from rootless.plan import defaults


def defaults_of(paths: list[str]) -> dict[str, Any]:
    """Return what the files set, in the shape of `conf.read`; the last one wins. Raises: UsageError"""
    tables: dict[str, dict[str, tuple[str, Any]]] = {"containers": {}, "engine": {}}
    for path in paths:
        try:
            with open(path, "rb") as file:
                document = tomllib.load(file)
        except OSError:
            continue  # it is not ours to read, or has just gone
        except tomllib.TOMLDecodeError as error:
            raise wrong(path, str(error)) from None
        for name, found in tables.items():
            table = document.get(name, {})
            if not isinstance(table, dict):
                raise wrong(path, f"{name} is not a table")
            found.update({key: (path, value) for key, value in table.items()})
    return _reduced(tables["containers"], tables["engine"])


def _reduced(containers: dict[str, tuple[str, Any]], engine: dict[str, tuple[str, Any]]) -> dict[str, Any]:
    flags: dict[str, list[str]] = {}
    lists: dict[str, list[str]] = {}
    fields: dict[str, Any] = {}
    log: dict[str, str] = {}
    found: dict[str, Any] = {}
    for key, (path, value) in containers.items():
        if key in FLAGS:
            words = _words(path, key, value)
            if words and any(words) and not (key == "netns" and words[0] not in NETWORKS):
                flags[FLAGS[key]] = words
        elif key in LISTS:
            words = _words(path, key, value)
            if words:
                lists[LISTS[key]] = words
        elif key == "env":
            fields["default_env"] = [*_pairs(path, key, value), ["container", "rootless"]]
        elif key == "default_capabilities":
            names = [word.upper() for word in _words(path, key, value)]
            fields["default_capabilities"] = [n if n.startswith("CAP_") else f"CAP_{n}" for n in names]
        elif key == "default_sysctls":
            pairs = _pairs(path, key, value)
            fields["default_sysctls"] = [pair for pair in pairs if pair[0].startswith("net.")]
            rest = ["=".join(pair) for pair in pairs if not pair[0].startswith("net.")]
            if rest:
                lists["sysctl"] = rest
        elif key == "pids_limit":
            fields["default_pids"] = max(_number(path, key, value), 0)
        elif key == "log_size_max":
            if _number(path, key, value) > 0:
                log["max-size"] = str(value)
        elif key == "log_tag":
            log["tag"] = _words(path, key, value)[0]
        elif key == "seccomp_profile" and value:
            found["security"] = [f"seccomp={_words(path, key, value)[0]}"]
    for key, (path, value) in engine.items():
        if key in ENGINE:
            flags[ENGINE[key]] = _words(path, key, value)
        elif key == "cgroup_manager" and value in ("systemd", "cgroupfs"):
            fields["cgroup_manager"] = value
    for name, ours in (("default_capabilities", sorted(defaults.CAPABILITIES)),
                       ("default_sysctls", [list(pair) for pair in defaults.NETWORK_SYSCTLS])):  # fmt: skip
        if sorted(fields.get(name, ())) == ours:
            del fields[name]  # what distributions write there is what happens anyway
    for name, part in (("flags", flags), ("lists", lists), ("fields", fields), ("log", log)):
        if part:
            found[name] = part
    return found


def _words(path: str, key: str, value: Any) -> list[str]:
    """Return a value as a flag would have it. Raises: UsageError"""
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, int)):
        return [str(value)]
    if isinstance(value, list) and all(isinstance(word, str) for word in value):
        return list(value)
    raise wrong(path, f"{key} has a value of another type")


def _pairs(path: str, key: str, value: Any) -> list[list[str]]:
    found = []
    for word in _words(path, key, value):
        name, equals, rest = word.partition("=")
        if not equals or not name:
            raise wrong(path, f"{key}: {word} is not NAME=VALUE")
        found.append([name.strip(), rest.strip()])
    return found


def _number(path: str, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong(path, f"{key} is not a number")
    return value
