"""Numbers of the kernel that stand in Python, because their users do not load the extension, against the headers."""

from __future__ import annotations

from rootless.kernel import fds, paths
from rootless.kernel._sys import lib


def test_numbers_are_those_of_the_headers() -> None:
    assert (fds.MFD_EXEC, fds.MFD_NOEXEC_SEAL) == (lib.MFD_EXEC, lib.MFD_NOEXEC_SEAL)
    assert fds._CLOSE_RANGE_CLOEXEC == lib.CLOSE_RANGE_CLOEXEC
    assert paths.IN_ROOT == lib.RESOLVE_IN_ROOT | lib.RESOLVE_NO_MAGICLINKS
    assert paths.BENEATH == lib.RESOLVE_BENEATH | lib.RESOLVE_NO_MAGICLINKS | lib.RESOLVE_NO_SYMLINKS
