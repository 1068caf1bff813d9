"""The flags of a container that stays: restart policy, health checks, log, secrets, streams, GPUs.

Imported when one of LIFE_FLAGS (cli/table_run.py) is on the command line, so that a plain `run` does not pay for it.

Source: podman-run(1), `docker run --help`; podman 4.3.1's observed messages
"""

from __future__ import annotations

from rootless.cli.parser import split_csv
from rootless.errors import UsageError
from rootless.plan import values
from rootless.plan.options import DeviceRequest, HealthRequest, SecretRequest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.cli.parser import Parsed

RESTART_POLICIES = ("no", "on-failure", "always", "unless-stopped")
LOG_DRIVERS = ("k8s-file", "json-file", "journald", "passthrough", "none")
_LOG_OPTIONS = ("path", "max-size", "tag")
_ON_FAILURE = ("none", "kill", "restart", "stop")
_UNITS_NS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def life_options(parsed: Parsed, warnings: list[str]) -> dict[str, Any]:
    """Return the fields of RunOptions that these flags change.

    Raises: UsageError in podman's words
    """
    restart, tries = restart_policy(parsed.text("restart"))
    remove = parsed.flag("rm") or parsed.flag("rmi")
    if remove and restart != "no":
        raise UsageError('the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"')
    if parsed.flag("replace") and not parsed.text("name"):
        raise UsageError("cannot replace container without --name being set")
    driver = _log_driver(parsed.text("log-driver"), parsed.flag("tty"))
    found: dict[str, Any] = {
        "remove": remove,
        "detach": parsed.flag("detach"),
        "attach": _streams(parsed.many("attach")) if parsed.given("attach") else None,
        "replace": parsed.flag("replace"),
        "remove_image": parsed.flag("rmi"),
        "requires": parsed.many("requires"),
        "restart": restart,
        "restart_tries": tries,
        "log_driver": driver,
        "log_opts": _log_options(parsed.many("log-opt"), warnings),
        "health": _health(parsed),
        "no_healthcheck": parsed.flag("no-healthcheck"),
        "sdnotify": _sdnotify(parsed.text("sdnotify") or "container"),
        "supervisor_pidfile": parsed.text("conmon-pidfile"),
        "secrets": tuple([secret(text) for text in parsed.many("secret")]),
        "volumes_from": tuple([_volumes_from(text) for text in parsed.many("volumes-from")]),
    }
    if parsed.given("detach-keys"):
        from rootless.supervise.attachment import parse_keys

        found["detach_keys"] = parsed.text("detach-keys")
        parse_keys(found["detach_keys"])  # a mistake is told now, not to whoever attaches
    return found


def restart_policy(text: str) -> tuple[str, int]:
    """Read `no`, `always`, `unless-stopped` or `on-failure[:N]`; N 0 is no end.

    Raises: UsageError
    """
    policy, colon, count = text.partition(":")
    tries = 0
    if colon:
        if ":" in count:
            raise UsageError("invalid restart policy: may specify retries at most once")
        if policy.lower() != "on-failure":
            raise UsageError("restart policy retries can only be specified with on-failure restart policy")
        digits = count[1:] if count[:1] in ("+", "-") else count
        if not digits.isdigit() or not digits.isascii():
            raise UsageError(f'parsing restart policy retry count: strconv.Atoi: parsing "{count}": invalid syntax')
        tries = int(count)
        if tries < 0:
            raise UsageError("must specify restart policy retry count as a number greater than 0")
    policy = policy or "no"
    if policy not in RESTART_POLICIES:
        raise UsageError(f'running container create option: "{policy}" is not a valid restart policy: invalid argument')
    return policy, tries


