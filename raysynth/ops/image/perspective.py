"""Pictures → the same pictures as seen from aside."""

from typing import Annotated

import cv2
import numpy as np
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Fill, Move, Mover, Moving
from raysynth.ops.image._pictures import Share
from raysynth.schema import Schema


class Perspective(Moving):
    """Each corner moves by up to `strength` of the width and of the height, in or out. `fill`: see image.rotate."""

    def __init__(
        self,
        schema: Schema,
        *,
        strength: Annotated[float, Field(gt=0, le=0.3)] = 0.1,
        fill: Fill = "reflect",
        probability: Share = 1.0,
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=probability, boxes=boxes, masks=masks)
        self.strength = strength
        self.fill: Fill = fill

    def _mover(self, draws: Draws) -> Mover:
        steps = self.strength * (2 * draws.uniform("corners", 4, 2) - 1)

        def move(row: int, height: int, width: int) -> Move:
            sides = np.array([width, height], dtype=np.float64)
            corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]]) * sides
            matrix = cv2.getPerspectiveTransform(corners.astype(np.float32), (corners + steps[row] * sides).astype(np.float32))
            return Move(np.asarray(matrix, np.float64), height, width, self.fill)

        return move
