"""`rootless pull` against registries: good ones, guarded ones and broken ones.

After each failure the store is compared with what it was, file by file.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest

from rootless.plan.pulling import Found, LayerUnpacked, Pulled, PullEvent, PullFailed, decode_event
from tests.support import embedded, images
from tests.support.cli import Cli, Done
from tests.support.embedded import EmbeddedRegistry, Handler
from tests.support.images import File, Image, Layer
from tests.support.pulling import BIG, CLIENTS, error, small, snapshot
from tests.support.registry import ACCOUNT, Registry, free_port


@pytest.fixture
def fails(cli: Cli, docker_registry: Registry) -> Callable[..., Done]:
    """Run a pull that must fail with 125, print one line and a hint, and leave the store as it was."""
    kept = small("kept").push(docker_registry.host, "kept")
    cli.ok("pull", "-q", kept)
    before = snapshot(cli)

    def run(*words: str, **options: object) -> Done:
        done = cli("pull", *words, **options)  # type: ignore[arg-type]
        assert done.status == 125, done
        assert done.out == "", done
        errors = [line for line in done.err.splitlines() if line.startswith("Error: ")]
        assert len(errors) == 1 and "Traceback" not in done.err, done
        assert snapshot(cli) == before
        return done

    return run


# ---- what works


@pytest.mark.parametrize("style", ["oci", "docker"])
def test_both_kinds_of_manifest(cli: Cli, any_registry: Registry, style: str) -> None:
    image = small(f"style {style}", style=style)
    name = image.push(any_registry.host, f"kind-{style}")
    assert cli.ok("pull", name) == image.id + "\n"
    (found,) = json.loads(cli.ok("images", "--format", "json"))
    assert (found["Id"], found["Names"], found["Digest"]) == (image.id, [name], image.digest)
    trees = sorted(path.name for path in (cli.data / "l").iterdir())
    assert len(trees) == 2
    files = {str(p.relative_to(cli.data / "l")).partition("/")[2]: p for p in (cli.data / "l").rglob("*")}
    assert files["d/one"].read_bytes() == f"1 style {style}".encode()


def test_lines_of_a_pull(cli: Cli, docker_registry: Registry) -> None:
    image = small("lines")
    name = image.push(docker_registry.host, "lines")
    done = cli("pull", name)
    lines = done.err.splitlines()
    assert lines[0] == f"Trying to pull {name}..."
    assert [f"Copying blob {layer.digest}" for layer in image.layers] == lines[1:3]
    assert lines[-1] == "Writing manifest to image destination"
    again = cli("pull", name)
    assert again.err.count("skipped: already exists") == 2 and again.out == done.out
    assert cli("pull", "-q", name) == Done(0, image.id + "\n", "")


def test_layers_are_shared(cli: Cli, docker_registry: Registry) -> None:
    base = Layer((File("base", b"shared"),))
    one = Image((base, Layer((File("one", b"1"),))))
    two = Image((base, Layer((File("two", b"2"),))))
    cli.ok("pull", "-q", one.push(docker_registry.host, "one"), two.push(docker_registry.host, "two"))
    assert len(list((cli.data / "l").iterdir())) == 3
    assert f"Deleted: {one.id}\n" in cli.ok("rmi", one.id[:12])
    assert len(list((cli.data / "l").iterdir())) == 2


@pytest.mark.parametrize("style", ["oci", "docker"])
def test_an_index_by_platform(cli: Cli, docker_registry: Registry, style: str) -> None:
    ours = small("ours")
    other = small("other", arch="s390x")
    v6, v7 = small("v6", arch="arm", variant="v6"), small("v7", arch="arm", variant="v7")
    name, index = images.push_index(docker_registry.host, f"multi-{style}", "1", (v6, other, ours, v7), style=style)
    assert cli.ok("pull", "-q", name).strip() == ours.id
    assert cli.ok("pull", "-q", "--platform", "linux/s390x", name).strip() == other.id
    assert cli.ok("pull", "-q", "--arch", "arm", "--variant", "v6", name).strip() == v6.id
    assert cli.ok("pull", "-q", "--arch", "arm", name).strip() == v7.id
    repository = name.rpartition(":")[0]
    assert cli.ok("pull", "-q", f"{repository}@{index}").strip() == ours.id
    assert cli.ok("pull", "-q", f"{repository}@{other.digest}").strip() == other.id


def test_a_platform_that_is_not_there(fails: Callable[..., Done], docker_registry: Registry) -> None:
    others = (small("a", arch="s390x"), small("b", arch="ppc64le"))
    name, _ = images.push_index(docker_registry.host, "few", "1", others)
    done = fails("--platform", "linux/riscv64", name)
    assert error(done).startswith(f"Error: {name}: no image for platform linux/riscv64")
    assert "linux/ppc64le, linux/s390x" in error(done) and "--platform" in done.err


def test_policies(cli: Cli, embedded_registry: EmbeddedRegistry) -> None:
    host = embedded_registry.host
    first, second = small("first"), small("second")
    name = first.push(host, "moving")
    assert cli("pull", "--policy", "never", name).status == 125
    cli.ok("pull", "-q", name)
    second.push(host, "moving")
    asked = len(embedded_registry.requests)
    assert cli.ok("pull", "-q", "--policy", "missing", name).strip() == first.id
    assert cli.ok("pull", "-q", "--policy", "never", name).strip() == first.id
    assert len(embedded_registry.requests) == asked
    assert cli.ok("pull", "-q", "--policy", "newer", name).strip() == second.id
    assert cli.ok("images", "-q", name).strip() == second.id[:12]
    assert "<none>" in cli.ok("images")


def test_events_for_a_parent(cli: Cli, docker_registry: Registry) -> None:
    image = small("events")
    name = image.push(docker_registry.host, "events")

    def events(*words: str) -> tuple[int, list[PullEvent | None]]:
        read, write = os.pipe()
        child = subprocess.Popen(
            cli.argv("pull", f"--progress-fd={write}", *words), env=cli.environ(), pass_fds=[write],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        os.close(write)
        with open(read, "rb") as lines:
            found = [decode_event(line) for line in lines]
        out, err = child.communicate()
        assert (out, err) == (b"", b"")
        return child.returncode, found

    status, found = events(name)
    assert status == 0 and found[-1] == Pulled(image.id, name)
    assert [e.digests for e in found if isinstance(e, Found)] == [tuple(layer.digest for layer in image.layers)]
    assert sorted(e.index for e in found if isinstance(e, LayerUnpacked)) == [0, 1]
    status, found = events(f"{docker_registry.host}/nothing")
    assert status == 125
    assert isinstance(found[-1], PullFailed) and "manifest unknown" in found[-1].message and found[-1].code == 125


# ---- guarded registries


def test_basic(cli: Cli, fails: Callable[..., Done], auth_registry: Registry) -> None:
    image = small("guarded")
    name = image.push(auth_registry.host, "guarded", auth=ACCOUNT)
    done = fails(name)
    assert "authentication required" in error(done) and "--creds" in done.err
    assert "were refused" in fails("--creds", "tester:wrong", name).err
    assert cli.ok("pull", "-q", "--creds", ":".join(ACCOUNT), name).strip() == image.id


@pytest.mark.parametrize("where", ["authfile", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", ".config", ".docker", "helper"])
def test_where_credentials_come_from(cli: Cli, auth_registry: Registry, where: str) -> None:
    image = small("guarded")
    name = image.push(auth_registry.host, "guarded", auth=ACCOUNT)
    home = Path(cli.environ()["HOME"])
    value: dict[str, object] = {"auths": {auth_registry.host: {"auth": b64encode(":".join(ACCOUNT).encode()).decode()}}}
    path, words, env = home / "auth.json", [], {}
    if where == "authfile":
        words = ["--authfile", str(path)]
    elif where == "REGISTRY_AUTH_FILE":
        env = {where: str(path)}
    elif where == "XDG_RUNTIME_DIR":
        path, env = home / "runtime/containers/auth.json", {where: str(home / "runtime")}
    elif where == ".config":
        path = home / ".config/containers/auth.json"
    else:
        path = home / ".docker/config.json"
    if where == "helper":
        value = {"credHelpers": {auth_registry.host: "test"}}
        answer = json.dumps({"ServerURL": "x", "Username": ACCOUNT[0], "Secret": ACCOUNT[1]})
        program = home / "docker-credential-test"
        program.write_text(f"#!/bin/sh\nread -r host\n[ \"$host\" = {auth_registry.host} ] && echo '{answer}'\n")
        program.chmod(0o755)
        env = {"PATH": f"{home}:{os.environ['PATH']}"}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    done = cli("pull", "-q", *words, name, env=env)
    assert done == Done(0, image.id + "\n", "")


def test_an_authfile_that_is_not_there(fails: Callable[..., Done], docker_registry: Registry) -> None:
    assert "/nowhere/auth.json: no such file" in error(fails("--authfile", "/nowhere/auth.json", "127.0.0.1:1/x"))


def test_bearer(cli: Cli) -> None:
    image = small("bearer")
    with EmbeddedRegistry() as server:
        name = image.push(server.host, "bearer")
        server.bearer = "t0k3n"
        assert cli.ok("pull", "-q", name).strip() == image.id
        paths = [path for _, path, _ in server.requests if path.startswith("/token")]
        assert len(paths) == 1 and "scope=repository:any:pull" in paths[0]


def test_bearer_for_an_account(cli: Cli, fails: Callable[..., Done]) -> None:
    image = small("bearer")
    with EmbeddedRegistry() as server:
        name = image.push(server.host, "bearer")
        server.bearer, server.basic = "t0k3n", ACCOUNT
        assert "the token server" in error(fails(name))
        assert "401" in error(fails("--creds", "tester:wrong", name))
        assert cli.ok("pull", "-q", "--creds", ":".join(ACCOUNT), name).strip() == image.id


def test_a_token_that_expires_in_the_middle(cli: Cli, large: Image) -> None:
    with EmbeddedRegistry() as server:
        name = large.push(server.host, "expiring")
        server.bearer = "first"

        def expire(handler: Handler) -> bool:
            server.bearer = "second"
            server.faults.clear()
            return False

        server.faults[large.layers[1].digest] = expire
        assert cli.ok("pull", "-q", name).strip() == large.id


def test_a_redirect_to_another_host_drops_credentials(cli: Cli, large: Image) -> None:
    with EmbeddedRegistry() as home, EmbeddedRegistry() as elsewhere:
        name = large.push(home.host, "moved")
        elsewhere.blobs.update(home.blobs)
        home.basic = ACCOUNT
        home.faults["/blobs/"] = embedded.redirected(f"http://{elsewhere.host}")
        assert cli.ok("pull", "-q", "--creds", ":".join(ACCOUNT), name).strip() == large.id
        assert any("Authorization" in headers for _, path, headers in home.requests if "/blobs/" in path)
        fetched = [headers for _, path, headers in elsewhere.requests if "/blobs/" in path]
        assert len(fetched) == 4 and not any("Authorization" in headers for headers in fetched)


# ---- broken registries


def flipped(data: bytes) -> bytes:
    return data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]


@CLIENTS
def test_a_wrong_digest(
    fails: Callable[..., Done], embedded_registry: EmbeddedRegistry, large: Image, words: tuple[str, ...]
) -> None:
    name = large.push(embedded_registry.host, "wrong")
    for layer in large.layers:
        embedded_registry.faults = {layer.digest: embedded.altered(flipped)}
        said = error(fails(*words, name))
        assert f"layer {layer.digest}" in said and "a body with the digest sha256:" in said


def test_a_wrong_config_and_a_wrong_manifest(
    fails: Callable[..., Done], embedded_registry: EmbeddedRegistry, large: Image
) -> None:
    name = large.push(embedded_registry.host, "wrong")
    embedded_registry.faults = {f"sha256:{large.id}": embedded.altered(flipped)}
    assert f"config sha256:{large.id}" in error(fails(name))
    embedded_registry.faults = {}
    key = ("wrong", large.digest)
    kind, data = embedded_registry.manifests[key]
    embedded_registry.manifests[key] = (kind, data + b" ")
    assert f"manifest {large.digest}" in error(fails(f"{embedded_registry.host}/wrong@{large.digest}"))


def test_layers_that_are_not_what_the_config_promises(
    fails: Callable[..., Done], embedded_registry: EmbeddedRegistry
) -> None:
    layer = Layer((File("a", b"a"),))
    liar = Image((layer,))
    name = liar.push(embedded_registry.host, "liar")
    config = json.loads(liar.config_blob)
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    body = json.dumps(config).encode()
    manifest = json.loads(liar.manifest)
    manifest["config"] = images.descriptor(manifest["config"]["mediaType"], body)
    embedded_registry.blobs[images.digest(body)] = body
    embedded_registry.manifests["liar", "latest"] = (manifest["mediaType"], json.dumps(manifest).encode())
    assert "0" * 64 in error(fails(name))
    config["rootfs"]["diff_ids"] = []
    body = json.dumps(config).encode()
    manifest["config"] = images.descriptor(manifest["config"]["mediaType"], body)
    embedded_registry.blobs[images.digest(body)] = body
    embedded_registry.manifests["liar", "latest"] = (manifest["mediaType"], json.dumps(manifest).encode())
    assert "1 layers, the image config 0" in error(fails(name))


def test_a_layer_that_is_no_archive(fails: Callable[..., Done], embedded_registry: EmbeddedRegistry) -> None:
    broken = Image((Layer(archive=b"this is not a tar archive" * 100),))
    name = broken.push(embedded_registry.host, "broken")
    assert "layer sha256:" in error(fails(name))


@CLIENTS
def test_a_truncated_layer_goes_on_where_it_stopped(
    cli: Cli, embedded_registry: EmbeddedRegistry, large: Image, words: tuple[str, ...]
) -> None:
    name = large.push(embedded_registry.host, "cut")
    big = large.layers[1].digest
    embedded_registry.faults[big] = embedded.truncated(1 << 20, times=1)
    done = cli("pull", *words, name)
    assert done.status == 0 and done.out.strip() == large.id
    assert "trying again" in done.err
    ranges = [headers.get("Range") for _, path, headers in embedded_registry.requests if big in path and _ == "GET"]
    assert len(ranges) == 2 and ranges[0] is None and ranges[1] is not None


@CLIENTS
def test_a_registry_that_knows_no_ranges(
    cli: Cli, embedded_registry: EmbeddedRegistry, large: Image, words: tuple[str, ...]
) -> None:
    name = large.push(embedded_registry.host, "cut")
    cut = embedded.truncated(1 << 20, times=1)
    embedded_registry.faults[large.layers[1].digest] = lambda handler: cut(handler) or embedded.whole(handler)
    done = cli("pull", *words, name)
    assert done.status == 0 and done.err.count("trying again") == 1
    (big,) = cli.data.glob("l/*/big")
    assert big.read_bytes() == BIG


def test_a_layer_of_unknown_length(cli: Cli, embedded_registry: EmbeddedRegistry, large: Image) -> None:
    """What has no length is for the other client, which begins again."""
    name = large.push(embedded_registry.host, "chunks")
    embedded_registry.faults[large.layers[1].digest] = embedded.chunked
    done = cli("pull", name)
    assert done.status == 0 and done.err.count("Trying to pull") == 1
    (big,) = cli.data.glob("l/*/big")
    assert big.read_bytes() == BIG
    assert list((cli.data / "staging").iterdir()) == []


@CLIENTS
def test_a_layer_that_is_always_truncated(
    fails: Callable[..., Done], embedded_registry: EmbeddedRegistry, large: Image, words: tuple[str, ...]
) -> None:
    name = large.push(embedded_registry.host, "cut")
    embedded_registry.faults[large.layers[1].digest] = embedded.truncated(1000)
    done = fails(*words, name)
    assert f"layer {large.layers[1].digest}" in error(done) and "try again" in done.err


def test_a_blob_of_the_wrong_size(
    fails: Callable[..., Done], embedded_registry: EmbeddedRegistry, large: Image
) -> None:
    name = large.push(embedded_registry.host, "short")
    size = len(large.layers[1].blob)
    embedded_registry.faults[large.layers[1].digest] = embedded.altered(lambda data: data[:-1])
    assert f"{size - 1} bytes instead of {size}" in error(fails(name))
    embedded_registry.faults[large.layers[1].digest] = embedded.altered(lambda data: data + b"x")
    assert f"{size + 1} bytes instead of {size}" in error(fails(name))


def test_a_registry_that_goes_away_in_the_middle(fails: Callable[..., Done], large: Image) -> None:
    with EmbeddedRegistry() as server:
        name = large.push(server.host, "gone")
        gone = threading.Event()

        def leave(handler: Handler) -> bool:
            if not gone.is_set():
                gone.set()
                handler.send_response(200)
                handler.send_header("Content-Length", str(len(large.layers[1].blob)))
                handler.end_headers()
                handler.wfile.write(large.layers[1].blob[: 1 << 20])
                # Nobody listens any more: what is open is cut, what comes is refused.
                server.server.socket.close()
            handler.close_connection = True
            server.server.close_connections()
            return True

        server.faults[large.layers[1].digest] = leave
        done = fails(name)
        assert gone.is_set()
        assert f"from {server.host}: connection refused" in error(done)


def test_nobody_listens(fails: Callable[..., Done]) -> None:
    port = free_port()
    done = fails(f"127.0.0.1:{port}/x")
    assert error(done) == f"Error: contacting registry 127.0.0.1:{port}: connection refused"
    assert f"hint: is a registry listening on 127.0.0.1:{port}?" in done.err


def test_a_registry_that_is_busy(cli: Cli, fails: Callable[..., Done], embedded_registry: EmbeddedRegistry) -> None:
    image = small("busy")
    name = image.push(embedded_registry.host, "busy")
    embedded_registry.faults["/manifests/"] = embedded.status(503, times=2)
    done = cli("pull", name)
    assert done.status == 0 and done.err.count("trying again") == 2
    cli.ok("rmi", name)
    embedded_registry.faults["/manifests/"] = embedded.status(429, Retry_After="3600")
    assert "too many requests" in error(fails(name)) or "3600 s" in error(fails(name))


def test_unknown_images(fails: Callable[..., Done], docker_registry: Registry) -> None:
    small("known").push(docker_registry.host, "known")
    host = docker_registry.host
    assert error(fails(f"{host}/known:nope")) == (
        f"Error: reading manifest nope in {host}/known: manifest unknown (HTTP 404)"
    )
    done = fails(f"{host}/nobody/nothing")
    assert f"manifest latest in {host}/nobody/nothing" in error(done)
    assert "check the name and the tag" in done.err


@pytest.mark.parametrize("text", ["UPPER", "a..b", "a:b:c", "http://x", "127.0.0.1:1/x@sha256:12"])
def test_bad_references(fails: Callable[..., Done], text: str) -> None:
    done = fails(text)
    assert "invalid reference format" in error(done) and text in error(done)


def test_bad_flags(fails: Callable[..., Done]) -> None:
    assert "policy" in error(fails("--policy", "sometimes", "x"))
    assert "platform" in error(fails("--platform", "a/b/c/d", "x"))
    assert "platform" in error(fails("--platform", "linux/arm64", "--arch", "arm64", "x"))
    assert "credentials" in error(fails("--creds", "justme", "x"))
    assert "requires at least 1 arg" in error(fails())


def test_a_schema_1_manifest(fails: Callable[..., Done], embedded_registry: EmbeddedRegistry) -> None:
    body = json.dumps({"schemaVersion": 1, "fsLayers": [], "history": []}).encode()
    embedded_registry.manifests["old", "latest"] = ("application/vnd.docker.distribution.manifest.v1+prettyjws", body)
    assert "schema 1" in error(fails(f"{embedded_registry.host}/old"))


def test_https_is_verified(fails: Callable[..., Done], cli: Cli, tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate")
    key, certificate = tmp_path / "key", tmp_path / "ca.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", certificate, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
        check=True, capture_output=True,
    )  # fmt: skip
    import ssl

    image = small("tls")
    with EmbeddedRegistry() as server:
        image.push(server.host, "tls")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        server.server.socket = context.wrap_socket(server.server.socket, server_side=True)
        name = f"{server.host}/tls:latest"
        done = fails("--tls-verify", name)
        assert "certificate not accepted: self-signed certificate" in error(done)
        assert "certs.d" in done.err
        assert cli.ok("pull", "-q", "--tls-verify", "--cert-dir", str(tmp_path), name).strip() == image.id
        cli.ok("rmi", name)
        assert cli.ok("pull", "-q", "--tls-verify=false", name).strip() == image.id
        cli.ok("rmi", name)
        assert cli.ok("pull", "-q", name).strip() == image.id
