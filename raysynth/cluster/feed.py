"""Encoded parts on the store → one rank's batches, epoch after epoch. No rank holds more than 256 MiB of the feed and one part beside it."""

from collections.abc import Iterator
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.draws import Draws
from raysynth.layout import Batch
from raysynth.runs import parquet_rows
from raysynth.stores.base import store_for

VALIDATION_ROWS = 4096


class Feed:
    """`train`, `validation`: URLs of encoded parts, of `rows` rows to train on, `batch_rows` a step. Each epoch permutes the parts by
    (seed, epoch), deals them by rank and permutes the rows inside a part; its steps follow from how many ranks there are now."""

    _KEPT_BYTES = 256 << 20  # a feed smaller than this is read once and then kept

    def __init__(
        self, train: tuple[str, ...], validation: tuple[str, ...], *, rows: int, batch_rows: int, seed: int, rank: int, world: int
    ) -> None:
        self.train, self.held_out, self.seed, self.rank, self.world = train, validation, seed, rank, world
        self.batch_rows, self.steps = batch_rows, max(1, rows // (batch_rows * world))
        self._kept: dict[str, Batch] = {}
        self._kept_bytes = 0

    def batches(self, epoch: int) -> Iterator[Batch]:
        """Exactly `steps` batches of `batch_rows` rows; a rank that runs dry begins again, so that all ranks make equal steps."""
        made = 0
        while made < self.steps:
            for batch in self._pass(epoch):
                yield batch
                made += 1
                if made == self.steps:
                    return

    def validation(self) -> Iterator[Batch]:
        for batch in self._read(self.held_out):
            for start in range(0, batch.rows, VALIDATION_ROWS):
                yield batch.take(slice(start, start + VALIDATION_ROWS))

    def mine(self, epoch: int) -> tuple[str, ...]:
        """The parts of this rank's share; where there are fewer parts than ranks, all, and each rank takes its share of their rows."""
        order = np.argsort(Draws.range(self.seed, "feed", 0, len(self.train)).words(f"epoch-{epoch}"))
        dealt = order[self.rank :: self.world] if len(self.train) >= self.world else order
        return tuple(self.train[i] for i in dealt)

    def _pass(self, epoch: int) -> Iterator[Batch]:
        for part in self._read(self.mine(epoch)):
            shuffle = np.argsort(Draws.range(self.seed, "feed-rows", 0, part.rows).words(f"epoch-{epoch}"), kind="stable")
            if len(self.train) < self.world <= part.rows:
                shuffle = shuffle[self.rank :: self.world]
            size = min(self.batch_rows, len(shuffle))
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
