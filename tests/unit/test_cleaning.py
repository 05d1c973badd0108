"""Cleaning: raw cells become values of the schema's types, bad rows say why, splits and hashes depend on nothing but the row."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.cells import hash_texts, parse
from raysynth.cleaning import clean, row_hash, split_of
from raysynth.schema import Column, Kind, Schema


def raw(columns: dict[str, Any], file: str = "a.csv", first_row: int = 0) -> pa.Table:
    table = pa.table(columns)
    files = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, dtype=np.int32), pa.array([file]))
    rows = pa.array(range(first_row, first_row + table.num_rows), pa.int64())
    return table.add_column(0, "_file", files).add_column(1, "_row", rows)


def schema(**columns: tuple[Kind, pa.DataType]) -> Schema:
    return Schema(tuple(Column(name, kind, type) for name, (kind, type) in columns.items()))


def test_text_is_trimmed_normalised_and_null_tokens_are_null() -> None:
    table, bad = clean(raw({"a": ["  x ", "e\u0301", "NA", "", "?", None, "nan"]}), schema(a=("category", pa.string())))
    assert table.column("a").to_pylist() == ["x", "é", None, None, None, None, None] and not bad
    kept, _ = clean(raw({"a": ["NA", "-"]}), schema(a=("category", pa.string())), null_tokens=["-"])
    assert kept.column("a").to_pylist() == ["NA", None]


def test_rows_with_cells_that_do_not_parse_go_apart_with_the_reason() -> None:
    columns = {"n": ["1", "x", "3", "1e400"], "d": ["2020-02-29", "2021-02-29", "oops", "2020-01-01"], "s": list("abcd")}
    found = schema(n=("number", pa.float64()), d=("date", pa.date32()), s=("category", pa.string()))
    table, bad = clean(raw(columns, first_row=10), found)
    assert [(row.path, row.row) for row in bad] == [("a.csv", 11), ("a.csv", 12)]
    assert "column 'n': 'x' is no number" in bad[0].reason and "column 'd': '2021-02-29' is no date" in bad[0].reason
    assert bad[1].text == '{"n": "3", "d": "oops", "s": "c"}'
    assert table.column("_row").to_pylist() == [10, 13]


def test_a_missing_column_is_null_and_a_surplus_one_is_left_out() -> None:
    table, bad = clean(raw({"a": ["1"], "z": ["1"]}), schema(b=("integer", pa.int64()), a=("integer", pa.int64())))
    assert table.select(["b", "a"]).to_pylist() == [{"b": None, "a": 1}] and table.num_columns == 4 and not bad


def test_nested_values_become_json_and_dictionaries_plain() -> None:
    table, _ = clean(
        raw({"j": [{"x": [1, 2]}, None], "c": pa.array([" u", "v"]).dictionary_encode()}),
        schema(j=("json", pa.string()), c=("category", pa.string())),
    )
    assert table.select(["j", "c"]).to_pylist() == [{"j": '{"x": [1, 2]}', "c": "u"}, {"j": None, "c": "v"}]


def test_typed_values_are_cast_where_nothing_is_lost() -> None:
    table, bad = clean(
        raw({"x": [1.0, 2.5, float("nan"), None], "y": [1.0, float("inf"), 2.0, 3.0]}),
        schema(x=("integer", pa.int64()), y=("number", pa.float32())),
    )
    assert table.column("x").to_pylist() == [1, None, None]
    assert [row.row for row in bad] == [1] and "'x'" in bad[0].reason and "'y'" in bad[0].reason


@pytest.mark.parametrize(
    ("text", "type", "order", "value"),
    [
        ("007", pa.int64(), "Y-M-D", 7),
        ("+5.0", pa.int8(), "Y-M-D", 5),
        ("300", pa.int8(), "Y-M-D", None),
        ("5.5", pa.int64(), "Y-M-D", None),
        (".5", pa.float64(), "Y-M-D", 0.5),
        ("-1.50e3", pa.float64(), "Y-M-D", -1500.0),
        ("inf", pa.float64(), "Y-M-D", None),
        ("1.25", pa.decimal128(6, 2), "Y-M-D", Decimal("1.25")),
        ("Yes", pa.bool_(), "Y-M-D", True),
        ("maybe", pa.bool_(), "Y-M-D", None),
        ("31/12/1999", pa.date32(), "D/M/Y", date(1999, 12, 31)),
        ("12/31/1999", pa.date32(), "D/M/Y", None),
        ("1/2/1969", pa.date32(), "M/D/Y", date(1969, 1, 2)),
        ("07:05", pa.time64("us"), "Y-M-D", time(7, 5)),
        ("11:59:01.5 pm", pa.time64("us"), "Y-M-D", time(23, 59, 1, 500_000)),
        ("24:00", pa.time64("us"), "Y-M-D", None),
        ("1969-12-31T23:59:59", pa.timestamp("us"), "Y-M-D", datetime(1969, 12, 31, 23, 59, 59)),
        ("2020-01-01", pa.timestamp("us"), "Y-M-D", datetime(2020, 1, 1)),
        ("2020-01-01 00:00Z", pa.timestamp("us"), "Y-M-D", None),
        ("2020-01-01 00:00", pa.timestamp("us", tz="UTC"), "Y-M-D", None),
        ("2020-01-01 12:00+05:30", pa.timestamp("us", tz="UTC"), "Y-M-D", datetime(2020, 1, 1, 6, 30, tzinfo=UTC)),
        ("1/2/2020 12:30 AM", pa.timestamp("us"), "M/D/Y", datetime(2020, 1, 2, 0, 30)),
        ("1.5", pa.duration("ms"), "Y-M-D", timedelta(seconds=1.5)),
    ],
)
def test_a_cell_is_parsed_or_null(text: str, type: pa.DataType, order: str, value: object) -> None:
    assert parse(pa.array([text, None]), type, order).to_pylist() == [value, None]


def test_a_fixed_offset_is_kept_as_the_zone() -> None:
    [value] = parse(pa.array(["2020-01-01T12:00:00+02:00"]), pa.timestamp("us", tz="+02:00")).to_pylist()
    assert value == datetime(2020, 1, 1, 12, tzinfo=timezone(timedelta(hours=2)))


@settings(deadline=None)
@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)))
def test_every_datetime_survives_its_iso_spelling(moment: datetime) -> None:
    assert parse(pa.array([moment.isoformat()]), pa.timestamp("us")).to_pylist() == [moment]


def test_the_split_of_a_row_depends_on_its_id_alone() -> None:
    table = raw({"a": [str(n) for n in range(20_000)]})
    split = split_of(table, seed=7, validation=0.1, holdout=0.2)
    assert split.dtype == np.int8
    # three standard deviations of a share among 20,000 rows are below 0.01
    assert np.abs(np.bincount(split, minlength=3) / 20_000 - [0.7, 0.1, 0.2]).max() < 0.01
    part = pa.concat_tables([raw({"a": ["x"]}, file="b.csv"), table.slice(5_000, 10)])
    assert split_of(part, seed=7, validation=0.1, holdout=0.2)[1:].tolist() == split[5_000:5_010].tolist()
    assert (split_of(table, seed=8, validation=0.1, holdout=0.2) != split).any()
    assert not split_of(table, seed=7, validation=0.0, holdout=0.0).any()


def test_rows_of_one_group_share_a_split_and_rows_without_one_do_not() -> None:
    table = raw({"who": pa.array([n % 500 if n % 10 else None for n in range(10_000)], pa.int64())})
    split = split_of(table, seed=7, validation=0.3, holdout=0.3, group_by="who")
    who = table.column("who").to_pylist()
    groups: dict[int, set[int]] = {}
    for group, place in zip(who, split.tolist(), strict=True):
        if group is not None:
            groups.setdefault(group, set()).add(place)
    assert all(len(places) == 1 for places in groups.values())
    assert len(set(split[::10].tolist())) == 3


def test_equal_rows_hash_equal_and_others_do_not() -> None:
    found = schema(a=("category", pa.string()), b=("number", pa.float64()), c=("integer", pa.int64()), d=("date", pa.date32()))
    columns = {"a": ["x", "x", "", None, "x"], "b": [0.0, -0.0, 0.0, 0.0, None], "c": [1, 1, 1, 1, 1], "d": [date(2020, 1, 1)] * 5}
    words = row_hash(raw(columns), found)
    assert words.dtype == np.uint64
    assert words[0] == words[1] and len(set(words.tolist())) == 4
    assert row_hash(raw(columns, file="z", first_row=99).slice(4), found)[0] == words[4]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=20), max_size=30))
def test_text_hashes_differ_as_texts_do_in_any_slice(texts: list[str]) -> None:
    words = hash_texts(pa.array(texts, pa.string())).tolist()
    assert len(set(words)) == len(set(texts))
    assert hash_texts(pa.array(["", *texts], pa.string()).slice(1)).tolist() == words


def test_an_empty_table_is_clean() -> None:
    found = schema(a=("integer", pa.int64()), b=("datetime", pa.timestamp("us")))
    table, bad = clean(raw({"a": pa.array([], pa.string()), "b": pa.array([], pa.string())}), found)
    assert (
        table.num_rows == 0
        and not bad
        and not len(row_hash(table, found))
        and not len(split_of(table, seed=1, validation=0.1, holdout=0.1))
    )
