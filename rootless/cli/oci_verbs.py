"""What each verb of `rootless-oci` does with its flags; everything that acts is in rootless/run."""

from __future__ import annotations

import posix
import sys

from rootless.errors import KernelError, NotFound, NotSupported, RootlessError, UsageError
from rootless.run import state
from rootless.spec.jsontext import dumps
from rootless.spec.record import replace

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from rootless.cli.oci import Log
    from rootless.cli.oci_flags import Words
    from rootless.run.container import CreateRequest
    from rootless.run.state import ContainerState
    from rootless.spec.runtime import Spec


class Call:
    """One call of a verb: the global flags, its own, and where the containers are."""

    def __init__(self, globals_: Words, flags: Words, log: Log) -> None:
        self.globals = globals_
        self.flags = flags
        self.log = log
        self.root = globals_.text("root").rstrip("/") or default_root()
        if not self.root.startswith("/"):
            self.root = f"{posix.getcwd()}/{self.root}"

    @property
    def id(self) -> str:
        return self.flags.args[0]

    @property
    def manager(self) -> str:
        """Return the cgroup manager. Raises: UsageError"""
        from rootless.run.cgroups.driver import MANAGERS

        manager = self.globals.text("cgroup-manager", "cgroupfs")
        if self.globals.flag("systemd-cgroup"):
            manager = "systemd"
        if manager not in MANAGERS:
            raise UsageError(f"unknown cgroup manager {manager!r}", hint=f"use one of {', '.join(MANAGERS)}")
        return manager

    def load(self) -> ContainerState:
        return state.load(self.root, self.id)

    def warn(self, warnings: tuple[str, ...] | list[str]) -> None:
        for text in warnings:
            # What another way has replaced is nothing that a person has to know.
            self.log.write("debug" if " (instead: " in text else "warning", text)


def default_root() -> str:
    """Return where the engine keeps OCI state too: <run>/oci."""
    from rootless.store.layout import find_roots

    environ = {
        k.decode("utf-8", "surrogateescape"): v.decode("utf-8", "surrogateescape") for k, v in posix.environ.items()
    }
    return f"{find_roots(environ=environ, uid=posix.geteuid()).run}/oci"


_ACT_ON_ONE = frozenset({"start", "state", "kill", "delete", "exec", "pause", "resume", "ps", "events", "update"})


def run_verb(name: str, globals_: Words, flags: Words, log: Log) -> int:
    """Run verb *name*; return the exit status. Raises: RootlessError"""
    call = Call(globals_, flags, log)
    if name in _ACT_ON_ONE and posix.geteuid() == 0 and flags.args:
        from rootless.run.owner import become_owner

        become_owner(f"{call.root}/{flags.args[0]}")
    return _VERBS[name](call)


def _out(text: str) -> None:
    sys.stdout.write(text)


# ------------------------------------------------------------------ create, run, start


def _request(call: Call, *, waits: bool) -> CreateRequest:
    from rootless.run.bundle import CONFIG, load_bundle
    from rootless.run.container import CreateRequest

    flags = call.flags
    state.check_id(call.id)
    bundle = load_bundle(flags.text("bundle", "."), flags.text("config", CONFIG))
    listen = _listen_fds()
    extra = flags.number("preserve-fds") + listen
    spec = bundle.spec
    if listen and spec.process is not None:
        words = (f"LISTEN_FDS={listen}", "LISTEN_PID=1")
        bundle = replace(bundle, spec=replace(spec, process=replace(spec.process, env=spec.process.env + words)))
    return CreateRequest(
        root=call.root, id=call.id, bundle=bundle, console_socket=flags.text("console-socket"),
        pidfd_socket=flags.text("pidfd-socket"),
        pid_file=flags.text("pid-file"), preserve_fds=extra, no_pivot=flags.flag("no-pivot"),
        no_new_keyring=flags.flag("no-new-keyring"), cgroup_manager=call.manager,
        notify_socket=_notify_socket(), waits=waits,
    )  # fmt: skip


def _listen_fds() -> int:
    """Return how many sockets systemd hands over (sd_listen_fds(3)): they come first and are the container's."""
    text = posix.environ.get(b"LISTEN_FDS", b"")
    return int(text) if text.isdigit() else 0


def _notify_socket() -> str:
    return posix.environ.get(b"NOTIFY_SOCKET", b"").decode("utf-8", "surrogateescape")


def _create(call: Call) -> int:
    from rootless.run.container import create_container

    container = create_container(_request(call, waits=True))
    call.warn(container.created.warnings)
    container.close()
    return 0


