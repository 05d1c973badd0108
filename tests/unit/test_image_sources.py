"""Pictures as input: folders, globs, archives and their metadata; what is no picture is one bad row by its name and the reason."""

import bz2
import gzip
import io
import json
import struct
import tarfile
import unicodedata
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from raysynth.errors import DataError, RecipeError, UnreadableError
from raysynth.parts import check_options
from raysynth.pictures import NoPictureError, checked, encoded, pictures
from raysynth.profile import Profile, date_formats, infer_schema
from raysynth.recipe_files import parse_recipe
from raysynth.schema import IMAGE
from raysynth.sources import images
from raysynth.sources._archives import inner_path
from raysynth.sources.base import BadRow, Source
from raysynth.sources.examples import Examples
from raysynth.sources.idx import Idx
from raysynth.sources.images import Images
from raysynth.sources.parquet import Parquet
from raysynth.stages import prepare
from raysynth.stages.first_rows import first_rows
from raysynth.stages.profile import Seen, _surveyor
from raysynth.stages.reader import PackedShards, Reader
from raysynth.stages.repeated_rows import _cut_hashes, _repeated
from raysynth.stores.memory import Memory


def png(grey: int = 0, *, height: int = 3, width: int = 4) -> bytes:
    return encoded(np.full((height, width, 1), grey, np.uint8))


