"""Runs on three hosts while things die by a plan that a seed draws: each must end as an undisturbed one does, resubmitted once at most.

By hand, one seed and its time line: python tests/cluster/chaos.py SEED
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from hosts import Cluster, Driver, Host, cluster, kill, write_recipe
from isolation import isolated

from raysynth.draws import Draws
from raysynth.runs import Run

KINDS = ("worker", "raylet", "driver", "host")
STAGES = {  # its folder, what is there once it has begun, what it leaves behind at each task's end, before how many of these it is struck
    "prepare": ("prepared", "prepared/*/_raysynth/plan.json", "markers/*", 4),
    "train": ("model", "encoded/*/_raysynth/outcome.json", "tmp/checkpoints/*", 3),
    "generate": ("synthetic", "synthetic/*/_raysynth/plan.json", "markers/*", 6),
    "mix": ("mixed", "mixed/*/_raysynth/plan.json", "markers/*", 6),
}
IDLE = ("IDLE", "Stats", "Coordinator", "Tracker", "Cleaner", "Agent")  # workers that do nothing of ours
S3_SHARE = 0.05  # of the requests fail
WORKERS = 3
QUEUED = 2  # tasks that a worker has at once: the one that it does, and the next
SUBMISSIONS = 2
RUN_SECONDS = 1200.0
MEMBER_SECONDS = 40.0  # a host that is back and lives on for so long was never taken for dead
GONE_SECONDS = 90.0  # within which the workers of a dead node must have ended


@dataclass(frozen=True)
class Fault:
    """What dies, when (so many tasks of the stage are done, and a while after that), on which host; one that is cut off comes back."""

    kind: str
    stage: str
    tasks: int
    wait_seconds: float
    host: int
    away_seconds: float
    victim: float


def drawn(seed: int) -> list[Fault]:
    """One fault of each kind, each in another stage; host 1 has the driver and the head, without which there is no cluster."""
    draws = Draws.range(seed, "chaos", 0, len(STAGES))
    kinds = [KINDS[number] for number in np.argsort(draws.uniform("kind"))]
    uniform = {name: draws.uniform(name) for name in ("tasks", "wait", "host", "away", "victim")}
    return [
        Fault(
            kind=kinds[number],
            stage=stage,
            tasks=int(uniform["tasks"][number] * STAGES[stage][3]),
            wait_seconds=round(0.5 * float(uniform["wait"][number]), 2),
            host=2 + int(uniform["host"][number] * 2),
            away_seconds=round(2 + 38 * float(uniform["away"][number]), 1),
            victim=float(uniform["victim"][number]),
        )
        for number, stage in enumerate(STAGES)
    ]


@dataclass
class Chaos:
    """One run under one plan. `broken`: what should have held and did not."""

    made: Cluster
    recipe: Path
    seed: int
    began: float = field(default_factory=time.monotonic)
    drivers: list[Driver] = field(default_factory=list[Driver])
    mending: list[threading.Thread] = field(default_factory=list[threading.Thread])
    broken: list[str] = field(default_factory=list[str])

    @property
    def run(self) -> str:
        return f"seed-{self.seed}"

    def tell(self, what: str) -> None:
        done = [path.parts[-4] for path in sorted(self.made.place(self.run).glob("*/*/_raysynth/outcome.json"))]
        print(json.dumps({"seed": self.seed, "at": self._seconds(), "told": what, "done": done}), flush=True)

    def go(self) -> None:
        """All faults in turn, then the end."""
        self._submit()
        for fault in drawn(self.seed):
            self._wait(fault)
            self._strike(fault)
        self._end()
        before = self._listing()
        for thread in self.mending:  # whoever was cut off comes back, and ends
            thread.join()
        if (after := self._listing()) != before:
            self.broken.append(f"changed after its end: {sorted(set(after.items()) ^ set(before.items()))}")

    def _submit(self) -> None:
        self.drivers.append(self.made.driver(self.recipe, self.run))
        self.tell(f"submission {len(self.drivers)}")

    def _wait(self, fault: Fault) -> None:
        """Until the fault's moment, or the end if it comes first."""
        folder, before, sign, _ = STAGES[fault.stage]
        place, deadline = self.made.place(self.run), time.monotonic() + RUN_SECONDS
        while not any(place.glob(f"{folder}/*/_raysynth/outcome.json")):
            if any(place.glob(before)) and len(list(place.glob(f"{folder}/*/_raysynth/{sign}"))) >= fault.tasks:
                break
            if self.drivers[-1].process.poll() is not None or time.monotonic() > deadline:
                return
            time.sleep(0.02)
        time.sleep(fault.wait_seconds)

    def _strike(self, fault: Fault) -> None:
        host = self.made.hosts[fault.host]
        self.tell(f"{fault.kind} in {fault.stage} after {fault.tasks} tasks")
        if fault.kind == "driver":
            self.drivers[-1].kill()
            self._submit()
        elif fault.kind == "worker":
            self._kill_worker(fault.victim)
        elif fault.kind == "raylet":
            for pid in host.pids("/raylet/raylet"):
                kill(pid)
            self._later(lambda: self._replace(host))
        else:
            host.cut()
            self._later(lambda: self._come_back(host, fault.away_seconds))

    def _kill_worker(self, victim: float) -> None:
        """Any that does something, on any host; while none does (the driver is thinking) it is waited for."""
        while self.drivers[-1].process.poll() is None:
            found = [(pid, title) for host in self.made.hosts.values() for pid, title in host.processes() if "ray::" in title]
            busy = sorted((pid, title) for pid, title in found if not any(word in title for word in IDLE))
            if busy:
                pid, title = busy[int(victim * len(busy))]
                kill(pid)
                self.tell(f"killed {title.strip()}")
                return
            time.sleep(0.05)

    def _later(self, act: Callable[[], None]) -> None:
        self.mending.append(threading.Thread(target=act, daemon=True))
        self.mending[-1].start()

    def _come_back(self, host: Host, away_seconds: float) -> None:
        """Back on the net: a host that is still a member goes on; one that was taken for dead ends by itself, and is replaced then."""
        time.sleep(away_seconds)
        host.mend()
        self.tell(f"host {host.number} is back after {away_seconds} s")
        deadline = time.monotonic() + MEMBER_SECONDS
        while host.pids("/raylet/raylet"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.2)
        self._replace(host)

    def _replace(self, host: Host) -> None:
        """As an autoscaler would: another machine, once nothing of the old one is left."""
        deadline = time.monotonic() + GONE_SECONDS
        while host.pids("ray::") and time.monotonic() < deadline:
            time.sleep(0.2)
        if left := host.pids("ray::"):
            self.broken.append(f"host {host.number}: {len(left)} workers outlived their node")
        host.end_processes()
        host.start_ray(self.made.hosts[1])
        self.tell(f"host {host.number} is replaced")

    def _end(self) -> None:
        """A driver that gave up is submitted again, once."""
        for _ in range(2):
            try:
                code = self.drivers[-1].process.wait(RUN_SECONDS)
            except subprocess.TimeoutExpired:
                self.drivers[-1].kill()
                self.broken.append(f"not done after {RUN_SECONDS:.0f} s")
                return
            self.tell(f"ended with {code}")
            if code == 0:
                return
            self.tell(self.drivers[-1].told()[-1500:])
            if len(self.drivers) < SUBMISSIONS:
                self._submit()
        self.broken.append(f"not done after {len(self.drivers)} submissions")

    def _seconds(self) -> float:
        return round(time.monotonic() - self.began, 1)

    def _listing(self) -> dict[str, int]:
        place = self.made.place(self.run)
        return {str(path.relative_to(place)): path.stat().st_mtime_ns for path in place.rglob("*") if path.is_file()}

    def judged(self, golden: dict[str, list[str]]) -> dict[str, object]:
        """What a test asks of it."""
        names = self.made.names(self.run)
        self.broken += [f"{name} is not the golden one" for name in golden if names.get(name) != golden[name]]
        self.broken += self.made.problems(self.run)
        waste = {fault.stage: self._waste(fault) for fault in drawn(self.seed) if fault.stage != "train"}
        self.broken += [f"{stage}: {more} parts made again, {most} may be" for stage, (more, most) in waste.items() if more > most]
        told = {"submissions": len(self.drivers), "waste": waste, "faults_of_s3": sum(self.made.proxy.faults.values())}
        return {"seed": self.seed, "broken": self.broken, "seconds": self._seconds(), **told}

    def _waste(self, fault: Fault) -> tuple[int, int]:
        """How many files of parts were made again, and how many may be: those of the tasks that a fault took along, this stage's or that of
        the one before, which may have struck late."""
        folder = Run(str(self.made.place(self.run))).current(STAGES[fault.stage][0])
        if folder is None:
            return 0, 0
        files = folder.manifest().num_rows
        per_task = max(len(marked) for marked in folder.marked()) * -(-files // folder.plan().parts)
        order = [*STAGES]
        near = [other for other in drawn(self.seed) if order.index(fault.stage) - order.index(other.stage) in (0, 1)]
        tasks = QUEUED * sum(WORKERS if other.kind == "driver" else 1 for other in near)
        return self.made.makers(self.run, folder.name).total() - files, tasks * per_task


def runs(folder: Path, short: Path, seeds: list[int]) -> Iterator[dict[str, object]]:
    recipe = write_recipe(folder)
    with cluster(folder, short, seed=seeds[0]) as made:
        made.driver(recipe, "golden", on=None).end()
        golden = made.names("golden")
        for number in (1, 2, 3):
            made.add(number)
        made.proxy.share = S3_SHARE
        for seed in seeds:
            for host in made.hosts.values():
                if not host.pids("/raylet/raylet"):
                    made.add(host.number)
            chaos = Chaos(made, recipe, seed)
            chaos.go()
            yield chaos.judged(golden)


def main() -> None:
    if sys.argv[1] == "--inside":
        for judged in runs(Path(sys.argv[2]), Path(sys.argv[3]), [int(word) for word in sys.argv[4:]]):
            print(json.dumps(judged), flush=True)
        return
    with tempfile.TemporaryDirectory(prefix="rs", dir="/tmp") as short:
        folder = Path(short) / "runs"
        folder.mkdir()
        isolated(Path(__file__), "--inside", str(folder), short, *sys.argv[1:], home=folder / "home", short=Path(short), shown=True)


if __name__ == "__main__":
    main()
