"""Workers and parts → whether time shrinks as workers grow, and what a part costs the driver; from that docs/scale.md's table.

    python benchmarks/scaling.py [--workers 1 2 4 8 16] [--sleep 160] [--parts 10_000 100_000 1_000_000] [--pools 2 8 16]

Both go the whole way of a stage, raysynth.cluster.parts.write_parts, in a process of its own. Only the store is another one: what its
makers put as parts it drops (benchmarks/stores/dropping.py).
Sleeping: parts of 0.1 s, 0.1 CPU a worker. No worker begins before all are there, so what their start takes is not in the time; what the
driver, the commit and the end of the pool take, is. Ideal is the sum of the sleep by the number of workers.
Parts of no cost: one row each, on two workers. CPU-seconds are the driver's own, those that tasks tell, and the rest of all processes of
the run (Ray's, and the workers' share around the tasks) less those of a run of nothing; memory is the driver's peak (VmHWM), which
counts the object store's pages that it has touched.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pyarrow as pa

import raysynth.sampler  # as generate's driver has it in memory, torch and all
import raysynth.stores
from raysynth.cluster.meter import METER
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.session import one_session, session
from raysynth.commits import TASK_PARTS, Table, commit, missing
from raysynth.runs import Folder, Plan, folder_id

HERE = Path(__file__).parent
PART_SECONDS = 0.1
SLEEPER_CPUS = 0.1
WORKERS = 2
WANTED = 0.9
WANTED_BYTES = 1 << 30
FLAT = 1.25  # a part may cost so much more in the largest plan than in the one before
START_SECONDS = 600.0


def on_shelf() -> None:
    """This folder's stores count too, in the process that calls it."""
    if (shelf := str(HERE / "stores")) not in raysynth.stores.__path__:
        raysynth.stores.__path__.append(shelf)


def parts_of_no_cost() -> FilesOf:
    on_shelf()

    def files(part: int) -> Iterator[Table]:
        yield f"{part // 10_000:04d}", pa.table({"row": [part]}), {"rejects": {}}

    return files


def parts_that_sleep(ready: Path, workers: int) -> Callable[[], FilesOf]:
    """Each worker leaves a file in `ready`, and begins once all have."""

    def make() -> FilesOf:
        of_no_cost, began = parts_of_no_cost(), time.monotonic()
        (ready / uuid4().hex).touch()
        while len(list(ready.iterdir())) < workers:
            if time.monotonic() - began > START_SECONDS:
                raise TimeoutError(f"of {workers} workers only {len(list(ready.iterdir()))} came in {START_SECONDS:.0f} s")
            time.sleep(0.02)

        def files(part: int) -> Iterator[Table]:
            time.sleep(PART_SECONDS)
            yield from of_no_cost(part)

        return files

    return make


# What runs in a process of its own: a scratch folder and numbers → facts.


def sleep(scratch: Path, parts: int, workers: int) -> dict[str, float]:
    ready = scratch / "ready"
    ready.mkdir()
    with one_session(), session():  # as on a cluster: the end of an embedded Ray is no part of a stage
        written(scratch, parts, parts_that_sleep(ready, workers), workers, SLEEPER_CPUS)
        return {"seconds": time.time() - max(file.stat().st_mtime for file in ready.iterdir())}


def plan(scratch: Path, parts: int, workers: int) -> dict[str, float]:
    """CPU-seconds of the driver, of its last step (reading the markers, writing the manifest) and of tasks; the driver's peak."""
    cpus = min(1.0, WORKERS / workers)
    with one_session(), session():
        written(scratch / "warm", 8 * workers, parts_of_no_cost, workers, cpus)
        warm_bytes, driver, tasks = peak_bytes(), time.process_time(), cpu_of_tasks()
        if parts:
            folder, what = written(scratch, parts, parts_of_no_cost, workers, cpus)
        driver, tasks, most = time.process_time() - driver, cpu_of_tasks() - tasks, peak_bytes()
    facts = {"driver": driver, "tasks": tasks, "bytes": most, "more_bytes": most - warm_bytes}
    if parts:
        manifest = folder.store.stat(folder.system_url(folder.outcome()["committed"]["manifest"]))
        folder.store.delete(folder.system_url("outcome.json"))
        start = time.process_time()
        commit(folder, what)
        facts |= {"commit": time.process_time() - start, "manifest": manifest.size_bytes}
    return facts | {"process": time.process_time()}


def written(scratch: Path, parts: int, make: Callable[[], FilesOf], workers: int, num_cpus: float) -> tuple[Folder, Plan]:
    on_shelf()
    folder, what = Folder(f"dropping://{scratch}/synthetic/{folder_id({'parts': parts})}"), Plan(parts, {})
    outcome = write_parts(folder, what, make, stage="scaling", workers=workers, keep=True, num_cpus=num_cpus)
    if (outcome["parts"], outcome["rows"], missing(folder, what)) != (parts, parts, []):
        raise SystemExit(f"{parts} parts were asked for, and {outcome} came")
    return folder, what


def peak_bytes() -> int:
    """Of this process since it began; what getrusage tells counts the parent's too."""
    return next(int(line.split()[1]) << 10 for line in Path("/proc/self/status").read_text().split("\n") if "VmHWM" in line)


def cpu_of_tasks() -> float:
    return METER.cpu_seconds - time.process_time()


# What starts them, and tells.


