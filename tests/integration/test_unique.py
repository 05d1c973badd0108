"""generate.unique on a real Ray: the same bytes for 1 worker and 4, stopped at every task's edge, and begun anew from whatever is left."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from raysynth.audit import verify
from raysynth.cli import app
from raysynth.errors import RuleError, StoppedError
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Run, read_rows
from raysynth.serving.registry import Served, read_published

pytestmark = pytest.mark.usefixtures("cluster")
RECIPE: dict[str, Any] = {
    "name": "menu",
    "evaluate": None,
    "generator": {"use": "autoregressive", "hidden": 16},
    "train": {"max_epochs": 1},
    "rules": ["dish != 'tea'"],
}
ROWS = 300


def made(folder: Path, run: str, last: str = "generate", *, workers: int = 4, unique: Any = True, **keys: Any) -> Made:
    asked = {"rows": ROWS, "rows_per_part": 150, "unique": unique, "workers": workers}
    told = {"source": str(folder / "menu.parquet"), "run": str(folder / run), "generate": asked}
    return run_to(parse_recipe({**RECIPE, **told, **keys}), last)


def hashes(made: Made) -> list[str]:
    assert made.synthetic is not None
    return [str(name) for name in made.synthetic.manifest()["name"].to_pylist()]


def rows_of(folder: Folder) -> pa.Table:
    return pa.concat_tables([read_rows(url) for url in folder.part_urls()])


@pytest.fixture(scope="module")
def golden(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Made]:
    folder = tmp_path_factory.mktemp("unique")
    noise = np.random.default_rng(2)
    real = {"dish": [f"dish {n}" for n in noise.integers(0, 40, 400)], "mood": [f"mood {n}" for n in noise.integers(0, 25, 400)]}
    real["dish"][:8] = ["tea"] * 8
    pq.write_table(pa.table(real), folder / "menu.parquet")
    made(folder, "golden", "train")
    shutil.copytree(folder / "golden", folder / "stopped")
    return folder, made(folder, "golden", "publish")


def test_no_two_rows_are_the_same_and_that_is_told(golden: tuple[Path, Made]) -> None:
    folder, whole = golden
    assert whole.synthetic is not None
    rows, run = rows_of(whole.synthetic), str(folder / "golden")
    assert rows.num_rows == rows.group_by(["dish", "mood"]).aggregate([]).num_rows == ROWS
    assert "tea" not in rows["dish"].to_pylist()
    assert verify(Run(run)).whole and not verify(Run(run)).foreign
    unique = whole.synthetic.plan().facts["unique"]
    assert unique["columns"] == ["dish", "mood"] and unique["drawn_again"] > 20
    noted = [json.loads(str(extra))["drawn_again"] for extra in whole.synthetic.manifest()["extra"].to_pylist()]
    assert len(noted) == 2 and sum(noted) == unique["drawn_again"]
    assert f"No two synthetic rows share dish, mood: {unique['drawn_again']} rows" in (folder / "golden/README.md").read_text()
    served = Served(read_published(run))
    assert served.card["rules"] == ["dish != 'tea'", "unique in the published rows alone: dish, mood"]
    told = CliRunner().invoke(app, ["preview", run, "-n", "200", "--offset", "140"])
    assert [json.loads(line) for line in told.stdout.splitlines()] == rows.slice(140).to_pylist()


@pytest.mark.slow
def test_stopped_at_every_task_s_edge_and_gone_on_with_it_gives_the_same_bytes(golden: tuple[Path, Made]) -> None:
    folder, whole = golden
    stops, ended = 0, None
    while ended is None:
        try:
            ended = made(folder, "stopped", workers=1, budget={"cpu_hours": 1e-9})
        except StoppedError as stopped:
            stops += 1
            assert stopped.exit_code == 4 and stops < 20
    assert hashes(ended) == hashes(whole)
    assert stops >= 4, "drafts, each round and the data set are stopped in"


def test_what_is_left_of_a_run_that_was_killed_is_gone_on_with(golden: tuple[Path, Made]) -> None:
    folder, whole = golden
    shutil.copytree(folder / "golden", folder / "cut")
    for step in sorted((folder / "cut").glob("unique/*")) + sorted((folder / "cut").glob("synthetic/*")):
        (step / "_raysynth/outcome.json").unlink()
        (step / "_SUCCESS").unlink()
        for marker in sorted((step / "_raysynth").glob("markers/*"))[1:]:
            marker.unlink()
    assert hashes(made(folder, "cut", workers=1)) == hashes(whole)
    shutil.rmtree(folder / "cut/unique")
    assert hashes(made(folder, "cut")) == hashes(whole), "what is done needs its steps no more"


def test_more_rows_than_there_are_moods_are_refused_and_no_data_set_is_begun(golden: tuple[Path, Made]) -> None:
    folder, _ = golden
    before = list((folder / "golden/synthetic").iterdir())
    with pytest.raises(
        RuleError, match=r"generate.unique: \[mood\]: 300 rows that differ were asked, and a probe of 10,000 has 2\d\."
    ):
        made(folder, "golden", unique=["mood"])
    assert list((folder / "golden/synthetic").iterdir()) == before
