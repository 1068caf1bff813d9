"""Devices by name: the Container Device Interface. `vendor.com/class=name` -> nodes, mounts and variables. Pure.

Hooks of a specification would run on the host with the container's root before them, which ours is not to see. The one
that matters, the cache of the dynamic linker, becomes LD_LIBRARY_PATH; of the others a warning tells.

Source: cncf-tags/container-device-interface SPEC.md 0.8
"""

from __future__ import annotations

from rootless.errors import UsageError
from rootless.plan.options import DeviceRequest, RunOptions, VolumeRequest
from rootless.plan.plainyaml import YamlError
from rootless.plan.plainyaml import loads as from_yaml
from rootless.spec.jsontext import loads as from_json
from rootless.spec.record import record, replace

# pyright: reportUnknownVariableType=false, reportUnknownMemberType=false, reportUnknownArgumentType=false

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Specs = tuple[tuple[str, str], ...]


@record
class Edits:
    """What the devices of one command line change."""

    devices: tuple[DeviceRequest, ...] = ()
    mounts: tuple[VolumeRequest, ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    groups: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    hooks: tuple[str, ...] = ()


def with_devices(options: RunOptions, specs: Specs, warnings: list[str]) -> RunOptions:
    """Return *options* with the CDI names among its devices replaced by what *specs*, (path, text), say of them.

    Raises: UsageError - a name that nothing describes, a specification that cannot be read
    """
    names = [device.source for device in options.devices if not device.target]
    edits = edits_of(names, specs)
    if edits.hooks:
        shown = ", ".join(dict.fromkeys(edits.hooks))
        warnings.append(f"hooks of CDI specifications are not run: {shown}")
    taken = [request.target for request in options.volumes]
    env = dict(edits.env)
    if edits.libraries:
        env["LD_LIBRARY_PATH"] = ":".join([*edits.libraries, *[env[n] for n in ("LD_LIBRARY_PATH",) if n in env]])
    env.update(options.env)  # who types -e means it
    kept = options.group_add == ("keep-groups",)
    return replace(
        options,
        devices=tuple([device for device in options.devices if device.target]) + edits.devices,
        volumes=options.volumes + tuple([mount for mount in edits.mounts if mount.target not in taken]),
        env=tuple(env.items()),
        group_add=options.group_add if kept else options.group_add + edits.groups,
    )


def edits_of(names: list[str], specs: Specs) -> Edits:
    """Return all that the devices *names* need. Raises: UsageError"""
    documents = [_read(path, text) for path, text in specs]
    total = Edits()
    used: list[dict[str, Any]] = []
    missing: list[str] = []
    for name in names:
        kind, _, wanted = name.partition("=")
        found = None
        for document in documents:
            if document.get("kind") != kind:
                continue
            for device in _list(document, "devices"):
                if device.get("name") == wanted:
                    found = (document, device)  # a later directory is stronger
        if found is None:
            missing.append(name)
            continue
        document, device = found
        if not any([document is one for one in used]):
            used.append(document)
            total = _added(total, document.get("containerEdits") or {})
        total = _added(total, device.get("containerEdits") or {})
    if missing:
        raise UsageError(
            f"unresolvable CDI devices {', '.join(missing)}",
            hint="specifications are read from /etc/cdi and /run/cdi; for NVIDIA: nvidia-ctk cdi generate",
        )
    return total


def _read(path: str, text: str) -> dict[str, Any]:
    try:
        document = from_json(text) if path.endswith(".json") else from_yaml(text)
    except YamlError as error:
        raise UsageError(f"{path}: {error}", hint="write it as JSON: nvidia-ctk cdi generate --format=json") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise UsageError(f"{path}: a CDI specification with a kind is needed")
    return document


def _list(value: dict[str, Any], key: str) -> list[dict[str, Any]]:
    found = value.get(key) or []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def _words(value: dict[str, Any], key: str) -> list[str]:
    found = value.get(key) or []
    return [str(one) for one in found] if isinstance(found, list) else []


def _added(total: Edits, edits: dict[str, Any]) -> Edits:
    devices, mounts, libraries, hooks = (
        list(total.devices),
        list(total.mounts),
        list(total.libraries),
        list(total.hooks),
    )
    for node in _list(edits, "deviceNodes"):
        target = str(node.get("path") or "")
        request = DeviceRequest(str(node.get("hostPath") or target), target, str(node.get("permissions") or "rwm"))
        if target and request not in devices:
            devices.append(request)
    for mount in _list(edits, "mounts"):
        words = tuple(_words(mount, "options"))
        made = VolumeRequest("bind", str(mount.get("hostPath") or ""), str(mount.get("containerPath") or ""), words)
        if made.source and made.target and made.target not in [one.target for one in mounts]:
            mounts.append(made)
    for hook in _list(edits, "hooks"):
        args = _words(hook, "args")
        folders = [args[at + 1] for at, word in enumerate(args[:-1]) if word == "--folder"]
        if "update-ldcache" in args and folders:
            libraries += [folder for folder in folders if folder not in libraries]
        elif "enable-cuda-compat" not in args:
            hooks.append(next((word for word in args[1:] if word[:1] != "-" and word != "hook"), str(hook.get("path"))))
    pairs = [(name, value) for name, _, value in [line.partition("=") for line in _words(edits, "env")] if name]
    return Edits(
        tuple(devices), tuple(mounts), total.env + tuple(pairs),
        tuple(dict.fromkeys((*total.groups, *_words(edits, "additionalGids")))), tuple(libraries), tuple(hooks),
    )  # fmt: skip
