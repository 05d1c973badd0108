"""Odd and broken texts, from the source through cleaning, ops and codec and back: whole, or refused by name; never a wrong row."""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unicodedata import category, normalize

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.cells import NULL_TOKENS
from raysynth.cleaning import clean
from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.errors import DataError, RecipeError, UnreadableError
from raysynth.generators.language_model import LanguageModel
from raysynth.metrics.base import WORD, Seen
from raysynth.metrics.utility.text_downstream import TextDownstream
from raysynth.parts import find
from raysynth.pipeline import check_columns
from raysynth.profile import Profile
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.sources.base import BadRow, Source
from raysynth.sources.csv import Csv, detect_encoding
from raysynth.sources.jsonl import Jsonl
from raysynth.sources.parquet import Parquet
from raysynth.sources.text import Text as Lines
from raysynth.stages.prepare import check_varies
from raysynth.stages.prepare_text import texts_of
from raysynth.text_cleaning import normalise
from raysynth.training import fit, initialise
from raysynth.where import parse_where

MEGABYTE = 1 << 20
HALF = "half of a surrogate pair"
ODD = {
    "empty": "",
    "blanks": " \t ",
    "a family": "👩‍👩‍👧‍👦 and 👍🏽",
    "flags": "🇨🇳🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f 1️⃣",
    "right to left": "مرحبا بالعالم 123, שלום",
    "marks of direction": "\u202eabc\u202c \u2067אבג\u2069 x",
    "mixed scripts": "Привет 你好 hello こんにちは 안녕 नमस्ते สวัสดี",
    "control characters": "a\x00b\x07\x1b[31mred\x7f\x85z",
    "lines": "one\ntwo\r\nthree\u2028four",
    "accents apart": "cafe\u0301 Å",
    "no characters yet": "\ufdd0\U0010ffff\ue000\u0378",
    "far planes": "𠀀𪚥 𝔘𝔫𝔦 葛\U000e0100",
    "like bytes": "<0x41> [PAD] </s> <|end|>",
    "a quote": '"=1+1","\'; DROP',
    "a formula": "=cmd|' /C calc'!A0",
    "a long word": "x" * 5000,
    "a long line": "很好吃" * 2000,
}
SCHEMA = Schema((Column("label", "category", pa.string()), Column("text", "text", pa.string())))
LABELS = ["good", "bad"]


def written(form: str, folder: Path, texts: list[str]) -> Source:
    path = folder / f"rows.{form}"
    rows = [{"label": LABELS[at % 2], "text": text} for at, text in enumerate(texts)]
    if form == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
        return Parquet(str(path))
    if form == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8", newline="")
        return Jsonl(str(path))
    with path.open("w", encoding="utf-8", newline="") as file:
        made = csv.writer(file, quoting=csv.QUOTE_ALL, lineterminator="\n")
        made.writerow(["label", "text"])
        made.writerows([row["label"], row["text"]] for row in rows)
    return Csv(str(path))


def read(source: Source) -> tuple[pa.Table, list[BadRow]]:
    found = [piece for shard in source.shards(source.files()) for piece in source.read(shard)]
    return pa.concat_tables([rows for rows, _ in found], promote_options="default"), [row for _, bad in found for row in bad]


def rows_of(texts: list[str | None], labels: list[str] = LABELS) -> pa.Table:
    count = len(texts)
    columns: dict[str, Any] = {"label": [labels[at % len(labels)] for at in range(count)], "text": pa.array(texts, pa.string())}
    return pa.table({**columns, FILE: ["a"] * count, ROW: pa.array(range(count), pa.int64())})


# Sources


