"""Make OCI images on the spot: layers from lists of members, a config, a manifest; push them to a registry.

    base = Layer((Directory("bin"), File("bin/sh", b"..."), Symlink("lib64", "lib")))
    top = Layer((Whiteout("etc/motd"), Opaque("var/cache"), Hardlink("bin/bash", "bin/sh")), compression="zstd")
    image = Image((base, top), entrypoint=("/bin/sh",))
    image.push("127.0.0.1:5000", "sample", "latest")

Everything is deterministic: the same members give the same digests.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import platform
import random
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

EPOCH = 1_700_000_000
MEDIA = {
    "oci": {
        "manifest": "application/vnd.oci.image.manifest.v1+json",
        "index": "application/vnd.oci.image.index.v1+json",
        "config": "application/vnd.oci.image.config.v1+json",
        "gzip": "application/vnd.oci.image.layer.v1.tar+gzip",
        "zstd": "application/vnd.oci.image.layer.v1.tar+zstd",
        "none": "application/vnd.oci.image.layer.v1.tar",
    },
    "docker": {
        "manifest": "application/vnd.docker.distribution.manifest.v2+json",
        "index": "application/vnd.docker.distribution.manifest.list.v2+json",
        "config": "application/vnd.docker.container.image.v1+json",
        "gzip": "application/vnd.docker.image.rootfs.diff.tar.gzip",
        "zstd": "application/vnd.docker.image.rootfs.diff.tar.zstd",
        "none": "application/vnd.docker.image.rootfs.diff.tar",
    },
}
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "ppc64le": "ppc64le", "s390x": "s390x"}


def architecture() -> str:
    """Return this machine's architecture by its OCI name."""
    return ARCHITECTURES.get(platform.machine(), platform.machine())


@dataclass(frozen=True, kw_only=True)
class Attributes:
    """What every member of a layer has."""

    uid: int = 0
    gid: int = 0
    mtime: float = EPOCH
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class File(Attributes):
    path: str
    data: bytes = b""
    mode: int = 0o644


@dataclass(frozen=True)
class Directory(Attributes):
    path: str
    mode: int = 0o755


@dataclass(frozen=True)
class Symlink(Attributes):
    path: str
    target: str


@dataclass(frozen=True)
class Hardlink(Attributes):
    path: str
    target: str


@dataclass(frozen=True)
class Fifo(Attributes):
    path: str
    mode: int = 0o644


@dataclass(frozen=True)
class Device(Attributes):
    path: str
    kind: str  # "c" or "b"
    major: int
    minor: int
    mode: int = 0o600


@dataclass(frozen=True)
class Whiteout(Attributes):
    path: str


@dataclass(frozen=True)
class Opaque(Attributes):
    """The directory *path* hides what lower layers have in it."""

    path: str


Member = File | Directory | Symlink | Hardlink | Fifo | Device | Whiteout | Opaque


def header(member: Member) -> tuple[tarfile.TarInfo, bytes]:
    """Return the tar header and the data of *member*."""
    path, data = member.path, b""
    if isinstance(member, Whiteout):
        parent, _, name = path.rpartition("/")
        path = f"{parent}/.wh.{name}" if parent else f".wh.{name}"
    elif isinstance(member, Opaque):
        path = f"{path}/.wh..wh..opq"
    info = tarfile.TarInfo(path)
    info.uid, info.gid, info.mtime = member.uid, member.gid, member.mtime
    info.mode = getattr(member, "mode", 0o777 if isinstance(member, Symlink) else 0o644)
    match member:
        case File():
            data = member.data
            info.size = len(data)
        case Directory():
            info.type = tarfile.DIRTYPE
        case Symlink():
            info.type, info.linkname = tarfile.SYMTYPE, member.target
        case Hardlink():
            info.type, info.linkname = tarfile.LNKTYPE, member.target
        case Fifo():
            info.type = tarfile.FIFOTYPE
        case Device():
            info.type = tarfile.CHRTYPE if member.kind == "c" else tarfile.BLKTYPE
            info.devmajor, info.devminor = member.major, member.minor
        case Whiteout() | Opaque():
            info.size = 0
    # pax values are text; surrogateescape carries what is not UTF-8
    info.pax_headers = {
        f"SCHILY.xattr.{name}": value.decode("utf-8", "surrogateescape") for name, value in member.xattrs.items()
    }
    return info, data


