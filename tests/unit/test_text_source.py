"""Text as input: lines of any spelling, dialogues of a package, and short free texts that are told from categories and ids."""

import codecs
import gzip
import tracemalloc
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.errors import DataError, MissingExtraError, RecipeError, UnreadableError
from raysynth.parts import available, check_options, find
from raysynth.profile import Profile, audit, infer_schema
from raysynth.schema import Kind
from raysynth.sources.base import BadRow, Source
from raysynth.sources.csv import Csv
from raysynth.sources.examples import Examples
from raysynth.sources.jsonl import Jsonl
from raysynth.sources.text import Text

LINE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\n"), max_size=30)
ODD = [
    "",
    "   ",
    "\u3000",
    "a\x00b",
    "\x0c",
    "a\u2028b",
    "\u200d",
    "שלום",
    "👩‍👩‍👧",
    "e\u0301",
    "混合 mixed",
    "a\rb",
    "\r",
    "\ufeff",
]
LINES = st.lists(st.one_of(LINE, st.sampled_from(ODD)), max_size=30)


def read_all(source: Source) -> tuple[list[tuple[int, str]], list[BadRow]]:
    """The rows and texts of all shards, and the bad rows."""
    rows: list[tuple[int, str]] = []
    bad: list[BadRow] = []
    for shard in source.shards(source.files()):
        for table, found in source.read(shard):
            assert table.column_names[:2] == ["_file", "_row"] and table.schema.field(2).type == pa.string()
            rows += [(int(row["_row"]), str(row[table.column_names[2]])) for row in table.to_pylist()]
            bad += found
    return rows, bad


def text_of(path: Path, data: bytes, **options: Any) -> Text:
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return Text(str(path), **options)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("lines")


@settings(max_examples=60, deadline=None)
@given(LINES, st.booleans(), st.booleans(), st.booleans(), st.sampled_from(["a.txt", "a.txt.gz"]), st.integers(1, 40))
def test_a_row_is_a_line_whatever_it_holds(
    folder: Path, lines: list[str], crlf: bool, bom: bool, ended: bool, name: str, rows_per_table: int
) -> None:
    end = "\r\n" if crlf else "\n"
    data = (end.join(lines) + (end if ended else "")).encode()
    expected = [line.removesuffix("\r") for line in data.decode().split("\n")]
    if not bom:
        expected[0] = expected[0].removeprefix("\ufeff")
    rows, bad = read_all(text_of(folder / name, codecs.BOM_UTF8 * bom + data, rows_per_table=rows_per_table))
    assert not bad
    assert rows == [(row, line) for row, line in enumerate(expected) if line.strip()]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.binary(max_size=40), LINE.map(str.encode)), max_size=12), st.integers(1, 40), st.integers(1, 9))
