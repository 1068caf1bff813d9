"""Try everything that a container may need from this machine, in throw-away children.

    doctor --fork--> child: `enter` one id          user-namespace
           --fork--> child: `enter` with ranges     newuidmap
           --fork--> child: `enter` as a run does
                       |--fork--> mount a fresh proc, an overlay, FUSE; make a tap; load a filter; ...
           here: cgroup (as the user on the host), the files of the machine that explain failures

Nothing is read from version numbers. Each child is forked by a process with one thread, calls wrappers only and
leaves by os._exit (rule R3); what it found comes back as JSON through a pipe. The start of a container never comes
here: it only knows `overlayprobe`.

Source: architecture decision 9; user_namespaces(7), cgroups(7) "delegation", seccomp_unotify(2), fuse(4)
"""

from __future__ import annotations

import fcntl
import os
import struct

from rootless.errors import KernelError, RootlessError
from rootless.kernel import fs, idmaps, mounts, overlayprobe, process
from rootless.kernel._sys import lib
from rootless.kernel.check import check
from rootless.kernel.enter import ENTER, enter
from rootless.kernel.fds import Fd, close_range, memfd, open_fd, read_all, read_file, seal, write_all
from rootless.kernel.hints import read_settings
from rootless.kernel.namespaces import (
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
    assert_single_threaded,
    unshare,
)
from rootless.kernel.paths import open_in_root, open_root
from rootless.plan.userns import TOOLS, UsernsMode, plan_userns
from rootless.spec import facts as f
from rootless.spec.facts import Finding, HostFacts, finding_from_json, finding_to_json
from rootless.spec.jsontext import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Try = Callable[[], str]
    """Tries something; returns the detail, or raises KernelError or OSError."""

NETWORK_FILE_SYSTEMS = frozenset((
    "nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "fuse.sshfs", "afs", "9p", "glusterfs",
    "fuse.glusterfs", "pvfs2", "ncpfs",
))  # fmt: skip
_ALLOW_ALL = struct.pack("=HBBI", 0x06, 0, 0, 0x7FFF0000)  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
_EINVAL = 22


def probe_all(data_root: str, run_root: str, environ: Mapping[str, str]) -> HostFacts:
    """Try everything; nothing is left behind.

    Shape:   *data_root* need not exist: its nearest existing parent is tried then
    Blocks:  half a second
    """
    settings = read_settings(environ)
    found = [_ranges(environ)]
    found += _forked((f.USERNS,), _alone(f.USERNS, lambda: _enter_one_id(environ)))
    if found[-1].works:
        found += _forked((f.IDMAP,), _alone(f.IDMAP, lambda: _enter_ranges(environ)))
        found += _forked(_INSIDE, lambda: _inside(data_root, run_root, environ))
    else:
        found += [Finding(name, False, NO_NAMESPACE) for name in (f.IDMAP, *_INSIDE)]
    for name, action in ((f.MEMFD, _memfd), (f.CLONE3, _clone3), (f.OPENAT2, _openat2)):
        found += _forked((name,), _alone(name, action))
    found += _store(data_root)
    found += [_cgroup(environ), _ping(), _attempt(f.RUN_ROOT, lambda: _run_root(run_root))]
    found += _forked((f.SECCOMP, f.NOTIFY), _filters)
    order = {name: at for at, name in enumerate(ORDER)}
    return HostFacts(_key(data_root), settings, tuple(sorted(found, key=lambda one: order[one.name])))


def probe_storage(data_root: str, run_root: str, environ: Mapping[str, str]) -> tuple[Finding, ...]:
    """Try only what decides about the storage driver: overlay, FUSE, the store (for `info`).

    Blocks: 50 ms
    """

    def body() -> list[Finding]:
        enter(run_root, UsernsMode("host"), environ)
        target = f"{run_root}/probe-{os.getpid()}"
        os.mkdir(target, 0o700)
        try:
            return [_attempt(f.FUSE, lambda: _fuse(target)), _overlay(data_root)]
        finally:
            os.rmdir(target)

    return (*_forked((f.FUSE, f.OVERLAY), body), *_store(data_root))


