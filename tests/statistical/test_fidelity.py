"""Fidelity scores of tables whose fault is known: each is caught by the score that is to catch it, and by the column's name."""

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raysynth.features import CATEGORIES, Points, Table
from raysynth.metrics.base import Score, Seen, Side
from raysynth.parts import find
from raysynth.schema import Column, Kind, Schema

ROWS = 600
FIDELITY = ("c2st", "column_shapes", "neighbours", "pair_trends")


def law(seed: int, rows: int = ROWS) -> pa.Table:
    """Size moves weight, price and kind; a tenth of the prices is missing, and more often the larger the size is."""
    noise = np.random.default_rng(seed)
    size = noise.normal(size=rows)
    return pa.table(
        {
            "size": size,
            "weight": 50 + 20 * size + 4 * noise.normal(size=rows),
            "price": pa.array(np.exp(3 + size + 0.3 * noise.normal(size=rows)), mask=noise.random(rows) < 0.05 + 0.1 * (size > 0)),
            "kind": np.array(["small", "middle", "large"])[np.digitize(size + 0.3 * noise.normal(size=rows), [-0.5, 0.5])],
            "sold": size + noise.normal(size=rows) > 0,
        }
    )


KINDS: dict[str, Kind] = {"size": "number", "weight": "number", "price": "number", "kind": "category", "sold": "boolean"}
SCHEMA = Schema(tuple(Column(field.name, KINDS[field.name], field.type) for field in law(0, 1).schema))


@cache
def real() -> dict[Side, pa.Table]:
    return {"train": law(1), "holdout": law(2)}


def score(name: str, synthetic: pa.Table, schema: Schema = SCHEMA) -> Score:
    """The file's first score."""
    samples: dict[Side, pa.Table] = {**real(), "synthetic": synthetic}
    return scores(name, samples, schema)[0]


def scores(name: str, samples: dict[Side, pa.Table], schema: Schema = SCHEMA) -> list[Score]:
    metric = find("metrics", f"fidelity.{name}")(schema, seed=1)
    return metric.score(Seen(samples, {side: rows.num_rows for side, rows in samples.items()}), {})


def value(found: Score) -> float:
    assert found.value is not None, found.why
    return found.value


def ceiling(found: Score) -> float:
    assert found.ceiling is not None
    return found.ceiling


def put(rows: pa.Table, name: str, values: object) -> pa.Table:
    at = rows.column_names.index(name)
    return rows.set_column(at, name, pa.array(values).cast(rows.schema.field(name).type))  # type: ignore[arg-type]


def swapped(rows: pa.Table, one: str, two: str) -> pa.Table:
    return put(put(rows, one, rows[two].combine_chunks()), two, rows[one].combine_chunks())


def test_new_rows_of_the_law_are_at_the_ceiling() -> None:
    for name in FIDELITY:
        for found in scores(name, {**real(), "synthetic": law(3)}):
            assert abs(value(found) - ceiling(found)) < 0.06, (
                found
            )  # sampling noise of 600 rows; the shuffled rows are 0.2 to 0.4 off


def test_shuffled_columns_keep_their_shapes_and_lose_their_pairs() -> None:
    noise, rows = np.random.default_rng(5), law(3)
    shuffled = pa.table({name: rows[name].take(pa.array(noise.permutation(ROWS))) for name in rows.column_names})
    assert value(score("c2st", shuffled)) > 0.8
    shapes, pairs = score("column_shapes", shuffled), score("pair_trends", shuffled)
    assert shapes == score("column_shapes", rows)
    assert value(pairs) < ceiling(pairs) - 0.2
    assert min(pairs.columns, key=lambda name: pairs.columns[name]) in (
        "size × weight",
        "size × price",
        "weight × price",
        "size × kind",
    )
    precision = score("neighbours", shuffled)
    assert value(precision) < ceiling(precision) - 0.2


