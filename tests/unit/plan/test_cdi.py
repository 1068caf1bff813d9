"""Devices by name: what a CDI specification, as nvidia-ctk writes it, makes of a container; the YAML that it is in."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.errors import UsageError
from rootless.plan.plainyaml import YamlError, loads
from rootless.spec.jsontext import dumps
from tests.unit.plan.test_translate import run

YAML = """---
cdiVersion: 0.5.0
containerEdits:
  deviceNodes:
  - path: /dev/ctl
    permissions: rw
  env:
  - VISIBLE=void
  hooks:
  - args:
    - nvidia-cdi-hook
    - create-symlinks
    - --link
    - ../lib.so.1::/usr/lib/drm.so
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  - args: [nvidia-cdi-hook, update-ldcache, --folder, /usr/lib64]
    hookName: createContainer
    path: /usr/bin/nvidia-cdi-hook
  mounts:
  - containerPath: /usr/lib64/lib.so
    hostPath: /host/lib.so
    options:
    - ro
    - nosuid
devices:
- containerEdits:
    deviceNodes:
    - path: /dev/gpu0
      hostPath: /dev/real0
  name: "0"
- name: all
  containerEdits:
    deviceNodes: # both
      - path: /dev/gpu0
      - path: /dev/gpu1
kind: nvidia.com/gpu
"""
SPECS = (("/etc/cdi/nvidia.yaml", YAML),)
OTHER = {"cdiVersion": "0.6.0", "kind": "v.com/net", "devices": [
    {"name": "a", "containerEdits": {"env": ["PATH=/own", "X=1"], "additionalGids": [77]}}]}  # fmt: skip


def made(line: str, *more: tuple[str, str]) -> Any:
    return run(line, cdi_specs=lambda: SPECS + more)


def test_a_device_brings_its_nodes_mounts_and_variables() -> None:
    found = made("--device nvidia.com/gpu=0 --device /dev/fuse plain")
    mounts = {mount.destination: (mount.source, mount.options) for mount in found.spec.mounts}
    assert mounts["/dev/gpu0"][0] == "/dev/real0"
    assert mounts["/dev/ctl"][0] == "/dev/ctl"
    assert mounts["/dev/fuse"][0] == "/dev/fuse"
    assert mounts["/usr/lib64/lib.so"][0] == "/host/lib.so"
    assert "ro" in mounts["/usr/lib64/lib.so"][1]
    assert found.spec.process is not None
    assert {"VISIBLE=void", "LD_LIBRARY_PATH=/usr/lib64"} <= set(found.spec.process.env)
    assert found.warnings == ("hooks of CDI specifications are not run: create-symlinks",)


def test_gpus_are_devices() -> None:
    found = {mount.destination for mount in made("--gpus all plain").spec.mounts}
    assert {"/dev/gpu0", "/dev/gpu1", "/dev/ctl"} <= found


def test_json_groups_and_what_is_typed_is_stronger() -> None:
    found = made("--device v.com/net=a -e X=2 plain", ("/run/cdi/v.json", dumps(OTHER)))
    assert found.spec.process is not None
    assert {"PATH=/own", "X=2"} <= set(found.spec.process.env)
    assert 77 in found.user.groups


def test_a_later_specification_is_stronger() -> None:
    again = YAML.replace("/dev/real0", "/dev/newer0")
    mounts = made("--device nvidia.com/gpu=0 plain", ("/run/cdi/nvidia.yaml", again)).spec.mounts
    assert "/dev/newer0" in [mount.source for mount in mounts]


@pytest.mark.parametrize(
    ("line", "more", "message"),
    [
        ("--device nvidia.com/gpu=9 plain", (), "unresolvable CDI devices nvidia.com/gpu=9"),
        ("--gpus 3 plain", (), "unresolvable CDI devices nvidia.com/gpu=1, nvidia.com/gpu=2"),
        ("--gpus all plain", (("/x.json", "{"),), "/x.json: "),
        ("--gpus all plain", (("/x.json", "[]"),), "/x.json: a CDI specification with a kind is needed"),
        ("--gpus all plain", (("/x.yaml", "a: &b"),), "/x.yaml: line 1: & is more of YAML than is read here"),
    ],
)
def test_what_cannot_be_had(line: str, more: tuple[tuple[str, str], ...], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        made(line, *more)
    assert caught.value.message.startswith(message)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("a: 1\nb: [x, 'y z']\nc: {}\nd: []\n", {"a": 1, "b": ["x", "y z"], "c": {}, "d": []}),
        ("- 1\n-\n  - a\n- b: c\n  d: e\n", [1, ["a"], {"b": "c", "d": "e"}]),
        ("a:\n- b\n-  c: d\n   e: f\ng: h", {"a": ["b", {"c": "d", "e": "f"}], "g": "h"}),
        ("a: 'it''s' # why\nb: \"x#\\ty\"\nc: 0.5\nd: a#b\ne: null\nf: true", {
            "a": "it's", "b": "x#\ty", "c": "0.5", "d": "a#b", "e": None, "f": True}),
        ("a:\nb: http://x:5/y", {"a": None, "b": "http://x:5/y"}),
        ('"q: r": 5', {"q: r": 5}),
    ],
)  # fmt: skip
def test_plain_yaml(text: str, value: Any) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    "text",
    ["a: |\n  b", "a: *b", "a: !t b", "a: {b: c}", "\ta: b", "a: 1\na: 2", "a: 'x", 'a: "x', "a: [b", "a: b\n   c: d",
     "a: b\n---\nc: d", "%YAML 1.2", "- a\nb: c"],
)  # fmt: skip
def test_more_of_yaml_is_refused(text: str) -> None:
    with pytest.raises(YamlError):
        loads(text)


@given(st.text(alphabet="ab:-#'\"[]{} \n\t|", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        loads(text)
    except YamlError as error:
        assert error.line >= 1