def _run(call: Call) -> int:
    from rootless.run.container import create_container
    from rootless.run.foreground import Waiter

    detach = call.flags.flag("detach")
    request = _request(call, waits=False)
    process = request.bundle.spec.process
    if detach and process is not None and process.terminal and not request.console_socket:
        raise UsageError("cannot allocate tty if runc will detach without setting console socket")
    if not detach and request.console_socket:
        raise UsageError("cannot use console socket if runc will not detach or allocate tty")
    waiter = None if detach else Waiter()
    container = create_container(request)
    call.warn(container.created.warnings)
    if container.created.console is not None:
        from rootless.run.console import clear_newlines

        clear_newlines(container.created.console)
    if container.listener is not None:
        # TSYNC is for the one thread that we are.
        call.log.write("debug", f"seccomp filter flags: {container.listener.flags & ~9}")
    before = len(container.created.warnings)
    try:
        container.start()
    except BaseException:
        from rootless.run.delete import finish

        if container.created.console is not None:
            from rootless.run.console import Copier

            Copier.drain_of(container.created.console)
        call.warn(finish(call.root, container.state))
        raise
    call.warn(container.created.warnings[before:])
    if waiter is None:
        if container.notify is not None:
            from rootless.run.notify import wait_ready

            wait_ready(container.notify, request.notify_socket, container.created.pidfd, container.created.pid)
        container.close()
        return 0
    from rootless.run.delete import finish

    status = waiter.wait(container.created, container.notify, request.notify_socket)
    container.close()
    if not call.flags.flag("keep"):
        call.warn(finish(call.root, container.state))
    return status


def _start(call: Call) -> int:
    from rootless.run.start import start_container

    start_container(call.root, call.load(), _notify_socket())
    return 0


def _saved(call: Call) -> Spec:
    from rootless.run.start import saved_spec

    spec = saved_spec(call.root, call.id)
    if spec is None:
        raise NotFound("container", call.id)
    return spec


# ------------------------------------------------------------------ state, list


def _document(call: Call, now: ContainerState) -> dict[str, object]:
    from rootless.run.pause import observe

    status = observe(call.root, now)
    value = now.document(status).value()
    shown = {
        "ociVersion": value["ociVersion"], "id": now.id, "pid": value.get("pid", 0), "status": status,
        "bundle": now.bundle, "rootfs": now.rootfs, "created": now.created,
    }  # fmt: skip
    if now.annotations:
        shown["annotations"] = dict(now.annotations)
    shown["owner"] = _owner(now)
    return shown


def _owner(now: ContainerState) -> str:
    from rootless.kernel.idmaps import user_name

    return user_name(now.owner)


def _state(call: Call) -> int:
    _out(dumps(_document(call, call.load()), indent=2) + "\n")
    return 0


def _list(call: Call) -> int:
    format_ = call.flags.text("format", "table")
    if format_ not in ("table", "json"):
        raise UsageError("invalid format option")
    try:
        found = list(state.every(call.root))
    except KernelError:
        if call.globals.text("root"):
            raise
        found = []
    if call.flags.flag("quiet"):
        _out("".join([f"{now.id}\n" for now in found]))
        return 0
    documents = [_document(call, now) for now in found]
    if format_ == "json":
        _out(dumps(documents) if documents else "null")
        return 0
    rows = [("ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER")]
    for shown in documents:
        rows.append(tuple([str(shown[key]) for key in ("id", "pid", "status", "bundle", "created", "owner")]))  # type: ignore[arg-type]
    widths = [max(12, *[len(row[column]) + 1 for row in rows]) for column in range(5)]
    for row in rows:
        _out("".join([cell.ljust(width) for cell, width in zip(row, widths)]) + row[5] + "\n")
    return 0


# ------------------------------------------------------------------ kill, delete, pause, resume


def _targets(call: Call) -> list[str]:
    """Return the ids that the argument means; with --regex it is a pattern."""
    if not call.flags.flag("regex"):
        return [call.id]
    import re

    try:
        pattern = re.compile(call.id)
    except re.error as error:
        raise UsageError(f"{call.id!r} is not a regular expression: {error}") from None
    return [name for name in state.container_ids(call.root) if pattern.search(name)]


