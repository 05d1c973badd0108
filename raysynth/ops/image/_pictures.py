"""A column of images → the same column with each picture changed, pixels in and pixels out; what has no picture stays so."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Annotated, Any

import cv2
import pyarrow as pa
from pydantic import Field

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.ops.base import Op
from raysynth.pictures import Cell, Pixels, image_array, paths_of, pixels_of, unwritten, views_of
from raysynth.schema import Schema

Share = Annotated[float, Field(ge=0, le=1)]
Side = Annotated[int, Field(ge=1, le=4096)]
Paint = Callable[[int, Pixels], Pixels]
"""The position of a row, and its picture → the picture changed, in new pixels."""


def image_column(schema: Schema, column: str | None) -> str:
    """The one named, by default the only one. RecipeError where it is of another kind, or there is none, or a choice."""
    able = [one.name for one in schema.learnt if one.kind == "image"]
    if column is None and len(able) == 1:
        return able[0]
    if column not in able:
        named = f"'{column}' is no column of images" if column is not None else "must name one of the columns of images"
        raise RecipeError(f"column: {named}. Those are: {', '.join(able) or 'none'}")
    return column


def span(name: str, ends: tuple[float, float]) -> tuple[float, float]:
    """RecipeError where the first is above the second."""
    if ends[0] > ends[1]:
        raise RecipeError(f"{name}: the first must be at most the second (got {list(ends)})")
    return ends


def _as_they_are(rows: pa.Table) -> pa.Table:
    return rows


@dataclass(frozen=True)
class Painted:
    """A change of the pictures in `column`, of those rows that are `chosen`; `finish` then sees to the other columns."""

    column: str
    chosen: list[bool]
    paint: Paint
    finish: Callable[[pa.Table], pa.Table] = _as_they_are

    def takes(self, other: Any) -> bool:
        return isinstance(other, Painted) and other.column == self.column

    def done(self, rows: pa.Table, along: Sequence["Painted"]) -> pa.Table:
        """A picture goes through all changes before the next one is decoded; one that nothing changes is not looked at."""
        works = (self, *along)
        made: list[Cell | None] = []
        for row, data in enumerate(views_of(rows.column(self.column))):
            paints = [work.paint for work in works if work.chosen[row]]
            if data is None or not paints:
                made.append(data)
                continue
            pixels = pixels_of(data)
            for paint in paints:
                pixels = paint(row, pixels)
            made.append(unwritten(pixels, data))
        return reduce(lambda found, work: work.finish(found), works, with_images(rows, self.column, made))


def with_images(rows: pa.Table, column: str, made: Sequence[Cell | None]) -> pa.Table:
    """The same rows with other pictures, which came from where the old ones came from."""
    images = image_array(made, paths_of(rows.column(column)))
    return rows.set_column(rows.column_names.index(column), rows.schema.field(column), images)


class Picturing(Op):
    """An op whose work is on one picture at a time."""

    @abstractmethod
    def work(self, draws: Draws) -> Painted: ...

    def facts(self) -> dict[str, Any]:
        """Pixels are those of a version of OpenCV."""
        return {"opencv": cv2.__version__}

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        return self.work(draws).done(rows, ())


class Painting(Picturing):
    """An op that changes what a pixel shows and moves none: boxes and masks keep their places."""

    def __init__(self, schema: Schema, *, column: str | None, probability: float) -> None:
        super().__init__(schema)
        self.column, self.probability = image_column(schema, column), probability

    def work(self, draws: Draws) -> Painted:
        return Painted(self.column, (draws.uniform("whether") < self.probability).tolist(), self._painter(draws))

    @abstractmethod
    def _painter(self, draws: Draws) -> Paint:
        """What is drawn for each row, as the change of its picture."""


def ranged(draws: Draws, name: str, ends: tuple[float, float]) -> list[float]:
    """(rows,) uniform between two ends."""
    return (ends[0] + (ends[1] - ends[0]) * draws.uniform(name)).tolist()
