"""The tables of mount options, capabilities, signals and states."""

from __future__ import annotations

import itertools
import signal

import pytest

from rootless.errors import ContainerStateError
from rootless.spec import caps, mountopts, signals, state
from rootless.spec.mountopts import MountOptions, parse


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), MountOptions()),
        (("ro", "nosuid"), MountOptions(flags=mountopts.MS_RDONLY | mountopts.MS_NOSUID)),
        (("ro", "rw"), MountOptions(cleared=mountopts.MS_RDONLY)),
        (("rw", "ro"), MountOptions(flags=mountopts.MS_RDONLY)),
        (("rbind",), MountOptions(flags=mountopts.MS_BIND | mountopts.MS_REC)),
        (("rprivate", "shared"), MountOptions(
            propagation=(mountopts.MS_PRIVATE | mountopts.MS_REC, mountopts.MS_SHARED))),
        (("rro",), MountOptions(rec_set=mountopts.MOUNT_ATTR_RDONLY)),
        (("rro", "rrw"), MountOptions(rec_clear=mountopts.MOUNT_ATTR_RDONLY)),
        (("rnoatime",), MountOptions(rec_set=mountopts.MOUNT_ATTR_NOATIME, rec_clear=mountopts.MOUNT_ATTR__ATIME)),
        (("rrelatime",), MountOptions(rec_clear=mountopts.MOUNT_ATTR__ATIME)),
        (("size=1m", "mode=755"), MountOptions(data=("size=1m", "mode=755"))),
        (("tmpcopyup",), MountOptions(tmpcopyup=True)),
        (("ridmap",), MountOptions(idmap="ridmap", idmap_recursive=True)),
        (("idmap=uids=0-1-2",), MountOptions(idmap="uids=0-1-2")),
        (("src-nofollow", "copy-symlink"), MountOptions(src_nofollow=True, copy_symlink=True)),
    ],
)  # fmt: skip
def test_options(words: tuple[str, ...], expected: MountOptions) -> None:
    assert parse(words) == expected


def test_flags_are_set_or_cleared_never_both() -> None:
    for pair in itertools.product(mountopts.FLAGS, repeat=2):
        options = parse(pair)
        assert not options.flags & options.cleared, pair


def test_attributes_follow_the_flags() -> None:
    assert mountopts.attributes(parse(("ro", "nodev", "noexec", "nosymfollow")).flags) == (
        mountopts.MOUNT_ATTR_RDONLY | mountopts.MOUNT_ATTR_NODEV | mountopts.MOUNT_ATTR_NOEXEC
        | mountopts.MOUNT_ATTR_NOSYMFOLLOW
    )  # fmt: skip
    assert mountopts.attributes(parse(("strictatime",)).flags) == mountopts.MOUNT_ATTR_STRICTATIME


def test_capabilities() -> None:
    assert caps.mask(("CAP_CHOWN", "sys_admin", "CAP_NEW")) == (1 | 1 << 21, ("CAP_NEW",))
    assert caps.mask(caps.names(caps.ALL)) == (caps.ALL, ())
    assert caps.NAMES[caps.LAST_CAP] == "CAP_CHECKPOINT_RESTORE"


@pytest.mark.parametrize("member", [s for s in signal.Signals if s.name not in ("SIGRTMIN", "SIGRTMAX")])
def test_signals_are_the_interpreters(member: signal.Signals) -> None:
    assert signals.number(member.name) == member == signals.number(str(int(member)))
    assert signals.number(signals.name(member)) == member


@pytest.mark.parametrize(("text", "number"), [("KILL", 9), ("sigterm", 15), ("RTMIN+3", 37), ("SIGRTMAX-1", 63)])
def test_signal_spellings(text: str, number: int) -> None:
    assert signals.number(text) == number


@pytest.mark.parametrize("text", ["", "0", "65", "-9", "SIGNOPE", "9.0", "\u0669"])
def test_no_signals(text: str) -> None:
    assert signals.number(text) is None


def test_exit_codes() -> None:
    assert (signals.exit_code(3 << 8), signals.exit_code(9)) == (3, 137)


STATUSES = (state.CREATING, state.CREATED, state.RUNNING, state.PAUSED, state.STOPPED)
VERBS = sorted({verb for _, verb in state.TRANSITIONS})


@pytest.mark.parametrize(("status", "verb"), [*itertools.product(STATUSES, VERBS)])
def test_every_status_and_verb(status: str, verb: str) -> None:
    """The table decides alone; a refusal says what would be allowed."""
    if state.allows(status, verb):
        assert state.advance(status, verb) in (*STATUSES, state.GONE)
        return
    with pytest.raises(ContainerStateError) as caught:
        state.advance(status, verb)
    assert status in caught.value.message and caught.value.hint


def test_what_the_specification_fixes() -> None:
    assert state.advance(state.CREATED, state.VERB_START) == state.RUNNING
    assert not state.allows(state.STOPPED, state.VERB_START)
    assert not state.allows(state.STOPPED, state.VERB_KILL)
    assert not state.allows(state.RUNNING, state.VERB_DELETE)
    assert all(state.allows(status, state.VERB_FORCE_DELETE) for status in STATUSES)


def test_the_state_document() -> None:
    document = state.StateDocument("c1", state.RUNNING, 7, "/b", (("k", "v"),))
    assert list(document.value()) == ["ociVersion", "id", "status", "pid", "bundle", "annotations"]
    assert "pid" not in state.StateDocument("c1", state.STOPPED, 0, "/b").value()
