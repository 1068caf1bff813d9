"""Parse `-v`, `--mount` and `--tmpfs` into VolumeRequest. Pure; podman's words in every error.

A relative or `~` source is completed from *cwd* and *home*, which the caller gives.

Source: podman-run(1) "--volume", "--mount", "--tmpfs"; podman's observed messages
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan.options import VolumeRequest
from rootless.plan.values import NAME_RULE, is_name
from rootless.spec.record import replace

# options of which at most one may be given, in the words of podman's message
_EXCLUSIVE = (
    (("rw", "ro"), "'rw' or 'ro'"),
    (("z", "Z", "O"), "'z', 'Z', or 'O'"),
    (("U",), "'U'"),
    (("rprivate", "private", "rslave", "slave", "rshared", "shared", "runbindable", "unbindable"),
     "'[r]shared', '[r]private', '[r]slave' or '[r]unbindable'"),
    (("bind", "rbind"), "'[r]bind'"),
    (("exec", "noexec"), "'noexec' or 'exec'"),
    (("dev", "nodev"), "'nodev' or 'dev'"),
    (("suid", "nosuid"), "'nosuid' or 'suid'"),
    (("copy", "nocopy"), "'copy' or 'nocopy'"),
)  # fmt: skip
_PROPAGATIONS = _EXCLUSIVE[3][0]
_TMPFS_VALUES = ("size", "mode", "uid", "gid", "nr_inodes", "nr_blocks")
# options that are not for mount(2): relabelling (z, Z) has no meaning without root
_OURS = ("z", "Z", "U", "O", "copy", "nocopy")
MOUNT_FORMAT = (
    "incorrect mount format: should be --mount type=<bind|tmpfs|volume>,"
    "[src=<host-dir|volume-name>,]target=<ctr-dir>[,options]"
)
_TMPFS_FLAGS = frozenset((
    "ro", "rw", "exec", "noexec", "dev", "nodev", "suid", "nosuid", "private", "rprivate", "slave", "rslave",
    "shared", "rshared", "unbindable", "runbindable", "bind", "rbind", "sync", "async", "atime", "noatime",
    "diratime", "nodiratime", "relatime", "norelatime", "strictatime", "mand", "nomand", "dirsync", "defaults",
))  # fmt: skip


def clean_path(path: str) -> str:
    """Return the path without `//`, `.`, `..` and a last slash, as Go's filepath.Clean does."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == ".." and parts and parts[-1] != "..":
            parts.pop()
        elif part and part != "." and not (part == ".." and path.startswith("/")):
            parts.append(part)
    if path.startswith("/"):
        return "/" + "/".join(parts)
    return "/".join(parts) or "."


def volume(text: str, cwd: str, home: str) -> VolumeRequest:
    """Read `[SOURCE:]TARGET[:OPTIONS]`.

    Raises: UsageError
    """
    parts = text.split(":")
    if len(parts) > 3:
        raise UsageError(f"{text}: incorrect volume format, should be [host-dir:]ctr-dir[:option]")
    source = parts[0] if len(parts) > 1 else ""
    target = parts[1] if len(parts) > 1 else parts[0]
    options = tuple(parts[2].split(",")) if len(parts) == 3 else ()
    if len(parts) > 1 and not source:
        raise UsageError("host directory cannot be empty")
    target = _target(target)
    if not source:
        return VolumeRequest("volume", "", target)
    kind = "bind" if source[0] in "/.~" else "volume"
    if kind == "volume" and not is_name(source):
        raise UsageError(f'creating named volume "{source}": running volume create option: {NAME_RULE}')
    if kind == "bind":
        source = host_path(source, cwd, home)
    return _with_options(VolumeRequest(kind, source, target), options, cwd, home)


