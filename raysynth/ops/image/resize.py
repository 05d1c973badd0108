"""Pictures → the same pictures at one size."""

import math
from typing import Literal

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Move, Mover, Moving, scaled, shifted
from raysynth.ops.image._pictures import Side
from raysynth.schema import Schema


class Resize(Moving):
    """`size`: [height, width]. `fit`: a picture of other proportions is stretched, or cropped around its middle."""

    def __init__(
        self,
        schema: Schema,
        *,
        size: tuple[Side, Side],
        fit: Literal["stretch", "crop"] = "stretch",
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=1.0, boxes=boxes, masks=masks)
        self.size, self.fit = size, fit
        self.most_pixels = math.prod(size)

    def _mover(self, draws: Draws) -> Mover:
        def move(row: int, height: int, width: int) -> Move:
            rows, columns = height, width
            if self.fit == "crop":
                scale = min(height / self.size[0], width / self.size[1])
                rows, columns = (max(1, math.floor(side * scale + 1e-9)) for side in self.size)
            matrix = scaled(self.size[1] / columns, self.size[0] / rows) @ shifted(
                -((width - columns) // 2), -((height - rows) // 2)
            )
            return Move(matrix, *self.size)

        return move
