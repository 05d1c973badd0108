"""Where: a value that is not of the column's type is refused, never rounded to one that is."""

from datetime import datetime, time
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from raysynth.errors import RecipeError
from raysynth.schema import Column, Schema
from raysynth.where import Range, Starts, Values, parse_where, satisfied

SCHEMA = Schema(
    (
        Column("n", "integer", pa.int64()),
        Column("price", "number", pa.decimal128(10, 2)),
        Column("day", "date", pa.date32()),
        Column("at", "datetime", pa.timestamp("us", "Europe/Berlin")),
        Column("plain", "datetime", pa.timestamp("us")),
        Column("clock", "time", pa.time64("us")),
        Column("ok", "boolean", pa.bool_()),
        Column("name", "category", pa.string()),
        Column("story", "text", pa.string()),
    )
)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("n", 3.5),
        ("n", "3.5"),
        ("n", True),
        ("n", {"min": 2.5}),
        ("price", 1.255),
        ("day", 5),
        ("plain", 1.5),
        ("plain", "2024-01-01T00:00:00+01:00"),
        ("clock", "half past"),
        ("ok", 1),
        ("name", 5),
        ("n", 2**70),
        ("n", float("inf")),
    ],
)
def test_a_value_that_would_have_to_be_rounded_or_guessed_is_refused(column: str, value: Any) -> None:
    with pytest.raises(RecipeError, match=rf"where\.{column}: .* is no value of type"):
        parse_where({column: value}, SCHEMA)


def test_numbers_dates_and_times_are_taken_as_people_write_them() -> None:
    where = parse_where({"n": 3.0, "price": 1.25, "at": {"min": "2024-06-01"}, "clock": "12:30", "plain": "2024-06-01"}, SCHEMA)
    n, price, at, clock = where["n"], where["price"], where["at"], where["clock"]
    assert isinstance(n, Values)
    assert isinstance(price, Values)
    assert isinstance(at, Range)
    assert isinstance(clock, Values)
    assert (n.values.to_pylist(), price.values.to_pylist(), clock.values.to_pylist()) == ([3], [Decimal("1.25")], [time(12, 30)])
    assert at.minimum is not None
    assert at.minimum.as_py() == datetime.fromisoformat("2024-06-01T00:00:00+02:00")


def test_a_text_begins_as_it_was_asked_to() -> None:
    where = parse_where({"story": {"starts": "Once "}}, SCHEMA)
    assert where == {"story": Starts("Once ")}
    assert satisfied(where, pa.table({"story": ["Once upon", "once ", None, "Once"]})).tolist() == [True, False, False, False]


@pytest.mark.parametrize(
    ("column", "asked", "told"),
    [
        ("story", {"starts": ""}, "where.story: starts takes one text"),
        ("story", {"starts": 5}, "where.story: starts takes one text"),
        ("story", {"starts": "a", "min": "b"}, "where.story: starts takes one text"),
        ("story", {"starts": "a\ud83d"}, "where.story: starts holds half a surrogate pair"),
        ("name", {"starts": "a"}, "where.name: starts needs a column of kind text, and this column is of kind category"),
    ],
)
def test_a_beginning_is_one_text_and_of_texts_alone(column: str, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        parse_where({column: asked}, SCHEMA)
