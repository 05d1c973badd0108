"""The generators of pictures on bars of light: what they draw is what was learnt under the label that was asked for, guidance makes more of
the label, the autoencoder's latent space is used, and a forger comes nearer to real rows."""

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.generators._couplings import log_prior
from raysynth.generators._pictures import Pictures
from raysynth.generators.diffusion import Diffusion
from raysynth.generators.gan import Gan
from raysynth.generators.vae import Vae
from raysynth.layout import Batch, Field, FieldsGiven, Grids
from raysynth.training import Trainer, initialise

LAYOUT = Grids((Field("kind", "kind", 2), Field("place", "place", 3)), 8, 8, 1)
ROWS, BATCH, SEED = 960, 48, 3
KINDS: dict[str, tuple[type[Any], dict[str, Any], int]] = {
    "diffusion": (Diffusion, {"width": 8}, 8),
    "diffusion of noise": (Diffusion, {"width": 8, "predicts": "noise"}, 20),
    "vae": (Vae, {"width": 8, "latent": 8, "couplings": 2, "warmup_steps": 60}, 8),
    "gan": (Gan, {"width": 8, "latent": 16}, 20),
}
"""Name → the class, its options, and epochs. Where there is hardly any picture left, what the noise is says little of it: who learns to say
the noise takes longer, and so does a forger until its pictures are no longer alike."""


def rows(seed: int = SEED) -> Batch:
    """A bar across or upright, at one of three places, of its own brightness on ground of its own."""
    noise = np.random.default_rng(seed)
    codes = np.stack([noise.choice(2, ROWS, p=[0.7, 0.3]), noise.integers(0, 3, ROWS)], axis=1).astype(np.int32)
    pixels = noise.integers(0, 30, (ROWS, 8, 8)) + noise.integers(0, 60, (ROWS, 1, 1))
    for row, (kind, place) in enumerate(codes):
        bar = pixels[row] if kind else pixels[row].T
        bar[2 * place + 1 : 2 * place + 3] = noise.integers(160, 256)
    return Batch({"codes": codes, "pixels": pixels.astype(np.uint8).reshape(ROWS, -1)})


def judged(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """(rows, 2): the kind and the place of the brightest bar."""
    grids = pixels.reshape(-1, 8, 8).astype(float)
    bars = [axis[:, 2 * place + 1 : 2 * place + 3].mean((1, 2)) for axis in (grids.transpose(0, 2, 1), grids) for place in range(3)]
    return np.stack(np.divmod(np.argmax(bars, axis=0), 3), axis=1)


def agreement(made: Batch) -> float:
    return float(np.mean(judged(made["pixels"]) == made["codes"]))


@cache
def learnt(name: str) -> tuple[Pictures, list[float]]:
    """The generator, and its validation loss after each epoch."""
    kind, options, epochs = KINDS[name]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        generator, train, validation = initialise(lambda: kind(LAYOUT, **options), SEED), rows(), rows(SEED + 1).take(slice(0, 256))
        steps = ROWS // BATCH
        trainer = Trainer(generator, seed=SEED, max_epochs=epochs, steps_per_epoch=steps, warmup_steps=10, average_decay=0.95)
        losses: list[float] = []
        for epoch in range(epochs):
            for step in range(steps):
                trainer.step(train.take(slice(BATCH * step, BATCH * step + BATCH)), epoch, step)
            losses.append(trainer.end_epoch([validation]).validation_loss)
        generator.load(trainer.best(), {})
    finally:
        torch.set_num_threads(threads)
    assert isinstance(generator, Pictures)
    return generator, losses


def drawn(generator: Pictures, given: FieldsGiven | None = None) -> Batch:
    made = generator.sample(Draws.range(SEED, "generate", 0, 256), given)
    return made if made.accepted is None else made.take(made.accepted)


@pytest.mark.parametrize("name", KINDS)
def test_what_it_draws_is_what_it_learnt_under_the_label_that_was_asked_for(name: str) -> None:
    generator, losses = learnt(name)
    assert losses[-1] < losses[0]
    free = drawn(generator)
    assert abs(free["codes"][:, 0].mean() - 0.3) < 0.12
    asked = drawn(generator, FieldsGiven({0: np.array([False, True]), 1: np.array([True, False, True])}))
    assert (asked["codes"][:, 0] == 1).all() and (asked["codes"][:, 1] != 1).all()
    for made in (free, asked):
        assert agreement(made) > 0.95, "a third are by chance"
        bright = made["pixels"].reshape(-1, 64).max(1)
        assert bright.std() > 5, "bars are not all as bright"


def test_guidance_makes_more_of_the_label() -> None:
    """Of a network that has seen little: without what is told a third of the places would be right by chance."""
    train = rows()
    generator = initialise(lambda: Diffusion(LAYOUT, width=8, steps=8), SEED)
    trainer = Trainer(generator, seed=SEED, max_epochs=1, steps_per_epoch=50, warmup_steps=10, average_decay=0.9)
    for step in range(50):
        trainer.step(train.take(slice(16 * step, 16 * step + 16)), 0, step)
    trainer.end_epoch([])
    generator.load(trainer.best(), {})
    assert isinstance(generator, Diffusion)
    found: list[float] = []
    for guidance in (0.0, 1.0, 3.0):
        generator.guidance = guidance
        found.append(agreement(drawn(generator)))
    assert found[0] + 0.02 < found[1] and found[1] + 0.02 < found[2], found


def test_a_picture_is_a_function_of_its_first_noise_whatever_the_steps() -> None:
    generator, _ = learnt("diffusion")
    assert isinstance(generator, Diffusion)
    made: dict[int, NDArray[Any]] = {}
    try:
        for steps in (4, 16, 64):
            generator.steps = steps
            made[steps] = drawn(generator)["pixels"].astype(float)
    finally:
        generator.steps = 16
    few, some = (np.abs(made[steps] - made[64]).mean() for steps in (4, 16))
    assert some < few and some < 6, "of 255 levels"


def test_the_latent_space_has_not_collapsed() -> None:
    """What tells the brightness lies in z: another row's z paints another picture."""
    generator, _ = learnt("vae")
    assert isinstance(generator, Vae)
    batch = rows(SEED + 1).take(slice(0, 256))
    with torch.inference_mode():
        x = generator.to_signal(torch.from_numpy(batch["pixels"]))
        told = generator.told_by(torch.from_numpy(batch["codes"]).long(), None)
        mean, log_variance = generator.encoder(x, told)
        own, other = ((generator.painted(z, told) - x).square().mean() for z in (mean, mean.roll(1, 0)))
        divergence = -(log_prior(generator.prior, mean, told) + (log_variance + 1).sum(1) / 2).mean()
    assert divergence > 3
    assert other > 3 * own


def test_the_judge_of_a_forger_sees_it_come_nearer() -> None:
    _, losses = learnt("gan")
    assert min(losses) < 0.5 * losses[0]
