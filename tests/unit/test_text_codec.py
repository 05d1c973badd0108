"""Texts as tokens: whatever is written comes out as it was, too long is told and never drawn, and no order of the rows changes a token."""

from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysynth.codecs._tokenizer import learn  # pyright: ignore[reportPrivateUsage]
from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import FieldsGiven, Tokens
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.where import parse_where

SCHEMA = Schema(
    (Column("label", "category", pa.string()), Column("question", "text", pa.string()), Column("answer", "text", pa.string()))
)
WORDS = ["the", "quick", "快递", "很", "好吃", "brown", "fox", "送餐", "慢", "again", "and", "again"]
VOCABULARY = learn([" ".join(WORDS)] * 10 + ["".join(WORDS)] * 5, 2000)
ODD = [
    "",
    " ",
    "\x00",
    "a\x00b\n",
    "👩‍👩‍👧‍👦 👍🏽",
    "\u202eabc\u202c",
    "e\u0301",
    "𠀀𪚥",
    "<0x41>",
    "\ufeff",
    "\t\r\n  x ",
    "١٢٣",
    "x" * 5000,
]


def table(rows: int = 60, **columns: Any) -> pa.Table:
    noise = np.random.default_rng(3)
    texts = [" ".join(noise.choice(WORDS, noise.integers(1, 12))) for _ in range(2 * rows)]
    made: dict[str, Any] = {
        "label": [str(label) for label in noise.choice(["good", "bad"], rows)],
        "question": [None if row % 17 == 5 else text for row, text in enumerate(texts[:rows])],
        "answer": texts[rows:],
        FILE: [f"{row % 3}.csv" for row in range(rows)],
        ROW: pa.array(range(rows), pa.int64()),
    }
    return pa.table(made | columns)


def settled(rows: pa.Table, **options: Any) -> Text:
    codec = Text(SCHEMA, seed=3, **options)
    codec.settle(codec.observe(rows))
    return codec


def tokens_of(codec: Text) -> Tokens:
    assert isinstance(codec.layout, Tokens)
    return codec.layout


@given(text=st.text() | st.sampled_from(ODD) | st.lists(st.sampled_from(WORDS)).map(" ".join))
def test_every_text_comes_out_as_it_went_in(text: str) -> None:
    (ids,) = VOCABULARY.encode([text])
    assert VOCABULARY.decode(ids) == text
    assert all(Tokens.NULL < number < VOCABULARY.size for number in ids)


def test_what_is_frequent_is_one_token_and_what_was_never_seen_is_its_bytes() -> None:
    assert len(VOCABULARY.encode([" again"])[0]) == 1
    assert len(VOCABULARY.encode([" 好吃"])[0]) == 1
    assert len(VOCABULARY.encode(["щ"])[0]) == len("щ".encode())


@given(ids=st.lists(st.integers(0, VOCABULARY.size - 1)))
def test_any_ids_are_some_text(ids: list[int]) -> None:
    VOCABULARY.decode(ids).encode()


def test_texts_nulls_and_codes_come_back() -> None:
    rows = table(question=[*ODD, *["word"] * 47])
    codec = settled(rows, max_tokens=6000)
    back = codec.decode(codec.encode(rows), Draws.range(3, "decode", 0, 60))
    assert back.equals(rows.select(SCHEMA.names))
    rows = table()
    assert rows["question"].null_count
    codec = settled(rows)
    assert codec.decode(codec.encode(rows), Draws.range(3, "decode", 0, 60)).equals(rows.select(SCHEMA.names))


@settings(max_examples=8, deadline=None)
@given(cuts=st.sets(st.integers(0, 60), max_size=3), order=st.randoms(use_true_random=False))
def test_no_cut_and_no_order_changes_a_token(cuts: set[int], order: Any) -> None:
    pieces = [table().slice(start, stop - start) for start, stop in pairwise([0, *sorted(cuts), 60])]
    order.shuffle(pieces)
    codec = Text(SCHEMA, seed=3)
    stats = codec.observe(pieces[0])
    for piece in pieces[1:]:
        stats = stats.merge(codec.observe(piece))
    codec.settle(stats)
    other = settled(table())
    assert (codec.vocabulary, codec.lengths, codec.told) == (other.vocabulary, other.lengths, other.told)


def test_a_text_that_is_too_long_is_cut_told_and_has_no_end() -> None:
    rows = table()
    codec = settled(rows, max_tokens=4)
    told = codec.state()[1]["told"]["sampled"]["answer"]
    assert told["texts"] == 60 and told["max_tokens"] == 4 and told["cut"] > 10
    tokens = codec.encode(rows)["tokens"]
    ends = (tokens == Tokens.END).sum(axis=1)
    assert 0 < (ends < 2).sum() < 60
    assert tokens_of(codec).length == 10 and tokens.shape == (60, 10)


def test_the_other_columns_are_conditioned_on_as_in_a_table() -> None:
    codec = settled(table())
    given_ = codec.condition(parse_where({"label": "good"}, SCHEMA))
    assert isinstance(given_, FieldsGiven) and [mask.sum() for mask in given_.masks.values()] == [1]
    with pytest.raises(RecipeError, match=r"where\.label: no train row has 'awful'"):
        codec.condition(parse_where({"label": "awful"}, SCHEMA))


def test_texts_alone_need_no_other_column() -> None:
    alone = Schema((Column("text", "text", pa.large_string()),))
    rows = pa.table({"text": pa.array(["a b", None, "c"], pa.large_string()), FILE: ["f"] * 3, ROW: pa.array(range(3), pa.int64())})
    codec = Text(alone)
    codec.settle(codec.observe(rows).merge(codec.observe(rows)))
    assert codec.decode(codec.encode(rows), Draws.range(0, "decode", 0, 3)).equals(rows.select(["text"]))
    assert codec.encode(rows)["codes"].shape == (3, 0)


def test_no_text_at_all_is_no_trouble() -> None:
    rows = table(question=pa.nulls(60, pa.string()), answer=[""] * 60)
    codec = settled(rows)
    assert codec.decode(codec.encode(rows), Draws.range(3, "decode", 0, 60)).equals(rows.select(SCHEMA.names))


def test_a_table_without_texts_is_refused_with_its_kinds() -> None:
    with pytest.raises(RecipeError, match=r"needs a column of kind text or turns, and there is none: label \(category\)"):
        Text(Schema((Column("label", "category", pa.string()),)))
    with pytest.raises(RecipeError, match=r"codec\.tokens: .*512 or more \(got 10\)"):
        Text(SCHEMA, tokens=10)
