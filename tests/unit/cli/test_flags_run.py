"""The flags of `run`: all of podman's, none ignored; values and errors in podman's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.cli.flags_run import run_options
from rootless.cli.parser import FlagError, parse
from rootless.cli.table_run import COMMAND, DOCKER_FLAGS, RUN_FLAGS
from rootless.errors import RootlessError, UsageError
from rootless.plan.options import (
    DeviceRequest,
    GlobalOptions,
    NetworkRequest,
    PortRange,
    RunOptions,
    UlimitRequest,
    VolumeRequest,
)

PODMAN = (Path(__file__).parent / "podman-4.3.1-run-flags.txt").read_text().split()
FILES = {
    "/env": 'A=1\n#c\n  B=2 \n\nC\nD="q"\nHOM*\r\n',
    "/badenv": "=x\n",
    "/labels": "a=b\n# c\nd\n",
    "/cwd/p.json": "{}",
    "/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1000:Me:/home/me:/bin/zsh\n",
    "/proc/self/limits": (
        "Limit                     Soft Limit           Hard Limit           Units     \n"
        "Max open files            1024                 unlimited            files     \n"
    ),
}
ENVIRON = {"HOME": "/home/me", "HOMER": "h", "C": "c", "http_proxy": "http://p", "no_proxy": "n"}


def read_text(path: str) -> str:
    if path not in FILES:
        raise FileNotFoundError(2, "No such file or directory", path)
    return FILES[path]


def options(*argv: str) -> RunOptions:
    parsed, everywhere = parse(COMMAND, list(argv), GlobalOptions())
    return run_options(parsed, everywhere, ENVIRON, "/cwd", read_text)


def refused(*argv: str) -> str:
    with pytest.raises(RootlessError) as caught:
        options(*argv)
    return caught.value.message


def test_all_flags_of_podman_and_no_others() -> None:
    assert len(PODMAN) == 131
    assert sorted(row[0] for row in RUN_FLAGS) == PODMAN


def test_docker_flags_do_not_repeat_podmans() -> None:
    assert not {row[0] for row in DOCKER_FLAGS} & set(PODMAN)


VALUES = {
    "bool": "true", "string": "x", "strings": "x", "array": "x", "int": "1", "uint": "1", "float": "1",
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in RUN_FLAGS + DOCKER_FLAGS if row[6]], ids=lambda row: row[0])
def test_a_flag_that_does_not_exist_yet_is_named(row: tuple[str, ...]) -> None:
    with pytest.raises(FlagError) as caught:
        options(f"--{row[0]}={VALUES[row[2]]}", "image")
    assert caught.value.message == f"--{row[0]} is not supported: {row[6]}"
    assert caught.value.code == 125


# a value of each working flag that must change what comes out: no flag is ignored
CHANGES = {
    "add-host": "a:1.2.3.4", "annotation": "a=b", "arch": "arm64", "authfile": "/x", "cap-add": "chown",
    "cap-drop": "chown", "cgroupns": "host", "cidfile": "/x", "device": "/dev/fuse", "dns": "1.2.3.4",
    "dns-option": "x", "dns-search": "x", "entrypoint": "x", "env": "A=b", "env-file": "/env", "env-host": "true",
    "env-merge": "A=$B", "preserve-fds": "1",
    "expose": "80", "group-add": "x", "hostname": "x", "hostuser": "me", "http-proxy": "false",
    "image-volume": "ignore", "init": "true", "interactive": "true", "ipc": "host", "label": "a=b",
    "label-file": "/labels", "mount": "type=tmpfs,dst=/x", "name": "x", "network": "none", "no-hosts": "true",
    "oom-score-adj": "5", "os": "linux", "passwd": "false", "passwd-entry": "x", "personality": "LINUX32",
    "pid": "host", "pidfile": "/x", "platform": "linux/arm64", "privileged": "true", "publish": "80",
    "publish-all": "1",
    "pull": "never", "quiet": "true", "read-only": "true", "read-only-tmpfs": "false", "rm": "true", "rootfs": "true",
    "security-opt": "no-new-privileges", "shm-size": "1m", "sig-proxy": "false", "stop-signal": "INT",
    "stop-timeout": "3", "sysctl": "net.a=1", "timeout": "3", "tls-verify": "false", "tmpfs": "/x", "tty": "true",
    "tz": "local", "ulimit": "nofile=1", "umask": "27", "unsetenv": "A", "unsetenv-all": "true", "user": "x",
    "userns": "keep-id", "uts": "host", "variant": "v8", "volume": "/a:/b", "workdir": "/x",
}  # fmt: skip
# flags whose only working values are what happens anyway, or that are about something which never happens
WITHOUT_EFFECT = {"cgroups": "disabled", "disable-content-trust": "true", "log-driver": "none", "no-healthcheck": "1",
                  "restart": "no", "sdnotify": "ignore", "seccomp-policy": "default", "systemd": "false"}  # fmt: skip


def test_every_working_flag_has_a_test_value() -> None:
    assert {row[0] for row in RUN_FLAGS if not row[6]} == {*CHANGES, *WITHOUT_EFFECT, "help"}


@pytest.mark.parametrize("flag", sorted(CHANGES))
def test_no_working_flag_is_ignored(flag: str) -> None:
    assert options(f"--{flag}={CHANGES[flag]}", "image") != options("image")


@pytest.mark.parametrize("flag", sorted(WITHOUT_EFFECT))
def test_flags_that_say_what_happens_anyway(flag: str) -> None:
    assert options(f"--{flag}={WITHOUT_EFFECT[flag]}", "image") == options("image")


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (
            ["--env-file", "/env", "x"],
            "env",
            (("A", "1"), ("B", "2 "), ("C", "c"), ("D", '"q"'), ("HOME", "/home/me"), ("HOMER", "h")),
        ),
        (["-e", "A", "-e", "C", "-e", "B=", "-e", "D=a=b", "x"], "env", (("C", "c"), ("B", ""), ("D", "a=b"))),
        (
            ["--env-file", "/env", "-e", "A=2", "x"],
            "env",
            (("A", "2"), ("B", "2 "), ("C", "c"), ("D", '"q"'), ("HOME", "/home/me"), ("HOMER", "h")),
        ),
        (["x"], "proxy_env", (("http_proxy", "http://p"), ("no_proxy", "n"))),
        (["--label-file", "/labels", "-l", "e=f", "x"], "labels", (("a", "b"), ("d", ""), ("e", "f"))),
        (["--entrypoint", '["a","b"]', "x"], "entrypoint", ("a", "b")),
        (["--entrypoint", '["a","b"', "x"], "entrypoint", ('["a","b"',)),
        (["--entrypoint", "", "x"], "entrypoint", ("",)),
        (["--entrypoint", "[]", "x"], "entrypoint", ()),
        (["x"], "entrypoint", None),
        (
            ["--ulimit", "nofile=10:20", "--ulimit", "core=-1", "x"],
            "ulimits",
            (UlimitRequest("nofile", 10, 20), UlimitRequest("core", -1, -1)),
        ),
        (["--ulimit", "host", "--ulimit", "nofile=5", "x"], "ulimits", (UlimitRequest("nofile", 5, 5),)),
        (["--ulimit", "host", "x"], "ulimits", (UlimitRequest("nofile", 1024, -1),)),
        (["--shm-size", "1.5g", "x"], "shm_size", 3 << 29),
        (["--net", "none", "x"], "network", NetworkRequest("none")),
        (
            ["--network", "slirp4netns:mtu=1500,cidr=10.0.3.0/24", "x"],
            "network",
            NetworkRequest("private", ("mtu=1500", "cidr=10.0.3.0/24")),
        ),
        (
            ["-p", "8080:80", "-p", "127.0.0.1::53/udp", "x"],
            "publish",
            (PortRange("", 8080, 80), PortRange("127.0.0.1", 0, 53, 1, "udp")),
        ),
        (
            ["--device", "/dev/fuse", "--device", "/dev/null:/dev/x:r", "--device", "/dev/zero:rw", "x"],
            "devices",
            (
                DeviceRequest("/dev/fuse", "/dev/fuse"),
                DeviceRequest("/dev/null", "/dev/x", "r"),
                DeviceRequest("/dev/zero", "/dev/zero", "rw"),
            ),
        ),
        (
            ["-v", "./a:/b:ro,Z", "-v", "~/c:/d", "-v", "n:/e:U", "x"],
            "volumes",
            (
                VolumeRequest("bind", "/cwd/a", "/b", ("ro",), False, False),
                VolumeRequest("bind", "/home/me/c", "/d", (), False, False),
                VolumeRequest("volume", "n", "/e", (), True, True),
            ),
        ),
        (
            ["--tmpfs", "/t", "--tmpfs", "/t:size=1m,ro", "x"],
            "volumes",
            (VolumeRequest("tmpfs", "", "/t", ("size=1m", "ro")),),
        ),
        (["--platform", "linux/arm/v7", "x"], "variant", "v7"),
        (["--pull", "ALWAYS", "x"], "pull", "always"),
        (["x", "-it", "--rm"], "command", ("-it", "--rm")),
    ],
)
def test_values(argv: list[str], field: str, value: Any) -> None:
    assert getattr(options(*argv), field) == value


def test_security_options() -> None:
    found = options(
        "--security-opt=no-new-privileges", "--security-opt=seccomp=p.json", "--security-opt", "mask=/a:/b",
        "--security-opt=unmask=/c:all", "--security-opt=proc-opts=hidepid=2,subset=pid",
        "--security-opt", "label=type:x", "image",
    )  # fmt: skip
    security = found.security
    assert security.no_new_privileges
    assert security.seccomp == "/cwd/p.json"
    assert security.mask == ("/a", "/b")
    assert security.unmask == ("/c", "ALL")
    assert security.proc_opts == ("hidepid=2", "subset=pid")
    assert found.warnings == ("--security-opt label=type:x has no effect: labels need SELinux, which is not used",)
    assert options("--security-opt", "seccomp:unconfined", "image").security.seccomp == "unconfined"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-e", "=x"], 'invalid environment variable: "=x"'),
        (["--env-file", "/badenv"], 'parsing env file "/badenv": invalid environment variable: "=x"'),
        (["--env-file", "/none"], 'parsing env file "/none": open /none: no such file or directory'),
        (["--label-file", "/none"], "unable to process labels: open /none: no such file or directory"),
        (["--label", "=x"], 'unable to process labels: invalid label format: "=x"'),
        (["--annotation", "x"], "annotations must be formatted KEY=VALUE"),
        (["--add-host", "x"], 'bad format for add-host: "x"'),
        (["--add-host", "x:y"], 'invalid IP address in add-host: "y"'),
        (["--dns", "x"], "x is not an ip address"),
        (["--dns", "1.1.1.1", "--network", "none"], "conflicting options: dns and the network mode: none"),
        (
            ["--network", "a", "--network", "b"],
            "cannot set multiple networks without bridge network mode, selected mode a: invalid argument",
        ),
        (["--platform", "linux", "--arch", "amd64"], "--platform option can not be specified with --arch or --os"),
        (["--pull", "frob"], 'unsupported pull policy "frob"'),
        (
            ["--name", "a b"],
            "running container create option: names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid argument",
        ),
        (["--stop-signal", "FOO"], "invalid signal: FOO"),
        (["--stop-signal", "99"], "valid signals are 1 through 64"),
        (["--umask", "99"], "running container create option: invalid umask string 99: invalid argument"),
        (["--pid", "frob"], "unrecognized namespace mode frob passed"),
        (
            ["--pid", "container:x"],
            "--pid container:x is not supported: joining the namespace of another container is not there yet",
        ),
        (
            ["--ulimit", "x"],
            'ulimit option "x" requires name=SOFT:HARD, failed to be parsed: invalid ulimit argument: x',
        ),
        (
            ["--ulimit", "nofile=2:1"],
            'ulimit option "nofile=2:1" requires name=SOFT:HARD, failed to be parsed: '
            "ulimit soft limit must be less than or equal to hard limit: 2 > 1",
        ),
        (["--shm-size", "x"], "unable to translate --shm-size: invalid size: 'x'"),
        (["--device", "/dev/null:/dev/x:q"], "invalid device mode: q"),
        (["--sysctl", "x"], "x is invalid, sysctl values must be in the form of KEY=VALUE"),
        (["--sysctl", "kernel.foo=1"], "sysctl 'kernel.foo' is not allowed"),
        (["--image-volume", "foo"], 'invalid image volume mode "foo" required value: bind, tmpfs, ignore'),
        (["--dns-search", "", "--network", "none"], "conflicting options: dns and the network mode: none"),
        (["--security-opt", "seccomp=/none"], "opening seccomp profile failed: open /none: no such file or directory"),
        (["--security-opt", "foo"], 'invalid --security-opt 1: "foo"'),
        (["--security-opt", "foo=bar"], 'invalid --security-opt 2: "foo=bar"'),
        (
            ["--security-opt", "apparmor=foo"],
            'apparmor profile "foo" specified, but Apparmor is not enabled on this system',
        ),
        (
            ["--group-add", "keep-groups,1"],
            "the '--group-add keep-groups' option is not allowed with any other --group-add options",
        ),
        (["--expose", "x"], 'invalid range format for --expose: x: strconv.ParseUint: parsing "x": invalid syntax'),
        (["--oom-score-adj", "2000"], 'invalid value "2000" for --oom-score-adj: must be between -1000 and 1000'),
        (["--restart", "always"], "--restart always is not supported: restart policies are not there yet; only no is"),
        (["--hostuser", "nobody"], "user: unknown user nobody"),
        (["-v", "/a:/x", "--mount", "type=tmpfs,dst=/x"], "/x: duplicate mount destination"),
        (["--no-hosts", "--add-host", "a:1.2.3.4"], "--no-hosts and --add-host cannot be set together"),
    ],
)
def test_wrong_values(argv: list[str], message: str) -> None:
    assert refused(*argv, "image") == message


def test_a_wrong_value_is_a_usage_error_with_125() -> None:
    with pytest.raises(UsageError) as caught:
        options("--dns", "x", "image")
    assert caught.value.code == 125
