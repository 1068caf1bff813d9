"""Everything that is known of an image or a container, as the documents that `podman inspect` prints.

Source: podman 4.3's documents, observed; image-spec config.md
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from rootless.engine import images as engine_images
from rootless.engine.containers import command_of
from rootless.errors import NotFound, RootlessError
from rootless.spec.jsontext import JSONTextError, loads
from rootless.store import blobs, containers, images
from rootless.store.layers import layer_dir

if TYPE_CHECKING:
    from rootless.store.containers import Container
    from rootless.store.images import ImageRecord
    from rootless.store.layout import Roots

NEVER = "0001-01-01T00:00:00Z"
# of the image's `config`, in podman's order; the others of it are not part of an OCI image
_CONFIG_KEYS = ("User", "ExposedPorts", "Env", "Entrypoint", "Cmd", "Volumes", "WorkingDir", "Labels", "StopSignal")


def find_image(roots: Roots, text: str) -> dict[str, Any] | None:
    """Return the document of the image *text*, None if there is none."""
    try:
        return image_document(roots, engine_images.find(roots, text))
    except NotFound:
        return None


def find_container(roots: Roots, text: str, *, size: bool = False) -> dict[str, Any] | None:
    """Return the document of the container *text*, None if there is none."""
    try:
        return container_document(roots, containers.find(roots, text), size=size)
    except NotFound:
        return None


def image_document(roots: Roots, image: ImageRecord) -> dict[str, Any]:
    """Return what podman prints of an image.

    Shape: GraphDriver names the layer directories: the top one as UpperDir, those below it as LowerDir
    """
    whole = image.config
    config = _object(whole, "config")
    history = [entry for entry in whole.get("history") or () if isinstance(entry, dict)]
    names = list(engine_images.tags(image))
    document: dict[str, Any] = {
        "Id": image.id,
        "Digest": image.digest,
        "RepoTags": names,
        "RepoDigests": list(engine_images.digests(image)),
        "Parent": "",
        "Comment": str(history[-1].get("comment", "")) if history else "",
        "Created": whole.get("created") or NEVER,
        "Config": {key: config[key] for key in _CONFIG_KEYS if config.get(key)},
        "Version": str(whole.get("docker_version") or ""),
        "Author": str(whole.get("author") or ""),
        "Architecture": str(whole.get("architecture") or ""),
        "Os": str(whole.get("os") or ""),
        "Size": image.size_bytes,
        "VirtualSize": image.size_bytes,
        "GraphDriver": {"Name": "layers", "Data": _layer_directories(roots, image.links)},
        "RootFS": {"Type": "layers", "Layers": list(_object(whole, "rootfs").get("diff_ids") or ())},
        "Labels": config.get("Labels") or None,
        "Annotations": _annotations(roots, image.digest),
        "ManifestType": image.manifest_type,
        "User": str(config.get("User") or ""),
        "History": history,
        "NamesHistory": names,
        "Squashed": image.squashed,
    }
    if config.get("Healthcheck"):
        document["HealthCheck"] = config["Healthcheck"]
    return document


def container_document(roots: Roots, container: Container, *, size: bool = False) -> dict[str, Any]:
    """Return what podman prints of a container; *size* adds what its writable layer holds."""
    data = container.data
    state = _object(data, "state")
    status = containers.status(roots, container)
    running = status == "running"
    image = images.get(roots, str(data.get("image_id") or "")) if data.get("image_id") else None
    args = [str(word) for word in data.get("args") or ()]
    command = command_of(data, image)
    run_dir = containers.run_dir(roots, container.id)
    directories = _layer_directories(roots, tuple(data.get("links") or (image.links if image else ())), whole=True)
    scratch = containers.data_dir(roots, container.id)
    directories |= {"UpperDir": f"{scratch}/diff", "WorkDir": f"{scratch}/work"}
    ports = _ports(data)
    network = _object(data, "network")
    document: dict[str, Any] = {
        "Id": container.id,
        "Created": data.get("created") or NEVER,
        "Path": args[0] if args else "",
        "Args": args[1:],
        "State": {
            "OciVersion": "1.0.2",
            "Status": status,
            "Running": running,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": bool(state.get("oom_killed")),
            "Dead": False,
            "Pid": int(state.get("pid") or 0) if running else 0,
            "ExitCode": int(state.get("exit_code") or 0),
            "Error": str(state.get("error") or ""),
            "StartedAt": state.get("started") or NEVER,
            "FinishedAt": state.get("finished") or NEVER,
        },
        "Image": str(data.get("image_id") or ""),
        "ImageDigest": image.digest if image else "",
        "ImageName": str(data.get("image") or "") if data.get("image_id") else "",
        "Rootfs": "" if data.get("image_id") else str(data.get("image") or ""),
        "Pod": "",
        "ResolvConfPath": _existing(f"{run_dir}/resolv.conf"),
        "HostnamePath": _existing(f"{run_dir}/hostname"),
        "HostsPath": _existing(f"{run_dir}/hosts"),
        "StaticDir": scratch,
        "OCIRuntime": "rootless-oci",
        "Name": container.name,
        "RestartCount": 0,
        "Driver": str(data.get("driver") or ""),
        "DriverReason": str(data.get("driver_reason") or ""),
        "GraphDriver": {"Name": str(data.get("driver") or ""), "Data": directories if data.get("image_id") else {}},
        "Mounts": [_mount(mount) for mount in data.get("mounts") or ()],
        "Dependencies": [],
        "NetworkSettings": {
            "Gateway": str(network.get("gateway") or ""),
            "IPAddress": str(network.get("address") or ""),
            "GlobalIPv6Address": str(network.get("address6") or ""),
            "MacAddress": str(network.get("mac") or ""),
            "Ports": ports,
        },
        "IsInfra": False,
        "Config": {
            "Hostname": str(data.get("hostname") or ""),
            "User": str(data.get("user") or ""),
            "AttachStdin": bool(data.get("interactive")),
            "AttachStdout": True,
            "AttachStderr": True,
            "Tty": bool(data.get("tty")),
            "OpenStdin": bool(data.get("interactive")),
            "Env": list(data.get("env") or ()),
            "Cmd": list(command),
            "Entrypoint": " ".join(args[: len(args) - len(command)]),
            "Image": str(data.get("image") or ""),
            "WorkingDir": str(data.get("cwd") or "/"),
            "Labels": data.get("labels") or {},
            "Annotations": data.get("annotations") or {},
            "StopSignal": int(data.get("stop_signal") or 15),
            "StopTimeout": data.get("stop_timeout", 10),
        },
        "HostConfig": {
            "NetworkMode": str(network.get("mode") or ""),
            "PortBindings": ports,
            "AutoRemove": container.auto_remove,
            "UsernsMode": str(data.get("userns") or ""),
        },
    }
    if size:
        document["SizeRw"] = tree_size(f"{scratch}/diff")
        document["SizeRootFs"] = document["SizeRw"] + (image.size_bytes if image else 0)
    return document


def tree_size(path: str) -> int:
    """Return the bytes of all regular files below *path*; what cannot be read counts nothing.

    Blocks: walks the tree
    """
    total = 0
    for directory, _, names in os.walk(path):
        for name in names:
            try:
                found = os.lstat(os.path.join(directory, name))
            except OSError:
                continue
            if found.st_mode & 0o170000 == 0o100000:
                total += found.st_size
    return total


def _layer_directories(roots: Roots, links: tuple[str, ...], *, whole: bool = False) -> dict[str, str]:
    paths = [layer_dir(roots, link) for link in links]
    if whole:
        return {"LowerDir": ":".join(reversed(paths))} if paths else {}
    found = {"LowerDir": ":".join(reversed(paths[:-1]))} if len(paths) > 1 else {}
    return found | ({"UpperDir": paths[-1]} if paths else {})


def _annotations(roots: Roots, digest: str) -> dict[str, Any]:
    """Return the annotations of the manifest; none where it is not kept."""
    try:
        data = blobs.read(roots, digest)
        return _object(loads(data), "annotations") if data else {}
    except (JSONTextError, RootlessError):
        return {}


def _ports(data: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for host_ip, host_port, container_port, protocol in data.get("ports") or ():
        entry = {"HostIp": "" if host_ip in ("0.0.0.0", "::") else host_ip, "HostPort": str(host_port)}
        found.setdefault(f"{container_port}/{protocol}", []).append(entry)
    return found


def _mount(mount: list[str]) -> dict[str, Any]:
    name, source, target = mount[:3]
    entry: dict[str, Any] = {"Type": "volume" if name else "bind", "Source": source, "Destination": target}
    return entry | ({"Name": name, "Driver": "local"} if name else {})


def _existing(path: str) -> str:
    return path if os.path.exists(path) else ""


def _object(holder: Any, key: str) -> dict[str, Any]:
    value = holder.get(key) if isinstance(holder, dict) else None
    return value if isinstance(value, dict) else {}
