"""Gates: expressions over scores, such as `exact_copies <= holdout.exact_copies + 0.001`; publishing asks whether each holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from raysynth.errors import RecipeError
from raysynth.expressions import Expression
from raysynth.parts import available, find, nearest

CEILING = "holdout."
"""Before the name of a score: its ceiling, the same score of hold-out rows."""


@dataclass(frozen=True)
class Gate:
    """`holds` is False too where a score that it reads could not be had, or the whole is null (a division by 0): only of rows, a null
    makes a rule pass. `values`: the scores that it reads."""

    text: str
    holds: bool
    values: Mapping[str, float | None]


def score_names() -> list[str]:
    """Every score that a gate may read, ceilings aside."""
    return [name for metric in available("metrics") for name in find("metrics", metric).names]


def check_gate(text: str, key: str) -> None:
    """RecipeError if it cannot be read, names a score that there is none of, or is no condition."""
    gate, known = Expression.parse(text, key), score_names()
    for name in sorted(gate.columns):
        if (plain := name.removeprefix(CEILING)) not in known:
            raise RecipeError(f"{key}: no score '{name}' (got {text!r}).{nearest(plain, known)} Scores: {', '.join(known)}")
    if not gate.columns:
        raise RecipeError(f"{key}: reads no score, so that it says nothing of the rows (got {text!r}). Scores: {', '.join(known)}")
    gate.holds(_table(dict.fromkeys(gate.columns, 0.0)))


def judge(texts: Sequence[str], scores: Sequence[Mapping[str, Any]]) -> list[Gate]:
    """Scores (as scores.json has them) → each gate with its verdict, in the gates' order."""
    values: dict[str, float | None] = {}
    for score in scores:
        values[score["name"]] = score["value"]
        values[f"{CEILING}{score['name']}"] = score["ceiling"]
    return [_judged(Expression.parse(text, f"evaluate.gates.{number}"), values) for number, text in enumerate(texts)]


def _judged(gate: Expression, values: Mapping[str, float | None]) -> Gate:
    read = {name: values.get(name) for name in sorted(gate.columns)}
    holds = None not in read.values() and gate.evaluate(_table(read)).to_pylist() == [True]
    return Gate(gate.text, holds, read)


def _table(values: Mapping[str, float | None]) -> pa.Table:
    return pa.table({name: pa.array([value], pa.float64()) for name, value in values.items()} or {"none": [0]})
