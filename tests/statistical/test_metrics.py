"""Metrics on small tables in memory: near their ceiling for hold-out rows, and far from it for what each of them is to catch."""

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.cleaning import row_hash
from raysynth.draws import Draws
from raysynth.features import Points, Table
from raysynth.metrics.base import WORD, Score, Seen, Side
from raysynth.metrics.privacy.nearest import Nearest
from raysynth.parts import find
from raysynth.schema import Column, Kind, Schema
from raysynth.stages.evaluate import applying, told_by

KINDS: dict[str, Kind] = {
    "height": "number",
    "weight": "number",
    "steps": "integer",
    "town": "category",
    "born": "date",
    "at": "datetime",
    "name": "text",
    "bought": "boolean",
}


def law(rows: int, seed: int) -> pa.Table:
    noise = np.random.default_rng(seed)
    height = noise.normal(170, 10, rows)
    return pa.table(
        {
            "height": height.round(3),
            "weight": pa.array((height - 100 + 8 * noise.normal(size=rows)).round(3), mask=noise.random(rows) < 0.1),
            "steps": np.maximum(0, 8000 + 300 * (height - 170) + 800 * noise.normal(size=rows)).astype(int),
            "town": pa.array(np.where(height > 172, "north", np.where(noise.random(rows) < 0.5, "south", "east"))),
            "born": pa.array((noise.normal(-3000, 4000, rows)).astype("int32"), pa.int32()).cast(pa.date32()),
            "at": pa.array((noise.normal(0, 1e15, rows)).astype("int64")).cast(pa.timestamp("us", "UTC")),
            "name": pa.array([f"nobody {i}" for i in range(rows)], pa.string()),
            "bought": height + 5 * noise.normal(size=rows) > 172,
        }
    )


SCHEMA = Schema(tuple(Column(field.name, KINDS[field.name], field.type) for field in law(1, 0).schema))
METRICS = applying(
    Schema(tuple(column for column in SCHEMA if column.kind != "text")), "bought"
)  # those of texts: test_text_metrics.py


def seen_of(tables: dict[Side, pa.Table]) -> Seen:
    samples: dict[Side, pa.Table] = {}
    for side, rows in tables.items():
        words = np.sort(Draws.range(1, side, 0, rows.num_rows).words("w"))
        samples[side] = rows.append_column(WORD, pa.array(words))
    contents = {side: np.unique(row_hash(rows, SCHEMA)) for side, rows in tables.items()}
    return Seen(samples, {side: rows.num_rows for side, rows in tables.items()}, contents)


def scores(name: str, tables: dict[Side, pa.Table], target: str | None = None, cut: int = 300) -> dict[str, Score]:
    """As the stage does it: settle, observe pieces of `cut` rows, merge, score."""
    metric, seen = find("metrics", name)(SCHEMA, seed=1, target=target), seen_of(tables)
    metric.settle(seen)
    stats: dict[Side, Any] = {}
    for side in metric.sides:
        for start in range(0, seen.samples[side].num_rows, cut):
            found = metric.observe(seen.samples[side].slice(start, cut), side)
            stats[side] = stats[side].merge(found) if side in stats else found
    made = metric.score(seen, stats)
    assert [score.name for score in made] == list(metric.names)
    return {score.name: score for score in made}


REAL: dict[Side, pa.Table] = {"train": law(1500, 1), "validation": law(300, 2), "holdout": law(700, 3)}


def with_synthetic(rows: pa.Table) -> dict[Side, pa.Table]:
    return {**REAL, "synthetic": rows}


@pytest.mark.parametrize("name", METRICS)
def test_rows_of_the_same_law_reach_the_ceiling(name: str) -> None:
    for score in scores(name, with_synthetic(law(700, 4)), target="bought").values():
        if score.name == "utility_mix":
            assert score.value is None and score.why == "the recipe makes no mix"
            continue
        assert score.value is not None and score.ceiling is not None
        assert min(score.worst, score.best) - 0.05 <= score.value <= max(score.worst, score.best) + 0.05
        assert abs(score.value - score.ceiling) < 0.08, score


@pytest.mark.parametrize("name", METRICS)
def test_a_side_that_is_empty_gives_a_reason_and_never_a_number_that_is_none(name: str) -> None:
    for empty in ("synthetic", "holdout", "train"):
        tables = {**with_synthetic(law(100, 4)), empty: law(0, 1)}
        for score in scores(name, tables, target="bought").values():
            assert score.value is None or np.isfinite(score.value)
            assert (score.value is None) == bool(score.why)


@pytest.mark.parametrize("name", METRICS)
def test_scores_do_not_depend_on_how_the_rows_were_cut(name: str) -> None:
    tables = with_synthetic(law(400, 4))
    assert scores(name, tables, "bought", cut=97) == scores(name, tables, "bought", cut=10_000)


def test_independent_columns_are_seen_by_the_detector_and_the_pairs_alone() -> None:
    noise, rows = np.random.default_rng(5), law(700, 4)
    shuffled = with_synthetic(pa.table({name: rows[name].take(noise.permutation(700)) for name in rows.column_names}))
    assert (scores("fidelity.c2st", shuffled)["c2st_auc"].value or 0) > 0.7
    pairs = scores("fidelity.pair_trends", shuffled)["pair_trends"]
    assert pairs.value is not None and pairs.ceiling is not None and pairs.value < pairs.ceiling - 0.03
    worst = min(pairs.columns, key=lambda name: pairs.columns[name])
    assert set(worst.split(" × ")) <= {"height", "weight", "steps", "town", "bought"}
    shapes = scores("fidelity.column_shapes", shuffled)["column_shapes"]
    assert shapes.value is not None and shapes.value > 0.93
    useful = scores("utility.downstream", shuffled, "bought")["utility_synthetic"]
    assert useful.value is not None and useful.ceiling is not None and useful.value < useful.ceiling - 0.1


