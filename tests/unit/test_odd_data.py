"""Odd but valid tables go the whole way without Ray: read, typed, cleaned, coded, learnt for a step, sampled; wrong ones are named."""

import datetime as dt
import errno
import os
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.cleaning import clean
from raysynth.codecs.tabular import Tabular
from raysynth.commits import commit_files
from raysynth.draws import Draws
from raysynth.errors import CorruptRunError, DataError, StoreError, UnreadableError
from raysynth.generators.autoregressive import Autoregressive
from raysynth.layout import Fields
from raysynth.models import load_model, model_files
from raysynth.profile import Profile, date_formats, infer_schema
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Plan, Run
from raysynth.schema import Schema
from raysynth.sources.base import BadRow, Shard, Source
from raysynth.sources.csv import Csv
from raysynth.sources.parquet import Parquet
from raysynth.stages.prepare import check_source, check_varies, first_rows, source_of
from raysynth.stages.reader import Reader
from raysynth.stores.base import join, store_for
from raysynth.training import fit

ROWS = 120


def written(path: Path, table: pa.Table) -> Parquet:
    pq.write_table(table, path)
    return Parquet(str(path))


def prepared(source: Source) -> tuple[Schema, pa.Table, list[BadRow]]:
    """What both passes of prepare do to one shard after another."""
    tables = [found for shard in source.shards(source.files()) for found in source.read(shard)]
    profile = Profile()
    for table, _ in tables:
        profile = profile.merge(Profile.observe(table))
    schema = infer_schema(Profile.from_json(profile.to_json()))
    cleaned = [clean(table, schema, formats=date_formats(profile, schema)) for table, _ in tables]
    bad = [row for (_, unreadable), (_, unfit) in zip(tables, cleaned, strict=True) for row in (*unreadable, *unfit)]
    return Schema.from_json(schema.to_json()), pa.concat_tables([rows for rows, _ in cleaned]), bad


def learnt(schema: Schema, rows: pa.Table) -> tuple[Tabular, pa.Table, pa.Table]:
    """The settled codec, the rows after a round trip through it, and eight rows of a generator after one step."""
    codec = Tabular(schema, seed=7)
    codec.settle(codec.observe(rows))
    batch = codec.encode(rows)
    generator = Autoregressive(cast(Fields, codec.layout))
    fit(generator, batch.take(slice(0, 8)), batch.take(slice(0, 0)), seed=1, max_epochs=1, batch_rows=8)
    draws = Draws.range(7, "generate", 0, 8)
    back = codec.decode(batch, Draws.range(7, "decode", 0, rows.num_rows))
    return codec, back, codec.decode(generator.sample(draws, None), draws)


def columns(*names: str, **more: Any) -> pa.Table:
    return pa.table({**dict.fromkeys(names, pa.array(range(ROWS))), **more})


