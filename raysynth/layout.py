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
    """One categorical variable with codes 0 … size-1, part of how `column` is written down. `ranks`: (size,) where each code stands in the
    order of the values that are written so; None where they have none."""

    name: str
    column: str
    size: int
    ranks: tuple[int, ...] | None = None


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
    long. Where the row has no text, NULL stands for it: `nullable` says of each of the texts whether that may be. `roles`: of each text
    that is a conversation, the ids with which its turns begin, the first thing in it; None of a plain text; empty where all are plain.
    `never`: tokens that no text has (control characters that none was seen with)."""

    fields: tuple[Field, ...]
    vocabulary: int
    length: int
    nullable: tuple[bool, ...]
    roles: tuple[tuple[int, ...] | None, ...] = ()
    never: tuple[int, ...] = ()

    PAD: ClassVar[int] = 0
    END: ClassVar[int] = 1
    NULL: ClassVar[int] = 2

    @property
    def texts(self) -> int:
        """How many a row has."""
        return len(self.nullable)

    def barred(self) -> NDArray[np.bool_]:
        """(2, texts, vocabulary): the tokens that a text cannot begin with, and those that cannot stand behind, but for NULL."""
        barred = np.zeros((2, self.texts, self.vocabulary), dtype=np.bool_)
        barred[0, :, self.END] = True  # a cell that is empty is a null
        barred[:, :, list(self.never)] = True
        for text, roles in enumerate(self.roles):
            if roles is not None:
                barred[0, text] = True
                barred[0, text, self.NULL] = False
            barred[:, text, [token for others in self.roles for token in others or ()]] = True
            barred[:, text, list(roles or ())] = False
        return barred


SQUARES = 16  # of a side


@dataclass(frozen=True)
class Grids(Layout):
    """Pictures beside categories. Its batches hold `codes` as Fields has them, (rows, fields) int32, and `pixels`: (rows, height × width ×
    channels) uint8, row by row, the channels of a pixel side by side. `tokens`: the texts of a row that its picture is drawn from as well
    (batches then hold `tokens` as Tokens has them); None where there are none."""

    fields: tuple[Field, ...]
    height: int
    width: int
    channels: int
    tokens: Tokens | None = None

    @property
    def patch(self) -> int:
        """Pixels of the side of a square that generators take for one cell: the least power of two at which neither side has more than
        16 squares, as far as both sides stay even."""
        patch = 1
        while max(self.height, self.width) // patch > SQUARES and self.height % (4 * patch) == 0 and self.width % (4 * patch) == 0:
            patch *= 2
        return patch


@dataclass(frozen=True)
class Chained(Layout):
    """Rows of several kinds: categories, the texts given them, and the picture given both. Its batches hold `codes`, `tokens`
    and `pixels` as the two layouts have them, which share their fields; `pictures.tokens` are the texts."""

    texts: Tokens
    pictures: Grids


def picture_bytes(layout: Layout | None) -> int:
    """Of the picture of a row, as bare pixels; 0 where rows have none."""
    grids = layout.pictures if isinstance(layout, Chained) else layout
    return grids.height * grids.width * grids.channels if isinstance(grids, Grids) else 0


@dataclass(frozen=True)
class RecordColumn:
    """What may stand in one column of Records, in JSON's terms. `values`: one of these (None: whatever is of the type); `minimum` and
    `maximum`: from and up to, of a text its characters; `starts`: how a text begins. Of turns, `roles`: one of these (None: any), and
    `empty_turns`: whether one may say nothing."""

    name: str
    kind: str
    type: str
    nullable: bool
    values: tuple[Any, ...] | None = None
    minimum: Any = None
    maximum: Any = None
    starts: str = ""
    roles: tuple[str, ...] | None = None
    empty_turns: bool = True


@dataclass(frozen=True)
class Records(Layout):
    """Whole rows, for whoever reads and writes text. Its batches hold `rows`: (rows,) of numpy's StringDType, each a JSON object with the
    value of every column; `null` stands for a row that is none."""

    columns: tuple[RecordColumn, ...]


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


@dataclass(frozen=True)
class Beginning:
    """How a text begins, however it is cut into tokens. `allowed` (bytes, V): the tokens that may come next, by how many bytes of it are
    written; `spelled` (V,): the bytes that each token writes."""

    allowed: NDArray[np.bool_]
    spelled: NDArray[np.int64]


@dataclass(frozen=True)
class TokensGiven(FieldsGiven):
    """For Tokens: how each text of a row begins (None: as it likes). The codes are drawn as they would be without: what a text begins
    with says nothing of them."""

    begun: tuple[Beginning | None, ...] = ()


@dataclass(frozen=True)
class RecordsGiven(Given):
    """For Records: the columns, with less in them than the layout's. The decoded row is checked again."""

    columns: tuple[RecordColumn, ...]
