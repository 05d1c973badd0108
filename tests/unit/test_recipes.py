"""The recipes that come along: each loads as it stands, with the options of all its parts."""

from pathlib import Path

import pytest

from raysynth.recipe_files import load_recipe

RECIPES = Path(__file__).parents[2] / "jobs/recipes"


@pytest.mark.parametrize("path", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_it_loads(path: Path) -> None:
    assert load_recipe(path).name == path.stem
