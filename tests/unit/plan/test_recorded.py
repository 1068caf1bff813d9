"""What a record says of mounts: podman's documents."""

from __future__ import annotations

from rootless.plan.options import RunOptions, VolumeRequest
from rootless.plan.recorded import anonymous_targets, mounts

OPTIONS = RunOptions(
    "image",
    volumes=(
        VolumeRequest("bind", "/src", "/bnd", ("ro", "rslave")),
        VolumeRequest("volume", "nv", "/vol"),
        VolumeRequest("volume", "", "/anon"),
        VolumeRequest("tmpfs", "", "/tm"),
        VolumeRequest("image", "alpine", "/im"),
    ),
)


def test_documents() -> None:
    found = {one["Destination"]: one for one in mounts(OPTIONS, ("/img", "/vol"), "/v", {"/anon": "a1", "/img": "a2"})}
    assert sorted(found) == ["/anon", "/bnd", "/im", "/img", "/vol"]
    assert found["/bnd"] == {
        "Type": "bind", "Source": "/src", "Destination": "/bnd", "Driver": "", "Mode": "", "Options": ["rbind"],
        "RW": False, "Propagation": "rslave",
    }  # fmt: skip
    assert found["/vol"] == {
        "Type": "volume", "Name": "nv", "Source": "/v/nv/_data", "Destination": "/vol", "Driver": "local", "Mode": "",
        "Options": ["nosuid", "nodev", "rbind"], "RW": True, "Propagation": "rprivate",
    }  # fmt: skip
    assert (found["/anon"]["Name"], found["/img"]["Name"]) == ("a1", "a2")
    assert (found["/im"]["Type"], found["/im"]["RW"], found["/im"]["Options"]) == ("image", False, None)


def test_anonymous_volumes() -> None:
    assert anonymous_targets(OPTIONS, ("/img", "/vol")) == ("/img", "/anon")
    assert anonymous_targets(RunOptions("image", image_volume="ignore"), ("/img",)) == ()