EVERY_NTH_DAY = [dt.date(1, 1, 1) + dt.timedelta(days=7 * n) for n in range(ROWS)]
ODD: dict[str, tuple[pa.Table, dict[str, str]]] = {
    "one row": (pa.table({"a": [1], "b": ["x"]}), {"a": "int64", "b": "string"}),
    "one column": (pa.table({"a": [n % 7 for n in range(ROWS)]}), {"a": "int64"}),
    "names": (
        columns("with space", " lead", "😀", "n" * 300, "a.digit", "a", "", 'quo"te', "new\nline"),
        {"😀": "int64", "n" * 300: "int64", " lead": "int64", "": "int64"},
    ),
    "all null and constant": (
        pa.table({"n": pa.nulls(ROWS), "f": pa.nulls(ROWS, pa.float64()), "c": [7] * ROWS, "k": ["k"] * ROWS}),
        {"n": "string", "f": "double", "c": "int64", "k": "string"},
    ),
    "int64 extremes": (
        pa.table({
            "x": pa.array([-(2**63), 2**63 - 1, 0, None] * 30),
            "u": pa.array([0, 2**64 - 1, None, 7] * 30, pa.uint64()),
            "spread": pa.array(np.linspace(-9.2e18, 9.2e18, ROWS).astype(np.int64)),
        }),
        {"x": "int64", "u": "uint64", "spread": "int64"},
    ),
    "decimals": (
        pa.table({
            "cents": pa.array([Decimal(n) / 100 for n in range(ROWS)], pa.decimal128(10, 2)),
            "wide": pa.array([Decimal("-99999999999999999999.5"), Decimal("1.5"), None] * 40, pa.decimal128(30, 4)),
            "wider": pa.array([Decimal(10**36 + n) for n in range(ROWS)], pa.decimal256(50, 4)),
        }),
        {"cents": "decimal128(10, 2)", "wide": "decimal128(30, 4)", "wider": "decimal256(50, 4)"},
    ),
    "zones and old dates": (
        pa.table({
            "paris": pa.array([n * 10**13 - 10**15 for n in range(ROWS)], pa.timestamp("us", tz="Europe/Paris")),
            "nano": pa.array([-n * 10**15 for n in range(ROWS)], pa.timestamp("ns", tz="+05:30")),
            "antique": pa.array(EVERY_NTH_DAY),
            "lasting": pa.array([-n for n in range(ROWS)], pa.duration("s")),
        }),
        {
            "paris": "timestamp[us, tz=Europe/Paris]",
            "nano": "timestamp[ns, tz=+05:30]",
            "antique": "date32[day]",
            "lasting": "duration[s]",
        },
    ),
    "lists and structs": (
        pa.table({
            "l": [[1, 2], None, []] * 40,
            "s": [{"a": 1, "b": [{"c": "é"}]}, None, {"a": 2, "b": []}] * 40,
            "m": pa.array([[("a", 1)], None, []] * 40, pa.map_(pa.string(), pa.int64())),
        }),
        {"l": "string", "s": "string", "m": "string"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_tables_keep_their_types_and_are_learnt_and_sampled(name: str, tmp_path: Path) -> None:
    table, types = ODD[name]
    schema, rows, bad = prepared(written(tmp_path / "a.parquet", table))
    assert not bad and rows.num_rows == table.num_rows
    assert schema.names == table.column_names
    assert {column: str(schema[column].type) for column in types} == types
    _, back, drawn = learnt(schema, rows)
    for column in schema:
        assert rows[column.name].type == back[column.name].type == drawn[column.name].type == column.type
        assert back[column.name].null_count == rows[column.name].null_count
        if len(set(rows[column.name].to_pylist())) < 10 and "wide" not in column.name:  # more than 18 digits are floats inside
            assert back[column.name].to_pylist() == rows[column.name].to_pylist()
    assert drawn.num_rows == 8


def test_nested_values_are_kept_as_json(tmp_path: Path) -> None:
    schema, rows, _ = prepared(written(tmp_path / "a.parquet", ODD["lists and structs"][0]))
    assert [column.kind for column in schema] == ["json"] * 3
    assert rows["s"][0].as_py() == '{"a": 1, "b": [{"c": "é"}]}'


def test_networks_get_narrower_only_where_the_table_is_wide() -> None:
    from raysynth.generators.autoregressive import MAX_READ_WEIGHTS, _widths  # pyright: ignore[reportPrivateUsage]

    assert _widths([100] * 100, 16, 96) == ([16] * 100, 96)
    for fields in (300, 1000, 4000):
        widths, hidden = _widths([512] * fields, 16, 96)
        assert 0.5 * MAX_READ_WEIGHTS < fields * sum(widths) * hidden <= MAX_READ_WEIGHTS


def test_a_hundred_thousand_categories_come_back(tmp_path: Path) -> None:
    table = pa.table({"c": pa.array([f"v {n}" for n in range(100_000)]), "k": pa.array(np.arange(100_000) % 3)})
    schema, rows, bad = prepared(written(tmp_path / "a.parquet", table))
    assert [column.kind for column in schema] == ["category", "integer"] and not bad
    _, back, drawn = learnt(schema, rows)
    assert back["c"].combine_chunks().equals(rows["c"].combine_chunks())
    assert drawn["c"].null_count == 0


def test_not_a_number_is_null_and_infinities_are_bad_rows(tmp_path: Path) -> None:
    table = pa.table({"x": pa.array([float("inf"), float("-inf"), float("nan"), None, 1.5, 0.1] * 20)})
    _, rows, bad = prepared(written(tmp_path / "a.parquet", table))
    assert (rows.num_rows, rows["x"].null_count, len(bad)) == (80, 40, 40)
    assert bad[0].reason == "column 'x': inf is no number (double)"


def test_a_second_column_of_one_name_gets_a_name_of_its_own(tmp_path: Path) -> None:
    numbers = pa.array([1, 2] * 20)
    source = written(tmp_path / "a.parquet", pa.Table.from_arrays([numbers] * 3, names=["a", "a", "b"]))
    assert prepared(source)[0].names == ["a", "a_2", "b"]
    (tmp_path / "a.csv").write_text("a,a,\n" + "1,2,3\n" * 40)
    assert prepared(Csv(str(tmp_path / "a.csv")))[0].names == ["a", "a_2", "column_3"]


def test_ragged_lines_and_an_odd_encoding_in_one_csv(tmp_path: Path) -> None:
    lines = ["größe;straße", *[f"{n};Straße {n % 3}" for n in range(50)], "1;2;3", "nur eine"]
    (tmp_path / "a.csv").write_bytes("\r\n".join(lines).encode("cp1252"))
    schema, rows, bad = prepared(Csv(str(tmp_path / "a.csv")))
    assert schema.names == ["größe", "straße"] and rows.num_rows == 50
    assert [(row.row, row.reason) for row in bad] == [
        (50, "3 cells where the header has 2"),
        (51, "1 cells where the header has 2"),
    ]


@pytest.mark.parametrize("type", [pa.binary(), pa.large_binary(), pa.binary(4), pa.binary_view()], ids=str)
def test_a_column_of_bytes_is_refused_by_name_from_the_first_rows(type: pa.DataType, tmp_path: Path) -> None:
    source = written(tmp_path / "a.parquet", pa.table({"good": [1] * 4, "blob": pa.array([b"abcd"] * 4).cast(type)}))
    with pytest.raises(DataError, match=r"column 'blob' of 'a\.parquet': it holds bytes .* Leave it out"):
        prepared(source)


def truncated(path: Path) -> None:
    pq.write_table(columns("a", "b"), path)
    path.write_bytes(path.read_bytes()[:-20])


def reader_of(source: Source) -> Reader:
    shards = source.shards(source.files())
    profile = Profile()
    for shard in shards:
        if not shard.file.path.startswith("broken"):
            for table, _ in source.read(shard):
                profile = profile.merge(Profile.observe(table))
    return Reader(source, tuple(shards), infer_schema(profile), {})


@pytest.mark.parametrize("shard_bytes", [1, 128 << 20])
def test_a_truncated_parquet_file_goes_to_quarantine_by_name(shard_bytes: int, tmp_path: Path) -> None:
    truncated(tmp_path / "broken.parquet")
    pq.write_table(columns("a", "b"), tmp_path / "good.parquet")
    reader = reader_of(Parquet(str(tmp_path), shard_bytes=shard_bytes))
    assert len(reader.shards) == 2
    ((pieces, (bad,)),) = reader.cleaned(0)
    assert not pieces and (bad.path, bad.row) == ("broken.parquet", -1)
    assert "file 'broken.parquet': no whole Parquet file" in bad.reason
    assert sum(piece.num_rows for pieces, _ in reader.cleaned(1) for piece in pieces) == ROWS


def test_broken_pages_take_the_whole_file_out(tmp_path: Path) -> None:
    path = tmp_path / "broken.parquet"
    table = pa.table({"a": [f"some text {n}" for n in range(5000)]})
    pq.write_table(table, path, compression="zstd", row_group_size=1000, use_dictionary=False)
    data, at = bytearray(path.read_bytes()), pq.read_metadata(path).row_group(4).column(0).data_page_offset + 60
    data[at : at + 200] = bytes(200)
    path.write_bytes(data)
    pq.write_table(table, tmp_path / "good.parquet")
    ((pieces, bad),) = reader_of(Parquet(str(tmp_path), rows_per_table=100)).cleaned(0)
    assert not pieces and [row.path for row in bad] == ["broken.parquet"]


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.parquet", b"PAR1 and then nothing", "file 'a.parquet': no whole Parquet file"),
        ("a.csv", b"a,b\n", "has no rows"),
        ("a.csv", b"a,b\n1,2,3\n", "has no row that can be read. file 'a.csv', row 0: 3 cells where the header has 2"),
        ("a.csv.gz", b"\x1f\x8b\x08 no more", "file 'a.csv.gz': it cannot be unpacked"),
        ("a.jsonl", b"[1]\n", "file 'a.jsonl', row 0: no JSON object"),
    ],
)
def test_a_source_without_one_readable_row_is_refused_and_says_why(name: str, data: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    recipe = parse_recipe({"source": str(tmp_path / name), "evaluate": None})
    source = source_of(recipe)
    with pytest.raises(DataError) as refused:
        first_rows(recipe, source, source.shards(check_source(recipe)))
    assert told in str(refused.value)


class Growing(Parquet):
    """Somebody writes to the file while it is read."""

    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        yield from super().read(shard)
        path = Path(shard.file.url.removeprefix("file://"))
        path.write_bytes(path.read_bytes() + b" ")


class Vanishing(Growing):
    def read(self, shard: Shard) -> Iterator[tuple[pa.Table, list[BadRow]]]:
        Path(shard.file.url.removeprefix("file://")).unlink()
        raise UnreadableError("file: it is not what it was")
        yield


@pytest.mark.parametrize(("use", "told"), [(Growing, "changed since it was listed"), (Vanishing, "is gone since it was listed")])
def test_a_file_that_changes_while_it_is_read_is_refused_not_quarantined(use: type[Growing], told: str, tmp_path: Path) -> None:
    written(tmp_path / "a.parquet", columns("a", "b"))
    still = reader_of(Parquet(str(tmp_path)))
    with pytest.raises(DataError, match=rf"a\.parquet: {told}. Run again"):
        list(Reader(use(str(tmp_path)), still.shards, still.schema, {}).cleaned(0))


def prepared_folder(tmp_path: Path, table: pa.Table) -> Folder:
    source = written(tmp_path / "a.parquet", table)
    found, _ = next(source.read(source.shards(source.files())[0]))
    profile = Profile.observe(found)
    folder = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    folder.write_json("_raysynth/profile.json", profile.to_json())
    folder.write_plan(Plan(1, {"schema": infer_schema(profile).to_json()}))
    return folder


def test_a_column_that_never_varies_cannot_be_a_target(tmp_path: Path) -> None:
    table = columns("varies", same=["x"] * ROWS, none=pa.nulls(ROWS, pa.string()), some=["x", None] * (ROWS // 2))
    folder = prepared_folder(tmp_path, table)
    with pytest.raises(DataError, match=rf"evaluate\.target: column 'same' is 'x' in all {ROWS} rows.* Name another"):
        check_varies(folder, "same", "evaluate.target")
    with pytest.raises(DataError, match="column 'none' is null in all"):
        check_varies(folder, "none", "evaluate.target")
    for name in ("varies", "some", "derived"):
        check_varies(folder, name, "evaluate.target")


def model_folder(tmp_path: Path) -> Folder:
    schema, rows, _ = prepared(written(tmp_path / "a.parquet", pa.table({"a": [n % 7 for n in range(ROWS)]})))
    codec = Tabular(schema, seed=7)
    codec.settle(codec.observe(rows))
    parts = {"codec": {"use": "tabular"}, "generator": {"use": "autoregressive", "hidden": 8}}
    facts = {"seed": 7, "schema": schema.to_json(), "derive": {}, "parts": parts}
    folder = Run(str(tmp_path / "run")).folder("model", "0123456789ab")
    files = model_files(codec, Autoregressive(cast(Fields, codec.layout), hidden=8), facts)
    for name, data in files.items():
        folder.store.put(join(folder.url, name), data)
    commit_files(folder, files)
    return folder


@pytest.mark.parametrize("stem", ["model", "codec", "weights"])
def test_a_flipped_bit_in_any_file_of_a_model_is_named(stem: str, tmp_path: Path) -> None:
    folder = model_folder(tmp_path)
    load_model(folder)
    (path,) = (path for path in Path(folder.url.removeprefix("file://")).iterdir() if path.name.startswith(stem))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptRunError, match=rf"{path.name}: its bytes are not those that were committed. Copy the file again"):
        load_model(folder)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.ENOSPC, "No space left on device; free some space"),
        (errno.EROFS, "Read-only file system; name a place that can be written"),
        (errno.EDQUOT, "quota"),
    ],
)
def test_a_store_that_cannot_be_written_says_so_and_leaves_nothing(
    code: int, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: int) -> None:
        raise OSError(code, os.strerror(code))

    url = f"file://{tmp_path}/run/x"
    with monkeypatch.context() as full:
        full.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match=told) as refused:
            store_for(url).put(url, b"x" * 100)
    assert "\n" not in str(refused.value) and not list((tmp_path / "run").iterdir())
    assert store_for(url).put(url, b"x")
