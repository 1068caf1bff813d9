"""Ranges from a directory service come through getsubids, and through nothing else."""

from __future__ import annotations

import os
from pathlib import Path

from rootless.kernel import idmaps
from rootless.spec.idmap import ID_COUNT


def test_a_service_is_asked_by_getsubids(tmp_path: Path) -> None:
    """The files do not count then: newuidmap would not look at them either."""
    name = idmaps.user_name(os.getuid())
    tool = tmp_path / "getsubids"
    tool.write_text(f'#!/bin/sh\n[ "$1" = -g ] && echo "0: {name} 7000000 20" || echo "0: {name} 5000000 10"\n')
    tool.chmod(0o755)
    (tmp_path / "nsswitch.conf").write_text("subid: sss\n")
    (tmp_path / "subuid").write_text(f"{name}:100000:100\n")
    found = idmaps.subordinate_ranges(os.getuid(), {"PATH": str(tmp_path)}, etc=str(tmp_path))
    assert found[1:3] == (((5000000, 10),), ((7000000, 20),))
    tool.write_text("#!/bin/sh\necho nothing; exit 1\n")
    assert idmaps.subordinate_ranges(os.getuid(), {"PATH": str(tmp_path)}, etc=str(tmp_path))[1:3] == ((), ())


def test_the_facts_are_ours() -> None:
    facts = idmaps.read_facts(os.environ)
    assert (facts.uid, facts.gid) == (os.geteuid(), os.getegid())
    assert facts.own_uids.lookup(facts.uid) is not None and facts.own_uids.size <= ID_COUNT