def test_every_line_is_a_row_or_bad_or_blank(folder: Path, lines: list[bytes], max_line_bytes: int, rows_per_table: int) -> None:
    data = b"\n".join(lines)
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        return
    rows, bad = read_all(text_of(folder / "b.txt", data, max_line_bytes=max_line_bytes, rows_per_table=rows_per_table))
    texts, reasons = dict(rows), {row.row: row.reason for row in bad}
    assert not set(texts) & set(reasons)
    for row, line in enumerate(data.removeprefix(codecs.BOM_UTF8).split(b"\n")):
        line = line.removesuffix(b"\r")
        if len(line) > max_line_bytes:
            assert "more than" in reasons[row]
        elif line.decode(errors="ignore").encode() != line:
            assert "no UTF-8" in reasons[row]
        elif line.decode().strip():
            assert texts[row] == line.decode()
        else:
            assert row not in texts and row not in reasons


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
@pytest.mark.parametrize("head", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_a_line_may_be_just_as_long_as_the_option_says(tmp_path: Path, name: str, head: bytes, end: bytes) -> None:
    for length in range(90, 130):
        source = text_of(tmp_path / name, head + b"x" * length + end + b"next" + end + b"y" * length, max_line_bytes=100)
        rows, bad = read_all(source)
        whole = length <= 100
        assert rows == ([(0, "x" * length), (1, "next"), (2, "y" * length)] if whole else [(1, "next")])
        assert [(row.row, row.path) for row in bad] == ([] if whole else [(0, name), (2, name)])


def test_a_huge_line_is_a_bad_row_and_is_never_held(tmp_path: Path) -> None:
    data = b"before\n" + b"\xe6\xb1\x89" * (12 << 20) + b"\nafter\n"
    source = text_of(tmp_path / "a.txt.gz", data)
    del data
    tracemalloc.start()
    try:
        rows, bad = read_all(source)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert rows == [(0, "before"), (2, "after")]
    assert [row.row for row in bad] == [1] and bad[0].reason.startswith("a line of more than 1,048,576 bytes")
    assert bad[0].text.startswith("汉汉") and len(bad[0].text) <= 10_000
    assert peak_bytes < 20 << 20  # of a line of 36 MiB; the stream reads 8 MiB ahead


def test_long_lines_are_cut_into_small_tables(tmp_path: Path) -> None:
    source = text_of(tmp_path / "a.txt", (b"x" * (1 << 20) + b"\n") * 40)
    [shard] = source.shards(source.files())
    assert [table.num_rows for table, _ in source.read(shard)] == [32, 8]


def test_bytes_that_are_no_utf8_are_told_by_place(tmp_path: Path) -> None:
    rows, bad = read_all(
        text_of(tmp_path / "a.txt", b"good\nno\xffgood\n\xed\xa0\x80 lone surrogate\ncut \xe6\xb1\n\xc0\x80\nlast")
    )
    assert rows == [(0, "good"), (5, "last")]
    assert [row.row for row in bad] == [1, 2, 3, 4]
    assert bad[0].reason == "bytes that are no UTF-8, from byte 2 of the line on" and bad[0].text == "no\ufffdgood"


@pytest.mark.parametrize(
    "data", ["line\n".encode("utf-16"), codecs.BOM_UTF16_BE + "line\n".encode("utf-16-be"), "line\n".encode("utf-32")]
)
def test_another_unicode_encoding_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(DataError, match=r"file 'a\.txt': it is written in UTF-16 or UTF-32"):
        read_all(text_of(tmp_path / "a.txt", data))


@pytest.mark.parametrize("data", [b"", b"\n\n  \r\n", codecs.BOM_UTF8, codecs.BOM_UTF8 + b"\r\n"])
def test_a_file_without_text_has_no_rows(tmp_path: Path, data: bytes) -> None:
    assert read_all(text_of(tmp_path / "a.txt", data)) == ([], [])
    assert read_all(text_of(tmp_path / "a.txt.gz", data)) == ([], [])


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_a_cut_gz_file_is_refused_by_name(folder: Path, data: st.DataObject) -> None:
    packed = gzip.compress("\n".join(f"line {number} 汉字" for number in range(300)).encode(), mtime=0)
    path = folder / "cut.txt.gz"
    path.write_bytes(packed[: data.draw(st.integers(1, len(packed) - 1))])
    with pytest.raises(UnreadableError, match=r"file 'cut\.txt\.gz': it cannot be unpacked"):
        read_all(Text(str(path)))


def test_a_gz_that_is_none_is_refused_and_one_of_two_pieces_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(b"plain text\n")
    with pytest.raises(UnreadableError, match=r"a\.txt\.gz"):
        read_all(Text(str(tmp_path)))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(b"on") + gzip.compress(b"e\ntwo\n"))
    assert read_all(Text(str(tmp_path)))[0] == [(0, "one"), (1, "two")]


def test_a_folder_and_a_glob_list_text_files(tmp_path: Path) -> None:
    for name in ("b.txt.gz", "a.TXT", "c.csv", ".d.txt", "e.log"):
        (tmp_path / name).write_bytes(gzip.compress(b"x\n") if name.endswith("gz") else b"x\n")
    assert [file.path for file in Text(str(tmp_path)).files()] == ["a.TXT", "b.txt.gz"]
    assert [file.path for file in Text(f"{tmp_path}/*.log").files()] == ["e.log"]
    assert read_all(Text(str(tmp_path / "e.log")))[0] == [(0, "x")]


def test_the_options_are_checked_and_the_column_is_text_whatever_it_holds(tmp_path: Path) -> None:
    assert "text" in available("sources") and find("sources", "text") is Text
    for option, value in (("column", "_row"), ("column", " "), ("max_line_bytes", 0), ("rows_per_table", 0)):
        with pytest.raises(RecipeError, match=rf"source\.{option}: "):
            check_options(Text, {option: value}, "source")
    source = text_of(tmp_path / "a.txt", b"1\n2\n3\n", column="line")
    [(table, _)] = source.read(source.shards(source.files())[0])
    column = infer_schema(Profile.observe(table), source.kinds())["line"]
    assert (column.kind, column.type) == ("text", pa.string())


# Dialogues


