"""Rows with a picture ↔ Grids: the picture at one size as pixels, every other column as the codes that `tabular` gives it."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field as Limits

from raysynth.codecs._column_stats import TableStats, column_of
from raysynth.codecs.base import Codec, Stats
from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.image_headers import size_of
from raysynth.layout import SQUARES, Arrays, Batch, Facts, Field, Fields, FieldsGiven, Grids
from raysynth.pictures import Encoding, data_of, encoded, filling, image_array, in_channels, pixels_of, resized
from raysynth.schema import Schema
from raysynth.where import Values, Where

MOST_SIDE = 64  # where the recipe names no size: larger pictures are made smaller, since what draws them costs by the pixel
MULTIPLE = 4  # sides are made multiples of it, so that a network may halve them twice
MOST_CELLS = 32 * 32  # of a grid: what a network costs, it costs by the cell
SEEN, MISSING = 1, 0
Side = Annotated[int, Limits(ge=4, le=512, multiple_of=MULTIPLE)]
Quality = Annotated[int, Limits(ge=1, le=100)]


@dataclass(frozen=True)
class ImageStats:
    """What the other columns hold; how many pictures there are of each (height, width), whether any has colours, how many are missing."""

    table: TableStats | None
    sizes: dict[tuple[int, int], int]
    coloured: bool
    missing: int

    def merge(self, other: "ImageStats") -> "ImageStats":
        table = self.table.merge(other.table) if self.table is not None and other.table is not None else None
        sizes = {size: self.sizes.get(size, 0) + other.sizes.get(size, 0) for size in sorted({*self.sizes, *other.sizes})}
        return ImageStats(table, sizes, self.coloured or other.coloured, self.missing + other.missing)


class Image(Codec):
    """`size`: of the pictures that are learnt and made, [height, width], multiples of 4, and large ones of 8, 16 or 32 (null: the median of
    theirs, at most 64 a side); `fit`: a picture of other proportions is cropped around its middle, or stretched; `channels`: 1 grey, 3 red,
    green, blue (null: 3 if any has colours). Pictures are written as `format`; `quality`: of a JPEG, 1 to 100."""

    def __init__(
        self,
        schema: Schema,
        *,
        seed: int = 0,
        size: tuple[Side, Side] | None = None,
        fit: Literal["crop", "stretch"] = "crop",
        channels: Literal[1, 3] | None = None,
        format: Encoding = "png",
        quality: Quality = 95,
    ) -> None:
        super().__init__(schema, seed=seed)
        images = [column for column in schema if column.kind == "image"]
        if len(images) != 1:
            kinds = ", ".join(f"{column.name} ({column.kind})" for column in schema)
            raise RecipeError(f"codec.use: image takes rows with one column of kind image, and there are {len(images)}: {kinds}")
        self.image = images[0]
        self.table = Tabular(Schema(tuple(column for column in schema if column != self.image)), seed=seed)
        if size is not None:
            _check_cells(*size)
        self.size, self.fit, self.channels, self.quality = size, fit, channels, quality
        self.format: Encoding = format
        self.nullable = False
        self.told: Facts = {}

    def observe(self, rows: pa.Table) -> ImageStats:
        table = self.table.observe(rows) if len(self.table.schema) else None
        sizes: dict[tuple[int, int], int] = {}
        coloured, missing = False, 0
        for data in data_of(column_of(rows, self.image)):
            if data is None:
                missing += 1
                continue
            size = size_of(data) or (0, 0)
            sizes[size] = sizes.get(size, 0) + 1
            if self.channels is None and not coloured:
                coloured = pixels_of(data).shape[2] == 3
        return ImageStats(table, sizes, coloured, missing)

    def settle(self, stats: Stats) -> Grids:
        stats = cast(ImageStats, stats)
        self.table.settle(stats.table or TableStats((), np.zeros(0, np.uint64), pa.table({})))
        if not stats.sizes:
            raise RecipeError(
                f"codec.use: column '{self.image.name}' has no picture in the train split, so that none can be learnt"
            )
        height, width = self.size or _middle(stats.sizes)
        self.nullable = stats.missing > 0
        self.told = {
            "sizes": len(stats.sizes),
            "resized": sum(count for size, count in stats.sizes.items() if size != (height, width)),
        }
        return self._lay_out(height, width, self.channels or (3 if stats.coloured else 1))

    def encode(self, rows: pa.Table) -> Batch:
        shape = cast("Grids", self.layout)
        codes = self.table.encode(rows)["codes"] if len(self.table.schema) else np.zeros((rows.num_rows, 0), np.int32)
        found = data_of(column_of(rows, self.image))
        pixels = np.zeros((rows.num_rows, shape.height * shape.width * shape.channels), dtype=np.uint8)
        for row, data in enumerate(found):
            if data is not None:
                made = filling if self.fit == "crop" else resized
                pixels[row] = in_channels(made(pixels_of(data), shape.height, shape.width), shape.channels).reshape(-1)
        if self.nullable:
            seen = np.array([MISSING if data is None else SEEN for data in found], dtype=np.int32)[:, None]
            codes = np.concatenate([codes, seen], axis=1)
        return Batch({"codes": codes, "pixels": pixels})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        shape = cast("Grids", self.layout)
        columns: dict[str, Any] = {}
        if len(self.table.schema):
            fields = len(cast("Fields", self.table.layout).fields)
            table = self.table.decode(Batch({"codes": batch["codes"][:, :fields]}), draws)
            columns = {name: table.column(name) for name in table.column_names}
        missing = batch["codes"][:, -1] == MISSING if self.nullable else np.zeros(batch.rows, np.bool_)
        grids = batch["pixels"].reshape(-1, shape.height, shape.width, shape.channels)
        columns[self.image.name] = image_array(
            [None if null else encoded(pixels, self.format, self.quality) for null, pixels in zip(missing, grids, strict=True)]
        )
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema.arrow)

    def condition(self, where: Where) -> FieldsGiven | None:
        """Of the picture no more can be asked than that it is missing."""
        given = self.table.condition({name: wanted for name, wanted in where.items() if name in self.table.schema})
        wanted = where.get(self.image.name)
        if not isinstance(wanted, Values):
            return given
        if not self.nullable:
            raise RecipeError(f"where.{self.image.name}: no train row is without its picture, so that no row can be made for it")
        masks = dict(given.masks) if given is not None else {}
        return FieldsGiven({**masks, len(cast("Grids", self.layout).fields) - 1: _missing()})

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = self.table.state()
        shape = cast("Grids", self.layout)
        sides = {"height": shape.height, "width": shape.width, "channels": shape.channels}
        return arrays, {"table": facts, "nullable": self.nullable, "told": self.told, **sides}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self.table.load(arrays, facts["table"])
        self.nullable, self.told = facts["nullable"], facts["told"]
        self._lay_out(facts["height"], facts["width"], facts["channels"])

    def _lay_out(self, height: int, width: int, channels: int) -> Grids:
        fields = cast("Fields", self.table.layout).fields
        if self.nullable:
            fields = (*fields, Field(f"{self.image.name} is there", self.image.name, 2))
        layout = Grids(fields, height, width, channels)
        self.layout = layout
        return layout


def _missing() -> NDArray[np.bool_]:
    return np.array([code == MISSING for code in (MISSING, SEEN)])


def _middle(sizes: dict[tuple[int, int], int]) -> tuple[int, int]:
    """The median height and the median width, both by one factor made at most MOST_SIDE, and multiples of what keeps the grid small."""
    sides = [_median(_counts(sizes, axis)) for axis in (0, 1)]
    factor = min(1.0, MOST_SIDE / max(sides))
    height, width = _even(*(side * factor for side in sides))
    return height, width


def _even(height: float, width: float) -> tuple[int, int]:
    """The nearest sides that halve until no more than SQUARES are left of the longer one, and once more."""
    step = MULTIPLE
    while max(height, width) > SQUARES * step / 2:
        step *= 2
    return max(step, step * round(height / step)), max(step, step * round(width / step))


def _check_cells(height: int, width: int) -> None:
    patch = Grids((), height, width, 1).patch
    if (height // patch) * (width // patch) > MOST_CELLS:
        raise RecipeError(
            f"codec.size: {height} × {width} pixels would be learnt as {height // patch} × {width // patch} squares, and {MOST_CELLS:,} may "
            f"be, since these sides cannot be halved often. Say {list(_even(height, width))}"
        )


def _counts(sizes: dict[tuple[int, int], int], axis: int) -> dict[int, int]:
    counts: dict[int, int] = {}
    for size, count in sizes.items():
        counts[size[axis]] = counts.get(size[axis], 0) + count
    return counts


def _median(counts: dict[int, int]) -> int:
    """The lower one of two."""
    left = (sum(counts.values()) + 1) // 2
    for value in sorted(counts):
        left -= counts[value]
        if left <= 0:
            return value
    raise ValueError("no counts")
