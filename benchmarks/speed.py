"""What rows cost → a table of CPU-seconds and ratios, all from one run of this script.

    RAYSYNTH_DATA=../shared/data python benchmarks/speed.py [--rows 1_000_000 6_000_000] [--memory 2_000_000 20_000_000]

The bare loop is one process that samples, decodes and serialises parts. The stage is `raysynth generate` at two sizes: the difference is
what the rows cost, start-up aside. CPU and memory are those of every process of the run, sampled ten times a second from /proc.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from dataclasses import dataclass, field
from pathlib import Path

from raysynth.cluster.session import pin_cpu

pin_cpu()

from raysynth.commits import parquet_bytes  # noqa: E402
from raysynth.models import load_model  # noqa: E402
from raysynth.runs import Run  # noqa: E402
from raysynth.sampler import Sampler  # noqa: E402

TICK = os.sysconf("SC_CLK_TCK")
RECIPE = """
name: adult
source: {source}
run: {run}
prepare: {{holdout: 0}}
train: {{max_epochs: {epochs}}}
generate: {{rows: 1000, workers: 2, rows_per_part: 100000}}
"""


@dataclass
class Watched:
    """CPU-seconds of every process that was seen, and the highest private memory (bytes) of the driver and of a worker."""

    cpu: dict[int, float] = field(default_factory=dict)
    driver_bytes: int = 0
    worker_bytes: int = 0


def watch(command: list[str]) -> Watched:
    """Run a command and all that it starts, known by a word in their environment."""
    word = f"RAYSYNTH_BENCH={uuid.uuid4().hex}"
    environment = os.environ | dict([word.split("=")])
    seen, ended = Watched(), threading.Event()
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    thread = threading.Thread(target=_follow, args=(word, process.pid, seen, ended))
    thread.start()
    _, errors = process.communicate()
    ended.set()
    thread.join()
    if process.returncode:
        raise SystemExit(errors[-3000:])
    return seen


def _follow(word: str, driver: int, seen: Watched, ended: threading.Event) -> None:
    known: dict[int, bool] = {}
    while not ended.wait(0.1):
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            pid = int(entry.name)
            try:
                if pid not in known:
                    known[pid] = word.encode() in (entry / "environ").read_bytes()
                if not known[pid]:
                    continue
                stat = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                seen.cpu[pid] = (int(stat[11]) + int(stat[12])) / TICK
                private = next(
                    int(line.split()[1]) for line in (entry / "status").read_text().split("\n") if line.startswith("RssAnon")
                )
                if pid == driver:
                    seen.driver_bytes = max(seen.driver_bytes, private << 10)
                elif b"ray::Map" in (entry / "cmdline").read_bytes():
                    seen.worker_bytes = max(seen.worker_bytes, private << 10)
            except (OSError, StopIteration, IndexError):
                continue


def bare(model_url: str, rows: int) -> float:
    """CPU-seconds of sampling, decoding and serialising parts of 100,000 rows in this process."""
    folder = Run(model_url).current("model")
    if folder is None:
        raise SystemExit("no model")
    sampler = Sampler(load_model(folder), seed=11)
    sampler.range(0, 20_000)
    start = time.process_time()
    for first in range(0, rows, 100_000):
        parquet_bytes(sampler.range(first, min(first + 100_000, rows)))
    return time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, nargs=2, default=(1_000_000, 6_000_000))
    parser.add_argument("--memory", type=int, nargs=2, default=(2_000_000, 20_000_000))
    parser.add_argument("--epochs", type=int, default=3)
    arguments = parser.parse_args()
    if "RAYSYNTH_DATA" not in os.environ:
        raise SystemExit("RAYSYNTH_DATA is not set: the folder with tabular/adult.train.parquet. Nothing was measured")
    with tempfile.TemporaryDirectory() as scratch:
        recipe = Path(scratch) / "adult.yaml"
        source = Path(os.environ["RAYSYNTH_DATA"]).resolve() / "tabular" / "adult.train.parquet"
        recipe.write_text(RECIPE.format(source=source, run=f"{scratch}/run", epochs=arguments.epochs))
        generate = [sys.executable, "-m", "raysynth", "generate", str(recipe), "--set"]
        watch([*generate, "generate.rows=1000"])
        rows = 500_000
        seconds = bare(f"{scratch}/run", rows)
        print(f"bare loop, adult's 15 columns: {rows / seconds:,.0f} rows per CPU-second (sampling, decoding, Parquet)", flush=True)
        small, large = (watch([*generate, f"generate.rows={count}"]) for count in arguments.rows)
        extra = sum(large.cpu.values()) - sum(small.cpu.values())
        loop = seconds / rows * (arguments.rows[1] - arguments.rows[0])
        print(
            f"the stage through Ray, {arguments.rows[1] - arguments.rows[0]:,} rows more: {extra / loop:.2f} × the bare loop's CPU-seconds",
            flush=True,
        )
        few, many = (watch([*generate, f"generate.rows={count}"]) for count in arguments.memory)
        for name, before, after in (
            ("driver", few.driver_bytes, many.driver_bytes),
            ("worker", few.worker_bytes, many.worker_bytes),
        ):
            counts = f"{arguments.memory[1]:,} rows against {arguments.memory[0]:,}"
            print(f"peak memory of the {name}, {counts}: {after / before:.2f} × ({before >> 20} → {after >> 20} MiB)", flush=True)


if __name__ == "__main__":
    main()