@pytest.mark.parametrize(
    ("fault", "rows"),
    [
        ({"weight"}, put(law(3), "weight", np.full(ROWS, 50.0))),
        ({"weight"}, put(law(3), "weight", pc.multiply(law(3)["weight"].combine_chunks(), 3.0))),
        ({"price"}, put(law(3), "price", pa.nulls(ROWS, pa.float64()))),
        ({"price"}, put(law(3), "price", pc.fill_null(law(3)["price"].combine_chunks(), 1e6))),
        ({"kind"}, put(law(3), "kind", pc.if_else(pc.equal(law(3)["kind"].combine_chunks(), "large"), None, "small"))),
        ({"size", "weight"}, swapped(law(3), "size", "weight")),
    ],
    ids=["constant", "rescaled", "all missing", "missing made large", "classes lost", "swapped"],
)
def test_a_broken_column_is_named(fault: set[str], rows: pa.Table) -> None:
    shapes = score("column_shapes", rows)
    worst = sorted(shapes.columns, key=lambda name: shapes.columns[name])[: len(fault)]
    assert set(worst) == fault and shapes.columns[worst[-1]] < 0.95
    assert value(shapes) < ceiling(shapes) - 0.015


def test_the_detector_names_the_column_that_gives_the_rows_away() -> None:
    telling = score("c2st", put(law(3), "weight", pc.multiply(law(3)["weight"].combine_chunks(), 3.0)))
    assert value(telling) > 0.9 and max(telling.columns, key=lambda name: telling.columns[name]) == "weight"


def test_missing_values_count_as_values_of_their_own() -> None:
    half = put(law(3), "size", pa.array(np.asarray(law(3)["size"]), mask=np.arange(ROWS) % 2 == 0))
    assert abs(score("column_shapes", half).columns["size"] - 0.5) < 0.05
    assert score("c2st", half).columns["size"] > 0.7


