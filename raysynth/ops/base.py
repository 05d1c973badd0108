"""Op: one augmentation step, real rows → other rows. What it draws, it draws by row id, so it gives the same rows in any batch."""

from abc import ABC, abstractmethod
from typing import Any, Protocol, Self

import pyarrow as pa

from raysynth.draws import Draws
from raysynth.schema import Schema


class Stats(Protocol):
    """What was seen of some rows. Merging in task order gives the same result however the rows were cut into tasks."""

    def merge(self, other: Self, /) -> Self: ...


class Op(ABC):
    """Subclasses take their options as keyword arguments of the constructor, after `schema` (the columns of the prepared rows).
    RecipeError from the constructor where the options do not fit the columns."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @property
    def made(self) -> Schema:
        """The columns of what it gives: those of the rows, unless it adds some."""
        return self.schema

    def facts(self) -> dict[str, Any]:
        """What else than its options decides its rows, such as the digest of a file that it reads."""
        return {}

    def observe(self, rows: pa.Table) -> Stats | None:
        """Prepared train rows (with the row-id columns `_file`, `_row`) → statistics; None where it needs none."""
        return None

    def settle(self, stats: Stats | None) -> None:  # noqa: B027 (most ops keep nothing)
        """Keep what the merged statistics of all train rows say; called once, before any row is asked for."""

    @abstractmethod
    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        """Rows with `_file` and `_row` → none, one or more rows for each, `_file` and `_row` still those of the row that each comes
        from. `draws` has one row per row. Derived columns may be left as they are: the stage computes them anew."""