def dialogues(name: str) -> pa.Table:
    source = Examples(f"examples://{name}")
    [file] = source.files()
    assert file.etag == metadata.version("chatterbot-corpus") and file.size_bytes > 10_000
    [(table, bad)] = source.read(source.shards([file])[0])
    assert not bad and table["_row"].to_pylist() == list(range(table.num_rows))
    return table


def test_the_dialogues_are_pairs_of_turns_in_two_languages() -> None:
    table = dialogues("dialogues")
    assert table.column_names == ["_file", "_row", "language", "topic", "utterance", "reply"]
    pairs = table.select(["language", "topic", "utterance", "reply"])
    assert pairs.slice(0, 1).to_pylist()[0]["utterance"] == "What is AI?"
    assert {language: pairs["language"].to_pylist().count(language) for language in ("en", "zh")} == {"en": 2306, "zh": 552}
    apart = pa.concat_tables([dialogues(f"dialogues-{language}") for language in ("en", "zh")])
    assert apart.select(pairs.column_names).combine_chunks().equals(pairs)
    assert all(str(cell) == str(cell).strip() != "" for row in pairs.to_pylist() for cell in row.values())
    assert len({tuple(row.values()) for row in pairs.to_pylist()}) == 1177 + 550  # prepare.drop_duplicates leaves these


def test_the_dialogues_have_texts_and_classes() -> None:
    source = Examples("examples://dialogues")
    kinds = {column.name: column.kind for column in infer_schema(Profile.observe(dialogues("dialogues")), source.kinds())}
    assert kinds == {"language": "category", "topic": "category", "utterance": "text", "reply": "text"}
    assert Examples("examples://wine").kinds() == {}


ODD_YAML = """
categories: [odd]
conversations:
- - 1963
  - yes
  - 1.50
- - alone
- lost dash
- - first
  -
  - third
  - {is: a mapping}
  - fifth
  - |
    sixth
      indented
- []
- - 2013-01-01
  - ~
"""


def test_odd_turns_are_text_as_written_or_make_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Package:
        version = "9"

        def locate_file(self, path: str) -> Path:
            return tmp_path / path

    def odd(_name: str) -> Package:
        return Package()

    monkeypatch.setattr(metadata, "distribution", odd)
    (tmp_path / "chatterbot_corpus/data/english").mkdir(parents=True)
    (tmp_path / "chatterbot_corpus/data/english/odd.yml").write_text(ODD_YAML)
    source = Examples("examples://dialogues")
    [(table, _)] = source.read(source.shards(source.files())[0])
    pairs = [(row["utterance"], row["reply"]) for row in table.to_pylist()]
    assert pairs == [("1963", "yes"), ("yes", "1.50"), ("fifth", "sixth\n  indented"), ("2013-01-01", "~")]
    assert set(table["topic"].to_pylist()) == {"odd"}


def test_dialogues_that_are_not_installed_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> metadata.Distribution:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "distribution", missing)
    with pytest.raises(
        MissingExtraError, match=r"the package chatterbot-corpus is not installed. pip install 'raysynth\[examples\]'"
    ):
        Examples("examples://dialogues").files()


# The kind of free text


def observe(columns: dict[str, Any]) -> Profile:
    table = pa.table(columns)
    files = pa.DictionaryArray.from_arrays(np.zeros(table.num_rows, dtype=np.int32), pa.array(["a.csv"]))
    return Profile.observe(table.add_column(0, "_file", files).add_column(1, "_row", pa.array(range(table.num_rows), pa.int64())))


def kind_of(values: Any, name: str = "x") -> Kind:
    return infer_schema(observe({name: values}))[name].kind


def made(seed: int, count: int, pool: str | list[str], low: int, high: int, between: str) -> list[str]:
    """`count` texts of low to high pieces of the pool."""
    draw = np.random.default_rng(seed)
    return [between.join(draw.choice(list(pool), draw.integers(low, high + 1))) for _ in range(count)]


ENGLISH = [
    "the",
    "a",
    "my",
    "you",
    "stock",
    "price",
    "falls",
    "rise",
    "bank",
    "new",
    "deal",
    "talk",
    "plan",
    "over",
    "under",
    "after",
    "police",
    "court",
    "game",
    "win",
    "lose",
    "home",
]
CHINESE = "我你他的了是在有人不好吃送餐很快味道一般速度慢菜量足服务态度差价格贵便宜推荐下次再来"
KOREAN = ["주가", "하락", "은행", "새로운", "계획", "경찰", "법원", "경기", "승리", "오늘", "내일", "서울", "부산", "가격", "상승"]