def every_kind(rows: int, seed: int) -> pa.Table:
    noise = np.random.default_rng(seed)
    days = [int(day) for day in noise.integers(0, 5000, rows)]
    fractions = [int(second) for second in noise.integers(0, 86_400, rows)]
    return pa.table(
        {
            "boolean": pa.array(noise.random(rows) < 0.3),
            "integer": pa.array(noise.integers(0, 9, rows), pa.uint64()),
            "number": pa.array(noise.normal(size=rows).astype(np.float32)),
            "decimal": pa.array([Decimal(day) / 100 for day in days], pa.decimal128(12, 2)),
            "category": pa.array(noise.choice(["a", "b"], rows)),
            "codes": pa.array(noise.integers(0, 4, rows), pa.int16()),
            "many": pa.array([f"v{int(number)}" for number in noise.exponential(200, rows)]),
            "date": pa.array([date(2000, 1, 1) + timedelta(days=day) for day in days]),
            "time": pa.array([time(second // 3600, second // 60 % 60, second % 60) for second in fractions], pa.time64("us")),
            "seconds": pa.array(fractions, pa.int32()).cast(pa.time32("s")),
            "datetime": pa.array(
                [datetime(2000, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in days], pa.timestamp("ns", "UTC")
            ),
            "duration": pa.array([timedelta(seconds=second) for second in fractions], pa.duration("ms")),
            "constant": pa.array([1.0] * rows),
            "nothing": pa.nulls(rows, pa.float64()),
            "no_class": pa.nulls(rows, pa.string()),
            "huge": pa.array(noise.choice([-1e300, 0.0, 1e300, np.inf, np.nan], rows)),
            "id": pa.array([f"{number}" for number in range(rows)]),
            "text": pa.array(["words"] * rows),
            "json": pa.array(["{}"] * rows),
        }
    )


OF_EVERY_KIND: dict[str, Kind] = {
    "decimal": "number", "codes": "category", "many": "category", "seconds": "time", "constant": "number", "nothing": "number",
    "no_class": "category", "huge": "number",
}  # fmt: skip
EVERY_KIND = Schema(tuple(Column(f.name, OF_EVERY_KIND.get(f.name, f.name), f.type) for f in every_kind(1, 0).schema))  # type: ignore[arg-type]


def test_every_kind_of_column_is_judged_but_ids_and_texts() -> None:
    samples: dict[Side, pa.Table] = {side: every_kind(300, seed) for seed, side in enumerate(("train", "holdout", "synthetic"))}  # type: ignore[misc]
    judged = [name for name in EVERY_KIND.names if name not in ("id", "text", "json")]
    for name in FIDELITY:
        for found in scores(name, samples, EVERY_KIND):
            assert np.isfinite(value(found)) and np.isfinite(ceiling(found))
            if found.name in ("column_shapes", "c2st_auc"):
                assert list(found.columns) == judged and np.isfinite(list(found.columns.values())).all()


def test_a_matrix_has_at_most_255_codes_of_a_class_and_the_frequent_ones_keep_theirs() -> None:
    rows = pa.table({"x": pa.array([*[f"v{number}" for number in range(400)], "often", "often", None])})
    table = Table.settle([rows], Schema((Column("x", "category", pa.string()),)))
    codes = table.of(rows)[:, 0]
    assert table.classes == [True] and np.nanmax(codes) == CATEGORIES and len(np.unique(codes[~np.isnan(codes)])) == 255
    assert list(codes[-3:-1]) == [0.0, 0.0] and np.isnan(codes[-1])


def test_distances_leave_derived_columns_out_and_a_missing_number_is_one_unit_off_the_median() -> None:
    schema = Schema(
        (
            Column("x", "number", pa.float64()),
            Column("k", "category", pa.string()),
            Column("y", "number", pa.float64(), derived=True),
        )
    )
    rows = pa.table({"x": [-1.0, 0.0, 1.0, None], "k": ["a", "a", "b", "a"], "y": [9.0, 9.0, 9.0, 9.0]})
    points = Points.settle([rows], schema).of(rows)
    assert points.dtype == np.float32 and points.shape == (4, 2 + 2 + 2)
    assert np.linalg.norm(points[3] - points[1]) == pytest.approx(1.0)
    assert np.linalg.norm(points[2, 2:] - points[1, 2:]) == pytest.approx(1.0)


def test_rows_of_classes_alone_are_covered_by_their_equals() -> None:
    """Distances are few and tie: rounding must not put a row outside of its own radius."""
    schema = Schema(tuple(Column(f"k{number}", "category", pa.string()) for number in range(12)))
    rows = pa.table({name: np.random.default_rng(at).choice(["a", "b", "c"], 400) for at, name in enumerate(schema.names)})
    samples: dict[Side, pa.Table] = {"train": rows, "holdout": rows, "synthetic": rows.take(pa.array(np.arange(400)[::-1]))}
    found = {each.name: value(each) for each in scores("neighbours", samples, schema)}
    assert found["precision"] == found["recall"] == found["coverage"] == 1.0 and found["density"] >= 1.0


@pytest.mark.parametrize("name", FIDELITY)
@pytest.mark.parametrize("few", [0, 5, None], ids=["no rows", "five rows", "no side"])
def test_a_side_with_too_few_rows_gives_no_value_and_says_why(name: str, few: int | None) -> None:
    for lacking in ("holdout", "synthetic"):
        samples: dict[Side, pa.Table] = {**real(), "synthetic": law(3, 60)}
        samples = {side: rows for side, rows in samples.items() if side != lacking or few is not None}
        if few is not None:
            samples[lacking] = law(4, few)
        for found in scores(name, samples):
            if found.name == "column_shapes" and lacking == "holdout":
                assert found.value is not None and found.ceiling is None
            else:
                assert found.value is None and found.why and found.ceiling is None


def test_no_column_to_look_at_is_said() -> None:
    schema = Schema((Column("id", "id", pa.string()),))
    samples: dict[Side, pa.Table] = dict.fromkeys(
        ("train", "holdout", "synthetic"), pa.table({"id": [f"{at}" for at in range(50)]})
    )
    for name in FIDELITY:
        assert all(found.value is None and "column" in found.why for found in scores(name, samples, schema))


def test_of_many_pairs_the_same_ones_are_always_chosen() -> None:
    schema = Schema(tuple(Column(f"x{at}", "number", pa.float64()) for at in range(50)))
    noise = np.random.default_rng(1)
    rows = pa.table({name: noise.normal(size=40) for name in schema.names})
    samples: dict[Side, pa.Table] = dict.fromkeys(("train", "holdout", "synthetic"), rows)
    (one,), (two,) = scores("pair_trends", samples, schema), scores("pair_trends", samples, schema)
    assert one == two and one.value == 1.0
    assert (one.facts["pairs"], one.facts["of_pairs"]) == (1000, 1225) and len(one.columns) == 1000
