"""One rank of a training: epochs over its share of the feed until the trainer or the clock says enough, a checkpoint after each."""

import platform
import time
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch

from raysynth.cluster import checkpoints, metrics
from raysynth.cluster.feed import Feed
from raysynth.cluster.pulse import Pulse
from raysynth.cluster.sharing import from_first, share
from raysynth.errors import NondeterminismError, RecipeError
from raysynth.generators.base import Trained
from raysynth.layout import Arrays, Facts
from raysynth.models import codec_of, generator_of
from raysynth.parts import find
from raysynth.runs import Folder
from raysynth.schema import Schema
from raysynth.training import Trainer, batch_rows_of, initialise


@dataclass(frozen=True)
class Job:
    """All that a training worker needs; no rows, no secrets. `train`, `validation`: URLs of encoded parts, of `rows` rows to train on.
    `min_workers`: with as few training goes on, and then promises no bytes; `precision`: settled, never auto; `capability`: of the CPUs."""

    model: Folder
    schema: list[dict[str, Any]]
    parts: dict[str, dict[str, Any]]
    codec_state: tuple[Arrays, Facts]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    rows: int
    seed: int
    max_epochs: int
    max_train_seconds: float | None
    workers: int
    min_workers: int | None
    use_gpu: bool
    precision: str
    capability: str


def work(config: dict[str, Any]) -> None:
    """What Ray Train calls on each worker. It is told nothing of an epoch: whoever reports to its controller waits until that looks
    again, seconds later (ray 2.60), and the store and the pulse tell all that there is to know."""
    from ray import train
    from ray.train.torch import get_device

    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    job = cast("Job", config["job"])
    device = device_of(job, get_device())
    pulse = Pulse(config["key"] if rank == 0 else None, world)
    _Rank(job, rank, world, device, pulse).run()


class _Rank:
    def __init__(self, job: Job, rank: int, world: int, device: torch.device, pulse: Pulse) -> None:
        self.job, self.rank, self.world, self.device, self.pulse = job, rank, world, device, pulse
        pulse.beat(0, 0, now=True)
        most = find("generators", job.parts["generator"]["use"]).most_batch_rows
        size = batch_rows_of(job.rows, world, most)
        self.feed = Feed(job.train, job.validation, rows=job.rows, batch_rows=size, seed=job.seed, rank=rank, world=world)
        self.trainer = _trainer(job, rank, world, device, self.feed.steps)

    def run(self) -> None:
        """Epoch after epoch, each with its checkpoint on the store; after the last, the best weights are there too."""
        last = self._resume()
        began = time.monotonic() - last.get("seconds", 0.0)  # a budget of the training, however often it is taken up
        while not last.get("done", False):
            epoch = self.trainer.cursor.epoch
            last = self._epoch(epoch, began)
            self.pulse.epoch_ended(epoch, done=bool(last["done"]))
        best = self.trainer.best() if self._tells else {}
        if self.rank == 0:
            cursor, as_ever = self.trainer.cursor, not last["cut_short"] and self.job.min_workers is None
            facts = {"epochs": cursor.epoch, "best_epoch": max(cursor.best_epoch), "reproducible": as_ever}
            checkpoints.put_final(self.job.model, best, facts)

    @property
    def _tells(self) -> bool:
        """Whether this rank is needed to tell the weights: each one where each holds a share."""
        return self.rank == 0 or self.trainer.sharded

    def _epoch(self, epoch: int, began: float) -> Facts:
        for step, batch in enumerate(self.feed.batches(epoch)):
            self.trainer.step(batch, epoch, step)
            self.pulse.beat(epoch, step + 1)
        report = self.trainer.end_epoch(self.pulse.during(self.feed.validation(), epoch))
        seconds, allowed = time.monotonic() - began, self.job.max_train_seconds
        late = allowed is not None and from_first(seconds >= allowed, self.world, self.device)
        ended = {"done": report.done or late, "cut_short": late and not report.done}
        told = {**asdict(report), **ended, "seconds": round(seconds, 2), "max_epochs": self.job.max_epochs, "workers": self.world}
        arrays, state = self.trainer.state() if self._tells else ({}, {})
        if self.rank == 0:
            checkpoints.put_epoch(self.job.model, epoch, arrays, {"trainer": state, "report": told})
            metrics.epoch(self.job.model, told, rows=self.feed.steps * self.feed.batch_rows * self.world)
        return told

    def _resume(self) -> Facts:
        """Take up the latest checkpoint, the first rank's latest → what it says of its epoch; nothing where there is none."""
        found = checkpoints.checkpoints(self.job.model)
        name = from_first(found[-1][1] if found else None, self.world, self.device)
        if name is None:
            return {}
        arrays, facts = checkpoints.read(self.job.model, name)
        self.trainer.load(arrays, facts["trainer"])
        return cast("Facts", facts["report"])


def _trainer(job: Job, rank: int, world: int, device: torch.device, steps: int) -> Trainer:
    torch.set_num_threads(1)
    codec = codec_of(job.parts["codec"], Schema.from_json(job.schema), job.seed)
    codec.load(*job.codec_state)
    generator = initialise(lambda: cast("Trained", generator_of(job.parts["generator"], codec)), job.seed)
    generator.to(device)
    return Trainer(
        generator,
        seed=job.seed,
        max_epochs=job.max_epochs,
        steps_per_epoch=steps,
        rank=rank,
        precision=job.precision,
        wrap=(lambda module: share(generator, module)) if world > 1 else None,
        agree=lambda loss: from_first(loss, world, device),
    )


def device_of(job: Job, given: torch.device) -> torch.device:
    """The one of this worker alone: workers on one node see all that they hold together."""
    if not job.use_gpu:
        if (here := torch.backends.cpu.get_cpu_capability()) != job.capability:
            raise NondeterminismError(
                f"{platform.node()}: its CPU would train another model: {here} against {job.capability}. "
                "Keep it out by cluster.train_labels"
            )
        return torch.device("cpu")
    if given.type != "cuda":
        raise RecipeError("train.use_gpu: a worker got a GPU that its torch cannot use. Install torch for CUDA there, or say false")
    if job.precision == "bfloat16" and torch.cuda.get_device_capability(given) < (8, 0):
        raise RecipeError(f"train.precision: bfloat16, and {torch.cuda.get_device_name(given)} has none. Say float32")
    torch.cuda.set_device(given)
    return given
