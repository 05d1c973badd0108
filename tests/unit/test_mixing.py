"""What a mix takes, and where it puts it, on a few rows."""

from collections import Counter
from collections.abc import Sequence
from datetime import date
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from raysynth.draws import Draws, Words
from raysynth.errors import DataError, RecipeError
from raysynth.mixing import (
    KINDS,
    NULL,
    Kind,
    Last,
    by_folder,
    candidates,
    check,
    check_folders,
    deal,
    folder_name,
    is_taken,
    mix_words,
    rows_to_take,
    select,
    strata,
    with_origin,
)
from raysynth.recipe import Mix
from raysynth.schema import FILE, ROW, Column, Schema

SHARES = st.integers(0, 1000).map(lambda thousandths: thousandths / 1000)
SCHEMA = Schema(
    (
        Column("origin", "category", pa.string()),
        Column("distance", "integer", pa.int64()),
        Column("flown", "date", pa.date32()),
        Column("flight_time", "duration", pa.duration("us")),
    )
)
TRICKY = [
    "EWR",
    "",
    "..",
    ".",
    "../../x",
    "/etc/passwd",
    "a=b",
    "100%",
    "%2F",
    "😀",
    "été",
    " x ",
    "a\nb",
    "NaN",
    "null",
    "_x",
    "\0",
]


def rows_of(kind: Kind, labels: Sequence[str | None], first: int = 0) -> pa.Table:
    """Rows of a category and a number; real and augmented rows with an id, the augmented ones two of each."""
    numbers = np.arange(first, first + len(labels))
    table = pa.table({"label": pa.array(labels, pa.string()), "number": numbers})
    if kind == "synthetic":
        return table
    ids = numbers // 2 if kind == "augmented" else numbers
    return table.append_column(FILE, pa.repeat(pa.scalar("a.csv"), len(labels))).append_column(ROW, pa.array(ids))


LABELLED = Schema((Column("label", "category", pa.string()), Column("number", "integer", pa.int64())))


def taken_of(
    kind: Kind, labels: Sequence[str | None], cuts: Sequence[int], rows: int, column: str | None, *, near: bool = True
) -> pa.Table:
    """Both passes over the rows, cut there."""
    whole = rows_of(kind, labels)
    edges = [0, *sorted(cut for cut in cuts if cut < len(labels)), len(labels)]
    pieces = [(start, whole.slice(start, stop - start)) for start, stop in pairwise(edges)]
    words = [mix_words(kind, piece, LABELLED, seed=7, first=start) for start, piece in pieces]
    share = rows / len(labels) if near else None
    seen = [candidates(hashes, start, *strata(piece, column), share) for (start, piece), hashes in zip(pieces, words, strict=True)]
    chosen = select(seen, rows)
    assert chosen is not None
    kept = [
        piece.filter(pa.array(is_taken(hashes, start, *strata(piece, column), chosen)))
        for (start, piece), hashes in zip(pieces, words, strict=True)
    ]
    return pa.concat_tables(kept)


@settings(deadline=None)
@given(st.tuples(SHARES, SHARES, SHARES).filter(any), st.tuples(*[st.integers(0, 10_000)] * 3))
def test_a_share_takes_its_rows_with_halves_rounded_up(shares: tuple[float, ...], available: tuple[int, ...]) -> None:
    asked = Mix(real=shares[0], augmented=shares[1], synthetic=shares[2])
    expected = [(round(share * 1000) * rows * 2 + 1000) // 2000 for share, rows in zip(shares, available, strict=True)]
    if not sum(expected):
        with pytest.raises(DataError, match="no row at all"):
            rows_to_take(asked, dict(zip(KINDS, available, strict=True)))
        return
    assert list(rows_to_take(asked, dict(zip(KINDS, available, strict=True))).values()) == expected


@settings(deadline=None)
@given(st.integers(1, 10_000), st.tuples(SHARES, SHARES, SHARES).filter(any))
def test_a_target_is_dealt_whole_and_within_one_row_of_each_weight(rows: int, weights: tuple[float, ...]) -> None:
    asked = Mix(real=weights[0], augmented=weights[1], synthetic=weights[2], rows=rows)
    taken = rows_to_take(asked, dict.fromkeys(KINDS, 10_000))
    assert sum(taken.values()) == rows
    for kind, weight in zip(KINDS, weights, strict=True):
        assert abs(taken[kind] - rows * weight / sum(weights)) < 1
        assert weight or not taken[kind]


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1).filter(any), st.data())
def test_whole_weights_are_never_exceeded(held: list[int], data: st.DataObject) -> None:
    total = data.draw(st.integers(0, sum(held)))
    dealt = deal(total, held)
    assert sum(dealt) == total
    assert all(0 <= rows <= most for rows, most in zip(dealt, held, strict=True))


