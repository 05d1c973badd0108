"""The autoregressive network: learns a small joint distribution, conditions exactly, and draws rows that know no neighbours."""

import numpy as np
import pytest
import torch

from raysynth.draws import Draws
from raysynth.generators.autoregressive import Autoregressive
from raysynth.layout import Batch, Field, Fields, FieldsGiven
from raysynth.training import fit, initialise

SIZES = [3, 1, 20, 4]
LAYOUT = Fields(tuple(Field(name, name[0], size) for name, size in zip(["a", "b", "c", "c.digit"], SIZES, strict=True)))


def make() -> Autoregressive:
    generator = initialise(lambda: Autoregressive(LAYOUT, hidden=16, dropout=0.0), 5)
    assert isinstance(generator, Autoregressive)
    return generator


@pytest.fixture(scope="module")
def learnt() -> Autoregressive:
    generator = make()
    noise = np.random.default_rng(0)
    a = noise.choice(3, 4000, p=[0.6, 0.3, 0.1])
    c = np.where(a == 0, noise.integers(0, 3, 4000), noise.integers(10, 20, 4000))
    codes = np.stack([a, 0 * a, c, (a + c) % 4], axis=1).astype(np.int32)
    fit(
        generator, Batch({"codes": codes}), Batch({"codes": codes[:500]}), seed=1, max_epochs=25, batch_rows=128, learning_rate=1e-2
    )
    return generator


def test_it_learns_the_joint_distribution(learnt: Autoregressive) -> None:
    a, b, c, digit = learnt.sample(Draws.range(2, "x", 0, 8192), None)["codes"].T
    assert np.abs(np.bincount(a, minlength=3) / 8192 - [0.6, 0.3, 0.1]).max() < 0.03
    assert (b == 0).all()
    assert np.mean((a == 0) == (c < 3)) > 0.97
    assert np.mean(digit == (a + c) % 4) > 0.95


def test_rows_do_not_depend_on_their_neighbours(learnt: Autoregressive) -> None:
    draws = Draws.range(2, "x", 0, 3000)
    codes = learnt.sample(draws, None)["codes"]
    shuffled = np.random.default_rng(1).permutation(3000)
    assert np.array_equal(learnt.sample(draws.take(shuffled), None)["codes"], codes[shuffled])
    assert np.array_equal(learnt.sample(draws.take(np.arange(2990, 3000)), None)["codes"], codes[2990:])


def test_accepted_rows_follow_the_filtered_unconditional_distribution(learnt: Autoregressive) -> None:
    masks = {0: np.array([True, False, True]), 2: np.arange(20) >= 2}
    free = learnt.sample(Draws.range(2, "free", 0, 16384), None)["codes"]
    wanted = free[masks[0][free[:, 0]] & masks[2][free[:, 2]]]
    made = learnt.sample(Draws.range(2, "given", 0, 16384), FieldsGiven(masks))
    assert made.accepted is not None
    codes = made["codes"][made.accepted]
    assert masks[0][made["codes"][:, 0]].all()
    assert masks[2][made["codes"][:, 2]].all()
    for field in (0, 2, 3):
        one, two = (np.bincount(rows[:, field], minlength=20) / len(rows) for rows in (codes, wanted))
        assert np.abs(one - two).max() < 0.04


def test_conditioning_agrees_with_the_plain_order_where_the_orders_do_not() -> None:
    """An untrained network has a distribution of its own for every order: that of unrestricted rows is the one that counts."""
    generator = make()
    with torch.no_grad():
        for head in generator.heads:
            head *= 4
    masks = {2: np.arange(20) % 4 < 2, 3: np.array([True, True, False, True])}
    starts = range(0, 65536, 16384)
    free = np.concatenate([generator.sample(Draws.range(3, "free", n, n + 16384), None)["codes"] for n in starts])
    batches = [generator.sample(Draws.range(3, "given", n, n + 16384), FieldsGiven(masks)) for n in starts]
    made = np.concatenate([batch["codes"] for batch in batches])
    kept = np.concatenate([batch["codes"][batch.accepted] for batch in batches if batch.accepted is not None])
    wanted = free[masks[2][free[:, 2]] & masks[3][free[:, 3]]]
    one, two, drawn = (np.bincount(rows @ [80, 0, 4, 1], minlength=240) / len(rows) for rows in (wanted, kept, made))
    assert np.abs(one - two).sum() / 2 < 0.06
    assert np.abs(one - drawn).sum() / 2 > 0.2


def test_state_and_load_give_the_same_rows(learnt: Autoregressive) -> None:
    twin = make()
    twin.load(*learnt.state())
    draws = Draws.range(2, "x", 0, 100)
    assert np.array_equal(twin.sample(draws, None)["codes"], learnt.sample(draws, None)["codes"])
