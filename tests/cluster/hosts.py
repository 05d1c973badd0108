"""Hosts on one machine: each a set of namespaces with an address on a bridge, Ray between them, S3 at one more address. For scripts that run
in namespaces themselves (isolation.py), and so may take addresses and ports as they like."""

import os
import secrets
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
import numpy as np
import pyarrow.parquet as pq
from s3_servers import Faulty, environment, faulty, rclone

from raysynth.audit import verify
from raysynth.cluster.session import ALIVE, UNASKED
from raysynth.runs import Run
from raysynth.sources.examples import Examples

NETWORK = "10.77.0"
S3_ADDRESS = f"{NETWORK}.254"
RAY = [sys.executable, "-c", "from ray.scripts.scripts import main; main()"]  # its own first line may name a path with a space
NODE = {**ALIVE, **UNASKED, "RAY_worker_niceness": "0"}

RECIPE = """
name: wine
source: s3://bucket/real/*.parquet
evaluate: null
train: {max_epochs: 6}
generate: {rows: 9000, rows_per_part: 250, workers: 3}
mix: {real: 1.0, synthetic: 1.0}
"""
SHARDS = 6
START_ATTEMPTS = 5  # a node has 30 s to start, whatever else this machine does; Ray knows no setting for that
START_SECONDS = 240.0
BRIDGE_ADDRESS = (
    "02:77:00:00:00:fe"  # said, since else it is the lowest of its hosts': each new one could cut off the others for seconds
)
DEADLINE_SECONDS = 900.0  # of a step, on a machine that does other things as well


