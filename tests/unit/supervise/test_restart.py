"""Every policy against every way to end."""

from __future__ import annotations

import itertools

import pytest

from rootless.errors import UsageError
from rootless.supervise.restart import LIVED_SECONDS, PAUSE_MOST_SECONDS, PAUSE_SECONDS, POLICIES, decide

EXIT_CODES = (0, 1, 125, 137, 255)
TRIES = (0, 1, 3)
COUNTS = (0, 1, 2, 3, 4, 10_000_000)


def expected(policy: str, tries: int, count: int, exit_code: int, wanted: bool) -> bool:
    """podman's table, written the long way."""
    if wanted:
        return False
    match policy:
        case "always" | "unless-stopped":
            return True
        case "on-failure":
            return exit_code != 0 and (tries == 0 or count < tries)
        case _:
            return False


@pytest.mark.parametrize("policy", ["", *POLICIES])
def test_every_policy_and_end(policy: str) -> None:
    for tries, count, code, wanted in itertools.product(TRIES, COUNTS, EXIT_CODES, (False, True)):
        found = decide(policy, tries, count, code, wanted)
        assert found.restart is expected(policy, tries, count, code, wanted), (tries, count, code, wanted)


def test_tries_bound_on_failure_only() -> None:
    assert decide("always", 3, 1000, 1, False).restart
    assert [decide("on-failure", 3, count, 1, False).restart for count in range(5)] == [True, True, True, False, False]


def test_pauses_double_up_to_a_bound_and_never_shrink() -> None:
    pauses = [decide("always", 0, count, 1, False).delay_seconds for count in range(40)]
    assert pauses[0] == PAUSE_SECONDS and pauses[1] == 2 * PAUSE_SECONDS
    assert pauses == sorted(pauses) and pauses[-1] == PAUSE_MOST_SECONDS


def test_a_good_life_is_followed_by_no_pause() -> None:
    assert decide("always", 0, 7, 1, False, lived_seconds=LIVED_SECONDS).delay_seconds == 0
    assert decide("always", 0, 7, 1, False, lived_seconds=LIVED_SECONDS - 1).delay_seconds > 0


def test_an_end_has_no_pause() -> None:
    assert decide("no", 0, 5, 1, False).delay_seconds == 0


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(UsageError, match='unrecognized restart policy "sometimes"'):
        decide("sometimes", 0, 0, 0, False)
