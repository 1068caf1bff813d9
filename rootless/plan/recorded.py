"""The mounts of a container as its record keeps them: what was asked for, in podman's words of `inspect`.

Source: podman 4.3's `inspect --format '{{json .Mounts}}'`, observed
"""

from __future__ import annotations

from rootless.plan.containermounts import PROPAGATIONS, image_requests

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from rootless.plan.options import RunOptions

_SHOWN_ELSEWHERE = (*PROPAGATIONS, "ro", "rw")


def mounts(
    options: RunOptions, image_volumes: tuple[str, ...], volumes_dir: str, anonymous: dict[str, str]
) -> tuple[dict[str, Any], ...]:
    """Return a document for each volume, bind and image; tmpfs and their like are no mounts to podman.

    Shape: *anonymous* are the names of volumes without one, by target
    """
    found: dict[str, dict[str, Any]] = {}
    for request in (*image_requests(options, image_volumes), *options.volumes):
        words = list(request.options)
        if request.kind == "image":
            found[request.target] = {"Type": "image", "Source": request.source, "Destination": request.target,
                                     "Driver": "", "Mode": "", "Options": None, "RW": "rw" in words,
                                     "Propagation": ""}  # fmt: skip
            continue
        if request.kind not in ("volume", "bind"):
            continue
        document: dict[str, Any] = {"Type": request.kind}
        source = request.source
        if request.kind == "volume":
            name = request.source or anonymous.get(request.target, "")
            document["Name"] = name
            source = f"{volumes_dir}/{name}/_data"
            words += [word for word in ("nosuid", "nodev") if word not in words and word[2:] not in words]
        if "bind" not in words and "rbind" not in words:
            words.append("rbind")
        spread = [word for word in words if word in PROPAGATIONS]
        found[request.target] = {
            **document,
            "Source": source,
            "Destination": request.target,
            "Driver": "local" if request.kind == "volume" else "",
            "Mode": "",
            "Options": [word for word in words if word not in _SHOWN_ELSEWHERE],
            "RW": "ro" not in words,
            "Propagation": spread[0] if spread else "rprivate",
        }
    return tuple(found.values())


def anonymous_targets(options: RunOptions, image_volumes: tuple[str, ...]) -> tuple[str, ...]:
    """Return the targets of the volumes that have no name of their own."""
    requests = (*image_requests(options, image_volumes), *options.volumes)
    return tuple([r.target for r in requests if r.kind == "volume" and not r.source])
