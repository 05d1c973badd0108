"""A shuffle on Ray tasks: every item is cut into buckets, and every bucket is brought together in the items' order."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from raysynth.cluster.meter import METER
from raysynth.cluster.session import session
from raysynth.errors import RaysynthError


def map_reduce(
    items: Sequence[Any], cut: Callable[[Any], list[pa.Table]], bring: Callable[[int, list[pa.Table]], Any], *, buckets: int
) -> list[Any]:
    """`cut(item)` gives one table per bucket; `bring(bucket, tables)` gets those of one bucket. The results, by bucket.

    Tables stay in Ray's object store (and spill to disk); the driver holds references only. A task that dies runs again.
    """

    def cut_one(item: Any) -> Any:  # Ray wants a function, and one table where it expects one
        tables = cut(item)
        return tables if buckets > 1 else tables[0]

    def bring_one(bucket: int, *tables: pa.Table) -> Any:
        began = time.process_time()
        return bring(bucket, list(tables)), time.process_time() - began

    with session() as ray:
        mapped = ray.remote(num_cpus=1, max_retries=4, num_returns=buckets)(cut_one)
        reduced = ray.remote(num_cpus=1, max_retries=4)(bring_one)
        pieces = [_as_list(mapped.remote(item), buckets) for item in items]
        done = [reduced.remote(bucket, *[piece[bucket] for piece in pieces]) for bucket in range(buckets)]
        del pieces
        try:
            ended: list[tuple[Any, float]] = ray.get(done)
        except ray.exceptions.RayTaskError as error:  # it wraps what a task raised, with a traceback in its text
            if isinstance(error.cause, RaysynthError):
                raise error.cause from None
            raise
        METER.add(sum(cpu_seconds for _, cpu_seconds in ended))
        return [result for result, _ in ended]


def _as_list(refs: Any, buckets: int) -> list[Any]:
    return [refs] if buckets == 1 else list(refs)
