"""Containers on disk: records that stay, run directories that live as long as a supervisor.

Shape:
    DATA/containers/ID/record.json   what the container is and how it ended: one small file, replaced by rename
    DATA/containers/ID/diff, work    its writable layer (or below TMP where DATA cannot hold one)
    DATA/containers/.ID.new, .ID.gone    one that is being made or deleted, locked by who does it
    DATA/names/NAME                  a file with the ID, DATA/containers/ID/name; claimed by link(2), atomic on NFS too
    RUN/containers/ID/lock           flock held by the supervisor for as long as it lives
    RUN/containers/ID/pid            "PID STARTTIME" of the supervisor
    RUN/containers/ID/child          "PID STARTTIME" of the container's first process
    RUN/containers/ID/paused         exists while its processes are paused
    RUN/containers/ID/stopping       exists when somebody wants its end: no restart policy begins it again
    RUN/containers/ID/looked-into    exists while `cp` or `mount` holds a container that does not run
    RUN/containers/ID/ctl.sock       where its supervisor is asked things (supervise/control.py)
    RUN/containers/ID/...            generated files, sockets, the plan
    RUN/exits/ID                     how a container ended whose record is gone (--rm)

A container lives exactly while its lock is held; no pid is trusted without its start time.

Source: architecture.md decision 5; flock(2), link(2)
"""

from __future__ import annotations

import errno
import fcntl
import os
import time

from rootless.errors import ContainerStateError, NotFound, StoreError
from rootless.kernel.fds import Fd, is_locked
from rootless.spec.record import record
from rootless.store import atomic, layout

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from rootless.store.layout import Roots

FORMAT = 1
CONTAINERS = "containers"
NAMES = "names"
CLAIM = "name"
EXITS = "exits"
PAUSED, STOPPING, UNWANTED = "paused", "stopping", "unwanted"
LOOKED_INTO = "looked-into"
EXIT_SECONDS = 300
END_SECONDS = 20.0


@record
class Container:
    """One container's record.

    Shape: *data* is the JSON object of record.json: format, id, name, created, image, image_id, machine, boot, state
           {status, started, finished, exit_code, error}, driver, driver_reason, command, ... and spec for inspect
    """

    id: str
    name: str
    data: dict[str, Any]

    @property
    def auto_remove(self) -> bool:
        return bool(self.data.get("auto_remove"))


def new_id() -> str:
    """Return 64 random hex digits."""
    return os.urandom(32).hex()


def data_dir(roots: Roots, cid: str) -> str:
    return f"{roots.data}/{CONTAINERS}/{cid}"


def run_dir(roots: Roots, cid: str) -> str:
    return f"{roots.run}/{CONTAINERS}/{cid}"


def machine_id() -> str:
    """Return what tells this machine from others that share the data root."""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        text = atomic.read_file(path)
        if text:
            return text.decode("ascii", "replace").strip()
    return os.uname().nodename


def boot_id() -> str:
    """Return the id of this boot."""
    text = atomic.read_file("/proc/sys/kernel/random/boot_id")
    return text.decode("ascii", "replace").strip() if text else ""


def create(roots: Roots, container: Container) -> None:
    """Claim the name of a new container and write its record.

    What `create` makes appears whole, by rename of `.ID.new`; where the directory is there already, for a container
    that is being started, the lock of its run directory tells others that it is coming. The claim comes first in both,
    so that no container is without its name after a crash (`sweep` finds claims of none).

    Raises: StoreError - the name is in use (podman's words)
    """
    directory = data_dir(roots, container.id)
    try:
        _create(roots, container, directory)
    except OSError as error:
        raise atomic.cannot("write", directory, error) from error


def _create(roots: Roots, container: Container, directory: str) -> None:
    for parent in (f"{roots.data}/{CONTAINERS}", f"{roots.data}/{NAMES}"):
        if not os.path.isdir(parent):
            layout.make_directory(parent)
    if os.path.isdir(directory):
        _fill(roots, container, directory)
        return
    staged = f"{roots.data}/{CONTAINERS}/.{container.id}.new"
    with _staged(staged):
        try:
            _fill(roots, container, staged)
            os.rename(staged, directory)
        except BaseException:
            for name in os.listdir(staged):
                os.unlink(f"{staged}/{name}")
            os.rmdir(staged)
            raise


