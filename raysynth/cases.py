"""A condition that deals shares → cases: plain conditions, of which every row has one, by its number alone.

`where: {income: {shares: {low: 1, high: 1}}, sex: {shares: as_is}}` has four cases. The columns that have shares are dealt one by one, so
that none of them says anything of another: classes in balance, or a target in parity over a group.
"""

from dataclasses import dataclass, replace
from itertools import product
from math import prod

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import pc
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Fields, Given
from raysynth.models import Model
from raysynth.where import Condition, Shares, Values, Where

PROBE_ROWS = 1 << 16
"""Of the model, by which shares that no recipe lists are settled: within half a percent."""
MOST_CASES = 256


@dataclass(frozen=True)
class Case:
    """`share` of all rows meet `where`, which is `given` in the layout's terms."""

    where: Where
    given: Given | None
    share: float


def cases_of(where: Where, model: Model) -> list[Case]:
    """At least one. RecipeError on a value that no train row has, on too many cases, and where there are no shares to be had."""
    settled = _settled({name: condition for name, condition in where.items() if isinstance(condition, Shares)}, model)
    dealt = [[(name, *one) for one in _each(condition)] for name, condition in settled.items()]
    if prod(map(len, dealt)) > MOST_CASES:
        raise RecipeError(
            f"where: {' × '.join(str(len(one)) for one in dealt)} values with shares, and {MOST_CASES} may meet. List fewer of them"
        )
    plain = {name: condition for name, condition in where.items() if name not in settled}
    learnt = model.schema.learnt
    cases: list[Case] = []
    for met in product(*dealt):
        own = {**plain, **{name: condition for name, condition, _ in met}}
        given = model.codec.condition({name: condition for name, condition in own.items() if name in learnt})
        cases.append(Case(own, given, prod(share for *_, share in met)))
    return cases


def case_of(cases: list[Case], draws: Draws) -> NDArray[np.int64]:
    """(rows,) which case each row has, in all its attempts."""
    if len(cases) == 1:
        return np.zeros(len(draws), np.int64)
    edges = np.cumsum([case.share for case in cases])
    return np.minimum(np.searchsorted(edges / edges[-1], draws.attempt(0).uniform("case"), side="right"), len(cases) - 1)


def _each(dealt: Shares) -> list[tuple[Condition, float]]:
    """Each value alone, and null, with its share; those without one are left out."""
    alone = [Values(dealt.values.slice(place, 1), asked=dealt.asked[place : place + 1]) for place in range(len(dealt.values))]
    nulls = [Values(dealt.values.slice(0, 0), null=True)] if dealt.null else []
    whole = sum(dealt.shares)
    return [(one, share / whole) for one, share in zip([*alone, *nulls], dealt.shares, strict=True) if share > 0]


def _settled(dealt: dict[str, Shares], model: Model) -> dict[str, Shares]:
    """With values and shares for those that only have a name."""
    named = [name for name, condition in dealt.items() if condition.named]
    if not named:
        return dealt
    for name in named:
        if name not in model.schema.learnt or not isinstance(model.codec.layout, Fields):
            raise RecipeError(
                f"where.{name}: shares: {dealt[name].named} is for columns that are learnt, of rows that are nothing but a table. "
                "List the values: {shares: {a: 1, b: 1}}"
            )
    rows = _probe(model).select(named)
    return {name: _counted(name, condition, rows) if condition.named else condition for name, condition in dealt.items()}


def _probe(model: Model) -> pa.Table:
    generator = model.generator
    found: list[pa.Table] = []
    for start in range(0, PROBE_ROWS, generator.kernel_rows):
        draws = Draws.range(0, "shares", start, start + generator.kernel_rows)
        found.append(model.codec.decode(generator.sample(draws, None), draws))
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
    order = np.argsort(np.array([str(value) for value in values.filter(pa.array(known)).to_pylist()], dtype=object), kind="stable")
    kept = values.filter(pa.array(known)).take(pa.array(order))
    null = bool((~known).any()) and dealt.named == "as_is"
    shares = np.ones(len(kept)) if dealt.named == "equal" else numbers[known][order]
    told = [*shares.tolist(), *(numbers[~known].tolist() if null else [])]
    return replace(dealt, values=kept, null=null, asked=tuple(kept.to_pylist()), shares=tuple(told), named="")
