"""Image configs: what an image says about its process, and the layers that it is made of.

Source: OCI image-spec config.md; Docker image spec v1.2 for Healthcheck, Shell and OnBuild
"""

from __future__ import annotations

from rootless.errors import ReferenceInvalid, SpecError
from rootless.spec import jsontext
from rootless.spec.descriptor import list_of, object_of, text_field, text_list, text_map
from rootless.spec.digest import parse_digest
from rootless.spec.platform import Platform
from rootless.spec.record import record

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MAX_CONFIG_BYTES = 8 << 20


@record
class ProcessConfig:
    """The `config` member: the defaults of a container's process."""

    user: str = ""
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    working_dir: str = ""
    volumes: tuple[str, ...] = ()
    exposed_ports: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""


@record
class History:
    """One line of the image's history; an empty layer has no entry in RootFS."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@record
class ImageConfig:
    """An image's config; `diff_ids` are the digests of its uncompressed layers, base first."""

    platform: Platform
    created: str
    author: str
    config: ProcessConfig
    diff_ids: tuple[str, ...]
    history: tuple[History, ...] = ()


def decode_image(value: Any) -> ImageConfig:
    """Return the config that the decoded JSON *value* holds.

    Null stands for absent wherever it does in the images that Docker's builders wrote.
    Raises: SpecError
    """
    value = object_of(value, "", "the image config is not an object")
    return ImageConfig(
        platform=Platform(
            os=text_field(value, "os", "", "linux") or "linux",
            architecture=text_field(value, "architecture", "", ""),
            variant=text_field(value, "variant", "", ""),
            os_version=text_field(value, "os.version", "", ""),
        ),
        created=text_field(value, "created", "", ""),
        author=text_field(value, "author", "", ""),
        config=_process(_object(value, "config", "")),
        diff_ids=_diff_ids(_object(value, "rootfs", "")),
        history=_history(value.get("history")),
    )


def parse_image(data: bytes) -> ImageConfig:
    """Return the config in the JSON text *data*.

    Raises: SpecError
    """
    try:
        value = jsontext.loads(data)
    except ValueError as error:
        raise SpecError(f"the image config is not JSON: {error}") from None
    return decode_image(value)


def chain_ids(diff_ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the chain id of each layer: what it is on top of all below it.

    Source: image-spec config.md#layer-chainid
    """
    from rootless.spec.digest import digest_of

    chain: list[str] = []
    for diff_id in diff_ids:
        chain.append(str(digest_of(f"{chain[-1]} {diff_id}".encode("ascii"))) if chain else diff_id)
    return tuple(chain)


def _object(value: dict[str, Any], key: str, pointer: str) -> dict[str, Any]:
    return object_of(value.get(key), f"{pointer}/{key}")


def _names(value: dict[str, Any], key: str) -> tuple[str, ...]:
    """Return the keys of a set written as an object of empty objects; an array of strings is read too."""
    found = value.get(key)
    if isinstance(found, list):
        return text_list(value, key, "/config")
    return tuple(_object(value, key, "/config"))


def _command(value: dict[str, Any], key: str) -> tuple[str, ...]:
    found = value.get(key)
    if isinstance(found, str):
        return ("/bin/sh", "-c", found)  # Docker's oldest images
    return text_list(value, key, "/config")


def _process(value: dict[str, Any]) -> ProcessConfig:
    return ProcessConfig(
        user=text_field(value, "User", "/config", ""),
        env=text_list(value, "Env", "/config"),
        entrypoint=_command(value, "Entrypoint"),
        cmd=_command(value, "Cmd"),
        working_dir=text_field(value, "WorkingDir", "/config", ""),
        volumes=_names(value, "Volumes"),
        exposed_ports=_names(value, "ExposedPorts"),
        labels=text_map(value, "Labels", "/config"),
        stop_signal=text_field(value, "StopSignal", "/config", ""),
    )


def _diff_ids(value: dict[str, Any]) -> tuple[str, ...]:
    kind = text_field(value, "type", "/rootfs", "layers")
    if kind != "layers":
        raise SpecError(f"unsupported type {kind!r}", pointer="/rootfs/type")
    found = text_list(value, "diff_ids", "/rootfs")
    for at, text in enumerate(found):
        try:
            parse_digest(text)
        except ReferenceInvalid as error:
            raise SpecError(error.message, pointer=f"/rootfs/diff_ids/{at}") from None
    return found


def _history(value: Any) -> tuple[History, ...]:
    entries: list[History] = []
    for at, entry in enumerate(list_of(value, "/history")):
        pointer = f"/history/{at}"
        item = object_of(entry, pointer)
        entries.append(
            History(
                created=text_field(item, "created", pointer, ""),
                created_by=text_field(item, "created_by", pointer, ""),
                author=text_field(item, "author", pointer, ""),
                comment=text_field(item, "comment", pointer, ""),
                empty_layer=item.get("empty_layer") is True,
            )
        )
    return tuple(entries)
