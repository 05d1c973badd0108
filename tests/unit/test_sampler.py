"""Rows by number: row i is its own first attempt that holds, whoever asks; conditions are met by every row, and exactly."""

import datetime as dt
import json
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import chi2_contingency, ks_2samp

from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError, RuleError
from raysynth.expressions import Expression
from raysynth.generators.autoregressive import Autoregressive
from raysynth.markers import canonical
from raysynth.models import Model
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.training import fit, initialise
from raysynth.where import satisfied

SEED = 11
ROWS = 300
RULES = ("price < 40 or grade != 'b'", "stock % 2 == 0")
WHERES: dict[str, dict[str, Any]] = {
    "a set of categories": {"grade": ["a", "c"]},
    "null": {"grade": None},
    "a range of numbers": {"price": {"min": 10, "under": 25}},
    "an integer": {"stock": 6},
    "a range of integers of a few": {"stock": {"over": 3, "max": 9}},
    "a range of many integers": {"meters": {"min": 2000, "max": 4000}},
    "a range of dates": {"day": {"min": "2024-02-01", "max": "2024-03-15"}},
    "a boolean": {"sold": True},
    "a derived column": {"dear": True},
    "three together": {"grade": ["a", "c"], "price": {"min": 8}, "day": {"max": "2024-06-30"}},
    "three others": {"sold": False, "meters": {"under": 4000}, "stock": [4, 5, 6, 7, 8]},
}


def train_rows(rows: int = 3000) -> pa.Table:
    noise = np.random.default_rng(0)
    grade = noise.choice(4, rows, p=[0.4, 0.3, 0.2, 0.1])
    price = np.round(noise.lognormal(2 + 0.4 * grade, 0.5), 2)
    days = noise.integers(0, 366, rows) // (1 + grade)
    return pa.table(
        {
            "grade": pa.array([("a", "b", "c", None)[code] for code in grade], pa.string()),
            "price": price,
            "stock": noise.poisson(6, rows),
            "meters": noise.integers(0, 6000, rows) + 100 * grade,
            "day": pa.array([dt.date(2024, 1, 1) + dt.timedelta(int(day)) for day in days], pa.date32()),
            "sold": price < 12,
            FILE: ["a.csv"] * rows,
            ROW: range(rows),
        }
    )


@pytest.fixture(scope="module")
def model() -> Model:
    rows = train_rows()
    schema = Schema(
        (
            Column("grade", "category", pa.string()),
            Column("price", "number", pa.float64()),
            Column("stock", "integer", pa.int64()),
            Column("meters", "integer", pa.int64()),
            Column("day", "date", pa.date32()),
            Column("sold", "boolean", pa.bool_()),
            Column("dear", "boolean", pa.bool_(), derived=True),
        )
    )
    codec = Tabular(schema.learnt, seed=SEED)
    layout = codec.settle(codec.observe(rows))
    generator = initialise(lambda: Autoregressive(layout, hidden=16, embedding=8), SEED)
    assert isinstance(generator, Autoregressive)
    batch = codec.encode(rows)
    fit(generator, batch, batch.take(slice(0, 500)), seed=SEED, max_epochs=8, batch_rows=250, learning_rate=5e-3)
    generator.kernel_rows = 1024  # two chunks: calls of one and of two must give the same rows
    return Model(schema, {"dear": "price > 20"}, codec, generator, "", {})


def numbers(*rows: int) -> NDArray[np.uint64]:
    return np.array(rows, dtype=np.uint64)


