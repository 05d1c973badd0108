"""A Trained generator and batches of encoded rows → fitted weights: optimizers, schedule, averaged weights, early stopping, resume.

Nothing here knows of Ray: cluster/fit.py feeds the same Trainer that `fit` feeds from memory. Given the same batches in the same
order, two trainers make the same bits, and one that was saved and loaded goes on as if it had never stopped.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from raysynth.draws import Draws, word
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Facts


@dataclass(frozen=True)
class EpochReport:
    """Losses are means per row. `best`: no epoch had a lower validation loss; `done`: training need not go on."""

    epoch: int
    train_loss: float
    validation_loss: float
    best: bool
    done: bool


class TurnLoss(nn.Module):
    """The module whose forward is the loss of one turn, so that DistributedDataParallel can wrap it."""

    def __init__(self, generator: Trained) -> None:
        super().__init__()
        self.generator = generator

    def forward(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        return self.generator.loss(batch, turn, draws)


def batch_rows_of(rows: int, workers: int = 1, most: int = 512) -> int:
    """Rows of one worker's batch: `most`, and fewer where there are few, so that an epoch has at least some 64 steps."""
    return max(1, min(most, max(16, rows // 64), rows // workers))


def initialise(make: Callable[[], Trained], seed: int) -> Trained:
    """The generator that `make` builds, its first weights a function of the seed alone; torch's own state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(word(seed, "weights") >> np.uint64(1)))
        made = make()
        made.begin()
        return made


class Trainer:
    """`wrap` makes the module that computes the loss (DistributedDataParallel, or FSDP2's, whose weights are in shares: then every rank
    must call `end_epoch`, `state`, `best` and `load`); `rank` only keys the noise, and `agree` makes one of the ranks' losses of an epoch.
    `precision`: of the loss; weights are float32 always. What is None is as the generator says."""

    def __init__(
        self,
        generator: Trained,
        *,
        seed: int,
        max_epochs: int,
        steps_per_epoch: int,
        learning_rate: float | None = None,
        weight_decay: float = 0.1,
        warmup_steps: int = 50,
        average_decay: float | None = None,
        patience: int | None = None,
        max_norm: float = 5.0,
        rank: int = 0,
        precision: str = "float32",
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        agree: Callable[[float], float] = float,
    ) -> None:
        self.generator, self.seed, self.rank, self.precision = generator, seed, rank, precision
        self.max_epochs, self.steps_per_epoch, self.total_steps = max_epochs, steps_per_epoch, max(1, max_epochs * steps_per_epoch)
        self.learning_rate, self.warmup_steps = learning_rate or generator.learning_rate, warmup_steps
        self.average_decay = generator.average_decay if average_decay is None else average_decay
        self.patience, self.max_norm = generator.patience if patience is None else patience, max_norm
        module: nn.Module = TurnLoss(generator)
        self.module, self.agree = (wrap(module) if wrap else module), agree
        self.sharded = any(_is_share(value) for value in generator.parameters())
        self.players = generator.players()
        self.paces = {turn: generator.pace(turn) for turn in self.players}
        self.optimizers = {
            turn: torch.optim.AdamW(parameters, lr=self.learning_rate, weight_decay=weight_decay, betas=self.paces[turn].betas)
            for turn, parameters in self.players.items()
        }
        self.groups = _groups(generator)
        self.average = {name: value.detach().clone() for name, value in generator.state_dict().items()}
        self.best_weights = {name: value.clone() for name, value in self.average.items()}
        self.cursor = Cursor([math.inf] * len(self.groups), [0] * len(self.groups), [0.0] * len(generator.turns))

    def step(self, batch: Batch, epoch: int, step: int) -> float:
        """One round of turns on the batch → the mean of their losses. `step` counts within the epoch."""
        self.generator.train()
        device = next(self.generator.parameters()).device
        tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.arrays.items()}
        learning = {
            turn
            for group, best in zip(self.groups, self.cursor.best_epoch, strict=True)
            if epoch - best <= self.patience
            for turn in group.turns
        }
        last = self.cursor.last
        for number, turn in enumerate(self.generator.turns):
            if turn in learning:
                last[number] = self._take_turn(tensors, batch.rows, turn, number)
        self._average()
        loss = sum(last) / len(last)
        self.cursor.epoch, self.cursor.step = epoch, step + 1
        self.cursor.steps += 1
        self.cursor.loss_sum += loss
        self.cursor.loss_count += 1
        return loss

    def end_epoch(self, validation: Iterable[Batch]) -> EpochReport:
        """Judge the averaged weights on the validation rows and remember them where they are the best so far, each group by itself."""
        cursor = self.cursor
        losses = self._validation_losses(validation)
        train_loss, epoch = cursor.loss_sum / max(cursor.loss_count, 1), cursor.epoch
        bests = [self._judge(number, losses, train_loss) for number in range(len(self.groups))]
        done = epoch + 1 >= self.max_epochs or all(epoch - best >= self.patience for best in cursor.best_epoch)
        cursor.epoch, cursor.step, cursor.loss_sum, cursor.loss_count = epoch + 1, 0, 0.0, 0
        return EpochReport(epoch, train_loss, _mean(losses, self.generator.turns), any(bests), done)

    def _judge(self, number: int, losses: Mapping[str, float], train_loss: float) -> bool:
        """Whether the epoch is the group's best."""
        cursor, group = self.cursor, self.groups[number]
        loss = _mean(losses, group.turns)
        judged = self.agree(loss if math.isfinite(loss) else train_loss)  # no validation rows: the train loss has to do
        if best := judged < cursor.best_loss[number]:
            cursor.best_loss[number], cursor.best_epoch[number] = judged, cursor.epoch
            self.best_weights |= {name: self.average[name].clone() for name in group.weights}
        return best

    def best(self) -> Arrays:
        """The averaged weights of the best epoch: what is published."""
        return _arrays(self.best_weights)

    def state(self) -> tuple[Arrays, Facts]:
        """All that a bit-exact resume needs."""
        arrays = {f"weights.{name}": array for name, array in _arrays(self.generator.state_dict()).items()}
        arrays |= {f"average.{name}": array for name, array in _arrays(self.average).items()}
        arrays |= {f"best.{name}": array for name, array in _arrays(self.best_weights).items()}
        for turn, optimizer in self.optimizers.items():
            for number, parameter in enumerate(self.players[turn]):
                state = _arrays(cast("dict[str, Tensor]", optimizer.state.get(parameter, {})))
                arrays |= {f"optimizer.{turn}.{number}.{name}": array for name, array in state.items()}
        return arrays, asdict(self.cursor)

    def load(self, arrays: Arrays, facts: Facts) -> None:
        """Become the trainer whose state this is; it must have been made with the same arguments, but for the ranks that share it."""
        parts: dict[str, dict[str, Tensor]] = {"weights": {}, "average": {}, "best": {}, "optimizer": {}}
        for name, array in arrays.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = torch.from_numpy(array.copy())
        like = self.generator.state_dict()
        weights, self.average, self.best_weights = (
            {name: _share_of(value, like[name]) for name, value in parts[part].items()} for part in ("weights", "average", "best")
        )
        self.generator.load_state_dict(weights)
        for turn, optimizer in self.optimizers.items():
            self._load_optimizer(turn, optimizer, parts["optimizer"])
        self.cursor = Cursor(**facts)
        # another number of ranks makes other steps an epoch: the schedule goes by epochs
        self.cursor.steps = self.cursor.epoch * self.steps_per_epoch + self.cursor.step

    def _load_optimizer(self, turn: str, optimizer: torch.optim.Optimizer, values: dict[str, Tensor]) -> None:
        for number, parameter in enumerate(self.players[turn]):
            prefix = f"{turn}.{number}."
            found = {name.removeprefix(prefix): value for name, value in values.items() if name.startswith(prefix)}
            if found:
                shares = {name: _share_of(value, parameter) for name, value in found.items() if name != "step"}
                optimizer.state[parameter] = {"step": found["step"], **shares}

    def _take_turn(self, tensors: TensorBatch, rows: int, turn: str, number: int) -> float:
        purpose = f"train/{self.rank}/{turn}-{number}/step-{self.cursor.steps}"
        optimizer = self.optimizers[turn]
        for group in optimizer.param_groups:
            group["lr"] = self._learning_rate() * self.paces[turn].share
        optimizer.zero_grad(set_to_none=True)
        with self._autocast():
            loss = cast(Tensor, self.module(tensors, turn, Draws.range(self.seed, purpose, 0, rows)))
        loss.backward()
        nn.utils.clip_grad_norm_(self.players[turn], self.max_norm)
        optimizer.step()
        return float(loss.detach())

    def _autocast(self) -> AbstractContextManager[object]:
        if self.precision == "float32":
            return nullcontext()
        return torch.autocast(next(self.generator.parameters()).device.type, torch.bfloat16)

    def _learning_rate(self) -> float:
        """Linear warm-up, then half a cosine down to a hundredth at the end of the budget."""
        steps = self.cursor.steps
        warm = min(1.0, (steps + 1) / self.warmup_steps)
        return self.learning_rate * warm * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, steps / self.total_steps))))

    @torch.no_grad()
    def _average(self) -> None:
        decay = min(self.average_decay, (1 + self.cursor.steps) / (10 + self.cursor.steps))
        for name, value in self.generator.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)
            else:
                self.average[name].copy_(value)

    @torch.no_grad()
    def _validation_losses(self, validation: Iterable[Batch]) -> dict[str, float]:
        """Turn → its mean per row; nothing where there are no rows."""
        weights = {name: value.clone() for name, value in self.generator.state_dict().items()}
        self.generator.load_state_dict(self.average)
        self.generator.eval()
        device = next(self.generator.parameters()).device
        loss = self.module if self.sharded else self.generator.loss
        totals, rows = dict.fromkeys(self.generator.turns, 0.0), 0
        for number, batch in enumerate(validation):
            tensors = {name: torch.from_numpy(np.ascontiguousarray(array)).to(device) for name, array in batch.arrays.items()}
            draws = Draws.range(self.seed, f"validation/{number}", 0, batch.rows)
            with self._autocast():
                for turn in totals:
                    totals[turn] += float(loss(tensors, turn, draws)) * batch.rows
            rows += batch.rows
        self.generator.load_state_dict(weights)
        return {turn: total / rows for turn, total in totals.items()} if rows else {}


