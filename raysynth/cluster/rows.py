"""Runs one function over many items on Ray Data, a few in flight per worker; results come back as they end, or in the items' order."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import cloudpickle  # in flight only, as Ray itself does; nothing pickled is ever stored
import pyarrow as pa

from raysynth.cluster.meter import METER
from raysynth.cluster.session import session
from raysynth.errors import RaysynthError

Make = Callable[[], Callable[[Any], Any]]
"""Called once on each worker (loads a model, say); what it returns is called once per item."""


class _Worker:
    """An actor of Ray Data's pool: rows of (index, item) → rows of (index, result). raysynth's own errors travel as results, since Ray
    wraps what a worker raises in its own exceptions and loses the one that the user should read."""

    def __init__(self, make: Make) -> None:
        self.make = make
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"index": batch["index"], "result": pa.array([self._done(item) for item in batch["item"]], pa.large_binary())}

    def _done(self, item: bytes) -> bytes:
        """(error or None, result, CPU-seconds that it took)."""
        began = time.process_time()
        try:
            if self.work is None:
                self.work = self.make()
            result = self.work(cloudpickle.loads(item))
            return cloudpickle.dumps((None, result, time.process_time() - began))
        except RaysynthError as error:
            return cloudpickle.dumps((error, None, time.process_time() - began))


def map_items(items: Sequence[Any], make: Make, *, workers: int, keep: bool = True) -> Iterator[tuple[int, Any]]:
    """(position, result) as they end. raysynth's own errors are raised here as they were raised there.

    `keep`: what `make` returns is costly (a model) and lives in an actor as long as the items last; else each item is a task of its own, on
    worker processes that Ray has already, which saves the seconds in which an actor starts.
    """
    if not items:
        return
    with session() as ray:
        rows = [{"index": index, "item": cloudpickle.dumps(item)} for index, item in enumerate(items)]
        data = ray.data.from_items(rows, override_num_blocks=len(rows))
        size = max(1, min(workers, len(items)))
        if keep:
            pool = ray.data.ActorPoolStrategy(size=size)
            done = data.map_batches(
                _Worker, fn_constructor_args=(make,), batch_size=1, batch_format="numpy", compute=pool, num_cpus=1
            )
        else:
            tasks = ray.data.TaskPoolStrategy(size=size)
            done = data.map_batches(_Worker(make), batch_size=1, batch_format="numpy", compute=tasks, num_cpus=1)
        for batch in done.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
            error, result, cpu_seconds = cloudpickle.loads(batch["result"][0].as_py())
            METER.add(cpu_seconds)
            if error is not None:
                raise error
            yield batch["index"][0].as_py(), result


def map_ordered(items: Sequence[Any], make: Make, *, workers: int) -> list[Any]:
    """The results in the order of the items, each made by a task of its own."""
    results = dict(map_items(items, make, workers=workers, keep=False))
    return [results[index] for index in range(len(items))]