def folder_of(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def read_all(source: Source) -> tuple[list[dict[str, Any]], list[BadRow]]:
    """The rows of all shards, of pictures the path alone, and the bad ones."""
    rows: list[dict[str, Any]] = []
    bad: list[BadRow] = []
    for shard in source.shards(source.files()):
        for table, found in source.read(shard):
            assert table.column_names[:2] == ["_file", "_row"] and table.schema.field("image").type == IMAGE
            rows += [{**row, "image": row["image"]["path"]} for row in table.to_pylist()]
            bad += found
    return rows, bad


def tar_of(path: Path, members: Iterable[tuple[str, bytes] | tarfile.TarInfo], mode: Any = "w") -> Path:
    with tarfile.open(path, mode) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
                continue
            info = tarfile.TarInfo(member[0])
            info.size = len(member[1])
            tar.addfile(info, io.BytesIO(member[1]))
    return path


def zip_of(path: Path, members: dict[str, bytes], packing: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", packing) as packed:
        for name, data in members.items():
            packed.writestr(name, data)
    return path


# Folders and globs


def test_a_folder_of_pictures_has_the_names_of_its_folders_for_labels(tmp_path: Path) -> None:
    names = ["cats/a b é.PNG", "cats/_DSC1.JPG", "dogs/a b é.PNG", "dogs/deep/x.webp"]
    others = ["dogs/notes.txt", "dogs/.hidden.png", ".git/x.png", "_old/x.png", "Thumbs.db"]
    folder = folder_of(tmp_path, {name: png(at) for at, name in enumerate([*names, *others])})
    rows, bad = read_all(Images(str(folder)))
    assert not bad
    assert [(row["_file"], row["_row"], row["image"], row["label"]) for row in rows] == [
        (name, 0, name, name.split("/")[-2]) for name in sorted(names)
    ]
    assert "label" not in read_all(Images(str(folder), label="none"))[0][0]
    assert [row["kind"] for row in read_all(Images(f"{folder}/cats/*", label_column="kind", label="folder"))[0]] == [None] * 2
    assert "label" not in read_all(Images(f"{folder}/cats/*"))[0][0]
    assert [row["label"] for row in read_all(Images(f"{folder}/**/*.PNG"))[0]] == ["cats", "dogs"]
    assert [row["_file"] for row in read_all(Images(f"{folder}/cats/a b é.PNG"))[0]] == ["a b é.PNG"]


def test_what_is_no_picture_of_ours_is_listed_and_not_passed_over(tmp_path: Path) -> None:
    folder = folder_of(
        tmp_path, {"a.png": png(), "b.svg": b"<svg xmlns='x'/>", "c.gif": b"GIF89a", "d.HEIC": b"\0\0\0\x18ftypheic"}
    )
    assert [file.path for file in Images(str(folder)).files()] == ["a.png", "b.svg", "c.gif", "d.HEIC"]


def test_links_are_read_but_not_linked_folders(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"a/1.png": png()})
    other = folder_of(tmp_path / "out", {"2.png": png(2)})
    (folder / "a/2.png").symlink_to(other / "2.png")
    (folder / "a/gone.png").symlink_to(other / "gone.png")
    (folder / "b").symlink_to(other)
    (folder / "a/loop").symlink_to(folder)
    assert [row["_file"] for row in read_all(Images(str(folder)))[0]] == ["a/1.png", "a/2.png"]


def test_no_picture_and_no_folder_are_errors_that_say_what_is_read(tmp_path: Path) -> None:
    folder_of(tmp_path, {"a.csv": b"x\n", ".b.png": png()})
    for url in (str(tmp_path), f"{tmp_path}/none", f"{tmp_path}/*.csv", f"{tmp_path}/a.csv"):
        with pytest.raises(DataError, match=r"no input files.*\.jpg.*\.zip"):
            Images(url).files()
    with pytest.raises(RecipeError, match="label_column: must be a name"):
        check_options(Images, {"label_column": "_row"}, "source")
    with pytest.raises(RecipeError, match=r"metadata: must be the path or the URL of a file that ends in \.csv"):
        check_options(Images, {"metadata": "a.xlsx"}, "source")


def test_a_file_that_is_too_large_is_never_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = folder_of(tmp_path, {"a.png": png(), "b.png": b"x" * 5000, "c.png": b""})
    asked: list[int] = []
    read_range = images.store_for("file:///").__class__.read_range
    monkeypatch.setattr(
        "raysynth.stores.file.File.read_range", lambda store, url, at, size: asked.append(size) or read_range(store, url, at, size)
    )
    rows, (bad,) = read_all(Images(str(folder), max_file_bytes=4999))
    assert [row["_file"] for row in rows] == ["a.png", "c.png"]
    assert (bad.path, bad.row, bad.text) == ("b.png", 0, "b.png") and "it has 5,000 bytes, and at most 4,999 are read" in bad.reason
    assert asked == [len(png())]


def test_any_store_holds_pictures() -> None:
    store = Memory()
    for name in ("a/1.png", "b/2.png"):
        store.put(f"memory://pictures-of-any-store/{name}", png())
    rows, _ = read_all(Images("memory://pictures-of-any-store"))
    assert [(row["_file"], row["label"]) for row in rows] == [("a/1.png", "a"), ("b/2.png", "b")]


def test_shards_hold_many_files_and_tables_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {f"{at % 2}/{at}.png": png() * (1 + at % 3) for at in range(60)} | {"0/x.zip": b""})
    monkeypatch.setattr(images, "SHARD_FILES", 20)
    monkeypatch.setattr(images, "TABLE_ROWS", 7)
    source = Images(str(tmp_path))
    files = source.files()
    shards = source.shards(files)
    assert sorted(file.path for shard in shards for file in shard.all_files) == [file.path for file in files]
    assert [len(shard.files) for shard in shards] == [20, 10, 0, 20, 10]
    tables = [table for shard in shards if shard.files for table, _ in source.read(shard)]
    assert [table.num_rows for table in tables] == [7, 7, 6, 7, 3] * 2
    assert pa.concat_tables(tables)["_file"].to_pylist() == sorted(file.path for file in files if file.path != "0/x.zip")
    monkeypatch.setattr(images, "SHARD_BYTES", 3 * len(png()))
    for shard in source.shards(files):
        assert sum(file.size_bytes for file in shard.files) <= 3 * len(png())


def test_many_small_files_are_listed_and_cut_quickly() -> None:
    files = [images.InputFile(f"{at % 10}/{at:06d}.png", f"memory://x/{at:06d}", 700, "") for at in range(20_000)]
    source = Images("memory://x")
    shards = source.shards(files)
    assert [len(shard.files) for shard in shards] == [10_000, 10_000]
    packed = PackedShards(shards)
    assert list(packed) == shards and len(cloudpickle.dumps(packed)) < 30 * len(files)
    assert source.known_rows(files) == 20_000


# Metadata


