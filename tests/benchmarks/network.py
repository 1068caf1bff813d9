"""Throughput of the private network beside slirp4netns, by iperf3, in namespaces without a way out of the machine.

    python -m tests.benchmarks.network [--seconds N] [--rounds N]     as an unprivileged user

Prints for each direction and MTU the median of both in Gbit/s, their ratio, and the CPU seconds of each network process
for one gigabit. Rounds alternate. Published ports are slirp's own forwards on both sides.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from netns.config import NetConfig, PortForward
from rootless.kernel.fds import Fd
from tests.net.world import HOST4, Stack, World
from tests.support.userns import in_userns

PORT, PUBLISHED = 5201, 5202
STACKS = ("driver", "slirp4netns")


def run_in(netns: Fd, argv: Sequence[str]) -> list[str]:
    """Return the words that run *argv* in *netns*."""
    return ["nsenter", f"--net=/proc/{os.getpid()}/fd/{netns.fileno()}", *argv]


def iperf(words: Sequence[str], seconds: int) -> float:
    """Return what an iperf3 client measured, in Gbit/s."""
    argv = [*words, "--json", "--time", str(seconds)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=seconds + 30, check=False)
    answer: dict[str, Any] = json.loads(done.stdout or "{}")
    if done.returncode or "error" in answer:
        raise SystemExit(f"iperf3: {answer.get('error', done.stderr)}")
    return float(answer["end"]["sum_received"]["bits_per_second"]) / 1e9


def cpu_seconds(pid: int) -> float:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def publish(stack: Stack, how: str, netns: Fd) -> None:
    """Publish PUBLISHED: ours has it in its configuration; slirp4netns is asked through its API socket."""
    if how == "driver":
        return
    request = {"execute": "add_hostfwd", "arguments": {"proto": "tcp", "host_port": PUBLISHED, "guest_port": PUBLISHED}}
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(api_path())
        sock.sendall(json.dumps(request).encode())
        sock.shutdown(socket.SHUT_WR)
        answer = sock.recv(4096)
        if b"return" not in answer:
            raise SystemExit(answer.decode())


def api_path() -> str:
    return f"/tmp/rootless-bench-{os.getpid()}.sock"


def measure(world: World, how: str, mtu: int, direction: str, seconds: int) -> tuple[float, float]:
    """Return Gbit/s and CPU seconds for one gigabit."""
    config = NetConfig(mtu=mtu, ports=(PortForward("", PUBLISHED, PUBLISHED),) if how == "driver" else (), ipv6=False)
    extra = ("--api-socket", api_path()) if how != "driver" else ()
    with world.start(how, config, extra) as stack:
        port = PUBLISHED if direction == "published" else PORT
        server: list[str] = ["iperf3", "--server", "--one-off", "--port", str(port)]
        client = ["iperf3", "--client", HOST4, "--port", str(port)]
        if direction == "published":
            server = run_in(world.netns, server)
            publish(stack, how, world.netns)
        else:
            client = run_in(world.netns, client)
            client += ["--reverse"] if direction == "in" else []
        process = subprocess.Popen(server, stdout=subprocess.DEVNULL)
        wait_listening(world, port, inside=direction == "published")
        before = cpu_seconds(stack.pid)
        gbits = iperf(client, seconds)
        used = cpu_seconds(stack.pid) - before
        process.wait(30)
    return gbits, used / (gbits * seconds)


def wait_listening(world: World, port: int, *, inside: bool) -> None:
    """Wait until somebody listens at *port* on the side where the server is."""
    import time

    def listens() -> bool:
        text = "".join(Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6"))
        rows = [line.split() for line in text.splitlines()]
        return any(row[1].endswith(f":{port:04X}") and row[3] == "0A" for row in rows)

    probe: Callable[[], bool] = (lambda: world.inside(listens)) if inside else listens
    for _ in range(1000):
        if probe():
            return
        time.sleep(0.01)
    raise SystemExit("iperf3 does not listen")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--mtu", type=int, nargs="*", default=[65520, 1500])
    arguments = parser.parse_args()

    print(f"{'':24}{'ours':>10}{'slirp4netns':>14}{'ratio':>8}{'CPU s/Gbit':>20}", flush=True)
    for mtu in arguments.mtu:
        for direction in ("out", "in", "published"):
            results: dict[str, list[tuple[float, float]]] = {how: [] for how in STACKS}
            for _ in range(arguments.rounds):
                for how in STACKS:
                    results[how].append(in_fresh_world(how, mtu, direction, arguments.seconds))
            ours, peer = (statistics.median(g for g, _ in results[how]) for how in STACKS)
            cpu = [statistics.median(c for _, c in results[how]) for how in STACKS]
            name = f"{direction}, MTU {mtu}"
            print(f"{name:24}{ours:>10.2f}{peer:>14.2f}{ours / peer:>8.2f}{cpu[0]:>10.3f}{cpu[1]:>10.3f}", flush=True)


def in_fresh_world(how: str, mtu: int, direction: str, seconds: int) -> tuple[float, float]:
    def body() -> tuple[float, float]:
        with World() as world:
            return measure(world, how, mtu, direction, seconds)

    return in_userns(body, net=True, pid=True)


if __name__ == "__main__":
    main()