@dataclass
class Told:
    """Lines for the docs, and what was missed of what is wanted."""

    lines: list[str]
    missed: list[str]

    def say(self, line: str) -> None:
        print(line, flush=True)
        self.lines.append(line)

    def table(self, head: Sequence[str]) -> None:
        self.say("| " + " | ".join(head) + " |")
        self.say("|" + " --- |" * len(head))


def step(name: str, parts: int, workers: int) -> dict[str, float]:
    from speed import watch

    with tempfile.TemporaryDirectory() as scratch:
        facts = Path(scratch) / "facts.json"
        seen = watch([sys.executable, __file__, "--step", name, scratch, str(parts), str(workers)])
        return json.loads(facts.read_text()) | {"all": sum(seen.cpu.values())}


def sleeping(asked: argparse.Namespace, told: Told) -> float:
    """The share of the ideal at the most workers."""
    parts, share = round(asked.sleep / PART_SECONDS), 0.0
    told.say(f"{parts:,} parts that sleep {PART_SECONDS} s each. Wanted: at least {WANTED} of the ideal.")
    told.say("")
    told.table(["workers", "ideal s", "took s", "ideal / took"])
    for workers in asked.workers:
        ideal, seconds = parts * PART_SECONDS / workers, step("sleep", parts, workers)["seconds"]
        share = ideal / seconds
        told.say(f"| {workers} | {ideal:,.1f} | {seconds:,.1f} | {share:.2f} |")
        if share < WANTED:
            told.missed.append(f"{workers} workers: {share:.2f} of the ideal, wanted {WANTED}")
    return share


def plans(asked: argparse.Namespace, told: Told) -> dict[str, float]:
    """What the largest plan cost."""
    nothing = step("plan", 0, WORKERS)
    told.say(f"Plans of parts of no cost on {WORKERS} workers, in CPU-µs a part. Wanted: flat, and less than 1,024 MiB.")
    told.say("")
    told.table(
        ["parts", "tasks", "driver", "of it the commit", "tasks'", "rest", "driver MiB", "of it for the plan", "manifest MiB"]
    )
    costs: list[float] = []
    facts: dict[str, float] = {}
    for parts in asked.parts:
        facts = step("plan", parts, WORKERS)
        rest = facts["all"] - facts["process"] - facts["tasks"] - (nothing["all"] - nothing["process"] - nothing["tasks"])
        micros = [facts["driver"], facts["commit"], facts["tasks"], rest]
        costs.append(facts["driver"] / parts)
        cells = [*(f"{seconds / parts * 1e6:,.0f}" for seconds in micros)]
        cells += [f"{facts[name] / 2**20:,.1f}" for name in ("bytes", "more_bytes", "manifest")]
        told.say(f"| {parts:,} | {-(-parts // TASK_PARTS):,} | {' | '.join(cells)} |")
    if len(costs) > 1 and costs[-1] > FLAT * costs[-2]:
        told.missed.append(f"a part costs {costs[-1] / costs[-2]:.2f} × what it costs in a plan of a tenth, wanted {FLAT}")
    if facts["bytes"] >= WANTED_BYTES:
        told.missed.append(f"the driver took {facts['bytes'] / 2**20:,.0f} MiB, wanted less than 1,024")
    return facts | {"parts": parts}


def pools(asked: argparse.Namespace, told: Told) -> dict[str, float]:
    """What a task costs the driver, commit aside, by the workers in its pool: CPU-seconds at none, and more per worker."""
    parts, tasks = asked.pool_parts, -(-asked.pool_parts // TASK_PARTS)
    told.say(f"The same for {parts:,} parts by the size of the pool: what a task costs the driver, its commit aside.")
    told.say("")
    told.table(["workers", "CPU-ms a task"])
    costs: list[float] = []
    for workers in asked.pools:
        facts = step("plan", parts, workers)
        costs.append((facts["driver"] - facts["commit"]) / tasks)
        told.say(f"| {workers} | {costs[-1] * 1e3:,.1f} |")
    slope = max(0.0, (costs[-1] - costs[0]) / (asked.pools[-1] - asked.pools[0]))
    return {"task": costs[0] - slope * asked.pools[0], "worker": slope}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, nargs="+", default=(1, 2, 4, 8, 16))
    parser.add_argument("--sleep", type=float, default=160.0, help="seconds, of all parts together")
    parser.add_argument("--parts", type=int, nargs="+", default=(10_000, 100_000, 1_000_000))
    parser.add_argument("--pools", type=int, nargs="+", default=(2, 8, 16))
    parser.add_argument("--pool-parts", type=int, default=50_000)
    parser.add_argument("--try", dest="trying", action="store_true", help="write nothing into the docs")
    parser.add_argument("--step", nargs=4, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.step:
        name, scratch, parts, workers = asked.step
        facts = {"sleep": sleep, "plan": plan}[name](Path(scratch), int(parts), int(workers))
        (Path(scratch) / "facts.json").write_text(json.dumps(facts))
        return
    measured = Told([], [])
    sleeping(asked, measured)
    measured.say("")
    cost = plans(asked, measured)
    measured.say("")
    pool = pools(asked, measured)
    if not asked.trying:
        from quality import DOCS, write_into_docs
        from scale import extrapolated

        write_into_docs("scaling", measured.lines)
        write_into_docs("scaling", extrapolated(cost, pool), DOCS.with_name("scale.md"))
    if measured.missed:
        raise SystemExit("missed: " + "; ".join(measured.missed))


if __name__ == "__main__":
    main()
