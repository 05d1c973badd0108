"""Trees: conditions that few rows meet, columns of many categories, options out of bounds."""

import numpy as np
import pytest

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators.trees import Trees
from raysynth.layout import Batch, Field, Fields, FieldsGiven
from raysynth.recipe_files import parse_recipe


def fitted(codes: dict[str, tuple[int, list[int]]], **options: int) -> Trees:
    """Column → its size and its codes."""
    layout = Fields(tuple(Field(name, name, size) for name, (size, _) in codes.items()))
    trees = Trees(layout, **options)
    rows = Batch({"codes": np.array([column for _, column in codes.values()], np.int32).T})
    trees.merge([trees.fit(task, [rows]) for task in trees.tasks()])
    return trees


def test_a_rare_range_of_a_late_column_leaves_the_earlier_ones_as_a_filter_does() -> None:
    """1 % of the rows meet it, half of which one code of the column before tells surely: the others are a hundred times less likely."""
    noise = np.random.default_rng(1)
    early = noise.random(8000) < 0.006
    rare = early | (noise.random(8000) < 0.004)
    late = np.where(rare, noise.integers(58, 60, 8000), noise.integers(0, 58, 8000))
    trees, mask = fitted({"early": (2, early.astype(int).tolist()), "late": (60, late.tolist())}), np.arange(60) >= 58
    starts = range(0, 10 * trees.kernel_rows, trees.kernel_rows)
    draws = [Draws.range(3, "generate", start, start + trees.kernel_rows) for start in starts]
    free = np.concatenate([trees.sample(some, None)["codes"] for some in draws])
    asked = [trees.sample(some, FieldsGiven({1: mask})) for some in draws]
    given = np.concatenate([made["codes"][made.accepted] for made in asked if made.accepted is not None])
    kept = free[mask[free[:, 1]]]
    assert len(kept) > 1000 and len(given) > 1000 and mask[given[:, 1]].all()
    assert abs(kept[:, 0].mean() - given[:, 0].mean()) < 0.06  # some 1,500 rows of each: the error of the difference is 0.018


def test_a_column_of_mostly_different_categories_is_learnt_without_a_warning() -> None:
    """Warnings are errors here. Halves of 200 rows, of some 90 categories each."""
    words = np.random.default_rng(1).permutation(np.arange(200) % 190)
    trees = fitted({"kind": (2, [0, 1] * 100), "word": (190, words.tolist())})
    assert trees.sample(Draws.range(1, "generate", 0, 50), None)["codes"].shape == (50, 2)


@pytest.mark.parametrize(("option", "most"), [("trees", 1000), ("leaf", 1_000_000), ("shrink", 1_000_000)])
def test_options_that_no_table_asks_for_are_refused_at_load(option: str, most: int) -> None:
    parse_recipe({"source": "a.csv", "generator": {"use": "trees", option: most}})
    with pytest.raises(RecipeError, match=rf"generator\.{option}: must be less than or equal to {most} \(got {most + 1}\)"):
        parse_recipe({"source": "a.csv", "generator": {"use": "trees", option: most + 1}})
