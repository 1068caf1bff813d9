"""The root file system of a container: mounts, masks, links that lead astray, namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.runtime.conftest import Runtime, configuration


def bind(source: Path | str, target: str, *options: str) -> dict[str, Any]:
    return {"destination": target, "type": "bind", "source": str(source), "options": ["rbind", *options]}


def mounts(text: str) -> dict[str, tuple[str, str, str]]:
    """Return (options, propagation and optional fields, file system) by target, of mountinfo; the top one wins."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        dash = words.index("-")
        found[words[4]] = (words[5], " ".join(words[6:dash]), words[dash + 1])
    return found


def test_nothing_of_the_host_is_left(oci: Runtime) -> None:
    found = mounts(oci.run(configuration("mounts")).out)
    allowed = ("/proc", "/dev", "/sys", "/tmp")
    assert all(target == "/" or target.startswith(allowed) for target in found), found
    assert found["/proc"][2] == "proc"
    assert oci.run(configuration("ls", "/"), name="c3").out.split()


def test_the_root_is_read_only_when_asked(oci: Runtime) -> None:
    config = configuration("write", "/x", "text")
    config["root"]["readonly"] = True
    done = oci.run(config)
    assert done.status == 120 and "Read-only file system" in done.err


def test_device_nodes_and_links(oci: Runtime) -> None:
    config = configuration(
        "write", "/dev/null", "x", "+", "ls", "/dev", "+", "readlink", "/dev/fd", "+", "stat", "/dev/zero"
    )
    lines = oci.run(config).out.splitlines()
    assert {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "stdin"} <= set(lines)
    assert "/proc/self/fd" in lines and lines[-1].endswith("1,5")


@pytest.mark.parametrize("options", [("ro",), ("ro", "noexec"), ("nosuid", "nodev")])
def test_options_of_a_bind(oci: Runtime, tmp_path: Path, options: tuple[str, ...]) -> None:
    (tmp_path / "source").mkdir()
    config = configuration("mounts")
    config["mounts"].append(bind(tmp_path / "source", "/data", *options))
    assert set(options) <= set(mounts(oci.run(config).out)["/data"][0].split(","))


