"""Read containers.conf: only when its files have changed since they were read last.

The files are TOML, of which they use little: tables, strings, numbers, booleans, arrays of strings. That much is read
here, in the time of a few system calls; a file with more in it is given to tomllib, which costs more than the start of
a container.

Source: containers.conf(5); TOML 1.0
"""

from __future__ import annotations

from rootless.cli.conf import ENGINE, FLAGS, LISTS, NETWORKS, wrong
from rootless.plan import defaults

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BARE = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")


def defaults_of(paths: list[str]) -> dict[str, Any]:
    """Return what the files set, in the shape of `conf.read`; the last one wins. Raises: UsageError"""
    tables: dict[str, dict[str, tuple[str, Any]]] = {"containers": {}, "engine": {}}
    for path in paths:
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError:
            continue  # it is not ours to read, or has just gone
        except ValueError:
            raise wrong(path, "not UTF-8") from None
        document = simple(text)
        if document is None:
            document = _whole(path, text)
        for name, found in tables.items():
            table = document.get(name, {})
            if not isinstance(table, dict):
                raise wrong(path, f"{name} is not a table")
            found.update({key: (path, value) for key, value in table.items()})
    return _reduced(tables["containers"], tables["engine"])


def _whole(path: str, text: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise wrong(path, str(error)) from None


def simple(text: str) -> dict[str, Any] | None:
    """Return the tables of a document in the plain part of TOML; None for one that has more, or a fault."""
    document: dict[str, Any] = {}
    table: dict[str, Any] = document
    lines = iter(text.split("\n"))
    for line in lines:
        line = line.strip()
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            name, close, rest = line[1:].partition("]")
            if not close or not name or not _BARE.issuperset(name) or not _is_end(rest) or name in document:
                return None
            table = document[name] = {}
            continue
        key, equals, value = line.partition("=")
        key, value = key.strip(), value.strip()
        if not equals or not key or "." in key or not _BARE.issuperset(key) or key in table:
            return None
        if value[:1] != "[":
            plain = _scalar(value)
            if plain is None:
                return None
            table[key] = plain
            continue
        found, goes_on = _array(value)
        while goes_on:
            more = next(lines, None)
            if more is None:
                return None
            value += "\n" + more
            found, goes_on = _array(value)
        if found is None:
            return None
        table[key] = found
    return document


def _is_end(rest: str) -> bool:
    rest = rest.strip()
    return not rest or rest[0] == "#"


def _scalar(text: str) -> Any:
    quote = text[:1]
    if quote in ('"', "'") and quote:
        close = text.find(quote, 1)
        inside = text[1:close]
        # an empty string before a third quote begins one of several lines
        if close < 0 or "\\" in inside or text[close + 1 : close + 2] == quote or not _is_end(text[close + 1 :]):
            return None
        return inside
    word = text.partition("#")[0].strip()
    if word in ("true", "false"):
        return word == "true"
    digits = word[1:] if word[:1] == "-" else word
    if digits.isdigit() and digits.isascii() and (digits == "0" or digits[0] != "0"):
        return int(word)
    return None


def _array(text: str) -> tuple[list[str] | None, bool]:
    """Return (strings, whether the array goes on in the next line); None for what is not plain."""
    found: list[str] = []
    at, end, wants_comma = 1, len(text), False
    while at < end:
        letter = text[at]
        if letter in " \t\r\n":
            at += 1
        elif letter == "#":
            newline = text.find("\n", at)
            at = end if newline < 0 else newline
        elif letter == "]":
            return (found if _is_end(text[at + 1 :]) else None), False
        elif letter == "," and wants_comma:
            at, wants_comma = at + 1, False
        elif letter in "\"'" and not wants_comma:
            close = text.find(letter, at + 1)
            inside = text[at + 1 : close]
            if close < 0 or "\n" in inside or "\\" in inside or text[close + 1 : close + 2] == letter:
                return None, False
            found.append(inside)
            at, wants_comma = close + 1, True
        else:
            return None, False
    return None, True


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
