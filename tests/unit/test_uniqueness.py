"""No two rows share the values of some columns: who repeats whom, who wins in a round, and the same rows however the work is cut."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from raysynth.codecs.tabular import Tabular
from raysynth.commits import commit, write_task
from raysynth.draws import Draws
from raysynth.errors import RecipeError, RuleError
from raysynth.generators.base import Fitted, Remote
from raysynth.layout import Arrays, Batch, Facts, Fields, Given, Layout
from raysynth.models import Model
from raysynth.orders import Order
from raysynth.pipeline import check_columns
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Plan, Run, folder_id, read_rows
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, TURNS, Column, Schema
from raysynth.stages import unique, unique_rounds
from raysynth.stages.unique_rounds import Contest, drawn
from raysynth.uniqueness import Candidates, bucket_of, buckets, columns_of, keys_of, repeats

SCHEMA = Schema(
    (
        Column("said", "text", pa.string()),
        Column("grade", "category", pa.string()),
        Column("turns", "turns", TURNS),
        Column("late", "boolean", pa.bool_(), derived=True),
        Column("id", "id", pa.string()),
    )
)


def rows(said: Sequence[str | None], grade: Sequence[str | None] | None = None) -> pa.Table:
    none = [None] * len(said)
    columns = [said, none if grade is None else grade, none, none, [str(row) for row in range(len(said))]]
    return pa.table(dict(zip(SCHEMA.names, columns, strict=True)), schema=SCHEMA.arrow)


def words(*words: int) -> NDArray[np.uint64]:
    return np.array(words, np.uint64)


# Keys


def test_texts_that_fold_alike_have_one_key_and_categories_are_compared_as_they_are() -> None:
    keys, said = keys_of(rows(["Very good!", " very  GOOD!", "Ｖery good!", "very bad!", ""]), SCHEMA, ["said"])
    assert said.all() and len(set(keys[:3])) == 1 and len(set(keys)) == 3
    keys, _ = keys_of(rows(["x", "x", "x"], ["a", "A", "a"]), SCHEMA, ["grade"])
    assert keys[0] == keys[2] != keys[1]


def test_a_null_equals_a_null_and_a_row_of_nulls_alone_is_like_no_other() -> None:
    keys, said = keys_of(rows(["x", "x", None, None, None], [None, None, "a", "a", None]), SCHEMA, ["grade", "said"])
    assert said.tolist() == [True, True, True, True, False]
    assert keys[0] == keys[1] and keys[2] == keys[3] and keys[0] != keys[2]


def test_turns_and_derived_columns_have_keys_too() -> None:
    turns = [[{"role": "user", "content": text}] for text in ("Hi", "hi ", "ho")]
    table = rows(["x"] * 3).set_column(2, "turns", pa.array(turns, TURNS)).set_column(3, "late", pa.array([True, True, False]))
    assert [len(set(keys_of(table, SCHEMA, [name])[0])) for name in ("turns", "late")] == [2, 2]


def test_of_five_rows_those_that_repeat_a_lower_one_are_found() -> None:
    numbers, keys = words(9, 2, 4, 7, 3), words(1, 1, 5, 5, 6)
    assert sorted(numbers[repeats(numbers, keys)].tolist()) == [7, 9]


def test_buckets_grow_with_the_rows_and_no_key_is_in_two() -> None:
    assert [buckets(count) for count in (1, 4_000_000, 4_000_001, 10**12)] == [1, 1, 2, 1024]
    found = bucket_of(Draws.range(1, "keys", 0, 1000).words("key"), 3)
    assert set(found.tolist()) == {0, 1, 2}


# Who wins


def candidates(slot: list[int], keys: list[int], *, free: list[bool] | None = None, said: list[bool] | None = None) -> Candidates:
    every = [True] * len(slot)
    masks = (np.array(mask or every, np.bool_) for mask in (said, free))
    return Candidates(np.array(slot, np.int64), words(*keys), *masks)


def test_the_lowest_row_of_a_turn_wins_and_what_is_won_stays() -> None:
    won, shown = candidates([0, 0, 1, 1, 2, 2], [8, 1, 8, 5, 5, 8]).winners(3)
    assert won.tolist() == [0, -1, 4], "row 2 drew 5 a turn before row 1 did"
    assert shown == 4
    won, _ = candidates([0, 1], [8, 8], free=[False, False]).winners(2)
    assert won.tolist() == [-1, -1]
    won, _ = candidates([0, 1], [8, 8], said=[False, False], free=[False, False]).winners(2)
    assert won.tolist() == [0, 1], "a row of nulls alone is like no other"
    assert candidates([1, 1], [3, 4]).winners(3)[0].tolist() == [-1, 0, -1], "others had no attempt left"
    assert candidates([], []).winners(0)[1] == 0


def test_it_does_not_matter_how_many_candidates_are_drawn_ahead() -> None:
    drawn = Draws.range(3, "ahead", 0, 12).words("key", 6) % np.uint64(15)
    whole, _ = candidates(np.repeat(np.arange(12), 6).tolist(), drawn.ravel().tolist()).winners(12)
    found, taken = dict.fromkeys(range(12), -1), set[int]()
    for turn in range(6):
        for slot in [slot for slot, at in found.items() if at < 0]:
            if int(drawn[slot, turn]) not in taken:
                found[slot] = 6 * slot + turn
                taken.add(int(drawn[slot, turn]))
    assert whole.tolist() == list(found.values())


# The whole data set


class Uniform(Fitted):
    """Each field's categories at even odds."""

    accepts = (Fields,)
    kernel_rows = 512
    chunk_rows = 64
    probe_rows = 2000

    def __init__(self, layout: Layout) -> None:
        assert isinstance(layout, Fields)
        self.sizes = layout.sizes

    def sample(self, draws: Draws, given: Given | None) -> Batch:
        codes = [(draws.uniform(f"f{at}") * size).astype(np.int32) for at, size in enumerate(self.sizes)]
        return Batch({"codes": np.stack(codes, axis=1)})

    def tasks(self, *_: object) -> list[str]:
        return []

    def fit(self, task: str, rows: Any) -> Any:
        raise NotImplementedError

    def merge(self, stats: list[Any]) -> None: ...

    def state(self) -> tuple[Arrays, Facts]:
        return {}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None: ...


