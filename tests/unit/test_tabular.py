"""The tabular codec: what goes in comes out, whatever the type; statistics know no order; conditions are never too tight."""

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raysynth.codecs._identifiers import permute
from raysynth.codecs._numbers import from_numbers, to_numbers
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Batch, FieldsGiven
from raysynth.schema import FILE, ROW, Column, Kind, Schema
from raysynth.where import parse_where, satisfied

NOISE = np.random.default_rng(1)
ROWS = 2000


def table(**columns: pa.Array) -> pa.Table:
    rows = len(next(iter(columns.values())))
    ids = {FILE: pa.array(["a.csv"] * rows), ROW: pa.array(range(rows))}
    return pa.table({**columns, **ids})


def schema_of(rows: pa.Table, **kinds: Kind) -> Schema:
    return Schema(tuple(Column(name, kinds.get(name, "number"), rows.column(name).type) for name in rows.column_names[:-2]))


def settled(rows: pa.Table, **kinds: Kind) -> Tabular:
    codec = Tabular(schema_of(rows, **kinds), rows_per_bin=16)
    codec.settle(codec.observe(rows))
    return codec


def round_trip(rows: pa.Table, **kinds: Kind) -> pa.Table:
    codec = settled(rows, **kinds)
    return codec.decode(codec.encode(rows), Draws.range(3, "decode", 0, rows.num_rows))


SMALL: dict[str, tuple[Kind, pa.Array]] = {
    "boolean": ("boolean", pa.array([True, False, None, True])),
    "category": ("category", pa.array(["a", "rare", None, "a"])),
    "binary": ("category", pa.array([b"a", b"\xff", None, b"a"])),
    "empty": ("category", pa.nulls(4, pa.string())),
    "untyped": ("category", pa.nulls(4)),
    "constant": ("integer", pa.array([5, 5, 5, 5], pa.int8())),
    "unsigned": ("integer", pa.array([0, 2**64 - 1, None, 7], pa.uint64())),
    "extremes": ("integer", pa.array([-(2**63), 2**63 - 1, None, 0])),
    "floats": ("number", pa.array([float("inf"), float("-inf"), None, 0.25])),
    "narrow": ("number", pa.array([0.1, 0.2, None, 3.0], pa.float32())),
    "decimal": ("number", pa.array([Decimal("1.10"), Decimal("-2.05"), None, Decimal("0.00")], pa.decimal128(10, 2))),
    "date": ("date", pa.array([dt.date(1969, 1, 2), dt.date(2024, 2, 29), None, dt.date(2000, 1, 1)])),
    "date64": ("date", pa.array([dt.date(1969, 1, 2), dt.date(2024, 2, 29), None, dt.date(2000, 1, 1)], pa.date64())),
    "time": ("time", pa.array([dt.time(1, 2, 3), None, dt.time(0), dt.time(23)], pa.time64("us"))),
    "zoned": ("datetime", pa.array([0, 10**15, None, -5], pa.timestamp("us", tz="Europe/Paris"))),
    "duration": ("duration", pa.array([0, 10**9, None, -5], pa.duration("ns"))),
}


@pytest.mark.parametrize("name", SMALL)
def test_few_values_come_back_exactly(name: str) -> None:
    kind, column = SMALL[name]
    rows = table(x=column)
    assert round_trip(rows, x=kind).column("x").to_pylist() == column.to_pylist()
    assert round_trip(rows, x=kind).schema == pa.schema([("x", column.type)])


def test_not_a_number_and_null_stay_apart() -> None:
    column = pa.array([float("nan"), None, 1.0], from_pandas=False)
    back = round_trip(table(x=column)).column("x")
    assert back.null_count == 1
    assert np.isnan(back[0].as_py())


