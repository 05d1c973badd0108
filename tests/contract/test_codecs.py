"""Laws that every codec on the shelf keeps: what goes in comes out, its statistics know no cut, and its state is all there is of it."""

import datetime as dt
import json
from collections.abc import Callable
from functools import cache, reduce
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from raysynth.codecs.base import Codec
from raysynth.draws import Draws
from raysynth.errors import DataError
from raysynth.parts import available, find
from raysynth.pictures import encoded, image_array, pictures
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema
from raysynth.where import parse_where

OPTIONS: dict[str, list[dict[str, Any]]] = {
    "tabular": [{}, {"max_values": 20, "bins": 8, "digits": 4, "max_codes": 8}],
    "records": [{}, {"max_values": 10}],
    "text": [{}, {"tokens": 600}],
    "image": [{}, {"size": (8, 12), "channels": 1, "fit": "stretch"}],
    "chain": [{"text": {"tokens": 600}}],
}
"""Codec → the options to try it with. A new codec adds its row."""

CODECS = [(name, options) for name in available("codecs") for options in OPTIONS.get(name, [])]
every_codec = pytest.mark.parametrize(("name", "options"), CODECS, ids=str)

ROWS = 400
SEED = 5
SCHEMA = Schema(
    (
        Column("carrier", "category", pa.string()),
        Column("note", "text", pa.string()),
        Column("late", "boolean", pa.bool_()),
        Column("seats", "integer", pa.int16()),
        Column("distance", "number", pa.float64()),
        Column("day", "date", pa.date32()),
        Column("seen", "datetime", pa.timestamp("us", tz="UTC")),
    )
)
DISCRETE = ("carrier", "note", "late")
PHOTO = Column("photo", "image", IMAGE)


def schema_of(name: str) -> Schema:
    """The columns that the codec takes."""
    left = [column for column in SCHEMA if name != "image" or column.kind != "text"]
    return Schema((*left, PHOTO)) if name in ("image", "chain") else SCHEMA


@cache
def table(rows: int = ROWS) -> pa.Table:
    noise = np.random.default_rng(2)
    some = noise.random(rows) < 0.1
    carriers = pa.array([f"C{code}" for code in noise.integers(0, 30, rows)], mask=some)
    return pa.table(
        {
            "carrier": carriers,
            "note": pa.array([f"gate {code} 很晚" for code in noise.integers(0, 40, rows)], mask=noise.random(rows) < 0.1),
            "late": pa.array(noise.random(rows) < 0.3),
            "seats": pa.array(noise.integers(1, 300, rows).astype(np.int16), mask=noise.random(rows) < 0.1),
            "distance": np.round(noise.lognormal(6, 1, rows), 1),
            "day": pa.array([dt.date(2023, 1, 1) + dt.timedelta(int(day)) for day in noise.integers(0, 300, rows)], pa.date32()),
            "seen": pa.array(noise.integers(0, 10**9, rows) * 10**6, pa.timestamp("us", tz="UTC")),
            "photo": _photos(rows),
            FILE: pa.array([f"part-{row % 3}.csv" for row in range(rows)]),
            ROW: pa.array(range(rows), pa.int64()),
        }
    )


