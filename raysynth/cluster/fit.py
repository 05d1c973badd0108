"""Trains a generator with Ray Train on a feed of encoded parts: one or several workers, checkpoints on the store that resume bit-exactly.

The store, not Ray, keeps the checkpoints: each is put once, whole, under a name that bears its epoch and its hash. A worker that
starts (for the first time, after a failure, or in another session) takes up the latest one.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

from raysynth.cluster.meter import METER
from raysynth.cluster.session import session
from raysynth.draws import Draws
from raysynth.errors import StoppedError
from raysynth.generators.base import Trained
from raysynth.layout import Arrays, Batch, Facts
from raysynth.models import codec_of, generator_of
from raysynth.runs import Folder, parquet_rows
from raysynth.schema import Schema
from raysynth.stores.base import join, store_for
from raysynth.training import Trainer, initialise

if TYPE_CHECKING:
    from torch import nn

CHECKPOINTS = "_raysynth/tmp/checkpoints"
KEPT_EPOCHS = 2


@dataclass(frozen=True)
class Job:
    """All that a training worker needs; no rows, no secrets. `train`, `validation`: URLs of encoded parts; `steps`: per epoch and rank."""

    model: Folder
    schema: list[dict[str, Any]]
    parts: dict[str, dict[str, Any]]
    codec_state: tuple[Arrays, Facts]
    train: tuple[str, ...]
    validation: tuple[str, ...]
    steps: int
    batch_rows: int
    seed: int
    max_epochs: int
    max_train_seconds: float | None
    workers: int
    use_gpu: bool


def fit(job: Job) -> tuple[Arrays, Facts] | None:
    """Train to the end of the budget, or from where an earlier call stopped → the best weights and a report of the epochs; None where
    another driver has committed the model meanwhile, and with that cleared the checkpoints."""
    if (done := final(job.model)) is not None:
        return done
    try:
        _train(job)
    except Exception:
        if job.model.committed:
            return None
        raise
    if (done := final(job.model)) is not None:
        return done
    if job.model.committed:
        return None
    raise StoppedError(f"{job.model.url}: training ended without final weights. Run the same command again to go on")


def _train(job: Job) -> None:
    with session(), TemporaryDirectory(prefix="raysynth-train-") as scratch:
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        class Interruptible(TorchTrainer):
            def _register_sigint_handler(self, controller: Any) -> None:
                """Ray's handler would end the process with Ray's own code, in every later stage too; checkpoints are on the store."""

        ended = Interruptible(
            _work,
            train_loop_config={"job": job},
            torch_config=TorchConfig(backend="nccl" if job.use_gpu else "gloo"),
            scaling_config=ScalingConfig(num_workers=job.workers, use_gpu=job.use_gpu),
            run_config=RunConfig(failure_config=FailureConfig(max_failures=5), storage_path=scratch, name=job.model.id),
        ).fit()
        METER.add((ended.metrics or {}).get("cpu_seconds", 0.0) * job.workers)


def checkpoints(model: Folder) -> list[tuple[int, str]]:
    """(epoch, name) of the checkpoints on the store, in the order of their epochs."""
    return sorted((int(name.split("-")[1]), name) for name in model.names(CHECKPOINTS) if name.startswith("epoch-"))


def final(model: Folder) -> tuple[Arrays, Facts] | None:
    """The best weights and the report of a training that has ended."""
    for name in model.names(CHECKPOINTS):
        if name.startswith("final-"):
            return _unpack(model.read(f"{CHECKPOINTS}/{name}"))
    return None


def _work(config: dict[str, Any]) -> None:
    """One rank: epochs until the trainer, the budget or the clock says enough, a checkpoint after each."""
    from ray import train

    job = cast("Job", config["job"])
    context = train.get_context()
    rank, world = context.get_world_rank(), context.get_world_size()
    trainer = _trainer(job, rank, world)
    last = _resume(job, trainer)
    feed = _Feed(job, rank, world)
    began = time.monotonic()
    while not last.get("done", False):
        epoch = trainer.cursor.epoch
        for step, batch in enumerate(feed.batches(epoch)):
            trainer.step(batch, epoch, step)
        report = trainer.end_epoch(feed.validation())
        seconds = time.monotonic() - began
        late = _agreed(job.max_train_seconds is not None and seconds >= job.max_train_seconds, world)
        last = {**asdict(report), "done": report.done or late, "cut_short": late and not report.done, "seconds": round(seconds, 2)}
        if rank == 0:
            _save(job.model, trainer, last)
        train.report({"epoch": epoch, "validation_loss": report.validation_loss, "cpu_seconds": time.process_time()})
    if rank == 0:
        facts = {"epochs": trainer.cursor.epoch, "best_epoch": trainer.cursor.best_epoch, "reproducible": not last["cut_short"]}
        job.model.put_named(f"{CHECKPOINTS}/final", "safetensors", _pack(trainer.best(), facts))


def _save(model: Folder, trainer: Trainer, report: Facts) -> None:
    """Put this epoch's checkpoint, and only then drop those that are three epochs old."""
    arrays, state = trainer.state()
    epoch = int(report["epoch"])
    model.put_named(f"{CHECKPOINTS}/epoch-{epoch:06d}", "safetensors", _pack(arrays, {"trainer": state, "report": report}))
    for old, name in checkpoints(model):
        if old < epoch - KEPT_EPOCHS:
            model.store.delete(join(model.url, CHECKPOINTS, name))


