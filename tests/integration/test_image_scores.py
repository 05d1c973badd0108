"""Rows with pictures through evaluate on a real Ray: scores of any number of workers are the same, and the report shows the pictures."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from pictures_of import law

from raysynth.errors import GateError
from raysynth.pipeline import run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run

RECIPE = """
name: shapes
seed: 3
source: {{use: parquet, url: "{folder}/*.parquet"}}
run: {folder}/run
codec: {{use: image, size: [16, 16]}}
generator: {{use: vae, width: 8}}
train: {{max_epochs: 1}}
generate: {{rows: 120, rows_per_part: 50, workers: 2}}
mix: {{}}
evaluate:
  target: shape
  sample_rows: 100
  gates: ["image_memorised <= holdout.image_memorised + 0.01", "image_coverage > 0.9"]
"""


def evaluated(folder: Path, *overrides: str) -> tuple[dict[str, Any], str, str]:
    """Scores by name, the report, and the folder's id."""
    with pytest.raises(GateError, match=r"image_coverage > 0\.9"):
        run_to(load_recipe(folder / "recipe.yaml", overrides))
    evaluation = Run(str(folder / "run")).current("evaluation")
    assert evaluation is not None
    scores = {score["name"]: score for score in evaluation.read_json("scores.json")["scores"]}
    return scores, evaluation.read("report.html").decode(), evaluation.id


@pytest.fixture(scope="module")
def first(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], str, str]:
    """Its folder, and what `evaluated` says of it."""
    folder = tmp_path_factory.mktemp("shapes")
    rows = law(240, 1, side=80, encoding="jpeg").drop_columns(["height", "width"])
    for number in range(3):
        pq.write_table(rows.slice(80 * number, 80), folder / f"{number}.parquet")
    (folder / "recipe.yaml").write_text(RECIPE.format(folder=folder))
    return folder, *evaluated(folder)


def test_pictures_are_scored_shown_and_gated(first: tuple[Path, dict[str, Any], str, str]) -> None:
    _, scores, page, _ = first
    for name in ("image_frechet", "image_diversity", "image_utility_synthetic", "image_utility_mix", "image_label_fidelity"):
        assert scores[name]["value"] is not None, scores[name]
    assert scores["image_memorised"]["value"] == 0.0 and scores["image_copies"]["value"] == 0.0
    assert scores["image_coverage"]["value"] < 0.5 < scores["image_coverage"]["ceiling"], "an epoch is not enough"
    assert scores["image_utility_real"]["facts"]["rows"] <= 100
    assert "<p>synthetic</p>" in page and "<p>real</p>" not in page and "image_coverage &gt; 0.9" in page


@pytest.mark.slow
def test_real_pictures_are_shown_where_asked_for_and_scores_are_anybody_s(first: tuple[Path, dict[str, Any], str, str]) -> None:
    folder, scores, _, id_ = first
    again, shown, other = evaluated(folder, "evaluate.real_pictures=true", "generate.workers=1")
    assert other != id_ and "<p>real</p>" in shown and "<p>nearest real</p>" in shown
    assert again == scores, "whoever scores them, and however many"
