"""Pictures → the same pictures with the blocks and halos that a JPEG of low quality leaves."""

from typing import Annotated

from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged, span
from raysynth.pictures import Pixels, encoded, pixels_of
from raysynth.schema import Schema

Quality = Annotated[int, Field(ge=1, le=100)]


class Jpeg(Painting):
    """`quality`: from and to, 1 to 100. In the end the picture is written as it came, PNG as PNG."""

    def __init__(
        self, schema: Schema, *, quality: tuple[Quality, Quality] = (15, 60), probability: Share = 1.0, column: str | None = None
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        span("quality", quality)
        self.quality = quality

    def _painter(self, draws: Draws) -> Paint:
        qualities = ranged(draws, "quality", (self.quality[0] - 0.5, self.quality[1] + 0.5))

        def paint(row: int, pixels: Pixels) -> Pixels:
            return pixels_of(encoded(pixels, "jpeg", min(self.quality[1], max(self.quality[0], round(qualities[row])))))

        return paint