def _trainer(job: Job, rank: int, world: int) -> Trainer:
    import torch

    torch.set_num_threads(1)
    codec = codec_of(job.parts["codec"], Schema.from_json(job.schema), job.seed)
    codec.load(*job.codec_state)
    generator = initialise(lambda: cast("Trained", generator_of(job.parts["generator"], codec)), job.seed)
    if job.use_gpu:
        generator.to("cuda")
    wrap = _distributed if world > 1 else None
    return Trainer(generator, seed=job.seed, max_epochs=job.max_epochs, steps_per_epoch=job.steps, rank=rank, wrap=wrap)


def _distributed(module: "nn.Module") -> "nn.Module":
    from torch.nn.parallel import DistributedDataParallel

    return DistributedDataParallel(module, find_unused_parameters=True)  # a head of one code has no gradient


def _resume(job: Job, trainer: Trainer) -> Facts:
    """Take up the latest checkpoint → what it says of its epoch; nothing where there is none."""
    found = checkpoints(job.model)
    if not found:
        return {}
    arrays, facts = _unpack(job.model.read(f"{CHECKPOINTS}/{found[-1][1]}"))
    trainer.load(arrays, facts["trainer"])
    return cast("Facts", facts["report"])


class _Feed:
    """This rank's batches: each epoch permutes the parts by (seed, epoch), deals them by rank and permutes the rows inside a part."""

    _KEPT_BYTES = 256 << 20  # a feed smaller than this is read once and then kept

    def __init__(self, job: Job, rank: int, world: int) -> None:
        self.job, self.rank, self.world = job, rank, world
        self._kept: dict[str, Batch] = {}
        self._kept_bytes = 0

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Exactly `steps` batches of `batch_rows` rows; a rank that runs dry begins again, so that all ranks make equal steps."""
        made = 0
        while made < self.job.steps:
            for batch in self._pass(epoch):
                yield batch
                made += 1
                if made == self.job.steps:
                    return

    def validation(self) -> Iterator[Batch]:
        for batch in self._read(self.job.validation):
            for start in range(0, batch.rows, 4096):
                yield batch.take(slice(start, start + 4096))

    def _pass(self, epoch: int) -> Iterator[Batch]:
        urls = self.job.train
        order = np.argsort(Draws.range(self.job.seed, "feed", 0, len(urls)).words(f"epoch-{epoch}"))
        mine = [urls[i] for i in order[self.rank :: self.world]] if len(urls) >= self.world else [urls[i] for i in order]
        for part in self._read(tuple(mine)):
            shuffle = np.argsort(Draws.range(self.job.seed, "feed-rows", 0, part.rows).words(f"epoch-{epoch}"), kind="stable")
            if len(urls) < self.world:
                shuffle = shuffle[self.rank :: self.world]
            size = min(self.job.batch_rows, len(shuffle))
            for start in range(0, len(shuffle) - size + 1, size):
                yield part.take(shuffle[start : start + size])

    def _read(self, urls: tuple[str, ...]) -> Iterator[Batch]:
        missing = [url for url in urls if url not in self._kept]
        stream = _stream(missing)
        for url in urls:
            batch = self._kept.get(url)
            if batch is None:
                batch = next(stream)
                size = sum(array.nbytes for array in batch.arrays.values())
                if self._kept_bytes + size <= self._KEPT_BYTES:
                    self._kept[url] = batch
                    self._kept_bytes += size
            yield batch


def _stream(urls: list[str]) -> Iterator[Batch]:
    """Encoded parts by Ray Data, in order; its tasks only fetch, so they ask for no CPU of their own beside the trainer's."""
    if not urls:
        return
    import ray.data

    # from_items makes its blocks here: from_arrow asks for them by tasks of one CPU, which trainers that hold every CPU never free
    data = ray.data.from_items([{"url": url} for url in urls], override_num_blocks=len(urls))
    data.context.execution_options.preserve_order = True
    read = data.map_batches(cast("Any", _fetch), batch_size=1, batch_format="pyarrow", num_cpus=0)
    for table in read.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=1):
        yield batch_of(load_part(cast("pa.Table", table)["data"][0].as_py()))


