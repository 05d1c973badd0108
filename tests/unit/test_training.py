"""The trainer: the same seed gives the same weights, a saved one goes on bit for bit, and it stops when validation says so."""

import numpy as np
import torch
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators.autoregressive import Autoregressive
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Batch, Field, Fields, Given
from raysynth.training import EpochReport, Trainer, fit, initialise

LAYOUT = Fields((Field("a", "a", 4), Field("b", "b", 6)))
CODES = Draws.range(0, "data", 0, 64).uniform("codes", 2)
BATCH = Batch({"codes": (CODES * [4, 6]).astype(np.int32)})

UNEVEN = Batch({"codes": (CODES**3 * [4, 6]).astype(np.int32)})


def make() -> Trainer:
    generator = initialise(lambda: Autoregressive(LAYOUT, hidden=8), 3)
    return Trainer(generator, seed=4, max_epochs=6, steps_per_epoch=3)


def run(trainer: Trainer, epochs: range) -> list[EpochReport]:
    reports: list[EpochReport] = []
    for epoch in epochs:
        for step in range(3):
            trainer.step(BATCH.take(slice(step * 16, step * 16 + 16)), epoch, step)
        reports.append(trainer.end_epoch([BATCH]))
    return reports


def test_a_resumed_trainer_goes_on_bit_for_bit() -> None:
    whole, first, second = make(), make(), make()
    expected = run(whole, range(4))
    run(first, range(2))
    first.step(BATCH.take(slice(0, 16)), 2, 0)
    second.load(*first.state())
    assert (second.cursor.epoch, second.cursor.step) == (2, 1)
    for step in (1, 2):
        second.step(BATCH.take(slice(step * 16, step * 16 + 16)), 2, step)
    reports = [second.end_epoch([BATCH]), *run(second, range(3, 4))]
    assert reports == expected[2:]
    for name, array in whole.state()[0].items():
        assert np.array_equal(array, second.state()[0][name]), name


def test_bfloat16_learns_and_keeps_its_weights_in_float32() -> None:
    generators = {
        precision: initialise(lambda: Autoregressive(LAYOUT, hidden=8, dropout=0.0), 3) for precision in ("float32", "bfloat16")
    }
    losses: dict[str, list[float]] = {}
    for precision, generator in generators.items():
        trainer = Trainer(
            generator, seed=4, max_epochs=1, steps_per_epoch=20, warmup_steps=5, learning_rate=0.02, precision=precision
        )
        losses[precision] = [trainer.step(UNEVEN, 0, step) for step in range(20)]
        losses[precision].append(trainer.end_epoch([UNEVEN]).validation_loss)
        assert {array.dtype for array in trainer.state()[0].values()} == {np.dtype(np.float32)}
    assert losses["bfloat16"] != losses["float32"], "the key has no effect"
    assert losses["bfloat16"][-2] < 0.9 * losses["bfloat16"][0]
    # bfloat16 has 8 bits of mantissa: logits are off by some 0.4 %, and so is what twenty steps make of them
    assert np.allclose(losses["bfloat16"], losses["float32"], rtol=0.03)


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    before = torch.random.get_rng_state()
    one, two = make().generator.state()[0], make().generator.state()[0]
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_training_stops_when_validation_no_longer_improves() -> None:
    generator = initialise(lambda: Autoregressive(LAYOUT, hidden=8), 3)
    other = Batch({"codes": BATCH["codes"][::-1].copy() * [[0, 1]]})
    reports = fit(generator, BATCH, other, seed=1, max_epochs=60, batch_rows=16, patience=2, learning_rate=0.05)
    assert reports[-1].done
    best = max(report.epoch for report in reports if report.best)
    assert len(reports) == 60 or len(reports) == best + 3


def test_without_validation_rows_the_train_loss_decides() -> None:
    trainer = make()
    trainer.step(BATCH, 0, 0)
    assert trainer.end_epoch([]).best
    assert all(np.isfinite(array).all() for array in trainer.best().values())


class Two(Trained):
    """Two turns that share nothing: one learns by heart from the first step on, the other goes on getting better."""

    accepts = (Fields,)
    turns = ("worse", "better")

    def __init__(self) -> None:
        super().__init__()
        self.worse, self.better = (nn.Parameter(torch.zeros(1)) for _ in range(2))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"worse": [self.worse], "better": [self.better]}

    def judged(self) -> dict[tuple[str, ...], str]:
        return {("worse",): "worse", ("better",): "better"}

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        if turn == "better":
            return (self.better - 9).square().mean()
        return (self.worse.square() if not self.training else -self.worse).mean()

    def sample(self, draws: Draws, given: Given | None) -> Batch:
        raise NotImplementedError


def test_turns_that_share_no_weight_each_keep_their_best_epoch_and_stop_when_they_have_had_their_patience() -> None:
    trainer = Trainer(Two(), seed=1, max_epochs=12, steps_per_epoch=3, patience=2, average_decay=0.5, warmup_steps=1)
    first = run(trainer, range(1))
    kept = trainer.best()
    reports = first + run(trainer, range(1, 3))
    stopped = trainer.state()[0]["weights.worse"]
    reports += run(trainer, range(3, 12))
    assert trainer.cursor.best_epoch == [0, 11]
    assert np.array_equal(trainer.best()["worse"], kept["worse"])
    assert trainer.best()["better"] > kept["better"]
    assert np.array_equal(trainer.state()[0]["weights.worse"], stopped), "it learns no longer"
    assert [report.done for report in reports] == [False] * 11 + [True]