def metadata_of(lines: list[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def test_a_metadata_file_in_the_root_is_taken_by_itself_and_joins_by_name(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "cats/é.png")
    lines = [
        {"file_name": "./dogs/1.png", "caption": "a dog", "n": 1},
        {"file_name": unicodedata.normalize("NFC", name), "caption": "a cat", "n": 2},
        {"file_name": "gone.png", "caption": "nothing", "n": 3},
    ]
    folder = folder_of(tmp_path, {name: png(), "dogs/1.png": png(), "dogs/2.png": png(), "metadata.jsonl": metadata_of(lines)})
    source = Images(str(folder))
    assert [file.path for file in source.files()][-1] == "metadata.jsonl"
    rows, _ = read_all(source)
    assert [(row["_file"], row["caption"], row["n"]) for row in rows] == [
        (name, "a cat", "2"),
        ("dogs/1.png", "a dog", "1"),
        ("dogs/2.png", None, None),
    ]
    assert "label" not in rows[0]
    assert [row["label"] for row in read_all(Images(str(folder), label="folder"))[0]] == ["cats", "dogs", "dogs"]
    lost, bare = source.notes(source.files())
    assert "1 lines name no picture of the source: 'gone.png'" in lost
    assert "1 pictures have no line, and nulls in its columns: 'dogs/2.png'" in bare


def test_metadata_may_lie_anywhere_in_csv_and_name_its_column(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "in", {"1.png": png(), "2.png": png(), "metadata.csv": b"file_name,x\n1.png,root\n"})
    (tmp_path / "labels.csv").write_text("picture;age\n2.png;7\n1.png;8\n")
    source = Images(f"{folder}/*.png", metadata=str(tmp_path / "labels.csv"), file_column="picture")
    assert [(row["_file"], row["age"]) for row in read_all(source)[0]] == [("1.png", "8"), ("2.png", "7")]
    assert [row["x"] for row in read_all(Images(f"{folder}/*.png"))[0]] == ["root", None]
    assert [row["x"] for row in read_all(Images(str(folder), metadata="metadata.csv"))[0]] == ["root", None]


@pytest.mark.parametrize(
    ("name", "data", "options", "told"),
    [
        ("metadata.csv", b"file_name,x\na.png,1\na.png,2\n", {}, "two lines name 'a.png'"),
        ("metadata.csv", b"file,x\na.png,1\n", {}, "there is no column 'file_name'.*Columns: file, x.*file_column"),
        ("metadata.jsonl", b"", {}, "there is no column 'file_name'.*Columns: none"),
        ("metadata.jsonl", metadata_of([{"file_name": "a.png", "image": 1}]), {}, "two columns would be 'image'"),
        ("metadata.jsonl", metadata_of([{"file_name": "a.png", "label": 1}]), {"label": "folder"}, "two columns would be 'label'"),
        ("metadata.jsonl", metadata_of([{"file_name": "a.png", "_row": 1}]), {}, "are raysynth's own"),
        ("x.csv", b"", {"metadata": "gone.csv"}, "source.metadata: 'gone.csv' is not there"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(tmp_path: Path, name: str, data: bytes, options: dict[str, Any], told: str) -> None:
    folder_of(tmp_path, {"a.png": png(), name: data})
    with pytest.raises(DataError, match=told):
        read_all(Images(str(tmp_path), **options))


# Archives


MEMBERS = {
    "cats/1.png": png(1),
    "/abs/2.png": png(2),
    "../../up/3.png": png(3),
    "a\\b\\4.png": png(4),
    "__MACOSX/cats/._1.png": b"",
    "read me.txt": b"x",
}


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.TGZ"])
def test_archives_are_read_in_memory_and_their_names_lead_nowhere(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "x.zip":
        zip_of(path, MEMBERS)
    else:
        tar_of(path, MEMBERS.items(), "w" if name == "x.tar" else "w:gz")
    rows, bad = read_all(Images(str(path)))
    assert not bad
    assert [(row["_file"], row["_row"], row["image"], row["label"]) for row in rows] == [
        (name, 0, f"{name}/cats/1.png", "cats"),
        (name, 1, f"{name}/abs/2.png", "abs"),
        (name, 2, f"{name}/up/3.png", "up"),
        (name, 3, f"{name}/a/b/4.png", "b"),
    ]
    assert sorted(file.name for file in tmp_path.iterdir()) == [name]
    assert inner_path("..") == "" and inner_path("a/\udcff.png") == "a/\ufffd.png"


def test_a_big_zip_is_cut_by_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zip_of(tmp_path / "x.zip", {f"{at}.png": png(at) for at in range(10)} | {"metadata.csv": b"file_name,n\n3.png,three\n"})
    whole = read_all(Images(str(path)))[0]
    monkeypatch.setattr(images, "SHARD_BYTES", 3 * len(png()))
    source = Images(str(path))
    shards = source.shards(source.files())
    assert len(shards) > 3 and [shard.first_row for shard in shards] == sorted({shard.first_row for shard in shards})
    assert read_all(source)[0] == whole
    assert [row["n"] for row in whole] == [None] * 3 + ["three"] + [None] * 6


def test_what_lies_beside_a_picture_in_a_tar_becomes_columns(tmp_path: Path) -> None:
    path = tar_of(
        tmp_path / "x.tar",
        [
            ("000.jpg", png()),
            ("000.json", b'{"caption": "one", "n": 2, "tags": ["a"]}'),
            ("000.cls", b"3\n"),
            ("001.txt", "zwei 二".encode()),
            ("001.png", png()),
            ("002.png", png()),
            ("003.png", png()),
            ("003.json", b"[1]"),
            ("004.png", png()),
            ("004.txt", b"\xff"),
        ],
    )
    rows, bad = read_all(Images(str(path)))
    assert [(row["_row"], row["caption"], row["n"], row["tags"], row["cls"], row["txt"]) for row in rows] == [
        (0, "one", "2", '["a"]', "3", None),
        (4, None, None, None, None, "zwei 二"),
        (5, None, None, None, None, None),
    ]
    assert [(row.row, row.text) for row in bad] == [(6, "x.tar/003.png"), (8, "x.tar/004.png")]
    assert "its .json is no JSON object" in bad[0].reason and "its .txt is no text in UTF-8" in bad[1].reason
    folder_of(tmp_path, {"metadata.csv": b"file_name\n"})
    with pytest.raises(DataError, match="is there for pictures in a tar"):
        Images(str(tmp_path)).files()


def link(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
    return info


def encrypted(path: Path) -> Path:
    data = bytearray(zip_of(path, {"a.png": png()}).read_bytes())
    for head, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        data[data.index(head) + at] |= 1
    path.write_bytes(bytes(data))
    return path


def damaged(path: Path) -> Path:
    data = bytearray(zip_of(path, {"a.png": png(), "b.png": png()}, zipfile.ZIP_STORED).read_bytes())
    at = data.index(b"IHDR")
    data[at + 4] ^= 255
    path.write_bytes(bytes(data))
    return path


def lying(path: Path) -> Path:
    """A member of 20 MB that claims 100 bytes."""
    data = bytearray(zip_of(path, {"a.png": b"\0" * 20_000_000}).read_bytes())
    data[22:26] = data[(at := data.index(b"PK\1\2")) + 24 : at + 28] = struct.pack("<I", 100)
    path.write_bytes(bytes(data))
    return path


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: zip_of(folder / "x.zip", {"a.png": b"\0" * 60_000_000}), "it has 60,000,000 bytes, and at most 50,000,000"),
        (lambda folder: tar_of(folder / "x.tgz", [("a.png", b"\0" * 60_000_000)], "w:gz"), "it has 60,000,000 bytes"),
        (lambda folder: lying(folder / "x.zip"), "it cannot be unpacked"),
        (
            lambda folder: zip_of(folder / "x.zip", {"a.png": png()}, zipfile.ZIP_BZIP2),
            "packed by method 12. Write the zip with deflate",
        ),
        (lambda folder: encrypted(folder / "x.zip"), "it is encrypted"),
        (lambda folder: damaged(folder / "x.zip"), "it cannot be unpacked"),
        (lambda folder: tar_of(folder / "x.tar", [link("a.png")]), "it is a link"),
    ],
)
def test_a_member_that_cannot_be_read_is_one_bad_row(tmp_path: Path, make: Callable[[Path], Path], told: str) -> None:
    path = make(tmp_path)
    _, (bad,) = read_all(Images(str(path), max_file_bytes=50_000_000))
    assert told in bad.reason and (bad.path, bad.row, bad.text) == (path.name, 0, f"{path.name}/a.png")


def negative(data: bytes) -> bytes:
    """A tar whose second header says that its member is of negative size: the third would begin at the first."""
    head = bytearray(data[1024:1536])
    head[124:136] = b"\xff" * 4 + struct.pack(">q", -2048)
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\0 " % sum(head)
    return data[:1024] + bytes(head) + data[1536:]


@pytest.mark.parametrize(
    ("change", "good"),
    [
        (lambda data: data[:2048], 2),
        (lambda data: data[:1200], 1),
        (lambda data: data[:1536] + data[1536:1540], 1),
        (lambda data: data[:1024] + b"x" * 512 + data[1536:], 1),
        (negative, 1),
    ],
)
def test_a_tar_that_breaks_keeps_what_came_before_and_tells(tmp_path: Path, change: Callable[[bytes], bytes], good: int) -> None:
    data = tar_of(tmp_path / "x.tar", [(f"{at}.png", png(at)) for at in range(3)]).read_bytes()
    (tmp_path / "x.tar").write_bytes(change(data))
    rows, bad = read_all(Images(str(tmp_path / "x.tar")))
    assert [row["_row"] for row in rows] == list(range(good))
    if len(change(data)) == 2048:  # where a member ends, so may a tar
        assert not bad
    else:
        assert "the archive is cut off or broken from member" in bad[-1].reason and bad[-1].path == "x.tar"


def test_headers_of_a_tar_that_claim_to_be_huge_are_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    long = tarfile.TarInfo("././@LongLink")
    long.type, long.size = tarfile.GNUTYPE_LONGNAME, 1
    deep = (long.tobuf() + b"a" + b"\0" * 511) * 2000
    data = tar_of(tmp_path / "x.tar", [("a.png", png())]).read_bytes()[:1024]
    for name, more in (("pax", info.tobuf() + b"\0" * 4096), ("deep", deep)):
        (tmp_path / f"{name}.tar").write_bytes(data + more)
        rows, (bad,) = read_all(Images(str(tmp_path / f"{name}.tar")))
        assert len(rows) == 1 and "broken from member 1 on" in bad.reason


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz"])
def test_an_archive_that_is_none_is_left_out_by_name(tmp_path: Path, name: str) -> None:
    for data in (b"", b"no archive", png() * 20, zip_of(tmp_path / "y.zip", MEMBERS).read_bytes()[:-30], bz2.compress(b"x" * 9999)):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UnreadableError, match=rf"file '{name}'"):
            read_all(Images(str(tmp_path / name)))


def test_metadata_in_a_zip_that_cannot_be_read_is_told_and_its_bad_lines_are_bad_rows(tmp_path: Path) -> None:
    lines = b'{"file_name": "a.png", "n": "one"}\n{"file_name": \n'
    rows, bad = read_all(Images(str(zip_of(tmp_path / "x.zip", {"a.png": png(), "metadata.jsonl": lines}))))
    assert [row["n"] for row in rows] == ["one"]
    assert [(row.path, row.row) for row in bad] == [("x.zip/metadata.jsonl", 1)] and "no JSON object" in bad[0].reason
    with pytest.raises(DataError, match=r"'y\.zip': of its 'metadata\.csv': it is packed by method 12"):
        read_all(Images(str(zip_of(tmp_path / "y.zip", {"metadata.csv": b"file_name\n", "a.png": png()}, zipfile.ZIP_BZIP2))))


def test_a_broken_zip_beside_metadata_stops_nobody(tmp_path: Path) -> None:
    source = Images(str(folder_of(tmp_path, {"a.png": png(), "b.zip": b"none", "metadata.csv": b"file_name,n\na.png,1\n"})))
    assert source.notes(source.files()) == []


def test_a_name_that_comes_again_in_a_tar_is_another_picture_with_what_lies_beside_it(tmp_path: Path) -> None:
    path = tar_of(tmp_path / "x.tar", [("a.png", png()), ("a.cls", b"1"), ("a.png", png(1)), ("a.cls", b"2"), ("b.png", png(2))])
    assert [row["cls"] for row in read_all(Images(str(path)))[0]] == ["1", "2", None]


def test_brackets_may_stand_in_the_name_of_a_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a[1]", {"x.png": png()})
    assert [file.path for file in Images(str(folder)).files()] == ["x.png"]
    assert [file.path for file in Images(f"{folder}/x.png").files()] == ["x.png"]


def test_a_table_whose_pictures_are_broken_is_bad_rows_where_another_has_whole_ones(tmp_path: Path) -> None:
    for name, data in (("a", [b"broken", None]), ("b", [png(), b"broken too"])):
        pq.write_table(pa.table({"image": pa.array(data, pa.binary())}), tmp_path / f"{name}.parquet")
    source = Parquet(str(tmp_path))
    reader = reader_of(source)
    assert reader.schema["image"].kind == "image"
    bad = [row.path for part in range(2) for _, found in reader.cleaned(part) for row in found]
    assert bad == ["a.parquet", "b.parquet"]


def test_rows_of_large_cells_come_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": pa.array([bytes([at]) * 10_000 for at in range(20)])}), tmp_path / "x.parquet")
    monkeypatch.setattr("raysynth.sources.parquet.TABLE_BYTES", 30_000)
    source = Parquet(str(tmp_path))
    tables = [table for shard in source.shards(source.files()) for table, _ in source.read(shard)]
    assert {table.num_rows for table in tables} <= {1, 2, 3} and sum(table.num_rows for table in tables) == 20


def test_an_archive_without_pictures_has_no_rows(tmp_path: Path) -> None:
    assert read_all(Images(str(zip_of(tmp_path / "x.zip", {"a.csv": b"x\n"})))) == ([], [])


# IDX and the digits


def idx_of(path: Path, values: np.ndarray, kind: int = 8) -> bytes:
    data = struct.pack(f">HBB{values.ndim}I", 0, kind, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return data


PIXELS = np.arange(5 * 3 * 4).reshape(5, 3, 4).astype(np.uint8)
LABELS = np.array([7, 0, 9, 1, 7], np.uint8)


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_idx_files_find_their_labels_and_keep_every_pixel(tmp_path: Path, ending: str) -> None:
    for split in ("train", "t10k"):
        idx_of(tmp_path / f"{split}-images-idx3-ubyte{ending}", PIXELS)
        idx_of(tmp_path / f"{split}-labels-idx1-ubyte.gz", LABELS)
    source = Idx(str(tmp_path))
    files = source.files()
    shards = source.shards(files)
    assert [shard.file.path for shard in shards] == [f"{split}-images-idx3-ubyte{ending}" for split in ("t10k", "train")]
    assert len(files) == 4 and not source.notes(files)
    ((table, bad),) = source.read(shards[1])
    assert not bad and table["label"].to_pylist() == ["7", "0", "9", "1", "7"] and table["_row"].to_pylist() == list(range(5))
    assert np.array_equal(np.array(pictures(table["image"]))[..., 0], PIXELS)


def test_idx_labels_may_be_named_and_lacking_ones_are_told(tmp_path: Path) -> None:
    idx_of(tmp_path / "a.idx3", np.stack([PIXELS] * 3, axis=-1))
    idx_of(tmp_path / "b" / "which.idx1", LABELS)
    bare = Idx(str(tmp_path / "a.idx3"))
    (note,) = bare.notes(bare.files())
    assert "no file of labels beside it" in note and list(read_all(bare)[0][0]) == ["_file", "_row", "image"]
    named = Idx(str(tmp_path / "a.idx3"), labels="b/which.idx1", label_column="digit")
    assert [row["digit"] for row in read_all(named)[0]] == [str(label) for label in LABELS]
    with pytest.raises(DataError, match=r"source\.labels: 'gone' is not there"):
        Idx(str(tmp_path / "a.idx3"), labels="gone").files()


@pytest.mark.parametrize(
    ("values", "change", "told"),
    [
        (PIXELS, lambda data: data[:-1], "it is cut off"),
        (PIXELS, lambda data: data[:9], "it is cut off"),
        (PIXELS, lambda data: data + b"x", "goes on behind the last value"),
        (PIXELS, lambda data: b"\x89PNG" + data[4:], "it is no IDX file"),
        (PIXELS, lambda data: data[:4] + struct.pack(">III", 1, 1 << 31, 1 << 31), "its pictures are"),
        (PIXELS, lambda data: b"", "it is no IDX file"),
        (LABELS, lambda data: data, "it is no IDX file of bytes in 3 or 4 dimensions"),
    ],
)
def test_a_broken_idx_file_is_unreadable(tmp_path: Path, values: np.ndarray, change: Callable[[bytes], bytes], told: str) -> None:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(change(idx_of(path, values)))
    with pytest.raises(UnreadableError, match=told):
        read_all(Idx(str(path)))
    idx_of(tmp_path / "labels-idx1-ubyte", LABELS[:4])
    idx_of(path, PIXELS)
    with pytest.raises(DataError, match="it has 5 pictures, and 'labels-idx1-ubyte' has 4 labels"):
        read_all(Idx(str(path)))


def test_the_digits_are_pictures_with_their_digit() -> None:
    source = Examples("examples://digits")
    ((table, _),) = source.read(source.shards(source.files())[0])
    assert table.num_rows == 1797 and sorted(set(table["digit"].to_pylist())) == [str(digit) for digit in range(10)]
    first = pictures(table["image"].slice(0, 1))[0]
    assert first is not None and first.shape == (8, 8, 1) and first.max() <= 255
    assert {int(value) for picture in pictures(table["image"]) if picture is not None for value in np.unique(picture)} >= {0, 255}


# Through prepare


def saved(mode: str, kind: str = "PNG", size: tuple[int, int] = (9, 7), **options: Any) -> bytes:
    sink = io.BytesIO()
    Image.new(mode, size, 1).save(sink, kind, **options)
    return sink.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved("RGB", "JPEG", exif=exif)


def animated() -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (4, 4), 1).save(sink, "WEBP", save_all=True, append_images=[Image.new("RGB", (4, 4), 200)])
    return sink.getvalue()


def bomb() -> bytes:
    return encoded(np.zeros((1, 1, 1), np.uint8))[:16] + struct.pack(">II", 20_000, 20_000) + b"\0" * 99


GOOD = {
    "cmyk.jpg": saved("CMYK", "JPEG"),
    "deep.png": saved("I;16"),
    "turned.jpg": turned(),
    "palette.png": saved("P", transparency=0),
    "one.png": png(height=1, width=1),
    "really a jpeg.png": saved("RGB", "JPEG"),
}
BAD = {
    "truncated.jpg": (saved("RGB", "JPEG", (300, 300))[:-200], "data are broken"),
    "empty.png": (b"", "an empty file"),
    "animated.webp": (animated(), "it is animated (2 frames)"),
    "bomb.png": (bomb(), "it has 20,000 × 20,000 pixels"),
    "drawn.svg": (b"<?xml version='1.0'?><svg/>", "it is an SVG"),
    "text.jpg": (b"hello", "no picture that is known"),
    "phone.heic": (b"\0\0\0\x18ftypheic" + b"\0" * 20, "it is HEIC"),
}


def reader_of(source: Source) -> Reader:
    shards = source.shards(source.files())
    profile = Profile()
    for shard in shards:
        for table, _ in source.read(shard):
            profile = profile.merge(Profile.observe(table))
    schema = infer_schema(profile, {name: kind for name, kind in source.kinds().items() if name in profile.columns})
    return Reader(source, tuple(shards), schema, date_formats(profile, schema))


def test_odd_pictures_are_kept_plain_and_broken_ones_are_in_quarantine_by_name(tmp_path: Path) -> None:
    folder_of(tmp_path, {f"a/{name}": data for name, data in GOOD.items()} | {f"b/{name}": data for name, (data, _) in BAD.items()})
    recipe = parse_recipe({"source": str(tmp_path), "prepare": {"validation": 0.0, "holdout": 0.0}})
    assert recipe.source.use == "images"
    made = {entry[0]: entry for entry in prepare.make_files(recipe, reader_of(Images(str(tmp_path))), {})(0)}
    rows, quarantine = made["train"][1], made["quarantine"][1]
    assert rows is not None and quarantine is not None
    assert [row["_file"] for row in rows.to_pylist()] == sorted(f"a/{name}" for name in GOOD)
    for row, found in zip(rows.to_pylist(), pictures(rows["image"]), strict=True):
        assert found is not None and found.dtype == np.uint8 and found.shape[2] in (1, 3) and row["label"] == "a"
    for row in quarantine.to_pylist():
        assert BAD[row["_file"].removeprefix("b/")][1] in row["reason"] and row["_row"] == 0
        assert " at 0x" not in row["reason"]  # a place in memory would be another one each time
    assert quarantine.num_rows == len(BAD) and made["quarantine"][2]["bad"] == len(BAD)


def test_of_many_files_in_one_part_the_first_of_equal_ones_stays(tmp_path: Path) -> None:
    folder_of(tmp_path, {f"{at:03d}.png": png(at % 4) for at in range(12)})
    recipe = parse_recipe({"source": str(tmp_path), "prepare": {"validation": 0.0, "holdout": 0.0, "drop_duplicates": True}})
    reader = reader_of(Images(str(tmp_path)))
    repeated = _repeated(0, _cut_hashes(reader, 0))
    drop = {0: np.sort(repeated["place"].to_numpy())}
    made = [entry[1] for entry in prepare.make_files(recipe, reader, drop)(0) if entry[0] == "train"]
    assert [name for table in made if table is not None for name in table["_file"].to_pylist()] == [
        f"{at:03d}.png" for at in range(4)
    ]


def test_a_part_with_pictures_is_written_in_groups_that_change_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tar_of(tmp_path / "x.tar", [(f"{at}.png", png(at)) for at in range(250)])
    recipe = parse_recipe({"source": str(path)})
    monkeypatch.setattr(images, "TABLE_ROWS", 100)

    def made(drop: dict[int, Any]) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {split: [] for split in prepare.SPLITS}
        for entry in prepare.make_files(recipe, reader_of(Images(str(path))), drop)(0):
            if entry[1] is not None:
                rows[entry[0]] += entry[1]["_row"].to_pylist()
        return rows

    whole, without = made({}), made({0: np.arange(20, 250)})
    monkeypatch.setattr("raysynth.stages.reader.GROUP_BYTES", 1)
    assert len(list(reader_of(Images(str(path))).kept(0))) == 4  # three tables, and the end
    assert made({}) == whole and sum(map(len, whole.values())) == 250
    assert made({0: np.arange(20, 250)}) == without and sum(map(len, without.values())) == 20


def test_what_prepare_writes_is_an_image_column_to_datasets(tmp_path: Path) -> None:
    from raysynth.commits import parquet_bytes

    folder_of(tmp_path, {"a/1.png": png(1), "b/2.png": png(2)})
    reader = reader_of(Images(str(tmp_path)))
    (kept,) = reader.kept(0)
    assert kept.rows is not None
    written = pq.read_schema(io.BytesIO(parquet_bytes(kept.rows)))
    assert json.loads((written.metadata or {})[b"huggingface"])["info"]["features"] == {"image": {"_type": "Image"}}
    assert written.field("image").type == IMAGE


def test_the_first_rows_of_pictures_are_bounded_and_all_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder_of(tmp_path, {f"{at % 2}/{at}.png": png(at) for at in range(30)})
    zip_of(tmp_path / "x.zip", {f"{at}.png": png(at) for at in range(30)}, zipfile.ZIP_STORED)
    monkeypatch.setattr("raysynth.stages.first_rows.PROBE_BYTES", 1)
    monkeypatch.setattr("raysynth.stages.first_rows.COUNT_SECONDS", -1.0)
    monkeypatch.setattr(images, "TABLE_ROWS", 10)
    for url, total in ((f"{tmp_path}/*/*.png", (30, 30)), (f"{tmp_path}/x.zip", (20, 60))):
        recipe = parse_recipe({"source": url})
        first = first_rows(recipe, prepare.check_source(recipe))
        assert first.rows == 10 and total[0] <= first.total_rows <= total[1]
        assert [column.kind for column in first.schema][:1] == ["image"]


def survey(source: Source) -> Seen:
    seen = Seen()
    for shard in source.shards(source.files()):
        seen = seen.merge(_surveyor(source)(shard))
    return seen


def test_the_profile_tells_sizes_formats_repeats_and_what_is_broken(tmp_path: Path) -> None:
    folder_of(
        tmp_path,
        {f"a/{at}.png": png(at % 3) for at in range(9)}
        | {"b/1.jpg": saved("RGB", "JPEG", (20, 10)), "b/2.png": b"", "b/3.jpg": BAD["truncated.jpg"][0], "c.zip": b"none"},
    )
    seen = survey(Images(str(tmp_path)))
    told = seen.pictures.to_json(seen.profile.columns)["image"]
    assert told["formats"] == {"png": 9, "jpeg": 1} and told["repeated"] == 6
    assert told["sizes"][0] == {"size": "4 × 3", "count": 9} and told["width"] == {"least": 4, "median": 4, "most": 20}
    bad = seen.bad.to_json()
    assert bad["rows"] == 3 and [one["file"] for one in bad["first"]] == ["b/2.png", "b/3.jpg", "c.zip"]
    assert seen.rows.total - seen.rows.distinct == 6


@pytest.mark.parametrize(
    "data", [saved("RGB", "JPEG", (40, 30)), saved("RGB", "PNG", (40, 30)), saved("RGB", "WEBP", (40, 30)), turned()]
)
def test_whatever_bytes_come_the_gate_answers_with_a_picture_or_a_reason(data: bytes) -> None:
    drawn = np.random.Generator(np.random.Philox(7))
    for _ in range(150):
        changed = bytearray(data[: drawn.integers(12, len(data) + 1)])
        for at in drawn.integers(8, len(changed), 4):
            changed[at] = drawn.integers(256)
        try:
            kept = checked(bytes(changed), max_pixels=10_000)
        except NoPictureError as error:
            assert " at 0x" not in str(error)
            continue
        assert checked(kept, max_pixels=10_000) == kept
