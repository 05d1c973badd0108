"""The seam between codecs and generators: the shape of what a codec emits, batches of it, and what a row may be conditioned on."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Arrays = dict[str, Array]
"""Named arrays: what safetensors stores."""
Facts = dict[str, Any]
"""JSON: what stands beside the arrays."""


class Layout:
    """The root of the shapes. A generator says which it accepts; a codec settles on one."""


@dataclass(frozen=True)
class Field:
    """One categorical variable with codes 0 … size-1, part of how `column` is written down."""

    name: str
    column: str
    size: int


@dataclass(frozen=True)
class Fields(Layout):
    """Rows of categories. Its batches hold `codes`: (rows, fields) int32, each below its field's size."""

    fields: tuple[Field, ...]

    @property
    def sizes(self) -> list[int]:
        return [field.size for field in self.fields]


@dataclass(frozen=True)
class Tokens(Layout):
    """Texts beside categories. Its batches hold `codes` as Fields has them, (rows, fields) int32, and `tokens`: (rows, length) int32, the
    texts of a row one behind the other, each ended by END and the last one followed by PAD. A row of which an END is missing was too
    long. Where the row has no text, NULL stands for it: `nullable` says of each of the texts whether that may be."""

    fields: tuple[Field, ...]
    vocabulary: int
    length: int
    nullable: tuple[bool, ...]

    PAD: ClassVar[int] = 0
    END: ClassVar[int] = 1
    NULL: ClassVar[int] = 2

    @property
    def texts(self) -> int:
        """How many a row has."""
        return len(self.nullable)


@dataclass(frozen=True)
class Batch:
    """Encoded rows: named arrays that all have the rows as their first axis. `accepted` (rows,) is False where an exact
    condition asks the row to be drawn again; None means that every row stands."""

    arrays: Mapping[str, Array]
    accepted: NDArray[np.bool_] | None = None

    @property
    def rows(self) -> int:
        return len(next(iter(self.arrays.values()))) if self.arrays else 0

    def __getitem__(self, name: str) -> Array:
        return self.arrays[name]

    def take(self, index: Array | slice) -> "Batch":
        accepted = None if self.accepted is None else self.accepted[index]
        return Batch({name: array[index] for name, array in self.arrays.items()}, accepted)


class Given:
    """The root of what a row is conditioned on, in a layout's own terms; made by Codec.condition."""


@dataclass(frozen=True)
class FieldsGiven(Given):
    """For Fields: index of a field → a mask (size,) of the codes allowed there. Codes outside can never satisfy the condition;
    codes inside may (the decoded row is checked again), so masks are as tight as the codec can make them."""

    masks: Mapping[int, NDArray[np.bool_]]
