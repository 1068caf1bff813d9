"""The documents of `inspect`: podman's field names, and what is in the store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from rootless.cli.commands import inspect as command
from rootless.cli.commands import version
from rootless.cli.gotemplate import Template, TemplateError
from rootless.engine import inspect
from rootless.errors import UsageError
from rootless.plan.options import GlobalOptions
from rootless.store import blobs, containers, images, layout
from rootless.store.containers import Container
from rootless.store.images import ImageRecord
from rootless.store.layout import Roots

CONFIG: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "author": "ann",
    "created": "2024-05-06T07:08:09Z",
    "config": {
        "Env": ["A=b"],
        "Cmd": ["sh"],
        "Labels": {"x": "y"},
        "User": "7",
        "ExposedPorts": {"80/tcp": {}},
        "Image": "not of an OCI image",
        "Healthcheck": {"Test": ["CMD", "true"]},
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64, "sha256:" + "2" * 64]},
    "history": [{"created_by": "one"}, {"created_by": "two", "comment": "last"}],
}
ID = "ab" * 32
# what `podman inspect` 4.3 prints of an image
PODMANS_KEYS = (
    "Id Digest RepoTags RepoDigests Parent Comment Created Config Version Author Architecture Os Size VirtualSize "
    "GraphDriver RootFS Labels Annotations ManifestType User History NamesHistory"
).split()


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    made = Roots(str(tmp_path / "data"), str(tmp_path / "run"), str(tmp_path))
    layout.prepare_data(made)
    os.makedirs(made.run, 0o700)
    return made


@pytest.fixture
def image(roots: Roots, tmp_path: Path) -> ImageRecord:
    manifest = json.dumps({"schemaVersion": 2, "annotations": {"k": "v"}}).encode()
    record = ImageRecord(
        ID, blobs.write(roots, manifest), CONFIG, ("sha256:c1", "sha256:c2"), ("LOW", "TOP"), size_bytes=77, squashed=3,
        created=CONFIG["created"], manifest_type="application/vnd.oci.image.manifest.v1+json",
    )  # fmt: skip
    staged = tmp_path / "staged"
    staged.write_bytes(images.encode(record))
    images.publish(roots, str(staged), record, ["localhost/img:1", "docker.io/library/other:2"])
    return record


def test_an_image_has_podmans_fields(roots: Roots, image: ImageRecord) -> None:
    found = inspect.find_image(roots, "img:1")
    assert found is not None
    assert [key for key in found if key in PODMANS_KEYS] == PODMANS_KEYS
    assert found["Id"] == ID and found["Digest"] == image.digest
    assert sorted(found["RepoTags"]) == ["docker.io/library/other:2", "localhost/img:1"]
    assert f"localhost/img@{image.digest}" in found["RepoDigests"]
    assert found["Config"] == {"User": "7", "ExposedPorts": {"80/tcp": {}}, "Env": ["A=b"], "Cmd": ["sh"],
                               "Labels": {"x": "y"}}  # fmt: skip
    assert (found["Comment"], found["Author"], found["User"]) == ("last", "ann", "7")
    assert found["Annotations"] == {"k": "v"} and found["Squashed"] == 3
    assert found["HealthCheck"] == {"Test": ["CMD", "true"]}
    data = found["GraphDriver"]["Data"]
    assert data == {"LowerDir": f"{roots.data}/l/LOW", "UpperDir": f"{roots.data}/l/TOP"}
    assert found["RootFS"]["Layers"] == CONFIG["rootfs"]["diff_ids"]


def test_ids_and_what_is_not_there(roots: Roots, image: ImageRecord) -> None:
    by_id = inspect.find_image(roots, ID[:12])
    assert by_id is not None and by_id["Id"] == image.id
    assert inspect.find_image(roots, "nothing") is None
    assert inspect.find_image(roots, "Not/A Reference") is None
    assert inspect.find_container(roots, "nothing") is None


def test_a_container(roots: Roots, image: ImageRecord) -> None:
    data: dict[str, Any] = {
        "name": "web", "created": "2024-01-01T00:00:00Z", "image": "localhost/img:1", "image_id": image.id,
        "machine": containers.machine_id(), "args": ["nginx", "-g"], "driver": "fuse", "driver_reason": "overlay: no",
        "links": ["LOW", "TOP"], "auto_remove": True, "labels": {"x": "y"}, "stop_signal": 3, "stop_timeout": 0,
        "state": {"status": "exited", "exit_code": 4, "started": "s", "finished": "f", "pid": 99},
        "network": {"mode": "private", "address": "10.0.3.100/16", "gateway": "10.0.2.2", "address6": "fd00::64"},
        "ports": [["0.0.0.0", 8080, 80, "tcp"], ["127.0.0.1", 8081, 80, "tcp"]],
        "mounts": [["vol", "/s/_data", "/data"], ["", "/home/x", "/x"]],
    }  # fmt: skip
    containers.create(roots, Container("cd" * 32, "web", data))
    upper = Path(containers.data_dir(roots, "cd" * 32), "diff")
    (upper / "sub").mkdir(parents=True)
    (upper / "sub/file").write_bytes(b"12345")
    found = inspect.find_container(roots, "web", size=True)
    assert found is not None
    assert (found["Path"], found["Args"], found["Image"]) == ("nginx", ["-g"], image.id)
    state = found["State"]
    assert (state["Status"], state["Running"], state["ExitCode"], state["Pid"]) == ("exited", False, 4, 0)
    assert (found["Driver"], found["DriverReason"]) == ("fuse", "overlay: no")
    assert found["GraphDriver"]["Data"]["LowerDir"] == f"{roots.data}/l/TOP:{roots.data}/l/LOW"
    assert found["GraphDriver"]["Data"]["UpperDir"] == str(upper)
    network = found["NetworkSettings"]
    assert (network["IPAddress"], network["IPPrefixLen"]) == ("10.0.3.100", 16)
    assert (network["GlobalIPv6Address"], network["GlobalIPv6PrefixLen"]) == ("fd00::64", 64)
    assert network["Ports"] == {
        "80/tcp": [{"HostIp": "", "HostPort": "8080"}, {"HostIp": "127.0.0.1", "HostPort": "8081"}]
    }
    common = {"Mode": "", "RW": True, "Propagation": "rprivate"}
    assert found["Mounts"] == [
        {"Type": "volume", "Name": "vol", "Source": "/s/_data", "Destination": "/data", "Driver": "local",
         "Options": ["nosuid", "nodev", "rbind"], **common},
        {"Type": "bind", "Source": "/home/x", "Destination": "/x", "Driver": "", "Options": ["rbind"], **common},
    ]  # fmt: skip
    assert found["Config"]["StopTimeout"] == 0 and found["HostConfig"]["AutoRemove"] is True
    assert (found["SizeRw"], found["SizeRootFs"]) == (5, 82)


# what `podman inspect` 4.3.1 prints of a running container with a port and a volume, in its order; DriverReason is ours
CONTAINER_KEYS = """
Id Created Path Args State Image ImageDigest ImageName Rootfs Pod ResolvConfPath HostnamePath HostsPath StaticDir
OCIConfigPath OCIRuntime ConmonPidFile PidFile Name RestartCount Driver MountLabel ProcessLabel AppArmorProfile
EffectiveCaps BoundingCaps ExecIDs GraphDriver Mounts Dependencies NetworkSettings Namespace IsInfra IsService Config
HostConfig
""".split()
STATE_KEYS = """
OciVersion Status Running Paused Restarting OOMKilled Dead Pid ConmonPid ExitCode Error StartedAt FinishedAt Health
CgroupPath CheckpointedAt RestoredAt
""".split()
NETWORK_KEYS = """
EndpointID Gateway IPAddress IPPrefixLen IPv6Gateway GlobalIPv6Address GlobalIPv6PrefixLen MacAddress Bridge SandboxID
HairpinMode LinkLocalIPv6Address LinkLocalIPv6PrefixLen Ports SandboxKey
""".split()
CONFIG_KEYS = """
Hostname Domainname User AttachStdin AttachStdout AttachStderr Tty OpenStdin StdinOnce Env Cmd Image Volumes WorkingDir
Entrypoint OnBuild Labels Annotations StopSignal HealthcheckOnFailureAction CreateCommand Umask Timeout StopTimeout
Passwd sdNotifyMode
""".split()
HOST_KEYS = """
Binds CgroupManager CgroupMode ContainerIDFile LogConfig NetworkMode PortBindings RestartPolicy AutoRemove VolumeDriver
VolumesFrom CapAdd CapDrop Dns DnsOptions DnsSearch ExtraHosts GroupAdd IpcMode Cgroup Cgroups Links OomScoreAdj PidMode
Privileged PublishAllPorts ReadonlyRootfs SecurityOpt Tmpfs UTSMode UsernsMode ShmSize Runtime ConsoleSize Isolation
CpuShares Memory NanoCpus CgroupParent BlkioWeight BlkioWeightDevice BlkioDeviceReadBps BlkioDeviceWriteBps
BlkioDeviceReadIOps BlkioDeviceWriteIOps CpuPeriod CpuQuota CpuRealtimePeriod CpuRealtimeRuntime CpusetCpus CpusetMems
Devices DiskQuota KernelMemory MemoryReservation MemorySwap MemorySwappiness OomKillDisable PidsLimit Ulimits CpuCount
CpuPercent IOMaximumIOps IOMaximumBandwidth CgroupConf
""".split()


def test_a_container_has_podmans_keys_in_podmans_order(roots: Roots) -> None:
    """A live container: its lock is held, here by the test."""
    cid = "ef" * 32
    options = {"health": {"test": ["CMD", "true"], "retries": 2}, "cap_add": ["NET_RAW"], "cap_drop": ["chown"],
               "limits": {"cpu_quota": 50000, "cpu_period": 100000, "memory": 1 << 20}, "restart": "on-failure",
               "volumes": [{"kind": "tmpfs", "source": "", "target": "/t", "options": ["size=1m"]}]}  # fmt: skip
    mount = {"Type": "volume", "Name": "v", "Source": "/s", "Destination": "/v", "Driver": "local", "Mode": "",
             "Options": ["noexec", "rbind"], "RW": False, "Propagation": "rprivate"}  # fmt: skip
    data: dict[str, Any] = {
        "name": "live", "created": containers.now(), "machine": containers.machine_id(), "options": options,
        "mounted": [mount],
        "create_command": ["rootless", "run"],
        "state": {"status": "running", "started": "2024-01-01T00:00:00.500000000Z", "pid": 0},
        "cgroup": {"driver": "systemd", "path": "/x"}, "restart_count": 4,
    }  # fmt: skip
    containers.create(roots, Container(cid, "live", data))
    with containers.make_run_dir(roots, cid):
        found = inspect.find_container(roots, "live")
    assert found is not None
    assert [key for key in found if key != "DriverReason"] == CONTAINER_KEYS
    assert list(found["State"]) == STATE_KEYS
    assert list(found["NetworkSettings"]) == NETWORK_KEYS
    assert [key for key in found["Config"] if key != "Healthcheck"] == CONFIG_KEYS
    assert list(found["HostConfig"]) == HOST_KEYS
    assert found["State"]["ConmonPid"] == os.getpid() and found["State"]["Running"] is True
    assert found["State"]["StartedAt"] == "2024-01-01T00:00:00.5Z"
    assert found["Config"]["Healthcheck"] == {"Test": ["CMD", "true"], "Interval": 30 * 10**9, "Timeout": 30 * 10**9,
                                              "Retries": 2}  # fmt: skip
    host = found["HostConfig"]
    assert (host["CapAdd"], host["CapDrop"], host["NanoCpus"]) == (["CAP_NET_RAW"], ["CAP_CHOWN"], 500_000_000)
    assert host["RestartPolicy"] == {"Name": "on-failure", "MaximumRetryCount": 0} and found["RestartCount"] == 4
    assert host["Binds"] == ["v:/v:ro,rprivate,noexec,rbind"]
    assert found["Mounts"] == [mount]
    assert host["Tmpfs"] == {"/t": "rw,rprivate,nosuid,nodev,tmpcopyup,size=1m"}
    after = inspect.find_container(roots, "live")
    assert after is not None and after["State"]["Status"] == "exited"


def run(roots: Roots, capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = command.main(list(argv), GlobalOptions(root=roots.data, runroot=roots.run))
    out, err = capsys.readouterr()
    return status, out, err


def test_an_array_then_what_was_not_found(roots: Roots, image: ImageRecord, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = run(roots, capsys, "one", "img:1", "two")
    assert [one["Id"] for one in json.loads(out)] == [image.id]
    assert out.startswith('[\n     {\n          "Id": ')
    assert err == 'error inspecting object: no such object: "two"\nError: inspecting object: no such object: "one"\n'
    assert status == 125
    assert run(roots, capsys, "--type", "image", "x")[1:] == ("[]\n", "Error: inspecting object: x: image not known\n")
    words = "Error: inspecting object: no such container img:1\n"
    assert run(roots, capsys, "--type", "container", "img:1")[1:] == ("[]\n", words)


def test_templates_know_structs_from_maps(roots: Roots, image: ImageRecord, capsys: pytest.CaptureFixture[str]) -> None:
    words = "{{.Id}} {{.Config.Env}} {{.Labels.x}} {{.Labels.none}} {{.GraphDriver.Name}}"
    assert run(roots, capsys, "-f", words, "img:1")[:2] == (0, f"{ID} [A=b] y <no value> layers\n")
    for bad in ("{{.Nope}}", "{{.Config.Nope}}", "{{.Id"):
        with pytest.raises(TemplateError):
            run(roots, capsys, "-f", bad, "img:1")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ([], "no names or ids specified"),
        (["--type", "foo", "x"], 'invalid type "foo"'),
        (["--type", "pod", "x"], "no pods in rootless yet"),
        (["-l", "x"], "--latest and arguments cannot be used together"),
        (["-s", "--type", "image", "x"], 'size is not supported for type "image"'),
    ],
)
def test_what_is_refused(argv: list[str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        command.main(argv, GlobalOptions())


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    from rootless import __version__

    assert version.main([], GlobalOptions()) == 0
    assert capsys.readouterr().out.splitlines()[:2] == ["Client:         rootless", f"Version:        {__version__}"]
    version.main(["--format", "json"], GlobalOptions())
    assert json.loads(capsys.readouterr().out)["Client"]["Version"] == __version__
    version.main(["-f", "{{.Client.Version}} {{.Version}}"], GlobalOptions())
    assert capsys.readouterr().out == f"{__version__} {__version__}\n"


def test_a_template_fills_in_what_json_shows(roots: Roots, image: ImageRecord) -> None:
    found = inspect.find_image(roots, image.id)
    assert Template("{{json .RootFS.Layers}}", "inspect").render(command.structs(found)) == json.dumps(
        CONFIG["rootfs"]["diff_ids"], separators=(",", ":")
    )