class Host:
    """A machine as far as Ray can see: address, host name, shared memory and temporary folder are its own; the disk below is shared."""

    def __init__(self, number: int, ray_folder: Path, variables: dict[str, str]) -> None:
        self.number, self.address = number, f"{NETWORK}.{number}"
        self.ray_folder, self.variables = ray_folder, variables
        ray_folder.mkdir(exist_ok=True)
        own = f"mount -t tmpfs -o size=400m tmpfs /dev/shm && mount -t tmpfs tmpfs {ray_folder} && hostname host-{number}"
        shell = ["sh", "-c", f"{own} && ip link set lo up && echo ready && exec sleep infinity"]
        self.holder = subprocess.Popen(["unshare", "--net", "--mount", "--uts", *shell], stdout=subprocess.PIPE, text=True)
        assert self.holder.stdout is not None and self.holder.stdout.readline() == "ready\n"
        ip("link", "add", f"host-{number}", "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        ip("link", "set", f"host-{number}", "master", "bridge", "up")
        inside = f"ip address add {self.address}/24 dev eth0 && ip link set eth0 up"
        assert self.enter(["sh", "-c", inside]).wait() == 0

    def enter(self, command: list[str], log: Path | None = None, **variables: str) -> "subprocess.Popen[bytes]":
        """The command on this host; the process that comes back is the command itself."""
        inside = ["nsenter", "--target", str(self.holder.pid), "--net", "--mount", "--uts", "--", *command]
        with (log or Path(os.devnull)).open("ab") as lines:
            return subprocess.Popen(inside, env=os.environ | self.variables | variables, stdout=lines, stderr=lines)

    def start_ray(self, head: "Host | None" = None, *, cpus: int = 1, log: Path | None = None, **variables: str) -> None:
        """A node of `head`'s cluster, or the head itself. That it starts is no claim of a test, so it may take several attempts."""
        words = ["--head", "--port=6379", f"--temp-dir={self.ray_folder}", "--include-dashboard=false"]
        words = words if head is None else [f"--address={head.address}:6379"]
        words += [f"--node-ip-address={self.address}", f"--num-cpus={cpus}", "--object-store-memory=100000000"]
        for _ in range(START_ATTEMPTS):
            started = self.enter([*RAY, "start", *words, "--disable-usage-stats"], log, **variables)
            if started.wait(START_SECONDS) == 0:
                return
            self.end_processes()
        raise RuntimeError(f"host {self.number}: Ray did not start in {START_ATTEMPTS} attempts")

    def pids(self, title: str = "") -> list[int]:
        """Its processes with this in their command lines; of a Ray worker that is the task or actor that it runs."""
        return [pid for pid, command in self.processes() if title in command]

    def cut(self) -> None:
        ip("link", "set", f"host-{self.number}", "down")

    def mend(self) -> None:
        ip("link", "set", f"host-{self.number}", "up")

    def end_processes(self) -> None:
        for pid in self.pids():
            kill(pid)

    def processes(self) -> Iterator[tuple[int, str]]:
        """(pid, command line) of each, but for the one that holds the namespaces."""
        own = Path(f"/proc/{self.holder.pid}/ns/net").readlink()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and int(entry.name) != self.holder.pid and (entry / "ns/net").readlink() == own:
                    yield int(entry.name), (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:  # it has just ended
                continue


class Cluster:
    """Hosts that come and go, and the runs of drivers on them. `proxy` stands before the S3 server and knows who put what."""

    def __init__(self, folder: Path, short: Path, proxy: Faulty) -> None:
        self.folder, self.proxy, self.ray_folder = folder, proxy, short / "ray"
        self.variables = {**environment(proxy.url), **NODE, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
        self.hosts: dict[int, Host] = {}

    def add(self, number: int, *, cpus: int = 1, **variables: str) -> Host:
        """Host `number`, as a node of the cluster; host 1 is the head."""
        host = self.hosts.get(number) or Host(number, self.ray_folder, self.variables)
        self.hosts[number] = host
        host.start_ray(None if number == 1 else self.hosts[1], cpus=cpus, log=self.folder / f"host-{number}.log", **variables)
        return host

    def place(self, run: str) -> Path:
        """Where the objects of a run lie on the S3 server's disk: it is watched there, and read without the network."""
        return self.folder / "s3" / "bucket" / "runs" / run

    def driver(self, recipe: Path, run: str, *overrides: str, command: str = "run", on: int | None = 1) -> "Driver":
        return Driver(self, recipe, run, overrides, command, on)

    def names(self, run: str) -> dict[str, list[str]]:
        """What decides whether two runs are the same: the hashes of the model's files, the names (and so the hashes) of all parts."""
        found = Run(str(self.place(run)))
        made = {name: found.current(name) for name in ("prepared", "model", "synthetic", "mixed")}
        return {
            name: sorted(folder.manifest()["sha256" if name == "model" else "name"].to_pylist())
            for name, folder in made.items()
            if folder is not None
        }

    def problems(self, run: str) -> list[str]:
        seen = verify(Run(str(self.place(run))))
        return [*seen.problems, *(f"foreign: {path}" for path in seen.foreign)]

    def makers(self, run: str, folder: str) -> Counter[str]:
        """How many files of parts each host (by its address) has made, again too. Whoever has made one asks the store if it is there, and
        puts it if not; reading one is a HEAD as well, then a GET; after a PUT that failed it is looked for once more."""
        below = f"/bucket/runs/{run}/{folder}/"
        made: Counter[str] = Counter()
        for client, method, path, fault in list(self.proxy.seen):
            if path.startswith(below) and "/part-" in path:
                asked = method == "HEAD" and fault in ("", "delay")
                other = method == "GET" or (method == "PUT" and fault in ("503", "reset"))
                made[client] += asked - other
        return +made


class Driver:
    """`raysynth run` on a host of the cluster, or (on=None) beside it on a Ray of its own."""

    def __init__(self, cluster: Cluster, recipe: Path, run: str, overrides: tuple[str, ...], command: str, on: int | None) -> None:
        self.place, self.log = cluster.place(run), cluster.folder / f"{run}.log"
        words = [sys.executable, "-m", "raysynth", command, str(recipe), "--set", f"run=s3://bucket/runs/{run}"]
        words += [word for override in overrides for word in ("--set", override)]
        if on is None:
            with self.log.open("ab") as lines:
                self.process = subprocess.Popen(words, env=os.environ | environment(cluster.proxy.url), stdout=lines, stderr=lines)
        else:
            self.process = cluster.hosts[on].enter(words, self.log, RAY_ADDRESS=f"{cluster.hosts[1].address}:6379")

    def wait_for(self, pattern: str, count: int = 1) -> None:
        """Until so many files of the run match."""
        self.until(lambda: len(list(self.place.glob(pattern))) >= count, f"{count} of {pattern}")

    def until(self, holds: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not holds():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended before {what}: {self.told()}")
            assert time.monotonic() < deadline, f"no {what} in {DEADLINE_SECONDS:.0f} s: {self.told()}"
            time.sleep(0.02)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self, code: int = 0) -> str:
        """What it said, once it has ended with this exit code."""
        assert self.process.wait(DEADLINE_SECONDS) == code, self.told()
        return self.told()

    def told(self) -> str:
        return self.log.read_text()[-4000:]


def write_recipe(folder: Path) -> Path:
    """The recipe and, on the S3 server's disk, the rows that it names: in several files, so that there is work for several workers."""
    source = Examples("examples://wine")
    [(rows, _)] = source.read(source.shards(source.files())[0])
    rows = rows.drop_columns([name for name in rows.column_names if name.startswith("_")])
    real = folder / "s3" / "bucket" / "real"
    real.mkdir(parents=True)
    for number, piece in enumerate(np.array_split(np.arange(rows.num_rows), SHARDS)):
        pq.write_table(rows.take(piece), real / f"{number}.parquet")
    (folder / "wine.yaml").write_text(RECIPE)
    return folder / "wine.yaml"


@contextmanager
def cluster(folder: Path, short: Path, *, seed: int = 0) -> Iterator[Cluster]:
    """A bridge and an S3 server; hosts are added to it. All ends with the namespaces around it, the processes here and now."""
    ip("link", "add", "bridge", "address", BRIDGE_ADDRESS, "type", "bridge")
    ip("address", "add", f"{S3_ADDRESS}/24", "dev", "bridge")
    ip("link", "set", "bridge", "up")
    names = folder / "names"  # as on Debian, where a host's own name is a loopback's, which no other host reaches
    names.write_text("127.0.0.1 localhost\n" + "".join(f"127.0.1.1 host-{number}\n" for number in range(1, 10)))
    subprocess.run(["mount", "--bind", str(names), "/etc/hosts"], check=True, timeout=30)
    with rclone(folder / "s3") as endpoint, faulty(endpoint, share=0.0, seed=seed, address=S3_ADDRESS) as proxy:
        made = Cluster(folder, short, proxy)
        try:
            yield made
        finally:
            for host in made.hosts.values():
                host.end_processes()
                host.holder.kill()


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=30)


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it was quicker
        return