NO_NAMESPACE = "needs a user namespace"
ORDER = (
    f.USERNS, f.RANGES, f.IDMAP, f.FRESH_PROC, f.HOSTNAME, f.OVERLAY, f.FUSE, f.TUN, f.PING, f.CGROUP, f.SECCOMP,
    f.NOTIFY, f.MEMFD, f.CLONE3, f.OPENAT2, f.MOUNT_API, f.IDMAPPED, f.STORE, f.XATTR, f.REFLINK, f.RUN_ROOT,
)  # fmt: skip
_INSIDE = (f.FRESH_PROC, f.HOSTNAME, f.OVERLAY, f.FUSE, f.TUN, f.MOUNT_API, f.IDMAPPED)


def _key(data_root: str) -> str:
    return overlayprobe.cache_key(existing_parent(data_root), single=False)


# ---- children


def _forked(names: tuple[str, ...], body: Callable[[], list[Finding]]) -> list[Finding]:
    """Run *body* in a child and return its findings; *names* are what it was to find, should it die."""
    assert_single_threaded()
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(reading)
            text = dumps([finding_to_json(finding) for finding in body()])
        except BaseException as error:
            text = dumps([finding_to_json(Finding(name, False, _said(error))) for name in names])
        try:
            write_all(Fd(writing), text.encode("utf-8", "surrogatepass"))
        finally:
            os._exit(0)
    os.close(writing)
    with Fd(reading) as end:
        data = read_all(end)
    status = process.wait_pid(pid)
    try:
        return [finding_from_json(one) for one in loads(data)]
    except ValueError:
        return [Finding(name, False, f"the probe ended with status {status}") for name in names]


def _attempt(name: str, action: Try) -> Finding:
    """Return what *action* says, or its failure."""
    try:
        return Finding(name, True, action())
    except KernelError as error:
        return Finding(name, False, error.message, error.syscall, error.errno or 0)
    except OSError as error:
        return Finding(name, False, _said(error), "", error.errno or 0)
    except RootlessError as error:
        return Finding(name, False, error.message)


def _said(error: BaseException) -> str:
    if isinstance(error, RootlessError):
        return error.message
    if isinstance(error, OSError) and error.errno:
        return f"{error.filename}: {os.strerror(error.errno).lower()}" if error.filename else os.strerror(error.errno)
    return f"{type(error).__name__}: {error}"


# ---- identity


def _ranges(environ: Mapping[str, str]) -> Finding:
    ids = idmaps.read_facts(environ)
    if ids.uid == 0:
        count = min(ids.own_uids.size, ids.own_gids.size)
        if count == 1:
            return Finding(f.RANGES, False, "the namespace that we run in has a single id")
        return Finding(f.RANGES, True, f"root needs none: {count} ids are ours")
    uids = sum([size for _, size in ids.sub_uids])
    gids = sum([size for _, size in ids.sub_gids])
    if uids and gids:
        first = f"from {ids.sub_uids[0][0]}" if len(ids.sub_uids) == 1 else f"in {len(ids.sub_uids)} ranges"
        return Finding(f.RANGES, True, f"{uids} uids {first}, {gids} gids")
    missing = [what for what, count in (("/etc/subuid", uids), ("/etc/subgid", gids)) if not count]
    return Finding(f.RANGES, False, f"nothing for {ids.name or ids.uid} in {' and '.join(missing)}")


def _enter_one_id(environ: Mapping[str, str]) -> str:
    enter("/", UsernsMode("single"), environ)
    return f"made by {ENTER}"


def _enter_ranges(environ: Mapping[str, str]) -> str:
    ids = idmaps.read_facts(environ)
    plan = plan_userns(UsernsMode("host"), ids)
    if plan.warnings and plan.squashes:
        raise RootlessError(plan.warnings[0].partition(": ")[0])
    # "/" holds no live container: the map is really written
    identity = enter("/", UsernsMode("host"), environ)
    if identity.plan.squashes and not plan.squashes:
        raise RootlessError(identity.warnings[0].partition(": only one id")[0])
    by = "newuidmap and newgidmap wrote" if plan.how == TOOLS else "we wrote"
    return f"{by} maps of {identity.plan.outer_uids.size} uids and {identity.plan.outer_gids.size} gids"


# ---- inside our user namespace


