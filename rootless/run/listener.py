"""Give the descriptor of a seccomp filter to the agent that answers its notifications.

Source: runtime-spec config-linux.md#containerprocessstate; seccomp_unotify(2)
"""

from __future__ import annotations

import _socket
import posix

from rootless.errors import LaunchError
from rootless.kernel.fds import Fd, send_fds
from rootless.spec import state as life
from rootless.spec.jsontext import dumps
from rootless.spec.runtime import OCI_VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from rootless.kernel.seccomp import SeccompProgram
    from rootless.run.state import ContainerState


def send_listener(notify: Fd, program: SeccompProgram | None, now: ContainerState, pid: int = 0) -> None:
    """Send *notify* and the container process state to the program's listener.

    Shape:  one message on a stream socket: the JSON document, the descriptor beside it
    Raises: LaunchError - nobody listens; the container must not run without its agent
    """
    path = program.listener_path if program is not None else ""
    document: dict[str, object] = {
        "ociVersion": OCI_VERSION,
        "fds": ["seccompFd"],
        "pid": pid or now.pid,
        "state": now.document(life.RUNNING if pid else life.CREATING).value(),
    }
    if program is not None and program.listener_metadata:
        document["metadata"] = program.listener_metadata
    sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM | _socket.SOCK_CLOEXEC)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        reason = posix.strerror(error.errno or 0).lower()
        raise LaunchError(f"failed to connect with seccomp agent: {path}: {reason}", code=1) from None
    with Fd(sock.detach()) as connection:
        send_fds(connection, dumps(document).encode(), (notify,))
