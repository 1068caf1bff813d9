"""What scripts/quickstart needs around the engine: a registry with the sample image, a listener, a name server.

python -m tests.support.stand serve DIRECTORY     prints KEY=VALUE lines, serves until its input ends
python -m tests.support.stand name-server ADDRESS PORT
python -m tests.support.stand address             a non-loopback address of this machine, if it has one
python -m tests.support.stand resolver            a name that the host's resolver answers, if it does
python -m tests.support.stand ask ADDRESS PORT    connects until somebody says something, and prints it
"""

from __future__ import annotations

import contextlib
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.support import images, registry

NAME = "quickstart.example"
ANSWER = "192.0.2.53"
WELL_KNOWN = ("deb.debian.org", "example.org")
PATIENCE_S = 15.0


def serve(place: Path) -> None:
    """Start the registry and the listener, push the sample, say where they are, wait for the end of the input."""
    with contextlib.ExitStack() as stack:
        if registry.program() is not None:
            server = stack.enter_context(registry.docker_registry(place))
        else:
            server = stack.enter_context(registry.embedded_registry())
        sample = images.sample()
        print(f"image={sample.push(server.host, 'sample')}")
        print(f"registry={'docker-registry' if server.kind == 'docker' else 'the embedded registry'}")
        print(f"layers={len(sample.layers)}")
        address = own_address()
        if address:
            listener = stack.enter_context(socket.create_server((address, 0)))
            token = secrets.token_hex(8)
            threading.Thread(target=_echo, args=(listener, token), daemon=True).start()
            print(f"listener_address={address}\nlistener_port={listener.getsockname()[1]}\ntoken={token}")
        print("ready=yes", flush=True)
        sys.stdin.read()


def _echo(listener: socket.socket, token: str) -> None:
    """Answer each line that a client sends with the same line and the token."""
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, contextlib.suppress(OSError):
            client.settimeout(PATIENCE_S)
            line = client.makefile("rb").readline(1024).strip()
            client.sendall(b"you said %s, the listener says %s\n" % (line, token.encode()))


def own_address() -> str | None:
    """Return a global IPv4 address of this machine, None if it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
        probe.connect(("192.0.2.1", 9))  # nothing is sent: this asks the routing table
        address: str = probe.getsockname()[0]
        if not address.startswith("127."):
            return address
    done = subprocess.run(
        ["ip", "-4", "-o", "addr", "show", "scope", "global"], capture_output=True, text=True, check=False
    )
    for line in done.stdout.splitlines():
        return line.split()[3].partition("/")[0]
    return None


def host_resolver() -> str | None:
    """Return a name that the name servers of resolv.conf answer, None if they do not answer."""
    try:
        lines = Path("/etc/resolv.conf").read_text().splitlines()
    except OSError:
        return None
    servers = [words[1] for line in lines if len(words := line.split()) >= 2 and words[0] == "nameserver"]
    for server in servers[:2]:
        for name in WELL_KNOWN:
            family = socket.AF_INET6 if ":" in server else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as asking, contextlib.suppress(OSError):
                asking.settimeout(2)
                asking.sendto(question(name), (server, 53))
                reply = asking.recv(512)
                if len(reply) > 12 and not reply[3] & 15 and reply[6:8] != b"\0\0":
                    return name
    return None


def question(name: str) -> bytes:
    """Return a DNS query for the A record of *name*."""
    labels = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
    return struct.pack("!6H", 0x5251, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!2H", 1, 1)


def answer(query: bytes, name: str, address: str) -> bytes:
    """Return the reply to *query*: *address* for the A record of *name*, nothing for its others, NXDOMAIN otherwise."""
    end = 12
    while query[end]:
        end += 1 + query[end]
    asked, (kind,) = query[12:end], struct.unpack("!H", query[end + 1 : end + 3])
    wanted = b"".join(bytes([len(word)]) + word.encode() for word in name.split("."))
    known = asked.lower() == wanted
    record = known and kind == 1
    head = query[:2] + struct.pack("!5H", 0x8580 if known else 0x8583, 1, int(record), 0, 0)
    body = query[12 : end + 5]
    return head + body + (struct.pack("!3HIH", 0xC00C, 1, 1, 60, 4) + socket.inet_aton(address) if record else b"")


def name_server(address: str, port: int) -> None:
    """Answer for NAME until killed."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind((address, port))
        print(f"name={NAME}\nanswer={ANSWER}\nready=yes", flush=True)
        while True:
            query, client = server.recvfrom(512)
            with contextlib.suppress(IndexError, struct.error):
                server.sendto(answer(query, NAME, ANSWER), client)


def ask(address: str, port: int) -> str:
    """Return what the service at *address* says first; a published port may be open before its service listens."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection((address, port), timeout=PATIENCE_S) as client:
            if data := client.recv(1024):
                return data.decode(errors="replace").strip()
        time.sleep(0.05)
    raise SystemExit(f"nobody answered at {address}:{port}")


def main(words: list[str]) -> None:
    match words:
        case ["serve", place]:
            serve(Path(place))
        case ["name-server", address, port]:
            name_server(address, int(port))
        case ["address"]:
            print(own_address() or "")
        case ["resolver"]:
            print(host_resolver() or "")
        case ["port"]:
            print(registry.free_port())
        case ["ask", address, port]:
            print(ask(address, int(port)))
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
