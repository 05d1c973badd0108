"""Codec: rows ↔ the arrays of a layout, settled from mergeable statistics of the train rows."""

from abc import ABC, abstractmethod
from typing import Protocol, Self

import pyarrow as pa

from raysynth.draws import Draws
from raysynth.layout import Arrays, Batch, Facts, Given, Layout
from raysynth.schema import Schema
from raysynth.where import Where


class Stats(Protocol):
    """What was seen of some rows. Merging in task order gives the same result however the rows were cut into tasks."""

    def merge(self, other: Self, /) -> Self: ...


class Codec(ABC):
    """Subclasses take their options as keyword arguments of the constructor, after `schema` (the learnt columns)."""

    def __init__(self, schema: Schema, *, seed: int = 0) -> None:
        self.schema = schema
        self.seed = seed

    layout: Layout
    """Set by settle and by load."""

    @abstractmethod
    def observe(self, rows: pa.Table) -> Stats:
        """Prepared train rows (with the row-id columns `_file`, `_row`) → statistics."""

    @abstractmethod
    def settle(self, stats: Stats) -> Layout:
        """Fix the coding from the merged statistics of all train rows."""

    @abstractmethod
    def encode(self, rows: pa.Table) -> Batch:
        """Rows → arrays of the layout. DataError on a column that is missing or of another type."""

    @abstractmethod
    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        """Arrays → rows of exactly the schema's columns and types; what the coding left open is drawn by name."""

    def check_where(self, where: Where) -> None:  # noqa: B027  (most take any condition)
        """RecipeError on a condition that no rows of such columns can be made for, whatever they hold: before anything is learnt."""

    @abstractmethod
    def condition(self, where: Where) -> Given | None:
        """The condition in the layout's terms; None where there is nothing to condition on (rows are then only checked).
        RecipeError on a value that the train rows never had, naming it."""

    @abstractmethod
    def state(self) -> tuple[Arrays, Facts]:
        """All that `load` needs: arrays for safetensors, facts for JSON."""

    @abstractmethod
    def load(self, arrays: Arrays, facts: Facts) -> None:
        """Become the codec whose state this is; sets `layout`."""
