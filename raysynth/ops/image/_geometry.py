"""Where each pixel of a picture goes → the picture, its masks and its boxes drawn there.

Places are continuous, (x, y) from the upper left corner: the pixel in row 0 and column 0 covers x and y from 0 to 1. A box is
[x, y, width, height] in pixels, as COCO has it.
"""

import json
import math
from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, cast

import cv2
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import Draws
from raysynth.errors import DataError, RecipeError
from raysynth.ops.image._pictures import Painted, Picturing, image_column, with_images
from raysynth.pictures import Cell, Pixels, pixels_of, resized, unwritten, views_of
from raysynth.schema import Schema

Matrix = NDArray[np.float64]
"""(3, 3): homogeneous places (x, y, 1) of the old picture → of the new one."""
Fill = Literal["reflect", "edge", "black", "white"]

LEAST_SEEN = 0.1  # of a moved box, by area: what shows less of its thing is no box of it
_BORDERS: dict[Fill, int] = {
    "reflect": cv2.BORDER_REFLECT_101,
    "edge": cv2.BORDER_REPLICATE,
    "black": cv2.BORDER_CONSTANT,
    "white": cv2.BORDER_CONSTANT,
}
_BOTH, _ACROSS, _DOWN = -1, 1, 0  # what cv2.flip mirrors
_CLOSE = 1e-6  # of a pixel


