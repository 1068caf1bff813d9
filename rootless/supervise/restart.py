"""Restart policies, as a pure decision.

    no                  never
    on-failure[:N]      after an exit code that is not 0, at most N times where N is given
    always              whenever it ends
    unless-stopped      as always; they differ only in what is started again at boot

Whoever asked for the end (stop, kill, rm, restart) does not get the container back.

podman begins again at once and as often as the policy says; the half second that its own machinery takes keeps a
program that fails from burning a processor. Ours takes a twentieth of that, so a life shorter than LIVED_SECONDS is
followed by a pause, which doubles up to PAUSE_MOST_SECONDS.

Source: podman 4.3, libpod: shouldRestart, handleRestartPolicy; docker's ten seconds after which a start was good
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.spec.record import record

POLICIES = ("no", "on-failure", "always", "unless-stopped")
PAUSE_SECONDS = 0.1
PAUSE_MOST_SECONDS = 1.0
LIVED_SECONDS = 10.0


@record
class Decision:
    """Whether to start the container again, and how long to wait before."""

    restart: bool
    delay_seconds: float = 0.0


NEVER = Decision(False)


def decide(
    policy: str, tries: int, count: int, exit_code: int, wanted_end: bool, *, lived_seconds: float = 0.0
) -> Decision:
    """Say whether a container that has ended begins again.

    Shape:  *tries* 0: without end; *count* how often the policy has started it already (the record's restart_count,
            0 again after a start by a person); *wanted_end* somebody asked for the end
    Raises: UsageError for a policy that there is not
    """
    if policy not in ("", *POLICIES):
        raise UsageError(f'unrecognized restart policy "{policy}"', hint=f"use one of {', '.join(POLICIES)}")
    if wanted_end or policy in ("", "no"):
        return NEVER
    if policy == "on-failure" and (exit_code == 0 or 0 < tries <= count):
        return NEVER
    return Decision(True, _pause(count, lived_seconds))


def _pause(count: int, lived_seconds: float) -> float:
    if lived_seconds >= LIVED_SECONDS:
        return 0.0
    # The power is bounded before it is taken: counts grow for as long as the program fails.
    return float(min(PAUSE_SECONDS * 2 ** min(count, 10), PAUSE_MOST_SECONDS))
