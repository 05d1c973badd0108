"""Paraphrase and back-translation through a real server: labels stay, what does not stand is asked for again, no call is paid for twice."""

from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from fakes_llm import FakeLLM

from raysynth.cluster.endpoint import StoredReplies
from raysynth.draws import Draws
from raysynth.errors import RecipeError, SpentError
from raysynth.ops.base import Asking
from raysynth.parts import deciding, find, whole_options
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages.augment import ops_of

SCHEMA = Schema((Column("label", "category", pa.string()), Column("said", "text", pa.string())))
ROWS = pa.table(
    {
        FILE: ["a.csv"] * 6,
        ROW: pa.array(range(6), pa.int64()),
        "label": ["good", "bad", "good", "bad", None, "good"],
        "said": ["The food was good.", "味道很差，再也不来。", None, "Too slow!", "", "Привет, как дела?"],
    }
)
DRAWS = Draws.range(3, "augment-0-0", 0, 6)


@pytest.fixture
def server() -> Iterator[FakeLLM]:
    with FakeLLM() as fake:
        fake.row = answer
        yield fake


def text_in(body: dict[str, Any]) -> str:
    return body["messages"][0]["content"].split("\n\n", 1)[1]


def answer(body: dict[str, Any]) -> dict[str, Any]:
    """A paraphrase, or as a translator would: into the language that is asked for."""
    prompt, text = body["messages"][0]["content"], text_in(body)
    if "into Chinese" in prompt:
        return {"text": f"译成中文的话 {body['seed']}"}
    if "into English" in prompt:
        return {"text": f"as English words {body['seed']}"}
    return {"text": f"{text} {body['seed'] % 1000}"}


def op_of(name: str, server: FakeLLM, **options: Any) -> Asking:
    found = find("ops", name)(SCHEMA, url=server.url, model="m", backoff_seconds=0.01, timeout_seconds=10.0, **options)
    assert isinstance(found, Asking)
    return found


def test_a_paraphrase_keeps_all_but_the_text(server: FakeLLM) -> None:
    made = op_of("text.paraphrase", server)(ROWS, DRAWS)
    assert made.drop_columns(["said"]).equals(ROWS.drop_columns(["said"]))
    for new, old in zip(made["said"].to_pylist(), ROWS["said"].to_pylist(), strict=True):
        assert new == old if not old else new != old and new.startswith(old)
    assert server.calls.total() == 4, "nothing is asked of a null and of an empty text"


def test_a_translation_goes_there_and_back(server: FakeLLM) -> None:
    made = op_of("text.back_translation", server)(ROWS, DRAWS)
    assert made[ROW].to_pylist() == [0, 1, 2, 3, 4], "of a language that is neither none is known to go back to"
    said = made["said"].to_pylist()
    assert said[0].startswith("as English words") and said[3].startswith("as English words")
    assert said[1].startswith("译成中文的话")
    there = [body["messages"][0]["content"].split(".")[0] for body in server.bodies]
    assert sorted(there) == sorted(
        ["Translate the following text into Chinese"] * 3 + ["Translate the following text into English"] * 3
    )


def test_languages_can_be_named(server: FakeLLM) -> None:
    server.row = lambda body: {
        "text": ("Все хорошо " if "into Russian" in body["messages"][0]["content"] else "Alles gut ") + str(body["seed"])
    }
    rows = ROWS.slice(5)
    made = op_of("text.back_translation", server, language="Russian", through="German")(rows, DRAWS.take(pa.array([5]).to_numpy()))
    assert made["said"][0].as_py().startswith("Все хорошо")


def test_what_does_not_stand_is_asked_for_again_and_left_out_in_the_end(server: FakeLLM) -> None:
    seen: dict[str, int] = {}

    def stubborn(body: dict[str, Any]) -> dict[str, Any]:
        text = text_in(body)
        seen[text] = seen.get(text, 0) + 1
        if text.startswith("The"):
            return {"text": text.upper()}  # nothing new
        if text.startswith("味"):
            return {"text": "very bad" if seen[text] < 3 else text + "真的"}
        return {"text": text * 9 if seen[text] < 2 else "much too slow"}

    server.row = stubborn
    made = op_of("text.paraphrase", server)(ROWS.slice(0, 4), DRAWS.take(pa.array([0, 1, 2, 3]).to_numpy()))
    assert made["said"].to_pylist() == ["味道很差，再也不来。真的", None, "much too slow"]
    assert seen == {"The food was good.": 3, "味道很差，再也不来。": 3, "Too slow!": 2}


def test_a_text_that_the_server_refuses_is_left_out(server: FakeLLM) -> None:
    def filtered(call: int) -> Callable[[Any], None] | None:
        refused = "good" in text_in(server.bodies[-1])
        return (lambda handler: handler.reply({"error": {"message": "no", "code": "content_filter"}}, 400)) if refused else None

    server.faults = filtered
    made = op_of("text.paraphrase", server)(ROWS, DRAWS)
    assert made[ROW].to_pylist() == [1, 2, 3, 4, 5]
    assert server.calls.total() == 3 + 3, "each of its tries"


def test_a_text_is_found_behind_what_the_model_thought(server: FakeLLM) -> None:
    def thinking(handler: Any) -> None:
        text = '<think>They want {"text": …}, not {"a": 1}</think>{"text": "It was much too slow!"}'
        handler.reply({"choices": [{"message": {"content": text}}]})

    server.faults = lambda _: thinking
    assert op_of("text.paraphrase", server)(ROWS.slice(3, 1), DRAWS.take(np.array([3])))["said"].to_pylist() == [
        "It was much too slow!"
    ]


def test_replies_are_stored_and_a_budget_stops_the_op(server: FakeLLM) -> None:
    place = Folder(f"memory://test-rewriting/{uuid4().hex}/augmented/abc")
    op = op_of("text.paraphrase", server, max_tokens=250, concurrency=1)
    op.replies = StoredReplies(place, op)
    with pytest.raises(SpentError, match=r"^max_tokens: 250: 200 tokens are read"):
        op(ROWS, DRAWS)
    again = op_of("text.paraphrase", server)
    again.replies = StoredReplies(place, again)
    made = again(ROWS, DRAWS)
    assert made.num_rows == 6
    assert server.calls.total() == len(server.calls) == 4
    assert again(ROWS.slice(3), DRAWS.take(pa.array([3, 4, 5]).to_numpy())).equals(made.slice(3))
    assert server.calls.total() == 4


def test_a_recipe_names_it_and_its_errors_name_the_option(server: FakeLLM) -> None:
    options = {"url": server.url, "model": "m", "columns": ["said"]}
    recipe = parse_recipe({"name": "x", "source": "a.csv", "augment": [{"use": "text.paraphrase", **options}]})
    assert isinstance(ops_of(recipe, SCHEMA)[0], Asking)
    with pytest.raises(RecipeError, match=r"augment.0.url: must be http\(s\)"):
        parse_recipe({"name": "x", "source": "a.csv", "augment": [{"use": "text.paraphrase", "url": "a", "model": "m"}]})
    with pytest.raises(RecipeError, match=r"^max_money: 1 needs input_price"):
        op_of("text.paraphrase", server, max_money=1.0)
    whole = whole_options("ops", "text.paraphrase", options)
    assert "url" not in deciding("ops", whole)
    assert deciding("ops", whole) == deciding("ops", {**whole, "url": "http://b/v1", "max_tokens": 3})