def _inside(data_root: str, run_root: str, environ: Mapping[str, str]) -> list[Finding]:
    """Become what a run becomes, then try each thing in a child of its own."""
    enter(run_root, UsernsMode("host"), environ)
    target = f"{run_root}/probe-{os.getpid()}"
    os.mkdir(target, 0o700)
    found: list[Finding] = []
    try:
        for name, action in (
            (f.FRESH_PROC, lambda: _fresh_proc(target)), (f.HOSTNAME, _hostname), (f.FUSE, lambda: _fuse(target)),
            (f.TUN, _tun), (f.MOUNT_API, lambda: _mount_api(target)), (f.IDMAPPED, _idmapped),
        ):  # fmt: skip
            found += _forked((name,), _alone(name, action))
        found += _forked((f.OVERLAY,), lambda: [_overlay(data_root)])
    finally:
        os.rmdir(target)
    return found


def _alone(name: str, action: Try) -> Callable[[], list[Finding]]:
    return lambda: [_attempt(name, action)]


def _fresh_proc(target: str) -> str:
    unshare(CLONE_NEWPID | CLONE_NEWNS)
    pid = os.fork()
    if pid == 0:
        number = 1
        try:
            mounts.mount("proc", target, "proc", mounts.MS_NOSUID | mounts.MS_NODEV | mounts.MS_NOEXEC)
            number = 0
        except KernelError as error:
            number = error.errno or 1
        finally:
            os._exit(number)
    number = process.wait_pid(pid)
    if number:
        raise KernelError("mount(proc)", number)
    return "a container sees its own processes only"


def _hostname() -> str:
    import _socket

    unshare(CLONE_NEWUTS)
    try:
        _socket.sethostname("probe")
    except OSError as error:
        raise KernelError("sethostname", error.errno or 0) from None
    return ""


def _fuse(target: str) -> str:
    with open_fd("/dev/fuse", os.O_RDWR) as device:
        options = f"fd={device.fileno()},rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other"
        mounts.mount("probe", target, "fuse.probe", mounts.MS_NODEV | mounts.MS_NOSUID, options)
        mounts.umount2(target, mounts.MNT_DETACH)
    if not _installed("pyfuse3"):
        raise RootlessError("the kernel allows it, but pyfuse3 is not installed")
    return "mounted through /dev/fuse; pyfuse3 is installed"


def _installed(package: str) -> bool:
    import sys

    return any(os.path.exists(f"{place}/{package}") for place in sys.path)


def _tun() -> str:
    unshare(CLONE_NEWNET)
    with open_fd("/dev/net/tun", os.O_RDWR) as tap:
        request = struct.pack("=16sH22x", b"probe0", lib.IFF_TAP | lib.IFF_NO_PI)
        try:
            fcntl.ioctl(tap.fileno(), lib.TUNSETIFF, request)
        except OSError as error:
            raise KernelError("ioctl(TUNSETIFF)", error.errno or 0) from None
    return "a tap in a network namespace of its own"


def _memfd() -> str:
    """Run our own program `enter` from memory: without arguments it only prints its usage (status 2)."""
    with memfd("probe", executable=True) as program, memfd("probe-output") as sink:
        write_all(program, read_file(ENTER))
        seal(program)
        status = process.wait_pid(process.spawn(["enter"], executable=program.proc_path(), fds={1: sink, 2: sink}))
    if status != 2:
        raise RootlessError(f"the program ended with status {status}")
    return "programs are run from sealed memory"


def _clone3() -> str:
    """An empty request is invalid (EINVAL) where the call exists; a container's filter says ENOSYS."""
    result = lib.rl_clone3_empty(0)
    if result == -_EINVAL:
        return ""
    raise KernelError("clone3", -result)


def _openat2() -> str:
    with open_root("/") as root, open_in_root(root, b"../proc/self", os.O_PATH):
        return ""


def _mount_api(target: str) -> str:
    with _tmpfs() as tmpfs:
        mounts.move_mount(tmpfs, None, target)
    try:
        mounts.open_tree(target).close()
    finally:
        mounts.umount2(target, mounts.MNT_DETACH)
    return "mounts are handed over as descriptors"


def _tmpfs() -> Fd:
    with mounts.fsopen("tmpfs") as config:
        mounts.fsconfig_create(config)
        return mounts.fsmount(config)


