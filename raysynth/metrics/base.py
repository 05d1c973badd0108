"""Metric: rows of several sides → scores, each beside its worst, its best and its ceiling, the same score of hold-out rows.

Evaluation passes twice. The first pass keeps of each side the rows of lowest hashed id, and of every row its hash (`Seen`). A metric
that must look at every row does so in the second pass, in `observe`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol, Self, get_args

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.extractor import Extractor
from raysynth.schema import Schema

Side = Literal["train", "validation", "holdout", "synthetic", "mix"]
"""train, validation and holdout are real rows; mix is the train split of the mixed rows, real and synthetic ones."""
SIDES: tuple[Side, ...] = get_args(Side)
WORD = "_word"
"""A column of every table that a metric is given: the uint64 hash of the row's id, by which samples are taken."""
ORIGIN = "_origin"
"""Only in rows of the mix: real, augmented or synthetic."""
PICTURE_ROWS = 5000
"""Pictures are many times what other cells are: a sample keeps those of so many rows, the first ones, as `image_frames.thumbnails`; the
others are null."""


class Stats(Protocol):
    """What was seen of some rows. Merging in task order gives the same result however the rows were cut into tasks."""

    def merge(self, other: Self, /) -> Self: ...


@dataclass(frozen=True)
class Seen:
    """What the first pass saw. `samples`: the `sample_rows` rows of lowest hashed id of each side, sorted by it (so a shorter head is
    a sample too), with WORD; of pictures see PICTURE_ROWS. `rows`: how many rows there are in all. `contents`: of train and holdout, the
    sorted distinct hashes of the rows' contents (`cleaning.row_hash`)."""

    samples: Mapping[Side, pa.Table]
    rows: Mapping[Side, int]
    contents: Mapping[Side, NDArray[np.uint64]] = field(default_factory=dict)


@dataclass(frozen=True)
class Score:
    """`value` None: it could not be had, and `why` says why. `columns`: column (or `left × right`) → its own value of this score.
    `facts`: JSON, what the score rests on (rows compared, values per class)."""

    name: str
    value: float | None
    worst: float
    best: float
    ceiling: float | None = None
    columns: Mapping[str, float] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    why: str = ""


class Metric(ABC):
    """`schema`: the columns, derived ones included. `target`: the column that a downstream model predicts, or None; `told_by`: those
    that a derived target is computed from, or that are computed from the same: with them a model has nothing left to predict.
    `extractor`: what sees pictures as points, None for a network of the run's own."""

    names: ClassVar[tuple[str, ...]]
    """The scores that it gives: what gates call them."""
    sides: ClassVar[tuple[Side, ...]] = ()
    """The sides of which `observe` must see every row."""
    packages: ClassVar[tuple[str, ...]] = ()
    """Packages of an extra that decide its values, as pip names them; where one is missing, its scores say so."""

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        target: str | None = None,
        told_by: frozenset[str] = frozenset(),
        extractor: Extractor | None = None,
    ) -> None:
        self.schema = schema
        self.seed = seed
        self.target = target
        self.told_by = told_by
        self.extractor = extractor

    @classmethod
    def applies(cls, schema: Schema, target: str | None) -> bool:
        """Whether rows of these columns have what it scores. If not, it is never made, and nothing tells of it: no table's report speaks
        of texts."""
        return True

    def settle(self, seen: Seen) -> None:  # noqa: B027 (most metrics keep nothing)
        """Before the second pass: keep what `observe` needs of the first."""

    def observe(self, rows: pa.Table, side: Side) -> Stats | None:
        """Some rows of one of `sides` (with WORD) → statistics."""
        return None

    @abstractmethod
    def score(self, seen: Seen, stats: Mapping[Side, Any]) -> list[Score]:
        """One Score for each of `names`, in their order. `stats`: side → the merged statistics; a side may be missing or empty."""