@dataclass
class Cursor:
    """Where training stands: the next step of the epoch, and what early stopping has seen of each group. `last`: of each turn its last
    loss, of one that learns no longer too."""

    best_loss: list[float]
    best_epoch: list[int]
    last: list[float]
    epoch: int = 0
    step: int = 0
    steps: int = 0
    loss_sum: float = 0.0
    loss_count: int = 0


@dataclass(frozen=True)
class _Group:
    """Turns that are judged together, and the names of the weights that they move."""

    turns: tuple[str, ...]
    weights: tuple[str, ...]


def _groups(generator: Trained) -> tuple[_Group, ...]:
    """Each weight is in the group whose prefix is the longest that its name begins with."""
    judged, names = generator.judged(), list(generator.state_dict())
    owner = {name: max((prefix for prefix in judged.values() if name.startswith(prefix)), key=len) for name in names}
    return tuple(_Group(turns, tuple(name for name in names if owner[name] == prefix)) for turns, prefix in judged.items())


def _mean(losses: Mapping[str, float], turns: Sequence[str]) -> float:
    """Over the turns; NaN where nothing was judged."""
    return sum(losses[turn] for turn in turns) / len(turns) if losses else math.nan


def fit(
    generator: Trained,
    train: Batch,
    validation: Batch,
    *,
    seed: int,
    max_epochs: int,
    batch_rows: int | None = None,
    report: Callable[[EpochReport], None] | None = None,
    **options: Any,
) -> list[EpochReport]:
    """Train on rows held in memory, and leave the generator with its best weights; `options` go to Trainer."""
    batch_rows = batch_rows or batch_rows_of(train.rows, most=generator.most_batch_rows)
    # as the feed of a stage has them: whoever looks at the first of them only must not see the first labels of a sorted file
    validation = validation.take(np.argsort(Draws.range(seed, "validation", 0, validation.rows).words("row"), kind="stable"))
    steps = max(1, train.rows // batch_rows)
    trainer = Trainer(generator, seed=seed, max_epochs=max_epochs, steps_per_epoch=steps, **options)
    reports: list[EpochReport] = []
    for epoch in range(max_epochs):
        order = np.argsort(Draws.range(seed, f"shuffle/{epoch}", 0, train.rows).words("row"), kind="stable")
        for step in range(steps):
            trainer.step(train.take(order[step * batch_rows : (step + 1) * batch_rows]), epoch, step)
        reports.append(trainer.end_epoch(_pieces(validation, 1024)))
        if report:
            report(reports[-1])
        if reports[-1].done:
            break
    generator.load(trainer.best(), {})
    generator.calibrate(_pieces(validation, 1024))
    return reports


def _pieces(batch: Batch, rows: int) -> Iterable[Batch]:
    return (batch.take(slice(start, start + rows)) for start in range(0, batch.rows, rows))


def _arrays(tensors: dict[str, Any]) -> Arrays:
    """Whole and on the CPU, whatever shares of them the ranks hold: so that any number of ranks can go on from them. In the order of their
    names: all ranks gather the same one at a time, and what was read from safetensors comes in another order in every process."""
    return {name: _whole(cast(Tensor, tensors[name])).detach().cpu().numpy().copy() for name in sorted(tensors)}


def _is_share(value: Tensor) -> bool:
    return hasattr(value, "full_tensor")  # a DTensor; to import its class takes a second, and most trainings have none


def _whole(value: Tensor) -> Tensor:
    return cast("Any", value).full_tensor() if _is_share(value) else value


def _share_of(whole: Tensor, like: Tensor) -> Tensor:
    """This rank's share of it, as `like` is one; where `like` is whole, all of it. On the device of `like`."""
    if not _is_share(like):
        return whole.to(like.device)
    from torch.distributed.tensor import distribute_tensor

    share = cast("Any", like)
    return distribute_tensor(whole.to(like.device), share.device_mesh, share.placements, src_data_rank=None)
