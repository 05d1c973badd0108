"""What only a GPU can show: a training in bfloat16 by NCCL, rows drawn there, and that they follow the distribution of the CPU's.

`pytest -m gpu`, on a machine with one; elsewhere each test is skipped by name.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from raysynth.cluster.session import runtime_env, session
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, read_rows
from raysynth.stages.train import train_facts

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="GPU path untested: this machine has no GPU that torch can use"),
]

ROWS = 20_000
RECIPE: dict[str, Any] = {
    "name": "cancer",
    "source": "examples://breast-cancer",
    "evaluate": None,
    "train": {"max_epochs": 20, "use_gpu": True},
    "generate": {"rows": ROWS, "rows_per_part": 5000, "workers": 1, "use_gpu": True},
}
MARGINAL_TOLERANCE = 0.03
"""Of each column's distribution function between two draws of 20,000 rows: the noise of sampling alone is some 0.016 at the 99 % of
Kolmogorov and Smirnov, and each of 30 columns has its own."""


@pytest.fixture(scope="module")
def a_gpu() -> Iterator[None]:
    import ray

    with tempfile.TemporaryDirectory(prefix="rg", dir="/tmp") as short:
        ray.init(
            address="local",
            num_cpus=4,
            num_gpus=1,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _temp_dir=short,
            runtime_env=runtime_env(local=True),
        )
        with session():
            yield
        ray.shutdown()


@pytest.fixture(scope="module")
def made(a_gpu: None, tmp_path_factory: pytest.TempPathFactory) -> Made:
    return run_to(parse_recipe(RECIPE | {"run": str(tmp_path_factory.mktemp("gpu") / "gpu")}), "generate")


def test_a_gpu_trains_in_bfloat16_by_nccl(made: Made) -> None:
    assert made.model is not None
    facts = json.loads(made.model.read("model.json"))
    assert facts["facts"]["device"] == "cuda" and facts["facts"]["precision"] == "bfloat16", "auto is settled, and in the id"
    assert facts["report"]["epochs"] >= 1 and facts["report"]["reproducible"] is True


def test_the_gpu_is_given_back(made: Made) -> None:
    import ray

    assert ray.available_resources().get("GPU", 0.0) == ray.cluster_resources()["GPU"] == 1.0


def test_rows_of_the_gpu_follow_the_distribution_of_the_cpus(made: Made) -> None:
    """One model, drawn on both."""
    assert made.model is not None and made.synthetic is not None and made.prepared is not None
    url = made.model.url.rsplit("/", 2)[0]
    generate = RECIPE["generate"] | {"use_gpu": False}
    there = rows_of(made.synthetic)
    again = run_to(parse_recipe(RECIPE | {"run": url, "generate": generate}), "generate")
    assert again.model is not None and again.synthetic is not None
    assert again.model.id == made.model.id and again.synthetic.id != made.synthetic.id
    assert worst_marginal(there, rows_of(again.synthetic)) < MARGINAL_TOLERANCE


def test_a_model_of_the_gpu_is_as_good_as_one_of_the_cpu(made: Made, tmp_path: Path) -> None:
    """Another training, in float32: it follows the same rows within some times the noise of sampling."""
    assert made.synthetic is not None
    cpu = {"train": RECIPE["train"] | {"use_gpu": False}, "generate": RECIPE["generate"] | {"use_gpu": False}}
    other = run_to(parse_recipe(RECIPE | cpu | {"run": str(tmp_path / "cpu")}), "generate")
    assert other.synthetic is not None and other.prepared is not None
    assert train_facts(parse_recipe(RECIPE | cpu), other.prepared)["device"] == "cpu"
    assert worst_marginal(rows_of(made.synthetic), rows_of(other.synthetic)) < 3 * MARGINAL_TOLERANCE


def rows_of(folder: Folder) -> pa.Table:
    return pa.concat_tables([read_rows(url) for url in folder.part_urls()])


def worst_marginal(one: pa.Table, two: pa.Table) -> float:
    """The greatest distance between the two distribution functions of any numeric column."""
    worst = 0.0
    for name in one.column_names:
        if pa.types.is_integer(one.schema.field(name).type) or pa.types.is_floating(one.schema.field(name).type):
            first, second = (np.sort(table[name].drop_null().to_numpy().astype(float)) for table in (one, two))
            places = np.concatenate([first, second])
            distance = np.abs(
                np.searchsorted(first, places, side="right") / len(first)
                - np.searchsorted(second, places, side="right") / len(second)
            )
            worst = max(worst, float(distance.max()))
    return worst