MANY: dict[str, tuple[Kind, pa.Array]] = {
    "integers": ("integer", pa.array(NOISE.integers(0, 10**6, ROWS) * 5)),
    "wide integers": ("integer", pa.array(NOISE.integers(-(2**63), 2**63 - 1, ROWS))),
    "prices": ("number", pa.array(np.round(NOISE.lognormal(3, 2, ROWS), 2))),
    "floats": ("number", pa.array(NOISE.normal(size=ROWS) * 1e300)),
    "decimals": (
        "number",
        pa.array([Decimal(int(v)).scaleb(-3) for v in NOISE.integers(-(10**8), 10**8, ROWS)], pa.decimal128(12, 3)),
    ),
    "moments": ("datetime", pa.array(NOISE.integers(0, 10**9, ROWS) * 10**6, pa.timestamp("us", tz="UTC"))),
}


@pytest.mark.parametrize("name", MANY)
def test_many_values_stay_near_their_place_and_keep_their_precision(name: str) -> None:
    kind, column = MANY[name]
    codec = settled(table(x=column), x=kind)
    batch = codec.encode(table(x=column))
    back = codec.decode(batch, Draws.range(3, "decode", 0, ROWS)).column("x").combine_chunks()
    numbers, again = to_numbers(column)[0], to_numbers(back)[0]
    rank = np.searchsorted(np.sort(numbers), numbers) - np.searchsorted(np.sort(numbers), again)
    assert np.abs(rank).max() <= ROWS // 500 + 3  # a cell holds about two rows here, and values may cross into its neighbours
    if name == "integers":
        assert (again % 5 == 0).all()
    if name == "prices":
        assert np.array_equal(np.round(again, 2), again)
    if name == "moments":
        assert (again % 10**6 == 0).all()
    assert np.mean(np.isin(again, numbers)) < 0.5