def _idmapped() -> str:
    """Map the ids of a mount by another user namespace, whose map we write."""
    ready, ready_end = os.pipe2(os.O_CLOEXEC)
    gate, gate_end = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            os.close(gate_end)
            unshare(CLONE_NEWUSER)
            os.write(ready_end, b"1")
            os.read(gate, 1)
        finally:
            os._exit(0)
    os.close(ready_end)
    try:
        os.read(ready, 1)
        for file, text in (("setgroups", b"deny"), ("uid_map", b"0 0 1"), ("gid_map", b"0 0 1")):
            with open_fd(f"/proc/{pid}/{file}", os.O_WRONLY) as out:
                write_all(out, text)
        with open_fd(f"/proc/{pid}/ns/user", os.O_RDONLY) as namespace, _tmpfs() as tmpfs:
            mounts.mount_setattr(tmpfs, attr_set=mounts.MOUNT_ATTR_IDMAP, userns=namespace)
    finally:
        os.close(gate_end)
        process.wait_pid(pid)
    return "of our own tmpfs"


# ---- the store and the run root


def existing_parent(path: str) -> str:
    """Return *path* or its nearest parent that exists."""
    while not os.path.isdir(path) and path != "/":
        path = os.path.dirname(path) or "/"
    return path


def file_system(path: str) -> str:
    """Return the type of the file system of *path* as mountinfo names it."""
    with open_fd(path, os.O_PATH) as place:
        number = str(fs.mount_id(place))
    for line in read_file("/proc/self/mountinfo").decode("utf-8", "surrogateescape").splitlines():
        words = line.split(" ")
        if words[0] == number:
            return words[words.index("-") + 1]
    return "unknown"


def _scratch(data_root: str) -> str:
    """Make a directory in the store's file system, which the caller removes."""
    parent = existing_parent(data_root)
    scratch = f"{parent}/.rootless-probe-{os.getpid()}"
    try:
        os.mkdir(scratch, 0o700)
    except OSError as error:
        raise KernelError("mkdir", error.errno or 0, parent) from None
    return scratch


def _overlay(data_root: str) -> Finding:
    try:
        scratch = _scratch(data_root)
    except KernelError as error:
        return Finding(f.OVERLAY, False, error.message, error.syscall, error.errno or 0)
    try:
        return overlayprobe.try_overlay(scratch)
    finally:
        overlayprobe.remove_tree(scratch)


def _store(data_root: str) -> list[Finding]:
    try:
        scratch = _scratch(data_root)
    except KernelError as error:
        finding = Finding(f.STORE, False, error.message, error.syscall, error.errno or 0)
        return [finding, *[Finding(name, False, "there is no store to try it in") for name in (f.XATTR, f.REFLINK)]]
    try:
        kind = file_system(scratch)
        return [
            Finding(f.STORE, True, f"{data_root} on {kind}"),
            _attempt(f.XATTR, lambda: _xattr(scratch)),
            _attempt(f.REFLINK, lambda: _reflink(scratch, kind)),
        ]
    finally:
        overlayprobe.remove_tree(scratch)


def _xattr(scratch: str) -> str:
    try:
        os.setxattr(scratch, "user.rootless.probe", b"1")
    except OSError as error:
        raise KernelError("setxattr", error.errno or 0, "user.*") from None
    return "attributes of users are kept"


def _reflink(scratch: str, kind: str) -> str:
    with open_fd(f"{scratch}/one", os.O_RDWR | os.O_CREAT, 0o600) as one:
        write_all(one, b"x" * 4096)
        with open_fd(f"{scratch}/two", os.O_RDWR | os.O_CREAT, 0o600) as two:
            if not fs.ficlone(two, one):
                raise KernelError("ioctl(FICLONE)", 95, f"on {kind}")
    return "copies share their blocks"


def _run_root(run_root: str) -> str:
    import _socket

    kind = file_system(run_root)
    if kind in NETWORK_FILE_SYSTEMS:
        raise RootlessError(f"{run_root} is on {kind}, a network file system: locks and sockets must be local")
    name = f"{run_root}/probe-{os.getpid()}"
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        with open_fd(run_root, os.O_RDONLY) as directory:
            sock.bind(f"/proc/self/fd/{directory.fileno()}/probe-{os.getpid()}")
            fcntl.flock(directory.fileno(), fcntl.LOCK_SH | fcntl.LOCK_NB)
        os.unlink(name)
    finally:
        sock.close()
    return f"{run_root} on {kind}"


