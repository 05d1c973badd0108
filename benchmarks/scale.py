"""What a part was measured to cost (benchmarks/scaling.py) → what very many of them cost on a cluster that nobody here has: docs/scale.md's
table, each line with its formula. The names in capitals are assumed, all else is measured or follows."""

from dataclasses import dataclass, replace

from quality import from_docs

from raysynth.commits import TASK_PARTS
from raysynth.orders import rows_per_part
from raysynth.runs import READERS

ROWS, COLUMNS, ROW_BYTES = 10**12, 15, 30
NODES, NODE_CPUS = 1_000, 16
RATE_OF = "adult"  # of docs/benchmarks.md, quality: rows per CPU-second
PUTS, HEADS, KEYS, REQUEST_SECONDS = (
    3_500,
    5_500,
    1_000,
    0.03,
)  # S3: a second and partition; of one LIST; how long one request takes
CPU_HOUR, PUT, GET, GB_MONTH = 0.05, 5e-6, 4e-7, 0.023  # US dollars


@dataclass(frozen=True)
class Asked:
    """`cost`: of a part, in CPU-seconds and bytes, as measured in the largest plan. `pool`: of a task to the driver, the commit aside, in
    CPU-seconds: with no workers, and more per worker."""

    rate: int
    cost: dict[str, float]
    pool: dict[str, float]
    workers: int = NODES * NODE_CPUS
    part_rows: int = rows_per_part(COLUMNS)

    @property
    def parts(self) -> int:
        return -(-ROWS // self.part_rows)

    @property
    def tasks(self) -> int:
        """As raysynth/cluster/parts.py cuts them."""
        return -(-self.parts // max(1, min(TASK_PARTS, self.parts // (self.workers * 4))))

    @property
    def cpu_seconds(self) -> float:
        return ROWS / self.rate + self.parts * self.cost["tasks"]

    @property
    def seconds(self) -> float:
        return self.cpu_seconds / self.workers

    @property
    def driver_seconds(self) -> float:
        return self.tasks * (self.pool["task"] + self.pool["worker"] * self.workers)

    def kept_busy(self) -> "Asked":
        """The same with the most workers, of at most these, that one driver hands out tasks to faster than they end them."""
        fits = (
            made for count in range(self.workers, 0, -1) if (made := replace(self, workers=count)).driver_seconds <= made.seconds
        )
        return next(fits, replace(self, workers=1))


Line = tuple[str, str, str]  # what, the formula, what it gives


def of_the_rows(asked: Asked) -> list[Line]:
    making, hours = f"R / {asked.rate:,} a CPU-s + N × {asked.cost['tasks'] * 1e6:,.0f} µs", asked.cpu_seconds / 3600
    speed = ROWS * ROW_BYTES / asked.seconds
    return [
        ("rows, R", "", f"{ROWS:,}, of {COLUMNS} columns"),
        ("workers, K", f"{NODES:,} nodes × {NODE_CPUS} CPUs", f"{asked.workers:,}"),
        ("parts, N", f"R / P, P = 128 MiB / ({COLUMNS} columns × 8 bytes) = {asked.part_rows:,}", f"{asked.parts:,}"),
        ("tasks, T", f"N / min({TASK_PARTS}, N / 4 K)", f"{asked.tasks:,}"),
        ("CPU of the workers", making, f"{hours:,.0f} hours, {hours * CPU_HOUR:,.0f} $ at {CPU_HOUR} $"),
        ("wall, if the workers alone counted, W", "CPU / K", f"{asked.seconds / 60:,.1f} min"),
        ("to the store", f"R × {ROW_BYTES} bytes / W", f"{speed / 1e9:,.0f} GB/s, {speed / NODES / 1e6:,.0f} MB/s a node"),
        ("stored", f"R × {ROW_BYTES} bytes", f"{ROWS * ROW_BYTES / 1e12:,.0f} TB, {ROWS * ROW_BYTES / 1e9 * GB_MONTH:,.0f} $ a month"),
    ]  # fmt: skip


def of_the_driver(asked: Asked) -> list[Line]:
    cost, parts, tasks, wall = asked.cost, asked.parts, asked.tasks, asked.seconds
    task, worker = asked.pool["task"], asked.pool["worker"]
    least, most, busy = tasks * task, asked.driver_seconds, asked.kept_busy()
    pooled = f"T × ({task * 1e3:,.1f} ms + {worker * 1e6:,.1f} µs × K)"
    return [
        ("driver, if a task costs the same in every pool", f"T × {task * 1e3:,.1f} ms", f"{least:,.0f} CPU-s = {least / wall:,.1f} W"),
        ("driver, if it grows with the pool as measured", pooled, f"{most:,.0f} CPU-s = {most / wall:,.1f} W"),
        ("workers that one driver keeps busy", "the most K for which that is ≤ W", f"{busy.workers:,}, W {busy.seconds / 60:,.0f} min"),
        ("driver, the commit", f"N × {cost['commit'] * 1e6:,.0f} µs", f"{parts * cost['commit']:,.0f} CPU-s"),
        ("driver, memory for the plan", f"N × {cost['more_bytes']:,.0f} bytes", f"{parts * cost['more_bytes'] / 2**20:,.0f} MiB"),
        ("manifest", f"N × {cost['manifest']:,.0f} bytes", f"{parts * cost['manifest'] / 2**20:,.0f} MiB"),
    ]  # fmt: skip


def of_the_store(asked: Asked) -> list[Line]:
    parts, tasks, listings = asked.parts, asked.tasks, -(-asked.tasks // KEYS)
    rate = (parts + tasks) / asked.seconds
    money = (parts + tasks) * PUT + (parts + 2 * tasks) * GET
    return [
        ("markers, LIST", f"T / {KEYS:,} × {REQUEST_SECONDS * 1e3:.0f} ms", f"{listings} requests, {listings * REQUEST_SECONDS:,.0f} s"),
        ("markers, GET", f"T × {REQUEST_SECONDS * 1e3:.0f} ms / {READERS} at once", f"{tasks * REQUEST_SECONDS / READERS:,.0f} s"),
        ("PUT", f"(N + T) / W, of {PUTS:,} a partition", f"{rate:,.0f} a second, {rate / PUTS:,.2f} partitions"),
        ("HEAD", f"(N + T) / W, of {HEADS:,} a partition", f"{rate:,.0f} a second, {rate / HEADS:,.2f} partitions"),
        ("requests", f"(N + T) × {PUT * 1e3:g} $ + (N + 2 T) × {GET * 1e3:g} $, per 1,000", f"{money:,.2f} $"),
    ]  # fmt: skip


def extrapolated(cost: dict[str, float], pool: dict[str, float]) -> list[str]:
    line = next(line for line in from_docs("quality") if line.startswith(f"| {RATE_OF} "))
    rate = int(line.split(" | ")[-1].rstrip(" |").replace(",", ""))
    asked = Asked(rate, {name: value / cost["parts"] for name, value in cost.items()}, pool)
    lines = [*of_the_rows(asked), *of_the_driver(asked), *of_the_store(asked)]
    return ["| what | formula | gives |", "|" + " --- |" * 3, *("| " + " | ".join(cells) + " |" for cells in lines)]