@pytest.mark.parametrize("form", ["parquet", "jsonl", "csv"])
def test_odd_texts_are_read_as_they_were_written_and_a_megabyte_too(form: str, tmp_path: Path) -> None:
    texts = [*ODD.values(), "x" * MEGABYTE, "好" * (MEGABYTE // 3)]
    rows, bad = read(written(form, tmp_path, texts))
    assert rows["text"].to_pylist() == texts and not bad


def test_half_a_surrogate_pair_in_json_is_a_bad_row_and_the_others_are_whole(tmp_path: Path) -> None:
    lines = [
        r'{"text": "good \ud83d\ude00"}',
        r'{"text": "half \ud83d"}',
        r'{"text": "turned \ude00\ud83d"}',
        r'{"te\udfffxt": "name"}',
        r'{"text": "good", "more": {"deep": ["\uDBFF"]}}',
        r'{"text": "a backslash \\ud83d"}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines), encoding="utf-8")
    rows, bad = read(Jsonl(str(tmp_path / "rows.jsonl")))
    assert rows["text"].to_pylist() == ["good 😀", r"a backslash \ud83d"] and rows[ROW].to_pylist() == [0, 5]
    assert [row.row for row in bad] == [1, 2, 3, 4] and all(HALF in row.reason for row in bad)


def test_a_nested_number_that_json_has_not_is_a_bad_row(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "a", "more": [1]}\n{"text": "b", "more": [1e999]}\n')
    rows, bad = read(Jsonl(str(tmp_path / "rows.jsonl")))
    assert rows["more"].to_pylist() == ["[1]"] and [row.row for row in bad] == [1]


def test_bytes_that_are_no_character_in_parquet_are_a_bad_row_wherever_they_stand(tmp_path: Path) -> None:
    plain = pa.array([b"good", b"half \xed\xa0\x80", None, b"\xff", b"fine"]).view(pa.string())
    lists = pa.ListArray.from_arrays(pa.array([0, 1, 2, 3, 4, 5], pa.int32()), plain)
    coded = pa.DictionaryArray.from_arrays(pa.array([0, 1, 2, 1, 0], pa.int8()), pa.array([b"a", b"\xff", b"b"]).view(pa.string()))
    for name, column in (("plain", plain), ("lists", lists), ("coded", coded)):
        pq.write_table(pa.table({"number": range(5), "text": column}), tmp_path / f"{name}.parquet")
    for name in ("plain", "lists"):
        rows, bad = read(Parquet(str(tmp_path / f"{name}.parquet")))
        assert [row.row for row in bad] == [1, 3] and rows[ROW].to_pylist() == [0, 2, 4], name
        assert bad[0].reason == "column 'text': bytes that are no UTF-8"
        Profile.observe(rows)
    with pytest.raises(
        UnreadableError, match=r"'coded\.parquet': its Parquet pages cannot be read \(Invalid UTF8"
    ):  # Arrow reads none
        read(Parquet(str(tmp_path / "coded.parquet")))


def test_bytes_that_are_no_character_in_csv_are_a_bad_row_and_the_others_stay_in_their_script(tmp_path: Path) -> None:
    """Of one broken row in a file of UTF-8, no detector may make another script of all rows."""
    for broken in (b"\xed\xa0\xbd", b"\xff", "好".encode()[:2], "好".encode("gbk")):
        (tmp_path / "rows.csv").write_bytes(
            "label,text\ngood,很好吃，下次再来\n".encode() + b"bad,x " + broken + "\nbad,太慢了".encode()
        )
        rows, bad = read(Csv(str(tmp_path / "rows.csv")))
        assert rows["text"].to_pylist() == ["很好吃，下次再来", "太慢了"], broken
        assert [row.row for row in bad] == [1] and "no UTF-8" in bad[0].reason


def test_a_name_of_a_column_that_is_no_character_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"label,te\xed\xa0\xbdxt\ngood,x\n")
    with pytest.raises(DataError, match=r"rows\.csv': its header has bytes that are no utf-8"):
        read(Csv(str(tmp_path / "rows.csv")))


@pytest.mark.parametrize("encoding", ["gbk", "gb18030", "utf-8"])
def test_chinese_of_any_encoding_is_read_however_long_the_file_is(encoding: str) -> None:
    """The sample that tells the encoding ends anywhere, in a character too."""
    data = ("label,text\n" + "1,很快，好吃，味道足，量大\n0,送餐太慢，都凉了，不会再点\n" * 60).encode(encoding)
    for end in range(600, 640):
        found = data[:end].decode(detect_encoding(data[:end]), errors="ignore")
        assert found.startswith("label,text\n1,很快，好吃") and "凉了" in found, end


def test_a_line_above_a_megabyte_is_a_bad_row_of_a_file_of_lines(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").write_bytes(b"x" * MEGABYTE + b"\n" + b"y" * (MEGABYTE + 1) + b"\n" + b"\xed\xa0\xbd\nlast\n")
    rows, bad = read(Lines(str(tmp_path / "rows.txt")))
    assert [len(text) for text in rows["text"].to_pylist()] == [MEGABYTE, 4]
    assert [(row.row, row.reason.partition(";")[0]) for row in bad] == [
        (1, "a line of more than 1,048,576 bytes"),
        (2, "bytes that are no UTF-8, from byte 0 of the line on"),
    ]


# Cleaning


def test_cleaning_trims_and_composes_and_takes_nothing_else() -> None:
    texts = [*ODD.values(), "x" * MEGABYTE]
    rows, bad = clean(rows_of(texts), SCHEMA)
    trimmed = [normalize("NFC", text).strip() for text in texts]
    found = rows["text"].to_pylist()
    assert not bad and rows.num_rows == len(texts)
    assert [text is None for text in found] == [text in NULL_TOKENS for text in trimmed], "empty texts are missing ones"
    for text, expected in zip(found, trimmed, strict=True):
        assert text is None or text.strip() == expected


def test_normalised_texts_have_no_control_characters_and_keep_emoji_and_directions_of_letters() -> None:
    made = {name: normalise(text) for name, text in ODD.items()}
    for name, text in made.items():
        assert normalise(text) == text, name
        assert not [letter for letter in text if category(letter) == "Cc" and letter not in "\n\t"], name
        text.encode()
    assert made["a family"] == ODD["a family"] and made["flags"] == ODD["flags"]
    assert made["right to left"] == ODD["right to left"] and made["marks of direction"] == "abc אבג x"
    assert made["control characters"] == "ab[31mred...z", "byte 85 was an ellipsis of cp1252"
    assert made["lines"] == "one\ntwo\nthree\nfour"


def test_rows_that_the_filters_of_texts_take_are_counted_by_reason(tmp_path: Path) -> None:
    asked = {
        "source": "a.csv",
        "prepare": {"text": {"min_characters": 2, "max_characters": 6000, "deidentify": ["email", "phone"]}},
    }
    texts = texts_of(parse_recipe(asked))
    assert texts is not None
    rows, _ = clean(rows_of([*ODD.values(), "x" * MEGABYTE, "y"]), SCHEMA)
    kept, counts = texts.kept(texts.rows(rows, SCHEMA), SCHEMA)
    assert dict(counts) == {"too_long": 1, "too_short": 1}
    assert kept.num_rows == rows.num_rows - 2


# Names and tables


def test_a_file_of_names_with_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_bytes("李雷\n".encode() + b"\xed\xa0\xbd\n")
    asked = {"source": "a.csv", "prepare": {"text": {"deidentify": ["name"], "names": str(tmp_path / "names.txt")}}}
    with pytest.raises(RecipeError, match=r"prepare\.text\.names: '.*names\.txt' is no UTF-8"):
        texts_of(parse_recipe(asked))


def test_a_table_of_synonyms_with_half_a_surrogate_pair_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.jsonl").write_text('{"word": "good", "synonyms": ["gr\\ud83dat"]}', encoding="utf-8")
    with pytest.raises(RecipeError, match=rf"table: '.*table\.jsonl' cannot be read \(a line holds {HALF}"):
        find("ops", "text.synonyms")(SCHEMA, table=str(tmp_path / "table.jsonl"))


def test_a_language_without_synonyms_is_refused_alone_and_stays_as_it_is_among_others(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("word,synonyms\nfood,meal|dishes\n味道,口味\n", encoding="utf-8")
    op = find("ops", "text.synonyms")(SCHEMA, table=str(tmp_path / "table.csv"))
    thai, arabic = "อาหารอร่อยมาก", "الطعام لذيذ جدا"
    with pytest.raises(RecipeError, match="has a synonym of no word in the train rows"):
        op.settle(op.observe(rows_of([thai, arabic])))
    rows = rows_of([thai, "the food is fine", arabic, "味道很好", None])
    op = find("ops", "text.synonyms")(SCHEMA, table=str(tmp_path / "table.csv"))
    op.settle(op.observe(rows))
    made = op(rows, Draws.range(1, "augment", 0, 5))["text"].to_pylist()
    assert [made[0], made[2], made[4]] == [thai, arabic, None]
    assert made[1] in ("the meal is fine", "the dishes is fine") and made[3] == "口味很好"


# Ops, codec, generator


@pytest.mark.parametrize("name", ["text.words", "text.typos", "text.ocr", "text.case", "text.sentences"])
def test_ops_make_texts_of_odd_texts_row_by_row(name: str) -> None:
    rows = rows_of([*ODD.values(), None, "word and 好 " * 20_000])
    op, draws = find("ops", name)(SCHEMA), Draws.range(3, "augment", 0, rows.num_rows)
    made = op(rows, draws)
    texts = made["text"].to_pylist()
    assert made.drop_columns("text").equals(rows.drop_columns("text")) and made.num_rows == rows.num_rows
    assert [text is None for text in texts] == [text is None for text in rows["text"].to_pylist()]
    for text in filter(None, texts):
        text.encode()
    for at in range(rows.num_rows - 1):
        assert op(rows.slice(at, 1), draws.take(np.array([at])))["text"][0].as_py() == texts[at], list(ODD)[at : at + 1]


def codec_of(rows: pa.Table, **options: Any) -> Text:
    codec = Text(SCHEMA, seed=1, **options)
    codec.settle(codec.observe(rows))
    return codec


def decoded(codec: Text, rows: pa.Table) -> pa.Table:
    return codec.decode(codec.encode(rows), Draws.range(1, "decode", 0, rows.num_rows))


def test_what_the_codec_takes_comes_out_as_it_was_and_a_megabyte_is_cut_and_told() -> None:
    rows = rows_of([*ODD.values(), None])
    codec = codec_of(rows)
    assert decoded(codec, rows)["text"].to_pylist() == [*ODD.values(), None]
    long = rows_of([*ODD.values(), "good " * (MEGABYTE // 5)])
    codec = codec_of(long, max_tokens=64)
    _, facts = codec.state()
    cut = decoded(codec, long)["text"].to_pylist()[-1]
    assert "good good" in cut and ("good " * (MEGABYTE // 5)).startswith(cut)
    assert facts["told"]["sampled"]["text"]["cut"] >= 1


@pytest.fixture(scope="module")
def drawn() -> Iterator[pa.Table]:
    """Rows of a generator that learnt odd texts of one label for a step."""
    texts = [text for name, text in ODD.items() if "long" not in name]
    rows = rows_of([*texts, *texts], ["only"])
    codec = codec_of(rows, max_tokens=24)
    generator = initialise(lambda: LanguageModel(codec.layout, width=8, layers=1, heads=1), 1)  # type: ignore[arg-type]
    assert isinstance(generator, LanguageModel)
    fit(generator, codec.encode(rows), codec.encode(rows.slice(0, 4)), seed=1, max_epochs=1, batch_rows=16)
    draws = Draws.range(7, "generate", 0, 64)
    yield codec.decode(generator.sample(draws, None), draws)


def test_drawn_texts_are_texts_whatever_tokens_they_are_made_of(drawn: pa.Table) -> None:
    drawn.validate(full=True)
    assert not [text for text in drawn["text"].to_pylist() if text and "\ufffd" in text]


def test_what_no_train_text_has_is_never_drawn_no_control_character_and_no_empty_text() -> None:
    rows = rows_of([f"a line {at},\nand\x0b more" for at in range(60)], ["only"])
    codec = codec_of(rows, max_tokens=24)
    generator = initialise(lambda: LanguageModel(codec.layout, width=8, layers=1, heads=1, temperature=3.0), 1)  # type: ignore[arg-type]
    assert isinstance(generator, LanguageModel)  # it has learnt nothing: any token is as likely
    draws = Draws.range(7, "generate", 0, 256)
    texts = codec.decode(generator.sample(draws, None), draws)["text"].to_pylist()
    assert all(texts)
    controls = {letter for text in texts for letter in str(text) if category(letter) == "Cc"}
    assert "\x0b" in controls and "\n" in controls and not {letter for letter in controls if letter < " "} - set("\x0b\t\n\r")
    with pytest.raises(RecipeError, match=r"where\.text: starts holds a control character that no train text has \('\\x07'\)"):
        codec.condition(parse_where({"text": {"starts": "a\x07"}}, SCHEMA))


def test_a_whole_text_cannot_be_asked_for_and_that_is_told_before_anything_is_learnt() -> None:
    asked = {"source": "a.csv", "generator": {"use": "language_model"}, "evaluate": None}
    with pytest.raises(RecipeError, match=r"where\.text: no generator of texts writes a whole text .* \{starts: …\}, or null"):
        check_columns(parse_recipe(asked | {"generate": {"where": {"text": "hello"}}}), SCHEMA)
    check_columns(parse_recipe(asked | {"generate": {"where": {"text": {"starts": "hello"}, "label": "good"}}}), SCHEMA)


def test_a_label_of_one_value_asks_for_no_guidance() -> None:
    rows = rows_of([f"text {at}" for at in range(100)], ["only"])
    codec = codec_of(rows, max_tokens=24)
    generator = LanguageModel(codec.layout, width=8, layers=1, heads=1, temperature=1.0)  # type: ignore[arg-type]
    generator.calibrate([codec.encode(rows)])
    assert generator.guidance == 1.0


def test_a_label_of_one_value_is_drawn_and_not_judged(drawn: pa.Table, tmp_path: Path) -> None:
    assert set(drawn["label"].to_pylist()) == {"only"}
    folder = Run(str(tmp_path / "run")).folder("prepared", "0123456789ab")
    folder.write_json("_raysynth/profile.json", Profile.observe(rows_of(["a", "b"], ["only"])).to_json())
    with pytest.raises(
        DataError, match=r"evaluate\.target: column 'label' is 'only' in all 2 rows, so that nothing can be predicted"
    ):
        check_varies(folder, "label", "evaluate.target")
    side = (
        rows_of([f"a text {at}" for at in range(60)], ["only"])
        .select(SCHEMA.names)
        .append_column(WORD, pa.array(range(60), pa.uint64()))
    )
    scores = TextDownstream(SCHEMA, target="label").score(Seen({"train": side, "holdout": side, "synthetic": side}, {}), {})
    assert [(score.value, score.why) for score in scores] == [
        (None, "it takes train rows with two values of evaluate.target 'label'")
    ] * 3
