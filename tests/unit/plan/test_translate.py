"""Run options and an image give the Spec that podman 4.3 makes of the same command line.

tests/golden/run_specs.json holds our Spec for each command line; when it was written, each was compared
with the config.json of podman 4.3.1 for the same flags and image (docs/podman-differences.md lists what
differs on purpose). Write it anew with `python -m tests.unit.plan.test_translate`.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.flags_run import run_options
from rootless.cli.parser import parse
from rootless.cli.table_run import COMMAND
from rootless.errors import RootlessError, SpecError, UsageError
from rootless.plan.options import GlobalOptions, PortRange
from rootless.plan.translate import Surroundings, Translation, translate
from rootless.spec import jsontext
from rootless.spec.codec import encode
from rootless.spec.idmap import id_map
from rootless.spec.record import replace

GOLDEN = Path(__file__).parents[2] / "golden" / "run_specs.json"
ID = "4ea63dc4fd59" + "0" * 52
PASSWD = (
    b"root:x:0:0:root:/root:/bin/sh\nbob:x:1000:1000:Bob:/home/bob:/bin/sh\nalice:x:1001:100::/home/alice:/bin/sh\n"
)
GROUP = b"root:x:0:\naudio:x:29:bob\nusers:x:100:bob,alice\nbob:x:1000:\nwheel:x:10:bob\n"
IMAGES: dict[str, dict[str, Any]] = {
    "plain": {"config": {"Env": ["FOO=bar", "PATH=/bin:/usr/bin"], "Cmd": ["/bin/env"], "Labels": {"a": "b"}}},
    "full": {
        "config": {
            "User": "bob",
            "WorkingDir": "/work",
            "Entrypoint": ["/bin/sh", "-c"],
            "Cmd": ["id"],
            "ExposedPorts": {"80/tcp": {}, "53/udp": {}},
            "Volumes": {"/data": {}},
            "StopSignal": "SIGINT",
            "Env": ["PATH=/bin"],
        }
    },
    "empty": {},
}
LINES = """
plain
--network none plain env
--network host plain env
--network none -t plain env
--network none --read-only plain env
--network none --read-only --read-only-tmpfs=false plain env
--network none -u bob plain env
--network none -u bob --cap-add net_admin plain env
--network none -u bob --cap-add all plain env
--network none --cap-drop all plain env
--network none --cap-add all --cap-drop chown plain env
--network none --cap-drop all --cap-add chown,kill -u bob plain
--network none full
--network none --image-volume tmpfs full
--network none --image-volume ignore full
--network none -v /tmp:/data:ro full
--network none -v /tmp:/run plain
--network none -v /tmp:/x -v vvv:/y -v /etc:/z:ro,z,rslave,exec -v /w plain env
--network none --mount type=bind,src=/tmp,dst=/x --mount type=bind,src=/etc,dst=/e,bind-nonrecursive,ro plain env
--network none --mount type=volume,src=vvv,dst=/y --mount type=tmpfs,dst=/t,tmpfs-size=1m,tmpfs-mode=700,ro plain env
--network none --tmpfs /t:size=1m,mode=700,noexec,ro,notmpcopyup --mount type=devpts,dst=/dp plain env
--network none --device /dev/fuse --device /dev/null:/dev/x:r plain env
--network none -u 1234:55 plain env
--network none -u bob --group-add audio --group-add 77 plain env
--network none --group-add audio --group-add 77 plain env
--network none -u alice:wheel plain env
--network none -u :10 plain env
--network none --ulimit nofile=10:20 --ulimit core=-1 plain env
--network none --security-opt unmask=/proc/* --security-opt mask=/proc/meminfo plain env
--network none --security-opt unmask=ALL --security-opt no-new-privileges plain env
--network none --sysctl net.ipv4.ip_forward=1 --oom-score-adj 100 --stop-signal INT plain env
--network none --ipc none plain env
--network none --ipc host plain env
--network none --pid host plain env
--network none --uts host plain env
--network none --cgroupns host plain env
--network none --tmpfs /dev/shm:size=1m --tmpfs /tmp plain
--network none --personality LINUX32 plain
--network none --shm-size 1m -h foo --umask 27 -w /tmp -e A=b -e FOO= --unsetenv PATH --entrypoint /x plain y
--network none --entrypoint '' full y
--network none -v vvv:/x:U,exec plain
--network none -v /dev:/dev plain
--network none -v /tmp:/x:shared plain
--network none --privileged plain
--network none --privileged -u bob plain
--network none -v /tmp:/etc/hosts --no-hosts plain
--network none --env-host --unsetenv FOO plain
--network none --unsetenv-all -e ONLY=1 plain
--network none --env-merge PATH=/new:${PATH}:$FOO --env-merge X=$$-$NONE. plain
--annotation a=b --label c=d --init --rm plain
--network none --memory 64m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --pids-limit 9 --cpuset-cpus 0-1 plain
--network none --memory 64m --memory-swap -1 --cgroup-conf memory.high=50000000 --blkio-weight 500 plain
--network none --domainname a.b --chrootdirs /mnt --init --init-path /sbin/tini plain
--network none --systemd always plain
empty /bin/sh
""".strip().splitlines()


def surroundings(network: str = "private", **changes: Any) -> Surroundings:
    files = {"/etc/passwd": PASSWD, "/etc/group": GROUP}
    base = Surroundings(
        container_id=ID,
        name="name",
        root_path="/merged",
        files_dir="/files",
        volumes_dir="/vols",
        read_file=files.get,
        new_volume=lambda target: "f" * 64,
        image_name="localhost/bb:1",
        image_id="1" * 64,
        host_name="vm",
        hosts="127.0.0.1\tlocalhost\n",
        resolv_conf=None if network == "none" else "nameserver 10.0.2.3\n",
        hard_limits=(("RLIMIT_NOFILE", 20000), ("RLIMIT_NPROC", 32768)),
        host_devices=("/dev/fuse", "/dev/null", "/dev/pts/3"),
    )
    return replace(base, **changes)


def no_files(path: str) -> str:
    if path == "/p":
        return "{}"
    raise FileNotFoundError(2, "No such file or directory", path)


def run(line: str, **changes: Any) -> Translation:
    parsed, everywhere = parse(COMMAND, shlex.split(line), GlobalOptions())
    environ = {"HOME": "/home/me", "LANG": "C.UTF-8", "PATH": "/host"}
    options = run_options(parsed, everywhere, environ, "/cwd", no_files)
    return translate(options, IMAGES[options.image], surroundings(options.network.mode, **changes))


def as_json(line: str) -> Any:
    return jsontext.loads(jsontext.dumps(encode(run(line).spec)))


@pytest.mark.parametrize("line", LINES)
def test_golden_specs(line: str) -> None:
    golden = jsontext.loads(GOLDEN.read_text())
    assert as_json(line) == golden[line]


def test_the_golden_file_has_no_more() -> None:
    assert sorted(jsontext.loads(GOLDEN.read_text())) == sorted(LINES)


@pytest.mark.parametrize("line", LINES)
def test_parents_are_mounted_before_children(line: str) -> None:
    seen: list[str] = []
    for mount in run(line).spec.mounts:
        assert not any(other.startswith(mount.destination.rstrip("/") + "/") for other in seen)
        seen.append(mount.destination)
    assert len(set(seen)) == len(seen)


@pytest.mark.parametrize("line", LINES)
def test_every_generated_file_is_mounted(line: str) -> None:
    found = run(line)
    sources = {mount.source for mount in found.spec.mounts}
    for name, _ in found.files:
        assert f"/files/{name}" in sources or any(m.destination == "/run" for m in found.spec.mounts)


def test_generated_files() -> None:
    files = dict(run("-u 1234:55 -w /tmp plain").files)
    assert files["hosts"] == b"127.0.0.1\tlocalhost\n"
    assert files["resolv.conf"] == b"nameserver 10.0.2.3\n"
    assert files["hostname"] == b"4ea63dc4fd59\n"
    assert files["containerenv"] == b""
    assert files["passwd"] == PASSWD + b"1234:*:1234:55:container user:/tmp:/bin/sh\n"
    assert files["group"] == GROUP + b"55:x:55:1234\n"
    assert "passwd" not in dict(run("-u bob plain").files)
    assert "passwd" not in dict(run("-u 1234 --passwd=false plain").files)


def test_the_marker_of_a_privileged_container_names_it() -> None:
    text = dict(run("--privileged plain").files)["containerenv"].decode()
    assert text.splitlines() == [
        'engine="rootless"',
        'name="name"',
        f'id="{ID}"',
        'image="localhost/bb:1"',
        f'imageid="{"1" * 64}"',
        "rootless=1",
    ]


def test_what_goes_beside_the_spec() -> None:
    found = run("-P -p 8080:80 --expose 90 --label x=y --init full")
    assert found.ports == (PortRange("", 8080, 80), PortRange("", 0, 53, 1, "udp"), PortRange("", 0, 90))
    assert found.stop_signal == 2
    assert found.labels == (("x", "y"),)
    assert found.cwd_make
    assert found.reaper
    assert found.seccomp == ""
    assert [(v.target, v.anonymous, v.path) for v in found.volumes] == [("/data", True, f"/vols/{'f' * 64}/_data")]
    assert not run("-w /x plain").cwd_make
    assert run("--privileged plain").seccomp == "unconfined"
    assert run("--security-opt seccomp=/p plain").seccomp == "/p"
    assert [b.source for b in run("-v /tmp:/x:U plain").binds] == ["/tmp"]


def test_keep_id_makes_the_caller_the_user() -> None:
    found = run("plain", default_user=(1007, 1007, "me"), inner_uids=((0, 1, 1007),), inner_gids=((0, 1, 1007),))
    assert found.spec.process is not None
    assert (found.spec.process.user.uid, found.spec.process.user.gid) == (1007, 1007)
    assert dict(found.files)["passwd"].endswith(b"\nme:*:1007:1007:container user:/:/bin/sh\n")
    assert dict(found.files)["group"].endswith(b"\nme:x:1007:me\n")
    assert found.spec.linux is not None
    assert found.spec.linux.namespaces[0].type == "user"
    assert found.spec.process.capabilities is not None
    assert found.spec.process.capabilities.effective == ()


def test_ids_that_are_not_mapped() -> None:
    single = id_map((0, 1000, 1))
    with pytest.raises(
        RootlessError, match=r"user id 1000 does not exist in the container: 1 id\(s\) are mapped"
    ) as caught:
        run("full", uid_map=single, gid_map=single)
    assert caught.value.code == 126
    found = run("--group-add audio plain", uid_map=single, gid_map=single)
    assert found.user.groups == ()
    devpts = next(mount for mount in found.spec.mounts if mount.destination == "/dev/pts")
    assert "gid=5" not in devpts.options


def test_low_hard_limits_are_kept_and_said_once() -> None:
    found = run("plain", hard_limits=(("RLIMIT_NOFILE", 256), ("RLIMIT_NPROC", 100)))
    assert found.spec.process is not None
    assert [(r.type, r.soft, r.hard) for r in found.spec.process.rlimits] == [
        ("RLIMIT_NOFILE", 256, 256),
        ("RLIMIT_NPROC", 100, 100),
    ]
    assert found.warnings == (
        "the caller's hard limits are low and hold in the container too: RLIMIT_NOFILE 256, RLIMIT_NPROC 100",
    )
    assert run("plain").warnings == ()


@pytest.mark.parametrize(
    ("line", "code", "message"),
    [
        ("empty", 125, "no command or entrypoint provided, and no CMD or ENTRYPOINT from image"),
        ("--entrypoint '' plain", 125, "no command or entrypoint provided, and no CMD or ENTRYPOINT from image"),
        ("-u nobody plain", 126, "unable to find user nobody: no matching entries in passwd file"),
        ("-w rel plain", 126, f'workdir "rel" does not exist on container {ID}'),
        ("--cap-add all --cap-drop ALL plain", 125, "adding all caps and removing all caps not allowed"),
        ("--cap-add frob plain", 125, '"CAP_FROB": unknown capability'),
        ("--cap-add chown --cap-drop CHOWN plain", 125, 'capability "CAP_CHOWN" cannot be dropped and added'),
        (
            "--network container:other --add-host a:1.1.1.1 plain",
            125,
            "invalid config provided: cannot set extra host entries when the container is joined to another "
            "containers network namespace: invalid configuration",
        ),
        (
            "--uts container:other -h x plain",
            125,
            "invalid config provided: cannot set hostname when running in the host UTS namespace: "
            "invalid configuration",
        ),
        (
            "--uts host -h x plain",
            125,
            "invalid config provided: cannot set hostname when running in the host UTS namespace: "
            "invalid configuration",
        ),
        (
            "--network host --sysctl net.ipv4.ip_forward=1 plain",
            125,
            "sysctl net.ipv4.ip_forward=1 can't be set since network Namespace set to host: invalid argument",
        ),
    ],
)
def test_what_cannot_be_translated(line: str, code: int, message: str) -> None:
    with pytest.raises(RootlessError) as caught:
        run(line)
    assert (caught.value.message, caught.value.code) == (message, code)


@pytest.mark.parametrize(
    "config",
    [
        {"Env": 1}, {"Env": [1]}, {"Cmd": {"a": 1}}, {"User": 5}, {"WorkingDir": [1]}, {"Volumes": 5}, {"Labels": "x"},
        {"ExposedPorts": {"x": {}}}, {"StopSignal": 9},
    ],
)  # fmt: skip
def test_a_config_of_the_wrong_form_is_an_error_of_the_spec(config: dict[str, Any]) -> None:
    options = run_options(parse(COMMAND, ["plain"], GlobalOptions())[0], GlobalOptions(), {}, "/", no_files)
    with pytest.raises(SpecError):
        translate(options, {"config": {"Cmd": ["x"], **config}}, surroundings())


def test_volumes_of_the_image_cannot_name_places_above_the_root() -> None:
    options = run_options(parse(COMMAND, ["plain", "x"], GlobalOptions())[0], GlobalOptions(), {}, "/", no_files)
    image: dict[str, Any] = {"config": {"Volumes": {"../../etc/x": {}, "/": {}, "a//b/": {}}}}
    assert [volume.target for volume in translate(options, image, surroundings()).volumes] == ["/etc/x", "/a/b"]


def test_a_wrong_stop_signal_of_the_image_is_only_warned_about() -> None:
    options = run_options(parse(COMMAND, ["plain", "x"], GlobalOptions())[0], GlobalOptions(), {}, "/", no_files)
    found = translate(options, {"config": {"StopSignal": "SIGFROB"}}, surroundings())
    assert found.stop_signal == 15
    assert found.warnings == ("the image's stop signal SIGFROB does not exist; SIGTERM is used",)


def test_usage_errors_are_ours() -> None:
    with pytest.raises(UsageError):
        run("--cap-add frob plain")


if __name__ == "__main__":
    cases = [f"{jsontext.dumps(line)}: {jsontext.dumps(as_json(line))}" for line in LINES]
    GOLDEN.write_text("{\n" + ",\n".join(cases) + "\n}\n")
