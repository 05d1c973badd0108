"""Pictures → the same pictures without colours; those of three channels keep them, all alike."""

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share
from raysynth.pictures import Pixels, in_channels
from raysynth.schema import Schema


class Greyscale(Painting):
    """`probability`: of each picture."""

    def __init__(self, schema: Schema, *, probability: Share = 1.0, column: str | None = None) -> None:
        super().__init__(schema, column=column, probability=probability)

    def _painter(self, draws: Draws) -> Paint:
        return _grey


def _grey(row: int, pixels: Pixels) -> Pixels:
    return in_channels(in_channels(pixels, 1), pixels.shape[2])
