"""A condition that deals shares → cases: plain conditions, of which every row has one, by its number alone.

`where: {income: {shares: {low: 1, high: 1}}, sex: {shares: as_is}}` has four cases. The columns that have shares are dealt one by one, so
that none of them says anything of another: classes in balance, or a target in parity over a group.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import pc
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Given
from raysynth.models import Model
from raysynth.schema import Schema
from raysynth.where import Condition, Shares, Values, Where

PROBE_ROWS = 1 << 16
"""Of the model, by which shares that no recipe lists are settled: within half a percent."""
MOST_CASES = 256


@dataclass(frozen=True)
class Case:
    """`share` of all rows meet `where`, which is `given` in the layout's terms. `told`: what it has that others have not."""

    where: Where
    given: Given | None
    share: float
    told: str = ""


def cases_of(where: Where, model: Model) -> list[Case]:
    """At least one. RecipeError on a value that no train row has, on too many cases, and where there are no shares to be had."""
    settled = _settled(_shares_of(where), model)
    dealt = [[(name, *one) for one in _each(condition)] for name, condition in settled.items()]
    _check_number(list(map(len, dealt)))
    learnt = model.schema.learnt
    for name, condition in settled.items():  # those without a share too: a mistyped value is told
        model.codec.condition({name: condition} if name in learnt else {})
    plain = {name: condition for name, condition in where.items() if name not in settled}
    cases: list[Case] = []
    for met in product(*dealt):
        own = {**plain, **{name: condition for name, condition, _ in met}}
        given = model.codec.condition({name: condition for name, condition in own.items() if name in learnt})
        told = ", ".join(f"{name}: {_value(condition)}" for name, condition, _ in met)
        cases.append(Case(own, given, prod(share for *_, share in met), told))
    return cases


def check_shares(where: Where, schema: Schema, *, table: bool) -> None:
    """What the columns alone tell, before anything is learnt. `table`: the rows are nothing but a table."""
    for name, condition in _shares_of(where).items():
        if condition.named and (not table or name not in schema.learnt or schema[name].kind == "id"):
            raise RecipeError(_no_name(name, condition))
    _check_number([len(condition.shares) for condition in _shares_of(where).values() if not condition.named])


def _shares_of(where: Where) -> dict[str, Shares]:
    """By name, so that their order in a recipe decides nothing: a plan, as all JSON that is stored, has another."""
    return {name: condition for name, condition in sorted(where.items()) if isinstance(condition, Shares)}


def _check_number(lengths: list[int]) -> None:
    if prod(lengths) > MOST_CASES:
        raise RecipeError(
            f"where: {' × '.join(map(str, lengths))} values with shares, and {MOST_CASES} may meet. List fewer of them"
        )


def _no_name(name: str, condition: Shares) -> str:
    return (
        f"where.{name}: shares: {condition.named} is for columns that are learnt and no ids, of rows that are nothing but a table. "
        "List the values: {shares: {a: 1, b: 1}}"
    )


def case_of(cases: list[Case], draws: Draws) -> NDArray[np.int64]:
    """(rows,) which case each row has, in all its attempts."""
    if len(cases) == 1:
        return np.zeros(len(draws), np.int64)
    edges = np.cumsum([case.share for case in cases])
    return np.minimum(np.searchsorted(edges / edges[-1], draws.attempt(0).uniform("case"), side="right"), len(cases) - 1)


def _each(dealt: Shares) -> list[tuple[Condition, float]]:
    """Each value alone, in the order of their texts where a recipe lists them, and null, with its share; those without one are left out."""
    parts = zip(range(len(dealt.values)), dealt.shares, strict=False)  # the last share is null's, where there is one more
    alone = [(Values(dealt.values.slice(at, 1), asked=dealt.asked[at : at + 1]), share) for at, share in parts]
    if dealt.asked:
        alone.sort(key=lambda one: str(one[0].asked[0]))
    nulls = [(Values(dealt.values.slice(0, 0), null=True), dealt.shares[-1])] if dealt.null else []
    whole = sum(dealt.shares)
    return [(one, share / whole) for one, share in [*alone, *nulls] if share > 0]


def _value(condition: Condition) -> str:
    """The one value of a case."""
    only = cast("Values", condition)
    return "null" if only.null else str(only.values[0].as_py())


def _settled(dealt: dict[str, Shares], model: Model) -> dict[str, Shares]:
    """With values and shares for those that only have a name."""
    named = [name for name, condition in dealt.items() if condition.named]
    if not named:
        return dealt
    for name in named:
        if name not in model.schema.learnt or not isinstance(model.codec, Tabular) or model.schema[name].kind == "id":
            raise RecipeError(_no_name(name, dealt[name]))
    rows = _probe(model, cast("Tabular", model.codec), named)
    return {name: _counted(name, condition, rows) if condition.named else condition for name, condition in dealt.items()}


def _probe(model: Model, codec: Tabular, names: list[str]) -> pa.Table:
    generator = model.generator
    found: list[pa.Table] = []
    for start in range(0, PROBE_ROWS, generator.kernel_rows):
        draws = Draws.range(0, "shares", start, start + generator.kernel_rows)
        made = codec.decode_learnt(generator.sample(draws, None), draws)
        found.append(pa.table({name: made[name] for name in names}))
    return pa.concat_tables(found).slice(0, PROBE_ROWS)


def _counted(name: str, dealt: Shares, rows: pa.Table) -> Shares:
    """equal: of all values but null; as_is: as often as the model draws them, null too."""
    counts = pc.value_counts(rows.column(name).combine_chunks())
    values, numbers = counts.field("values"), counts.field("counts").to_numpy(zero_copy_only=False).astype(float)
    known = np.asarray(values.is_valid())
    if known.sum() > MOST_CASES:
        raise RecipeError(
            f"where.{name}: shares: {dealt.named}: it has {known.sum():,} values or more, and {MOST_CASES} may meet. List some of them"
        )
    if not known.any() and dealt.named == "equal":
        raise RecipeError(f"where.{name}: shares: equal: the model draws no value of it but null. Leave it out")
    kept = values.filter(pa.array(known))
    null = bool((~known).any()) and dealt.named == "as_is"
    shares = np.ones(len(kept)) if dealt.named == "equal" else numbers[known]
    told = [*shares.tolist(), *(numbers[~known].tolist() if null else [])]
    return replace(dealt, values=kept, null=null, asked=(), shares=tuple(told), named="")
