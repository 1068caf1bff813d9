"""Start a registry on a free loopback port: Debian's docker-registry, or the embedded one.

    with docker_registry(tmp_path) as registry:
        registry.host            # 127.0.0.1:PORT

With `auth` the user ACCOUNT may pull and push, with Basic authentication (htpasswd).
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ACCOUNT = ("tester", "secret")
# bcrypt of ACCOUNT's password, the only kind that docker-registry reads
HTPASSWD = "tester:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n"
START_S = 30.0


@dataclass(frozen=True)
class Registry:
    """A running registry; `kind` is docker or embedded."""

    host: str
    kind: str
    log: Path | None = None
    auth: tuple[str, str] | None = None


def free_port(address: str = "127.0.0.1") -> int:
    """Return a TCP port that is free now."""
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


def program() -> str | None:
    """Return the path of Debian's docker-registry."""
    return shutil.which("docker-registry", path=f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin")


@contextmanager
def docker_registry(place: Path, *, auth: bool = False) -> Iterator[Registry]:
    """Run Debian's docker-registry with its data below *place*."""
    executable = program()
    if executable is None:
        raise FileNotFoundError("no docker-registry (Debian: docker-registry)")
    place.mkdir(parents=True, exist_ok=True)
    port = free_port()
    lines = [
        "version: 0.1",
        "log: {level: warn}",
        f"storage: {{filesystem: {{rootdirectory: {place}/data}}, delete: {{enabled: true}}}}",
        f"http: {{addr: '127.0.0.1:{port}', relativeurls: true}}",
    ]
    if auth:
        (place / "htpasswd").write_text(HTPASSWD)
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}")
    (place / "config.yml").write_text("\n".join(lines) + "\n")
    log = place / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [executable, "serve", str(place / "config.yml")],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={"PATH": "/usr/bin:/bin", "HOME": str(place), "OTEL_TRACES_EXPORTER": "none"},
        )
    try:
        wait_until_it_answers(f"127.0.0.1:{port}", server, log)
        yield Registry(f"127.0.0.1:{port}", "docker", log, ACCOUNT if auth else None)
    finally:
        server.terminate()
        server.wait()


@contextmanager
def embedded_registry(*, auth: bool = False) -> Iterator[Registry]:
    """Run the embedded registry in a thread."""
    from tests.support.embedded import EmbeddedRegistry

    with EmbeddedRegistry(basic=ACCOUNT if auth else None) as server:
        yield Registry(server.host, "embedded", None, ACCOUNT if auth else None)


def wait_until_it_answers(host: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait for /v2/ of *host*.

    Raises:  OSError: the server ended, or said nothing for START_S
    """
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    end = time.monotonic() + START_S
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            opener.open(f"http://{host}/v2/", timeout=5).close()
            return
        except urllib.error.HTTPError as error:
            error.close()
            if error.code == 401:
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise OSError(f"the registry does not answer: {log.read_text(errors='replace')[-2000:]}")
