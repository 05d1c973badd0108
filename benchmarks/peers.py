"""RAYSYNTH_DATA's tables → raysynth's generators of tables beside those of SDV and MOSTLY AI and a sequential CART, in turn, in one run.

    RAYSYNTH_DATA=../shared/data python benchmarks/peers.py [adult online_shoppers california_housing telco_churn] [--seeds 3]

Each learns *.train in a process and an environment of its own (made below --folder from benchmarks/peers/of_*.txt; one thread), draws as
many rows, and is judged by *.test: quality.py says what C2ST, TSTR, copies and nearer are; SDMetrics is the quality report of SDV's own
measure against the train rows. Figures are medians over the seeds; the last line of each table says what fresh real rows (*.test) reach.
CPU-seconds and MiB are those of learning, rows per CPU-second those of drawing and writing at least ROWS rows. What --folder holds already
is not made again. A run at the defaults writes its lines and the plot of quality against cost into docs/.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from quality import DOCS, TARGETS, copies, detector_auc, features, levels_of, nearer, tables, utility, write_into_docs

HERE = Path(__file__).parent
PLOT = DOCS.parent / "peers.svg"
HEAD = "| table | generator | C2ST | SDMetrics | TSTR | copies | nearer to train | learning CPU-s | peak MiB | rows per CPU-s |"
REAL = "fresh real rows"
ROWS = 100_000  # are drawn at least for the rate


@dataclass(frozen=True)
class Contender:
    peer: str
    """benchmarks/peers/of_<peer>.py, and the environment where there is a .txt of that name."""
    generator: str
    shown: str


CONTENDERS = (
    Contender("raysynth", "trees", "**raysynth** trees"),
    Contender("raysynth", "autoregressive", "**raysynth** autoregressive"),
    Contender("mostlyai", "TabularARGN", "MOSTLY AI TabularARGN"),
    Contender("sdv", "GaussianCopula", "SDV GaussianCopula"),
    Contender("sdv", "CTGAN", "SDV CTGAN"),
    Contender("sdv", "TVAE", "SDV TVAE"),
    Contender("cart", "CART, leaf 5", "CART, leaf 5"),
    Contender("cart", "CART, leaf 40", "CART, leaf 40"),
)


@dataclass(frozen=True)
class Scores:
    c2st: float
    sdmetrics: float
    tstr: float
    copies: float
    nearer: float
    seconds: float = 0.0
    mib: float = 0.0
    rate: float = 0.0

    @property
    def line(self) -> list[str]:
        judged = [f"{self.c2st:.3f}", f"{self.sdmetrics:.3f}", f"{self.tstr:.3f}", f"{self.copies:.2%}", f"{self.nearer:.3f}"]
        return [*judged, *(f"{cost:,.0f}" if cost else "–" for cost in (self.seconds, self.mib, self.rate))]


# --- who makes -----------------------------------------------------------------------------------------------------------------


def python_of(peer: str, folder: Path) -> Path:
    """Of the peer's environment, made where it has one and there is none yet."""
    wanted = HERE / "peers" / f"of_{peer}.txt"
    if not wanted.exists():
        return Path(sys.executable)
    home = folder / "environments" / peer
    python = home / "bin" / "python"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "-q", "-r", str(wanted)], check=True)
        # what no table needs, and does not load where torch came for a CPU
        subprocess.run([str(python), "-m", "pip", "uninstall", "-q", "-y", "torchvision", "torchaudio"], check=True)
        (home / "ready").touch()
    return python


