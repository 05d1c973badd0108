"""Rows with pictures through evaluate on a real Ray: scores of any number of workers are the same, and the report shows the pictures."""

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pictures_of import law
from ray import cloudpickle

import raysynth.generators
from raysynth.pipeline import run_to
from raysynth.recipe_files import load_recipe

RECIPE = """
name: shapes
seed: 3
source: {{use: parquet, url: {folder}/*.parquet}}
run: {folder}/run
generator: {{use: blots}}
train: {{max_epochs: 1}}
generate: {{rows: 120, rows_per_part: 50, workers: 2}}
mix: {{}}
evaluate:
  target: shape
  real_pictures: {real}
  sample_rows: 100
  gates: ["image_memorised <= holdout.image_memorised + 0.01", "image_coverage > 0.9"]
"""


@pytest.fixture
def shelf(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The fake stands on the shelf for this test; workers get its class by value, since they have no such file."""
    monkeypatch.setattr(raysynth.generators, "__path__", [*raysynth.generators.__path__, str(Path(__file__).parent / "fakes")])
    module = importlib.import_module("raysynth.generators.blots")
    cloudpickle.register_pickle_by_value(module)
    yield
    cloudpickle.unregister_pickle_by_value(module)
    del sys.modules[module.__name__]


def evaluated(folder: Path, real: bool, *sets: str) -> tuple[dict[str, Any], str, str]:
    """Scores by name, the report, and the folder's id."""
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(folder=folder, real=str(real).lower()))
    made = run_to(load_recipe(path, sets), "evaluate")
    assert made.evaluation is not None
    scores = {score["name"]: score for score in made.evaluation.read_json("scores.json")["scores"]}
    return scores, made.evaluation.read("report.html").decode(), made.evaluation.id


def test_pictures_are_scored_shown_and_gated(cluster: None, shelf: None, tmp_path: Path) -> None:
    rows = law(240, 1, side=80, encoding="jpeg").drop_columns(["height", "width"])
    for number in range(3):
        pq.write_table(rows.slice(80 * number, 80), tmp_path / f"{number}.parquet")
    scores, page, id_ = evaluated(tmp_path, real=False)
    for name in ("image_frechet", "image_diversity", "image_utility_synthetic", "image_utility_mix", "image_label_fidelity"):
        assert scores[name]["value"] is not None, scores[name]
    assert scores["image_memorised"]["value"] == 0.0 and scores["image_copies"]["value"] == 0.0
    assert scores["image_coverage"]["value"] < 0.5 < scores["image_coverage"]["ceiling"], "blots are no shapes"
    assert scores["image_utility_real"]["facts"]["rows"] <= 100
    assert "<p>synthetic</p>" in page and "<p>real</p>" not in page and "image_coverage &gt; 0.9" in page
    _, shown, other = evaluated(tmp_path, True, "generate.workers=1")
    assert other != id_ and "<p>real</p>" in shown and "<p>nearest real</p>" in shown
    assert json.dumps(scores) == json.dumps(evaluated(tmp_path, True)[0])
