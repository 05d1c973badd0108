"""Formats: what was encoded comes back the same from every one of them; what is cut is told; Accept is read as RFC 9110 says."""

import base64
import csv
import io
import json
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysynth import formats
from raysynth.commits import parquet_bytes
from raysynth.errors import DataError
from raysynth.formats import ARROW_END, FORMATS, CutError, decode, encode, negotiate, writer
from raysynth.pictures import encoded
from raysynth.schema import IMAGE, arrow_type
from raysynth.texts import described_images

INTEGERS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
ZONES = ("UTC", "Europe/Berlin", "America/New_York", "+05:30", "-00:45", "Australia/Lord_Howe")
DAY_SECONDS = 86_400
INT64 = pa.int64()
SCALARS = st.characters(exclude_categories=["Cs"])  # what UTF-8 can say
MICROSECONDS = [0, -(2**62), 2**62, 1, -(10**18), -2_500_000_000_000_000, None, 1_711_846_800_000_000]


def wholes(low: int, high: int, integer: pa.DataType = INT64) -> Callable[[pa.DataType], st.SearchStrategy[Any]]:
    """Whole numbers, dense around zero, in Arrow's own representation of the type."""

    def values(type: pa.DataType) -> st.SearchStrategy[Any]:
        near = st.integers(max(low, -(10**6)), min(high, 10**6))
        return (near | st.integers(low, high)).map(lambda number: pa.scalar(number, integer).cast(type))

    return values


def moments(unit: str) -> tuple[int, int]:
    """All that Arrow holds, but for seconds only what Parquet's milliseconds can, and years that Arrow's zones reach."""
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    most = min(2**63 - 1 - 2 * DAY_SECONDS * per_second, 900_000_000_000 * per_second)
    return -most, most


def strategies() -> dict[str, st.SearchStrategy[Any]]:
    """Type → its values as scalars."""
    found: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "halffloat": st.floats(width=16).map(np.float16),
        "float": st.floats(width=32),
        "double": st.floats(),
        "string": st.text(SCALARS) | st.sampled_from(["", "=1+1", "'", "''x", "\t", '"', "\r\n", "NaN", "null"]),
        "large_string": st.text(SCALARS, max_size=5),
        "null": st.none(),
        "date32[day]": wholes(-(2**31) // 2, 2**31 // 2, pa.int32())(pa.date32()),
        "date64[ms]": st.integers(-(10**6), 10**7).map(lambda days: pa.scalar(days * DAY_SECONDS * 1000, pa.int64()).cast(pa.date64())),
    }  # fmt: skip
    found |= {name: st.integers(*ends) for name, ends in INTEGERS.items()}
    for bits, digits in ((128, 38), (256, 76)):
        for precision, scale in ((1, 0), (10, 2), (digits, 6), (digits, digits)):
            most = 10**precision - 1
            found[f"decimal{bits}({precision}, {scale})"] = st.integers(-most, most).map(
                lambda number, scale=scale: Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -scale))
            )
    for unit, per_second in (("s", 1), ("ms", 10**3), ("us", 10**6), ("ns", 10**9)):
        bits, integer = (32, pa.int32()) if unit in ("s", "ms") else (64, pa.int64())
        clock = arrow_type(f"time{bits}[{unit}]")
        found[str(clock)] = wholes(0, DAY_SECONDS * per_second - 1, integer)(clock)
        found[f"duration[{unit}]"] = wholes(-(2**63), 2**63 - 1)(arrow_type(f"duration[{unit}]"))
        for zone in ("", *(f", tz={zone}" for zone in ZONES)):
            found[f"timestamp[{unit}{zone}]"] = wholes(*moments(unit))(arrow_type(f"timestamp[{unit}{zone}]"))
    return found


VALUES = strategies()


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    types = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=6))
    names = draw(st.lists(st.text(SCALARS, max_size=8), min_size=len(types), max_size=len(types), unique=True))
    rows = draw(st.integers(0, 12))
    columns = [draw(st.lists(st.none() | VALUES[type], min_size=rows, max_size=rows)) for type in types]
    return pa.table(
        [array(column, arrow_type(type)) for column, type in zip(columns, types, strict=True)],
        schema=pa.schema([(name, arrow_type(type)) for name, type in zip(names, types, strict=True)]),
    )  # fmt: skip


