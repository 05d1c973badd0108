"""Generators of tables that draw a row from one latent point: they learn a small joint law, and accepted rows follow what is filtered."""

from typing import Any

import numpy as np
import pytest

from raysynth.draws import Draws
from raysynth.generators._latent_table import LatentTable
from raysynth.generators.table_diffusion import TableDiffusion
from raysynth.generators.table_vae import TableVae
from raysynth.layout import Batch, Field, Fields, FieldsGiven
from raysynth.training import fit, initialise

SIZES = [3, 1, 20, 4]
LAYOUT = Fields(tuple(Field(name, name[0], size) for name, size in zip(["a", "b", "c", "c.digit"], SIZES, strict=True)))
KINDS: dict[str, Any] = {
    "table_vae": lambda: TableVae(LAYOUT, hidden=64, latent=8, warmup_steps=200),
    "table_diffusion": lambda: TableDiffusion(LAYOUT, hidden=64, latent=8, weight=0.05, blocks=2),
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=list(KINDS))
def learnt(request: pytest.FixtureRequest) -> LatentTable:
    generator = initialise(KINDS[request.param], 5)
    assert isinstance(generator, LatentTable)
    noise = np.random.default_rng(0)
    a = noise.choice(3, 4000, p=[0.6, 0.3, 0.1])
    c = np.where(a == 0, noise.integers(0, 3, 4000), noise.integers(10, 20, 4000))
    codes = np.stack([a, 0 * a, c, (a + c) % 4], axis=1).astype(np.int32)
    fit(generator, Batch({"codes": codes}), Batch({"codes": codes[:500]}), seed=1, max_epochs=40, batch_rows=128)
    return generator


def test_it_learns_the_joint_distribution(learnt: LatentTable) -> None:
    a, b, c, digit = learnt.sample(Draws.range(2, "x", 0, 8192), None)["codes"].T
    assert np.abs(np.bincount(a, minlength=3) / 8192 - [0.6, 0.3, 0.1]).max() < 0.04
    assert (b == 0).all()
    assert np.mean((a == 0) == (c < 3)) > 0.95
    assert np.mean(digit == (a + c) % 4) > 0.88


def test_accepted_rows_follow_the_filtered_unconditional_distribution(learnt: LatentTable) -> None:
    masks = {0: np.array([True, False, True]), 2: np.arange(20) >= 2}
    free = learnt.sample(Draws.range(2, "free", 0, 16384), None)["codes"]
    wanted = free[masks[0][free[:, 0]] & masks[2][free[:, 2]]]
    made = learnt.sample(Draws.range(2, "given", 0, 16384), FieldsGiven(masks))
    assert made.accepted is not None
    codes = made["codes"][made.accepted]
    assert len(codes) > 500 and masks[0][made["codes"][:, 0]].all() and masks[2][made["codes"][:, 2]].all()
    for field in (0, 2, 3):
        one, two = (np.bincount(rows[:, field], minlength=20) / len(rows) for rows in (codes, wanted))
        assert np.abs(one - two).max() < 0.05
