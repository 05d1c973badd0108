"""Rows made under a `where` against unconditional rows filtered by it, both from one model of adult: can a detector tell them apart?

    RAYSYNTH_DATA=../shared/data python benchmarks/conditioning.py

The AUC of a gradient-boosted detector over five folds (0.5: the same distribution); beside it that of two halves of filtered rows.
`per row` counts the kernel's rows for one valid row. Writes its table into docs/benchmarks.md.
"""

import argparse
from typing import Any

import numpy as np
import torch
from quality import SEED, detector_auc, draw, features, learn, levels_of, tables, write_into_docs

from raysynth.draws import Draws
from raysynth.models import Model
from raysynth.sampler import Sampler
from raysynth.where import satisfied

WHERES: dict[str, dict[str, Any]] = {
    "age 25 to 34": {"age": {"min": 25, "max": 34}},
    "sex Female": {"sex": "Female"},
    "education one of three": {"education": ["Bachelors", "Masters", "Doctorate"]},
    "fnlwgt 100,000 to 150,000": {"fnlwgt": {"min": 100_000, "max": 150_000}},
    "capital_gain over 0": {"capital_gain": {"over": 0}},
    "age, sex and education": {
        "age": {"min": 30, "max": 49},
        "sex": "Female",
        "education": ["Bachelors", "Masters", "Doctorate"],
    },
}
HEAD = ["| where | rows | detector AUC | filtered halves | per row |", "| --- | --- | --- | --- | --- |"]


def compare(model: Model, where: dict[str, Any], free: Any, rows: int) -> str:
    """A line of the table: at most `rows` rows of each kind."""
    sampler = Sampler(model, seed=SEED + 1, where=where)
    filtered = free.filter(satisfied(sampler.cases[0].where, free))
    size = min(rows, filtered.num_rows // 2)
    made = sampler.range(0, size)
    levels = levels_of(free)
    one, two, other = (features(t, levels) for t in (made, filtered.slice(0, size), filtered.slice(size, size)))
    first = model.generator.sample(Draws.range(SEED, "acceptance", 0, model.generator.kernel_rows), sampler.cases[0].given)
    cost = 1 / max(float(np.mean(first.accepted)), 1e-9) if first.accepted is not None else 1.0
    return f"{size:,} | {detector_auc(one, two):.3f} | {detector_auc(two, other):.3f} | {cost:.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=8000, help="how many of each kind are compared, at most")
    parser.add_argument("--epochs", type=int, default=50)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    model, _ = learn(tables("adult")[0], asked.epochs, {}, {})
    free, _ = draw(model, 250_000)
    lines = list(HEAD)
    for name, where in WHERES.items():
        lines.append(f"| {name} | {compare(model, where, free, asked.rows)}")
        print(lines[-1], flush=True)
    write_into_docs("conditioning", lines)


if __name__ == "__main__":
    main()
