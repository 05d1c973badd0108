"""Models that learn from train, synthetic and mixed rows, judged on hold-out rows: classes, numbers, and what cannot be predicted."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raysynth.errors import DataError
from raysynth.metrics.base import Score, Seen, Side
from raysynth.metrics.utility.downstream import Downstream
from raysynth.schema import Column, Kind, Schema

KINDS: dict[str, Kind] = {
    "a": "number", "b": "number", "town": "category", "late": "boolean", "speed": "integer", "delay": "number", "stars": "integer",
    "note": "text", "day": "date",
}  # fmt: skip


def law(rows: int, seed: int) -> pa.Table:
    noise = np.random.default_rng(seed)
    a, b = noise.normal(size=rows), noise.normal(size=rows)
    return pa.table(
        {
            "a": a,
            "b": pa.array(b, mask=noise.random(rows) < 0.05),
            "town": np.array(["x", "y", "z"])[np.digitize(a, [-0.5, 0.5])],
            "late": pa.array(a + b + 0.5 * noise.normal(size=rows) > 0, mask=noise.random(rows) < 0.02),
            "speed": pa.array((1000 * a + 100 * noise.normal(size=rows)).astype(np.int64)),
            "delay": pa.array(a - b + 0.2 * noise.normal(size=rows), mask=noise.random(rows) < 0.02),
            "stars": pa.array(np.clip(np.round(2 + a), 0, 4).astype(np.int64)),
            "note": [f"row {number}" for number in range(rows)],
            "day": pa.array((100 * a).astype(np.int32), pa.int32()).cast(pa.date32()),
        }
    )


SCHEMA = Schema(tuple(Column(field.name, KINDS[field.name], field.type) for field in law(1, 0).schema))
SAMPLES: dict[Side, pa.Table] = {"train": law(600, 1), "validation": law(200, 2), "holdout": law(500, 3), "synthetic": law(600, 4)}


def scores(target: str | None, samples: dict[Side, pa.Table]) -> dict[str, Score]:
    found = Downstream(SCHEMA, seed=1, target=target).score(
        Seen(samples, {side: rows.num_rows for side, rows in samples.items()}), {}
    )
    assert [score.name for score in found] == ["utility_synthetic", "utility_real", "utility_mix"]
    assert all((score.value is None) == bool(score.why) for score in found)
    return {score.name: score for score in found}


@pytest.mark.parametrize(("target", "kind", "least"), [("late", "classification", 0.85), ("town", "classification", 0.95),
    ("stars", "classification", 0.9), ("speed", "regression", 0.9), ("delay", "regression", 0.8), ("day", "regression", 0.8)])  # fmt: skip
def test_rows_of_the_same_law_teach_as_well_as_real_ones(target: str, kind: str, least: float) -> None:
    found = scores(target, {**SAMPLES, "mix": pa.concat_tables([SAMPLES["train"], SAMPLES["synthetic"]])})
    for score in found.values():
        assert score.value is not None and least < score.value <= 1
        assert score.ceiling == found["utility_real"].value and abs(score.value - score.ceiling) < 0.06
        assert score.facts["kind"] == kind and score.worst == (0.5 if kind == "classification" else 0.0)
    if kind == "classification":
        classes = found["utility_synthetic"].facts["classes"]
        assert sum(told["holdout_rows"] for told in classes.values()) == found["utility_synthetic"].facts["holdout_rows"]
        assert all(0 <= told[measure] <= 1 for told in classes.values() for measure in ("precision", "recall", "f1"))
    else:
        assert found["utility_real"].facts["mean_absolute_error"] <= found["utility_real"].facts["root_mean_squared_error"]


@pytest.mark.parametrize("unit", [2.0**600, 2.0**-600, 2.0**-1040], ids=["huge", "tiny", "subnormal"])
def test_the_unit_of_a_target_does_not_matter(unit: float) -> None:
    def in_unit(rows: pa.Table) -> pa.Table:
        return rows.set_column(rows.column_names.index("delay"), "delay", pc.multiply(rows["delay"], unit))

    found = scores("delay", {side: in_unit(rows) for side, rows in SAMPLES.items()})
    usual = scores("delay", SAMPLES)
    for name in ("utility_real", "utility_synthetic"):
        assert found[name].value == pytest.approx(usual[name].value, abs=0.02)


@pytest.mark.parametrize(("target", "most"), [("late", 0.65), ("delay", 0.2)])
def test_rows_whose_target_is_shuffled_teach_nothing(target: str, most: float) -> None:
    rows = SAMPLES["synthetic"]
    mixed = rows[target].take(pa.array(np.random.default_rng(1).permutation(rows.num_rows)))
    lost = (
        rows.set_column(rows.column_names.index(target), target, mixed).drop_columns(["note"]).append_column("note", rows["note"])
    )
    names = {"late": ["a", "b", "town", "late", "note"], "delay": ["a", "b", "town", "delay", "note"]}[target]
    found = scores(target, {**SAMPLES, "synthetic": lost.select([*names, *(n for n in SCHEMA.names if n not in names)])})
    value, real = found["utility_synthetic"].value, found["utility_real"].value
    assert value is not None and real is not None and value < most < real


def test_the_same_samples_give_the_same_scores() -> None:
    assert scores("late", SAMPLES) == scores("late", SAMPLES)


def test_without_a_mix_or_a_validation_side_the_rest_is_scored() -> None:
    found = scores("late", {side: rows for side, rows in SAMPLES.items() if side != "validation"})
    assert found["utility_mix"].value is None and found["utility_mix"].why == "the recipe makes no mix"
    assert (found["utility_synthetic"].value or 0) > 0.8


@pytest.mark.parametrize("lacking", ["train", "holdout", "synthetic"])
def test_a_side_that_is_missing_or_empty_is_said(lacking: str) -> None:
    for samples in (
        {side: rows for side, rows in SAMPLES.items() if side != lacking},
        {side: rows.slice(0, 0) if side == lacking else rows for side, rows in SAMPLES.items()},
    ):
        found = scores("late", samples)
        assert found["utility_synthetic"].value is None
        assert (found["utility_real"].value is None) == (lacking != "synthetic")


@pytest.mark.parametrize(("target", "why"), [(None, "evaluate.target is not set"), ("note", "of kind text")])
def test_what_no_model_predicts_is_said(target: str | None, why: str) -> None:
    assert all(score.value is None and why in score.why for score in scores(target, SAMPLES).values())


def test_a_target_that_is_no_column_is_named() -> None:
    with pytest.raises(DataError, match="column 'nobody': no such column"):
        scores("nobody", SAMPLES)


@pytest.mark.parametrize(("fill", "why"), [(True, "has one value in the train rows"), (None, "has no value in the train rows")])
def test_a_target_that_does_not_vary_is_said(fill: bool | None, why: str) -> None:
    def same(rows: pa.Table) -> pa.Table:
        return rows.set_column(rows.column_names.index("late"), "late", pa.array([fill] * rows.num_rows, pa.bool_()))

    found = scores("late", {side: same(rows) for side, rows in SAMPLES.items()})
    assert all(score.value is None and why in score.why for score in found.values())


def test_a_class_that_synthetic_rows_lack_counts_against_them() -> None:
    lacking = SAMPLES["synthetic"].filter(pa.array([town != "z" for town in SAMPLES["synthetic"]["town"].to_pylist()]))
    found = scores("town", {**SAMPLES, "synthetic": lacking})
    value, real = found["utility_synthetic"].value, found["utility_real"].value
    assert value is not None and real is not None and value < real - 0.1
    assert found["utility_synthetic"].facts["classes"]["z"]["recall"] == 0.0


def test_columns_without_values_are_no_columns() -> None:
    def without(rows: pa.Table, *kept: str) -> pa.Table:
        return pa.table({f.name: rows[f.name] if f.name in kept else pa.nulls(rows.num_rows, f.type) for f in rows.schema})

    some = scores("late", {**SAMPLES, "synthetic": without(SAMPLES["synthetic"], "late", "a")})
    assert some["utility_synthetic"].value is not None and some["utility_synthetic"].value > 0.7
    none = scores("late", {**SAMPLES, "synthetic": without(SAMPLES["synthetic"], "late")})
    assert none["utility_synthetic"].why == "there is no column to predict 'late' from" and none["utility_real"].value is not None