def _kill(call: Call) -> int:
    from rootless.run.kill import kill, parse_signal
    from rootless.run.start import saved_spec

    number = parse_signal(call.flags.args[1] if len(call.flags.args) > 1 else "SIGTERM")
    for name in _targets(call):
        now = state.load(call.root, name)
        spec = saved_spec(call.root, name)
        linux = spec.linux if spec is not None else None
        shared = linux is not None and not any(n.type == "pid" and not n.path for n in linux.namespaces)
        kill(call.root, now, number, everything=call.flags.flag("all"), shared_pids=shared)
    return 0


def _delete(call: Call) -> int:
    from rootless.run.delete import delete

    for name in _targets(call):
        call.warn(delete(call.root, name, force=call.flags.flag("force")))
    return 0


def _pause(call: Call) -> int:
    from rootless.run.pause import pause

    pause(call.root, call.load())
    return 0


def _resume(call: Call) -> int:
    from rootless.run.pause import resume

    resume(call.root, call.load())
    return 0


# ------------------------------------------------------------------ exec, ps


def _exec(call: Call) -> int:
    from rootless.run.bundle import check_process, parse_json
    from rootless.run.console import clear_newlines
    from rootless.run.exec import ExecRequest, exec_process, process_for
    from rootless.run.foreground import Waiter
    from rootless.spec.codec import decode
    from rootless.spec.runtime import Process

    flags = call.flags
    call.load()
    base = _saved(call).process or Process()
    if flags.text("process"):
        process = decode(Process, parse_json(_read(flags.text("process"))))
        if flags.flag("tty"):
            process = replace(process, terminal=True)
    else:
        if len(flags.args) < 2:
            raise UsageError('"rootless-oci exec" requires a command or --process')
        process = process_for(
            base, flags.args[1:], tty=flags.flag("tty"), user=flags.text("user"), cwd=flags.text("cwd"),
            env=flags.many("env"), extra_caps=flags.many("cap"), groups=flags.many("additional-gids"),
            no_new_privs=flags.flag("no-new-privs") if "no-new-privs" in flags.values else None,
            apparmor=flags.text("apparmor"),
        )  # fmt: skip
    if flags.text("process-label"):
        process = replace(process, selinux_label=flags.text("process-label"))
    check_process(process, "")
    detach = flags.flag("detach")
    waiter = None if detach else Waiter()
    request = ExecRequest(
        root=call.root, id=call.id, process=process, console_socket=flags.text("console-socket"),
        pidfd_socket=flags.text("pidfd-socket"),
        pid_file=flags.text("pid-file"), preserve_fds=flags.number("preserve-fds") + _listen_fds(), detach=detach,
        ignore_paused=flags.flag("ignore-paused"), cgroup=flags.text("cgroup"),
    )  # fmt: skip
    created = exec_process(request, _saved(call))
    if created.console is not None:
        clear_newlines(created.console)
    call.warn(created.warnings)
    status = 0 if waiter is None else waiter.wait(created)
    created.close()
    return status


def _read(path: str) -> bytes:
    from rootless.kernel.fds import Fd, read_all, read_file

    if path != "-":
        return read_file(path)
    stdin = Fd(posix.dup(0))
    with stdin:
        return read_all(stdin)


def _ps(call: Call) -> int:
    from rootless.run.pause import observe
    from rootless.run.ps import pids

    format_ = call.flags.text("format", "table")
    now = call.load()
    found = pids(now) if observe(call.root, now) != "stopped" else []
    if format_ == "json":
        _out(dumps(found) + "\n")
        return 0
    if format_ != "table":
        raise UsageError("invalid format option")
    lines = _ps_lines(list(call.flags.args[1:]) or ["-ef"])
    column = lines[0].split().index("PID") if lines and "PID" in lines[0].split() else -1
    if column < 0:
        raise RootlessError("couldn't find PID field in ps output")
    _out(lines[0] + "\n")
    for line in lines[1:]:
        words = line.split()
        if len(words) > column and words[column].isdigit() and int(words[column]) in found:
            _out(line + "\n")
    return 0


def _ps_lines(options: list[str]) -> list[str]:
    from rootless.kernel.fds import pipe, read_all
    from rootless.kernel.idmaps import find_tool
    from rootless.kernel.process import spawn, wait_pid

    tool = find_tool("ps", {"PATH": posix.environ.get(b"PATH", b"").decode("utf-8", "replace")})
    if not tool:
        raise NotSupported("ps as a table", ("the program ps is not installed",), hint="use --format json")
    reading, writing = pipe()
    with reading:
        with writing:
            pid = spawn([tool, *options], fds={1: writing})
        text = read_all(reading)
    if wait_pid(pid) != 0:
        raise RootlessError(f"ps {' '.join(options)} failed")
    return text.decode("utf-8", "replace").splitlines()