@dataclass(frozen=True)
class Layer:
    """One layer; `tar` is its uncompressed archive, `blob` what a registry keeps."""

    members: tuple[Member, ...] = ()
    compression: str = "gzip"  # gzip, zstd or none
    level: int = 6
    archive: bytes | None = None  # instead of members: a tar as it is

    @cached_property
    def tar(self) -> bytes:
        if self.archive is not None:
            return self.archive
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for member in self.members:
                info, data = header(member)
                tar.addfile(info, io.BytesIO(data))
        return out.getvalue()

    @cached_property
    def blob(self) -> bytes:
        if self.compression == "gzip":
            return gzip.compress(self.tar, self.level, mtime=0)
        if self.compression == "zstd":
            import zstandard

            return zstandard.ZstdCompressor(level=3).compress(self.tar)
        return self.tar

    @cached_property
    def diff_id(self) -> str:
        return digest(self.tar)

    @cached_property
    def digest(self) -> str:
        return digest(self.blob)


@dataclass(frozen=True)
class Image:
    """An image for one platform; `config` has the keys of the image specification (Env, Cmd, User ...)."""

    layers: tuple[Layer, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    style: str = "oci"  # or docker: which media types
    os: str = "linux"
    arch: str = field(default_factory=architecture)
    variant: str = ""

    @cached_property
    def config_blob(self) -> bytes:
        value: dict[str, Any] = {
            "created": "2023-11-14T22:13:20Z",
            "architecture": self.arch,
            "os": self.os,
            "config": dict(self.config),
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id for layer in self.layers]},
            "history": [
                {"created": "2023-11-14T22:13:20Z", "created_by": f"layer {number}"}
                for number in range(1, len(self.layers) + 1)
            ],
        }
        if self.variant:
            value["variant"] = self.variant
        return json.dumps(value, sort_keys=True).encode()

    @cached_property
    def manifest(self) -> bytes:
        media = MEDIA[self.style]
        return json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": media["manifest"],
                "config": descriptor(media["config"], self.config_blob),
                "layers": [descriptor(media[layer.compression], layer.blob) for layer in self.layers],
            }
        ).encode()

    @cached_property
    def digest(self) -> str:
        return digest(self.manifest)

    @cached_property
    def id(self) -> str:
        return hashlib.sha256(self.config_blob).hexdigest()

    def push(self, host: str, name: str, tag: str = "latest", *, auth: tuple[str, str] | None = None) -> str:
        """Push to the registry at *host* (plain HTTP); return HOST/NAME:TAG."""
        client = Client(host, auth)
        for blob in (self.config_blob, *(layer.blob for layer in self.layers)):
            client.put_blob(name, blob)
        client.put_manifest(name, tag, MEDIA[self.style]["manifest"], self.manifest)
        return f"{host}/{name}:{tag}"


def push_index(
    host: str, name: str, tag: str, images: Iterable[Image], *, style: str = "oci", auth: tuple[str, str] | None = None
) -> tuple[str, str]:
    """Push an index (manifest list) of *images*; return HOST/NAME:TAG and the digest of the index."""
    client, entries = Client(host, auth), []
    for image in images:
        image.push(host, name, image.digest, auth=auth)
        spot = {"architecture": image.arch, "os": image.os} | ({"variant": image.variant} if image.variant else {})
        entries.append(descriptor(MEDIA[image.style]["manifest"], image.manifest) | {"platform": spot})
    body = json.dumps({"schemaVersion": 2, "mediaType": MEDIA[style]["index"], "manifests": entries}).encode()
    client.put_manifest(name, tag, MEDIA[style]["index"], body)
    return f"{host}/{name}:{tag}", digest(body)


