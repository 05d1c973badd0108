"""A recipe that leaves the generator open, on a real Ray: trials, a choice that is kept, and a model of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from raysynth.pipeline import run_to
from raysynth.recipe import Recipe
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run
from raysynth.stages import choose


def asked(tmp_path: Path, **more: Any) -> Recipe:
    generate = {"rows": 300, "rows_per_part": 100}
    told: dict[str, Any] = {"source": "examples://breast-cancer", "run": str(tmp_path), "generator": "auto", "generate": generate}
    return parse_recipe({**told, "evaluate": None, **more})


def choice(tmp_path: Path) -> dict[str, Any]:
    folder = Run(str(tmp_path)).current("chosen")
    assert folder is not None
    return json.loads(folder.read(choose.CHOICE))


@pytest.mark.slow
def test_a_choice_says_what_it_tried_is_made_once_and_is_what_is_trained(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_to(asked(tmp_path), "generate")
    told = choice(tmp_path)
    assert len(told["tried"]) == 6, "of so few rows there is one round"
    assert told["why"].startswith("best of its trials by fidelity, then privacy")
    model = Run(str(tmp_path)).current("model")
    assert model is not None
    part = json.loads(model.read("model.json"))["parts"]["generator"]
    assert {name: part[name] for name in told["generator"]} == told["generator"]
    monkeypatch.setattr(choose, "trial", None)  # nobody tries again
    run_to(asked(tmp_path, generate={"rows": 400, "rows_per_part": 100}), "generate")
    assert choice(tmp_path) == told
    synthetic = Run(str(tmp_path)).current("synthetic")
    assert synthetic is not None and sum(synthetic.manifest()["rows"].to_pylist()) == 400