def test_a_share_is_the_decimal_that_was_written() -> None:
    assert (
        rows_to_take(Mix(real=0.145, synthetic=0.0), {"real": 100, "augmented": 0, "synthetic": 0})["real"] == 15
    )  # 14.5, not 14.49…
    assert deal(2, [Fraction(1, 3)] * 3) == [1, 1, 0]


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Mix(real=1, synthetic=3, rows=400), r"mix.rows: asks for 300 synthetic rows, and there are 250.*raise generate.rows"),
        (Mix(real=1, synthetic=0, rows=101), r"mix.rows: asks for 101 real rows, and there are 100.*mix.real"),
        (Mix(real=0, augmented=1, synthetic=1, rows=2), r"asks for 1 augmented rows, and there are 0"),
    ],
)
def test_more_than_there_is_is_refused_with_what_to_do(asked: Mix, message: str) -> None:
    with pytest.raises(DataError, match=message):
        rows_to_take(asked, {"real": 100, "augmented": 0, "synthetic": 250})


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=60),
    st.lists(st.integers(1, 60), max_size=4, unique=True),
    st.sampled_from([None, "label"]),
    st.data(),
)
def test_exactly_so_many_are_taken_however_the_rows_are_cut(
    kind: Kind, labels: list[str | None], cuts: list[int], column: str | None, data: st.DataObject
) -> None:
    rows = data.draw(st.integers(0, len(labels)))
    taken = taken_of(kind, labels, cuts, rows, column)
    assert taken.num_rows == rows
    assert taken.equals(taken_of(kind, labels, [], rows, column, near=False))
    if column is not None:
        held, kept = Counter(labels), Counter(taken["label"].to_pylist())
        assert all(abs(kept[label] - rows * held[label] / len(labels)) < 1 for label in held)


def test_the_rows_of_lowest_hash_are_taken_and_of_equal_hashes_the_first() -> None:
    words = np.array([5, 3, 3, 2**64 - 1, 3, 0], np.uint64)
    one = np.zeros(6, np.int64)
    for rows, expected in enumerate([[], [5], [1, 5], [1, 2, 5], [1, 2, 4, 5], [0, 1, 2, 4, 5], [0, 1, 2, 3, 4, 5]]):
        chosen = select([candidates(words, 0, one, [None], None)], rows)
        assert chosen is not None and np.flatnonzero(is_taken(words, 0, one, [None], chosen)).tolist() == expected


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 20_000), st.lists(st.integers(1, 20_000), max_size=4, unique=True), st.sampled_from([None, "label"]))
@example(1, [10_000], None)
@example(19_999, [10_000], "label")
def test_of_many_rows_few_hashes_decide_and_they_decide_the_same(rows: int, cuts: list[int], column: str | None) -> None:
    labels = [("a", "b", None, "rare")[min(number % 7, 2) if number else 3] for number in range(20_000)]
    taken = taken_of("synthetic", labels, cuts, rows, column)
    assert taken.num_rows == rows
    assert taken.equals(taken_of("synthetic", labels, [], rows, column, near=False))


def test_a_million_hashes_are_decided_by_some_thousands_of_them() -> None:
    words = Draws.range(7, "mix", 0, 1_000_000).words("mix")
    seen = candidates(words, 0, np.zeros(len(words), np.int64), [None], 0.3)
    assert len(seen.words) < 16 * 1000
    assert select([seen], 300_000) == {None: Last(int(np.partition(words, 299_999)[299_999]), int(np.argsort(words)[299_999]))}


@pytest.mark.parametrize("words", [np.arange(10_000, dtype=np.uint64), np.uint64(2**64 - 1) - np.arange(10_000, dtype=np.uint64)])
def test_hashes_that_are_not_uniform_are_found_out(words: Words) -> None:
    one = np.zeros(len(words), np.int64)
    assert select([candidates(words, 0, one, [None], 0.5)], 5000) is None
    chosen = select([candidates(words, 0, one, [None], None)], 5000)
    assert chosen is not None and is_taken(words, 0, one, [None], chosen).sum() == 5000


