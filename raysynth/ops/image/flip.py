"""Pictures → the same pictures mirrored, left to right or upside down, or as they are."""

from raysynth.draws import Draws
from raysynth.ops.image._geometry import Move, Mover, Moving, around_middle, scaled
from raysynth.ops.image._pictures import Share
from raysynth.schema import Schema


class Flip(Moving):
    """`horizontal`, `vertical`: how likely left and right, and top and bottom, change places. Letters and digits do not survive it."""

    def __init__(
        self,
        schema: Schema,
        *,
        horizontal: Share = 0.5,
        vertical: Share = 0.0,
        column: str | None = None,
        boxes: str | None = None,
        masks: tuple[str, ...] = (),
    ) -> None:
        super().__init__(schema, column=column, probability=1.0, boxes=boxes, masks=masks)
        self.horizontal, self.vertical = horizontal, vertical

    def _mover(self, draws: Draws) -> Mover:
        signs = [(draws.uniform(name) >= share).tolist() for name, share in (("x", self.horizontal), ("y", self.vertical))]

        def move(row: int, height: int, width: int) -> Move:
            x, y = (1 if sign[row] else -1 for sign in signs)
            return Move(around_middle(scaled(x, y), height, width), height, width)

        return move
