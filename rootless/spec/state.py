"""The life of a container: its states, what may follow what, and the State document.

Everything about a change of status is in TRANSITIONS; every verb of the OCI runtime and of the
engine asks `advance` or `allows`, nobody compares states by hand.

Source: runtime-spec runtime.md#state, #lifecycle
"""

from __future__ import annotations

from rootless.errors import ContainerStateError
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

OCI_VERSION = "1.2.1"
"""The version of the runtime-spec that we follow; here, because most verbs need no more of it than this."""

CREATING: Final = "creating"
CREATED: Final = "created"
RUNNING: Final = "running"
PAUSED: Final = "paused"
STOPPED: Final = "stopped"
GONE: Final = "gone"
"""Not a state of the specification: the container has been deleted."""

VERB_CREATED: Final = "created"
VERB_START: Final = "start"
VERB_KILL: Final = "kill"
VERB_EXITED: Final = "exited"
VERB_PAUSE: Final = "pause"
VERB_RESUME: Final = "resume"
VERB_EXEC: Final = "exec"
VERB_UPDATE: Final = "update"
VERB_EVENTS: Final = "events"
VERB_PS: Final = "ps"
VERB_DELETE: Final = "delete"
VERB_FORCE_DELETE: Final = "force-delete"

# fmt: off
TRANSITIONS: Final[dict[tuple[str, str], str]] = {
    (CREATING, VERB_CREATED):      CREATED,
    (CREATING, VERB_EXITED):       STOPPED,
    (CREATING, VERB_FORCE_DELETE): GONE,
    (CREATED,  VERB_START):        RUNNING,
    (CREATED,  VERB_KILL):         CREATED,   # what a signal did is seen by VERB_EXITED
    (CREATED,  VERB_EXITED):       STOPPED,
    (CREATED,  VERB_EXEC):         CREATED,
    (CREATED,  VERB_PAUSE):        PAUSED,
    (CREATED,  VERB_UPDATE):       CREATED,
    (CREATED,  VERB_EVENTS):       CREATED,
    (CREATED,  VERB_PS):           CREATED,
    (CREATED,  VERB_DELETE):       GONE,      # beyond the specification: engines give up a create this way
    (CREATED,  VERB_FORCE_DELETE): GONE,
    (RUNNING,  VERB_KILL):         RUNNING,
    (RUNNING,  VERB_EXITED):       STOPPED,
    (RUNNING,  VERB_EXEC):         RUNNING,
    (RUNNING,  VERB_PAUSE):        PAUSED,
    (RUNNING,  VERB_UPDATE):       RUNNING,
    (RUNNING,  VERB_EVENTS):       RUNNING,
    (RUNNING,  VERB_PS):           RUNNING,
    (RUNNING,  VERB_FORCE_DELETE): GONE,
    (PAUSED,   VERB_KILL):         PAUSED,
    (PAUSED,   VERB_EXITED):       STOPPED,
    (PAUSED,   VERB_RESUME):       RUNNING,
    (PAUSED,   VERB_UPDATE):       PAUSED,
    (PAUSED,   VERB_EVENTS):       PAUSED,
    (PAUSED,   VERB_PS):           PAUSED,
    (PAUSED,   VERB_FORCE_DELETE): GONE,
    (STOPPED,  VERB_DELETE):       GONE,
    (STOPPED,  VERB_FORCE_DELETE): GONE,
}
# fmt: on


def allows(status: str, verb: str) -> bool:
    """Return whether *verb* may be used in *status*."""
    return (status, verb) in TRANSITIONS


def advance(status: str, verb: str) -> str:
    """Return the status after *verb*, or raise ContainerStateError naming what would be allowed."""
    after = TRANSITIONS.get((status, verb))
    if after is None:
        where = [before for before, what in TRANSITIONS if what == verb]
        raise ContainerStateError(
            f"cannot {verb} a container that is {status}", hint=f"{verb} needs a container that is {' or '.join(where)}"
        )
    return after


@record
class StateDocument:
    """What `state` prints and hooks read on stdin. pid is 0 when there is no process."""

    id: str
    status: str
    pid: int
    bundle: str
    annotations: tuple[tuple[str, str], ...] = ()
    oci_version: str = OCI_VERSION

    def value(self) -> dict[str, object]:
        """Return the State document as a JSON value, keys in the specification's order."""
        made: dict[str, object] = {"ociVersion": self.oci_version, "id": self.id, "status": self.status}
        if self.pid:
            made["pid"] = self.pid
        made["bundle"] = self.bundle
        if self.annotations:
            made["annotations"] = dict(self.annotations)
        return made
