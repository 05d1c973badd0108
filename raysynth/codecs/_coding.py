"""One learnt column ↔ codes: which cell a value lies in, and a value of a cell.

A column's coding is a list of cells: its specials (null, NaN, infinities), its atoms (single values) and, for a column of many
numbers, quantile intervals. Cells below `singles` are codes of their own; the others are written as (group, digit). A cell that is
an interval decodes by interpolation between sorted train values, rounded to the column's own precision: nothing is replayed.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.codecs._numbers import MAX_DECIMALS, Mask, from_numbers, is_float, is_number, specials_of, to_numbers
from raysynth.draws import Draws, word
from raysynth.layout import Array, Field
from raysynth.schema import Column
from raysynth.where import Condition, Range, Values

Cells = NDArray[np.int64]


@dataclass(frozen=True)
class Coding:
    """How one learnt column is written down; see the top of the file for cells, singles and digits."""

    column: Column
    specials: tuple[int, ...]
    atoms: Any
    singles: int
    digits: int
    cells: int
    step: int = 1
    edges: Array = field(default_factory=lambda: np.zeros(0))
    starts: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    knots: Array = field(default_factory=lambda: np.zeros(0))

    @property
    def first_interval(self) -> int:
        return len(self.specials) + len(self.atoms)

    def fields(self) -> list[Field]:
        name, coarse = self.column.name, self.singles + -(-(self.cells - self.singles) // self.digits)
        fields = [Field(name, name, coarse, self._ranks(coarse))]
        return fields if self.digits == 1 else [*fields, Field(f"{name}.digit", name, self.digits, tuple(range(self.digits)))]

    def _ranks(self, coarse: int) -> tuple[int, ...] | None:
        """Of the first field's codes by the value with which each begins, specials before all; None of what is no number."""
        if not is_number(self.column.type):
            return None
        specials = len(self.specials)
        begins = np.concatenate([self.atoms, self.edges[:: self.digits]])[: coarse - specials]
        ranks = np.empty(coarse, np.int64)
        ranks[:specials] = np.arange(specials)
        ranks[specials + np.argsort(begins, kind="stable")] = np.arange(specials, specials + len(begins))
        return tuple(ranks.tolist())

    def to_codes(self, cells: Cells) -> list[Cells]:
        if self.digits == 1:
            return [cells]
        beyond = np.maximum(cells - self.singles, 0)
        group, digit = np.divmod(beyond, self.digits)
        return [np.where(cells < self.singles, cells, self.singles + group), np.where(cells < self.singles, 0, digit)]

    def to_cells(self, codes: list[Cells]) -> Cells:
        if self.digits == 1:
            return codes[0]
        grouped = self.singles + (codes[0] - self.singles) * self.digits + codes[1]
        return np.where(codes[0] < self.singles, codes[0], np.minimum(grouped, self.cells - 1))

    def encode(self, column: pa.Array) -> Cells:
        """(rows,) cells; a value that the train rows never had goes to its neighbour (numbers) or to a cell by its hash."""
        first = len(self.specials)
        if not is_number(self.column.type):
            found = pc.index_in(column, value_set=self.atoms)
            cells = np.asarray(found.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64) + first
            special = np.where(np.asarray(column.is_null()), 0, -1)
            for row in np.flatnonzero((cells < first) & (special < 0)):
                cells[row] = first + int(word(column[int(row)].as_py())) % max(len(self.atoms), 1)
        else:
            numbers, nulls = to_numbers(column)
            special = specials_of(numbers, nulls)
            cells = first + self._place(numbers)
        for code in range(4):
            if (rows := special == code).any():
                cells[rows] = self.specials.index(code) if code in self.specials else 0
        return np.clip(cells, 0, self.cells - 1)

    def _place(self, numbers: Array) -> Cells:
        atom = np.searchsorted(self.atoms, numbers)
        if not len(self.edges):
            return atom
        interval = np.maximum(np.searchsorted(self.edges, numbers, side="right") - 1, 0) + len(self.atoms)
        if not len(self.atoms):
            return interval
        return np.where(self.atoms[np.minimum(atom, len(self.atoms) - 1)] == numbers, atom, interval)

    def decode(self, cells: Cells, draws: Draws) -> pa.Array:
        nulls = (cells == self.specials.index(0)) if 0 in self.specials else np.zeros(len(cells), dtype=np.bool_)
        if not is_number(self.column.type):
            index = np.maximum(cells - len(self.specials), 0)
            if not len(self.atoms):
                return pa.array([None] * len(cells), self.column.type)
            return self.atoms.take(pa.array(index, mask=nulls if nulls.any() else None))
        table = self._single_numbers()
        values = table[np.minimum(cells, len(table) - 1)] if len(table) else np.zeros(len(cells), dtype=self.knots.dtype)
        if len(self.edges):
            rows = np.flatnonzero(cells >= self.first_interval)
            if len(rows):
                uniform = draws.take(rows).uniform(f"decode.{self.column.name}")
                values[rows] = self._interpolate(cells[rows] - self.first_interval, uniform)
        return from_numbers(values, nulls, self.column.type)

    def _single_numbers(self) -> Array:
        specials = np.array([0.0, np.nan, -np.inf, np.inf])[list(self.specials)]
        dtype = np.float64 if is_float(self.column.type) else np.int64
        return np.concatenate(
            [np.where(np.isfinite(specials), specials, 0).astype(dtype) if dtype is np.int64 else specials, self.atoms]
        )

    def _interpolate(self, interval: Cells, uniform: NDArray[np.float64]) -> Array:
        """Uniform position among the interval's sorted train values, half a place beyond either end."""
        start = self.starts[interval]
        place = start + uniform * (self.starts[interval + 1] - start) - 0.5
        place = np.clip(place, 0, len(self.knots) - 1)
        below = np.minimum(place.astype(np.int64), max(len(self.knots) - 2, 0))
        above = np.minimum(below + 1, len(self.knots) - 1)
        low, high, part = self.knots[below], self.knots[above], place - below
        if low.dtype.kind == "f":
            with np.errstate(over="ignore"):
                values = low * (1 - part) + high * part
                return np.round(values, self.step) if self.step < MAX_DECIMALS else values
        # differences of int64 may need 64 bits without a sign, and more digits than a float has: so steps are counted
        step = np.uint64(max(self.step, 1))
        steps = (high.view(np.uint64) - low.view(np.uint64)) // step
        drawn = np.floor(np.minimum(part * steps.astype(np.float64) + 0.5, 2.0**64 - 2048)).astype(np.uint64)
        return (low.view(np.uint64) + np.minimum(drawn, steps) * step).view(np.int64)

    def allowed(self, condition: Condition) -> Mask:
        """(cells,) True where a row of the cell may satisfy the condition."""
        inside = np.zeros(self.cells, dtype=np.bool_)
        null = np.array([code == 0 for code in self.specials], dtype=np.bool_)
        if is_number(self.column.type):
            table = self._single_numbers()
            singles = from_numbers(table, np.pad(null, (0, len(table) - len(null))), self.column.type)
        else:
            singles = pa.concat_arrays([pa.array([None] * len(self.specials), self.column.type), self.atoms])
        inside[: len(singles)] = condition.holds(singles)
        if len(self.edges):
            inside[self.first_interval :] = self._reached(condition)
        return inside

    def _reached(self, condition: Condition) -> Mask:
        last = len(self.knots) - 1
        low = self.knots[np.clip(self.starts[:-1] - 1, 0, last)]
        high = self.knots[np.clip(self.starts[1:], 0, last)]
        if self.knots.dtype.kind == "f":  # rounding may carry a value just past the knot; knots themselves bear the precision
            low, high = np.nextafter(low, -np.inf), np.nextafter(high, np.inf)
        if isinstance(condition, Values):
            wanted = np.sort(to_numbers(condition.values)[0])
            return np.searchsorted(wanted, low, side="left") < np.searchsorted(wanted, high, side="right")
        inside = np.ones(len(low), dtype=np.bool_)
        if not isinstance(condition, Range):
            return inside
        if condition.minimum is not None:
            inside &= high >= to_numbers(pa.array([condition.minimum.as_py()], self.column.type))[0][0]
        if condition.maximum is not None:
            inside &= low <= to_numbers(pa.array([condition.maximum.as_py()], self.column.type))[0][0]
        return inside