def duration_ns(text: str) -> int:
    """Read a duration as Go does: `1h2m`, `1.5s`, `300ms`, `0`.

    Raises: UsageError with the words of Go's time.ParseDuration
    """
    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text[1:] if text[:1] == "+" else text)
    if rest == "0":
        return 0
    total, at = 0, 0
    while at < len(rest):
        end = at
        while end < len(rest) and (rest[end].isdigit() or rest[end] == "."):
            end += 1
        number, unit_at = rest[at:end], end
        while end < len(rest) and not (rest[end].isdigit() or rest[end] == "."):
            end += 1
        unit = rest[unit_at:end]
        whole, _, part = number.partition(".")
        if not (whole + part).isdigit() or not (whole + part).isascii():
            raise UsageError(f'time: invalid duration "{text}"')
        if unit not in _UNITS_NS:
            what = f'unknown unit "{unit}" in' if unit else "missing unit in"
            raise UsageError(f'time: {what} duration "{text}"')
        size = _UNITS_NS[unit]
        total += int(whole or "0") * size + (int(part) * size // 10 ** len(part) if part else 0)
        at = end
    if not rest:
        raise UsageError(f'time: invalid duration "{text}"')
    return sign * total


def _streams(names: tuple[str, ...]) -> tuple[str, ...]:
    if not names:
        raise UsageError("must provide at least one stream to attach to: invalid argument")
    for name in names:
        if name.lower() not in ("stdin", "stdout", "stderr"):
            raise UsageError(
                f'invalid stream "{name}" for --attach - must be one of stdin, stdout, or stderr: invalid argument'
            )
    return tuple(dict.fromkeys([name.lower() for name in names]))


def _log_driver(driver: str, tty: bool) -> str:
    if driver and driver not in LOG_DRIVERS:
        raise UsageError(
            "running container create option: invalid log driver: invalid argument",
            hint=f"one of {', '.join(LOG_DRIVERS)}",
        )
    if driver == "passthrough" and tty:
        raise UsageError("the '--log-driver passthrough' option is incompatible with '--tty'")
    return driver


def _log_options(texts: tuple[str, ...], warnings: list[str]) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(f'invalid log option "{text}"')
        if key == "max-size":
            values.size(value)
        elif key not in _LOG_OPTIONS:
            warnings.append(f"--log-opt {key} has no effect: path, max-size and tag exist")
            continue
        found[key] = value
    return tuple(found.items())


def _sdnotify(text: str) -> str:
    if text not in ("container", "conmon", "healthy", "ignore"):
        raise UsageError(
            f'invalid config provided: invalid argument: invalid sdnotify value "{text}": '
            "must be container, conmon or ignore"
        )
    return text


def _health(parsed: Parsed) -> HealthRequest | None:
    """Return what --health-* ask for, None when no such flag is there; an empty test is the image's."""
    command = parsed.text("health-cmd")
    if command and parsed.flag("no-healthcheck"):
        raise UsageError("cannot specify both --no-healthcheck and --health-cmd")
    names = ("health-cmd", "health-interval", "health-on-failure", "health-retries", "health-start-period",
             "health-timeout")  # fmt: skip
    if not any([parsed.given(name) for name in names]):
        return None
    test = health_test(command) if command else ()
    interval = timeout = start = retries = 0
    text = parsed.text("health-interval")
    if text == "disable":
        interval = -1
    elif text:
        interval = _health_time("interval", text)
        if interval <= 0:
            interval = -1  # a timer that never fires
    if parsed.given("health-retries"):
        retries = parsed.number("health-retries") or 0
        if retries < 1:
            raise UsageError("healthcheck-retries must be greater than 0")
    if parsed.text("health-timeout"):
        timeout = _health_time("timeout", parsed.text("health-timeout"))
        if timeout < 1:
            raise UsageError("healthcheck-timeout must be at least 1 second")
    if parsed.text("health-start-period"):
        start = _health_time("start-period", parsed.text("health-start-period"))
        if start < 0:
            raise UsageError("healthcheck-start-period must be 0 seconds or greater")
    action = (parsed.text("health-on-failure") or "none").lower()
    if action not in _ON_FAILURE:
        raise UsageError(
            f'invalid on-failure action "{action}" for health check: supported actions are {",".join(_ON_FAILURE)}'
        )
    return HealthRequest(test, interval, timeout, start, retries, action)


def _health_time(what: str, text: str) -> int:
    try:
        return duration_ns(text)
    except UsageError as error:
        raise UsageError(f"invalid healthcheck-{what}: {error.message}") from None


def health_test(text: str) -> tuple[str, ...]:
    """Return the command of a check: a JSON array, words behind CMD, a shell line, or none.

    Raises: UsageError
    """
    words: list[str] = []
    is_array = False
    if text.startswith("["):
        from rootless.spec.jsontext import loads

        try:
            found = loads(text)
        except ValueError:
            found = None
        if isinstance(found, list) and all(isinstance(word, str) for word in found):
            words, is_array = found, True
            if not words:
                raise UsageError("must define a healthcheck command for all healthchecks")
    if not is_array:
        words = text.split(" ", 1)
    first = words[0].upper()
    if first == "NONE":
        return ("NONE",)
    if first == "CMD":
        return ("CMD", *(words[1:] if is_array else text.split()[1:]))
    if first == "CMD-SHELL":
        return ("CMD-SHELL", " ".join(words[1:]))
    if is_array and len(words) > 1:
        return ("CMD", *words)
    return ("CMD-SHELL", words[0] if is_array else text)


def secret(text: str) -> SecretRequest:
    """Read `NAME[,type=mount|env][,target=][,uid=][,gid=][,mode=]`.

    Raises: UsageError
    """
    tokens = text.split(",")
    source = ""
    if "=" not in tokens[0]:
        source, tokens = tokens[0], tokens[1:]
    kind, target, uid, gid, mode, file_only = "", "", 0, 0, 0o444, False
    for token in tokens:
        key, equals, value = token.partition("=")
        if not equals:
            raise UsageError(f"option {token} must be in form option=value: parsing secret")
        if key == "source":
            source = value
        elif key == "type":
            if kind:
                raise UsageError("more than one secret type specified: parsing secret")
            if value not in ("mount", "env"):
                raise UsageError(f"type {value} is invalid: parsing secret")
            kind = value
        elif key == "target":
            target = value
        elif key in ("uid", "gid", "mode"):
            file_only = True
            base = 8 if key == "mode" else 10
            if not value or any(letter not in "0123456789"[:base] for letter in value):
                raise UsageError(f"{key.upper() if base == 10 else key} {value} invalid: parsing secret")
            number = int(value, base)
            uid, gid = number if key == "uid" else uid, number if key == "gid" else gid
            mode = number if key == "mode" else mode
        else:
            raise UsageError(f"option {token} invalid: parsing secret")
    if not source:
        raise UsageError(f"no source found {text}: parsing secret")
    if kind == "env" and file_only:
        raise UsageError("UID, GID, Mode options cannot be set with secret type env: parsing secret")
    return SecretRequest(source, kind or "mount", target or (source if kind == "env" else ""), uid, gid, mode)


def _volumes_from(text: str) -> str:
    for option in text.partition(":")[2].split(",") if ":" in text else ():
        if option not in ("z", "ro", "rw"):
            raise UsageError(
                f'invalid option "{option}" specified - volumes from another container can only use z,ro,rw options'
            )
    return text


def gpus(text: str) -> tuple[DeviceRequest, ...]:
    """Return the CDI devices of `--gpus`: all, a number, or device=NAME,device=NAME,driver=VENDOR.

    Raises: UsageError in docker's words
    """
    fields, problem = split_csv(text)
    if problem:
        raise UsageError(f'invalid argument "{text}" for "--gpus" flag: {problem}')
    names: list[str] = []
    count, vendor = "", "nvidia.com"
    for at, field in enumerate(fields):
        key, equals, value = field.partition("=")
        if key == "device" and equals:
            names += [name for name in value.split(",") if name]
        elif key == "count" and equals:
            count = value
        elif key == "driver" and equals:
            vendor = value if "." in value else "" if value == "cdi" else f"{value}.com"
        elif key in ("capabilities", "options") and equals:
            continue  # what a container may do with a GPU is the CDI specification's to say
        elif not equals and (key == "all" or key.lstrip("-").isdigit()):
            count = key
        elif not equals and at and names:
            names.append(key)  # --gpus device=0,1: docker wants quotes there, people leave them out
        else:
            raise UsageError(f"invalid argument \"{text}\" for \"--gpus\" flag: unexpected key '{key}' in '{field}'")
    if count and names:
        raise UsageError("cannot set both Count and DeviceIDs on device request")
    if count in ("all", "-1"):
        names = ["all"]
    elif count:
        if not count.isdigit():
            raise UsageError(f'invalid argument "{text}" for "--gpus" flag: count must be an integer')
        names = [str(number) for number in range(int(count))]
    if not vendor:
        return tuple([DeviceRequest(name, "") for name in names])
    return tuple([DeviceRequest(f"{vendor}/gpu={name}", "") for name in names])