@pytest.mark.parametrize(
    "texts",
    [
        made(1, 300, ENGLISH, 3, 7, " "),  # utterances of five words
        made(2, 300, [word.title() for word in ENGLISH], 4, 7, " "),  # headlines
        made(3, 300, CHINESE, 6, 40, ""),  # reviews
        made(4, 300, CHINESE, 15, 22, ""),  # headlines, all distinct, without a space: no ids
        made(5, 300, [*CHINESE, "，", "！！", "50", " "], 10, 40, ""),
        made(6, 300, "ひらがなカタカナ漢字交じり文章", 10, 30, ""),
        made(7, 300, "กขคงจฉชซดตถทนบปผฝพฟภมยรลวสหอ", 10, 40, ""),
        made(8, 300, KOREAN, 3, 6, " "),
        made(9, 150, ENGLISH, 3, 7, " ") + made(9, 150, CHINESE, 8, 20, ""),
        [f"{text} 😀👍🏽" for text in made(10, 300, ENGLISH, 4, 8, " ")],
        made(11, 200, ENGLISH, 5, 9, " ") * 2,  # each twice
    ],
)
def test_short_free_texts_are_text(texts: list[str]) -> None:
    assert kind_of(texts) == "text"
    assert kind_of(pa.array(texts).dictionary_encode()) == "text"


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        ([f"N{10_000 + n}{'ABCDEFGH'[n % 8]}" for n in range(300)], "id"),  # tail numbers, each once
        ([f"N{10_000 + n % 100}{'ABCD'[n % 4]}" for n in range(300)], "category"),
        ([f"user{n}@example.org" for n in range(300)], "id"),
        ([f"AB-{n:03d} X{n % 7} {n}" for n in range(300)], "category"),  # codes in pieces
        ([f"{n} kg {n + 1} cm {n % 9} mm" for n in range(300)], "category"),  # measures: as many numbers as words
        ([f"{first} {last}" for first in ENGLISH[:17] for last in KOREAN], "category"),  # names of two words
        ([a + b + c for a in CHINESE[:7] for b in CHINESE[:7] for c in CHINESE[:7]], "id"),  # Chinese names, each once
        (["never worked at all", "private sector job", "works for the state"] * 100, "category"),  # few, and long
        (made(12, 60, ENGLISH, 3, 6, " ") * 10, "category"),
        (["北京市朝阳区", "上海市浦东新区", "广州市天河区"] * 100, "category"),
        (made(13, 10, ENGLISH, 3, 7, " "), "category"),  # too few to tell
        (['["a turn of words", "its reply of words"]'] * 20 + [f'["turn {n}"]' for n in range(50)], "json"),
        ([f'[{{"role": "user", "text": "说 {n}"}}]' for n in range(50)], "turns"),
    ],
)
def test_codes_names_and_classes_are_no_text(values: list[str], kind: Kind) -> None:
    assert kind_of(values) == kind


@settings(max_examples=15, deadline=None)
@given(st.lists(st.text("AaZzEe019_.:/-", min_size=1, max_size=40), min_size=50, max_size=60, unique=True))
def test_a_value_of_one_piece_is_never_text(values: list[str]) -> None:
    assert kind_of(values) != "text"


@pytest.mark.parametrize("texts", [made(3, 300, CHINESE, 6, 40, ""), made(1, 300, ENGLISH, 3, 7, " ")])
def test_text_columns_of_every_format_are_found(tmp_path: Path, texts: list[str]) -> None:
    (tmp_path / "a.csv").write_text("label,body\n" + "".join(f'{n % 2},"{text}"\n' for n, text in enumerate(texts)))
    (tmp_path / "a.jsonl").write_text("".join(f'{{"label": {n % 2}, "body": "{text}"}}\n' for n, text in enumerate(texts)))
    for source in (Csv(str(tmp_path / "a.csv")), Jsonl(str(tmp_path / "a.jsonl"))):
        profile = Profile()
        for table, _ in source.read(source.shards(source.files())[0]):
            profile = profile.merge(Profile.observe(table))
        schema = infer_schema(Profile.from_json(profile.to_json()))
        assert {column.name: column.kind for column in schema} == {"label": "integer", "body": "text"}


def test_rows_of_text_alone_suit_synthesis() -> None:
    told = audit(observe({"x": made(3, 2_000, CHINESE, 6, 40, "")}))
    assert told["fit"]["verdict"] == "yes"
    assert told["columns"][0]["common"] == []  # a report repeats no one's words