# ------------------------------------------------------------------ events, update


def _events(call: Call) -> int:
    import time

    from rootless.run.events import oom_kills, stats
    from rootless.run.pause import observe

    now = call.load()
    if observe(call.root, now) == "stopped":
        raise RootlessError(f"container with id {call.id} is not running")
    _out(dumps(stats(now)) + "\n")
    if call.flags.flag("stats"):
        return 0
    sys.stdout.flush()
    interval = _duration(call.flags.text("interval", "5s"))
    killed, waited = oom_kills(now), 0.0
    while observe(call.root, now) != "stopped":
        time.sleep(min(0.2, interval))
        waited += min(0.2, interval)
        count = oom_kills(now)
        if count > killed:
            killed = count
            _out(dumps({"type": "oom", "id": now.id}) + "\n")
        if waited >= interval:
            waited = 0.0
            _out(dumps(stats(now)) + "\n")
        sys.stdout.flush()
    return 0


def _duration(text: str) -> float:
    """Read a duration of Go's ("100ms", "5s", "1m"). Raises: UsageError"""
    units = (("ms", 0.001), ("us", 0.000001), ("s", 1.0), ("m", 60.0), ("h", 3600.0))
    for unit, factor in units:
        number = text[: -len(unit)]
        if text.endswith(unit) and number.replace(".", "", 1).isdigit() and float(number) > 0:
            return float(number) * factor
    raise UsageError("duration interval must be greater than 0")


def _update(call: Call) -> int:
    from rootless.cli.oci_flags import UPDATE_PATHS
    from rootless.run.bundle import parse_json
    from rootless.run.update import update
    from rootless.spec.codec import decode
    from rootless.spec.linux import Resources

    flags = call.flags
    for name in ("l3-cache-schema", "mem-bw-schema"):
        if flags.text(name):
            raise NotSupported(f"--{name}", ("Intel RDT belongs to the machine's root",))
    now = call.load()
    value: dict[str, object] = {}
    if flags.text("resources"):
        given = parse_json(_read(flags.text("resources")))
        decode(Resources, given)
        value = given if isinstance(given, dict) else {}
    for name, (kind, path) in UPDATE_PATHS.items():
        if name in flags.values:
            text = flags.text(name)
            number: object = text if kind == "string" else _size(text) if kind == "size" else int(text)
            group, _, key = path.partition("/")
            inner = value.setdefault(group, {})
            if isinstance(inner, dict):
                inner[key] = number
    call.warn(update(call.root, now, decode(Resources, value)))
    return 0


def _size(text: str) -> int:
    """Read bytes with a unit (k, m, g, t; 1024 each), -1 for no limit. Raises: UsageError"""
    lower = text.lower().removesuffix("b").removesuffix("i")
    factor = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}.get(lower[-1:], 1)
    digits = lower[:-1] if factor > 1 else lower
    if text == "-1":
        return -1
    if not digits.isdigit():
        raise UsageError(f"invalid size: {text!r}")
    return int(digits) * factor


# ------------------------------------------------------------------ spec, features, what there is not


def _spec(call: Call) -> int:
    from rootless.cli.oci_documents import starter

    name = call.flags.text("config", "config.json")
    path = f"{call.flags.text('bundle', '.')}/{name}"
    text = dumps(starter(call.flags.flag("rootless"), posix.geteuid(), posix.getegid()), indent=2) + "\n"
    try:
        fd = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o666)
    except FileExistsError:
        raise UsageError(f"file {name} exists: remove it first") from None
    except OSError as error:
        raise KernelError("open", error.errno or 0, path) from None
    posix.write(fd, text.encode())
    posix.close(fd)
    return 0


def _features(_call: Call) -> int:
    from rootless.cli.oci_documents import features

    _out(dumps(features(), indent=2) + "\n")
    return 0


def _no_criu(call: Call) -> int:
    raise NotSupported("checkpoint and restore", ("CRIU needs privileges that a user does not have",))


_VERBS: dict[str, Callable[[Call], int]] = {
    "checkpoint": _no_criu, "create": _create, "delete": _delete, "events": _events, "exec": _exec,
    "features": _features, "kill": _kill, "list": _list, "pause": _pause, "ps": _ps, "restore": _no_criu,
    "resume": _resume, "run": _run, "spec": _spec, "start": _start, "state": _state, "update": _update,
}  # fmt: skip