def naive(model: Model, row: int, rules: tuple[str, ...], where: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """The definition, one kernel call per attempt: the first attempt of this row that holds, and its number."""
    sampler = Sampler(model, seed=SEED, where=where)
    for attempt in range(1000):
        draws = Draws.of(SEED, "generate", numbers(row)).attempt(attempt)
        filled = draws.take(np.zeros(model.generator.kernel_rows, dtype=np.int64))
        batch = model.generator.sample(filled, sampler.cases[0].given)
        table = model.codec.decode(batch, filled).slice(0, 1)
        table = table.append_column("dear", pc.greater(table["price"], 20.0))
        held = satisfied(sampler.cases[0].where, table) & (batch.accepted is None or batch.accepted[0])
        if held[0] and all(Expression.parse(rule, "rules").holds(table)[0] for rule in rules):
            return table.to_pylist()[0], attempt
    raise AssertionError(f"row {row}: 1000 attempts")


@pytest.mark.parametrize("name", ["three others", "a range of dates", "a derived column"])
def test_a_row_is_its_first_attempt_that_holds(model: Model, name: str) -> None:
    where = WHERES[name]
    sampler = Sampler(model, seed=SEED, rules=RULES, where=where)
    together = sampler.range(0, ROWS).to_pylist()
    attempts: list[int] = []
    for row in (0, 1, 2, 3, 17, 299):
        expected, attempt = naive(model, row, RULES, where)
        attempts.append(attempt)
        assert together[row] == expected, f"row {row}, attempt {attempt}"
        assert sampler.range(row, row + 1).to_pylist() == [expected], f"row {row} alone, attempt {attempt}"
    assert len(set(attempts)) > 1, "one number of attempts for all rows proves nothing"


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(cuts=st.sets(st.integers(1, ROWS - 1), max_size=4), where=st.sampled_from(["", "three together", "an integer"]))
def test_any_cut_gives_the_same_rows(model: Model, cuts: set[int], where: str) -> None:
    sampler = Sampler(model, seed=SEED, rules=RULES, where=WHERES.get(where))
    ends = [0, *sorted(cuts), ROWS]
    parts = [sampler.range(start, stop) for start, stop in pairwise(ends)]
    assert pa.concat_tables(parts).equals(sampler.range(0, ROWS))


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.integers(0, ROWS - 1), min_size=1, max_size=40), where=st.sampled_from(["", "a boolean", "three others"]))
def test_any_rows_in_any_order_are_the_same_rows(model: Model, rows: list[int], where: str) -> None:
    sampler = Sampler(model, seed=SEED, rules=RULES, where=WHERES.get(where))
    assert sampler.rows(numbers(*rows)).equals(sampler.range(0, ROWS).take(rows))


def test_more_rows_than_a_kernel_call_has_and_none_at_all(model: Model) -> None:
    sampler = Sampler(model, seed=SEED, rules=RULES)
    rows = 2 * model.generator.kernel_rows + 77
    backwards = np.arange(rows, dtype=np.uint64)[::-1]
    assert sampler.rows(backwards).equals(sampler.range(0, rows).take(np.arange(rows)[::-1]))
    assert sampler.range(5, 5).schema == model.schema.arrow
    assert sampler.range(5, 5).num_rows == 0


def test_far_row_numbers_are_rows_like_any(model: Model) -> None:
    sampler = Sampler(model, seed=SEED)
    far = numbers(2**62, 2**40, 0)
    assert sampler.rows(far).slice(1, 1).to_pylist() == sampler.range(2**40, 2**40 + 1).to_pylist()


@pytest.mark.parametrize("where", WHERES)
def test_every_row_meets_where_and_rules(model: Model, where: str) -> None:
    sampler = Sampler(model, seed=SEED, rules=RULES, where=WHERES[where])
    rows = sampler.range(0, ROWS)
    assert rows.num_rows == ROWS
    assert rows.schema == model.schema.arrow
    assert satisfied(sampler.cases[0].where, rows).all()
    for rule in RULES:
        assert Expression.parse(rule, "rules").holds(rows).all()


@pytest.mark.parametrize("name", ["a set of categories", "a range of numbers", "a range of dates", "three together", "a boolean"])
def test_conditioned_rows_are_distributed_as_the_filtered_ones(model: Model, name: str) -> None:
    """p > 0.0005 of each of 30 tests, whose seeds are fixed."""
    sampler = Sampler(model, seed=SEED + 1, where=WHERES[name])
    made, free = sampler.range(0, 3000), Sampler(model, seed=SEED).range(0, 12_000)
    wanted = free.filter(pa.array(satisfied(sampler.cases[0].where, free)))
    assert wanted.num_rows > 400
    for column in ("price", "meters", "day", "stock"):
        one, two = (np.asarray(rows[column].to_numpy()).astype("float64") for rows in (made, wanted))
        assert ks_2samp(one, two).pvalue > 0.0005, column
    for column in ("grade", "sold"):
        known = sorted({str(value) for value in (*made[column].to_pylist(), *wanted[column].to_pylist())})
        counts = [[sum(str(v) == value for v in rows[column].to_pylist()) for value in known] for rows in (made, wanted)]
        assert len(known) == 1 or chi2_contingency(counts).pvalue > 0.0005, column


def test_rejects_do_not_depend_on_how_rows_were_asked_for(model: Model) -> None:
    whole, cut = (Sampler(model, seed=SEED, rules=RULES, where=WHERES["three others"]) for _ in range(2))
    whole.range(0, 60)
    for start in range(0, 60, 15):
        cut.range(start, start + 15)
    assert whole.rejects == cut.rejects
    assert set(whole.rejects) == {"where", *(f"rule '{rule}'" for rule in RULES)}


def test_an_impossible_rule_is_named_and_never_gives_fewer_rows(model: Model) -> None:
    sampler = Sampler(model, seed=SEED, rules=("stock % 2 == 0", "grade != 'a' and grade != 'b'", "price < 0"), max_attempts=300)
    with pytest.raises(RuleError, match=r"in 300 attempts; most were turned down by rule 'price < 0'"):
        sampler.range(0, 50)