def test_a_last_row_that_one_part_knows_too_little_of_is_found_out() -> None:
    """The larger part's window is the narrower: it counts rows at 0.47 as lower, and says nothing of those at 0.45."""
    parts = [np.repeat([0.47, 0.9], [52_000, 48_000]), np.repeat(0.45, 5000)]
    words = [(part * 2.0**64).astype(np.uint64) for part in parts]
    none = np.zeros(100_000, np.int64)
    seen = [candidates(part, first, none[: len(part)], [None], 0.5) for part, first in zip(words, (0, 100_000), strict=True)]
    assert len(seen[1].words) == 5000 and not len(seen[0].words)
    assert select(seen, 52_500) is None


def test_a_kind_is_drawn_from_independently_and_a_smaller_share_lies_within_a_larger() -> None:
    labels = ["a"] * 2000
    half = {kind: set(taken_of(kind, labels, [], 1000, None)["number"].to_pylist()) for kind in KINDS}
    assert half["real"] > set(taken_of("real", labels, [], 500, None)["number"].to_pylist())
    for one, other in [("real", "augmented"), ("real", "synthetic"), ("augmented", "synthetic")]:
        assert 400 < len(half[one] & half[other]) < 600  # 500 expected; 11 is a standard deviation
    assert any((number ^ 1) not in half["augmented"] for number in half["augmented"])  # the two of one real row part


def test_origins_add_up_and_columns_that_real_rows_lack_are_null() -> None:
    schema = pa.schema([*LABELLED.arrow, pa.field("lam", pa.float64())])
    mixed = pa.concat_tables(
        [
            with_origin(rows_of("real", ["a", "b"]), schema, "real", ["lam"]),
            with_origin(rows_of("augmented", ["c"]).append_column("lam", pa.array([0.5])), schema, "augmented", ["lam"]),
            with_origin(rows_of("synthetic", ["a"] * 3), schema, "synthetic", ["lam"]),
        ]
    )
    assert Counter(mixed["_origin"].to_pylist()) == {"real": 2, "augmented": 1, "synthetic": 3}
    assert mixed["lam"].to_pylist() == [None, None, 0.5, None, None, None]
    assert mixed.column_names == ["label", "number", "lam", "_origin"]
    with pytest.raises(KeyError):
        with_origin(rows_of("real", ["a"]), schema, "real")


@settings(deadline=None)
@given(st.text(), st.text(min_size=1, max_size=20))
@example("../../x", "../..")
@example(NULL, "origin")
def test_whatever_the_text_a_folder_is_one_visible_step_that_says_it(value: str, column: str) -> None:
    try:
        name = folder_name(column, value)
    except DataError:
        assert value == NULL or len(value.encode()) > 66 or len(column.encode()) > 18  # a byte takes three where it is encoded
        return
    assert name.isprintable() and len(name.encode()) <= 255
    assert not set(name) & set("/\\") and name[0] not in "._" and name not in (".", "..")
    key, equals, told = name.partition("=")
    assert (unquote(key), equals, unquote(told)) == (column, "=", value)


def test_the_way_out_of_the_root_is_encoded() -> None:
    assert folder_name("origin", "../../x") == "origin=..%2F..%2Fx"
    assert folder_name("_origin", "real") == "%5Forigin=real"


def test_the_name_of_a_column_stays_as_other_readers_show_it() -> None:
    assert folder_name("größe in cm", "170 cm") == "größe in cm=170%20cm"
    assert folder_name("a/b=c%", "x") == "a%2Fb%3Dc%25=x"
    assert folder_name("origin", None) == f"origin={NULL}"
    assert folder_name("origin", "") == "origin="


def read_back(folder: Path, rows: pa.Table, partition_by: Sequence[str], typed: bool = True) -> pa.Table:
    for number, (name, table) in enumerate(by_folder(rows, partition_by)):
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        assert place.resolve().is_relative_to(folder.resolve())
        pq.write_table(table, place / f"part-{number}.parquet")
    fields = pa.schema([rows.schema.field(column) for column in partition_by])
    hive: Any = ds.partitioning(fields, flavor="hive") if typed else "hive"
    return ds.dataset(folder, partitioning=hive).to_table()


