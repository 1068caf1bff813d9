"""The flags of `run`: all of podman's, none ignored; values and errors in podman's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rootless.cli.flags_run import run_options
from rootless.cli.parser import GLOBAL_FLAGS, FlagError, fate, parse
from rootless.cli.table_run import COMMAND, CREATE_COMMAND, DOCKER_FLAGS, RUN_FLAGS
from rootless.errors import RootlessError, UsageError
from rootless.plan.options import (
    DeviceRequest,
    GlobalOptions,
    HealthRequest,
    Limits,
    NetworkRequest,
    PortRange,
    RunOptions,
    SecretRequest,
    SecurityOptions,
    UlimitRequest,
    VolumeRequest,
)

PODMAN = (Path(__file__).parent / "podman-4.3.1-run-flags.txt").read_text().split()
DOCKER = (Path(__file__).parent / "docker-28.2-run-flags.txt").read_text().split()
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


def test_all_flags_of_docker_and_no_others() -> None:
    assert len(DOCKER) == 104
    assert not {row[0] for row in DOCKER_FLAGS} & set(PODMAN)
    everywhere = {row[0] for row in GLOBAL_FLAGS}
    assert sorted(row[0] for row in DOCKER_FLAGS) == sorted({*DOCKER} - {*PODMAN} - everywhere)
    assert {*DOCKER} - {*PODMAN} & everywhere


def test_create_has_the_flags_of_podmans_create() -> None:
    only_run = {"detach", "detach-keys", "passwd", "preserve-fds", "rmi", "sig-proxy"}
    named = {row[0] for row in CREATE_COMMAND.flags} - {row[0] for row in DOCKER_FLAGS}
    assert named == {*PODMAN, "init-ctr"} - only_run


VALUES = {
    "bool": "true", "string": "x", "strings": "x", "array": "x", "int": "1", "uint": "1", "float": "1",
}  # fmt: skip


ROWS = RUN_FLAGS + DOCKER_FLAGS


@pytest.mark.parametrize("row", [row for row in ROWS if fate(row) == "warns"], ids=lambda row: row[0])
def test_a_flag_without_effect_says_why(row: tuple[str, ...]) -> None:
    found = options(f"--{row[0]}={VALUES[row[2]]}", "image")
    assert found.warnings == (f"--{row[0]} has no effect: {row[6][1:]}",)
    if row[2] == "bool":
        assert options(f"--{row[0]}=false", "image").warnings == ()


@pytest.mark.parametrize("row", [row for row in ROWS if fate(row) == "refused"], ids=lambda row: row[0])
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
    "attach": "stdin", "blkio-weight": "500", "blkio-weight-device": "/dev/sda:500", "cgroup-conf": "memory.high=1",
    "cgroup-parent": "x", "cgroups": "split", "chrootdirs": "/x", "conmon-pidfile": "/x", "cpu-period": "5000",
    "cpu-quota": "5000", "cpu-shares": "5", "cpus": "1.5", "cpuset-cpus": "0-3", "cpuset-mems": "0", "detach": "true",
    "detach-keys": "ctrl-a", "device-read-bps": "/dev/sda:1mb", "device-read-iops": "/dev/sda:10",
    "device-write-bps": "/dev/sda:1mb", "device-write-iops": "/dev/sda:10", "gidmap": "0:1:5", "health-cmd": "x",
    "health-interval": "1s", "health-on-failure": "kill", "health-retries": "1", "health-start-period": "1s",
    "health-timeout": "1s", "init-path": "/x", "log-driver": "none", "log-opt": "tag=x", "memory": "64m",
    "memory-reservation": "32m", "memory-swap": "-1", "no-healthcheck": "true", "pids-limit": "5", "requires": "x",
    "restart": "always", "rmi": "true", "sdnotify": "ignore", "secret": "x", "subgidname": "x", "subuidname": "x",
    "systemd": "always", "uidmap": "0:1:5", "volumes-from": "x", "domainname": "x", "gpus": "all",
    "mac-address": "02:00:00:00:00:01",
}  # fmt: skip
# flags whose only working values are what happens anyway, or that are about something which never happens
WITHOUT_EFFECT = {"disable-content-trust": "true", "seccomp-policy": "default", "volume-driver": "local"}
# and one that needs another beside it
TOGETHER = {"replace"}


def test_every_working_flag_has_a_test_value() -> None:
    assert {row[0] for row in ROWS if fate(row) == "works"} == {*CHANGES, *WITHOUT_EFFECT, *TOGETHER, "help"}


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
        (["--network", "container:a", "x"], "network", NetworkRequest("container:a")),
        (["--pid", "container:a", "x"], "pid", "container:a"),
        (["--ipc", "ns:/p", "x"], "ipc", "ns:/p"),
        (["--restart", "on-failure:3", "x"], "restart_tries", 3),
        (["--rmi", "x"], "remove", True),
        (["--replace", "--name", "n", "x"], "replace", True),
        (["-a", "stdin", "-a", "STDOUT", "x"], "attach", ("stdin", "stdout")),
        (["--log-opt", "max-size=1m", "--log-opt", "tag=t", "x"], "log_opts", (("max-size", "1m"), ("tag", "t"))),
        (["--memory", "64m", "x"], "limits", Limits(memory=64 << 20)),
        (["--memory", "64m", "--memory-swap", "128m", "x"], "limits", Limits(memory=64 << 20, memory_swap=128 << 20)),
        (["--cpus", "0.5", "x"], "limits", Limits(cpu_period=100000, cpu_quota=50000)),
        (["--memory", "0", "--cpus", "0", "x"], "limits", Limits()),
        (["--pids-limit", "-1", "x"], "limits", Limits(pids=-1)),
        (["--device-read-bps", "/dev/sda:1mb", "x"], "limits", Limits(read_bps=(("/dev/sda", 1 << 20),))),
        (
            ["--cgroup-conf", "memory.high=5,pids.max=6", "x"],
            "limits",
            Limits(unified=(("memory.high", "5"), ("pids.max", "6"))),
        ),
        (["--health-cmd", "curl -f x", "x"], "health", HealthRequest(("CMD-SHELL", "curl -f x"))),
        (["--health-cmd", '["CMD", "a", "b c"]', "x"], "health", HealthRequest(("CMD", "a", "b c"))),
        (["--health-cmd", '["a", "b c"]', "x"], "health", HealthRequest(("CMD", "a", "b c"))),
        (["--health-cmd", "none", "x"], "health", HealthRequest(("NONE",))),
        (["--health-interval", "disable", "x"], "health", HealthRequest(interval_ns=-1)),
        (
            ["--health-interval", "1m30.5s", "--health-retries", "2", "--health-on-failure", "KILL", "x"],
            "health",
            HealthRequest(interval_ns=90_500_000_000, retries=2, on_failure="kill"),
        ),
        (["--healthcheck-timeout", "200ms", "x"], "health", HealthRequest(timeout_ns=200_000_000)),
        (
            ["--secret", "s", "--secret", "t,type=env", "--secret", "u,target=/x,uid=5,mode=0400", "x"],
            "secrets",
            (SecretRequest("s"), SecretRequest("t", "env", "t"), SecretRequest("u", "mount", "/x", 5, 0, 0o400)),
        ),
        (
            ["--add-host", "a=1.2.3.4", "--add-host", "b=::1", "--add-host", "c:::1", "x"],
            "add_hosts",
            (("a", "1.2.3.4"), ("b", "::1"), ("c", "::1")),
        ),
        (["--mac-address", "02-00-00-00-00-0A", "x"], "mac_address", "02:00:00:00:00:0a"),
        (["--gpus", "all", "x"], "devices", (DeviceRequest("nvidia.com/gpu=all", ""),)),
        (
            ["--gpus", "2", "x"],
            "devices",
            (DeviceRequest("nvidia.com/gpu=0", ""), DeviceRequest("nvidia.com/gpu=1", "")),
        ),
        (
            ["--gpus", '"device=0,GPU-a"', "x"],
            "devices",
            (DeviceRequest("nvidia.com/gpu=0", ""), DeviceRequest("nvidia.com/gpu=GPU-a", "")),
        ),
        (["--gpus", "driver=amd,device=1", "x"], "devices", (DeviceRequest("amd.com/gpu=1", ""),)),
        (["--device", "vendor.com/net=eth0", "x"], "devices", (DeviceRequest("vendor.com/net=eth0", ""),)),
        (["--group-add", "keep-groups", "x"], "group_add", ("keep-groups",)),
        (["--security-opt", "seccomp=builtin", "x"], "security", SecurityOptions()),
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
        (["--pid", "container:"], "invalid config provided: namespace mode container requires a value"),
        (["--network", "ns:"], "invalid config provided: namespace mode path requires a value"),
        (["--pid", "pod:x"], "--pid pod:x is not supported: pods are not there yet"),
        (["--restart", "x"], 'running container create option: "x" is not a valid restart policy: invalid argument'),
        (
            ["--restart", "on-failure:x"],
            'parsing restart policy retry count: strconv.Atoi: parsing "x": invalid syntax',
        ),
        (["--restart", "no:3"], "restart policy retries can only be specified with on-failure restart policy"),
        (["--restart", "on-failure:-1"], "must specify restart policy retry count as a number greater than 0"),
        (
            ["--restart", "always", "--rm"],
            'the --rm option conflicts with --restart, when the restartPolicy is not "" and "no"',
        ),
        (["--log-driver", "x"], "running container create option: invalid log driver: invalid argument"),
        (["--log-opt", "max-size"], 'invalid log option "max-size"'),
        (["--log-opt", "max-size=x"], "invalid size: 'x'"),
        (["-t", "--log-driver", "passthrough"], "the '--log-driver passthrough' option is incompatible with '--tty'"),
        (["--health-cmd", "true", "--no-healthcheck"], "cannot specify both --no-healthcheck and --health-cmd"),
        (["--health-interval", "x"], 'invalid healthcheck-interval: time: invalid duration "x"'),
        (["--health-interval", "5"], 'invalid healthcheck-interval: time: missing unit in duration "5"'),
        (["--health-retries", "0"], "healthcheck-retries must be greater than 0"),
        (["--health-timeout", "0s"], "healthcheck-timeout must be at least 1 second"),
        (["--health-start-period", "-1s"], "healthcheck-start-period must be 0 seconds or greater"),
        (
            ["--health-on-failure", "foo"],
            'invalid on-failure action "foo" for health check: supported actions are none,kill,restart,stop',
        ),
        (
            ["--sdnotify", "foo"],
            'invalid config provided: invalid argument: invalid sdnotify value "foo": '
            "must be container, conmon or ignore",
        ),
        (["--memory", "x"], "invalid value for memory: invalid size: 'x'"),
        (["--memory", "10m", "--memory-swap", "5m"], "minimum memoryswap limit should be larger than memory limit"),
        (["--cpus", "1", "--cpu-quota", "5"], "--cpu-quota and --cpus cannot be set together"),
        (["--blkio-weight", "x"], 'invalid value for blkio-weight: strconv.ParseUint: parsing "x": invalid syntax'),
        (["--blkio-weight-device", "x"], "bad format: x"),
        (["--blkio-weight-device", "/dev/null:5"], "invalid weight for device: /dev/null:5"),
        (["--device-read-bps", "x:1"], "bad format for device path: x:1"),
        (
            ["--device-read-iops", "/dev/null:1m"],
            "invalid rate for device: /dev/null:1m. The correct format is "
            "<device-path>:<number>. Number must be a positive integer",
        ),
        (["--cgroup-conf", "x"], "--cgroup-conf must be formatted KEY=VALUE"),
        (["--cgroups", "foo"], 'running container create option: invalid cgroup mode "foo": invalid argument'),
        (
            ["--volumes-from", "n:foo"],
            'invalid option "foo" specified - volumes from another container can only use z,ro,rw options',
        ),
        (["--secret", "n,foo=x"], "option foo=x invalid: parsing secret"),
        (["--secret", "n,type=x"], "type x is invalid: parsing secret"),
        (["--secret", "n,mode=9"], "mode 9 invalid: parsing secret"),
        (["--secret", "n,type=env,uid=3"], "UID, GID, Mode options cannot be set with secret type env: parsing secret"),
        (
            ["--uidmap", "0:1"],
            'initializing ID mappings: UID setting is malformed expected ["uint32:uint32:uint32"]: ["0:1"]',
        ),
        (
            ["--uidmap", "0:1:5", "--userns", "keep-id"],
            "--userns and --uidmap/--gidmap/--subuidname/--subgidname are mutually exclusive",
        ),
        (
            ["-a", "foo"],
            'invalid stream "foo" for --attach - must be one of stdin, stdout, or stderr: invalid argument',
        ),
        (["--mac-address", "x"], "address x: invalid MAC address"),
        (
            ["--mac-address", "03:00:00:00:00:01"],
            "address 03:00:00:00:00:01: a group's address cannot be a container's",
        ),
        (
            ["--mac-address", "02:00:00:00:00:01", "--network", "none"],
            "invalid config provided: networks and static ip/mac address can only be used with Bridge mode networking",
        ),
        (["--add-host", "=1.2.3.4"], 'bad format for add-host: "=1.2.3.4"'),
        (["--replace"], "cannot replace container without --name being set"),
        (["--seccomp-policy", "foo"], 'invalid seccomp policy "foo": valid policies are ["default" "image"]'),
        (["--gpus", "foo"], "invalid argument \"foo\" for \"--gpus\" flag: unexpected key 'foo' in 'foo'"),
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