def _photos(rows: int) -> pa.Array:
    """Coloured, of 8 × 12 pixels but for a few; one in ten is missing."""
    noise = np.random.default_rng(4)
    sizes = [(16, 24) if row % 50 == 7 else (8, 12) for row in range(rows)]
    found = [encoded(noise.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in sizes]
    return image_array([None if row % 10 == 3 else data for row, data in enumerate(found)])


def make(name: str, options: dict[str, Any]) -> Codec:
    codec = find("codecs", name)(schema_of(name), seed=SEED, **options)
    assert isinstance(codec, Codec)
    return codec


def settled(name: str, options: dict[str, Any]) -> Codec:
    codec = make(name, options)
    assert codec.settle(codec.observe(table())) == codec.layout
    return codec


def draws(rows: int = ROWS) -> Draws:
    return Draws.range(SEED, "decode", 0, rows)


def same_codec(one: Codec, two: Codec) -> bool:
    (arrays, facts), (others, other_facts) = one.state(), two.state()
    return (
        json.dumps(facts, sort_keys=True) == json.dumps(other_facts, sort_keys=True)
        and arrays.keys() == others.keys()
        and all(np.array_equal(array, others[key]) and array.dtype == others[key].dtype for key, array in arrays.items())
        and one.layout == two.layout
    )


def test_every_codec_of_the_shelf_is_tried() -> None:
    assert available("codecs") == sorted(OPTIONS), "give the new codec a row in OPTIONS"


@every_codec
def test_what_goes_in_comes_out(name: str, options: dict[str, Any]) -> None:
    codec = settled(name, options)
    batch = codec.encode(table())
    assert batch.rows == ROWS
    back = codec.decode(batch, draws())
    assert back.schema == schema_of(name).arrow
    for column in schema_of(name).names:
        assert back[column].is_null().to_pylist() == table()[column].is_null().to_pylist(), column
    for column in set(DISCRETE) & set(back.column_names):
        assert back[column].to_pylist() == table()[column].to_pylist()
    for column in set(SCHEMA.names) & set(back.column_names) - set(DISCRETE):  # nothing leaves the range that was seen
        seen = [value for value in table()[column].to_pylist() if value is not None]
        assert all(min(seen) <= value <= max(seen) for value in back[column].to_pylist() if value is not None), column
    if PHOTO.name in back.column_names and "size" not in options:  # a picture of the size that is learnt keeps every pixel
        pairs = zip(pictures(table()[PHOTO.name]), pictures(back[PHOTO.name]), strict=True)
        assert all(np.array_equal(was, made) for was, made in pairs if was is not None and made is not None and was.shape[0] == 8)


@every_codec
def test_a_row_is_coded_and_decoded_alone_as_among_others(name: str, options: dict[str, Any]) -> None:
    codec = settled(name, options)
    whole, order = codec.encode(table()), np.random.default_rng(3).permutation(ROWS)
    shuffled = codec.encode(table().take(order))
    assert whole.arrays.keys() == shuffled.arrays.keys()
    assert all(np.array_equal(array[order], shuffled[key]) for key, array in whole.arrays.items())
    back = codec.decode(whole, draws())
    assert codec.decode(shuffled, draws().take(order)).equals(back.take(order))
    assert codec.decode(whole.take(slice(17, 18)), draws().take(np.array([17]))).equals(back.slice(17, 1).combine_chunks())


@every_codec
@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.sets(st.integers(0, ROWS), max_size=4), order=st.randoms(use_true_random=False))
def test_statistics_know_neither_cut_nor_order(name: str, options: dict[str, Any], cuts: set[int], order: Any) -> None:
    ends = [0, *sorted(cuts), ROWS]
    pieces = [table().slice(start, stop - start) for start, stop in pairwise(ends)]
    order.shuffle(pieces)
    codec = make(name, options)
    codec.settle(reduce(lambda one, two: one.merge(two), [codec.observe(piece) for piece in pieces]))
    assert same_codec(codec, settled(name, options))


@every_codec
def test_an_empty_table_is_no_row(name: str, options: dict[str, Any]) -> None:
    codec = settled(name, options)
    assert codec.decode(codec.encode(table().slice(0, 0)), draws(0)).equals(schema_of(name).arrow.empty_table())


@every_codec
def test_the_state_is_all_there_is(name: str, options: dict[str, Any]) -> None:
    codec, twin = settled(name, options), make(name, options)
    arrays, facts = codec.state()
    twin.load(load(save(arrays)), json.loads(json.dumps(facts)))
    assert same_codec(codec, twin)
    batch = codec.encode(table())
    assert all(np.array_equal(array, twin.encode(table())[key]) for key, array in batch.arrays.items())
    assert twin.decode(batch, draws()).equals(codec.decode(batch, draws()))


def _without(rows: pa.Table) -> pa.Table:
    return rows.drop_columns(["seats"])


def _retyped(rows: pa.Table) -> pa.Table:
    return rows.set_column(2, "seats", rows["seats"].cast(pa.int64()))


@every_codec
@pytest.mark.parametrize("spoil", [_without, _retyped])
def test_rows_of_another_schema_are_refused(name: str, options: dict[str, Any], spoil: Callable[[pa.Table], pa.Table]) -> None:
    with pytest.raises(DataError, match="seats"):
        settled(name, options).encode(spoil(table()))


@every_codec
def test_no_condition_is_none(name: str, options: dict[str, Any]) -> None:
    assert settled(name, options).condition(parse_where({}, schema_of(name))) is None
