"""Pictures → the same pictures turned around their middle by an angle that is drawn."""

from typing import Annotated

from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Fill, Move, Mover, Moving, around_middle, turned
from raysynth.ops.image._pictures import Share, ranged
from raysynth.schema import Schema


class Rotate(Moving):
    """By up to `degrees` to either side; the picture keeps its size. `fill`: what shows in the corners, the picture mirrored (reflect),
    its rim (edge), or one colour. What is mirrored has no box: with `boxes` take black."""

    def __init__(
        self,
        schema: Schema,
        *,
        degrees: Annotated[float, Field(gt=0, le=180)] = 15.0,
        fill: Fill = "reflect",
        probability: Share = 1.0,
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=probability, boxes=boxes, masks=masks)
        self.degrees = degrees
        self.fill: Fill = fill

    def _mover(self, draws: Draws) -> Mover:
        angles = ranged(draws, "degrees", (-self.degrees, self.degrees))

        def move(row: int, height: int, width: int) -> Move:
            return Move(around_middle(turned(angles[row]), height, width), height, width, self.fill)

        return move
