"""The report opens offline, escapes every name, bears every kind of column, and shows no real row."""

import re
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time, timedelta
from html.parser import HTMLParser
from typing import Any

import cv2
import numpy as np
import pictures_of
import pyarrow as pa
import pytest

from raysynth.gates import Gate, score_names
from raysynth.metrics.base import WORD
from raysynth.report import EXPLAINED, Report, clean, closeness, page, verdict, worst_first
from raysynth.report_plots import associations, cramers_v, span, ticks_of
from raysynth.schema import Column, Kind, Schema

NAMES = [
    "<script>alert(1)</script>",
    "a|b",
    "`tick`",
    "x" * 300,
    "🎈 balloon",
    "\" onload='x",
    "nul\x00\x1b[31m",
    "{{ 7 * 7 }}",
    "$x_1$",
    "",
]
VOID = {"meta", "br", "img"}


class WellFormed(HTMLParser):
    """Every element is closed in order; collects elements and attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.labels = 0
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            assert not name.startswith("on")
            self.ids += [value or ""] if name == "id" else []
            self.links += [value or ""] if name in ("src", "href", "xlink:href") else []
        if tag == "img":
            assert dict(attrs)["alt"]
        if tag == "svg":
            assert dict(attrs)["role"] == "img"
            assert dict(attrs)["aria-label"]

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check(text: str) -> WellFormed:
    found = WellFormed(text)
    assert not found.tags & {"script", "iframe", "object", "link", "base", "form"}
    assert len(found.ids) == len(set(found.ids))
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in found.links)
    assert all(inner.startswith("#") for inner in re.findall(r"url\(\s*['\"]?([^)]*)", text))
    assert "http:" not in text
    assert "https:" not in text
    return found


def columns(values: Mapping[str, tuple[Kind, pa.Array]]) -> tuple[Schema, pa.Table]:
    schema = Schema(tuple(Column(name, kind, array.type) for name, (kind, array) in values.items()))
    return schema, pa.table({name: array for name, (_, array) in values.items()})


def with_word(table: pa.Table) -> pa.Table:
    return table.append_column(WORD, pa.array(np.arange(table.num_rows, dtype=np.uint64) + 2**62))


def report(schema: Schema, train: pa.Table, synthetic: pa.Table, **facts: Any) -> Report:
    told: dict[str, Any] = {"scores": [], "gates": [], **facts}
    samples: Any = {"train": with_word(train), "holdout": with_word(train.slice(0, 3)), "synthetic": with_word(synthetic)}
    return Report(name="wine", schema=schema, samples=samples, rows={"train": train.num_rows, "synthetic": 1_000_000}, **told)


def score(name: str, value: float | None, **facts: Any) -> dict[str, Any]:
    return {"name": name, "value": value, "worst": 0.0, "best": 1.0, "ceiling": 0.9, "columns": {}, "facts": {}, "why": "", **facts}


def test_no_name_however_odd_gets_out_of_its_place() -> None:
    values: dict[str, tuple[Kind, pa.Array]] = {}
    for number, name in enumerate(NAMES):
        array = pa.array(NAMES * 6) if number % 2 else pa.array(np.arange(60.0))
        values[name] = ("category" if number % 2 else "number", array)
    schema, table = columns(values)
    scores = [score(name, 0.5, columns=dict.fromkeys(NAMES, 0.4), facts={name: name, "n": 3}, why=name) for name in NAMES]
    gates = [Gate(name, False, {name: None}) for name in NAMES]
    stages = [{"stage": NAMES[0], "id": NAMES[1], "rows": None, "bytes": None, "seconds": None, "cpu_seconds": None}]
    text = page(
        replace(
            report(schema, table, table, scores=scores, gates=gates, warnings=NAMES, stages=stages, recipe={"rules": NAMES}),
            name=NAMES[0],
        )
    )
    check(text)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<script" not in text
    assert "🎈 balloon" in text
    assert "49" not in re.findall(r"<h3>(.*?)</h3>", text)
    assert "\x00" not in text
    assert "\x1b" not in text


def test_every_kind_of_column_constant_null_and_infinite_ones_too() -> None:
    rows, none = 40, [None] * 40
    day = datetime(2024, 2, 28)
    values: dict[str, tuple[Kind, pa.Array]] = {
        "integer": ("integer", pa.array(range(rows))),
        "number": ("number", pa.array([float("inf"), float("-inf"), float("nan"), 1e308, -1e308, *np.arange(35.0)])),
        "huge": ("number", pa.array([1e308 * (-1) ** number for number in range(rows)])),
        "only inf": ("number", pa.array([float("inf")] * rows)),
        "constant": ("number", pa.array([1e15] * rows)),
        "same": ("category", pa.array(["same"] * rows)),
        "null number": ("number", pa.array(none, pa.float64())),
        "null class": ("category", pa.array(none, pa.string())),
        "null": ("number", pa.array(none, pa.null())),
        "boolean": ("boolean", pa.array([True, False, None, True] * 10)),
        "date": ("date", pa.array([date(1, 1, 1), date(9999, 12, 31)] * 20)),
        "datetime": ("datetime", pa.array([day + timedelta(hours=number) for number in range(rows)], pa.timestamp("ns", "UTC"))),
        "nanosecond": ("datetime", pa.array([number * 3 + 1 for number in range(rows)], pa.timestamp("ns"))),
        "far": ("datetime", pa.array([2**60] * rows, pa.timestamp("s"))),
        "time": ("time", pa.array([time(number % 24) for number in range(rows)])),
        "duration": ("duration", pa.array([timedelta(seconds=number) for number in range(rows)])),
        "decimal": ("number", pa.array([1, 2] * 20, pa.decimal128(20, 2))),
        "code": ("category", pa.array([f"code {number}" for number in range(rows)])),
        "id": ("id", pa.array(range(rows))),
        "text": ("text", pa.array(["long " * 100] * rows)),
    }
    schema, table = columns(values)
    text = page(report(schema, table, table))
    check(text)
    assert text.count("No value on either side") == 4
    assert "Not plotted, being ids, texts, images or JSON: id, text." in text
    check(page(report(schema, table.slice(0, 0), table)))
    check(page(report(schema, table, table.slice(0, 0))))
    check(page(report(schema, table, table.select(["integer"]))))


def test_nothing_of_a_real_row_is_told_but_frequent_classes() -> None:
    rows = 200
    schema = Schema((Column("key", "id", pa.string()), Column("note", "text", pa.string()), Column("raw", "json", pa.string())))
    schema = Schema((*schema, Column("town", "category", pa.string()), Column("pay", "number", pa.float64())))
    pay = 1000 + np.random.default_rng(0).random(rows)
    kept = {name: [f"secret-{name}-{number}" for number in range(rows)] for name in ("key", "note", "raw")}
    real: dict[str, Any] = {**kept, "town": ["Rome", "secret-town", *["Rome", "Oslo"] * 99], "pay": pay}
    made: dict[str, Any] = {name: [f"made-{name}"] * rows for name in kept}
    made |= {"town": ["Rome", "Oslo"] * 100, "pay": [1000.0, 1001.0] * 100}
    text = page(report(schema, pa.table(real), pa.table(made)))
    assert "secret" not in text
    assert text.count("made-note") == 20 + 10  # in rows, and beside real texts of which no word is shown
    assert "1 other<" in text
    assert "Rome" in text
    assert not [value for value in pay if f"{value:.3f}" in text]
    assert "_word" not in text
    assert str(2**62) not in text


def test_a_page_without_anything_is_a_page() -> None:
    empty = Report("none", [], [], Schema(()), {}, {})
    check(page(empty))
    check(page(report(Schema(()), pa.table({"x": [1]}).select([]), pa.table({"x": [1]}).select([]))))
    odd = [score("c2st_auc", None, ceiling=None), score("density", float("nan")), score("recall", 7.0, worst=1.0, best=1.0)]
    check(page(replace(empty, scores=odd)))


def test_a_page_of_many_columns_weighs_little() -> None:
    generator = np.random.default_rng(3)
    values: dict[str, tuple[Kind, pa.Array]] = {
        f"column {number}": ("number", pa.array(generator.normal(size=500))) for number in range(62)
    }
    schema, table = columns(values)
    shapes = score("column_shapes", 0.9, columns={name: number / 62 for number, name in enumerate(values)})
    text = page(report(schema, table, table, scores=[shapes]))
    assert len(text.encode()) < 2_000_000
    assert text.count('<svg class="plot"') == 60 + 3
    assert "2 more columns" in text
    assert "The 40 worst columns" in text
    check(text)


def test_the_same_facts_give_the_same_page() -> None:
    schema, table = columns({name: ("number", pa.array([1.0, 2.0, 4.0])) for name in "ab"})
    facts = report(schema, table, table)
    assert page(facts) == page(facts)


def test_the_verdict_comes_first_and_in_words() -> None:
    holds, fails = Gate("a < 1", True, {"a": 0.5}), Gate("b < 1", False, {"b": None})
    assert verdict([]) == ("none", "The recipe sets no gates, so nothing was asked of these rows.")
    assert verdict([holds, holds]) == ("good", "All 2 gates hold.")
    assert verdict([holds, fails]) == ("bad", "1 of 2 gates fails: b < 1")
    text = page(report(Schema(()), pa.table({}), pa.table({}), scores=[score("c2st_auc", 0.5)], gates=[holds, fails]))
    assert text.index("1 of 2 gates fails") < text.index("coin toss") < text.index("<h2>Scores")
    assert "not to be had" in text
    assert "a pass proves nothing" in text


def test_closeness_speaks_of_the_scores_that_there_are() -> None:
    assert closeness([score("c2st_auc", None)]) == ["How near they are to real rows was not measured."]
    [told] = closeness([score("c2st_auc", 0.53, ceiling=0.5)])
    assert "can hardly tell" in told
    assert "reaches 0.5" in told
    assert "No synthetic row" in closeness([score("exact_copies", 0.0)])[0]
    assert "0.100%" in closeness([score("exact_copies", 0.001, ceiling=None)])[0]


def test_every_score_that_there_is_has_its_explanation() -> None:
    assert set(score_names()) == set(EXPLAINED)


ODD_TEXTS = [
    "<script>alert(1)</script> 很好吃",
    "{{ 7 * 7 }} & \"quoted\" 'too'",
    "two\nlines\x00\x1b[31m\u202e",
    "",
    "word " * 3000,
    "👨‍👩‍👧 שלום",
]
TEXTS = Schema((Column("<b>review</b>", "text", pa.string()), Column("label", "category", pa.string())))


def reviews(texts: list[str | None]) -> pa.Table:
    return pa.table({"<b>review</b>": pa.array(texts, pa.string()), "label": ["x"] * len(texts)})


def test_texts_stand_beside_the_words_that_they_share_with_the_nearest_real_one() -> None:
    real: list[str | None] = ["secret Anna ordered noodles and the noodles were cold", "the secret boss", None, "汤太咸了，秘密"]
    made: list[str | None] = [None, "Bob ordered noodles and the soup was cold", "汤很咸了", "nobody", *ODD_TEXTS]
    text = page(report(TEXTS, reviews(real), reviews(made)))
    check(text)
    assert "Texts side by side: &lt;b&gt;review&lt;/b&gt;" in text
    assert "… ordered noodles and the noodles … cold<small>5 of 8 words, 4 in a row</small>" in text
    assert "汤 … 咸了 …<small>3 of 4 words, 2 in a row</small>" in text
    assert "no word in common" in text
    assert "secret" not in text and "秘密" not in text and "Anna" not in text and "Bob ordered" in text
    assert "No real row is shown anywhere on this page." in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt; 很好吃" in text and "<script" not in text
    assert "two lines\ufffd\ufffd[31m\ufffd" in text and ">49" not in text
    assert "empty text" in text


def test_real_texts_are_shown_only_where_they_may_be_and_the_page_says_so() -> None:
    real: list[str | None] = ["secret <i>Anna</i> ordered noodles", *ODD_TEXTS]
    facts = report(TEXTS, reviews(real), reviews([*ODD_TEXTS, "she ordered noodles"]))
    text = page(replace(facts, real_texts=True))
    check(text)
    assert text.count("secret &lt;i&gt;Anna&lt;/i&gt; ordered noodles") == 2  # a real text, and the nearest one of the last
    assert "this page is as private as they are" in text
    assert "No real row is shown" not in text
    assert page(facts) == page(facts)


def test_pages_of_no_texts_and_of_texts_without_real_ones_are_pages() -> None:
    check(page(report(TEXTS, reviews([]), reviews(["a b"]))))
    assert "Texts side by side" not in page(report(TEXTS, reviews(["a b"]), reviews([None, None])))
    assert "Texts side by side" not in page(report(TEXTS, reviews(["a b"]), reviews([])))


def pictured(seed: int, rows: int = 60, **more: Any) -> pa.Table:
    return pictures_of.law(rows, seed, **more)


def sheets(text: str) -> list[np.ndarray[Any, Any]]:
    """The pictures on the page, as they are decoded: (H, W, channels)."""
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)"', text)
    return [cv2.imdecode(np.frombuffer(b64decode(data), np.uint8), cv2.IMREAD_UNCHANGED) for data in found]


def test_contact_sheets_show_real_pictures_only_where_they_may_and_the_page_says_so() -> None:
    shape = pictures_of.SCHEMA["shape"]
    assert shape.kind == "category"
    facts = replace(report(pictures_of.SCHEMA, pictured(1), pictured(2)), target="shape", augmented=pictured(3))
    text = page(facts)
    assert check(text).tags >= {"img"}
    assert (
        text.count(", synthetic: ") == 3 and ", real: " not in text and "augmented: " not in text and "nearest real: " not in text
    )
    assert "Real pictures are not shown" in text and "No real row is shown anywhere on this page." in text
    assert text.count('<div class="apart"><span>0.') == 3
    whole = page(replace(facts, real_pictures=True))
    check(whole)
    for what in ("real", "augmented", "synthetic", "nearest real"):
        assert whole.count(f"<p>{what}</p>") == 3
    assert "this page is as private as they are" in whole and "No real row is shown" not in whole
    strips = [sheet for sheet in sheets(whole) if sheet.shape[2:] == (4,)]
    assert len(strips) == 12 and {sheet.shape for sheet in strips} == {(10, 120, 4)}
    assert page(facts) == page(facts)


def test_the_nearest_picture_of_a_copy_is_the_copied_one_and_far_by_nothing() -> None:
    real = pictured(1)
    text = page(replace(report(pictures_of.SCHEMA, real, real.slice(5, 4)), real_pictures=True))
    check(text)
    assert '<div class="apart"><span>0.00</span><span>0.00</span>' in text
    synthetic, nearest = sheets(text)[1:3]
    assert np.array_equal(synthetic, nearest)


@pytest.mark.parametrize("labels", [["<script>alert(1)</script>", ""], [None, "x"]])
def test_odd_labels_and_odd_pictures_stay_in_their_places(labels: list[str | None]) -> None:
    noise = np.random.default_rng(1)
    shapes = [(1, 1, 1), (300, 20, 3), (7, 200, 1), (64, 64, 3)]
    found = [noise.integers(0, 256, shape, dtype=np.uint8) for shape in shapes] * 2
    rows = pictures_of.table([*found, None, None], (labels * 5)[:10])
    facts = replace(report(pictures_of.SCHEMA, rows, rows), target="shape", real_pictures=True)
    text = page(facts)
    check(text)
    assert "<script" not in text
    check(page(replace(facts, target=None)))
    check(page(report(pictures_of.SCHEMA, rows, rows.slice(8, 2))))
    check(page(report(pictures_of.SCHEMA, rows.slice(0, 0), rows)))


def test_a_page_of_many_labels_and_large_pictures_stays_below_three_megabytes() -> None:
    noise = np.random.default_rng(1)
    photos: list[Any] = [noise.integers(0, 256, (80, 80, 3), dtype=np.uint8) for _ in range(30)]
    rows = pictures_of.table(photos * 10, [f"label {number % 30}" for number in range(300)])
    text = page(replace(report(pictures_of.SCHEMA, rows, rows), target="shape", real_pictures=True, augmented=rows))
    assert 500_000 < len(text.encode()) < 3_000_000
    assert text.count("<p>synthetic</p>") == 20


def test_the_worst_column_comes_first_whichever_way_a_score_runs() -> None:
    schema = Schema(tuple(Column(name, "number", pa.float64()) for name in "abc"))
    detector = {**score("c2st_auc", 0.6, columns={"a": 0.5, "b": 0.55, "c": 0.9}), "worst": 1.0, "best": 0.5}
    shapes = score("column_shapes", 0.9, columns={"a": 1.0, "b": 0.1, "a × b": 0.0})
    assert [column.name for column in worst_first(schema, [detector, shapes])] == ["b", "c", "a"]


def test_associations_are_ranks_for_numbers_and_cramers_v_for_classes() -> None:
    number = np.random.default_rng(0).normal(size=2000)
    schema, table = columns(
        {
            "x": ("number", pa.array(number)),
            "cube": ("number", pa.array(-(number**3))),
            "sign": ("category", pa.array(np.where(number > 0, "plus", "minus"))),
            "coin": ("category", pa.array(np.random.default_rng(1).choice(["head", "tail"], 2000))),
            "one": ("number", pa.array(np.ones(2000))),
        }
    )
    [matrix] = associations([table], list(schema))
    assert matrix[0, 1] == pytest.approx(-1)
    assert matrix[0, 2] > 0.9
    assert matrix[2, 3] < 0.1
    assert np.isnan(matrix[0, 4])
    assert cramers_v(np.array([0, 1] * 50), np.array([0, 1] * 50)) == pytest.approx(1)
    assert np.isnan(cramers_v(np.array([0, 0]), np.array([0, 1])))


def test_axes_take_no_notice_of_an_outlier() -> None:
    low, high = span(np.array([*np.linspace(0, 1, 1000), 1e9]), np.array([]))
    assert 0 <= low < high < 1.01
    assert span(np.array([]), np.array([])) == (0.0, 1.0)
    assert [text for _, text in ticks_of(0, 86_400 * 30, "date")] == ["1970-01-06", "1970-01-16", "1970-01-26"]
    assert "6 h" in [text for _, text in ticks_of(0, 86_399, "time")]


def test_a_text_on_the_page_ends() -> None:
    assert len(clean("y" * 10_000)) == 200
    assert clean("a\x00b\u202e") == "a\ufffdb\ufffd"
