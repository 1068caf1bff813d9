"""Values of flags: sizes, limits, environment, addresses, mounts."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rootless.cli.parser import split_csv
from rootless.errors import UsageError
from rootless.plan import values, volumespec
from rootless.plan.options import VolumeRequest


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("100", 100),
        ("1b", 1),
        ("1k", 1024),
        ("64m", 64 << 20),
        ("64MB", 64 << 20),
        ("10kib", 10240),
        ("1.5g", 3 << 29),
        ("1 m", 1 << 20),
        ("1t", 1 << 40),
        ("2p", 2 << 50),
    ],
)
def test_sizes(text: str, number: int) -> None:
    assert values.size(text) == number


@pytest.mark.parametrize("text", ["", "x", "-1", "+1", "1q", "1.2.3", "m", "9999999p", "1e3", "1_0", "¹"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UsageError, match="invalid size: "):
        values.size(text)


@given(st.integers(0, 1 << 40), st.sampled_from("bkmg"))
def test_a_size_counts_in_powers_of_1024(number: int, unit: str) -> None:
    if number << 10 * "bkmg".index(unit) < 1 << 63:
        assert values.size(f"{number}{unit}") == number << 10 * "bkmg".index(unit)


@given(st.ip_addresses().map(str))
def test_addresses_are_known(text: str) -> None:
    assert values.ip_version(text) == ipaddress.ip_address(text).version


@given(st.text("0123456789abcdef:.", max_size=20))
def test_addresses_as_the_standard_library_sees_them(text: str) -> None:
    try:
        version: int = ipaddress.ip_address(text).version
    except ValueError:
        version = 0
    assert values.ip_version(text) == version


@pytest.mark.parametrize(
    ("lines", "env"),
    [
        (["A=1"], {"A": "1"}),
        (["A=1", "A=2"], {"A": "2"}),
        ([" A= 1 "], {"A": " 1 "}),
        (["A"], {}),
        (["H"], {"H": "h"}),
        (["H*"], {"H": "h", "HX": "x"}),
        (["*"], {"H": "h", "HX": "x"}),
        (["A B=2"], {"A B": "2"}),
    ],
)
def test_environment(lines: list[str], env: dict[str, str]) -> None:
    found: dict[str, str] = {}
    for line in lines:
        values.add_env(found, line, {"H": "h", "HX": "x"})
    assert found == env


@pytest.mark.parametrize(
    ("text", "cleaned"), [("/", "/"), ("/a//b/", "/a/b"), ("/a/../..", "/"), ("/./a/.", "/a"), ("a/../..", "..")]
)
def test_clean_path(text: str, cleaned: str) -> None:
    assert volumespec.clean_path(text) == cleaned


@given(st.text("ab./", max_size=12).map(lambda text: "/" + text))
def test_a_clean_path_stays_clean_and_below_the_root(text: str) -> None:
    cleaned = volumespec.clean_path(text)
    assert volumespec.clean_path(cleaned) == cleaned
    assert cleaned.startswith("/")
    assert ".." not in cleaned.split("/")
    assert "//" not in cleaned


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("/x", VolumeRequest("volume", "", "/x")),
        ("name:/x/", VolumeRequest("volume", "name", "/x")),
        ("name:/x:nocopy,ro", VolumeRequest("volume", "name", "/x", ("ro",), False, False)),
        ("/a/../b:/x:rslave,noexec,z", VolumeRequest("bind", "/b", "/x", ("rslave", "noexec"), False, False)),
        (".:/x:U", VolumeRequest("bind", "/cwd", "/x", (), True, False)),
    ],
)
def test_volumes(text: str, request_: VolumeRequest) -> None:
    assert volumespec.volume(text, "/cwd", "/home/me") == request_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", 'invalid container path "foo", must be an absolute path'),
        ("/a:/b:/c:/d", "/a:/b:/c:/d: incorrect volume format, should be [host-dir:]ctr-dir[:option]"),
        (":/x", "host directory cannot be empty"),
        ("", "container directory cannot be empty"),
        ("/tmp:x", 'invalid container path "x", must be an absolute path'),
        ("/tmp:/x:frob", 'invalid option type "frob"'),
        ("/tmp:/x:ro,rw", "invalid options \"ro, rw\", can only specify 1 'rw' or 'ro' option"),
        ("/tmp:/x:z,Z", "invalid options \"z, Z\", can only specify 1 'z', 'Z', or 'O' option"),
        ("/tmp:/x:exec,noexec", "invalid options \"exec, noexec\", can only specify 1 'noexec' or 'exec' option"),
        (
            "/tmp:/x:shared,slave",
            "invalid options \"shared, slave\", can only specify 1 '[r]shared', '[r]private', '[r]slave' or "
            "'[r]unbindable' option",
        ),
        (
            "a%b:/z",
            'creating named volume "a%b": running volume create option: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: '
            "invalid argument",
        ),
        ("/tmp:/a/..", 'invalid container path "/a/..", must not be the root'),
        ("/tmp:/x:O,ro", "can't use 'O' with other options"),
        ("/tmp:/x:O,upperdir=/u", "must specify both `upperdir` and `workdir`"),
        ("/tmp:/x:upperdir=/u", 'unknown mount option "upperdir=/u": invalid mount option'),
    ],
)
def test_wrong_volumes(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        volumespec.volume(text, "/cwd", "/home/me")
    assert caught.value.message == message


def read_mount(text: str) -> VolumeRequest:
    return volumespec.mount(text, split_csv(text)[0], "/cwd", "/home/me")


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("type=bind,src=/a,dst=/x", VolumeRequest("bind", "/a", "/x", (), False, False)),
        ("type=bind,source=rel,target=/x,ro", VolumeRequest("bind", "/cwd/rel", "/x", ("ro",), False, False)),
        ("type=bind,src=/a,dst=/x,ro=false", VolumeRequest("bind", "/a", "/x", ("rw",), False, False)),
        (
            "type=bind,src=/a,dst=/x,readonly=true,bind-propagation=rslave",
            VolumeRequest("bind", "/a", "/x", ("ro", "rslave"), False, False),
        ),
        ("type=bind,src=/a,dst=/x,bind-nonrecursive,U", VolumeRequest("bind", "/a", "/x", ("bind",), True, False)),
        ("type=bind,dst=/x", VolumeRequest("bind", "/x", "/x", (), False, False)),
        ("type=volume,dst=/x", VolumeRequest("volume", "", "/x")),
        ("type=volume,src=v,dst=/x,consistency=delegated", VolumeRequest("volume", "v", "/x")),
        (
            "type=tmpfs,dst=/x,tmpfs-size=1m,tmpfs-mode=700,notmpcopyup",
            VolumeRequest("tmpfs", "", "/x", ("size=1m", "mode=700"), False, False),
        ),
        ("type=devpts,dst=/x,gid=5", VolumeRequest("devpts", "", "/x", ("gid=5",))),
        ('type=bind,"src=/a,b",dst=/x', VolumeRequest("bind", "/a,b", "/x", (), False, False)),
    ],
)
def test_mounts(text: str, request_: VolumeRequest) -> None:
    assert read_mount(text) == request_


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("foo", volumespec.MOUNT_FORMAT),
        ("dst=/x", volumespec.MOUNT_FORMAT),
        ("type=bind", "must set volume destination"),
        ("type=frob,dst=/x", 'invalid filesystem type "frob"'),
        ("type=bind,src=/a,dst=/x,frob=1", "frob: invalid mount option"),
        ("type=tmpfs,dst=x", 'invalid container path "x", must be an absolute path'),
        ("type=tmpfs,dst=/x,src=/y", "source is not supported with tmpfs mounts"),
        (
            "type=bind,src=/a,dst=/x,ro=maybe",
            "'readonly', 'ro', or 'rw' must be set to true or false, instead received \"maybe\": "
            "must provide an argument for option",
        ),
        (
            "type=bind,src=/a,dst=/x,ro,rw",
            "cannot pass 'readonly', 'ro', or 'rw' options more than once: must provide an argument for option",
        ),
        ("type=volume,src=v,dst=/x,nocopy", "nocopy: invalid mount option"),
        ("type=bind,src=/a,dst=/x,bind-propagation=foo", 'invalid option type "foo"'),
        (
            "type=bind,src=/a,dst=/x,relabel=foo",
            "relabel mount option must be 'private' or 'shared': invalid mount option",
        ),
        ("type=bind,src=,dst=/x", "host directory cannot be empty: must provide an argument for option"),
        ("type=image,dst=/x", "must set source and destination for image volume"),
        ("type=image,src=x,dst=/x,ro", "ro: invalid mount option"),
        ("type=image,src=x,dst=/x,rw=1", 'invalid rw value "1": invalid mount option'),
        ("type=cgroup,dst=/x", 'invalid filesystem type "cgroup"'),
    ],
)
def test_wrong_mounts(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_mount(text)
    assert caught.value.message == message


@given(st.text("ab,:=/.~typebindsrcdtmfvolu", max_size=24))
def test_any_mount_or_volume_is_read_or_refused(text: str) -> None:
    for read in (read_mount, lambda t: volumespec.volume(t, "/cwd", "/h"), volumespec.tmpfs):
        try:
            found = read(text)
        except UsageError:
            continue
        assert found.target.startswith("/")
        assert found.kind != "bind" or found.source.startswith("/")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x", 'invalid container path "x", must be an absolute path'),
        ("/x:frob", 'unknown mount option "frob": invalid mount option'),
        ("/x:size=", 'unknown mount option "size=": invalid mount option'),
        ("", "container directory cannot be empty"),
    ],
)
def test_wrong_tmpfs(text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        volumespec.tmpfs(text)
    assert caught.value.message == message
