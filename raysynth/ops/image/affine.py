"""Pictures → the same pictures turned, shifted, scaled and sheared at once."""

import math
from typing import Annotated

import numpy as np
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Fill, Move, Mover, Moving, around_middle, scaled, shifted, turned
from raysynth.ops.image._pictures import Share, ranged
from raysynth.schema import Schema


class Affine(Moving):
    """By up to `degrees` to either side, `shift` of the width and of the height, a factor of 1 ± `scale`, and a `shear` of so many degrees;
    all around the middle, by one warp. `fill`: see image.rotate."""

    def __init__(
        self,
        schema: Schema,
        *,
        degrees: Annotated[float, Field(ge=0, le=180)] = 10.0,
        shift: Share = 0.1,
        scale: Annotated[float, Field(ge=0, lt=1)] = 0.1,
        shear: Annotated[float, Field(ge=0, le=60)] = 5.0,
        fill: Fill = "reflect",
        probability: Share = 1.0,
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=probability, boxes=boxes, masks=masks)
        self.degrees, self.shift, self.scale, self.shear = degrees, shift, scale, shear
        self.fill: Fill = fill

    def _mover(self, draws: Draws) -> Mover:
        angles, shears = (ranged(draws, name, (-most, most)) for name, most in (("degrees", self.degrees), ("shear", self.shear)))
        scales = ranged(draws, "scale", (1 - self.scale, 1 + self.scale))
        shifts = (self.shift * (2 * draws.uniform("shift", 2) - 1)).tolist()

        def move(row: int, height: int, width: int) -> Move:
            sheared = np.array([[1.0, math.tan(math.radians(shears[row])), 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
            matrix = around_middle(turned(angles[row]) @ sheared @ scaled(scales[row], scales[row]), height, width)
            x, y = shifts[row]
            return Move(shifted(x * width, y * height) @ matrix, height, width, self.fill)

        return move
