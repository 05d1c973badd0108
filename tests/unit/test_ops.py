"""What each op does to the columns, and what it refuses."""

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.draws import Draws
from raysynth.errors import DataError, RaysynthError, RecipeError
from raysynth.expressions import Expression
from raysynth.ops.base import Op
from raysynth.parts import find
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages.augment import augmented_rows

COUNT = 3000
NOISE = np.random.default_rng(3)
ROWS = pa.table(
    {
        FILE: pa.array(["a"] * COUNT),
        ROW: pa.array(range(COUNT), pa.int64()),
        "gain": pa.array(np.where(NOISE.random(COUNT) < 0.6, 0.0, NOISE.normal(500, 50, COUNT)), mask=NOISE.random(COUNT) < 0.1),
        "age": NOISE.integers(18, 90, COUNT),
        "huge": pa.array(np.where(NOISE.random(COUNT) < 0.5, 2**63 - 1, -(2**63)), pa.int64()),
        "label": pa.array(NOISE.choice(["rare", "often", "most"], COUNT, p=[0.05, 0.3, 0.65]).tolist()),
        "rich": pa.array([False] * COUNT),
    }
)
SCHEMA = Schema(
    (
        Column("gain", "number", pa.float64()),
        Column("age", "integer", pa.int64()),
        Column("huge", "integer", pa.int64()),
        Column("label", "category", pa.string()),
        Column("rich", "boolean", pa.bool_(), derived=True),
    )
)
DRAWS = Draws.range(1, "augment", 0, COUNT)


def settled(name: str, **options: Any) -> Op:
    op: Op = find("ops", name)(SCHEMA, **options)
    op.settle(op.observe(ROWS))
    return op


def test_jitter_moves_measurements_within_their_bounds_and_leaves_states_and_missing_values() -> None:
    made = settled("tabular.jitter", scale=0.1)(ROWS, DRAWS)
    before, after = ROWS["gain"].to_numpy(), made["gain"].to_numpy()
    assert np.array_equal(np.isnan(before), np.isnan(after))
    assert np.array_equal(before == 0, after == 0)
    moved = (before > 0) & (before > np.nanquantile(before, 0.7)) & (before < np.nanmax(before) - 50)
    assert 0.7 < np.std((after - before)[moved]) / (0.1 * 50) < 1.3
    assert np.nanmin(after) >= np.nanmin(before) and np.nanmax(after) <= np.nanmax(before)
    assert made["label"].equals(ROWS["label"]) and made["age"].type == pa.int64()
    assert not made["age"].equals(ROWS["age"])
    assert made["huge"].type == pa.int64() and (np.sign(made["huge"].to_numpy()) == np.sign(ROWS["huge"].to_numpy())).mean() > 0.99


def test_balance_brings_real_and_made_rows_together_to_the_shares_asked_for() -> None:
    for to, shares in ((None, (1, 1, 1)), ({"rare": 2, "often": 1, "most": 1}, (2, 1, 1))):
        made = settled("tabular.balance", column="label", to=to)(ROWS, DRAWS)
        counts = Counter(ROWS["label"].to_pylist()) + Counter(made["label"].to_pylist())
        total = sum(counts.values())
        for name, share in zip(("rare", "often", "most"), shares, strict=True):
            assert abs(counts[name] / total - share / sum(shares)) < 0.02


def test_mixup_lies_between_a_row_and_its_partner_and_says_both_labels() -> None:
    made = settled("tabular.mixup", target="label", alpha=1.0)(ROWS, DRAWS)
    assert made["label"].equals(ROWS["label"])
    lam = made["lam"].to_numpy()
    assert abs(lam.mean() - 0.5) < 0.03 and lam.min() >= 0 and lam.max() <= 1
    assert 0.5 < np.mean([a == b for a, b in zip(made["label"].to_pylist(), made["label_b"].to_pylist(), strict=True)]) < 0.6
    assert min(made["age"].to_pylist()) >= 18 and max(made["age"].to_pylist()) < 90
    assert np.std(made["age"].to_numpy()) < np.std(ROWS["age"].to_numpy()) * 0.95


def test_derived_columns_are_computed_anew_and_row_ids_are_unique() -> None:
    derive = {"rich": Expression.parse("age > 40", "derive.rich")}
    op = settled("tabular.balance", column="label")
    made = augmented_rows(op, ROWS, DRAWS, SCHEMA, SCHEMA, derive, mark="#augment-0-0")
    assert made["rich"].to_pylist() == [age > 40 for age in made["age"].to_pylist()]
    ids = list(zip(made[FILE].to_pylist(), made[ROW].to_pylist(), strict=True))
    assert len(set(ids)) == len(ids) and all(file.startswith("a#augment-0-0") for file, _ in ids)
    assert made.column_names == [FILE, ROW, *SCHEMA.names]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("tabular.jitter", {"columns": ("label",)}, RecipeError, "'label' is no numeric column"),
        ("tabular.jitter", {"scale": 0.0}, RecipeError, "scale: must be above 0"),
        ("tabular.balance", {"column": "lable"}, RecipeError, "no column 'lable'"),
        ("tabular.balance", {"column": "gain"}, RecipeError, "of kind number"),
        ("tabular.balance", {"column": "label", "to": {"none": 1.0}}, DataError, "to names 'none'"),
        ("tabular.balance", {"column": "rich"}, DataError, "has 1 classes"),
        ("tabular.mixup", {"target": "x"}, RecipeError, "no column 'x'"),
        ("tabular.mixup", {"target": "label", "alpha": 0.0}, RecipeError, "alpha and pool_rows"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], error: type[RaysynthError], message: str) -> None:
    with pytest.raises(error, match=message):
        settled(name, **options)