PLACES = Schema(
    (Column("street", "category", pa.string(), nullable=False), Column("house", "category", pa.string(), nullable=False))
)
RULES = ("street != 's1'",)


@pytest.fixture(scope="module")
def model() -> Model:
    real = pa.table(
        {
            "street": [f"s{row % 5}" for row in range(300)],
            "house": [f"h{row % 60}" for row in range(300)],
            FILE: ["a"] * 300,
            ROW: range(300),
        }
    )
    codec = Tabular(PLACES, seed=1)
    return Model(PLACES, {}, codec, Uniform(codec.settle(codec.observe(real))), "", {})


def order(count: int, *columns: str, part: int = 40, attempts: int = 10_000) -> Order:
    return Order("d", 5, RULES, count, part, {}, attempts, "avx2", unique=tuple(sorted(columns)))


def sampler(model: Model, asked: Order) -> Sampler:
    return Sampler(model, seed=asked.seed, rules=asked.rules, max_attempts=asked.max_attempts)


def made(model: Model, asked: Order, cut: int = 64, count: int = 1) -> Folder:
    """As stages/unique.py does it, in this process; `cut`: parts of a task, `count`: buckets."""
    run = Run(f"memory://test-uniqueness/{uuid4().hex}")

    def write(folder: Folder, plan: Plan, make: Any) -> None:
        folder.write_plan(plan)
        ends = [*range(0, plan.parts, cut), plan.parts]
        for start, stop in list(pairwise(ends))[::-1]:
            write_task(folder, plan, range(start, stop), make())
        commit(folder, plan)

    plan, drafts = asked.plan(2), unique.drafts_of(run, asked)
    write(drafts, plan, lambda: unique.draft_files(lambda: sampler(model, asked), plan, asked.unique, count))
    losers = pa.concat_tables([unique.repeats_in(drafts)(bucket) for bucket in range(count)]).sort_by("row")
    contest = Contest(asked, model.generator, losers["row"].to_numpy(), losers["attempt"].to_numpy() + np.uint64(1))
    rounds: list[Folder] = []
    while len(contest.rows):
        rounds.append(run.folder("unique", folder_id({"round": len(rounds)})))
        keys = drawn(rounds[-1], contest, lambda: sampler(model, asked), write)
        known = np.zeros(keys.num_rows, np.bool_)
        for bucket in range(count):
            known |= unique.among_keys(drafts)((bucket, keys["word"].to_numpy()))
        contest.decide(keys, known)
    listed = unique.listed_in(run.folder("unique", "0" * 12), contest.settled)
    folder = run.folder("synthetic", folder_id(asked.facts()))
    write(folder, plan, lambda: unique.whole_files(plan, drafts, rounds, listed))
    return folder


