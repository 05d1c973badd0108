"""A Remote fake through the whole flow: exact rows, and after a kill no call is made again that was answered and stored."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drivers import Driver

import raysynth.generators
from raysynth.commits import commit, write_task
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Run, folder_id, rows_plan
from raysynth.stages import generate

RECIPE = """
evaluate: null
name: oracle
source: examples://wine
generator: {use: oracle}
generate: {rows: 3000, rows_per_part: 100, workers: 2}
"""
FAKES = str(Path(__file__).parent / "fakes")


@pytest.fixture
def recipe(tmp_path: Path) -> Path:
    path = tmp_path / "oracle.yaml"
    path.write_text(RECIPE)
    return path


def names(url: Path) -> list[str]:
    folder = Run(str(url)).current("synthetic")
    assert folder is not None and folder.outcome() is not None
    assert sum(folder.manifest()["rows"].to_pylist()) == 3000
    return folder.manifest()["name"].to_pylist()


def made_here(recipe: Path, url: Path, calm: Path) -> Folder:
    """The run's rows once more, from its model alone: in this process, undisturbed."""
    asked, model = load_recipe(recipe, [f"run={url}"]), Run(str(url)).current("model")
    assert model is not None
    facts = generate.order_of(asked, model).facts()
    folder, plan = Run(str(calm)).folder("synthetic", folder_id(facts)), rows_plan(3000, 100)
    write_task(folder, plan, range(plan.parts), generate.make_files(asked, folder, model, plan, facts["fingerprint"]))
    commit(folder, plan)
    return folder


@pytest.mark.slow
def test_replies_are_stored_and_a_resume_repeats_no_call(recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls, url = tmp_path / "killed.calls", tmp_path / "killed"
    first = Driver(recipe, url, PYTHONPATH=FAKES, RAYSYNTH_ORACLE_CALLS=str(calls))
    first.wait_for("synthetic/*/_raysynth/replies/*/*", 500)
    first.kill()
    Driver(recipe, url, PYTHONPATH=FAKES, RAYSYNTH_ORACLE_CALLS=str(calls)).end()
    monkeypatch.setattr(raysynth.generators, "__path__", [*raysynth.generators.__path__, FAKES])
    monkeypatch.setenv("RAYSYNTH_ORACLE_CALLS", str(tmp_path / "calm.calls"))
    assert names(url) == made_here(recipe, url, tmp_path / "calm").manifest()["name"].to_pylist()
    asked = Counter(calls.read_text().split())
    assert set(asked) == set((tmp_path / "calm.calls").read_text().split())
    assert sum(asked.values()) - len(asked) <= 2, "only the calls in flight, one per worker, may have been made twice"
