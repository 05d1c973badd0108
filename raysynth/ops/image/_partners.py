"""A picture and one of another train row → one picture of both, with both labels and the share of each."""

from abc import abstractmethod
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.image_headers import size_of
from raysynth.ops.base import Stats
from raysynth.ops.image._pictures import Painted, Picturing, image_column, with_images
from raysynth.ops.tabular._pool import Pool
from raysynth.ops.tabular.mixup import LABEL, SHARE
from raysynth.pictures import Pixels, encoded, filling, in_channels, pixels_of, views_of, within
from raysynth.schema import ROW_ID, Column, Schema

MOST_SIDE = 512  # of a partner in the pool, which every worker holds


class Partnered(Picturing):
    """Each picture is joined by one of the pool, the train rows of lowest hashed id that have a picture: cropped around its middle and
    resized to the row's, at most MOST_SIDE pixels a side before. `label_b` is the label of the partner, `lam` the row's own share: 1
    where nothing was joined."""

    def __init__(
        self, schema: Schema, *, target: str, alpha: float, pool_rows: int, probability: float, column: str | None
    ) -> None:
        super().__init__(schema)
        self.column = image_column(schema, column)
        if target not in schema or target == self.column:
            able = ", ".join(name for name in schema.names if name != self.column)
            raise RecipeError(f"target: '{target}' is no column of labels. Columns: {able or 'none'}")
        if taken := [name for name in (LABEL, SHARE) if name in schema]:
            raise RecipeError(f"the rows have a column '{taken[0]}' already, which this op adds. Rename it")
        self.target, self.alpha, self.pool_rows, self.probability = target, alpha, pool_rows, probability
        self._labels: pa.Array = pa.array([], schema[target].type)
        self._pictures: pa.Array = pa.array([], schema[self.column].type)

    @property
    def made(self) -> Schema:
        target = self.schema[self.target]
        added = self.schema.with_column(Column(LABEL, target.kind, target.type))
        return added.with_column(Column(SHARE, "number", pa.float64()))

    def observe(self, rows: pa.Table) -> Pool:
        rows = rows.select([*ROW_ID, self.column, self.target])
        pictures = rows.column(self.column)
        pool = Pool.of(rows.filter(pictures.is_valid()) if pictures.null_count else rows, self.pool_rows)
        kept = [None if data is None else _small(data) for data in views_of(pool.rows.column(self.column))]
        return Pool(with_images(pool.rows, self.column, kept), pool.words, pool.size)

    def settle(self, stats: Stats | None) -> None:
        if isinstance(stats, Pool):
            self._labels = cast("Any", stats.rows.column(self.target).combine_chunks())
            self._pictures = cast("Any", stats.rows.column(self.column).combine_chunks())

    def work(self, draws: Draws) -> Painted:
        from scipy.special import betaincinv

        lam = np.asarray(betaincinv(self.alpha, self.alpha, draws.uniform("lam")), dtype=np.float64)
        partners = (draws.uniform("partner") * len(self._labels)).astype(np.int64)
        places, known = draws.uniform("place", 2), views_of(self._pictures)
        joined = np.ones(len(draws))

        def paint(row: int, pixels: Pixels) -> Pixels:
            other = pixels_of(known[partners[row]] or b"")
            other = in_channels(filling(other, *pixels.shape[:2]), pixels.shape[2])
            made, joined[row] = self._joined(pixels, other, float(lam[row]), places[row])
            return made

        chosen = (draws.uniform("whether") < self.probability) & bool(known)
        labels = self._labels.take(cast("Any", pa.array(partners, mask=np.full(len(partners), not known))))
        return Painted(
            self.column,
            chosen.tolist(),
            paint,
            lambda rows: rows.append_column(LABEL, labels).append_column(SHARE, pa.array(joined)),
        )

    @abstractmethod
    def _joined(self, own: Pixels, other: Pixels, lam: float, place: NDArray[np.float64]) -> tuple[Pixels, float]:
        """Two pictures of one size → one, and the share of the first that it has: about `lam`. `place`: (2,) uniform draws."""


def _small(data: memoryview) -> bytes | memoryview:
    if max(size_of(data) or (0, 0)) <= MOST_SIDE:
        return data
    return encoded(within(pixels_of(data), MOST_SIDE), "jpeg")
