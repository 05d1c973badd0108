"""Trees, which are fitted by tasks, through prepare, train and the Sampler on a real Ray: however many workers, one model."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from raysynth.audit import verify
from raysynth.models import load_model
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run
from raysynth.sampler import Sampler

RECIPE = """
evaluate: null
name: {name}
source: examples://wine
run: {run}
generator: {{use: trees}}
generate: {{rows: 100, workers: {workers}}}
"""


def trained(folder: Path, workers: int) -> Made:
    folder.mkdir()
    path = folder / "recipe.yaml"
    path.write_text(RECIPE.format(name=folder.name, run=folder / "run", workers=workers))
    return run_to(load_recipe(path), "train")


def test_a_fitted_generator_is_trained_committed_loaded_and_sampled(cluster: None, tmp_path: Path) -> None:
    one, two = trained(tmp_path / "one", 1), trained(tmp_path / "two", 2)
    assert one.model is not None and two.model is not None and one.prepared is not None
    assert one.model.id == two.model.id
    model = load_model(one.model)
    assert model.digest == load_model(two.model).digest, "neither the number of workers nor the recipe's name may show in the model"
    assert verify(Run(str(tmp_path / "one" / "run"))).whole
    sampler = Sampler(model, seed=7, where={"alcohol": {"min": 12}}, rules=("hue < 1.2",))
    rows = sampler.range(0, 3000)
    assert rows.slice(1000, 5).equals(sampler.range(1000, 1005))
    assert min(rows["alcohol"].to_pylist()) >= 12 and max(rows["hue"].to_pylist()) < 1.2
    free = Sampler(model, seed=7).range(0, 5000)["alcohol"].to_numpy()
    real = np.concatenate(
        [pq.read_table(url.removeprefix("file://"))["alcohol"].to_numpy() for url in one.prepared.part_urls("train")]
    )
    assert abs(free.mean() - real.mean()) < 4 * real.std() / 5000**0.5 + 0.02  # four standard errors, and the codec's rounding