def _with_options(request: VolumeRequest, options: tuple[str, ...], cwd: str, home: str) -> VolumeRequest:
    """Check the options of `-v` and put them into *request*."""
    overlay = "O" in options
    places = {"upperdir": "", "workdir": ""}
    idmap = ""
    for option in options:
        name, equals, value = option.partition("=")
        if name in places and equals:
            if not overlay:
                raise UsageError(f'unknown mount option "{option}": invalid mount option')
            places[name] = host_path(value, cwd, home)
        elif name == "idmap":
            idmap = value or "container"
        elif not any(option in group for group, _ in _EXCLUSIVE):
            raise UsageError(f'invalid option type "{option}"')
    for group, words in _EXCLUSIVE:
        given = [option for option in options if option in group]
        if len(given) > 1:
            raise UsageError(f'invalid options "{", ".join(given)}", can only specify 1 {words} option')
    if overlay:
        if bool(places["upperdir"]) != bool(places["workdir"]):
            raise UsageError("must specify both `upperdir` and `workdir`")
        if [o for o in options if o not in ("O", "U") and not o.startswith(("upperdir=", "workdir="))]:
            raise UsageError("can't use 'O' with other options")
    kept = tuple([o for o in options if o not in _OURS and not o.startswith(("idmap", "upperdir=", "workdir="))])
    return replace(
        request, options=kept, chown="U" in options, copy_up="nocopy" not in options and request.kind == "volume",
        overlay=overlay, upper=places["upperdir"], work=places["workdir"], idmap=idmap,
    )  # fmt: skip


def host_path(source: str, cwd: str, home: str) -> str:
    """Complete a source path: `~` is the caller's home, `./x` is below the working directory."""
    if source == "~" or source.startswith("~/"):
        source = home + source[1:]
    return clean_path(source if source.startswith("/") else f"{cwd}/{source}")


def _target(target: str) -> str:
    if not target:
        raise UsageError("container directory cannot be empty")
    if not target.startswith("/"):
        raise UsageError(f'invalid container path "{target}", must be an absolute path')
    cleaned = clean_path(target)
    if cleaned == "/":
        raise UsageError(f'invalid container path "{target}", must not be the root')
    return cleaned


def tmpfs(text: str) -> VolumeRequest:
    """Read `TARGET[:OPTIONS]`.

    Raises: UsageError
    """
    target, _, rest = text.partition(":")
    options = tuple([o for part in rest.split(":") for o in part.split(",") if o])
    return VolumeRequest("tmpfs", "", _target(target), *_tmpfs_options(options))


def _tmpfs_options(options: tuple[str, ...]) -> tuple[tuple[str, ...], bool, bool]:
    kept: list[str] = []
    for option in options:
        name, equals, value = option.partition("=")
        if option in _TMPFS_FLAGS or (name in _TMPFS_VALUES and equals and value):
            kept.append(option)
        elif option not in ("tmpcopyup", "notmpcopyup", "U"):
            raise UsageError(f'unknown mount option "{option}": invalid mount option')
    return tuple(kept), "U" in options, "notmpcopyup" not in options


def mount(text: str, fields: list[str], cwd: str, home: str) -> VolumeRequest:
    """Read the fields of `--mount type=...,src=...,dst=...,option,...`.

    Raises: UsageError
    """
    if not fields or not fields[0].startswith("type="):
        raise UsageError(MOUNT_FORMAT)
    kind = fields[0].partition("=")[2]
    if kind not in ("bind", "volume", "tmpfs", "devpts", "image", "glob", "ramfs"):
        raise UsageError(f'invalid filesystem type "{kind}"')
    state = _Mount(kind)
    for field in fields[1:]:
        state.take(field)
    if kind == "image" and not (state.source and state.target):
        raise UsageError("must set source and destination for image volume")
    if kind == "glob" and not state.target:
        state.target = "/"  # each file at the place that it has on the host
    elif not state.target:
        raise UsageError("must set volume destination")
    target = state.target if kind == "glob" and state.target == "/" else _target(state.target)
    options = tuple(state.options)
    if kind in ("tmpfs", "ramfs"):
        return VolumeRequest(kind, "", target, *_tmpfs_options(options))
    if kind in ("devpts", "image"):
        return VolumeRequest(kind, state.source, target, options)
    source = state.source
    if kind == "volume":
        if source and not is_name(source):
            raise UsageError(f'creating named volume "{source}": running volume create option: {NAME_RULE}')
    elif kind == "glob" and not source:
        raise UsageError("must set source for glob mounts")
    else:
        source = host_path(source or target, cwd, home)
    made = _with_options(VolumeRequest(kind, source, target), options, cwd, home)
    return replace(made, driver_options=tuple(state.driver_options))


