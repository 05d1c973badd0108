"""What scores cost as synthetic rows grow → seconds, CPU-seconds and peak memory for each number of rows, from one run of this script.

    python benchmarks/evaluate.py [--rows 2_000_000 20_000_000] [--real 40_000]

The real rows are drawn from a law with dependent columns; the synthetic ones are as many more draws of it, written as a committed
folder. No generator is trained: the stage `evaluate` alone is measured, in a process of its own whose workers are watched.
"""

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from quality import write_into_docs
from speed import watch

from raysynth.commits import commit, write_task
from raysynth.draws import Draws
from raysynth.runs import Run, folder_id, part_rows, rows_plan

ROWS_PER_PART = 500_000


def rows(start: int, stop: int, purpose: str) -> pa.Table:
    """Eight columns: numbers that move together, a heavy tail, categories that follow them, a spike, missing values."""
    draws = Draws.range(7, purpose, start, stop)
    first, second, noise = draws.normal("a"), draws.normal("b"), draws.uniform("c")
    return pa.table(
        {
            "age": np.clip(40 + 12 * first, 17, 90).astype(np.int64),
            "income": np.round(np.exp(10 + 0.5 * first + 0.6 * second), 2),
            "balance": pa.array(np.round(1000 * second + 300 * first, 2), mask=draws.uniform("missing") < 0.05),
            "gain": np.where(noise < 0.9, 0, np.floor(5000 * noise)).astype(np.int64),
            "region": np.array(["north", "south", "east", "west"])[np.digitize(second, [-1, 0, 1])],
            "work": np.array([f"job {i}" for i in range(20)])[np.clip((8 * first + 4 * noise + 10).astype(int), 0, 19)],
            "married": first + second > noise,
            "bought": 0.7 * first - 0.4 * second + draws.normal("d") > 0.3,
        }
    )


def made(scratch: Path, count: int) -> Path:
    """A recipe whose synthetic folder is committed already."""
    recipe = scratch / "evaluate.yaml"
    folder = Run(str(scratch / f"synthetic-{count}")).folder("synthetic", folder_id({"rows": count}))
    plan = rows_plan(count, ROWS_PER_PART)
    for part in range(plan.parts):
        numbers = part_rows(plan, part)
        write_task(folder, plan, range(part, part + 1), lambda _, n=numbers: [("", rows(n.start, n.stop, "synthetic"))])
    commit(folder, plan)
    return recipe


STAGE = """
import sys
from raysynth.cluster.session import one_session, pin_cpu
pin_cpu()
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Run
from raysynth.stages import evaluate, prepare
recipe = load_recipe(sys.argv[1])
run = Run(recipe.run)
with one_session():
    prepared = prepare.run(recipe, run)
    if len(sys.argv) > 2:
        evaluate.run(recipe, run, prepared, Folder(sys.argv[2]), None, [])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=(2_000_000, 20_000_000))
    parser.add_argument("--real", type=int, default=40_000)
    asked = parser.parse_args()
    lines: list[str] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        pq.write_table(rows(0, asked.real, "real"), scratch / "real.parquet")
        recipe = scratch / "evaluate.yaml"
        recipe.write_text(f"name: evaluate\nsource: {scratch}/real.parquet\nrun: {scratch}/run\nevaluate: {{target: bought}}\n")
        start = [sys.executable, "-c", STAGE, str(recipe)]
        base = watch(start)
        for count in asked.rows:
            made(scratch, count)
            url = next((scratch / f"synthetic-{count}" / "synthetic").iterdir())
            seen = watch([*start, str(url)])
            cpu = sum(seen.cpu.values()) - sum(base.cpu.values())
            memory = f"{seen.driver_bytes >> 20:,} | {seen.worker_bytes >> 20:,}"
            lines.append(f"| {count:,} | {asked.real:,} | {cpu:,.0f} | {cpu / count * 1e6:,.1f} | {memory} |")
            print(lines[-1], flush=True)
    head = "| synthetic rows | real rows | CPU-s | CPU-s per million | driver MiB | worker MiB |"
    write_into_docs("evaluate", [head, "|" + " --- |" * 6, *lines])


if __name__ == "__main__":
    main()