def _fetch(urls: pa.Table) -> pa.Table:
    url = urls["url"][0].as_py()
    return pa.table({"data": pa.array([store_for(url).read(url)], pa.large_binary())})


def load_part(data: bytes) -> pa.Table:
    return parquet_rows(data)


def table_of(batch: Batch) -> pa.Table:
    """A batch's arrays as columns: a one-dimensional array as it is, a wider one as lists of fixed size."""
    columns: dict[str, pa.Array] = {}
    for name, array in batch.arrays.items():
        flat = pa.array(np.ascontiguousarray(array).reshape(-1))
        columns[name] = flat if array.ndim == 1 else pa.FixedSizeListArray.from_arrays(flat, int(np.prod(array.shape[1:])))
    return pa.table(columns)


def batch_of(table: pa.Table) -> Batch:
    arrays: dict[str, Any] = {}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            lists = cast("pa.FixedSizeListArray", column)
            arrays[name] = lists.flatten().to_numpy(zero_copy_only=False).reshape(len(lists), lists.type.list_size)
        else:
            arrays[name] = column.to_numpy(zero_copy_only=False)
    return Batch(arrays)


def _agreed(here: bool, world: int) -> bool:
    """Rank 0's clock decides for all."""
    if world == 1:
        return here
    import torch
    import torch.distributed as dist

    flag = torch.tensor([int(here)])
    dist.broadcast(flag, src=0)
    return bool(flag.item())


def _pack(arrays: Arrays, facts: Facts) -> bytes:
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**tensors, "_": np.zeros(1, np.uint8)}, metadata={"facts": json.dumps(facts, sort_keys=True)})


def unpack_facts(model: Folder, name: str) -> Facts:
    """What a checkpoint says beside its arrays: only its head is read."""
    url = join(model.url, CHECKPOINTS, name)
    size = int.from_bytes(model.store.read_range(url, 0, 8), "little")
    return _facts(model.store.read_range(url, 8, size))


def _facts(header: bytes) -> Facts:
    return cast("Facts", json.loads(json.loads(header)["__metadata__"]["facts"]))


def _unpack(data: bytes) -> tuple[Arrays, Facts]:
    arrays = load(data)
    del arrays["_"]
    return arrays, _facts(data[8 : 8 + int.from_bytes(data[:8], "little")])
