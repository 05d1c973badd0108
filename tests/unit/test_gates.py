"""Gates read scores and their ceilings, and never pass where a score is missing."""

import pytest

from raysynth.errors import RecipeError
from raysynth.gates import check_gate, judge

SCORES = [{"name": "exact_copies", "value": 0.002, "ceiling": 0.0015}, {"name": "c2st_auc", "value": None, "ceiling": 0.5}]


@pytest.mark.parametrize(
    ("gate", "holds"),
    [
        ("exact_copies <= holdout.exact_copies + 0.001", True),
        ("exact_copies <= holdout.exact_copies", False),
        ("c2st_auc <= 0.7", False),
        ("exact_copies < 1 and c2st_auc < 1", False),
        ("exact_copies < 1 or c2st_auc < 1", False),
        ("exact_copies / (exact_copies - exact_copies) <= 2", False),
    ],
)
def test_a_gate_holds_or_not_and_a_score_that_is_missing_passes_none(gate: str, holds: bool) -> None:
    [judged] = judge([gate], SCORES)
    assert judged.holds is holds
    assert set(judged.values) <= {"exact_copies", "holdout.exact_copies", "c2st_auc"}


@pytest.mark.parametrize(
    "gate", ["True", "None", "1 < 2", "wrong < 1", "holdout.wrong < 1", "exact_copies + 1", "train.exact_copies < 1"]
)
def test_a_gate_that_cannot_be_judged_is_refused_when_the_recipe_loads(gate: str) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.gates\.0: "):
        check_gate(gate, "evaluate.gates.0")