def test_a_condition_that_hardly_any_row_meets_is_not_blamed_on_rules_that_are_not_there(model: Model) -> None:
    never = {"dear": True, "price": {"under": 2}}
    with pytest.raises(RuleError, match=r"^generate\.where: of 10,000 probe rows 0\.00% hold.* by where\. Loosen that condition$"):
        Sampler(model, seed=SEED, where=never).check_acceptance()
    with pytest.raises(RuleError, match=r"^rules: of 10,000 .* Loosen the rules or generate\.where$"):
        Sampler(model, seed=SEED, where=never, rules=RULES).check_acceptance()


@pytest.mark.parametrize("limit", [1, 3, 8])
def test_no_batching_saves_a_row_beyond_its_attempts(model: Model, limit: int) -> None:
    """One call tries many attempts of a few rows: those beyond the limit must not count."""
    where = WHERES["three others"]
    sampler = Sampler(model, seed=SEED, rules=RULES, where=where, max_attempts=limit)
    needed = {row: naive(model, row, RULES, where)[1] + 1 for row in range(6)}
    assert max(needed.values()) > limit
    for row, attempts in needed.items():
        if attempts <= limit:
            assert sampler.range(row, row + 1).num_rows == 1
        else:
            with pytest.raises(RuleError, match=f"row {row}: no valid row in {limit} attempts"):
                sampler.range(row, row + 1)


@pytest.mark.parametrize("where", [{"grade": "z"}, {"grade": ["a", "z"]}, {"stock": 4000}, {"price": {"min": 1e9}}, {"sold": None}])
def test_a_value_never_seen_is_refused_at_once(model: Model, where: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=rf"where\.{next(iter(where))}"):
        Sampler(model, seed=SEED, where=where)


@pytest.mark.parametrize("rule", ["nosuch > 1", "price + 1", "price > 'a'"])
def test_a_rule_that_does_not_fit_the_schema_is_refused_at_once(model: Model, rule: str) -> None:
    with pytest.raises(RecipeError, match=r"rules\.1"):
        Sampler(model, seed=SEED, rules=("stock > 1", rule))


def test_acceptance_is_the_share_of_first_attempts_that_hold(model: Model) -> None:
    sampler = Sampler(model, seed=SEED, rules=RULES)
    free = Sampler(model, seed=SEED).range(0, 3000)
    held = np.all([Expression.parse(rule, "rules").holds(free) for rule in RULES], axis=0)
    assert sampler.acceptance(3000) == pytest.approx(held.mean())


def test_rows_of_several_seeds_share_a_call_and_are_what_each_is_alone(model: Model) -> None:
    sampler = Sampler(model, seed=3, rules=RULES)
    pieces = [(3, np.arange(5, 900, dtype=np.uint64)), (8, np.arange(0, 40, dtype=np.uint64)), (3, np.array([7], dtype=np.uint64))]
    together = sampler.pieces(pieces)
    alone = [Sampler(model, seed=seed, rules=RULES).rows(rows) for seed, rows in pieces]
    assert together.equals(pa.concat_tables(alone))


def test_what_is_called_between_kernels_can_end_the_work(model: Model) -> None:
    class GoneError(Exception):
        pass

    calls: list[int] = []

    def between() -> None:
        calls.append(1)
        if len(calls) > 2:
            raise GoneError

    with pytest.raises(GoneError):
        Sampler(model, seed=3).pieces([(3, np.arange(20 * model.generator.kernel_rows, dtype=np.uint64))], between=between)
    assert len(calls) == 3


DEALT: dict[str, Any] = {"grade": {"shares": {"a": 1, "b": 1, "c": 2}}, "sold": {"shares": "as_is"}}


def test_values_have_the_shares_asked_for_and_columns_with_shares_say_nothing_of_one_another(model: Model) -> None:
    plain, rows = (Sampler(model, seed=5, where=where).range(0, 6000) for where in ({}, DEALT))
    counts = {entry["values"]: entry["counts"] for entry in rows["grade"].value_counts().to_pylist()}
    assert max(abs(counts[name] / 6000 - share) for name, share in (("a", 0.25), ("b", 0.25), ("c", 0.5))) < 0.02
    sold = [pc.mean(table["sold"].cast(pa.int8())).as_py() for table in (plain, rows)]
    assert abs(sold[0] - sold[1]) < 0.03
    odds = [chi2_contingency(_counted(table)).pvalue for table in (plain, rows)]
    assert odds[0] < 1e-6 < 1e-3 < odds[1], "here one tells of the other, there it does not"


def _counted(rows: pa.Table) -> NDArray[np.int64]:
    """(3 grades, sold or not) rows."""
    return np.array(
        [
            [pc.sum(pc.and_(pc.equal(rows["grade"], name), pc.equal(rows["sold"], sold))).as_py() for sold in (True, False)]
            for name in "abc"
        ]
    )


