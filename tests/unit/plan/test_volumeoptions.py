"""Options of volumes: what podman accepts, what it refuses, and what needs root."""

from __future__ import annotations

import pytest

from rootless.errors import UsageError
from rootless.plan import volumeoptions as v


@pytest.mark.parametrize(
    ("pairs", "kept"),
    [
        ((), {}),
        ((("type", "tmpfs"), ("device", "tmpfs")), {"type": "tmpfs", "device": "tmpfs"}),
        ((("o", "uid=5,gid=6"),), {"o": "uid=5,gid=6", "UID": "5", "GID": "6"}),
        ((("o", "nocopy"),), {"o": "nocopy"}),
        ((("type", "bind"),), {"type": "bind"}),
    ],
)
def test_kept_options(pairs: tuple[tuple[str, str], ...], kept: dict[str, str]) -> None:
    assert v.check(pairs) == kept


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ((("foo", "bar"),), "invalid mount option foo for driver 'local': invalid argument"),
        ((("novalue", ""),), "invalid mount option novalue for driver 'local': invalid argument"),
        (
            (("o", "size=10m"),),
            "volume options size and inodes not supported. Filesystem does not support Project Quota",
        ),
        ((("o", "uid=x"),), "cannot convert UID x to integer: invalid argument"),
        ((("device", "/tmp"),), "volume type of a device needs a mount that only root can make"),
        ((("type", "nfs"), ("device", "h:/x")), "volume type nfs needs a mount that only root can make"),
        ((("type", "none"), ("device", "x"), ("o", "bind")), "device x of a bind must be an absolute path"),
    ],
)
def test_refused_options(pairs: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        v.check(pairs)
    assert caught.value.message == message


def test_what_is_mounted() -> None:
    assert v.parse({"o": "uid=5"}) == v.VolumeOptions("", "", (), 5, None, True)
    assert v.parse({"type": "none", "o": "bind,ro", "device": "/srv"}) == v.VolumeOptions(
        "bind", "/srv", ("bind", "ro")
    )
    tmpfs = v.parse({"type": "tmpfs", "device": "tmpfs", "o": "size=1m,uid=5,nosuid,nocopy,inodes=9"})
    assert (tmpfs.type, tmpfs.words, tmpfs.copy_up) == ("tmpfs", ("size=1m", "uid=5", "nosuid", "nr_inodes=9"), False)
    assert v.mount_words(tmpfs) == (2, ("size=1m", "uid=5", "nr_inodes=9"))