def array(values: list[Any], type: pa.DataType) -> pa.Array:
    return pa.array([pa.scalar(None, type) if value is None else value for value in values], type)


def same(one: pa.Table, other: pa.Table) -> bool:
    """Equal, where NaN equals NaN and -0.0 does not equal 0.0: floats are compared by their bits."""
    return bool(one.schema == other.schema and bare(one).equals(bare(other)))


def bare(table: pa.Table) -> pa.Table:
    columns = [
        pa.array([None if value is None else repr(float(value)) for value in column.to_pylist()])
        if pa.types.is_floating(column.type)
        else column
        for column in table.columns
    ]
    return pa.table(columns, names=[str(place) for place in range(len(columns))])


def whole(format: str, table: pa.Table, **head: Any) -> bytes:
    return b"".join(encode(format, table.schema, [table], head))


EXTREMES = pa.table({
    "naïve 😀": pa.array(["", None, '="cmd"', "-1", "a,b\r\nc", "''", 'say "hi"', "😀\u2028\x00\x7f"]),
    "=sum": pa.array([np.nan, np.inf, -np.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1, None]),
    "u": pa.array([0, 2**64 - 1, None, 1, 2, 3, 4, 5], pa.uint64()),
    "berlin": pa.array(MICROSECONDS).cast(pa.timestamp("us", "Europe/Berlin")),
})  # fmt: skip


@pytest.mark.parametrize("format", FORMATS)
@given(table=tables())
@example(table=EXTREMES)
@example(table=EXTREMES.slice(0, 0))
@settings(max_examples=80, deadline=None, derandomize=True)
def test_what_was_encoded_comes_back_the_same(format: str, table: pa.Table) -> None:
    assert same(decode(format, whole(format, table), table.schema, table.num_rows), table)


@pytest.mark.parametrize("type", sorted(VALUES))
def test_every_type_comes_back_the_same(type: str) -> None:
    @given(values=st.lists(st.none() | VALUES[type], min_size=1, max_size=20))
    @settings(max_examples=10, deadline=None, derandomize=True, database=None)
    def law(values: list[Any]) -> None:
        table = pa.table({"x": array(values, arrow_type(type))})
        for format in FORMATS:
            assert same(decode(format, whole(format, table), table.schema, table.num_rows), table)

    law()


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_is_the_same_rows_however_they_arrive(format: str) -> None:
    pieces = [
        EXTREMES.slice(0, 0),
        EXTREMES.slice(0, 3),
        EXTREMES.slice(3, 0),
        pa.concat_tables([EXTREMES.slice(3, 1), EXTREMES.slice(4)]),
    ]
    data = b"".join(encode(format, EXTREMES.schema, pieces))
    assert same(decode(format, data, EXTREMES.schema, 8), EXTREMES)
    if format not in ("arrow", "parquet"):
        assert data == whole(format, EXTREMES)


@pytest.mark.parametrize("format", FORMATS)
def test_only_the_columns_of_the_schema_are_written_in_its_order(format: str) -> None:
    chosen = EXTREMES.select(["u", "naïve 😀"])
    data = b"".join(encode(format, chosen.schema, [EXTREMES]))
    assert same(decode(format, data, chosen.schema), chosen)


def test_more_rows_than_one_batch_of_text_come_back_the_same() -> None:
    table = pa.table({"n": pa.array(range(150_000)), "t": pa.array(["x"] * 150_000)})
    assert decode("json", whole("json", table), table.schema, 150_000).equals(table)
    assert decode("csv", whole("csv", table), table.schema, 150_000).equals(table)


