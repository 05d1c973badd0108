"""One generator, in an environment of its own: TRAIN.parquet ROWS SEED OUT → OUT/made.parquet and OUT/cost.json (CPU-seconds, MiB).

A peer's file calls `main` with how each of its generators learns: rows → whatever draws so many rows. Nothing here needs more than
pandas and pyarrow, which every peer has.
"""

import argparse
import json
import resource
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

Drawn = Callable[[int], pd.DataFrame]
Learnt = Callable[[pd.DataFrame, int], Drawn]
"""Rows and a seed → what draws so many rows."""


def main(generators: Mapping[str, Learnt]) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("generator", choices=generators)
    parser.add_argument("train", type=Path)
    parser.add_argument("rows", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("out", type=Path)
    asked = parser.parse_args()
    train = pd.read_parquet(asked.train)
    before, start = peak_mib(), spent()
    draw = generators[asked.generator](train, asked.seed)
    learnt = spent()
    made = draw(asked.rows)
    made.to_parquet(asked.out / "made.parquet")
    cost = {"learning": learnt - start, "drawing": spent() - learnt, "mib": peak_mib() - before}
    (asked.out / "cost.json").write_text(json.dumps(cost))


def spent() -> float:
    """CPU-seconds of this process and of the children that it has waited for."""
    own, theirs = time.process_time(), resource.getrusage(resource.RUSAGE_CHILDREN)
    return own + theirs.ru_utime + theirs.ru_stime


def peak_mib() -> float:
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) / 1024
