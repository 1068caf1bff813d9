"""Registries with images, and the command line with roots of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import capabilities, images, registry
from tests.support.cli import Cli
from tests.support.embedded import EmbeddedRegistry
from tests.support.pulling import BIG


@pytest.fixture(scope="session")
def docker_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    """Debian's docker-registry, without authentication."""
    capabilities.require("registry")
    with registry.docker_registry(tmp_path_factory.mktemp("registry")) as server:
        yield server


@pytest.fixture(scope="session")
def auth_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[registry.Registry]:
    """Debian's docker-registry, which knows registry.ACCOUNT only."""
    capabilities.require("registry")
    with registry.docker_registry(tmp_path_factory.mktemp("auth-registry"), auth=True) as server:
        yield server


@pytest.fixture
def embedded_registry() -> Iterator[EmbeddedRegistry]:
    """A registry in this process, whose `faults` can be set."""
    with EmbeddedRegistry() as server:
        yield server


@pytest.fixture(scope="session", params=["docker", "embedded"])
def any_registry(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[registry.Registry]:
    """Each kind of registry in turn."""
    if request.param == "docker":
        yield request.getfixturevalue("docker_registry")
        return
    with registry.embedded_registry() as server:
        yield server


@pytest.fixture(scope="session")
def sample() -> images.Image:
    """The image with all that layers can hold; its layers lie under /data."""
    capabilities.require("busybox")
    return images.sample()


@pytest.fixture(scope="session")
def sample_ref(docker_registry: registry.Registry, sample: images.Image) -> str:
    """HOST/sample:latest in Debian's docker-registry."""
    return sample.push(docker_registry.host, "sample")


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """The command line `rootless` with data, run and tmp roots of its own, which are removed afterwards."""
    capabilities.require("userns")
    program = Cli(tmp_path / "roots")
    yield program
    program.clean()


@pytest.fixture(scope="session")
def large() -> images.Image:
    """An image whose second layer has three megabytes that do not compress."""
    layers = (
        images.Layer((images.File("a", b"a"),)),
        images.Layer((images.File("big", BIG),)),
        images.Layer((images.File("c", b"c"),), "zstd"),
    )
    return images.Image(layers)