def test_a_row_has_its_case_whoever_asks_and_each_case_its_own_law(model: Model) -> None:
    sampler = Sampler(model, seed=5, where=DEALT, rules=["stock % 2 == 0"])
    whole = sampler.range(0, 1500)
    assert sampler.range(700, 750).equals(whole.slice(700, 50)) and sampler.range(3, 4).equals(whole.slice(3, 1))
    assert all(stock % 2 == 0 for stock in whole["stock"].to_pylist())
    alone = Sampler(model, seed=6, where={"grade": "c", "sold": False}, rules=["stock % 2 == 0"]).range(0, 1500)
    mine = whole.filter(pc.and_(pc.equal(whole["grade"], "c"), pc.invert(whole["sold"])))
    assert mine.num_rows > 200
    for name in ("price", "meters", "stock"):
        assert ks_2samp(mine[name].to_numpy(), alone[name].to_numpy()).pvalue > 1e-3, name


def test_what_cases_cost_before_their_first_rows_is_in_steps_that_others_may_go_between(model: Model) -> None:
    sampler = Sampler(model, seed=5, where=DEALT)
    assert len(list(sampler.ready())) == len(sampler.cases) > 3
    assert not list(sampler.ready()), "once"
    assert len(list(sampler.steps([(5, np.arange(200, dtype=np.uint64))]))) >= len(sampler.cases) - 1
    assert sampler.range(0, 200).equals(Sampler(model, seed=5, where=DEALT).range(0, 200))


def test_one_case_that_no_row_meets_is_refused_by_its_name_however_small_its_share(model: Model) -> None:
    asked = {"sold": {"shares": {"true": 999, "false": 1}}, "grade": {"shares": {"a": 1, "b": 1}}}
    sampler = Sampler(model, seed=5, where=asked, rules=["sold"], max_attempts=50)
    with pytest.raises(RuleError, match=r"rules: of 4,000 probe rows with grade: a, sold: False 0\.00% hold"):
        sampler.check_acceptance()
    with pytest.raises(RuleError, match=r"row \d+ with grade: [ab], sold: False: no valid row in 50 attempts"):
        sampler.range(0, 3000)


def test_a_plan_s_json_has_the_same_rows(model: Model) -> None:
    """It sorts keys; what a server reads of a data set is that."""
    asked = {"sold": {"shares": {"true": 2, "false": 1}}, "grade": {"shares": {"c": 1, "b": 3, "a": 2}}}
    stored = json.loads(canonical(asked))
    assert list(stored) != list(asked)
    assert Sampler(model, seed=5, where=stored).range(0, 300).equals(Sampler(model, seed=5, where=asked).range(0, 300))


def test_shares_may_be_equal_and_null_is_a_value_only_as_it_is(model: Model) -> None:
    equal, as_is = (
        Sampler(model, seed=1, where={"grade": {"shares": named}}).range(0, 4000)["grade"] for named in ("equal", "as_is")
    )
    assert equal.null_count == 0 and {entry["values"] for entry in equal.value_counts().to_pylist()} == {"a", "b", "c"}
    assert all(abs(entry["counts"] / 4000 - 1 / 3) < 0.03 for entry in equal.value_counts().to_pylist())
    assert abs(as_is.null_count / 4000 - Sampler(model, seed=2).range(0, 4000)["grade"].null_count / 4000) < 0.03


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ({"grade": {"shares": {"a": 1, "z": 1}}}, "no train row has 'z'"),
        ({"grade": {"shares": {"a": 1, "z": 0}}}, "no train row has 'z'"),
        ({"grade": {"shares": {"a": 10**400}}}, "shares takes equal"),
        ({"grade": {"shares": "alike"}}, "shares takes equal, as_is, or each value"),
        ({"grade": {"shares": {"a": -1, "b": 2}}}, "shares takes equal"),
        ({"grade": {"shares": {"a": 0}}}, "shares takes equal"),
        ({"grade": {"shares": {"a": 1}, "min": 3}}, "and nothing beside it"),
        ({"stock": {"shares": {"1": 1, "01": 1}}}, "two of the values with shares are one"),
        ({"stock": {"shares": {"1.5": 1}}}, "no value of type int64"),
        ({"price": {"shares": "equal"}}, "List some of them"),
        ({"dear": {"shares": "equal"}}, "for columns that are learnt"),
        ({"stock": {"shares": "as_is"}, "day": {"shares": "equal"}}, "values"),
    ],
)
def test_shares_that_cannot_be_dealt_are_refused(model: Model, where: dict[str, Any], told: str) -> None:
    with pytest.raises(RecipeError, match=told):
        Sampler(model, seed=1, where=where)
