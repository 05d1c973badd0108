"""Any OpenAI-compatible server as a generator: each row is asked of it by a prompt, and what it answers is checked against the columns."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.chat import ASIDE, Address, Budget, Chat, Foreseen, Variable, content_of, objects_in, schema_format, usage_of
from raysynth.codecs.records import texts_of
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators._prompts import PROMPT, checked, prompt_of, schema_of
from raysynth.generators.base import Remote
from raysynth.knowledge import Knowledge, Triple
from raysynth.layout import Arrays, Batch, Facts, Given, Layout, RecordColumn, Records, RecordsGiven

POOL_ROWS = 1000
MOST_FACTS = 20  # in one prompt
DRAWN = ("category", "boolean")  # kinds of the columns that are drawn from train rows where the recipe names none


class Endpoint(Remote):
    """`url`: up to /v1, as OpenAI's clients take it; `model`: its name there. `key_variable`: the environment variable, on every node
    that makes rows, that holds the key; without one none is sent.

    `prompt`: a template with the places {columns}, {settled}, {examples}, {facts}, of which none must be there (null: one in English that
    says what the schema says). Facts are those of the recipe's `knowledge` about what is settled. `shots`: so many train rows stand in
    each prompt as examples, which the row's draws choose. **These are real rows: the model keeps a pool of a thousand of them, and they go
    to the server.** With 0 none goes. `drawn`: the columns whose values are taken together from a train row and told to the server as
    settled, so that they are distributed as in the real data (null: those of kinds category and boolean with values that are few, unless
    these are all; with shots 0 the pool holds these columns alone, with drawn [] too there is none).

    `output`: json_schema asks the server for JSON of the columns' schema, instruction only by the prompt, auto asks and goes on without
    where the server knows no such thing. Either way each answer is checked: columns, types, categories, ranges, and of turns their roles.
    One that does not hold is drawn again by another call; so is a prompt that the server refuses, once it has answered another one.
    `reply_tokens`: an answer is cut there. `extra`: what else the call's body says, such as {max_completion_tokens: 400, max_tokens: null};
    a null leaves a key out.

    `concurrency`: calls in flight at a time, of each worker. `timeout_seconds`: of one try of a call; what may pass is tried again
    `retries` times, after `backoff_seconds`, twice as many, and so on, but not before the server wants it. `max_tokens` (read and written)
    and `max_money` (by `input_price` and `output_price`, of a million tokens) bound what the whole data set may cost: at either the run
    stops with exit code 4, all replies are kept, and the same command goes on once it is raised. Calls in flight are then still paid."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Records,)
    aside: ClassVar[frozenset[str]] = ASIDE
    version: ClassVar[int] = 2
    kernel_rows = 64
    chunk_rows = 1  # no call is made to fill a kernel

    def __init__(
        self,
        layout: Records,
        *,
        url: Address,
        model: Annotated[str, Field(min_length=1)],
        key_variable: Variable = "OPENAI_API_KEY",
        prompt: str | None = None,
        shots: Annotated[int, Field(ge=0, le=100)] = 4,
        drawn: tuple[str, ...] | None = None,
        output: Literal["auto", "json_schema", "instruction"] = "auto",
        temperature: Annotated[float, Field(ge=0, le=2)] = 1.0,
        top_p: Annotated[float, Field(gt=0, le=1)] = 1.0,
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
        self.columns = layout.columns
        self.template, self.shots, self.output = prompt or PROMPT, shots, output
        self.drawn = _drawn(layout.columns, drawn)
        self.body: Facts = {"model": model, "temperature": temperature, "top_p": top_p, "max_tokens": reply_tokens, "stream": False}
        self.extra, self.reply_tokens = extra or {}, reply_tokens
        self._budget = Budget("generator.", max_tokens, max_money, input_price, output_price)
        self.concurrency, self.budget = concurrency, str(self._budget)
        self.chat = Chat("generator.", url, key_variable, timeout_seconds, retries, backoff_seconds)
        self.pool_rows = POOL_ROWS if shots or self.drawn else 0
        self._texts = [column.name for column in layout.columns if column.kind in ("text", "turns")]
        self._pool: list[Facts] = []
        self._knowledge = Knowledge()

    def know(self, knowledge: Knowledge) -> None:
        self._knowledge = Knowledge(knowledge.triples)

    def remember(self, rows: Batch) -> None:
        """Whole rows if some are to stand in prompts, else what the drawn columns hold."""
        found = [cast("Facts", json.loads(text)) for text in rows["rows"].tolist()]
        self._pool = found if self.shots else [{name: row[name] for name in self.drawn} for row in found]

    def state(self) -> tuple[Arrays, Facts]:
        return {}, {"pool": self._pool, "triples": [list(triple) for triple in self._knowledge.triples]}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self._pool = list(facts["pool"])
        self._knowledge = Knowledge(tuple(Triple(*triple) for triple in facts["triples"]))

    def request(self, draws: Draws, given: Given | None) -> list[Facts]:
        columns = given.columns if isinstance(given, RecordsGiven) else self.columns
        pool = _Pool.of([row for row in self._pool if _holds(row, columns, self.drawn)], self.drawn)
        words, chosen, places = draws.words("call"), draws.uniform("drawn"), draws.uniform("shots", max(1, self.shots))
        return [self._request(columns, pool, int(word), *pair) for word, *pair in zip(words, chosen, places, strict=True)]

    def _request(
        self, columns: Sequence[RecordColumn], pool: "_Pool", word: int, chosen: float, places: NDArray[np.float64]
    ) -> Facts:
        settled = pool.settled(chosen)
        shots = pool.shots(settled, places[: self.shots])
        facts = self._knowledge.about(_named(columns, settled), MOST_FACTS) if self._knowledge.triples else []
        prompt = prompt_of(self.template, columns, settled, [json.dumps(row, ensure_ascii=False) for row in shots], facts)
        body = {**self.body, "seed": word >> 32, "messages": [{"role": "user", "content": prompt}]}
        if self.output != "instruction":
            body["response_format"] = schema_format(schema_of(columns, settled))
        body = {name: value for name, value in {**body, **self.extra}.items() if value is not None}
        return {"call": word, "settled": settled, "body": body}  # a seed of 32 bits, as all servers take it, is not yet a row's own

    def send(self, request: Facts) -> Facts:
        reply = self.chat.complete(request["body"], insist=self.output == "json_schema", answered=self.answered)
        return {"settled": request["settled"], **reply}

    def parse(self, replies: list[Facts]) -> Batch:
        rows = [self._row(reply) for reply in replies]
        return Batch({"rows": texts_of([row or "null" for row in rows])}, np.array([row is not None for row in rows]))

    def _row(self, reply: Facts) -> str | None:
        """The first object of the answer that is a row; None where none is."""
        rows = (self._written(found, reply["settled"]) for found in objects_in(content_of(reply["answer"])))
        return next((row for row in rows if row is not None), None)

    def _written(self, found: Facts, settled: Facts) -> str | None:
        """None where it is no valid row, or an example with its texts as they are."""
        if any(found.get(name, value) != value for name, value in settled.items()):
            return None
        try:
            row = checked({**found, **settled}, self.columns)
        except (ValueError, RecursionError):
            return None
        return None if self._said(row) in self._copies else json.dumps(row, ensure_ascii=False)

    @cached_property
    def _copies(self) -> frozenset[str]:
        """What the examples say; empty where they have no texts."""
        return frozenset(map(self._said, self._pool)) if self.shots and self._texts else frozenset()

    def _said(self, row: Facts) -> str:
        return json.dumps([row[name] for name in self._texts])

    def foreseen(self, draws: Draws, given: Given | None, rows: Batch) -> Foreseen:
        requests = self.request(draws, given)
        real = [cast("Facts", json.loads(text)) for text in rows["rows"].tolist()]
        answers = [
            json.dumps({name: value for name, value in row.items() if name not in request["settled"]}, ensure_ascii=False)
            for row, request in zip(real, requests, strict=True)
        ]
        bodies = [request["body"] for request in requests]
        return Foreseen.of(bodies, answers, rows=len(real), most_tokens=self.reply_tokens, budget=self._budget)

    def usage(self, reply: Facts) -> tuple[int, int]:
        return usage_of(reply)

    def spent(self, read: float, written: float) -> float:
        return self._budget.share(read, written)


@dataclass(frozen=True)
class _Pool:
    """The train rows that a prompt may speak of: all, and by what their drawn columns hold."""

    rows: list[Facts]
    drawn: tuple[str, ...]
    alike: Mapping[str, list[Facts]]

    @staticmethod
    def of(rows: list[Facts], drawn: tuple[str, ...]) -> "_Pool":
        alike: dict[str, list[Facts]] = {}
        for row in rows:
            alike.setdefault(_key(row, drawn), []).append(row)
        return _Pool(rows, drawn, alike)

    def settled(self, chosen: float) -> Facts:
        if not self.rows or not self.drawn:
            return {}
        row = self.rows[int(chosen * len(self.rows))]
        return {name: row[name] for name in self.drawn}

    def shots(self, settled: Facts, places: NDArray[np.float64]) -> list[Facts]:
        """Different rows, of those that are settled alike where there are enough of them."""
        rows = self.alike.get(_key(settled, self.drawn), []) if settled else []
        left = list(rows if len(rows) >= len(places) else self.rows)
        return [left.pop(int(place * len(left))) for place in places.tolist() if left]


def _drawn(columns: Sequence[RecordColumn], asked: Sequence[str] | None) -> tuple[str, ...]:
    names = [column.name for column in columns]
    if strange := [name for name in asked or () if name not in names]:
        raise RecipeError(f"generator.drawn: no column '{strange[0]}' that is learnt. Columns: {', '.join(names)}")
    if asked is not None:
        found = tuple(name for name in names if name in asked)
    else:
        found = tuple(column.name for column in columns if column.kind in DRAWN and column.values)
    if len(found) < len(names):
        return found
    if asked is not None:
        raise RecipeError("generator.drawn: these are all columns, so that nothing is left to ask for. Name fewer")
    return ()


def _holds(row: Facts, columns: Sequence[RecordColumn], drawn: tuple[str, ...]) -> bool:
    """Whether what a real row has in the drawn columns may stand in a row that is asked for."""
    allowed = {column.name: column for column in columns if column.name in drawn}
    try:
        checked({name: row[name] for name in allowed}, list(allowed.values()))
    except ValueError:
        return False
    return True


def _key(row: Facts, drawn: tuple[str, ...]) -> str:
    return json.dumps([row[name] for name in drawn])


def _named(columns: Sequence[RecordColumn], settled: Facts) -> str:
    """All that is said of the row already, in which facts are looked for."""
    asked = [column.values[0] if column.values and len(column.values) == 1 else column.starts for column in columns]
    return "\n".join(str(value) for value in (*settled.values(), *asked) if value not in (None, ""))
