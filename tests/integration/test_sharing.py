"""Two ranks that hold a share each of one network (FSDP2) learn what two whole copies learn (DDP), and one rank goes on from their state."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

import ranks

Told = dict[str, Any]
FLOAT_NOISE = 1e-5  # of losses near 3: the two sum gradients in another order


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Told, Told]]:
    """How the ranks share the network → (what rank 0 saw, the arrays it told)."""
    folder = tmp_path_factory.mktemp("ranks")
    done = subprocess.run([sys.executable, ranks.__file__, str(folder)], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return {
        name: (json.loads((folder / f"{name}.json").read_text()), dict(np.load(folder / f"{name}.npz")))
        for name in ("copied", "sharded")
    }


def test_shares_learn_what_copies_learn(told: dict[str, tuple[Told, Told]]) -> None:
    (copied, whole), (sharded, gathered) = told["copied"], told["sharded"]
    assert np.abs(np.array(sharded["losses"]) - np.array(copied["losses"])).max() < FLOAT_NOISE
    assert np.array(copied["losses"])[1, -1] < np.array(copied["losses"])[0, 0], "nothing was learnt: the test would show nothing"
    assert sharded["held"] <= copied["held"] * 0.6, "each of two ranks holds about half"
    assert {name: array.shape for name, array in gathered.items()} == {name: array.shape for name, array in whole.items()}
    worst = max(np.abs(gathered[name] - whole[name]).max() for name in whole)
    assert worst < 1e-4, "weights, averages and the optimizer's moments are those of the copies"


@pytest.mark.parametrize("name", ["copied", "sharded"])
def test_two_ranks_resume_bit_for_bit(told: dict[str, tuple[Told, Told]], name: str) -> None:
    seen, _ = told[name]
    assert seen["resumed"] == seen["went_on"] and seen["same"]


def test_one_rank_goes_on_from_the_shares_of_two(told: dict[str, tuple[Told, Told]]) -> None:
    seen, arrays = told["sharded"]
    alone = ranks.trainer(0, 1, shard=True, steps=2 * ranks.STEPS)
    alone.load({name: array for name, array in arrays.items() if not name.startswith("published.")}, seen["facts"])
    assert not alone.sharded
    assert alone.cursor.steps == 2 * 2 * ranks.STEPS, "its schedule goes by epochs: two of them, of its own steps"
    state, _ = alone.state()
    assert all(np.array_equal(state[name], arrays[name]) for name in state)
    losses = ranks.epoch(alone, 2, 0, 1)
    assert losses[-1] < seen["losses"][0][0]
    alone.generator.load({name.removeprefix("published."): arrays[name] for name in arrays if name.startswith("published.")}, {})
    codes = alone.generator.sample(ranks.Draws.range(0, "generate", 0, 1024), None)["codes"]
    assert (codes >= 0).all() and (codes < [5, 7]).all()
