"""A Remote fake through the whole flow: exact rows, and after a kill no call is made again that was answered and stored."""

import sys
from collections import Counter
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from drivers import Driver

from raysynth.runs import Run

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


def test_replies_are_stored_and_a_resume_repeats_no_call(recipe: Path, tmp_path: Path) -> None:
    calm, killed = tmp_path / "calm.calls", tmp_path / "killed.calls"
    Driver(recipe, tmp_path / "calm", PYTHONPATH=FAKES, RAYSYNTH_ORACLE_CALLS=str(calm)).end()
    first = Driver(recipe, tmp_path / "killed", PYTHONPATH=FAKES, RAYSYNTH_ORACLE_CALLS=str(killed))
    first.wait_for("synthetic/*/_raysynth/replies/*/*", 500)
    first.kill()
    Driver(recipe, tmp_path / "killed", PYTHONPATH=FAKES, RAYSYNTH_ORACLE_CALLS=str(killed)).end()
    assert names(tmp_path / "killed") == names(tmp_path / "calm")
    asked = Counter(killed.read_text().split())
    assert set(asked) == set(calm.read_text().split())
    assert sum(asked.values()) - len(asked) <= 2, "only the calls in flight, one per worker, may have been made twice"