def test_train_rows_are_copies_and_nearer_to_train() -> None:
    assert scores("privacy.exact_copies", with_synthetic(REAL["train"]))["exact_copies"].value == 1.0
    assert (scores("privacy.nearest", with_synthetic(REAL["train"]))["nearer_to_train"].value or 0) > 0.99
    noisy = REAL["train"].set_column(0, "height", pa.array(np.asarray(REAL["train"]["height"]) + 0.01))
    assert (scores("privacy.nearest", with_synthetic(noisy))["nearer_to_train"].value or 0) > 0.95
    assert scores("privacy.nearest", with_synthetic(REAL["holdout"]))["nearer_to_train"].value == 0.0


def test_rows_that_leave_a_mode_out_lose_recall_and_coverage_not_precision() -> None:
    rows = law(3000, 6)
    tall = rows.filter(pa.array(np.asarray(rows["height"]) > 172)).slice(0, 600)
    found = scores("fidelity.neighbours", with_synthetic(tall))
    for name in ("recall", "coverage"):
        value, ceiling = found[name].value, found[name].ceiling
        assert value is not None and ceiling is not None and value < ceiling - 0.1, name
    precision, ceiling = found["precision"].value, found["precision"].ceiling
    assert precision is not None and ceiling is not None and precision > ceiling - 0.1


@pytest.mark.parametrize(
    ("target", "why"),
    [(None, "not set"), ("name", "of kind text"), ("town", ""), ("height", ""), ("born", "")],
)
def test_a_target_is_a_class_or_a_number(target: str | None, why: str) -> None:
    found = scores("utility.downstream", with_synthetic(law(700, 4)), target)["utility_synthetic"]
    assert why in found.why and (found.value is None) == bool(why)
    if target == "town":
        assert set(found.facts["classes"]) == {"north", "south", "east"}
    if target == "height":
        assert found.facts["kind"] == "regression" and (found.value or 0) > 0.5


def test_a_constant_target_is_said() -> None:
    constant = {
        side: rows.set_column(7, "bought", pa.array([True] * rows.num_rows)) for side, rows in with_synthetic(law(99, 4)).items()
    }
    found = scores("utility.downstream", constant, "bought")
    assert {score.why for score in found.values()} == {"evaluate.target 'bought' has one value in the train rows"}


@settings(max_examples=30, deadline=None)
@given(st.lists(st.one_of(st.none(), st.floats(width=64)), min_size=1, max_size=30))
def test_any_numbers_become_finite_points(values: list[float | None]) -> None:
    rows = pa.table({"x": pa.array(values, pa.float64())})
    schema = Schema((Column("x", "number", pa.float64()),))
    with np.errstate(all="ignore"):
        assert np.isfinite(Points.settle([rows], schema).of(rows)).all()
    assert Table.settle([rows], schema).of(rows).shape == (len(values), 1)


def test_a_derived_target_is_not_told_by_what_it_is_computed_from() -> None:
    derive = {"late": "delay > 15", "very": "late and delay > 60", "far": "distance > 500"}
    assert told_by(derive, "late") == {"delay", "very"}
    assert told_by(derive, "very") == {"delay", "late"}
    assert told_by(derive, "far") == {"distance"}
    assert told_by(derive, "delay") == {"late", "very"}  # which are computed from it
    assert told_by(derive, None) == told_by(derive, "carrier") == frozenset()


@pytest.mark.parametrize(("columns", "levels"), [(4, 4), (4, 10), (5, 20), (2, 3)], ids=["4x4", "4x10", "5x20", "2x3"])
def test_among_classes_where_many_rows_are_equally_near_a_law_is_near_neither_and_a_copy_is_near_train(
    columns: int, levels: int
) -> None:
    noise = np.random.default_rng(0)
    weights = 1 / np.arange(1, levels + 1) ** 1.2
    schema = Schema(tuple(Column(f"c{at}", "category", pa.string()) for at in range(columns)))

    def drawn(rows: int) -> pa.Table:
        cells = {name: noise.choice(levels, rows, p=weights / weights.sum()).astype(str) for name in schema.names}
        return pa.table(cells).append_column(WORD, pa.array(np.arange(rows, dtype=np.uint64)))

    def nearer(synthetic: pa.Table) -> float:
        samples: dict[Side, pa.Table] = {**real, "synthetic": synthetic}
        seen = Seen(samples, {side: table.num_rows for side, table in samples.items()})
        metric = Nearest(schema)
        metric.settle(seen)
        return metric.score(seen, {side: metric.observe(samples[side], side) for side in metric.sides})[0].value or 0.0

    real: dict[Side, pa.Table] = {"train": drawn(4000), "holdout": drawn(1200), "validation": drawn(600)}
    law = nearer(drawn(2000))
    assert law == pytest.approx(0.5, abs=0.03)
    assert nearer(real["train"]) > law
    assert nearer(real["holdout"]) < law
