"""A sample that is asked for → its rows, piece by piece, within the limits. Knows nothing of HTTP's syntax and nothing of Ray."""

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa

from raysynth.errors import RecipeError, RuleError
from raysynth.layout import picture_bytes
from raysynth.sampler import Sampler
from raysynth.serving.api import MOST_ROW_NUMBER, Ask, HttpError, not_found, too_many, unprocessable
from raysynth.serving.batching import Batcher
from raysynth.serving.guard import Meter
from raysynth.serving.registry import Published, Registry, Served
from raysynth.serving.settings import Settings

PIECE_ROWS, PIECE_BYTES = 4096, 1 << 25  # what a stream is cut into: small beside a second's work, big beside what a call costs
SEED_BITS = 32


class Meters(Meter, Protocol):
    """What is counted: see deploy/monitoring."""

    def sampled(self, model: str, rows: int, seconds: float) -> None: ...
    def encoded(self, format: str, rows: int, seconds: float) -> None: ...
    def waiting(self, rows: int) -> None: ...


@dataclass(frozen=True)
class Admitted:
    """A sample that was admitted: nothing of it can be refused any more but that it takes too long."""

    served: Served
    sampler: Sampler
    rows: int
    offset: int
    seed: int
    columns: list[str]

    @property
    def schema(self) -> pa.Schema:
        arrow = self.served.model.schema.arrow
        return pa.schema([arrow.field(name) for name in self.columns])


class Service:
    """`load`: a published model → the same one in memory (Serve's multiplexing keeps some)."""

    def __init__(
        self, settings: Settings, registry: Registry, load: Callable[[Published], Awaitable[Served]], meters: Meters
    ) -> None:
        self.settings, self.registry, self.meters = settings, registry, meters
        self._load = load
        self.batcher = Batcher()
        self._owed_rows = 0

    async def models(self) -> Mapping[str, Published]:
        return self.registry.models() if self.registry.fresh else await asyncio.to_thread(self.registry.models)

    async def served(self, id: str) -> Served:
        """404 if no run has published it."""
        models = await self.models()
        if id not in models:
            raise not_found(f"model '{id}': there is none. Models: {', '.join(sorted(models)) or 'none'}")
        return await self._load(models[id])

    async def admit(self, id: str, ask: Ask) -> Admitted:
        """413, 422 or 404 where it cannot be."""
        _check_rows(ask.rows, self.settings.max_rows, "a sample")
        if ask.offset + ask.rows > MOST_ROW_NUMBER:
            raise unprocessable(f"offset: {ask.offset} and {ask.rows} rows go beyond the last row number, {MOST_ROW_NUMBER}")
        served = await self.served(id)
        if pixels := picture_bytes(served.model.codec.layout):
            _check_rows(ask.rows, max(1, self.settings.max_picture_bytes // pixels), "a sample of such pictures")
        names = served.model.schema.names
        columns = names if ask.columns is None else list(dict.fromkeys(ask.columns))
        if unknown := [name for name in columns if name not in names]:
            raise unprocessable(f"columns: no column '{unknown[0]}'. Columns: {', '.join(names)}")
        try:
            sampler = await asyncio.to_thread(served.sampler, served.facts["where"] if ask.where is None else ask.where)
        except RecipeError as error:
            raise unprocessable(str(error)) from None
        seed = secrets.randbits(SEED_BITS) if ask.seed is None else ask.seed
        return Admitted(served, sampler, ask.rows, ask.offset, seed, columns)

    async def tables(self, order: Admitted) -> AsyncIterator[pa.Table]:
        """The rows, at most PIECE_ROWS at a time and PIECE_BYTES of bare pixels. 429 when too many rows are owed already, 408 when the
        time is over, 422 when the rules and `where` cannot be met. Who stops reading stops the work."""
        if self._owed_rows and self._owed_rows + order.rows > self.settings.max_waiting_rows:
            self.meters.refused("rows")
            raise too_many(f"{self._owed_rows:,} rows are owed already, and {self.settings.max_waiting_rows:,} may be", 1)
        owed = order.rows
        self._owe(owed)
        ends = time.monotonic() + self.settings.timeout_seconds
        try:
            pixels = picture_bytes(order.served.model.codec.layout)
            piece = min(PIECE_ROWS, max(1, PIECE_BYTES // pixels)) if pixels else PIECE_ROWS
            for start in range(order.offset, order.offset + order.rows, piece):
                stop = min(start + piece, order.offset + order.rows)
                yield (await self._piece(order, start, stop, ends)).select(order.columns)
                self._owe(start - stop)
                owed -= stop - start
        finally:
            self._owe(-owed)

    async def _piece(self, order: Admitted, start: int, stop: int, ends: float) -> pa.Table:
        began = time.monotonic()
        numbers = np.arange(start, stop, dtype=np.uint64)
        try:
            async with asyncio.timeout(ends - began):
                rows = await self.batcher.rows(order.sampler, order.seed, numbers)
        except TimeoutError:
            self.meters.refused("time")
            raise HttpError(
                408,
                "Request timeout",
                f"{order.rows:,} rows were not made within {self.settings.timeout_seconds:g} s. Ask for fewer, or POST /v1/jobs",
            ) from None
        except RuleError as error:
            raise unprocessable(str(error)) from None
        self.meters.sampled(order.served.published.id, stop - start, time.monotonic() - began)
        return rows

    def _owe(self, rows: int) -> None:
        self._owed_rows += rows
        self.meters.waiting(self._owed_rows)


def _check_rows(rows: int, most: int, of: str) -> None:
    """413 where there are more."""
    if rows > most:
        told = f"rows: {rows:,}, and {of} has at most {most:,}. POST /v1/jobs writes data sets of any size"
        raise HttpError(413, "Content too large", told)