def test_arrow_reads_tricky_texts_and_nulls_back(tmp_path: Path) -> None:
    values = [*TRICKY, None]
    table = pa.table({"value": pa.array([*values, *values]), "number": range(2 * len(values))})
    for typed in (True, False):
        found = read_back(tmp_path / str(typed), table, ["value"], typed).select(["value", "number"]).sort_by("number")
        assert found.equals(table)


@settings(max_examples=25, deadline=None)
@given(values=st.lists(st.one_of(st.none(), st.text(max_size=16)), min_size=1, max_size=6))
def test_arrow_reads_any_text_back(tmp_path_factory: pytest.TempPathFactory, values: list[str | None]) -> None:
    table = pa.table({"value": pa.array(values, pa.string()), "number": range(len(values))})
    found = read_back(tmp_path_factory.mktemp("hive"), table, ["value"]).select(["value", "number"]).sort_by("number")
    assert found.equals(table)


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1.5, 0.1, 1e300, None, 2.0]),
        pa.array([True, False, None]),
        pa.array([date(2013, 1, 1), None, date(1969, 12, 31)]),
        pa.array([10**15, -(10**15), None], pa.timestamp("us")),
        pa.array([10**15, -(10**15), None], pa.timestamp("us", "America/New_York")),
        pa.array([2**63 - 1, -(2**63), None]),
    ],
)
def test_values_that_are_no_text_are_told_by_their_text(values: pa.Array, tmp_path: Path) -> None:
    table = pa.table({"value": values, "number": range(len(values))})
    assert read_back(tmp_path, table, ["value"]).select(["value", "number"]).sort_by("number").equals(table)


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["a", "b/", None]), st.booleans()), max_size=40))
def test_folders_nest_in_the_order_asked_and_hold_every_row_once(rows: list[tuple[str | None, bool]]) -> None:
    labels, flags = [label for label, _ in rows], [flag for _, flag in rows]
    table = pa.table({"label": pa.array(labels, pa.string()), "flag": pa.array(flags, pa.bool_()), "number": range(len(rows))})
    found = list(by_folder(table, ["flag", "label"]))
    assert [name for name, _ in found] == sorted({name for name, _ in found})
    expected = Counter(f"flag={str(flag).lower()}/{folder_name('label', label)}" for label, flag in rows)
    assert Counter({name: part.num_rows for name, part in found}) == expected
    assert all(part.column_names == ["number"] for _, part in found)
    assert all(part["number"].to_pylist() == sorted(part["number"].to_pylist()) for _, part in found)
    assert sorted(number for _, part in found for number in part["number"].to_pylist()) == list(range(len(rows)))


def test_too_many_folders_and_too_long_names_are_refused() -> None:
    check_folders(map(str, range(10_000)))
    with pytest.raises(DataError, match="10,001 folders"):
        check_folders(map(str, range(10_001)))
    with pytest.raises(DataError, match="'origin' needs 201 bytes") as error:
        folder_name("origin", "secret" + "x" * 195)
    assert "secret" not in str(error.value)
    assert folder_name("origin", "x" * 200)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (Mix(stratify_by="orgin"), r"mix.stratify_by: no column 'orgin'. Did you mean 'origin'\?"),
        (Mix(partition_by=("distanse",)), r"mix.partition_by: no column 'distanse'. Did you mean 'distance'\?"),
        (Mix(partition_by=("_orgin",)), r"Did you mean '_origin'\?"),
        (Mix(partition_by=("origin", "origin")), "named twice"),
        (Mix(partition_by=("flight_time",)), r"type duration\[us\]"),
    ],
)
def test_what_cannot_be_is_refused_before_any_row_is_read(asked: Mix, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        check(asked, SCHEMA)
    check(Mix(stratify_by="flight_time", partition_by=("_origin", "flown")), SCHEMA)


def test_a_file_keeps_a_column_and_the_name_of_the_origin_is_free() -> None:
    both = Schema(SCHEMA.columns[:2])
    with pytest.raises(RecipeError, match="names every column"):
        check(Mix(partition_by=("origin", "distance")), both)
    with pytest.raises(RecipeError, match="'_origin'"):
        check(Mix(), Schema((*both.columns, Column("_origin", "category", pa.string()))))
