"""Turn JSON values into the records of spec/runtime.py and spec/linux.py, and back.

Everything is in one table: for each record class its rows (JSON key, field, converter, required).
Unknown keys are ignored, as the runtime-spec asks; null is the same as absent, as every runtime
written in Go has it. A fault carries the JSON pointer of its place; the pointer is only put
together while the exception rises, so that the common case pays nothing for it.

Source: runtime-spec config.md#extensibility, schema/*.json; RFC 6901 (JSON pointer)
"""

from __future__ import annotations

from rootless.errors import SpecError
from rootless.spec import linux, runtime
from rootless.spec.record import fields

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any, TypeVar

    T = TypeVar("T")
    Converter = Callable[[Any], object]

_KINDS: dict[type, str] = {
    dict: "an object", list: "an array", str: "a string", bool: "a boolean", int: "a number", float: "a number",
    type(None): "null",
}  # fmt: skip


class _Fault(Exception):
    """A wrong value; *path* is filled from the inside out."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
        self.path: list[str] = []

    def error(self) -> SpecError:
        steps = [step.replace("~", "~0").replace("/", "~1") for step in reversed(self.path)]
        return SpecError(self.message, pointer="".join(["/" + step for step in steps]))


def _wrong(value: Any, wanted: str) -> _Fault:
    return _Fault(f"{_KINDS.get(value.__class__, value.__class__.__name__)} where {wanted} is needed")


def _text(value: Any) -> str:
    if value.__class__ is not str:
        raise _wrong(value, "a string")
    if "\0" in value:
        raise _Fault("a NUL character in a string")
    if not value.isascii():
        try:
            value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise _Fault("half of a character (a lone surrogate) in a string") from None
    return value


def _flag(value: Any) -> bool:
    if value is True or value is False:
        return value
    raise _wrong(value, "true or false")


def _integer(low: int, high: int) -> Converter:
    def convert(value: Any) -> object:
        if value.__class__ is not int:
            if value.__class__ is float and value.is_integer():
                value = int(value)
            else:
                raise _wrong(value, "an integer")
        if not low <= value <= high:
            raise _Fault(f"{value} is not between {low} and {high}")
        return value

    return convert


_u16 = _integer(0, 0xFFFF)
_u32 = _integer(0, 0xFFFFFFFF)
_u64 = _integer(0, 0xFFFFFFFFFFFFFFFF)
_i32 = _integer(-(1 << 31), (1 << 31) - 1)
_i64 = _integer(-(1 << 63), (1 << 63) - 1)
_positive = _integer(1, (1 << 31) - 1)


def _one_of(what: str, *allowed: str) -> Converter:
    known = frozenset(allowed)

    def convert(value: Any) -> object:
        if _text(value) not in known:
            raise _Fault(f"unknown {what} {value!r}")
        return value

    return convert


def _absolute(value: Any) -> str:
    text = _text(value)
    if not text.startswith("/"):
        raise _Fault(f"{text!r} is not an absolute path")
    return text


def _text_or_none(value: Any) -> str | None:
    return _text(value) or None


def _filled(value: Any) -> str:
    text = _text(value)
    if not text:
        raise _Fault("an empty string")
    return text


def _list(item: Converter) -> Converter:
    def convert(value: Any) -> object:
        if value.__class__ is not list:
            raise _wrong(value, "an array")
        made: list[object] = []
        try:
            for one in value:
                made.append(item(one))
        except _Fault as fault:
            fault.path.append(str(len(made)))
            raise
        return tuple(made)

    return convert


def _pairs(item: Converter) -> Converter:
    def convert(value: Any) -> object:
        if value.__class__ is not dict:
            raise _wrong(value, "an object")
        made: list[tuple[str, object]] = []
        for key, one in value.items():
            try:
                made.append((_text(key), item(one)))
            except _Fault as fault:
                fault.path.append(str(key))
                raise
        return tuple(made)

    return convert


_texts = _list(_text)
_new: Callable[[type], object] = object.__new__
_set = object.__setattr__

_DECODERS: dict[type, Callable[[Any], Any]] = {}
_ROWS: dict[type, tuple[tuple[str, str, Converter, bool], ...]] = {}
_NESTED = frozenset(
    {"sysctl", "annotations", "unified", "rdma", "time_offsets", "net_devices"}
)  # fields that are objects in JSON and tuples of pairs here


def _camel(name: str) -> str:
    head, *rest = name.rstrip("_").split("_")
    return head + "".join([part.capitalize() for part in rest])


_KEYS = {  # JSON keys that are not the plain camelCase of the field
    "container_id": "containerID", "host_id": "hostID", "block_io": "blockIO", "kernel_tcp": "kernelTCP",
    "disable_oom_killer": "disableOOMKiller", "class_id": "classID", "clos_id": "closID",
    "exec_cpu_affinity": "execCPUAffinity", "throttle_read_iops_device": "throttleReadIOPSDevice",
    "throttle_write_iops_device": "throttleWriteIOPSDevice", "mem_bw_schema": "memBwSchema",
}  # fmt: skip


def _declare(cls: type, **converters: Converter) -> Converter:
    """Enter *cls* into the tables; a field without a default in the record is required."""
    defaults: Mapping[str, object] = getattr(cls, "_defaults_")  # noqa: B009
    rows = tuple([(_KEYS.get(n) or _camel(n), n, converters[n], n not in defaults) for n in fields(cls)])
    quick = tuple([(key, name, convert, needed, defaults.get(name)) for key, name, convert, needed in rows])

    def decode_object(value: Any) -> object:
        if value.__class__ is not dict:
            raise _wrong(value, "an object")
        made = _new(cls)
        get = value.get
        for key, name, convert, needed, default in quick:
            one = get(key)
            if one is None:
                if needed:
                    raise _Fault(f"{key!r} is missing")
                _set(made, name, default)
                continue
            try:
                _set(made, name, convert(one))
            except _Fault as fault:
                fault.path.append(key)
                raise
        return made

    _ROWS[cls] = rows
    _DECODERS[cls] = decode_object
    return decode_object


_namespace = _declare(
    linux.Namespace,
    type=_one_of("namespace", "pid", "network", "mount", "ipc", "uts", "user", "cgroup", "time"),
    path=_text_or_none,  # Go programs write "" for none
)
_mapping = _declare(linux.IdMapping, container_id=_u32, host_id=_u32, size=_integer(1, 0xFFFFFFFF))
_mappings = _list(_mapping)
_device = _declare(
    linux.Device, type=_one_of("device type", "c", "b", "u", "p"), path=_absolute,
    major=_i64, minor=_i64, file_mode=_u32, uid=_u32, gid=_u32,
)  # fmt: skip
_resources = _declare(
    linux.Resources,
    devices=_list(_declare(linux.DeviceRule, allow=_flag, type=_text, major=_i64, minor=_i64, access=_text)),
    memory=_declare(
        linux.Memory, limit=_i64, reservation=_i64, swap=_i64, kernel=_i64, kernel_tcp=_i64, swappiness=_u64,
        disable_oom_killer=_flag, use_hierarchy=_flag, check_before_update=_flag,
    ),
    cpu=_declare(
        linux.Cpu, shares=_u64, quota=_i64, burst=_u64, period=_u64, realtime_runtime=_i64, realtime_period=_u64,
        cpus=_text, mems=_text, idle=_i64,
    ),
    pids=_declare(linux.Pids, limit=_i64),
    block_io=_declare(
        linux.BlockIo, weight=_u16, leaf_weight=_u16,
        weight_device=_list(_declare(linux.WeightDevice, major=_i64, minor=_i64, weight=_u16, leaf_weight=_u16)),
        **dict.fromkeys(
            ("throttle_read_bps_device", "throttle_write_bps_device", "throttle_read_iops_device",
             "throttle_write_iops_device"),
            _list(_declare(linux.ThrottleDevice, major=_i64, minor=_i64, rate=_u64)),
        ),
    ),
    hugepage_limits=_list(_declare(linux.HugepageLimit, page_size=_filled, limit=_u64)),
    network=_declare(
        linux.NetworkClass, class_id=_u32,
        priorities=_list(_declare(linux.InterfacePriority, name=_text, priority=_u32)),
    ),
    rdma=_pairs(_declare(linux.Rdma, hca_handles=_u32, hca_objects=_u32)),
    unified=_pairs(_text),
)  # fmt: skip
_seccomp = _declare(
    linux.Seccomp, default_action=_text, default_errno_ret=_u32, architectures=_texts, flags=_texts,
    listener_path=_text, listener_metadata=_text,
    syscalls=_list(_declare(
        linux.SeccompRule, names=_texts, action=_text, errno_ret=_u32,
        args=_list(_declare(linux.SeccompArg, index=_integer(0, 5), value=_u64, op=_text, value_two=_u64)),
    )),
)  # fmt: skip
_linux = _declare(
    linux.Linux, namespaces=_list(_namespace), uid_mappings=_mappings, gid_mappings=_mappings,
    devices=_list(_device), cgroups_path=_text, resources=_resources, seccomp=_seccomp, rootfs_propagation=_text,
    masked_paths=_list(_filled), readonly_paths=_list(_filled), mount_label=_text,
    personality=_declare(linux.Personality, domain=_one_of("personality", "LINUX", "LINUX32"), flags=_texts),
    intel_rdt=_declare(
        linux.IntelRdt, clos_id=_text, schemata=_texts, l3_cache_schema=_text, mem_bw_schema=_text,
        enable_monitoring=_flag,
    ),
    memory_policy=_declare(linux.MemoryPolicy, mode=_text, nodes=_text, flags=_texts),
    sysctl=_pairs(_text),
    time_offsets=_pairs(_declare(linux.TimeOffset, secs=_i64, nanosecs=_u32)),
    net_devices=_pairs(_declare(linux.NetDevice, name=_text)),
)  # fmt: skip
_process = _declare(
    runtime.Process, args=_texts, cwd=_text, terminal=_flag, env=_texts,
    user=_declare(runtime.User, uid=_u32, gid=_u32, umask=_u32, additional_gids=_list(_u32), username=_text),
    console_size=_declare(runtime.ConsoleSize, height=_u16, width=_u16),
    capabilities=_declare(
        runtime.CapSets, **dict.fromkeys(("bounding", "effective", "inheritable", "permitted", "ambient"), _texts)
    ),
    rlimits=_list(_declare(runtime.Rlimit, type=_filled, soft=_u64, hard=_u64)),
    no_new_privileges=_flag, apparmor_profile=_text, oom_score_adj=_integer(-1000, 1000), selinux_label=_text,
    io_priority=_declare(runtime.IoPriority, class_=_text, priority=_i32),
    scheduler=_declare(
        runtime.Scheduler, policy=_text, nice=_i32, priority=_i32, flags=_texts,
        runtime=_u64, deadline=_u64, period=_u64,
    ),
    exec_cpu_affinity=_declare(runtime.CpuAffinity, initial=_text, final=_text),
)  # fmt: skip
_hooks = _list(_declare(runtime.Hook, path=_text, args=_texts, env=_texts, timeout=_integer(-(1 << 31), 1 << 31)))
_declare(
    runtime.Spec, oci_version=_text, process=_process, hostname=_text, domainname=_text,
    root=_declare(runtime.Root, path=_text, readonly=_flag),
    mounts=_list(_declare(
        runtime.Mount, destination=_filled, source=_text, type=_text, options=_texts,
        uid_mappings=_mappings, gid_mappings=_mappings,
    )),
    hooks=_declare(
        runtime.Hooks, **dict.fromkeys(
            ("prestart", "create_runtime", "create_container", "start_container", "poststart", "poststop"), _hooks
        ),
    ),
    annotations=_pairs(_text), linux=_linux,
)  # fmt: skip


def decode(cls: type[T], value: Any) -> T:
    """Turn the JSON value *value* into a record of class *cls*.

    Raises: SpecError whose pointer names the culprit
    """
    try:
        made: T = _DECODERS[cls](value)
    except _Fault as fault:
        raise fault.error() from None
    return made


def encode(value: object) -> dict[str, object]:
    """Turn a record into a JSON value; what equals its default is left out.

    Shape: dict with the JSON keys in the order of the record's fields
    """
    defaults: Mapping[str, object] = getattr(value, "_defaults_")  # noqa: B009
    made: dict[str, object] = {}
    for key, name, _convert, needed in _ROWS[type(value)]:
        one: object = getattr(value, name)
        if needed or one != defaults[name]:
            made[key] = _encode(one, name in _NESTED)
    return made


def _encode(value: Any, pairs: bool = False) -> object:
    if value.__class__ is tuple:
        if pairs:
            return {key: _encode(one) for key, one in value}
        return [_encode(one) for one in value]
    return encode(value) if type(value) in _ROWS else value
