"""Platforms: names of machines, --platform, and which entry of an index is chosen."""

from __future__ import annotations

import pytest

from rootless.errors import ManifestNotFound, UsageError
from rootless.spec import media
from rootless.spec.descriptor import Descriptor
from rootless.spec.digest import Digest
from rootless.spec.manifest import Index, select
from rootless.spec.platform import Platform, best_match, from_machine, parse_platform

AMD = Platform("linux", "amd64")


def test_machines() -> None:
    assert str(from_machine("x86_64")) == "linux/amd64"
    assert str(from_machine("aarch64")) == "linux/arm64/v8"
    assert str(from_machine("armv7l")) == "linux/arm/v7"
    assert str(from_machine("sparc64")) == "linux/sparc64"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("linux/arm64", "linux/arm64"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("arm64", "linux/arm64"),
        ("windows", "windows/amd64"),
        ("linux/x86_64", "linux/amd64"),
        ("linux/aarch64", "linux/arm64/v8"),
    ],
)
def test_platform_flag(text: str, found: str) -> None:
    assert str(parse_platform(text, AMD)) == found


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d"])
def test_bad_platform_flag(text: str) -> None:
    with pytest.raises(UsageError):
        parse_platform(text, AMD)


def p(text: str) -> Platform | None:
    if not text:
        return None
    parts = [*text.split("/"), ""]
    return Platform(parts[0], parts[1], parts[2])


@pytest.mark.parametrize(
    ("wanted", "offered", "at"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3", "linux/amd64"], 1),
        ("linux/amd64", ["linux/amd64/v3"], None),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], 1),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6", "linux/arm/v8"], 1),
        ("linux/arm/v7", ["linux/arm", "linux/arm/v6"], 0),
        ("linux/arm64", ["linux/arm64/v8"], 0),
        ("linux/arm64/v8", ["linux/arm64"], 0),
        ("linux/arm64/v8", ["linux/arm/v7"], None),
        ("linux/amd64", ["unknown/unknown", "", "linux/amd64", "linux/amd64"], 2),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["linux/x86_64"], 0),
        ("linux/riscv64", ["linux/riscv64"], 0),
        ("linux/mips/odd", ["linux/mips", "linux/mips/odd"], 1),
    ],
)
def test_best_match(wanted: str, offered: list[str], at: int | None) -> None:
    found = p(wanted)
    assert found is not None
    assert best_match(found, [p(text) for text in offered]) == at


def entry(number: int, platform: str, kind: str = media.OCI_MANIFEST) -> Descriptor:
    return Descriptor(kind, Digest("sha256", f"{number:064x}"), 1, platform=p(platform))


def test_select_names_what_there_is() -> None:
    index = Index(media.OCI_INDEX, (entry(1, "linux/arm64/v8"), entry(2, "unknown/unknown"), entry(3, "linux/s390x")))
    with pytest.raises(ManifestNotFound) as caught:
        select(index, AMD, "quay.io/x:1")
    assert "quay.io/x:1" in caught.value.message
    assert "linux/arm64/v8, linux/s390x)" in caught.value.message
    assert "unknown" not in caught.value.message


def test_select_passes_over_what_is_no_image() -> None:
    index = Index(media.OCI_INDEX, (entry(1, "linux/amd64", "application/x"), entry(2, "linux/amd64")))
    assert select(index, AMD, "x") == index.manifests[1]


def test_an_index_without_platforms_has_one_image() -> None:
    assert select(Index(media.OCI_INDEX, (entry(1, ""),)), AMD, "x").digest.hex.endswith("1")
    with pytest.raises(ManifestNotFound):
        select(Index(media.OCI_INDEX, (entry(1, ""), entry(2, ""))), AMD, "x")
