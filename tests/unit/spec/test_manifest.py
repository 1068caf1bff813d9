"""Manifests, indexes and image configs: what is read, what is refused, and that faults name their place."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import ImageError, RootlessError, SpecError
from rootless.spec import media
from rootless.spec.image import chain_ids, decode_image, parse_image
from rootless.spec.manifest import Index, Manifest, parse_manifest

HEX = "ab" * 32


def descriptor(media_type: str, **more: Any) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{HEX}", "size": 7, **more}


def manifest(**changes: Any) -> dict[str, Any]:
    value = {
        "schemaVersion": 2,
        "mediaType": media.OCI_MANIFEST,
        "config": descriptor(media.OCI_CONFIG),
        "layers": [descriptor(media.OCI_LAYER + "+gzip"), descriptor(media.DOCKER_LAYER + ".gzip")],
    }
    value.update(changes)
    return {k: v for k, v in value.items() if v is not None}


def parse(value: Any, content_type: str = "") -> Manifest | Index:
    return parse_manifest(json.dumps(value).encode(), content_type)


def test_a_manifest() -> None:
    found = parse(manifest())
    assert isinstance(found, Manifest)
    assert found.config.digest.hex == HEX
    assert [media.compression_of(layer.media_type) for layer in found.layers] == ["gzip", "gzip"]


@pytest.mark.parametrize(
    "content_type", ["", media.OCI_MANIFEST, media.DOCKER_MANIFEST + "; charset=utf-8", "text/plain"]
)
def test_a_manifest_that_does_not_say_what_it_is(content_type: str) -> None:
    assert isinstance(parse(manifest(mediaType=None), content_type), Manifest)


def test_an_index_with_platforms() -> None:
    entry = descriptor(media.OCI_MANIFEST, platform={"os": "linux", "architecture": "arm64", "variant": "v8"})
    found = parse({"schemaVersion": 2, "manifests": [entry]})
    assert isinstance(found, Index)
    assert str(found.manifests[0].platform) == "linux/arm64/v8"


@pytest.mark.parametrize(
    ("kind", "compression"),
    [
        (media.OCI_LAYER, ""),
        (media.OCI_LAYER + "+gzip", "gzip"),
        (media.OCI_LAYER + "+zstd", "zstd"),
        (media.DOCKER_LAYER, ""),
        (media.DOCKER_LAYER + ".gzip", "gzip"),
        (media.DOCKER_FOREIGN_LAYER + ".gzip", "gzip"),
        (media.OCI_LAYER + "+lz4", None),
        ("application/json", None),
    ],
)
def test_compressions(kind: str, compression: str | None) -> None:
    assert media.compression_of(kind) == compression


@pytest.mark.parametrize("value", [{"schemaVersion": 1, "fsLayers": []}, {"schemaVersion": 2, "fsLayers": []}])
def test_schema_1_is_refused_in_words(value: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="schema 1"):
        parse(value)
    with pytest.raises(ImageError, match="schema 1"):
        parse({"schemaVersion": 2}, media.DOCKER_SCHEMA1_SIGNED)


@pytest.mark.parametrize(
    ("value", "pointer"),
    [
        (manifest(schemaVersion=3), "/schemaVersion"),
        (manifest(config=None), "/config"),
        (manifest(layers={}), "/layers"),
        (manifest(layers=[{"mediaType": media.OCI_LAYER, "digest": "x", "size": 1}]), "/layers/0/digest"),
        (manifest(layers=[descriptor(media.OCI_LAYER, size=-1)]), "/layers/0/size"),
        (manifest(layers=[descriptor(media.OCI_LAYER, size=True)]), "/layers/0/size"),
        (manifest(layers=[descriptor(media.OCI_LAYER, urls=[1])]), "/layers/0/urls/0"),
        (manifest(annotations={"a": 1}), "/annotations/a"),
        (manifest(manifests=[]), "/manifests"),
        (manifest(mediaType=media.OCI_INDEX), "/mediaType"),
        (manifest(mediaType=7), "/mediaType"),
    ],
)
def test_faults_name_their_place(value: dict[str, Any], pointer: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(value)
    assert caught.value.pointer == pointer


@pytest.mark.parametrize("data", [b"", b"<html>", b"[]", b"null", b"\xff", b"{"])
def test_what_is_no_manifest_at_all(data: bytes) -> None:
    with pytest.raises(SpecError):
        parse_manifest(data)


def test_an_artifact_and_an_unknown_layer_are_no_images() -> None:
    with pytest.raises(ImageError, match="not a container image"):
        parse(manifest(config=descriptor("application/vnd.example.chart")))
    with pytest.raises(ImageError, match=r"layer 1 .*lz4"):
        parse(manifest(layers=[descriptor(media.OCI_LAYER + "+lz4")]))
    with pytest.raises(ImageError, match="unsupported manifest type"):
        parse({"schemaVersion": 2, "mediaType": "application/x"})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from(sorted(manifest())), json_values)
def test_only_our_errors_come_of_a_broken_manifest(key: str, junk: Any) -> None:
    try:
        parse(manifest(**{key: junk}))
    except RootlessError:
        pass


CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "created": "2023-11-14T22:13:20Z",
    "config": {
        "User": "alice",
        "Env": ["A=1"],
        "Entrypoint": ["/entry"],
        "Cmd": None,
        "WorkingDir": "/data",
        "Volumes": {"/v": {}},
        "ExposedPorts": {"80/tcp": {}},
        "Labels": {"a": "b"},
        "StopSignal": "SIGINT",
    },
    "rootfs": {"type": "layers", "diff_ids": [f"sha256:{HEX}"]},
    "history": [{"created_by": "one"}, {"empty_layer": True}],
}


def test_an_image_config() -> None:
    found = parse_image(json.dumps(CONFIG).encode())
    assert (found.config.user, found.config.cmd, found.config.entrypoint) == ("alice", (), ("/entry",))
    assert (found.config.volumes, found.config.exposed_ports) == (("/v",), ("80/tcp",))
    assert found.config.labels == (("a", "b"),)
    assert [h.empty_layer for h in found.history] == [False, True]


def test_null_is_absent() -> None:
    found = decode_image({"config": None, "rootfs": None, "history": None, "os": None})
    assert (found.platform.os, found.diff_ids, found.config.env) == ("linux", (), ())


@given(st.sampled_from(sorted(CONFIG)), json_values)
def test_only_our_errors_come_of_a_broken_config(key: str, junk: Any) -> None:
    try:
        decode_image({**CONFIG, key: junk})
    except RootlessError:
        pass


def test_chain_ids() -> None:
    one, two = f"sha256:{HEX}", f"sha256:{'cd' * 32}"
    second = "sha256:" + hashlib.sha256(f"{one} {two}".encode()).hexdigest()
    third = "sha256:" + hashlib.sha256(f"{second} {one}".encode()).hexdigest()
    assert chain_ids((one, two, one)) == (one, second, third)
    assert chain_ids(()) == ()