def table(folder: Folder) -> pa.Table:
    return pa.concat_tables([read_rows(url) for url in folder.part_urls()])


def naive(model: Model, asked: Order) -> list[dict[str, Any]]:
    """The definition, one attempt of one row at a time."""
    drawing = sampler(model, asked)

    def attempts(row: int) -> Any:
        since = 0
        while True:
            found = drawing.holding(words(row), words(since))
            since = int(found.attempts[0]) + 1
            yield found.rows.to_pylist()[0]

    def key(row: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in asked.unique)

    streams = [attempts(row) for row in range(asked.rows)]
    shown, settled = {row: next(stream) for row, stream in enumerate(streams)}, dict[int, dict[str, Any]]()
    while shown:
        taken = {key(row) for row in settled.values()}
        for row, value in sorted(shown.items()):
            if key(value) not in taken:
                settled[row] = value
                taken.add(key(value))
        shown = {row: next(streams[row]) for row in shown if row not in settled}
    return [settled[row] for row in range(asked.rows)]


def test_every_row_is_the_one_that_the_definition_gives(model: Model) -> None:
    asked = order(90, "street", "house")
    found = table(made(model, asked))
    assert found.to_pylist() == naive(model, asked)
    assert found.num_rows == len({tuple(row.values()) for row in found.to_pylist()}) == 90
    assert not sampler(model, asked).range(0, 90).equals(found), "else nothing was drawn again"
    assert "s1" not in found["street"].to_pylist()


@pytest.mark.parametrize(("cut", "count"), [(1, 1), (3, 5)])
def test_the_same_bytes_whatever_the_tasks_and_the_buckets(model: Model, cut: int, count: int) -> None:
    asked = order(120, "street", "house")
    whole, other = made(model, asked), made(model, asked, cut, count)
    assert other.manifest().equals(whole.manifest())
    noted = [part.extra for marker in whole.markers() for part in marker.parts]
    assert 20 < sum(extra["drawn_again"] for extra in noted) < 120
    assert all("rule 'street != 's1''" in extra["rejects"] for extra in noted)


def test_rows_of_parts_of_another_size_are_the_same(model: Model) -> None:
    asked = order(120, "street", "house")
    assert table(made(model, replace(asked, rows_per_part=17))).equals(table(made(model, asked)))


def test_the_last_value_that_there_is_is_found(model: Model) -> None:
    found = table(made(model, order(60, "house")))
    assert len(set(found["house"].to_pylist())) == 60