@dataclass(frozen=True)
class Move:
    """`matrix`: where places go; `height`, `width`: of the new picture; `fill`: what shows where the old one has nothing."""

    matrix: Matrix
    height: int
    width: int
    fill: Fill = "black"

    def picture(self, pixels: Pixels, *, mask: bool = False) -> Pixels:
        """The picture moved, its pixels blended; of a `mask` the nearest one's value, and 0 where there is none."""
        if (window := self._window(*pixels.shape[:2])) is not None:
            return self._cut(pixels, *window, mask=mask)
        flags = cv2.INTER_NEAREST if mask else cv2.INTER_LINEAR
        border = _BORDERS[self.fill]
        value = 255 if self.fill == "white" and not mask else 0
        matrix, size = _of_centres(self.matrix), (self.width, self.height)
        if np.abs(matrix[2, :2]).max() < 1e-12:
            made = cv2.warpAffine(pixels, matrix[:2], size, flags=flags, borderMode=border, borderValue=[value] * 4)
        else:
            made = cv2.warpPerspective(pixels, matrix, size, flags=flags, borderMode=border, borderValue=[value] * 4)
        return cast("Pixels", made.reshape(self.height, self.width, pixels.shape[2]))

    def _window(self, rows: int, columns: int) -> tuple[slice, slice, int | None] | None:
        """Where whole pixels are cut out, mirrored and stretched: their rows and columns, and the axis to mirror. No warp is as fast."""
        x, y = (_stretched(self.matrix, axis, size) for axis, size in ((0, self.width), (1, self.height)))
        if x is None or y is None or x[1] > columns or y[1] > rows or min(x[0], y[0]) < 0:
            return None
        axis = {(True, True): _BOTH, (True, False): _ACROSS, (False, True): _DOWN}.get((x[2], y[2]))
        return slice(y[0], y[1]), slice(x[0], x[1]), axis

    def _cut(self, pixels: Pixels, rows: slice, columns: slice, axis: int | None, *, mask: bool) -> Pixels:
        cut = pixels[rows, columns]
        if axis is not None:
            cut = cast("Pixels", cv2.flip(cut, axis)).reshape(cut.shape)
        if not mask:
            return resized(cut, self.height, self.width)
        made = cv2.resize(cut, (self.width, self.height), interpolation=cv2.INTER_NEAREST_EXACT)
        return cast("Pixels", made.reshape(self.height, self.width, pixels.shape[2]))

    def boxes(self, boxes_N4: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The upright boxes around the moved ones, cut to the picture; and which of them still show at least LEAST_SEEN of themselves."""
        x, y, width, height = boxes_N4.T
        corners_N43 = np.stack([np.stack([x + i * width, y + j * height, np.ones_like(x)], 1) for i in (0, 1) for j in (0, 1)], 1)
        moved_N43 = corners_N43 @ self.matrix.T
        places_N42 = moved_N43[:, :, :2] / moved_N43[:, :, 2:]
        low_N2, high_N2 = places_N42.min(axis=1), places_N42.max(axis=1)
        sides = np.array([self.width, self.height], dtype=np.float64)
        cut_low_N2, cut_high_N2 = np.clip(low_N2, 0, sides), np.clip(high_N2, 0, sides)
        whole, seen = (np.prod(np.maximum(high - low, 0), axis=1) for low, high in ((low_N2, high_N2), (cut_low_N2, cut_high_N2)))
        return np.concatenate([cut_low_N2, cut_high_N2 - cut_low_N2], axis=1), (seen > 0) & (seen >= LEAST_SEEN * whole)


def _of_centres(matrix: Matrix) -> Matrix:
    """The same move for OpenCV, to which the middle of the first pixel is (0, 0)."""
    moved = shifted(-0.5, -0.5) @ matrix @ shifted(0.5, 0.5)
    return moved / moved[2, 2]


def _stretched(matrix: Matrix, axis: int, size: int) -> tuple[int, int, bool] | None:
    """The old pixels, from and to, that fill the `size` new ones along an axis, and whether they are mirrored; None where they are no
    whole ones, or come from elsewhere too."""
    scale, shift = matrix[axis, axis], matrix[axis, 2]
    if matrix[axis, 1 - axis] or matrix[2, axis] or matrix[2, 2] != 1 or not scale:
        return None
    ends = sorted((-shift / scale, (size - shift) / scale))
    start, stop = (math.floor(end + 0.5) for end in ends)
    if max(abs(ends[0] - start), abs(ends[1] - stop)) > _CLOSE or start >= stop:
        return None
    return start, stop, bool(scale < 0)


def scaled(x: float, y: float) -> Matrix:
    return np.diag([x, y, 1.0])


def shifted(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


def around_middle(matrix: Matrix, height: int, width: int) -> Matrix:
    return shifted(width / 2, height / 2) @ matrix @ shifted(-width / 2, -height / 2)


def turned(degrees: float) -> Matrix:
    """Anticlockwise, as it is seen."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[cos, sin, 0.0], [-sin, cos, 0.0], [0.0, 0.0, 1.0]])


Mover = Callable[[int, int, int], Move]
"""The position of a row, the height and the width of its picture → where its pixels go."""


class Moving(Picturing):
    """An op that moves the pixels of a picture; those of the columns `masks` (images of labels, one a pixel) and the `boxes` of the row
    (JSON, a list of [x, y, width, height, …] in pixels; what stands behind the four is kept) move along."""

    def __init__(
        self, schema: Schema, *, column: str | None, probability: float, boxes: str | None, masks: tuple[str, ...]
    ) -> None:
        super().__init__(schema)
        others = Schema(tuple(one for one in schema if one.name not in masks))
        self.column, self.probability = image_column(others, column), probability
        self.masks = [_mask_column(schema, name) for name in masks]
        self.boxes = boxes
        if boxes is not None and (boxes not in schema or schema[boxes].kind not in ("json", "text")):
            able = ", ".join(one.name for one in schema.learnt if one.kind in ("json", "text"))
            raise RecipeError(f"boxes: '{boxes}' is no column of JSON. Those of kind json and text are: {able or 'none'}")

    @abstractmethod
    def _mover(self, draws: Draws) -> Mover:
        """What is drawn for each row, as the move of its picture."""

    def work(self, draws: Draws) -> Painted:
        mover, moves = self._mover(draws), dict[int, Move]()
        sizes = dict[int, tuple[int, int]]()

        def moved(row: int, pixels: Pixels) -> Pixels:
            height, width = sizes[row] = pixels.shape[0], pixels.shape[1]
            moves[row] = mover(row, height, width)
            return moves[row].picture(pixels)

        chosen = (draws.uniform("whether") < self.probability).tolist()
        return Painted(self.column, chosen, moved, lambda rows: self._along(rows, moves, sizes))

    def _along(self, rows: pa.Table, moves: dict[int, Move], sizes: dict[int, tuple[int, int]]) -> pa.Table:
        """Masks and boxes go where the pictures went, which had those sizes."""
        for name in self.masks:
            rows = with_images(rows, name, _masks(rows.column(name), moves, sizes))
        if self.boxes is not None:
            field, place = rows.schema.field(self.boxes), rows.column_names.index(self.boxes)
            texts = rows.column(self.boxes).to_pylist()
            made = [_boxes(text, moves.get(row), self.boxes) for row, text in enumerate(texts)]
            rows = rows.set_column(place, field, pa.array(made, field.type))
        return rows


def _mask_column(schema: Schema, name: str) -> str:
    try:
        return image_column(schema, name)
    except RecipeError as error:
        raise RecipeError(str(error).replace("column:", "masks:", 1)) from None


def _masks(column: pa.ChunkedArray, moves: dict[int, Move], sizes: dict[int, tuple[int, int]]) -> list[Cell | None]:
    """A mask of another size than its picture is stretched to it; all are written as PNG, since JPEG would blur their labels."""
    made: list[Cell | None] = []
    for row, data in enumerate(views_of(column)):
        if data is None or row not in moves:
            made.append(data)
            continue
        pixels = pixels_of(data)
        height, width = sizes[row]
        if pixels.shape[:2] != (height, width):
            stretch = Move(scaled(width / pixels.shape[1], height / pixels.shape[0]), height, width)
            pixels = stretch.picture(pixels, mask=True)
        made.append(unwritten(moves[row].picture(pixels, mask=True), b""))
    return made


def _boxes(text: str | None, move: Move | None, column: str) -> str | None:
    """JSON → JSON. DataError on what is no list of boxes."""
    if text is None or move is None:
        return text
    try:
        found: Any = json.loads(text)
        if not isinstance(found, list):
            raise TypeError
        places = np.array([box[:4] for box in found], dtype=np.float64).reshape(len(found), 4)
        if not np.isfinite(places).all():
            raise ValueError
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError):
        raise DataError(f"boxes: a row's '{column}' is no list of [x, y, width, height, …]. Mend it, or make it null") from None
    moved, seen = move.boxes(places)
    kept = [[*_plain(places), *box[4:]] for places, box, shows in zip(moved.tolist(), found, seen.tolist(), strict=True) if shows]
    return json.dumps(kept, ensure_ascii=False)


def _plain(places: list[float]) -> list[float | int]:
    """To a hundredth of a pixel, whole ones as such."""
    return [int(place) if place == int(place) else place for place in (round(place, 2) for place in places)]
