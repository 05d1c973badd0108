"""A trial of a candidate: short, on real rows, and it tells what a search must know."""

import numpy as np
import pyarrow as pa

from raysynth.metrics.base import WORD
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages.trial import Sample, trial


def test_a_trial_tells_who_repeats_rows_from_who_learns_their_law() -> None:
    random = np.random.default_rng(0)
    x = random.normal(size=1200).round(3)
    table = pa.table(
        {
            "x": x,
            "y": (x + random.normal(size=1200)).round(3),
            "label": np.where(x > 0, "up", "down"),
            FILE: ["a"] * 1200,
            ROW: np.arange(1200),
            WORD: np.arange(1200, dtype=np.uint64),
        }
    )
    schema = Schema(
        (Column("x", "number", pa.float64()), Column("y", "number", pa.float64()), Column("label", "category", pa.string()))
    )
    sample = Sample(schema, {}, {"use": "tabular"}, 7, table.slice(0, 900), table.slice(900), "label", frozenset())
    found = trial(sample, {"use": "trees", "leaf": 20})
    assert found == {**trial(sample, {"use": "trees", "leaf": 20}), "cpu_seconds": found["cpu_seconds"]}
    assert found["c2st_auc"] is not None and found["c2st_auc"] < 0.6 and found["exact_copies"] == 0.0
    assert found["utility"] is not None and found["utility"] > 0.9
    blind = trial(sample, {"use": "trees", "leaf": 900})
    assert blind["c2st_auc"] is not None and blind["c2st_auc"] > found["c2st_auc"] + 0.05
