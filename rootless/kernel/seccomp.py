"""The seccomp program that a container gets, as bytes for the stage; compiled at most once.

    default profile, usual capabilities     shipped with us (data/seccomp-MACHINE-SET.bpf), one read
    default profile, other capabilities     compiled by libseccomp, kept in <run>/seccomp
    --security-opt seccomp=FILE             the same, by the file's content
    seccomp=unconfined                      no program
    linux.seccomp of a config.json          the same as a file

A program depends on the bounding set, the machine and the profile, nothing else.

Source: seccomp(2); architecture decision 7
"""

from __future__ import annotations

import _struct as struct  # what `struct` itself wraps
import os

from rootless.errors import KernelError, RootlessError, SpecError
from rootless.kernel.fds import read_file
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.spec.linux import Seccomp
    from rootless.spec.seccomp import Filter

UNCONFINED, DEFAULT = "unconfined", "default"

RELEVANT = ("CAP_AUDIT_WRITE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_SYS_CHROOT", "CAP_SYS_MODULE",
             "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG")  # fmt: skip
"""The capabilities that the default profile looks at (`seccomp_table.RELEVANT`, repeated to spare its import)."""

SHIPPED: dict[str, tuple[str, ...]] = {"default": ("CAP_SYS_CHROOT",), "none": (), "all": RELEVANT}
"""Name of a shipped program -> the relevant capabilities that it is for."""

_FLAGS: dict[str, int] = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1, "SECCOMP_FILTER_FLAG_LOG": 2, "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
    "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV": 32,
}  # fmt: skip
NEW_LISTENER = 8
SPEC_ALLOW = 4
_MAX_INSTRUCTIONS = 4096  # BPF_MAXINSNS
_ERRNO_ENOSYS = 0x00050000 | 38


@record
class SeccompProgram:
    """What seccomp(2) gets, and to whom its listener goes."""

    program: bytes
    """An array of struct sock_filter; empty: no filter."""
    flags: int = 0
    """SECCOMP_FILTER_FLAG_*; NEW_LISTENER is set where the program has a NOTIFY action."""
    listener_path: str = ""
    listener_metadata: str = ""

    @property
    def notifies(self) -> bool:
        """Whether seccomp(2) returns a descriptor that somebody has to serve."""
        return bool(self.flags & NEW_LISTENER)


def data_path(machine: str, name: str) -> str:
    """Return where the shipped program *name* for *machine* lies."""
    return f"{os.path.dirname(__file__)}/data/seccomp-{machine}-{name}.bpf"


def program_for(profile: str, capabilities: frozenset[str], cache_dir: str) -> bytes:
    """Return the program of *profile*: "default", "unconfined", or the path of a JSON file.

    *capabilities* is the bounding set, *cache_dir* the engine's run root.

    Blocks:  reads a file; compiles (20 ms) when this combination is new
    Raises:  SpecError (bad profile, with a JSON pointer), KernelError(open) for a missing file,
             NotSupported without libseccomp when something has to be compiled
    """
    if profile == UNCONFINED:
        return b""
    machine = os.uname().machine
    if profile in (DEFAULT, ""):
        relevant = tuple([c for c in RELEVANT if c in capabilities])
        for name, caps in SHIPPED.items():
            if caps == relevant:
                try:
                    return read_file(data_path(machine, name))
                except KernelError:
                    break  # a machine for which none is shipped
        key = f"default {machine} {' '.join(relevant)}".encode()
        return _cached(cache_dir, key, lambda: _default(capabilities, machine))
    text = read_file(profile)
    key = f"profile {machine} {' '.join(sorted(capabilities))}\0".encode() + text
    return _cached(cache_dir, key, lambda: _profile(profile, text, capabilities, machine))


