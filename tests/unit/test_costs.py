"""Prices and the workers that a recipe asks for → how many nodes are paid for."""

import pytest

from raysynth.costs import hour_prices, nodes
from raysynth.recipe_files import parse_recipe


@pytest.mark.parametrize("stage", ["rows", "train"])
@pytest.mark.parametrize(
    ("use_gpu", "pool", "expected"),
    [
        (True, {"cpus": 8, "gpus": 1}, 4),
        (True, {"cpus": 8, "gpus": 3}, 2),
        (True, {"cpus": 8}, 4),
        ("auto", {"cpus": 8, "gpus": 1}, 4),
        ("auto", {"cpus": 8}, 1),
        (False, {"cpus": 8, "gpus": 1}, 1),
        (False, {"cpus": 3}, 2),
    ],
)
def test_workers_with_a_gpu_are_counted_by_the_gpus_of_a_node(
    stage: str, use_gpu: bool | str, pool: dict[str, int], expected: int
) -> None:
    asked = {"workers": 4, "use_gpu": use_gpu}
    recipe = parse_recipe(
        {
            "source": "rows.csv",
            "prices": {stage: {"node_hour": 1.5, **pool}},
            "generate" if stage == "rows" else "train": asked,
        }
    )
    assert nodes(recipe) == {stage: expected} and hour_prices(recipe) == {stage: 1.5 * expected}
