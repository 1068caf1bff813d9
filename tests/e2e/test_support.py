"""The registries and the image factory serve a peer: what podman pulls is what was made."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.support import embedded, images
from tests.support.embedded import EmbeddedRegistry
from tests.support.registry import ACCOUNT, Registry


def fetch(host: str, path: str, auth: tuple[str, str] | None = None, **headers: str) -> bytes:
    client = images.Client(host, auth)
    request = urllib.request.Request(f"http://{host}{path}", headers={**client.headers, **headers})
    with client.opener.open(request, timeout=30) as answer:
        data: bytes = answer.read()
        return data


def test_pushed_images_come_back(any_registry: Registry, sample: images.Image) -> None:
    """Manifest, config and layers are served byte for byte, for a tag and in an index."""
    sample.push(any_registry.host, "pushed", "one")
    _, which = images.push_index(any_registry.host, "pushed", "all", [sample])
    accept = ", ".join(images.MEDIA[style][kind] for style in images.MEDIA for kind in ("manifest", "index"))
    assert fetch(any_registry.host, "/v2/pushed/manifests/one", Accept=accept) == sample.manifest
    index = fetch(any_registry.host, "/v2/pushed/manifests/all", Accept=accept)
    assert images.digest(index) == which
    assert json.loads(index)["manifests"][0]["digest"] == sample.digest
    for layer in sample.layers:
        assert fetch(any_registry.host, f"/v2/pushed/blobs/{layer.digest}") == layer.blob


def test_account_is_asked_for(auth_registry: Registry) -> None:
    """Without the account 401, with it all works."""
    image = images.Image((images.Layer((images.File("a", b"b"),)),))
    with pytest.raises(urllib.error.HTTPError, match="401") as caught:
        fetch(auth_registry.host, "/v2/")
    caught.value.close()
    image.push(auth_registry.host, "private", auth=ACCOUNT)
    assert fetch(auth_registry.host, f"/v2/private/blobs/{image.layers[0].digest}", ACCOUNT) == image.layers[0].blob


def test_faults_happen(embedded_registry: EmbeddedRegistry) -> None:
    """A blob can be altered, and an error answered once."""
    image = images.Image((images.Layer((images.File("a", b"b" * 100),), "none"),))
    image.push(embedded_registry.host, "x")
    path = f"/v2/x/blobs/{image.layers[0].digest}"
    embedded_registry.faults["/blobs/"] = embedded.altered(lambda data: data[::-1])
    assert fetch(embedded_registry.host, path) == image.layers[0].blob[::-1]
    embedded_registry.faults["/blobs/"] = embedded.status(503, times=1)
    with pytest.raises(urllib.error.HTTPError, match="503") as caught:
        fetch(embedded_registry.host, path)
    caught.value.close()
    assert fetch(embedded_registry.host, path) == image.layers[0].blob


def test_the_large_image_depends_on_its_seed_only() -> None:
    """Two makings of the same seed give the same digests, another seed gives others."""
    first, second = images.bench_image(7, 200_000, 2), images.bench_image(7, 200_000, 2)
    assert first.digest == second.digest
    assert images.bench_image(8, 200_000, 2).digest != first.digest