def test_json_says_its_head_and_values_as_the_contract_has_them() -> None:
    table = pa.table({
        "x": pa.array([1.5, float("nan"), float("-inf"), None]),
        "price": pa.array([Decimal("12.50"), None, Decimal("-0.01"), Decimal(0)], pa.decimal128(10, 2)),
        "day": pa.array([date(2024, 2, 29), None, date(1, 1, 1), date(9999, 12, 31)]),
        "clock": pa.array([time(12, 30, 0, 5), None, time(0), time(23, 59, 59)], pa.time64("us")),
        "at": pa.array([datetime(2024, 7, 1, 12, tzinfo=timezone(timedelta(hours=2))), None] * 2, pa.timestamp("ns", "Europe/Berlin")),
        "lasts": pa.array([90, None, -1, 0], pa.duration("s")),
        "ok": pa.array([True, False, None, True]),
        "text": pa.array(['a "quote"', "", None, "é\n"]),
    })  # fmt: skip
    body = json.loads(whole("json", table, model="flights", digest="d", seed=3, offset=10))
    assert {key: body[key] for key in list(body)[:-1]} == {
        "model": "flights",
        "digest": "d",
        "seed": 3,
        "offset": 10,
        "columns": table.column_names,
    }
    moment = "2024-07-01T12:00:00.000000000+02:00"
    assert body["rows"] == [
        [1.5, "12.50", "2024-02-29", "12:30:00.000005", moment, 90, True, 'a "quote"'],
        ["NaN", None, None, None, None, None, False, ""],
        ["-Infinity", "-0.01", "0001-01-01", "00:00:00.000000", moment, -1, None, None],
        [None, "0.00", "9999-12-31", "23:59:59.000000", None, 0, True, "é\n"],
    ]
    assert [json.loads(line) for line in whole("ndjson", table).splitlines()] == [
        dict(zip(table.column_names, row, strict=True)) for row in body["rows"]
    ]


def test_a_moment_of_a_time_before_standard_time_is_told_by_whole_minutes() -> None:
    """Berlin's clocks were 53 minutes and 28 seconds ahead until 1893: what is told is the same moment."""
    table = pa.table({"t": pa.array([-2_500_000_000], pa.int64()).cast(pa.timestamp("s", "Europe/Berlin"))})
    [[text]] = json.loads(whole("json", table))["rows"]
    assert text.endswith("+00:53")
    assert datetime.fromisoformat(text).timestamp() == -2_500_000_000


def test_csv_tells_null_from_empty_text_and_spreadsheets_run_nothing() -> None:
    table = pa.table({"=name": pa.array(["", None, "=1", "+1", "-1", "@x", "\tx", "\rx", "'x", "x'"]), "n": pa.array([-1] * 10)})
    data = whole("csv", table)
    assert data.startswith(b'"\'=name","n"\n"",-1\n,-1\n"\'=1",-1\n')
    cells = [row[0] for row in csv.reader(io.StringIO(data.decode(), newline=""))]
    assert cells == ["'=name", "", "", "'=1", "'+1", "'-1", "'@x", "'\tx", "'\rx", "''x", "x'"]


def test_parquet_is_the_bytes_of_a_part() -> None:
    table = EXTREMES
    data = b"".join(encode("parquet", table.schema, [table.slice(0, 3), table.slice(3)]))
    assert data == parquet_bytes(table)


def test_arrow_is_one_batch_per_table_and_ends() -> None:
    data = b"".join(encode("arrow", EXTREMES.schema, [pa.concat_tables([EXTREMES] * 3), EXTREMES]))
    assert data.endswith(ARROW_END)
    assert [batch.num_rows for batch in pa.ipc.open_stream(data)] == [24, 8]


@pytest.mark.parametrize("format", FORMATS)
def test_a_cut_at_any_byte_is_told(format: str) -> None:
    data = whole(format, EXTREMES, seed=1)
    for stop in range(len(data) - (format == "json")):  # JSON's last byte is a line feed after its end
        with pytest.raises(CutError):
            decode(format, data[:stop], EXTREMES.schema, EXTREMES.num_rows)


@pytest.mark.parametrize("format", FORMATS)
def test_fewer_rows_than_announced_are_told(format: str) -> None:
    with pytest.raises(CutError, match="9 rows were announced, 8 came"):
        decode(format, whole(format, EXTREMES), EXTREMES.schema, 9)


@pytest.mark.parametrize("format", FORMATS)
def test_other_columns_are_refused(format: str) -> None:
    other = pa.schema([pa.field("a", pa.int64()), *list(EXTREMES.schema)[1:]])
    with pytest.raises(DataError, match=FORMATS[format]):
        decode(format, whole(format, EXTREMES), other)


@pytest.mark.parametrize("format", FORMATS)
def test_other_bytes_are_refused(format: str) -> None:
    for data in (b"", b"<html>\n", b"[1]\n", b"{}\n", b'"\n'):
        with pytest.raises((DataError, CutError)):
            decode(format, data, EXTREMES.schema, 8)


