"""Trials of candidates → which of them is taken, and what a plan supposes before there are any."""

from typing import Any

import pytest

from raysynth.errors import RecipeError
from raysynth.generators.auto import Auto
from raysynth.recipe_files import parse_recipe
from raysynth.stages.choose import _finalists, assumed, is_open, ranked

ALL = ["fidelity", "utility", "privacy"]


def scores(c2st: float = 0.52, utility: float | None = 0.9, nearer: float = 0.505, copies: float = 0.0) -> dict[str, Any]:
    found = {"c2st_auc": c2st, "utility": utility, "nearer_to_train": nearer, "exact_copies": copies}
    return found | {"holdout_copies": 0.001, "cpu_seconds": 5.0}


@pytest.mark.parametrize(
    ("found", "wants", "order"),
    [
        ([scores(0.60), scores(0.52), scores(0.56)], ALL, [1, 2, 0]),
        ([scores(0.525, 0.90), scores(0.52, 0.85)], ALL, [0, 1]),  # as faithful but for noise, and more useful
        ([scores(0.525), scores(0.52)], ALL, [0, 1]),  # alike but for noise: the first candidate
        ([scores(0.51, nearer=0.55), scores(0.56)], ALL, [1, 0]),  # too near to train rows
        ([scores(0.51, copies=0.05), scores(0.56)], ALL, [1, 0]),
        ([scores(0.51, nearer=0.55), scores(0.56)], ["fidelity"], [0, 1]),  # nobody asks how near
        ([scores(0.51, nearer=0.55), scores(0.56, nearer=0.53)], ["privacy"], [1, 0]),  # none is safe: the safest
        ([scores(0.52, 0.8), scores(0.60, 0.9)], ["utility", "fidelity"], [1, 0]),
        ([scores(0.56, None), scores(0.52, None)], ALL, [1, 0]),
        ([scores(0.48), scores(0.5)], ["fidelity"], [0, 1]),  # below a half is chance
    ],
)
def test_the_first_want_decides_then_the_next_and_at_last_the_place(found: list[Any], wants: list[str], order: list[int]) -> None:
    assert ranked(found, wants) == order


def test_the_best_kind_goes_on_whole_and_of_each_other_kind_the_best() -> None:
    candidates = Auto().candidates()
    assert [one["use"] for one in candidates] == ["trees"] * 4 + ["autoregressive"] * 2
    assert _finalists(candidates, [2, 5, 0, 1, 3, 4]) == [*candidates[:4], candidates[5]]
    assert _finalists(candidates, [4, 5, 0, 1, 3, 2]) == [candidates[0], *candidates[4:]]


def test_a_plan_supposes_the_first_candidate() -> None:
    asked = parse_recipe({"source": "examples://wine", "generator": "auto"})
    assert is_open(asked) and not is_open(parse_recipe({"source": "examples://wine"}))
    first = Auto().candidates()[0]
    settled = assumed(asked).generator
    assert {"use": settled.use, **settled.options} == first and not is_open(assumed(asked))


@pytest.mark.parametrize("options", [{"wants": ["speed"]}, {"rows": 3}, {"leaf": 5}])
def test_options_are_checked_at_load(options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=rf"generator\.{next(iter(options))}"):
        parse_recipe({"source": "examples://wine", "generator": {"use": "auto", **options}})
