"""What each op does to the columns, and what it refuses."""

from collections import Counter
from functools import reduce
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raysynth.draws import Draws
from raysynth.errors import DataError, RaysynthError, RecipeError
from raysynth.expressions import Expression
from raysynth.ops.base import Op
from raysynth.parts import find
from raysynth.schema import FILE, ROW, Column, Kind, Schema
from raysynth.stages.augment import augmented_rows, made_schema

COUNT = 3000
NOISE = np.random.default_rng(3)
COLUMNS: dict[str, Any] = {
    FILE: pa.array(["a"] * COUNT),
    ROW: pa.array(range(COUNT), pa.int64()),
    "gain": pa.array(np.where(NOISE.random(COUNT) < 0.6, 0.0, NOISE.normal(500, 50, COUNT)), mask=NOISE.random(COUNT) < 0.1),
    "age": NOISE.integers(18, 90, COUNT),
    "huge": pa.array(np.where(NOISE.random(COUNT) < 0.5, 2**63 - 1, -(2**63)), pa.int64()),
    "id": pa.array(range(COUNT), pa.int64()),
    "label": pa.array(NOISE.choice(["rare", "often", "most"], COUNT, p=[0.05, 0.3, 0.65]).tolist()),
    "rich": pa.array([False] * COUNT),
}
ROWS = pa.table(COLUMNS)
SCHEMA = Schema(
    (
        Column("gain", "number", pa.float64()),
        Column("age", "integer", pa.int64()),
        Column("huge", "integer", pa.int64()),
        Column("id", "integer", pa.int64()),
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


def jittered(values: pa.Array, kind: Kind, *, rows_per_task: int) -> pa.Array:
    rows = pa.table({FILE: pa.array(["a"] * len(values)), ROW: pa.array(range(len(values)), pa.int64()), "x": values})
    op: Op = find("ops", "tabular.jitter")(Schema((Column("x", kind, values.type),)), scale=1.0)
    seen: list[Any] = [op.observe(rows.slice(start, rows_per_task)) for start in range(0, len(values), rows_per_task)]
    op.settle(reduce(lambda one, other: one.merge(other), seen))
    return op(rows, Draws.range(1, "augment", 0, len(values)))["x"].combine_chunks()


def test_jitter_leaves_the_states_of_a_column_of_few_values_and_moves_its_rare_ones() -> None:
    visits = np.where(NOISE.random(COUNT) < 0.7, 0, NOISE.integers(1, 16, COUNT))  # each of 1 to 15 is 2 % of the rows
    grades = NOISE.integers(1, 6, COUNT)
    made = jittered(pa.array(visits), "integer", rows_per_task=700).to_numpy()
    assert (made[visits == 0] == 0).all() and (made[visits > 0] != visits[visits > 0]).mean() > 0.5
    assert jittered(pa.array(grades), "integer", rows_per_task=700).to_numpy().tolist() == grades.tolist()


@pytest.mark.parametrize(
    ("kind", "type_"),
    [
        ("integer", pa.int64()),
        ("integer", pa.uint64()),
        ("number", pa.decimal128(38, 2)),
        ("datetime", pa.timestamp("ns", tz="Europe/Berlin")),
        ("duration", pa.duration("us")),
    ],
    ids=str,
)
def test_jitter_keeps_exact_bounds_where_float64_has_no_room(kind: Kind, type_: pa.DataType) -> None:
    numbers = pa.array((2**60 + 1 + NOISE.integers(0, 10**6, COUNT)).astype(np.int64))
    values = numbers.cast(pa.decimal128(36, 0)).cast(type_) if pa.types.is_decimal(type_) else numbers.cast(type_)
    made = jittered(values, kind, rows_per_task=700)
    assert made.type == type_ and not made.equals(values)
    whole = [array if pa.types.is_decimal(type_) else array.cast(pa.int64()) for array in (values, made)]
    ends: list[Any] = [pc.min_max(array).as_py() for array in whole]
    before, after = ends
    assert before["min"] <= after["min"] and after["max"] <= before["max"]


def test_jitter_knows_the_ends_of_rows_that_its_sample_has_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysynth.ops.tabular.jitter.POOL_ROWS", 100)
    values = NOISE.normal(0, 1, COUNT)
    values[:3] = 1e6, 1e6 - 50, -1e6
    made = jittered(pa.array(values), "number", rows_per_task=COUNT).to_numpy()
    assert np.abs(made[:3] - values[:3]).max() < 20


def test_balance_gives_every_row_of_a_class_the_whole_part_of_its_copies() -> None:
    op = settled("tabular.balance", column="label", to={"rare": 5, "often": 3, "most": 6})
    counts = Counter(str(label) for label in ROWS["label"].to_pylist())
    made = Counter(op(ROWS, DRAWS)[ROW].to_pylist())
    labels = [str(label) for label in ROWS["label"].to_pylist()]
    per_share = max(counts[name] / share for name, share in {"rare": 5, "often": 3, "most": 6}.items())
    for name, share in {"rare": 5, "often": 3, "most": 6}.items():
        wanted = share * per_share / counts[name] - 1
        times = [made[row] for row in range(COUNT) if labels[row] == name]
        assert set(times) <= {int(wanted + 1e-9), int(wanted + 1e-9) + 1}
        assert abs(float(np.mean(times)) - wanted) < 4 * 0.5 / len(times) ** 0.5  # four deviations of a Bernoulli mean


def test_mixup_takes_the_one_that_is_there_and_the_class_of_the_nearer() -> None:
    made = settled("tabular.mixup", target="label", alpha=1.0, pool_rows=1)(ROWS, DRAWS)
    op: Any = settled("tabular.mixup", target="label", pool_rows=1)
    (partner,) = op.observe(ROWS).rows.to_pylist()
    assert made.schema.field("label_b").type == pa.string() and set(made["label_b"].to_pylist()) == {partner["label"]}
    lam, own, mixed = made["lam"].to_numpy(), ROWS["gain"].to_numpy(), made["gain"].to_numpy()
    other = np.nan if partner["gain"] is None else partner["gain"]
    expected = np.where(np.isnan(own), other, own if np.isnan(other) else lam * own + (1 - lam) * other)
    assert np.allclose(mixed, expected, equal_nan=True)
    assert np.array_equal(made["age"].to_numpy(), np.round(lam * ROWS["age"].to_numpy() + (1 - lam) * partner["age"]))


def test_a_derived_target_is_that_of_the_mixed_row() -> None:
    derive = {"rich": Expression.parse("age > 40", "derive.rich")}
    op = settled("tabular.mixup", target="rich", alpha=1.0)
    made = augmented_rows(op, ROWS, DRAWS, SCHEMA, op.made, derive, mark="#augment-0-0")
    assert made["rich"].to_pylist() == (made["age"].to_numpy() > 40).tolist()
    assert made.schema.field("label_b").type == pa.bool_()


def test_columns_that_an_op_adds_are_null_in_rows_of_others_and_of_one_type() -> None:
    mixup, balance = settled("tabular.mixup", target="label"), settled("tabular.balance", column="label")
    made = augmented_rows(balance, ROWS, DRAWS, SCHEMA, mixup.made, {}, mark="#augment-1-0")
    assert made.column_names == [FILE, ROW, *SCHEMA.names, "label_b", "lam"]
    assert made["lam"].null_count == made["label_b"].null_count == made.num_rows > 0
    assert made.schema == augmented_rows(mixup, ROWS, DRAWS, SCHEMA, mixup.made, {}, mark="#augment-0-0").schema
    with pytest.raises(RecipeError, match="two ops add a column 'label_b' of unlike types, string and int64"):
        made_schema((mixup, settled("tabular.mixup", target="age")), SCHEMA)


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
    assert made["age"].to_numpy().min() >= 18 and made["age"].to_numpy().max() < 90
    assert np.std(made["age"].to_numpy()) < np.std(ROWS["age"].to_numpy()) * 0.95


def test_derived_columns_are_computed_anew_and_row_ids_are_unique() -> None:
    derive = {"rich": Expression.parse("age > 40", "derive.rich")}
    op = settled("tabular.balance", column="label")
    made = augmented_rows(op, ROWS, DRAWS, SCHEMA, SCHEMA, derive, mark="#augment-0-0")
    assert made["rich"].to_pylist() == (made["age"].to_numpy() > 40).tolist()
    files = [str(file) for file in made[FILE].to_pylist()]
    ids = list(zip(files, made[ROW].to_pylist(), strict=True))
    assert len(set(ids)) == len(ids) and all(file.startswith("a#augment-0-0") for file in files)
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
        ("tabular.jitter", {"columns": ("nobody",)}, RecipeError, "'nobody' is no numeric column"),
        ("tabular.balance", {"column": "huge", "to": {"1": -1.0}}, RecipeError, "to: must give each class a share"),
        ("tabular.balance", {"column": "huge", "to": {"1": float("inf")}}, RecipeError, "to: must give each class a share"),
        ("tabular.balance", {"column": "label", "to": {"rare": 1.0, "often": 1e-9}}, DataError, "would come back .* times"),
        ("tabular.balance", {"column": "id"}, DataError, "has more than 1000 classes"),
        ("tabular.mixup", {"target": "x"}, RecipeError, "no column 'x'"),
        ("tabular.mixup", {"target": "label", "alpha": 0.0}, RecipeError, "alpha and pool_rows"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, options: dict[str, Any], error: type[RaysynthError], message: str) -> None:
    with pytest.raises(error, match=message):
        settled(name, **options)
