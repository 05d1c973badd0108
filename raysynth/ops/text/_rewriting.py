"""What ops share that have a language model write a text anew: the calls, and which of its answers stand for the text."""

import json
from abc import abstractmethod
from collections.abc import Sequence
from copy import copy
from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from pydantic import Field

from raysynth.chat import ASIDE, Address, Budget, Chat, Foreseen, Variable, content_of, objects_in, schema_format, usage_of
from raysynth.draws import Draws
from raysynth.layout import Facts
from raysynth.ops.base import Asking
from raysynth.ops.text._texts import text_columns
from raysynth.schema import Schema
from raysynth.words import folded, language

TRIES = 3  # of a text; then its row is left out
ROWS_AT_ONCE = 64
MOST_TIMES = 4  # as long as the text, or as short, may an answer be
SCHEMA: Facts = {
    "type": "object",
    "properties": {"text": {"type": "string"}},
    "required": ["text"],
    "additionalProperties": False,
}
ANSWER = 'Answer with one JSON object, {"text": …}, and nothing else.'


class Rewriting(Asking):
    """The options are those of generators/endpoint.py. A row of which a text cannot be written anew in some tries is left out."""

    aside: ClassVar[frozenset[str]] = ASIDE

    def __init__(
        self,
        schema: Schema,
        *,
        url: Address,
        model: Annotated[str, Field(min_length=1)],
        key_variable: Variable = "OPENAI_API_KEY",
        columns: tuple[str, ...] | None = None,
        temperature: Annotated[float, Field(ge=0, le=2)] = 1.0,
        reply_tokens: Annotated[int, Field(ge=1)] = 1024,
        extra: dict[str, Any] | None = None,
        concurrency: Annotated[int, Field(ge=1, le=256)] = 8,
        timeout_seconds: Annotated[float, Field(gt=0)] = 120.0,
        retries: Annotated[int, Field(ge=0, le=20)] = 6,
        backoff_seconds: Annotated[float, Field(gt=0)] = 1.0,
        max_tokens: Annotated[int, Field(ge=1)] | None = None,
        max_money: Annotated[float, Field(gt=0)] | None = None,
        input_price: Annotated[float, Field(ge=0)] | None = None,
        output_price: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__(schema)
        self.columns = text_columns(schema, columns)
        self.body: Facts = {"model": model, "temperature": temperature, "max_tokens": reply_tokens, "stream": False}
        self.extra = extra or {}
        self._budget = Budget("", max_tokens, max_money, input_price, output_price)
        self.concurrency, self.budget = concurrency, str(self._budget)
        self.chat = Chat("", url, key_variable, timeout_seconds, retries, backoff_seconds)

    @abstractmethod
    def rewritten(self, texts: list[str], words: list[int]) -> list[str | None]:
        """Texts and a number of each one's own → the texts anew; None where an answer is none."""

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        every = np.arange(rows.num_rows)
        cuts = [every[start : start + ROWS_AT_ONCE] for start in range(0, rows.num_rows, ROWS_AT_ONCE)]
        return pa.concat_tables([rows.slice(0, 0), *(self._some(rows.take(cut), draws.take(cut)) for cut in cuts)])

    def _some(self, rows: pa.Table, draws: Draws) -> pa.Table:
        told: dict[str, list[Any]] = {name: rows.column(name).to_pylist() for name in self.columns}
        left = [(name, row) for name in self.columns for row, text in enumerate(told[name]) if text and text.strip()]
        for attempt in range(TRIES):
            words = {name: draws.words(f"{name}-{attempt}").tolist() for name in self.columns}
            made = self.rewritten([told[name][row] for name, row in left], [words[name][row] for name, row in left])
            stands = [new is not None and _stands(told[name][row], new) for (name, row), new in zip(left, made, strict=True)]
            for (name, row), new, good in zip(left, made, stands, strict=True):
                told[name][row] = new if good else told[name][row]
            left = [place for place, good in zip(left, stands, strict=True) if not good]
        for name in self.columns:
            field = rows.schema.field(name)
            rows = rows.set_column(rows.column_names.index(name), field, pa.array(told[name], field.type))
        lost = {row for _, row in left}
        return rows.take(pa.array([row for row in range(rows.num_rows) if row not in lost], pa.int64()))

    def asked(self, prompts: Sequence[str | None], words: Sequence[int]) -> list[str | None]:
        """A prompt each → the text of its answer; of no prompt, or where an answer is none, None."""
        requests = [self._request(prompt, word) for prompt, word in zip(prompts, words, strict=True) if prompt is not None]
        replies = iter(self.answers(requests))
        return [None if prompt is None else _text(next(replies)) for prompt in prompts]

    def foreseen(self, rows: pa.Table) -> Foreseen:
        """As if each answer were as long as the text that it is asked about."""
        bodies: list[Facts] = []
        answers: list[str] = []

        def echo(requests: list[Facts]) -> list[Facts]:
            bodies.extend(request["body"] for request in requests)
            texts = [request["body"]["messages"][0]["content"].split(f"{ANSWER}\n\n", 1)[1] for request in requests]
            said = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
            answers.extend(said)
            return [{"answer": {"choices": [{"message": {"content": text}}]}} for text in said]

        asking = copy(self)
        asking.replies = echo
        texts = [text for name in self.columns for text in rows.column(name).to_pylist() if text and text.strip()]
        asking.rewritten(texts, list(range(len(texts))))
        return Foreseen.of(bodies, answers, rows=rows.num_rows, most_tokens=self.body["max_tokens"], budget=self._budget)

    def _request(self, prompt: str, word: int) -> Facts:
        messages = [{"role": "user", "content": prompt}]
        body = {**self.body, "seed": word >> 32, "messages": messages, "response_format": schema_format(SCHEMA), **self.extra}
        return {"call": word, "body": {name: value for name, value in body.items() if value is not None}}

    def send(self, request: Facts) -> Facts:
        return self.chat.complete(request["body"], answered=self.answered)

    def usage(self, reply: Facts) -> tuple[int, int]:
        return usage_of(reply)

    def spent(self, read: float, written: float) -> float:
        return self._budget.share(read, written)


def _text(reply: Facts) -> str | None:
    text = next((found["text"] for found in objects_in(content_of(reply["answer"])) if "text" in found), None)
    try:
        return text.strip() or None if isinstance(text, str) and text.encode() else None
    except UnicodeEncodeError:  # a surrogate that stands alone
        return None


def _stands(old: str, new: str) -> bool:
    """Whether a text is another one in the same language, of about the same length."""
    longest = MOST_TIMES * max(len(old), 8)
    return (
        folded(new) != folded(old) and language(new) == language(old) and len(old) <= MOST_TIMES * len(new) and len(new) <= longest
    )
