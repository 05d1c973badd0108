"""Rows → rows between each of them and a partner from the train rows (Zhang et al., "mixup", ICLR 2018)."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Op, Stats
from raysynth.ops.tabular._numbers import as_type, is_numeric, numbers
from raysynth.ops.tabular._pool import Pool
from raysynth.schema import Column, Schema

LABEL, SHARE = "label_b", "lam"


class Mixup(Op):
    """A number becomes lam × the row's + (1 - lam) × the partner's, with lam drawn from Beta(alpha, alpha); where one of them is
    missing it is the other's. A class, a text or an id is that of the nearer of the two. The row keeps its own label, `target`; the
    partner's stands in `label_b` and the row's share in `lam`: train on lam × loss(target) + (1 - lam) × loss(label_b).
    A derived `target` is computed anew by the stage, as every derived column: it is then the label of the mixed row, which need be
    neither of the two, and that loss does not apply.
    `pool_rows`: the partners come from the rows of lowest hashed id."""

    def __init__(self, schema: Schema, *, target: str, alpha: float = 0.2, pool_rows: int = 10_000) -> None:
        super().__init__(schema)
        if target not in schema:
            raise RecipeError(f"target: no column '{target}'. Columns: {', '.join(schema.names)}")
        if taken := [name for name in (LABEL, SHARE) if name in schema]:
            raise RecipeError(f"the rows have a column '{taken[0]}' already, which this op adds. Rename it")
        if alpha <= 0 or pool_rows < 1:
            raise RecipeError(f"alpha and pool_rows: must be above 0 (got {alpha} and {pool_rows})")
        self.target, self.alpha, self.pool_rows = target, alpha, pool_rows
        self._pool: pa.Table = schema.arrow.empty_table()

    @property
    def made(self) -> Schema:
        target = self.schema[self.target]
        added = self.schema.with_column(Column(LABEL, target.kind, target.type))
        return added.with_column(Column(SHARE, "number", pa.float64()))

    def observe(self, rows: pa.Table) -> Pool:
        return Pool.of(rows, self.pool_rows)

    def settle(self, stats: Stats | None) -> None:
        if isinstance(stats, Pool):
            self._pool = stats.rows

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        from scipy.special import betaincinv

        lam = np.asarray(betaincinv(self.alpha, self.alpha, draws.uniform("lam")), dtype=np.float64)
        chosen = (draws.uniform("partner") * self._pool.num_rows).astype(np.int64)
        partner = self._pool.take(chosen)
        label = partner.column(self.target).combine_chunks()
        for column in self.schema.learnt:
            if column.name != self.target:
                field = rows.schema.field(column.name)
                mixed = self._mixed(rows, partner, column, lam)
                rows = rows.set_column(rows.column_names.index(column.name), field, mixed)
        return rows.append_column(LABEL, label).append_column(SHARE, pa.array(lam))

    def _mixed(self, rows: pa.Table, partner: pa.Table, column: Column, lam: np.ndarray) -> pa.Array:
        own, other = (table.column(column.name).combine_chunks() for table in (rows, partner))
        if not is_numeric(column):
            return pc.if_else(pa.array(lam >= 0.5), own, other)
        one, two = numbers(own), numbers(other)
        mixed = lam * np.where(np.isnan(one), two, one) + (1 - lam) * np.where(np.isnan(two), one, two)
        return as_type(np.clip(mixed, np.fmin(one, two), np.fmax(one, two)), column.type)
