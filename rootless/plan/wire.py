"""The launch wire: what Python tells the C stage, and what the stage answers.

A plan is a list of operations in the order in which they run. The stage is a loop over it and
decides nothing: which process runs an operation, what may fail and what happens then is all in the
list. Python builds it (plan/launch.py), C executes it (stage/*.c); `stage/wire.h` is generated from
the tables below (scripts/gen_wire.py), so the two cannot drift apart.

    B (Python)                    E (stage)                          F (container)
    ----------                    ---------                          -------------
    posix_spawn ----------------> reads the plan, SETNS, UNSHARE
                                  CLONE ---------------------------> clone3(CLONE_PARENT)
        <------ PID(pid) + pidfd  exits                              |
                                                                     | SYNC 1  (maps, if a nested user namespace)
        <----------------------------------------- SYNC(1) --------- |
    writes uid_map, gid_map                                          |
        ------------------------------------------ ACK ------------> | mounts, pivot, ...
        <----------------------------------------- CONSOLE + fd ---- | (terminal only)
        <----------------------------------------- SYNC(n) --------- | hooks of the runtime
        ------------------------------------------ ACK ------------> |
        <----------------------------------------- READY ----------- | the program was found
        ------------------------------------------ START ----------> | seccomp, capabilities
                                                                     | execve
        <----------------------------------------- EOF ------------- | = exec has happened (CLOEXEC)
                                          or ERROR(op, errno)
    At any time: WARN(op, errno) for an operation that may fail, ERROR(op, errno) and the end.
    EOF from B before START: the stage exits.

Shape:   plan   = header, op*                           all numbers little-endian
         header = u32 magic, u32 version, u32 ops, u32 size of the whole plan in bytes
         op     = u32 kind, u32 size, u32 flags, i32 fd, u64 a b c d, u32 length of s[0..3],
                  then the four strings, each with a NUL behind it, padded to 8 bytes
         fd     = a number in the stage's process, -1 for none
         message = u32 kind, i32 a, i32 b, u32 op index
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps

from rootless.spec.record import record

MAGIC = 0x54535452
VERSION = 1

OPS: tuple[str, ...] = (
    # run by E, before the clone
    "SETNS",  # fd, a = CLONE_NEW* (0 = any)
    "UNSHARE",  # a = flags
    "TIMENS",  # s0 = text for /proc/self/timens_offsets
    "CLONE",  # a = CLONE_NEW* flags, fd = cgroup directory
    # run by F
    "SYNC",  # a = point; waits for ACK
    "SETID",  # a = uid, b = gid: become an id of the namespace, capabilities kept
    "SETSID",
    "PROPAGATION",  # s0 = path on the host side, a = MS_*
    "ROOT",  # fd = detached mount or s0 = host path, a = attrs to set, b = propagation
    "MOUNT",  # s0 source, s1 target, s2 type, s3 data, a = MS_*, b = propagation
    "BIND",  # fd or s0 = host path, s1 target, a = attrs set, b = attrs clear, c = propagation, flag RECURSIVE
    "ATTACH",  # fd = detached mount, s1 target, a = attrs to set
    "MKDIR",  # s0 path, a = mode, b = uid, c = gid
    "SYMLINK",  # s0 = text, s1 = path
    "WRITE",  # s0 path, s1 content; below /proc only a file of a procfs with nothing mounted over it
    "MKNOD",  # s0 path, a = mode, b = dev, c = uid, d = gid
    "MASK",  # s0 path
    "READONLY",  # s0 path
    "SETATTR",  # s0 path, a = attrs set, b = attrs clear, c = propagation
    "PIVOT",  # flag NO_PIVOT: move and chroot
    "HOSTNAME",  # s0
    "DOMAINNAME",  # s0
    "LOOPBACK",
    "CONSOLE",  # a = rows, b = columns: open a terminal in /dev/pts, send its master
    "RLIMIT",  # a = resource, b = soft, c = hard
    "OOM",  # a = score as signed number
    "KEYRING",  # s0 = name
    "PERSONALITY",  # a
    "IOPRIO",  # a = value
    "SCHED",  # s0 = struct sched_attr
    "UMASK",  # a
    "BOUNDING",  # a = mask to keep
    "GROUPS",  # s0 = u32 array
    "USER",  # a = uid, b = gid
    "CAPS",  # a = effective, b = permitted, c = inheritable, d = ambient
    "NNP",
    "SECCOMP",  # s0 = sock_filter array, a = flags; flag LISTENER sends the notify fd
    "CWD",  # s0 path
    "LOOKUP",  # s0 = argv block, s1 = env block: find the program
    "CLOEXEC",  # a = first descriptor to close at exec
    "PDEATHSIG",  # a = signal
    "NAME",  # s0 = name of the process
    "HOOK",  # s0 = argv block, s1 = env block, s2 = stdin, s3 = path; a = timeout in ms, b = where in s2 our pid goes
    "READY",
    "START",  # fd = listening socket or -1: wait for START
    "EXEC",  # s0 = argv block, s1 = env block; flag REAPER: stay as pid 1
    "DUMPABLE",  # a
    "DUP",  # fd -> a, then close-on-exec cleared
    "MEMPOLICY",  # a = mode and flags, s0 = node mask, b = number of bits in it
    "CLOSE",  # a..b: descriptors that are not needed any more
)
FLAGS = {
    "OPTIONAL": 1,  # a failure is a WARN, not an ERROR
    "ELSE": 2,  # on success skip the next operation; on failure go on with it
    "RECURSIVE": 4,
    "LISTENER": 8,
    "REAPER": 16,
    "NO_PIVOT": 32,
    "COPYUP": 64,  # MOUNT of a tmpfs: copy what the target held into it
    "SKIP_MISSING": 128,  # a source or target that does not exist is no failure
    "NOFOLLOW": 256,  # BIND: the source itself, even where it is a link; MOUNT: not on a link (ELOOP)
    "TARGET_NOFOLLOW": 512,  # BIND: on the target itself, even where it is a link
    "STRICT": 1024,  # with ELSE: EINVAL (a wrong option) and ELOOP are an ERROR all the same
    "COPY_LINK": 2048,  # BIND: a source that is a link is made again as a link
    "SOURCE_IN_ROOT": 8192,  # BIND: s0 is a path in the new root
    "IN_PROC": 16384,  # BIND: the target may be a file of /proc
    "ORDINARY": 32768,  # BIND: not on a link (ELOOP)
    "JOINED": 4096,  # CONSOLE of an exec: leave /dev/console alone
}
MESSAGES: tuple[str, ...] = ("PID", "SYNC", "ACK", "CONSOLE", "SECCOMP_FD", "READY", "START", "WARN", "ERROR")

KIND = {name: number for number, name in enumerate(OPS, 1)}
MESSAGE = {name: number for number, name in enumerate(MESSAGES, 1)}
OPTIONAL, ELSE, RECURSIVE = FLAGS["OPTIONAL"], FLAGS["ELSE"], FLAGS["RECURSIVE"]

_HEADER = struct.Struct("<IIII")
_OP = struct.Struct("<IIIiQQQQIIII")
_MESSAGE = struct.Struct("<IiiI")
MESSAGE_BYTES = _MESSAGE.size
_MASK64 = (1 << 64) - 1


@record
class Op:
    """One operation of a plan; what its arguments mean stands beside its name in OPS."""

    kind: str
    flags: int = 0
    fd: int = -1
    a: int = 0
    b: int = 0
    c: int = 0
    d: int = 0
    s: tuple[bytes, ...] = ()
    why: str = ""  # for people: what this step is for; not on the wire


@record
class Message:
    """One message of the sync socket."""

    kind: str
    a: int = 0
    b: int = 0
    op: int = 0


def encode(ops: tuple[Op, ...] | list[Op]) -> bytes:
    """Return the plan as the stage reads it."""
    parts = [b""]
    total = _HEADER.size
    for op in ops:
        strings = op.s + (b"",) * (4 - len(op.s))
        body = b"\0".join(strings) + b"\0"
        size = (_OP.size + len(body) + 7) & ~7
        head = _OP.pack(
            KIND[op.kind],
            size,
            op.flags,
            op.fd,
            op.a & _MASK64,
            op.b & _MASK64,
            op.c & _MASK64,
            op.d & _MASK64,
            *[len(s) for s in strings],
        )
        parts.append((head + body).ljust(size, b"\0"))
        total += size
    parts[0] = _HEADER.pack(MAGIC, VERSION, len(ops), total)
    return b"".join(parts)


def decode(data: bytes) -> tuple[Op, ...]:
    """Return the operations of an encoded plan (for replay, tests and people).

    Raises: ValueError for anything that `encode` did not make
    """
    if len(data) < _HEADER.size:
        raise ValueError("a plan is at least a header")
    magic, version, count, total = _HEADER.unpack_from(data)
    if magic != MAGIC or version != VERSION or total != len(data):
        raise ValueError("not a plan of this version")
    ops: list[Op] = []
    at = _HEADER.size
    for _ in range(count):
        kind, size, flags, fd, a, b, c, d, *lengths = _OP.unpack_from(data, at)
        strings: list[bytes] = []
        where = at + _OP.size
        for length in lengths:
            strings.append(data[where : where + length])
            where += length + 1
        if where > at + size or not 1 <= kind <= len(OPS):
            raise ValueError(f"bad operation at byte {at}")
        while strings and not strings[-1]:
            strings.pop()
        ops.append(Op(OPS[int(kind) - 1], flags, fd, a, b, c, d, tuple(strings)))
        at += size
    if at != total:
        raise ValueError("bytes after the last operation")
    return tuple(ops)


def encode_message(message: Message) -> bytes:
    """Return *message* as it goes over the sync socket."""
    return _MESSAGE.pack(MESSAGE[message.kind], message.a, message.b, message.op)


def decode_message(data: bytes) -> Message:
    """Raises: ValueError when *data* is no message"""
    if len(data) != _MESSAGE.size:
        raise ValueError(f"a message has {_MESSAGE.size} bytes, got {len(data)}")
    kind, a, b, op = _MESSAGE.unpack(data)
    if not 1 <= kind <= len(MESSAGES):
        raise ValueError(f"unknown message {kind}")
    return Message(MESSAGES[int(kind) - 1], a, b, op)


def block(strings: tuple[bytes, ...] | list[bytes]) -> bytes:
    """Return argv or an environment as the stage reads it: each string with a NUL behind it."""
    return b"".join([s + b"\0" for s in strings])


def header() -> str:
    """Return the text of stage/wire.h."""
    lines = [
        "/* Generated from rootless/plan/wire.py by scripts/gen_wire.py; do not edit. */",
        "#ifndef ROOTLESS_WIRE_H",
        "#define ROOTLESS_WIRE_H",
        "#include <stdint.h>",
        f"#define WIRE_MAGIC 0x{MAGIC:08x}u",
        f"#define WIRE_VERSION {VERSION}u",
        "enum op_kind {",
        *[f"\tOP_{name} = {number}," for name, number in KIND.items()],
        "};",
        "enum op_flag {",
        *[f"\tOPF_{name} = {value}," for name, value in FLAGS.items()],
        "};",
        "enum message_kind {",
        *[f"\tMSG_{name} = {number}," for name, number in MESSAGE.items()],
        "};",
        "struct plan_header { uint32_t magic, version, ops, size; };",
        "struct op { uint32_t kind, size, flags; int32_t fd; uint64_t a, b, c, d; uint32_t len[4]; char data[]; };",
        "struct message { uint32_t kind; int32_t a, b; uint32_t op; };",
        "#endif",
    ]
    return "\n".join(lines) + "\n"
