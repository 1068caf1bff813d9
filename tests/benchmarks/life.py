"""Live with containers: every verb of a day beside podman's, in alternation, and what our processes weigh.

    python -m tests.benchmarks.life --work DIRECTORY --results FILE [--rounds N]

Each step is done by us and by podman in turn; ratios are those of medians (a row of 100 starts: of sums).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.benchmarks.compare import BARE, Bench, small_image, timed
from tests.support import registry
from tests.support.cli import launcher

# case -> (required, goal), against podman 4.3 with runc and against 5.4 with crun
_VERB, _VERB_5 = (0.30, 0.20), (0.45, 0.30)
_LOOK, _LOOK_5 = (0.40, 0.30), (0.50, 0.38)
LOOKS = ("logs", "inspect", "images", "top", "port")
MANY = 100
EARLY = "exec just after run -d"  # without a target: our supervisor is about to import trio
TARGETS = {
    "run -d --network none": (0.25, 0.15), "run -d, private network": (0.25, 0.15), "exec NAME true": (0.15, 0.08),
    "ps, 50 running": (0.25, 0.15), "ps, 100 running": (0.25, 0.25), "100 starts in a row": (0.30, 0.30),
    **dict.fromkeys(("start", "stop", "kill", "rm"), _VERB), **dict.fromkeys(LOOKS, _LOOK),
}  # fmt: skip
TARGETS_5 = {
    "run -d --network none": (0.45, 0.35), "run -d, private network": (0.45, 0.35), "exec NAME true": (0.20, 0.12),
    "ps, 50 running": (0.40, 0.30), "ps, 100 running": (0.40, 0.40), "100 starts in a row": (0.50, 0.50),
    **dict.fromkeys(("start", "stop", "kill", "rm"), _VERB_5), **dict.fromkeys(LOOKS, _LOOK_5),
}  # fmt: skip
PRIVATE_KIB = {"none": 30 * 1024, "network": 60 * 1024, "network and fuse": 60 * 1024}
ENDS_ON_TERM = ("sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait")
SETTLED_SECONDS = 2.0
# before each command of a day, ours and podman's alike: what the one before left running (podman's cleanup processes,
# our supervisors' imports) is not to be paid for by the next
QUIET_SECONDS = 0.15


class Pair:
    """Our command line and podman's, given the same words in turn."""

    def __init__(self, bench: Bench) -> None:
        runtime = f"--runtime={bench.peer_runtime()}"
        self.bench = bench
        self.sides: dict[str, Callable[..., list[str]]] = {
            "rootless": bench.ours,
            "podman": lambda *words: bench.podman(runtime, *words),
        }
        self.times: dict[tuple[str, str], list[float]] = {}
        self.missing: set[tuple[str, str]] = set()

    def untimed(self, *words: str) -> None:
        for argv in self.sides.values():
            self.bench.setup(argv(*words))

    def timed(self, case: str, *words: str, count: bool = True, quiet: float = QUIET_SECONDS) -> None:
        """Time both, each after *quiet* seconds; a side that cannot do it is left out from then on."""
        for name, argv in self.sides.items():
            if (case, name) in self.missing:
                continue
            time.sleep(quiet)
            try:
                took = timed(argv(*words), self.bench.environ)
            except ChildProcessError as error:
                print(f"not measured: {case}, {name}: {error}", file=sys.stderr)
                self.missing.add((case, name))
                self.times.pop((case, name), None)
                continue
            if count:
                self.times.setdefault((case, name), []).append(took)

    def alone(self, case: str, name: str, argv: Sequence[str]) -> None:
        self.times.setdefault((case, name), []).append(timed(argv, self.bench.environ))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def day(pair: Pair, image: str, rounds: int) -> None:
    """A container from `run -d` to `rm`, and what is asked of it meanwhile."""
    quiet = ("--log-driver=k8s-file", "--network=none")
    private = ("--log-driver=k8s-file",) if pair.bench.modern else ("--log-driver=k8s-file", "--network=slirp4netns")
    for name, argv in pair.sides.items():
        extra = [] if name == "rootless" else list(private[1:])
        pair.bench.setup(argv("run", "-d", "--log-driver=k8s-file", *extra, "--name=served",
                              f"-p=127.0.0.1:{free_port()}:80", image, "sleep", "10000"))  # fmt: skip
    pair.untimed("run", "-d", *quiet, "--name=lines", image, "sh", "-c", "seq 100; sleep 10000")
    bare = pair.bench.bare().argv
    for number in range(rounds + 1):
        count = number > 0
        if count:
            pair.alone("", BARE, bare)
            pair.alone("", "rootless --version", [launcher(), "--version"])
        pair.timed("run -d --network none", "run", "-d", *quiet, "--name=one", image, "sleep", "10000", count=count)
        for name, argv in pair.sides.items():
            network: tuple[str, ...] = private if name == "podman" else private[:1]
            words = argv("run", "-d", *network, "--name=net", image, "sleep", "10000")
            time.sleep(QUIET_SECONDS)
            took = timed(words, pair.bench.environ)
            if count:
                pair.times.setdefault(("run -d, private network", name), []).append(took)
        pair.timed(EARLY, "exec", "one", "true", count=count, quiet=0.0)
        pair.timed("exec NAME true", "exec", "lines", "true", count=count)
        pair.timed("inspect", "inspect", "one", count=count)
        pair.timed("top", "top", "one", count=count)
        pair.timed("logs", "logs", "lines", count=count)
        pair.timed("images", "images", count=count)
        pair.timed("port", "port", "served", count=count)
        pair.untimed("rm", "-f", "-t", "0", "one", "net")
        pair.untimed("create", *quiet, "--name=stopped", image, *ENDS_ON_TERM)
        pair.timed("start", "start", "stopped", count=count)
        time.sleep(0.2)  # the shell sets its trap
        pair.timed("stop", "stop", "stopped", count=count)
        pair.untimed("start", "stopped")
        pair.timed("kill", "kill", "stopped", count=count)
        pair.untimed("wait", "stopped")
        pair.timed("rm", "rm", "stopped", count=count)
        print(f"\rround {number}/{rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    pair.untimed("rm", "-f", "-t", "0", "lines", "served")


def crowd(pair: Pair, image: str, rounds: int) -> None:
    """A hundred containers, and `ps` among them.

    The kernel allows a user 200 keys (keyrings(7)), one for each container of both: podman, which can, makes none.
    """
    config = pair.bench.work / "containers.conf"
    config.write_text("[containers]\nkeyring = false\n")
    pair.bench.environ["CONTAINERS_CONF"] = str(config)
    for number in range(1, MANY + 1):
        words = ("run", "-d", "--log-driver=k8s-file", "--network=none", f"--name=many{number}", image)
        pair.timed("100 starts in a row", *words, "sleep", "10000", quiet=0.0)
        if number in (MANY // 2, MANY):
            time.sleep(SETTLED_SECONDS)
            for turn in range(rounds + 1):
                pair.timed(f"ps, {number} running", "ps", count=turn > 0)
        print(f"\r{number}/{MANY} running", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    for key, values in pair.times.items():
        if key[0] == "100 starts in a row":
            pair.times[key] = [sum(values)]


def weights(bench: Bench, image: str) -> dict[str, dict[str, int]]:
    """Return the private KiB of each of our processes around one idle container, by what it uses."""
    found = {}
    for case, words, driver in (
        ("none", ["--network=none"], "overlay"),
        ("network", [], "overlay"),
        ("network and fuse", [], "fuse"),
    ):
        bench.setup(bench.ours("run", "-d", "--name=heavy", *words, image, "sleep", "10000", driver=driver))
        time.sleep(SETTLED_SECONDS)  # trio is imported after the start
        found[case] = private_kib()
        bench.setup(bench.ours("rm", "-f", "-t", "0", "heavy", driver=driver))
    return found


def private_kib() -> dict[str, int]:
    """Return the private memory of the processes that call themselves rootless:[...].

    The servers are not dumpable, so that their smaps_rollup is closed to their own user; RssAnon is open, and what it
    leaves out are the pages of files that they have written to.
    """
    found: dict[str, int] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            status = keyed(Path(f"/proc/{name}/status").read_text())
            if not status["Name"].startswith("rootless:[") or int(status["Uid"].split()[0]) != os.getuid():
                continue
            size = int(status["RssAnon"].split()[0])
            rollup = keyed(Path(f"/proc/{name}/smaps_rollup").read_text())
            size = sum(int(rollup[key].split()[0]) for key in ("Private_Clean", "Private_Dirty"))
        except PermissionError:
            pass
        except (OSError, KeyError, ValueError):
            continue
        found[status["Name"]] = size
    return found


def keyed(text: str) -> dict[str, str]:
    return {key: value.strip() for key, _, value in (line.partition(":") for line in text.splitlines()) if value}


def report(bench: Bench, times: dict[tuple[str, str], list[float]]) -> list[dict[str, Any]]:
    """Print the table and return its rows."""
    targets = TARGETS_5 if bench.modern else TARGETS
    medians = {key: statistics.median(values) for key, values in times.items()}
    bare = medians["", BARE]
    rows: list[dict[str, Any]] = []
    print(f"\n{'case':26} {'ours ms':>9} {'podman ms':>10} {'x bare':>7} {'ratio':>6}  required / goal")
    print(f"{BARE:26} {bare * 1e3:9.1f}")
    print(f"{'rootless --version':26} {medians['', 'rootless --version'] * 1e3:9.1f}")
    early = {name: medians.get((EARLY, name)) for name in ("rootless", "podman")}
    print(f"{EARLY:26} {(early['rootless'] or 0) * 1e3:9.1f} {(early['podman'] or 0) * 1e3:10.1f}")
    for case, (required, goal) in targets.items():
        ours, theirs = medians.get((case, "rootless")), medians.get((case, "podman"))
        if ours is None or theirs is None:
            continue
        ratio = ours / theirs
        verdict = "goal" if ratio <= goal else "met" if ratio <= required else "MISSED"
        rows.append({"case": case, "rootless_s": ours, "podman_s": theirs, "ratio": ratio, "required": required,
                     "goal": goal, "times_bare": ours / bare, "samples": len(times[case, "rootless"])})  # fmt: skip
        print(f"{case:26} {ours * 1e3:9.1f} {theirs * 1e3:10.1f} {ours / bare:7.2f} {ratio:6.3f}  "
              f"{required:.2f} / {goal:.2f}  {verdict}")  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench life")
    parser.add_argument("verb", choices=["life"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--part", choices=["day", "crowd", "memory"], action="append", default=[])
    options = parser.parse_args()
    parts = options.part or ["day", "crowd", "memory"]
    bench = Bench(options.work, options.rounds)
    pair = Pair(bench)
    result: dict[str, Any] = {}
    with registry.docker_registry(options.work / "registry") as server:
        image = small_image().push(server.host, "bench")
        bench.setup(bench.ours("pull", "-q", image))
        bench.setup(bench.podman("pull", "-q", "--tls-verify=false", image))
        pair.alone("", BARE, bench.bare().argv)
        pair.alone("", "rootless --version", [launcher(), "--version"])
        try:
            if "day" in parts:
                day(pair, image, options.rounds)
            if "crowd" in parts:
                crowd(pair, image, options.rounds)
        finally:
            for argv in pair.sides.values():
                subprocess.run(
                    argv("rm", "-f", "-a", "-t", "0"), env=bench.environ, capture_output=True, check=False, timeout=300
                )
        result["rows"] = report(bench, pair.times)
        if "memory" in parts:
            result["private_kib"] = weights(bench, image)
            for case, sizes in result["private_kib"].items():
                each = ", ".join(f"{name} {size / 1024:.1f}" for name, size in sorted(sizes.items()))
                total = sum(sizes.values()) / 1024
                print(f"private MiB, {case:18} {total:6.1f} of {PRIVATE_KIB[case] // 1024}: {each}")
    result |= {
        "podman": bench.podman_version,
        "runtime": bench.peer_runtime(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processors": os.cpu_count(),
    }
    options.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