# ---- around us


def cgroup_version(*, proc: str = "/proc", cgroup: str = "/sys/fs/cgroup") -> str:
    """Return "v2", "v1", "hybrid" (controllers in v1, a v2 tree beside them) or "none"."""
    lines = idmaps.read_text(f"{proc}/self/cgroup").splitlines()
    unified = any(line.startswith("0::") for line in lines)
    if len(lines) > 1:
        return "hybrid" if unified else "v1"
    return ("v2" if os.path.exists(f"{cgroup}/cgroup.controllers") else "none") if unified else "none"


def _cgroup(environ: Mapping[str, str]) -> Finding:
    """Make a cgroup below ours and move a child into it; that mkdir succeeds proves nothing."""
    version = cgroup_version()
    bus = environ.get("DBUS_SESSION_BUS_ADDRESS") or os.path.exists(f"/run/user/{os.getuid()}/bus")
    more = "; systemd's user bus can give a scope" if bus and version == "v2" else ""
    if version in ("v1", "none", "hybrid"):
        detail = {"none": "no cgroup tree is visible", "v1": "cgroup v1: only root may use it",
                  "hybrid": "hybrid: the controllers are in v1, where only root may use them"}[version]  # fmt: skip
        return Finding(f.CGROUP, False, detail)
    own = ""
    for line in idmaps.read_text("/proc/self/cgroup").splitlines():
        if line.startswith("0::"):
            own = "/sys/fs/cgroup" + line[3:].rstrip("/")
    directory = f"{own}/rootless-probe-{os.getpid()}"
    try:
        os.mkdir(directory, 0o755)
    except OSError as error:
        return Finding(f.CGROUP, False, f"{version}: {own} is not ours to divide{more}", "mkdir", error.errno or 0)
    try:
        (found,) = _forked((f.CGROUP,), lambda: [_attempt(f.CGROUP, lambda: _join_cgroup(directory))])
    finally:
        _remove_cgroup(directory)
    if not found.works:
        return Finding(
            f.CGROUP, False, f"{version}: no process may be moved in {own}{more}", found.syscall, found.errno
        )
    controllers = idmaps.read_text(f"{own}/cgroup.controllers").strip() or "none"
    return Finding(f.CGROUP, True, f"{version}, delegated controllers: {controllers}{more}")


def _join_cgroup(directory: str) -> str:
    with open_fd(f"{directory}/cgroup.procs", os.O_WRONLY) as procs:
        try:
            os.write(procs.fileno(), b"0")
        except OSError as error:
            raise KernelError("write", error.errno or 0, "cgroup.procs") from None
    return ""


def _remove_cgroup(directory: str) -> None:
    # The child has been reaped, but the kernel takes its membership back a moment later.
    for _ in range(1000):
        try:
            os.rmdir(directory)
            return
        except OSError as error:
            if error.errno != 16:
                return


def _ping() -> Finding:
    words = idmaps.read_text("/proc/sys/net/ipv4/ping_group_range").split()
    groups = {os.getgid(), *os.getgroups()}
    if len(words) == 2 and any(int(words[0]) <= group <= int(words[1]) for group in groups):
        return Finding(f.PING, True, f"net.ipv4.ping_group_range is {words[0]} {words[1]}")
    return Finding(f.PING, False, f"net.ipv4.ping_group_range is {' '.join(words) or 'not readable'}")


def _filters() -> list[Finding]:
    def load(flags: int) -> str:
        number = lib.rl_seccomp_filter(_ALLOW_ALL, len(_ALLOW_ALL), flags)
        check("seccomp", number)
        if flags:
            close_range(number, number)
        return ""

    process.set_no_new_privs()
    found = [_attempt(f.SECCOMP, lambda: load(0))]
    found.append(_attempt(f.NOTIFY, lambda: load(lib.SECCOMP_FILTER_FLAG_NEW_LISTENER)))
    return found
