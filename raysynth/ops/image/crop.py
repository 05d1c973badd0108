"""Pictures → a part of each, at a place that is drawn or in the middle, at the size of the whole or as it was cut."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Move, Mover, Moving, scaled, shifted
from raysynth.ops.image._pictures import Share, Side, ranged, span
from raysynth.schema import Schema

Area = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(ge=0.1, le=10)]


class Crop(Moving):
    """`place`: random, or centre. `scale`: the share of the picture's area that is cut out, from and to; `ratio`: how far its proportion
    of width to height may depart from the picture's, as factors from and to. With `resize` the part is then made as large as the
    picture was, or of `size`, [height, width]; without it stays as it was cut, and where `size` is given it is cut so large (or as the
    picture is, where that is smaller)."""

    def __init__(
        self,
        schema: Schema,
        *,
        place: Literal["random", "centre"] = "random",
        scale: tuple[Area, Area] = (0.7, 1.0),
        ratio: tuple[Ratio, Ratio] = (0.9, 1.1),
        size: tuple[Side, Side] | None = None,
        resize: bool = True,
        probability: Share = 1.0,
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=probability, boxes=boxes, masks=masks)
        self.place, self.scale, self.ratio, self.size, self.resize = place, span("scale", scale), span("ratio", ratio), size, resize
        self.most_pixels = math.prod(size) if size is not None and resize else 0

    def _mover(self, draws: Draws) -> Mover:
        scales = ranged(draws, "scale", self.scale)
        low, high = (math.log(end) for end in self.ratio)
        ratios = np.exp(low + (high - low) * draws.uniform("ratio")).tolist()
        places = (draws.uniform("place", 2) if self.place == "random" else np.full((len(draws), 2), 0.5)).tolist()

        def move(row: int, height: int, width: int) -> Move:
            rows, columns = self._window(scales[row], ratios[row], height, width)
            y, x = places[row]
            top, left = math.floor(y * (height - rows + 1)), math.floor(x * (width - columns + 1))
            new_height, new_width = (self.size or (height, width)) if self.resize else (rows, columns)
            return Move(scaled(new_width / columns, new_height / rows) @ shifted(-left, -top), new_height, new_width)

        return move

    def _window(self, scale: float, ratio: float, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the part."""
        if self.size is not None and not self.resize:
            return min(self.size[0], height), min(self.size[1], width)
        side, stretch = math.sqrt(scale), math.sqrt(ratio)
        rows, columns = (round(side * length) for length in (height / stretch, width * stretch))
        return min(height, max(1, rows)), min(width, max(1, columns))