def test_files_and_directories_are_made_where_they_are_missing(oci: Runtime, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("content")
    (tmp_path / "directory").mkdir()
    config = configuration("cat", "/new/place/file", "+", "ls", "/new")
    config["mounts"] += [bind(tmp_path / "file", "/new/place/file"), bind(tmp_path / "directory", "/new/dir")]
    done = oci.run(config)
    assert done.out.startswith("content") and {"place", "dir"} <= set(done.out[7:].split())


def test_a_relative_source_is_below_the_bundle(oci: Runtime) -> None:
    (oci.bundle / "inner").mkdir()
    (oci.bundle / "inner/file").write_text("beside")
    config = configuration("cat", "/data/file")
    config["mounts"].append(bind("inner", "/data"))
    assert oci.run(config).out == "beside"


@pytest.mark.parametrize("link", ["/etc", "../../../../../../etc", "/proc/1/root/etc"])
def test_a_target_behind_a_link_stays_in_the_root(oci: Runtime, tmp_path: Path, link: str) -> None:
    """A link in the image to a directory of the host: the mount lands inside the root, or nowhere."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source/marker").write_text("m")
    (oci.rootfs / "escape").symlink_to(link)
    config = configuration("ls", "/etc")
    config["mounts"].append(bind(tmp_path / "source", "/escape/inner"))
    oci.run(config)
    assert not Path("/etc/inner").exists()
    assert not (tmp_path / "etc").exists()


def test_a_dangling_link_is_followed_inside(oci: Runtime, tmp_path: Path) -> None:
    if not oci.ours:
        pytest.skip("others refuse it")
    (tmp_path / "file").write_text("here")
    (oci.rootfs / "dangling").symlink_to("/far/away")
    config = configuration("cat", "/far/away")
    config["mounts"].append(bind(tmp_path / "file", "/dangling"))
    assert oci.run(config).out == "here"


def test_proc_as_a_link_is_refused(oci: Runtime) -> None:
    os.rmdir(oci.rootfs / "proc")
    (oci.rootfs / "proc").symlink_to("/tmp")
    done = oci.run(configuration("readlink", "/proc/self"))
    assert done.status != 0 and not done.out


def test_nothing_is_mounted_over_proc(oci: Runtime, tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "figures").write_text("adapted")
    config = configuration("cat", "/proc/uptime")
    config["mounts"].append(bind(tmp_path / "figures", "/proc/uptime"))
    assert oci.run(config).out == "adapted"
    config["mounts"].append(bind(tmp_path / "source", "/proc/self/attr"))
    done = oci.run(config, name="c2")
    assert done.status != 0 and not done.out


def test_masked_and_read_only_paths(oci: Runtime) -> None:
    (oci.rootfs / "data/secret").write_text("secret")
    (oci.rootfs / "etc/fixed").write_text("fixed")
    config = configuration(
        "ls", "/proc/acpi", "+", "cat", "/data/secret", "+", "cat", "/etc/fixed", "+", "append", "/etc/fixed", "x"
    )
    config["linux"]["maskedPaths"] = ["/data/secret", "/nowhere/at/all"]
    config["linux"]["readonlyPaths"] = ["/etc/fixed", "/nowhere/too"]
    config["process"]["args"] = config["process"]["args"][:1] + config["process"]["args"][4:]
    done = oci.run(config)
    assert done.out == "fixed" and "Read-only file system" in done.err, done


def test_tmpfs_options_reach_the_kernel(oci: Runtime) -> None:
    config = configuration("stat", "/scratch")
    config["mounts"].append(
        {"destination": "/scratch", "type": "tmpfs", "source": "tmpfs", "options": ["mode=711", "size=4k"]}
    )
    assert oci.run(config).out.startswith("40711 0:0")


def test_tmpcopyup(oci: Runtime) -> None:
    (oci.rootfs / "data/file").write_text("from the image")
    (oci.rootfs / "data/link").symlink_to("file")
    config = configuration("cat", "/data/file", "+", "readlink", "/data/link", "+", "write", "/data/file", "changed")
    config["mounts"].append({"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]})
    assert oci.run(config).out == "from the imagefile\n"
    assert (oci.rootfs / "data/file").read_text() == "from the image"


def test_propagation(oci: Runtime) -> None:
    config = configuration("mounts")
    config["linux"]["rootfsPropagation"] = "private"
    found = mounts(oci.run(config).out)
    assert found["/"][1] == ""


def test_namespaces_are_new(oci: Runtime) -> None:
    kinds = ("pid", "ipc", "uts", "mnt", "user")
    words = " + ".join(f"readlink /proc/self/ns/{kind}" for kind in kinds).split()
    lines = oci.run(configuration(*words)).out.split()
    assert len(lines) == len(kinds)
    assert all(os.readlink(f"/proc/self/ns/{kind}") != line for kind, line in zip(kinds, lines, strict=True))


def test_host_name(oci: Runtime) -> None:
    config = configuration("hostname")
    config["hostname"] = "elsewhere"
    assert oci.run(config).out.split()[0] == "elsewhere"


def test_a_namespace_by_path_is_joined(oci: Runtime) -> None:
    if not oci.ours:
        pytest.skip("runc 1.1 wants mappings for a user namespace that it joins")
    assert oci.create(configuration("pause"), name="first").status == 0
    pid = oci.state("first")["pid"]
    config = configuration("readlink", "/proc/self/ns/uts")
    config["linux"]["namespaces"] = [
        {"type": "user", "path": f"/proc/{pid}/ns/user"}, {"type": "uts", "path": f"/proc/{pid}/ns/uts"},
        {"type": "mount"}, {"type": "pid"}, {"type": "ipc"},
    ]  # fmt: skip
    del config["linux"]["uidMappings"], config["linux"]["gidMappings"], config["hostname"]
    wanted = os.readlink(f"/proc/{pid}/ns/uts")
    done = oci.run(config, name="second")
    assert done.out.strip() == wanted, done


def test_sysctl_of_a_namespace(oci: Runtime) -> None:
    config = configuration("cat", "/proc/sys/kernel/shm_rmid_forced")
    config["linux"]["sysctl"] = {"kernel.shm_rmid_forced": "1"}
    assert oci.run(config).out == "1\n"


def test_an_interface_is_moved_in(oci: Runtime) -> None:
    """As root of a user namespace with a network of its own, which is how an engine calls the runtime."""
    ip = shutil.which("ip", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if not oci.ours or ip is None:
        pytest.skip("from runc 1.4 on; needs iproute2")
    config = configuration("cat", "/proc/net/dev", "+", "cat", "/proc/net/fib_trie")
    config["linux"]["namespaces"].append({"type": "network"})
    config["linux"]["uidMappings"][0]["hostID"] = config["linux"]["gidMappings"][0]["hostID"] = 0
    config["linux"]["netDevices"] = {"outer0": {"name": "inner7"}}
    oci.write(config)
    script = f'{ip} link add outer0 type veth peer name other; {ip} address add 192.0.2.7/24 dev outer0; exec "$@"'
    argv = ["unshare", "--user", "--map-root-user", "--net", "sh", "-c", script, "sh", *oci.argv("run", "c1")]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=oci.bundle, timeout=60, stdin=subprocess.DEVNULL)
    if "Operation not supported" in done.stderr or "Unknown device type" in done.stderr:
        pytest.skip("this kernel has no veth")
    assert done.returncode == 0 and "inner7:" in done.stdout and "192.0.2.7" in done.stdout, done
    assert oci.run(config, name="c2").err.startswith("/linux/netDevices: ")


def test_owners_of_a_bind_are_mapped_where_the_kernel_lets_us(oci: Runtime, tmp_path: Path) -> None:
    """For a file system of our own user namespace it does; for the machine's the error has its answer."""
    if not oci.ours:
        pytest.skip("runc asks for more than the kernel does")
    source = tmp_path / "source"
    source.mkdir()
    config = configuration("stat", "/data/file")
    config["mounts"].append(bind(source, "/data"))
    at = len(config["mounts"]) - 1

    def with_map(first: int) -> dict[str, Any]:
        one = [{"containerID": first, "hostID": 0, "size": 1}]
        config["mounts"][at] |= {"uidMappings": one, "gidMappings": one}
        return config

    refused = oci.run(with_map(0))
    assert refused.status == 1
    assert f"/mounts/{at}: id-mapped mount of {source}: " in refused.err
    for kind in ("uidMappings", "gidMappings"):
        config["linux"][kind][0]["hostID"] = 0  # what follows is called by the root of a user namespace
    ours = 'mount -t tmpfs none "$SOURCE" && : >"$SOURCE/file" && exec "$0" "$@"'
    for first, shown in ((0, " 0:0 "), (1, " 65534:65534 ")):  # the owner on disk is 0
        oci.write(with_map(first))
        done = subprocess.run(
            ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", ours, *oci.argv("run", "c2")],
            env={**os.environ, "SOURCE": str(source)}, cwd=oci.bundle, capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
        assert (done.returncode, shown in done.stdout) == (0, True), done
