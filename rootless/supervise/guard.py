"""A run root that is wiped while containers run: their supervisors make their directories again.

What lives below /tmp or $XDG_RUNTIME_DIR is deleted by tidy programs, and by people. Nobody would see the container any
more, or could end it; its lock, its notes and its control socket come back within CHECK_SECONDS.
"""

from __future__ import annotations

import fcntl
import os

import trio

from rootless.errors import RootlessError
from rootless.kernel.fds import Fd
from rootless.store import containers, layout
from rootless.supervise import control, packets
from rootless.supervise.client import SOCKET

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.supervise.control import Service
    from rootless.supervise.session import Life
    from rootless.supervise.supervision import Supervision

CHECK_SECONDS = 5.0


async def keep_run_dir(life: Life, service: Service, s: Supervision) -> None:
    """Watch over the run directory until cancelled."""
    async with trio.open_nursery() as nursery:
        while True:
            await trio.sleep(CHECK_SECONDS)
            if _is_there(life):
                continue
            try:
                service.listener = _make_again(life, s.pid)
            except (OSError, RootlessError):
                continue  # there is no place for it now: the next look may find one
            # The old socket has no name any more and stays as it is: nobody can come through it.
            nursery.start_soon(control.serve, service, s)


def _is_there(life: Life) -> bool:
    try:
        named = os.stat(f"{containers.run_dir(life.roots, life.basis.cid)}/lock")
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return os.path.samestat(named, os.fstat(life.lock.fileno()))


def _make_again(life: Life, pid: int) -> Fd:
    """Make what others need to find us, and return the socket that listens.

    Raises: OSError, RootlessError
    """
    roots, cid = life.roots, life.basis.cid
    directory = containers.run_dir(roots, cid)
    if not os.path.isdir(roots.run):
        layout.make_directory(roots.run)
    if os.path.isdir(directory):
        lock = Fd(os.open(f"{directory}/lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        fcntl.flock(lock.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        containers.note_process(f"{directory}/pid", os.getpid())
    else:
        lock = containers.make_run_dir(roots, cid)
    life.lock.close()
    life.lock = lock
    containers.note_process(f"{directory}/child", pid)
    if not os.path.isdir(f"{directory}/root"):
        os.mkdir(f"{directory}/root", 0o700)
    try:
        os.unlink(f"{directory}/{SOCKET}")
    except FileNotFoundError:
        pass
    return packets.listen(directory, SOCKET)