def test_each_call_of_drafts_and_rounds_is_told(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[int] = []
    for module in (unique, unique_rounds):
        monkeypatch.setattr(module, "beats", lambda part: lambda: told.append(part))  # pyright: ignore[reportUnknownLambdaType]
    made(model, order(120, "street", "house"))
    assert told.count(0) > 2 and {0, 1, 2} <= set(told)


def test_a_round_that_another_driver_has_finished_meanwhile_is_gone_on_with(model: Model) -> None:
    run, asked = Run(f"memory://test-uniqueness/{uuid4().hex}"), order(2, "house")

    def contest() -> Contest:
        return Contest(asked, model.generator, words(1), words(1))

    def finish(folder: Folder, plan: Plan, make: Any) -> None:
        folder.write_plan(plan)
        write_task(folder, plan, range(plan.parts), make())
        commit(folder, plan)

    def late(folder: Folder, plan: Plan, make: Any) -> None:
        drawn(folder, contest(), lambda: sampler(model, asked), finish)
        list(make()(0))  # asks for what that one has taken away

    keys = drawn(run.folder("unique", "a" * 12), contest(), lambda: sampler(model, asked), late)
    assert keys.num_rows == 1


def test_more_rows_than_there_are_values_end_in_an_error(model: Model) -> None:
    told = r"generate.unique: \[house\]: 61 rows that differ were asked, and 60 were found; of the last [\d,]+ draws 0 said"
    with pytest.raises(RuleError, match=told):
        made(model, order(61, "house"))
    with pytest.raises(RuleError, match=r"a row has no more than generate.max_attempts, 40"):
        made(model, order(61, "house", attempts=40))


def test_the_last_round_may_take_all_draws_that_there_are(model: Model) -> None:
    count = 12_000
    contest = Contest(order(2, "house", attempts=count), model.generator, words(1), words(0), rounds=14)
    told: dict[str, Any] = {"part": [0] * count, "slot": [0] * count, "place": range(count), "attempt": words(*range(count))}
    told |= {"word": words(*[7] * (count - 1), 8), "said": [True] * count}
    keys = pa.table(told)
    contest.decide(keys, keys["word"].to_numpy() == 7)
    assert contest.settled.to_pylist() == [{"row": 1, "round": 15, "part": 0, "place": count - 1}] and not len(contest.rows)


def test_a_probe_refuses_what_it_sees_to_be_impossible(model: Model) -> None:
    with pytest.raises(RuleError, match=r"\[street\]: 5 rows that differ were asked, and a probe of 2,000 has 4. Ask for fewer"):
        unique.check_distinct(sampler(model, order(5, "street")), order(5, "street"))
    for possible in (order(4, "street"), order(60, "house"), order(10**6, "street", "house")):
        unique.check_distinct(sampler(model, possible), possible)


class Asked(Remote):
    """As a server would answer."""

    accepts = (Fields,)
    kernel_rows = 8
    chunk_rows = 1

    def __init__(self, layout: Layout) -> None:
        assert isinstance(layout, Fields)
        self.sizes = layout.sizes
        self.calls: list[int] = []

    def request(self, draws: Draws, given: Given | None) -> list[Facts]:
        return [{"seed": int(word)} for word in draws.words("seed")]

    def send(self, request: Facts) -> Facts:
        self.calls.append(request["seed"])
        return {"codes": [(request["seed"] >> 8 * at) % size for at, size in enumerate(self.sizes)]}

    def parse(self, replies: list[Facts]) -> Batch:
        return Batch({"codes": np.array([reply["codes"] for reply in replies], np.int32)})

    def state(self) -> tuple[Arrays, Facts]:
        return {}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None: ...


def test_of_a_server_nothing_is_asked_ahead_and_nothing_twice(model: Model) -> None:
    layout = model.codec.layout
    server, asked = Asked(layout), replace(order(50, "house"), rules=())
    found = table(made(replace(model, generator=server), asked))
    assert len(set(found["house"].to_pylist())) == 50
    lowest = Asked(layout)
    expected = naive(replace(model, generator=lowest), asked)
    assert found.to_pylist() == expected
    assert sorted(server.calls) == sorted(lowest.calls)


# What is asked


def test_columns_are_named_or_all_that_are_learnt_but_ids() -> None:
    assert columns_of(None, SCHEMA) == ()
    assert columns_of(True, SCHEMA) == ("grade", "said", "turns")
    assert columns_of(("said", "late", "said"), SCHEMA) == ("late", "said")


@pytest.mark.parametrize("asked", [[], "said", False, [1]])
def test_a_recipe_names_columns_or_says_true(asked: Any) -> None:
    assert parse_recipe({"source": "a.csv", "generate": {"unique": ["said"]}}).generate.unique == ("said",)
    with pytest.raises(RecipeError, match=r"^generate.unique: must be a list of one or more columns, or true: all of them \(got"):
        parse_recipe({"source": "a.csv", "generate": {"unique": asked}})


def test_an_unknown_column_is_refused_before_anything_is_made() -> None:
    recipe = parse_recipe({"source": "a.csv", "generate": {"unique": ["siad"]}, "generator": {"use": "language_model"}})
    with pytest.raises(RecipeError, match=r"generate.unique: no column 'siad'. Did you mean 'said'\?"):
        check_columns(recipe, SCHEMA)


def test_an_order_without_the_key_is_what_it_was() -> None:
    asked = order(10)
    assert "unique" not in asked.facts() and "unique" not in asked.plan(3).facts
    assert folder_id(order(10, "a").facts()) != folder_id(asked.facts()) != folder_id(order(10, "b").facts())
