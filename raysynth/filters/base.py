"""Filter: a rule that an expression cannot say. Made rows → which of them it lets pass; the others are drawn again in their own slot.

Whatever it goes by is fixed before a row is made, and stored: of a row it says the same in the batch, after a resume and over HTTP.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Protocol, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.knowledge import Knowledge
from raysynth.layout import Arrays, Facts
from raysynth.schema import Schema


class Stats(Protocol):
    """What was seen of some rows. Merging in task order gives the same result however the rows were cut into tasks."""

    def merge(self, other: Self, /) -> Self: ...


class Filter(ABC):
    """Subclasses take their options as keyword arguments of the constructor, after `schema` (the columns of the rows, derived ones
    included). RecipeError from the constructor where the options do not fit the columns. Columns of turns it is shown as texts, in the
    schema and in rows."""

    learns: ClassVar[bool] = False
    """Whether it learns from the train rows. These then say nothing of it: validation rows are asked, and what it says of them is told.
    Any other must let the real train rows pass, as an expression must."""
    knows: ClassVar[bool] = False
    """Whether it goes by the recipe's knowledge."""

    def __init__(self, schema: Schema, *, seed: int = 0) -> None:
        self.schema = schema
        self.seed = seed

    name: str
    """What its rejects are counted under; set by whoever makes it."""

    def facts(self) -> dict[str, Any]:
        """What else than its options and the rows decides what it says, such as the version of a package."""
        return {}

    def know(self, knowledge: Knowledge | None) -> None:  # noqa: B027 (most filters need none)
        """Keep what it needs of the recipe's knowledge. RecipeError where it is not there."""

    def observe(self, rows: pa.Table) -> Stats | None:
        """Prepared train rows (with the row-id columns `_file`, `_row`) → statistics; only called where it `learns`."""
        return None

    def settle(self, stats: Any) -> None:  # noqa: B027 (most filters learn nothing)
        """Keep what the merged statistics of all train rows say (None: there was no row). RecipeError where that is not enough."""

    @abstractmethod
    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        """(rows,) True where a row may stay, each by itself alone. Null passes."""

    def state(self) -> tuple[Arrays, Facts]:
        """All that `load` needs: arrays for safetensors, facts for JSON."""
        return {}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None:  # noqa: B027 (most filters have no state)
        """Become the filter whose state this is."""