def oci_program(seccomp: Seccomp, cache_dir: str) -> SeccompProgram:
    """Return the program of `linux.seccomp` with its flags and listener; *cache_dir* as in `program_for`.

    Raises: SpecError with the JSON pointer of what is wrong, NotSupported without libseccomp
    """
    flags = 0
    for at, name in enumerate(seccomp.flags or ()):
        value = _FLAGS.get(name)
        if value is None:
            raise SpecError(f"unknown flag {name!r}", pointer=f"/linux/seccomp/flags/{at}")
        flags |= value
    if seccomp.flags is None:
        flags = SPEC_ALLOW  # as runc: without it older kernels slow every filtered process down
    machine = os.uname().machine
    notify = "SCMP_ACT_NOTIFY"
    if seccomp.default_action == notify:
        raise SpecError("SCMP_ACT_NOTIFY cannot be the default: nobody could start the program",
                        pointer="/linux/seccomp/defaultAction")  # fmt: skip
    asks = [at for at, rule in enumerate(seccomp.syscalls) if rule.action == notify]
    for at in asks:
        if "write" in seccomp.syscalls[at].names:
            raise SpecError("SCMP_ACT_NOTIFY cannot be used for the write syscall: what the agent gets is sent with it",
                            pointer=f"/linux/seccomp/syscalls/{at}/names")  # fmt: skip
    if asks:
        flags |= NEW_LISTENER
        if not seccomp.listener_path:
            raise SpecError("SCMP_ACT_NOTIFY needs a listenerPath", pointer="/linux/seccomp/listenerPath")

    def build() -> bytes:
        from rootless.spec.seccomp import filter_of_spec

        wanted = filter_of_spec(seccomp, machine)
        if seccomp.default_action != "SCMP_ACT_ERRNO" or seccomp.default_errno_ret is not None:
            return _compile(wanted)
        # What is newer than the whole profile does not exist for the program: a libc falls back on ENOSYS, not on
        # EPERM.
        from rootless.kernel.libseccomp import resolve
        from rootless.spec.seccomp import ARCHES
        from rootless.spec.seccomp import machine as machine_named

        native = ARCHES[machine_named(machine).arches[0]]
        newest = max([resolve(rule.name, native) for rule in wanted.rules], default=-1)
        return newer_is_enosys(_compile(wanted), native, newest)

    key = f"oci {machine} {seccomp!r}".encode("utf-8", "surrogateescape")
    listener = seccomp.listener_path or "", seccomp.listener_metadata or ""
    return SeccompProgram(_cached(cache_dir, key, build), flags, *listener)


def newer_is_enosys(program: bytes, arch: int, newest: int) -> bytes:
    """Return *program* behind a few instructions: on *arch* a call with a number above *newest* is ENOSYS.

    Shape: struct sock_filter {u16 code; u8 jt, jf; u32 k}; x32 calls (bit 30) go on to the program
    Source: seccomp(2) "struct seccomp_data"; <linux/bpf_common.h>
    """
    if newest < 0:
        return program
    load, jump_eq, jump_gt, jump_ge, give = 0x20, 0x15, 0x25, 0x35, 0x06
    head = (
        (load, 0, 0, 4),  # arch
        (jump_eq, 0, 4, arch),
        (load, 0, 0, 0),  # nr
        (jump_ge, 2, 0, 0x40000000),
        (jump_gt, 0, 1, newest),
        (give, 0, 0, _ERRNO_ENOSYS),
    )
    return b"".join([struct.pack("=HBBI", *one) for one in head]) + program


def _default(capabilities: frozenset[str], machine_name: str) -> bytes:
    from rootless.spec.seccomp import machine
    from rootless.spec.seccomp_table import default_filter

    return _compile(default_filter(capabilities, machine(machine_name)))


def _profile(path: str, text: bytes, capabilities: frozenset[str], machine_name: str) -> bytes:
    from rootless.spec.jsontext import JSONTextError, loads
    from rootless.spec.seccomp import filter_of_profile

    try:
        return _compile(filter_of_profile(loads(text), capabilities, machine_name))
    except JSONTextError as error:
        raise SpecError(f"seccomp profile {path} is not JSON: {error}") from None
    except SpecError as error:
        raise SpecError(f"seccomp profile {path}: {error.message.partition(': ')[2]}", pointer=error.pointer,
                        hint=error.hint) from None  # fmt: skip


def _compile(wanted: Filter) -> bytes:
    from rootless.kernel.libseccomp import compile_filter

    program = compile_filter(wanted)
    if len(program) // 8 > _MAX_INSTRUCTIONS:
        raise RootlessError(f"the seccomp profile is too large: {len(program) // 8} instructions, the kernel takes "
                            f"{_MAX_INSTRUCTIONS}")  # fmt: skip
    return program


def _cached(cache_dir: str, key: bytes, build: _Build) -> bytes:
    """Return the program kept under *key*, building it first where there is none.

    Written by rename, so that a reader sees all of it; a run root that cannot be written costs time, nothing else.
    """
    from rootless import __version__

    try:
        from _sha256 import sha256  # Python 3.11
    except ImportError:
        from _sha2 import sha256
    name = sha256(__version__.encode() + b"\0" + key).hexdigest()
    directory = f"{cache_dir}/seccomp"
    path = f"{directory}/{name}.bpf"
    try:
        kept = read_file(path)
        if kept and len(kept) % 8 == 0:
            return kept
    except KernelError:
        pass
    program = build()
    fresh = f"{path}.{os.getpid()}"
    try:
        os.makedirs(directory, 0o700, exist_ok=True)
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            whole = os.write(fd, program) == len(program)
        finally:
            os.close(fd)
        if whole:
            os.rename(fresh, path)
        else:
            os.unlink(fresh)
    except OSError:
        pass
    return program


if TYPE_CHECKING:
    from collections.abc import Callable

    _Build = Callable[[], bytes]
