"""Generators of pictures: every size that a codec gives, what is not drawn, how the forger is judged, and what a chain is made of."""

from typing import Any

import numpy as np
import pytest
import torch

from raysynth.codecs.image import Image, ImageStats
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators._pictures import CHUNK
from raysynth.generators.chain import Chain
from raysynth.generators.diffusion import Diffusion
from raysynth.generators.gan import Gan, _distance, _Features
from raysynth.generators.vae import Vae
from raysynth.layout import Batch, Chained, Field, Grids, Tokens
from raysynth.parts import check_options
from raysynth.schema import IMAGE, Column, Schema
from raysynth.training import Trainer, initialise

KINDS: dict[type[Any], dict[str, Any]] = {Vae: {"width": 8}, Gan: {"width": 8}, Diffusion: {"width": 8, "steps": 2}}
FIELDS = (Field("kind", "kind", 3),)


def batch_of(layout: Grids, rows: int = 4) -> Batch:
    noise = np.random.default_rng(1)
    pixels = noise.integers(0, 256, (rows, layout.height * layout.width * layout.channels), dtype=np.uint8)
    return Batch({"codes": noise.integers(0, 3, (rows, len(layout.fields))).astype(np.int32), "pixels": pixels})


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize(("height", "width", "channels"), [(4, 4, 1), (12, 20, 3), (28, 28, 1), (8, 40, 3), (64, 64, 3)])
def test_every_size_is_learnt_and_drawn(kind: type[Any], height: int, width: int, channels: int) -> None:
    layout = Grids(FIELDS, height, width, channels)
    generator = initialise(lambda: kind(layout, **KINDS[kind]), 1)
    Trainer(generator, seed=1, max_epochs=1, steps_per_epoch=1).step(batch_of(layout), 0, 0)
    generator.eval()
    assert generator.sample(Draws.range(1, "generate", 0, CHUNK), None)["pixels"].shape == (CHUNK, height * width * channels)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_pictures_alone_need_no_table(kind: type[Any]) -> None:
    layout = Grids((), 8, 8, 1)
    generator = initialise(lambda: kind(layout, **KINDS[kind]), 1)
    trainer = Trainer(generator, seed=1, max_epochs=1, steps_per_epoch=1)
    trainer.step(batch_of(layout), 0, 0)
    assert np.isfinite(trainer.end_epoch([batch_of(layout)]).validation_loss)
    drawn = generator.sample(Draws.range(1, "generate", 0, CHUNK), None)
    assert drawn["codes"].shape == (CHUNK, 0) and drawn.accepted is None


def test_squares_are_as_small_as_a_grid_allows_and_both_sides_stay_even() -> None:
    assert [Grids((), side, side, 1).patch for side in (4, 8, 16, 20, 28, 32, 36, 64, 128)] == [1, 1, 1, 2, 2, 2, 2, 4, 8]
    for height, width in ((12, 64), (44, 52), (8, 512), (60, 64)):
        patch = Grids((), height, width, 1).patch
        assert height % (2 * patch) == 0 and width % (2 * patch) == 0


def test_a_size_that_nobody_names_makes_a_small_grid_and_one_that_makes_a_huge_one_is_refused() -> None:
    photo = Schema((Column("photo", "image", IMAGE),))
    for size, learnt in (
        ((28, 28), (28, 28)),
        ((32, 32), (32, 32)),
        ((3000, 2000), (64, 40)),
        ((480, 640), (48, 64)),
        ((2, 900), (8, 64)),
    ):
        layout = Image(photo).settle(ImageStats(None, {size: 3}, coloured=False, missing=0))
        assert (layout.height, layout.width) == learnt
        assert max(layout.height, layout.width) // layout.patch <= 16
    with pytest.raises(RecipeError, match=r"codec\.size: 500 × 300 pixels .* 250 × 150 squares.* Say \[512, 320\]"):
        Image(photo, size=(500, 300))
    assert Image(photo, size=(512, 320)).settle(ImageStats(None, {(9, 9): 1}, coloured=False, missing=0)).patch == 32


def test_what_is_not_accepted_is_not_drawn_and_changes_no_other_row() -> None:
    generator = initialise(lambda: Vae(Grids(FIELDS, 8, 8, 1), width=8), 1).eval()
    draws, codes = Draws.range(1, "generate", 0, 2 * CHUNK), np.zeros((2 * CHUNK, 1), np.int32)
    accepted = np.arange(2 * CHUNK) % 3 == 0
    assert isinstance(generator, Vae)
    whole, some = generator.draw(codes, None, draws), generator.draw(codes, None, draws, accepted)
    assert np.array_equal(some[accepted], whole[accepted])
    assert not some[~accepted].any()


def test_the_forger_and_the_critic_move_at_their_own_pace() -> None:
    generator = Gan(Grids(FIELDS, 8, 8, 1), width=8)
    trainer = Trainer(generator, seed=1, max_epochs=1, steps_per_epoch=1, learning_rate=0.1, warmup_steps=1)
    trainer.step(batch_of(generator.shape), 0, 0)
    groups = {turn: optimizer.param_groups[0] for turn, optimizer in trainer.optimizers.items()}
    assert {turn: (group["lr"], group["betas"]) for turn, group in groups.items()} == {
        "critic": (0.025, (0.0, 0.9)),
        "forger": (0.025, (0.0, 0.9)),
        "table": (0.1, (0.9, 0.99)),
    }
    assert (trainer.patience, trainer.average_decay) == (generator.patience, generator.average_decay)


def test_the_forger_is_judged_by_pictures_and_by_whose_they_are() -> None:
    """Other rows of the same law are no distance away; pictures that are darker, or stand beside other codes, are."""
    draw, features = torch.Generator().manual_seed(1), _Features(Grids(FIELDS, 8, 8, 1))
    codes = torch.arange(400)[:, None] % 2

    def rows(shift: float = 0.0) -> torch.Tensor:
        return features(codes[:, :, None, None] - 0.5 + shift + 0.3 * torch.randn(400, 1, 8, 8, generator=draw))

    real = rows()
    same, darker, mixed = _distance(real, rows(), codes), _distance(real, rows(-0.3), codes), _distance(real, rows().flip(0), codes)
    assert abs(same) < 0.01 < darker and mixed > 0.1


def test_a_chain_refuses_what_makes_no_pictures() -> None:
    texts = Tokens(FIELDS, 20, 6, (False,))
    layout = Chained(texts, Grids(FIELDS, 8, 8, 1, texts))
    with pytest.raises(RecipeError, match=r"generator\.image\.use: 'text_vae' makes no pictures"):
        Chain(layout, image={"use": "text_vae"})
    with pytest.raises(RecipeError, match=r"generator\.image\.latent: .*multiple of 2"):
        Chain(layout, image={"use": "vae", "latent": 3})


@pytest.mark.parametrize(
    ("kind", "option", "value"),
    [(Diffusion, "width", 12), (Diffusion, "predicts", "x"), (Diffusion, "untold", 1.0), (Vae, "latent", 5), (Gan, "penalty", 0)],
)
def test_options_have_limits(kind: type[Any], option: str, value: object) -> None:
    with pytest.raises(RecipeError, match=rf"generator\.{option}: "):
        check_options(kind, {option: value}, "generator")