class _Mount:
    """The fields of one --mount while they are read."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.source = ""
        self.target = ""
        self.options: list[str] = []
        self.driver_options: list[tuple[str, str]] = []
        self.has_mode = False

    def take(self, field: str) -> None:
        """Read one `key[=value]`; podman's rules for each kind.

        Raises: UsageError
        """
        key, equals, value = field.partition("=")
        if key in ("src", "source"):
            if self.kind == "devpts":
                raise UsageError(f"{key}: invalid mount option")
            if self.kind in ("tmpfs", "ramfs"):
                raise UsageError(f"source is not supported with {self.kind} mounts")
            if not value and self.kind != "volume":
                raise UsageError("host directory cannot be empty: must provide an argument for option")
            self.source = value
        elif key in ("dst", "destination", "target"):
            if not value:
                raise UsageError(f"{key}: must provide an argument for option")
            self.target = value
        elif self.kind == "image":
            self._image(key, value)
        elif key in ("ro", "rw", "readonly"):
            self._mode(key, equals, value)
        elif key in ("U", "chown"):
            if not equals or _truth(value, "'U' or 'chown'"):
                self.options.append("U")
        elif not self._of_kind(key, equals, value):
            raise UsageError(f"{key}: invalid mount option")

    def _image(self, key: str, value: str) -> None:
        """Read a field of type=image that is neither source nor target."""
        if key in ("rw", "readwrite"):
            if value not in ("true", "false"):
                raise UsageError(f'invalid rw value "{value}": invalid mount option')
            if value == "true":
                self.options.append("rw")
        elif key != "consistency":
            raise UsageError(f"{key}: invalid mount option")

    def _mode(self, key: str, equals: str, value: str) -> None:
        if self.has_mode:
            raise UsageError(
                "cannot pass 'readonly', 'ro', or 'rw' options more than once: must provide an argument for option"
            )
        self.has_mode = True
        on = not equals or _truth(value, "'readonly', 'ro', or 'rw'")
        self.options.append("rw" if on == (key == "rw") else "ro")

    def _of_kind(self, key: str, equals: str, value: str) -> bool:
        flags = ("exec", "noexec", "dev", "nodev", "suid", "nosuid")
        if self.kind in ("tmpfs", "ramfs"):
            if key == "ramfs-mode" and value:
                key = "mode"
            if key in ("tmpfs-size", "tmpfs-mode") and value:
                self.options.append(f"{key[6:]}={value}")
                return True
            if key in ("size", "mode") and value:
                self.options.append(f"{key}={value}")
                return True
            if key in ("tmpcopyup", "notmpcopyup", *flags) and not equals:
                self.options.append(key)
                return True
            return key == "consistency"
        if self.kind == "devpts":
            if key in ("uid", "gid", "mode", "max") and value:
                self.options.append(f"{key}={value}")
                return True
            return False
        if key in flags and not equals:
            self.options.append(key)
        elif key == "bind-propagation" and value and self.kind != "volume":
            if value not in _PROPAGATIONS:
                raise UsageError(f'invalid option type "{value}"')
            self.options.append(value)
        elif key in _PROPAGATIONS and not equals:
            self.options.append(key)
        elif key == "bind-nonrecursive" and self.kind in ("bind", "glob"):
            if not equals or _truth(value, "'bind-nonrecursive'"):
                self.options.append("bind")
        elif key == "relabel":
            if value not in ("shared", "private"):
                raise UsageError("relabel mount option must be 'private' or 'shared': invalid mount option")
        elif key == "idmap":
            self.options.append(f"idmap={value}" if value else "idmap")
        elif key == "volume-opt" and self.kind == "volume":
            if not value:
                raise UsageError("cannot parse driver opts: invalid mount option")
            name, _, text = value.partition("=")
            self.driver_options.append((name, text))
        elif key == "volume-label":
            raise UsageError(
                "the --volume-label option is not presently implemented", hint="rootless volume create --label"
            )
        else:
            return key == "consistency"
        return True


def _truth(value: str, names: str) -> bool:
    if value.lower() not in ("true", "false"):
        raise UsageError(
            f'{names} must be set to true or false, instead received "{value}": must provide an argument for option'
        )
    return value.lower() == "true"