def digest(data: bytes) -> str:
    """Return `sha256:HEX` of *data*."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def descriptor(media_type: str, data: bytes) -> dict[str, Any]:
    """Return the descriptor of *data*."""
    return {"mediaType": media_type, "digest": digest(data), "size": len(data)}


class Client:
    """The pushing half of the distribution protocol, as little as it takes."""

    def __init__(self, host: str, auth: tuple[str, str] | None = None) -> None:
        self.base = f"http://{host}"
        self.headers: dict[str, str] = {}
        if auth is not None:
            self.headers["Authorization"] = "Basic " + b64encode(":".join(auth).encode()).decode()
        self.opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def request(self, method: str, url: str, data: bytes | None = None, **headers: str) -> tuple[int, Any]:
        """Return the status and the headers of the answer."""
        named = {key.replace("_", "-"): value for key, value in headers.items()}
        request = urllib.request.Request(url, data=data, method=method, headers={**self.headers, **named})
        try:
            with self.opener.open(request, timeout=60) as answer:
                answer.read()
                return answer.status, answer.headers
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.headers

    def put_blob(self, name: str, data: bytes) -> None:
        which = digest(data)
        if self.request("HEAD", f"{self.base}/v2/{name}/blobs/{which}")[0] == 200:
            return
        status, headers = self.request("POST", f"{self.base}/v2/{name}/blobs/uploads/", b"")
        if status != 202:
            raise OSError(f"the registry refuses an upload to {name}: {status}")
        where = headers["Location"]
        where = where if where.startswith("http") else self.base + where
        where += ("&" if "?" in where else "?") + f"digest={which}"
        status, _ = self.request("PUT", where, data, Content_Type="application/octet-stream")
        if status != 201:
            raise OSError(f"the registry refuses blob {which} of {name}: {status}")

    def put_manifest(self, name: str, reference: str, media_type: str, data: bytes) -> None:
        status, _ = self.request("PUT", f"{self.base}/v2/{name}/manifests/{reference}", data, Content_Type=media_type)
        if status != 201:
            raise OSError(f"the registry refuses manifest {name}:{reference}: {status}")


# ---- images that several tiers use


def busybox() -> Path:
    """Return the path of a static busybox (package busybox-static)."""
    found = shutil.which("busybox", path="/bin:/usr/bin:/usr/local/bin")
    if found is None:
        raise FileNotFoundError("no busybox: install the package busybox-static")
    return Path(found)


def busybox_members() -> tuple[Member, ...]:
    """Return /bin/busybox with a link for each applet, /etc with accounts, and the usual directories."""
    program = busybox()
    applets = subprocess.run([program, "--list"], capture_output=True, text=True, check=True).stdout.split()
    names = [Directory(path) for path in ("bin", "etc", "root", "home", "usr", "usr/bin", "var", "dev", "proc", "sys")]
    return (
        *names,
        Directory("tmp", mode=0o1777),
        File("bin/busybox", program.read_bytes(), 0o755),
        *(Symlink(f"bin/{applet}", "busybox") for applet in sorted(applets) if applet != "busybox"),
        File(
            "etc/passwd",
            b"root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\nalice:x:1000:1000::/home/alice:/bin/sh\n",
        ),
        File("etc/group", b"root:x:0:\ndaemon:x:1:\nalice:x:1000:\nextra:x:2000:alice\n"),
    )


def sample(compressions: tuple[str, ...] = ("gzip", "zstd", "none", "gzip")) -> Image:
    """Return an image of four layers with all that layers can hold."""
    base = Layer(
        (
            *busybox_members(),
            Directory("data"),
            File("data/kept", b"from layer 1\n"),
            File("data/removed", b"hidden by layer 2\n"),
            Directory("data/opaque"),
            File("data/opaque/old", b"hidden by layer 3\n"),
            File("data/linked", b"one file, two layers\n", uid=1000, gid=1000),
            Directory("home/alice", uid=1000, gid=1000, mode=0o700),
        ),
        compressions[0],
    )
    second = Layer(
        (
            Whiteout("data/removed"),
            Hardlink("data/linked-too", "data/linked"),
            File("data/setuid", b"#!/bin/sh\n", 0o4755),
            Symlink("data/absolute", "/data/kept"),
            Symlink("data/outside", "../../../../etc/passwd"),
        ),
        compressions[1],
    )
    third = Layer(
        (
            Directory("data/opaque", mode=0o750),
            Opaque("data/opaque"),
            File("data/opaque/new", b"from layer 3\n"),
            File("data/xattr", b"has an attribute\n", xattrs={"user.sample": b"value of layer 3"}),
        ),
        compressions[2],
    )
    fourth = Layer((File("data/last", b"from layer 4\n", uid=33, gid=33), Directory("srv/www")), compressions[3])
    config = {
        "Env": ["PATH=/bin:/usr/bin", "SAMPLE=yes"],
        "Cmd": ["/bin/sh"],
        "WorkingDir": "/data",
        "Labels": {"org.example.sample": "yes"},
    }
    return Image((base, second, third, fourth), config)


def bench_image(seed: int = 1, size_bytes: int = 100_000_000, layers: int = 5, compression: str = "gzip") -> Image:
    """Return an image of *layers* layers, *size_bytes* of files in all, the same for the same *seed*.

    Shape:   files of 1 KB to 4 MB as distributions have them, a third of their bytes random, the rest text-like
    """
    source = random.Random(seed)
    words = [source.randbytes(source.randint(2, 9)).hex().encode() for _ in range(4096)]
    made = []
    for number in range(layers):
        members: list[Member] = list(busybox_members()) if number == 0 else []
        members.append(Directory(f"opt/part{number}"))
        left, count = size_bytes // layers, 0
        while left > 0:
            size = min(left, int(2 ** source.uniform(10, 22)))
            dense = source.randbytes(size // 3)
            text = b" ".join(source.choices(words, k=max(1, (size - len(dense)) // 12)))
            data = (dense + text)[:size].ljust(size, b"\n")
            members.append(File(f"opt/part{number}/dir{count % 20:02}/file{count:05}", data))
            left, count = left - size, count + 1
        made.append(Layer(tuple(members), compression, level=6))
    return Image(tuple(made), {"Env": ["PATH=/bin:/usr/bin"], "Cmd": ["/bin/sh"]})