def test_what_cannot_be_written_is_refused() -> None:
    with pytest.raises(DataError, match="must be one of json, ndjson, csv, arrow, parquet"):
        writer("xlsx", EXTREMES.schema)
    with pytest.raises(DataError, match="without columns"):
        writer("json", pa.schema([]))
    lists = pa.table({"l": pa.array([[1]])})
    with pytest.raises(DataError, match="has no text"):
        whole("json", lists)


@pytest.mark.parametrize(
    ("accept", "format"),
    [
        (None, "json"),
        ("", "json"),
        ("*/*", "json"),
        ("text/csv", "csv"),
        ("TEXT/CSV; charset=utf-8", "csv"),
        ("text/*", "csv"),
        ("application/*", "json"),
        ("text/csv, */*", "csv"),
        ("application/json;q=0.5, text/csv;q=0.9", "csv"),
        ("application/json;q=0, */*", "ndjson"),
        ("application/vnd.apache.arrow.stream, application/json", "json"),
        ("application/vnd.apache.parquet", "parquet"),
        ("application/*;q=0.2, application/vnd.apache.arrow.stream;q=0.1, text/html", "json"),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),
        ("text/html", None),
        ("*/*;q=0", None),
        ("text/csv;q=2", None),
        ("text/csv;q=", None),
        (",;,", None),
    ],
)
def test_accept_names_the_format(accept: str | None, format: str | None) -> None:
    assert negotiate(accept) == format


PICTURES = [
    {"bytes": b"\x89PNG\r\n\x1a\n\x00=+", "path": None},
    None,
    {"bytes": b"\xff\xd8\xff", "path": 'a "b",\n=.jpg'},
    {"bytes": b"", "path": ""},
]


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("cells", [PICTURES, [None], []], ids=["some", "null", "none"])
def test_images_come_back_to_the_byte_from_every_format(format: str, cells: list[Any]) -> None:
    table = pa.table({"n": pa.array(range(len(cells)), pa.int64()), "photo": pa.array(cells, IMAGE)})
    data = b"".join(encode(format, table.schema, [table.slice(0, 1), table.slice(1)]))
    assert decode(format, data, table.schema, len(cells)).equals(table)


def test_images_are_base64_in_texts_and_known_to_datasets_in_parquet() -> None:
    table = pa.table({"photo": pa.array(PICTURES[:1], IMAGE)})
    line = b"".join(encode("ndjson", table.schema, [table]))
    assert json.loads(line)["photo"] == {"bytes": base64.b64encode(PICTURES[0]["bytes"]).decode(), "path": None}  # type: ignore[index]
    [_, [cell]] = list(csv.reader(io.StringIO(b"".join(encode("csv", table.schema, [table])).decode())))
    assert json.loads(cell) == json.loads(line)["photo"]
    parquet = pq.read_schema(pa.BufferReader(b"".join(encode("parquet", table.schema, [table]))))
    assert json.loads(parquet.metadata[b"huggingface"])["info"]["features"] == {"photo": {"_type": "Image"}}


@pytest.mark.parametrize("cell", ['{"bytes": "####", "path": null}', '{"bytes": "aGk="}', "[1]", '"x"', "7"])
def test_what_is_no_image_is_told(cell: str) -> None:
    schema = pa.schema([pa.field("photo", IMAGE)])
    with pytest.raises(DataError, match="it is not what these columns are written as"):
        decode("ndjson", f'{{"photo":{cell}}}\n'.encode(), schema)


def test_text_is_made_of_a_few_large_pictures_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "BATCH_BYTES", 1000)
    table = pa.table({"photo": pa.array([{"bytes": bytes(400), "path": None}] * 9, IMAGE)})
    assert max(batch.num_rows for batch in formats._batches(table, table.schema)) == 2  # pyright: ignore[reportPrivateUsage]
    data = b"".join(encode("json", table.schema, [table]))
    assert decode("json", data, table.schema, 9).equals(table)


def test_people_are_shown_an_image_in_words() -> None:
    picture = encoded(np.zeros((28, 30, 1), np.uint8))
    rows = pa.table(
        {"photo": pa.array([{"bytes": picture, "path": "secret"}, None, {"bytes": b"GIF8", "path": None}], IMAGE), "n": [1, 2, 3]}
    )
    told = described_images(rows).to_pylist()
    assert [row["photo"] for row in told] == [f"PNG 30 × 28, {len(picture)} bytes", None, "GIF, 4 bytes"]
    assert [row["n"] for row in told] == [1, 2, 3]
