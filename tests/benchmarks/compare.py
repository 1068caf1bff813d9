"""Compare rootless with podman, runc and crun on this machine: commands in alternation, medians, ratios.

    python -m tests.benchmarks.compare run|pull|runtime|memory --work DIRECTORY --results FILE [--rounds N]

Absolute times move by a factor of two from hour to hour; ratios of medians from one alternating run hardly do. Beside
each time stands its multiple of a bare `python -IS -c pass`, measured in the same rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import images, registry
from tests.support.cli import launcher

BARE = "python -IS -c pass"
# case -> (required, goal): our median over the peer's; the figures are Debian 12's podman 4.3 with runc
TARGETS = {
    "run --network none": (0.20, 0.12),
    "run, private network": (0.25, 0.15),
    "run --storage-driver fuse": (0.35, 0.25),
    "cold pull and run": (0.40, 0.25),
}
# the OCI runtime over Debian 12's runc
TARGETS_RUNTIME = {"run of a bundle": (0.80, 0.60), "create, start, delete": (1.30, 1.10)}
# the same against Debian 13's podman 5.4 with crun
TARGETS_5 = {"run --network none": (0.40, 0.28), "run, private network": (0.45, 0.30)}


@dataclass(frozen=True)
class Contender:
    """A command to time; `before` runs untimed before each round."""

    case: str
    name: str
    argv: Sequence[str]
    before: Callable[[], None] | None = None
    status: int = 0


def timed(argv: Sequence[str], environ: dict[str, str], status: int = 0) -> float:
    """Return the seconds that *argv* took, which must end with *status*; its output is dropped."""
    null = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, "/dev/null", os.O_WRONLY, 0),
    ]
    begin = time.perf_counter()
    pid = os.posix_spawn(argv[0], list(argv), environ, file_actions=null)
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    took = time.perf_counter() - begin
    if ended != status:
        raise ChildProcessError(f"status {ended} instead of {status}: {' '.join(argv)}")
    return took


def alternate(
    contenders: Sequence[Contender], rounds: int, environ: dict[str, str]
) -> dict[tuple[str, str], list[float]]:
    """Time each contender once in each round; the first round warms up and does not count."""
    times: dict[tuple[str, str], list[float]] = {(c.case, c.name): [] for c in contenders}
    for number in range(rounds + 1):
        for contender in contenders:
            key = contender.case, contender.name
            if key not in times:
                continue
            if contender.before is not None:
                contender.before()
            try:
                took = timed(contender.argv, environ, contender.status)
            except ChildProcessError as error:
                if number:
                    raise
                print(f"not measured: {contender.case}, {contender.name}: {error}", file=sys.stderr)
                del times[key]
                continue
            if number:
                times[key].append(took)
        print(f"\rround {number}/{rounds}", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return times


def small_image() -> images.Image:
    """Return an image of four layers; podman cannot unpack hard links into lower layers, as `images.sample()` has."""
    rest = [images.Layer((images.Directory("data"), images.File(f"data/{n}", b"x" * n))) for n in (1, 2, 3)]
    return images.Image((images.Layer(images.busybox_members()), *rest), {"Env": ["PATH=/bin"], "Cmd": ["/bin/sh"]})


class Bench:
    """What all verbs share: places, environment, the peers that are here."""

    def __init__(self, work: Path, rounds: int) -> None:
        self.work, self.rounds = work, rounds
        self.environ = {key: os.environ[key] for key in ("PATH", "HOME", "USER", "LANG") if key in os.environ}
        self.environ["XDG_RUNTIME_DIR"] = str(work / "runtime")
        for name in ("runtime", "run", "tmp", "peer"):
            (work / name).mkdir(mode=0o700, exist_ok=True)
        self.podman_version = self.words("podman", "--version")[-1:] if shutil.which("podman") else []
        self.modern = bool(self.podman_version) and self.podman_version[0] >= "5"
        self.targets = (TARGETS_5 if self.modern else TARGETS) | TARGETS_RUNTIME

    def words(self, *argv: str) -> list[str]:
        return subprocess.run(argv, capture_output=True, text=True, check=True, env=self.environ).stdout.split()

    def ours(self, *words: str, driver: str = "overlay") -> list[str]:
        roots = [f"--root={self.work}/data", f"--runroot={self.work}/run", f"--tmpdir={self.work}/tmp"]
        return [launcher(), *roots, f"--storage-driver={driver}", *words]

    def podman(self, *words: str, fuse: bool = False) -> list[str]:
        path = shutil.which("podman")
        if path is None:
            raise SystemExit("no podman to compare with (Debian: podman)")
        kind = "fuse" if fuse else "overlay"
        roots = [
            f"--root={self.work}/peer-{kind}",
            f"--runroot={self.work}/peer/{kind}",
            "--storage-driver=overlay",
        ]
        options = ["--storage-opt=overlay.mount_program=/usr/bin/fuse-overlayfs"] if fuse else []
        return [path, *roots, *options, "--cgroup-manager=cgroupfs", "--events-backend=file", *words]

    def peer_runtime(self) -> str:
        """Return crun where it works (cgroup v2), runc where not."""
        v2 = Path("/sys/fs/cgroup/cgroup.controllers").exists()
        return "crun" if v2 and shutil.which("crun") else "runc"

    def setup(self, argv: Sequence[str]) -> None:
        done = subprocess.run(
            argv, capture_output=True, text=True, check=False, env=self.environ, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise SystemExit(f"{' '.join(argv)}: {done.stderr.strip()}")

    def bare(self) -> Contender:
        return Contender("", BARE, [os.path.realpath(sys.executable), "-IS", "-c", "pass"])

    # ---- verbs

    def run(self, host: str) -> dict[tuple[str, str], list[float]]:
        """Short runs of an image that is there."""
        image = small_image().push(host, "bench")
        self.setup(self.ours("pull", "-q", image))
        contenders = [self.bare(), Contender("", "rootless --version", [launcher(), "--version"])]
        runtime = f"--runtime={self.peer_runtime()}"
        cases = [
            ("run --network none", "overlay", ["--network=none"], ["--network=none"]),
            ("run, private network", "overlay", [], [] if self.modern else ["--network=slirp4netns"]),
        ]
        if shutil.which("fuse-overlayfs"):
            cases.append(("run --storage-driver fuse", "fuse", ["--network=none"], ["--network=none"]))
        for case, driver, ours, theirs in cases:
            fuse = driver == "fuse"
            contenders.append(
                Contender(case, "rootless", self.ours("run", "--rm", *ours, image, "true", driver=driver))
            )
            self.setup(self.podman("pull", "-q", "--tls-verify=false", image, fuse=fuse))
            words = self.podman(runtime, "run", "--rm", *theirs, image, "true", fuse=fuse)
            contenders.append(Contender(case, "podman", words))
        driver_used = self.words(*self.podman("info", "--format", "{{.Store.GraphDriverName}}"))
        if driver_used != ["overlay"]:
            raise SystemExit(f"podman uses {driver_used}, not overlay: nothing is compared")
        return alternate(contenders, self.rounds, self.environ)

    def pull(self, host: str) -> dict[tuple[str, str], list[float]]:
        """A cold pull of five layers of 100 MB in all, and a run."""
        image = images.bench_image().push(host, "large")
        case = "cold pull and run"

        def forget(argv: list[str]) -> Callable[[], None]:
            def before() -> None:
                subprocess.run(argv, env=self.environ, capture_output=True, check=False)
                os.sync()

            return before

        ours = self.ours("run", "-q", "--rm", "--network=none", image, "true")
        runtime = f"--runtime={self.peer_runtime()}"
        theirs = self.podman(runtime, "run", "-q", "--tls-verify=false", "--rm", "--network=none", image, "true")
        contenders = [
            self.bare(),
            Contender(case, "rootless", ours, forget(self.ours("rmi", "-f", image))),
            Contender(case, "podman", theirs, forget(self.podman("rmi", "-f", image))),
        ]
        return alternate(contenders, min(self.rounds, 5), self.environ)

    def runtime(self, _host: str) -> dict[tuple[str, str], list[float]]:
        """A bundle of its own, with no engine around: run, and the verbs that an engine calls, back to back."""
        bundle = self.work / "bundle"
        self.unpack_busybox(bundle / "rootfs")
        contenders = [self.bare()]
        for name, argv in (("rootless-oci", [launcher("rootless-oci")]), ("runc", ["runc"]), ("crun", ["crun"])):
            path = shutil.which(argv[0])
            if path is None or (name == "crun" and self.peer_runtime() != "crun"):
                continue
            place = self.bundle_for(bundle, name)
            words = [path, f"--root={self.work}/run/{name}", "run", f"--bundle={place}", f"bench-{name}"]
            contenders.append(Contender("run of a bundle", name, words))
            begin = f'"$0" --root={self.work}/run/{name}'
            script = f"{begin} create --bundle={place} step && {begin} start step && {begin} delete --force step"
            contenders.append(Contender("create, start, delete", name, ["/bin/sh", "-c", script, path]))
            if name == "rootless-oci":
                print(f"peak RSS of {name} run: {self.peak_kib(place, path) / 1024:.1f} MiB (at most 15)")
        return alternate(contenders, self.rounds, self.environ)

    def peak_kib(self, place: Path, program: str) -> int:
        """Return the largest resident size of `run` up to the time when its container is there."""
        spec = json.loads((place / "config.json").read_text())
        spec["process"]["args"] = ["/bin/sh", "-c", "echo up; read -r _"]
        (place / "waits.json").write_text(json.dumps(spec))
        words = [program, f"--root={self.work}/run/peak", "run", f"--bundle={place}", "--config=waits.json", "peak"]
        with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=self.environ) as process:
            assert process.stdout is not None and process.stdin is not None
            process.stdout.readline()
            status = Path(f"/proc/{process.pid}/status").read_text()
            process.stdin.close()
        return int(status.partition("VmHWM:")[2].split()[0])

    def unpack_busybox(self, root: Path) -> None:
        for member in images.busybox_members():
            path = root / member.path
            path.parent.mkdir(parents=True, exist_ok=True)
            match member:
                case images.Directory():
                    path.mkdir(exist_ok=True)
                case images.File():
                    path.write_bytes(member.data)
                    path.chmod(member.mode)
                case images.Symlink() if not path.is_symlink():
                    path.symlink_to(member.target)
                case _:
                    pass

    def bundle_for(self, bundle: Path, name: str) -> Path:
        """Return a copy of the bundle with the rootless config.json of runc, the same for all."""
        place = self.work / f"bundle-{name}"
        place.mkdir(exist_ok=True)
        if not (place / "config.json").exists():
            subprocess.run(["runc", "spec", "--rootless"], cwd=place, check=True, env=self.environ)
        spec: dict[str, Any] = json.loads((place / "config.json").read_text())
        spec["process"] |= {"terminal": False, "args": ["/bin/true"]}
        spec["process"]["capabilities"].pop("ambient", None)  # not inheritable in what runc writes: a warning each time
        spec["root"] = {"path": str(bundle / "rootfs"), "readonly": True}
        (place / "config.json").write_text(json.dumps(spec))
        return place


def memory(bench: Bench, host: str) -> dict[str, int]:
    """Return the resident KiB of our processes around one idle container with FUSE and a network."""
    image = small_image().push(host, "bench")
    bench.setup(bench.ours("pull", "-q", image))
    words = bench.ours("run", "--rm", "-i", image, "sh", "-c", "echo up; read -r _", driver="fuse")
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=bench.environ) as process:
        assert process.stdout is not None and process.stdin is not None
        process.stdout.readline()
        time.sleep(2)  # the supervisor imports trio after the start
        found = {}
        for name in os.listdir("/proc"):
            if not name.isdigit():
                continue
            try:
                status = dict(
                    line.split(":", 1) for line in Path(f"/proc/{name}/status").read_text().splitlines() if ":" in line
                )
            except OSError:
                continue
            if status["Name"].strip().startswith("rootless:[") and int(status["Uid"].split()[0]) == os.getuid():
                found[status["Name"].strip()] = int(status.get("VmRSS", "0 kB").split()[0])
        process.stdin.close()
        process.wait()
    return found


def report(bench: Bench, times: dict[tuple[str, str], list[float]]) -> dict[str, Any]:
    """Print the table and return it as JSON."""
    medians = {key: statistics.median(values) for key, values in times.items()}
    bare = medians["", BARE]
    rows: list[dict[str, Any]] = []
    print(f"\n{'case':28} {'program':22} {'median ms':>10} {'x bare':>7} {'x peer':>7}  required / goal")
    for (case, name), median in medians.items():
        row: dict[str, Any] = {"case": case, "program": name, "median_s": median, "times_bare": median / bare}
        peer = next((medians[key] for key in medians if key[0] == case and key[1] in {"podman", "runc"}), None)
        ratio, aim = "", ""
        if case and name.startswith("rootless") and peer is not None:
            row["times_peer"] = median / peer
            ratio = f"{median / peer:7.3f}"
            if case in bench.targets:
                row["required"], row["goal"] = bench.targets[case]
                aim = "{:.2f} / {:.2f}".format(*bench.targets[case])
        if name == "rootless --version":
            aim = "1.5 x bare"
        rows.append(row | {"samples": len(times[case, name]), "min_s": min(times[case, name])})
        print(f"{case:28} {name:22} {median * 1e3:10.1f} {median / bare:7.2f} {ratio:>7}  {aim}")
    return {"rows": rows, "podman": bench.podman_version, "runtime": bench.peer_runtime()}


def main() -> None:
    parser = argparse.ArgumentParser(prog="scripts/bench")
    parser.add_argument("verb", choices=["run", "pull", "runtime", "memory"])
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--results", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    bench = Bench(options.work, options.rounds)
    with registry.docker_registry(options.work / "registry") as server:
        if options.verb == "memory":
            found = memory(bench, server.host)
            result: dict[str, Any] = {"resident_kib": found}
            for name, size in sorted(found.items()):
                print(f"{name:32} {size / 1024:6.1f} MiB (at most 30)")
        else:
            result = report(bench, getattr(bench, options.verb)(server.host))
    result |= {"kernel": platform.release(), "python": platform.python_version(), "processors": os.cpu_count()}
    options.results.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
