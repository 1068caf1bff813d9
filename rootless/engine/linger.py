"""Say what the end of the login session does to containers that run in the background.

systemd-logind stops a user's manager, with everything in it, and removes /run/user/UID when the last session of a user
without lingering ends; with KillUserProcesses=yes it kills what is left of the session as well.

Source: loginctl(1) enable-linger, logind.conf(5), user@.service(5)
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

_LINGER = "/var/lib/systemd/linger"
_BOOTED = "/run/systemd/system"
_SETTINGS = ("/usr/lib/systemd/logind.conf", "/etc/systemd/logind.conf")


def warning(environ: Mapping[str, str], runroot: str = "") -> str:
    """Return the line that `-d` warns with, "" where a container outlives the session. *runroot*: where its files are.

    Call it before the user namespace is entered. It reads a few small files and asks nobody.
    """
    if not os.path.isdir(_BOOTED):
        return ""
    uid = os.getuid()
    name = _user(uid, environ)
    if uid == 0 or not name or os.path.exists(f"{_LINGER}/{name}"):
        return ""
    reason = _reason(uid, _cgroup(), runroot or environ.get("XDG_RUNTIME_DIR", ""), _kills(name))
    if not reason:
        return ""
    return f"the container ends with the last login session of {name}: {reason}; `loginctl enable-linger` keeps it"


def _reason(uid: int, cgroup: str, runroot: str, kills: bool) -> str:
    if f"/user@{uid}.service" in cgroup:
        return "it belongs to the user's manager, which is stopped then"
    if runroot.startswith(f"/run/user/{uid}"):
        return f"/run/user/{uid}, where its supervisor keeps its files, is removed then"
    if "/session-" in cgroup and kills:
        return "logind kills what a session leaves (KillUserProcesses=yes)"
    return ""


def _user(uid: int, environ: Mapping[str, str]) -> str:
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return environ.get("USER", "")


def _cgroup() -> str:
    """Return the paths of our cgroups; systemd's hierarchy is the last line."""
    try:
        with open("/proc/self/cgroup", encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _kills(name: str) -> bool:
    """Say whether logind kills the processes of this user's sessions; drop-in files come after the main one."""
    files = list(_SETTINGS)
    for directory in ("/usr/lib/systemd/logind.conf.d", "/run/systemd/logind.conf.d", "/etc/systemd/logind.conf.d"):
        try:
            files += [f"{directory}/{entry}" for entry in sorted(os.listdir(directory)) if entry.endswith(".conf")]
        except OSError:
            continue
    settings: dict[str, str] = {}
    for path in files:
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                settings |= parse_settings(file.read())
        except OSError:
            continue
    if settings.get("KillUserProcesses", "no").lower() not in ("yes", "true", "on", "1"):
        return False
    only = settings.get("KillOnlyUsers", "").split()
    return name not in settings.get("KillExcludeUsers", "root").split() and (not only or name in only)


def parse_settings(text: str) -> dict[str, str]:
    """Return the assignments of a file in systemd's format, whatever their section."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and line[:1] not in ("#", ";"):
            found[key.strip()] = value.strip()
    return found