def _fill(roots: Roots, container: Container, directory: str) -> None:
    claim = f"{directory}/{CLAIM}"
    with open(claim, "w") as out:
        out.write(container.id)
    while True:
        try:
            os.link(claim, f"{roots.data}/{NAMES}/{container.name}")
            break
        except FileExistsError:
            holder = holder_of(roots, container.name)
        if holder:
            raise StoreError(
                f'creating container storage: the container name "{container.name}" is already in use by {holder}. You '
                "have to remove that container to be able to reuse that name: that name is already in use",
                hint=f"choose another --name, or remove that one: rootless rm {container.name}",
            )
    atomic.write_record(f"{directory}/record.json", container.data)


def _staged(path: str) -> Fd:
    """Make the directory *path* and return it locked; who finds it unlocked takes it for a leftover (`sweep`)."""
    while True:
        layout.make_directory(path)
        fd = _taken(path, making=True)
        if fd is not None:
            return fd


def _taken(path: str, *, making: bool = False) -> Fd | None:
    """Return the directory *path* with its lock held; None when somebody else holds it, or it has gone.

    Where directories cannot be locked (flock(2): not over NFS) only who is *making* one gets it, and nothing is swept.
    """
    try:
        fd = Fd(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    except OSError:
        return None
    locked = making
    try:
        fcntl.flock(fd.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        locked = True
    except BlockingIOError:
        locked = False
    except OSError:
        pass
    try:
        if locked and os.path.samestat(os.fstat(fd.fileno()), os.stat(path)):
            return fd
    except OSError:
        pass
    fd.close()
    return None


def holder_of(roots: Roots, name: str) -> str:
    """Return the id of the container that has *name*, "" when nobody has it.

    A claim of a container that is gone, or has another name by now, was left by a crash: it is taken away, by one at a
    time (the lock of names/), and not while somebody changes that container (the lock of its directory).
    """
    path = f"{roots.data}/{NAMES}/{name}"
    holder = _claimed_by(path)
    found = read(roots, holder) if holder else None
    if found is not None and found.name == name:
        return holder
    try:
        with _locked(f"{roots.data}/{NAMES}", fcntl.LOCK_EX):
            holder = _claimed_by(path)
            staged = f"{roots.data}/{CONTAINERS}/.{holder}.new"
            if holder and os.path.isdir(staged):
                dead = _taken(staged)
                if dead is None:
                    return holder  # it is just coming
                dead.close()
            try:
                with _locked(data_dir(roots, holder or "-"), fcntl.LOCK_EX | fcntl.LOCK_NB):
                    found = read(roots, holder)
                    if found is None or found.name == name:
                        return holder  # it is just coming, or going
            except FileNotFoundError:
                pass
            atomic.remove_file(path)
            return ""
    except BlockingIOError:
        return holder


def rename(roots: Roots, cid: str, name: str) -> str:
    """Claim *name* for the container, write it into the record, give the old name up; return whose *name* is now.

    Raises: NotFound - it was removed meanwhile
    """
    names = f"{roots.data}/{NAMES}"
    claim = f"{data_dir(roots, cid)}/{CLAIM}"
    try:
        with _locked(data_dir(roots, cid), fcntl.LOCK_EX):
            found = read(roots, cid)
            if found is None:
                raise NotFound("container", cid)
            while True:
                try:
                    os.link(claim, f"{names}/{name}")
                    break
                except FileExistsError:
                    if _claimed_by(f"{names}/{name}") == cid:
                        break  # left by a crash in a rename to this name
                    holder = holder_of(roots, name)
                if holder:
                    return holder
            try:
                write(roots, Container(cid, name, {**found.data, "name": name}))
            except StoreError:
                if name != found.name:
                    atomic.remove_file(f"{names}/{name}")
                raise
            _give_up(roots, cid, kept=name)
            return cid
    except FileNotFoundError:
        raise NotFound("container", cid) from None


def _give_up(roots: Roots, cid: str, *, kept: str = "") -> None:
    """Take all names of a container away but one: the one of its record, and what a crash left.

    All are links to one file, so their number is known before the directory is read.
    """
    names = f"{roots.data}/{NAMES}"
    try:
        mine = os.stat(f"{data_dir(roots, cid)}/{CLAIM}")
    except FileNotFoundError:
        return
    if mine.st_nlink == (2 if kept else 1):
        return
    for name in atomic.names_in(names):
        try:
            same = os.path.samestat(os.stat(f"{names}/{name}"), mine)
        except FileNotFoundError:
            continue
        if same and name != kept:
            atomic.remove_file(f"{names}/{name}")


def _claimed_by(path: str) -> str:
    """Return the id in a file of names/; "" when there is none."""
    text = (atomic.read_file(path) or b"").decode("ascii", "replace")
    return text if len(text) == 64 and text.isalnum() else ""


def _locked(directory: str, kind: int) -> Fd:
    """Return *directory* with its lock held, where directories can be locked (flock(2): not over NFS).

    Raises: FileNotFoundError, BlockingIOError
    """
    held = Fd(os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
    try:
        fcntl.flock(held.fileno(), kind)
    except BlockingIOError:
        held.close()
        raise
    except OSError:
        pass
    return held


def write(roots: Roots, container: Container) -> None:
    """Replace the record."""
    atomic.write_record(f"{data_dir(roots, container.id)}/record.json", container.data)


def read(roots: Roots, cid: str) -> Container | None:
    """Return the record of the container with the full id *cid*."""
    data = atomic.read_record(f"{data_dir(roots, cid)}/record.json")
    if data is None:
        return None
    return Container(cid, str(data.get("name", "")), data)


def find(roots: Roots, text: str) -> Container:
    """Return the container named *text*, or whose id begins with it.

    Raises: NotFound; StoreError when several ids begin so, or *text* is empty
    """
    if not text:
        raise StoreError("name or ID cannot be empty")
    if "/" not in text and text not in (".", ".."):
        holder = atomic.read_file(f"{roots.data}/{NAMES}/{text}")
        if holder:
            found = read(roots, holder.decode("ascii", "replace"))
            if found is not None:
                return found
    ids = [cid for cid in ids_of(roots) if cid.startswith(text)]
    if len(ids) > 1:
        raise StoreError(f"more than one result for container ID {text}: container already exists")
    found = read(roots, ids[0]) if ids else None
    if found is None:
        raise NotFound("container", text)
    return found


def ids_of(roots: Roots) -> list[str]:
    """Return the ids of all containers on disk."""
    return [name for name in atomic.names_in(f"{roots.data}/{CONTAINERS}") if len(name) == 64]


def list_containers(roots: Roots) -> list[Container]:
    """Return all records, oldest first."""
    found = [c for c in [read(roots, cid) for cid in ids_of(roots)] if c is not None]
    return sorted(found, key=_created)


def _created(container: Container) -> str:
    return str(container.data.get("created", ""))


LIVE = ("running", "initialized")


def status(roots: Roots, container: Container) -> str:
    """Return created, initialized, running, paused, stopping, exited, or `remote` for one that another machine runs.

    A record that says running while nobody holds its lock tells of a crash: exited.
    """
    said = str(container.data.get("state", {}).get("status", "created"))
    if container.data.get("machine") != machine_id():
        return "remote" if said in LIVE else said
    if said in LIVE:
        directory = run_dir(roots, container.id)
        if not is_alive(roots, container.id):
            from rootless.store.overview import process_lives

            return said if process_lives(container.data) else "exited"
        for mark in (PAUSED, STOPPING):
            if os.path.exists(f"{directory}/{mark}"):
                return mark
    return said


def is_alive(roots: Roots, cid: str) -> bool:
    """Say whether a supervisor holds the container's lock."""
    try:
        return is_locked(f"{run_dir(roots, cid)}/lock")
    except OSError:
        return False


def make_run_dir(roots: Roots, cid: str) -> Fd:
    """Make the run directory with a held lock; return the lock. The holder keeps it open to its end.

    It appears under its name by rename when all is in it and the lock is held: nobody can take a container that
    begins for an orphan. A directory `.ID.PID.new` whose lock is free was left by a crash (supervise/orphans.py);
    should somebody take ours for that before we have locked it, we begin again.
    """
    parent = f"{roots.run}/{CONTAINERS}"
    if not os.path.isdir(parent):
        layout.make_directory(parent)
    staged = f"{parent}/.{cid}.{os.getpid()}.new"
    while True:
        layout.make_directory(staged)
        fd = -1
        try:
            fd = os.open(f"{staged}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            note_process(f"{staged}/pid", os.getpid())
            os.rename(staged, run_dir(roots, cid))
            return Fd(fd)
        except (BlockingIOError, FileNotFoundError):
            if fd >= 0:
                os.close(fd)
        except OSError as error:
            for name in ("pid", "lock"):
                atomic.remove_file(f"{staged}/{name}")
            atomic.remove_empty(staged)
            os.close(fd)
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
            _await_end(roots, cid)


def _await_end(roots: Roots, cid: str) -> None:
    """Wait until the last supervisor of a container has gone: its record says `exited` a moment before that.

    Raises: ContainerStateError - somebody else has started the container meanwhile
    """
    until = time.monotonic() + END_SECONDS
    while os.path.isdir(run_dir(roots, cid)):
        found = read(roots, cid)
        if found is not None and found.data.get("state", {}).get("status") in LIVE:
            raise ContainerStateError(f"container {cid} has just been started: container state improper")
        if time.monotonic() > until:
            raise ContainerStateError(f"the last supervisor of container {cid} does not end: container state improper")
        time.sleep(0.005)


def note_process(path: str, pid: int) -> None:
    """Write "PID STARTTIME" to *path*."""
    temporary = f"{path}.new"
    with open(temporary, "w") as out:
        out.write(f"{pid} {start_time(pid)}\n")
    os.rename(temporary, path)


def start_time(pid: int) -> int:
    """Return when *pid* started, in clock ticks after boot; 0 when there is no such process.

    Source: proc_pid_stat(5) field 22; the name in parentheses may hold anything
    """
    text = atomic.read_file(f"/proc/{pid}/stat")
    if not text:
        return 0
    words = text[text.rindex(b")") + 2 :].split()
    return int(words[19]) if len(words) > 19 else 0


def noted_process(path: str) -> int:
    """Return the pid in *path* if that very process still lives, else 0."""
    text = atomic.read_file(path)
    words = text.split() if text else []
    if len(words) != 2 or not (words[0].isdigit() and words[1].isdigit()):
        return 0
    pid, started = int(words[0]), int(words[1])
    return pid if started and start_time(pid) == started else 0


def update(roots: Roots, cid: str, change: Callable[[dict[str, Any]], None]) -> Container | None:
    """Change the record as it is on disk now; return it, None when it is gone.

    The supervisor and `rename` or `update` may want that at one time: the directory's lock puts one after the other.

    Blocks: while somebody else changes it
    """
    try:
        directory = _locked(data_dir(roots, cid), fcntl.LOCK_EX)
    except FileNotFoundError:
        return None
    with directory:
        found = read(roots, cid)
        if found is None:
            return None
        change(found.data)
        changed = Container(cid, str(found.data.get("name", "")), found.data)
        write(roots, changed)
        return changed


def finish(roots: Roots, container: Container, exit_code: int, *, error: str = "", oom_killed: bool = False) -> None:
    """Write how the container ended."""

    def end(data: dict[str, Any]) -> None:
        data["state"] = {
            **data.get("state", {}),
            "status": "exited",
            "pid": 0,
            "exit_code": exit_code,
            "finished": now(),
            "error": error,
            "oom_killed": oom_killed,
        }

    update(roots, container.id, end)


def note_exit(roots: Roots, cid: str, exit_code: int) -> None:
    """Keep how a container ended whose record goes away, for those who wait for it; forget what is old.

    Source: podman keeps these for five minutes too
    """
    directory = f"{roots.run}/{EXITS}"
    if not os.path.isdir(directory):
        layout.make_directory(directory)
    oldest = time.time() - EXIT_SECONDS
    for name in os.listdir(directory):
        try:
            if os.stat(f"{directory}/{name}").st_mtime < oldest:
                os.unlink(f"{directory}/{name}")
        except OSError:
            continue
    staged = f"{directory}/.{cid}"
    with open(staged, "w") as out:
        out.write(str(exit_code))
    os.rename(staged, f"{directory}/{cid}")


def noted_exit(roots: Roots, cid: str) -> int | None:
    """Return how the container *cid* ended, if that is still kept."""
    text = atomic.read_file(f"{roots.run}/{EXITS}/{cid}")
    return int(text) if text and text.isdigit() else None


def forget_exit(roots: Roots, cid: str) -> None:
    """Delete what `note_exit` has kept: the record tells it now."""
    atomic.remove_file(f"{roots.run}/{EXITS}/{cid}")


def discard(roots: Roots, cid: str) -> None:
    """Delete a container's record, name and files. Needs the user namespace: files have mapped owners.

    It disappears by one rename, to `.ID.gone`, whose lock we hold: `sweep` goes on where a crash has ended us.
    """
    directory = data_dir(roots, cid)
    gone = f"{roots.data}/{CONTAINERS}/.{cid}.gone"
    try:
        with _locked(directory, fcntl.LOCK_EX):
            found = read(roots, cid)
            os.rename(directory, gone)
            _delete(roots, cid, gone, found.name if found else "")
    except FileNotFoundError:
        pass  # it never came, or somebody else was faster


def _delete(roots: Roots, cid: str, directory: str, name: str) -> None:
    """Delete a directory that nobody sees any more, and the claim of its name; of any name when *name* is ""."""
    from rootless.store.trees import remove_tree

    names = f"{roots.data}/{NAMES}"
    try:
        if os.stat(f"{directory}/{CLAIM}").st_nlink != 2:
            name = ""  # a rename that was killed left another one
    except FileNotFoundError:
        pass
    for claim in (name,) if name else atomic.names_in(names):
        if _claimed_by(f"{names}/{claim}") == cid:
            atomic.remove_file(f"{names}/{claim}")
    remove_tree(directory)


def leftovers(roots: Roots) -> list[tuple[str, Fd]]:
    """Return what crashes left half made or half deleted, as (name below containers/, its lock). Owner: the caller."""
    place = f"{roots.data}/{CONTAINERS}"
    try:
        names = [name for name in os.listdir(place) if name[0] == "."]
    except FileNotFoundError:
        return []
    taken = [(name, _taken(f"{place}/{name}")) for name in names]
    return [(name, lock) for name, lock in taken if lock is not None]


def sweep(roots: Roots, found: list[tuple[str, Fd]]) -> None:
    """Delete leftovers, and their claims. Needs the user namespace."""
    for name, lock in found:
        with lock:
            _delete(roots, name[1:].partition(".")[0], f"{roots.data}/{CONTAINERS}/{name}", "")


def discard_run_dir(roots: Roots, cid: str) -> None:
    """Delete the run directory; its lock goes last, so that nobody takes it for an orphan before."""
    directory = run_dir(roots, cid)
    for name in atomic.names_in(directory):
        if name != "lock":
            path = f"{directory}/{name}"
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            else:
                atomic.remove_file(path)
    atomic.remove_file(f"{directory}/lock")
    atomic.remove_empty(directory)  # the next supervisor's may have taken the place of the empty one by now


def now() -> str:
    """Return the time as RFC 3339 with nanoseconds, in UTC."""
    return rfc3339(time.time_ns())


def rfc3339(ns: int) -> str:
    """Return a time in nanoseconds since 1970 as RFC 3339 in UTC."""
    t = time.gmtime(ns // 1_000_000_000)
    return f"{t[0]:04}-{t[1]:02}-{t[2]:02}T{t[3]:02}:{t[4]:02}:{t[5]:02}.{ns % 1_000_000_000:09}Z"