def test_a_spike_inside_a_continuous_column_keeps_its_share() -> None:
    values = NOISE.exponential(size=ROWS)
    values[: ROWS // 2] = 0
    codec = settled(table(x=pa.array(values)))
    back = codec.decode(codec.encode(table(x=pa.array(values))), Draws.range(3, "decode", 0, ROWS))
    assert abs(np.mean(np.asarray(back.column("x")) == 0) - 0.5) < 1e-9
    assert len(codec.layout.fields) == 2


def test_statistics_do_not_depend_on_order_or_cuts() -> None:
    rows = table(n=pa.array(NOISE.normal(size=500)), c=pa.array(NOISE.choice(["a", "b", None], 500)))
    codec = Tabular(schema_of(rows, c="category"))
    shuffled = rows.take(pa.array(NOISE.permutation(500)))
    merged = codec.observe(shuffled.slice(0, 123)).merge(codec.observe(shuffled.slice(123)))
    codec.settle(codec.observe(rows))
    whole, _ = codec.state()
    codec.settle(merged)
    for name, array in codec.state()[0].items():
        assert np.array_equal(whole[name], array), name


def test_state_and_load_give_the_same_codec() -> None:
    columns = {name.replace(" ", "_"): column for name, (_, column) in MANY.items()}
    rows = table(**columns, word=pa.array([f"w{i % 700}" for i in range(ROWS)]), key=pa.array([f"K{i:05d}" for i in range(ROWS)]))
    codec = settled(rows, word="category", key="id")
    twin = Tabular(codec.schema)
    twin.load(*codec.state())
    draws = Draws.range(3, "decode", 0, ROWS)
    assert twin.layout == codec.layout
    assert np.array_equal(twin.encode(rows)["codes"], codec.encode(rows)["codes"])
    assert twin.decode(codec.encode(rows), draws) == codec.decode(codec.encode(rows), draws)


def test_a_category_of_many_values_is_two_fields_and_comes_back() -> None:
    column = pa.array([f"w{i % 1500}" for i in range(ROWS)])
    codec = settled(table(x=column), x="category")
    assert max(codec.layout.sizes) < 200
    assert (
        codec.decode(codec.encode(table(x=column)), Draws.range(3, "decode", 0, ROWS)).column("x").to_pylist() == column.to_pylist()
    )


@pytest.mark.parametrize(
    "column",
    [pa.array([f"K-{i:04d}" for i in range(300)]), pa.array(range(300), pa.int64()), pa.array([f"{i:032x}" for i in range(300)])],
)
def test_ids_are_made_anew_and_unique(column: pa.Array) -> None:
    codec = settled(table(x=column, y=column.cast(pa.string())), x="id", y="category")
    made = codec.decode(Batch({"codes": np.zeros((50_000, 1), dtype=np.int32)}), Draws.range(3, "generate", 0, 50_000)).column("x")
    assert made.type == column.type
    assert len(set(made.to_pylist())) == 50_000


@pytest.mark.parametrize("capacity", [1, 2, 3, 5, 8, 1000, 4097])
def test_the_permutation_of_ids_is_one(capacity: int) -> None:
    made = permute(np.arange(capacity, dtype=np.uint64), capacity, np.uint64(99))
    assert sorted(made.tolist()) == list(range(capacity))


@pytest.mark.parametrize(
    ("name", "raw"),
    [("n", {"min": -1, "under": 0.5}), ("n", {"over": 2}), ("c", ["a", None]), ("i", {"max": 2000}), ("i", [0, 5]), ("b", True)],
)
def test_masks_hold_every_code_that_may_satisfy_and_little_else(name: str, raw: Any) -> None:
    integers = np.where(np.arange(ROWS) % 4 == 0, 5, NOISE.integers(0, 10_000, ROWS))
    integers[0] = 0
    rows = table(
        n=pa.array(NOISE.normal(size=ROWS)), c=pa.array(NOISE.choice(["a", "b", None], ROWS)), i=pa.array(integers),
        b=pa.array(NOISE.random(ROWS) < 0.5),
    )  # fmt: skip
    codec = settled(rows, c="category", i="integer", b="boolean")
    where = parse_where({name: raw}, codec.schema)
    given = codec.condition(where)
    assert isinstance(given, FieldsGiven)
    codes = codec.encode(rows)
    decoded = codec.decode(codes, Draws.range(8, "decode", 0, ROWS))
    inside = np.ones(ROWS, dtype=np.bool_)
    for field, mask in given.masks.items():
        inside &= mask[codes["codes"][:, field]]
    good = satisfied(where, decoded)
    assert not (good & ~inside).any()
    assert inside.sum() <= good.sum() + 0.06 * ROWS


def test_a_value_that_no_train_row_has_is_refused_by_name() -> None:
    rows = table(c=pa.array(["a", "b"] * 10))
    codec = settled(rows, c="category")
    with pytest.raises(RecipeError, match=r"where\.c: no train row has 'z'"):
        codec.condition(parse_where({"c": ["a", "z"]}, codec.schema))


def test_a_value_that_no_train_row_has_is_told_as_it_was_written() -> None:
    rows = table(d=pa.array([1, 2] * 10, pa.duration("ms")), p=pa.array([Decimal("1.25"), Decimal("2.50")] * 10))
    codec = settled(rows, d="duration", p="number")
    for column, value, told in (("d", 5, "5"), ("p", 9.5, "9.5"), ("p", [1.25, "9.5"], "'9.5'")):
        with pytest.raises(RecipeError, match=rf"where\.{column}: no train row has {told}, so"):
            codec.condition(parse_where({column: value}, codec.schema))


def test_slices_of_decimals_and_nulls_become_numbers_and_back() -> None:
    column = SMALL["decimal"][1].slice(1, 3)
    assert from_numbers(*to_numbers(column), column.type).to_pylist() == column.to_pylist()


def test_an_id_cannot_be_asked_for() -> None:
    schema = Schema((Column("id", "id", pa.string()),))
    codec = Tabular(schema)
    names = [f"A{number:03d}" for number in range(50)]
    rows = pa.table({FILE: pa.array(["f"] * 50).dictionary_encode(), ROW: pa.array(range(50), pa.int64()), "id": names})
    codec.settle(codec.observe(rows))
    with pytest.raises(RecipeError, match="made anew"):
        codec.condition(parse_where({"id": "A001"}, schema))