def made(contender: Contender, table: str, seed: int, folder: Path) -> tuple[pa.Table, dict[str, float]]:
    """Its rows, and what they cost."""
    out = folder / "made" / table / contender.generator.replace(" ", "-").replace(",", "") / str(seed)
    train, _ = tables(table)
    if not (out / "cost.json").exists():
        out.mkdir(parents=True, exist_ok=True)
        pq.write_table(train, out / "train.parquet")
        script = [str(python_of(contender.peer, folder)), str(HERE / "peers" / f"of_{contender.peer}.py"), contender.generator]
        one = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        subprocess.run(
            [*script, str(out / "train.parquet"), str(max(ROWS, train.num_rows)), str(seed), str(out)],
            check=True, env=os.environ | one, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    rows = pq.read_table(out / "made.parquet").select(train.column_names)
    return rows, json.loads((out / "cost.json").read_text())


# --- who judges ----------------------------------------------------------------------------------------------------------------


def sdmetrics(rows: pa.Table, real: pa.Table, folder: Path) -> float:
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("real.parquet", "made.parquet")]
        for file, part in zip(files, (real, rows), strict=True):
            pq.write_table(part, file)
        script = [str(python_of("sdv", folder)), str(HERE / "peers" / "quality_report.py"), *map(str, files)]
        return float(subprocess.run(script, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


def judged(rows: pa.Table, table: str, folder: Path, **cost: float) -> Scores:
    train, test = tables(table)
    rows = rows.slice(0, train.num_rows)
    levels = levels_of(pa.concat_tables([train, test], promote_options="permissive"))
    real, held, synthetic = (features(part, levels) for part in (train, test, rows))
    return Scores(
        c2st=detector_auc(synthetic, held),
        sdmetrics=sdmetrics(rows, train, folder),
        tstr=utility(synthetic, held, TARGETS[table]),
        copies=copies(synthetic, real),
        nearer=nearer(synthetic, real, held),
        **cost,
    )


def ceiling(table: str, folder: Path) -> Scores:
    """What fresh real rows reach."""
    train, test = tables(table)
    levels = levels_of(pa.concat_tables([train, test], promote_options="permissive"))
    real, held = (features(part, levels) for part in (train, test))
    return Scores(
        detector_auc(real, held), sdmetrics(test, train, folder), utility(real, held, TARGETS[table]), copies(held, real), 0.5
    )


def of_seeds(scores: list[Scores]) -> Scores:
    return Scores(**{name: median(getattr(one, name) for one in scores) for name in Scores.__dataclass_fields__})


def lines(found: dict[str, dict[str, list[Scores]]], ceilings: dict[str, Scores]) -> Iterator[str]:
    yield HEAD
    yield "|" + " --- |" * (HEAD.count("|") - 1)
    for table, of_generator in found.items():
        for shown, scores in of_generator.items():
            yield " | ".join([f"| {table}", shown, *of_seeds(scores).line]) + " |"
        yield " | ".join([f"| {table}", f"*{REAL}*", *ceilings[table].line]) + " |"


def plot(found: dict[str, dict[str, list[Scores]]], path: Path) -> None:
    """How well a detector tells the rows apart, against what learning cost: below and left is better."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(found), 4), layout="constrained")
    for axes, (table, of_generator) in zip(
        figure.subplots(1, len(found), sharey=True, squeeze=False)[0], found.items(), strict=True
    ):
        for shown, scores in of_generator.items():
            at, ours = of_seeds(scores), "raysynth" in shown
            axes.scatter([max(at.seconds, 0.1)], [at.c2st], color="#1f6feb" if ours else "#8b949e", zorder=3)
            axes.annotate(
                shown.replace("*", ""), (max(at.seconds, 0.1), at.c2st), xytext=(4, 4), textcoords="offset points", fontsize=7
            )
        axes.set(xscale="log", title=table, xlabel="CPU-seconds of learning")
        axes.grid(alpha=0.3)
    figure.axes[0].set_ylabel("C2ST (0.5: not to be told apart)")
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tables", nargs="*", default=list(TARGETS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[one.generator for one in CONTENDERS], help="generators")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "raysynth-peers")
    asked = parser.parse_args()
    contenders = [one for one in CONTENDERS if one.generator in asked.only]
    found: dict[str, dict[str, list[Scores]]] = {table: {one.shown: [] for one in contenders} for table in asked.tables}
    ceilings = {table: ceiling(table, asked.folder) for table in asked.tables}
    for table in asked.tables:
        for seed in range(asked.seeds):
            for one in contenders:
                rows, cost = made(one, table, seed, asked.folder)
                costs: dict[str, Any] = {"seconds": cost["learning"], "mib": cost["mib"], "rate": rows.num_rows / cost["drawing"]}
                found[table][one.shown].append(judged(rows, table, asked.folder, **costs))
                print(table, one.shown, seed, *found[table][one.shown][-1].line, sep=" | ", flush=True)
    print(*lines(found, ceilings), sep="\n")
    if len(contenders) == len(CONTENDERS) and list(asked.tables) == list(TARGETS):
        plot(found, PLOT)
        write_into_docs("peers", list(lines(found, ceilings)))


if __name__ == "__main__":
    main()
