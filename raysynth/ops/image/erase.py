"""Pictures → the same pictures with a rectangle wiped out (Zhong et al., "Random Erasing Data Augmentation", AAAI 2020)."""

import math
from typing import Annotated, Literal

import numpy as np
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged, span
from raysynth.pictures import Pixels
from raysynth.schema import Schema

Area = Annotated[float, Field(gt=0, lt=1)]
Ratio = Annotated[float, Field(ge=0.1, le=10)]


class Erase(Painting):
    """`area`: of the rectangle, as a share of the picture's, from and to; `ratio`: of its width to its height, from and to; where it is
    longer than the picture it ends there. `fill`: what it shows, noise, black, or the picture's mean colour. Labels, boxes and masks
    stay."""

    def __init__(
        self,
        schema: Schema,
        *,
        area: tuple[Area, Area] = (0.02, 0.2),
        ratio: tuple[Ratio, Ratio] = (0.3, 3.3),
        fill: Literal["noise", "black", "mean"] = "noise",
        probability: Share = 0.5,
        column: str | None = None,
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        self.area, self.ratio, self.fill = span("area", area), span("ratio", ratio), fill

    def _painter(self, draws: Draws) -> Paint:
        areas = ranged(draws, "area", self.area)
        ratios = np.exp(ranged(draws, "ratio", (math.log(self.ratio[0]), math.log(self.ratio[1])))).tolist()
        places = draws.uniform("place", 2).tolist()

        def paint(row: int, pixels: Pixels) -> Pixels:
            height, width = pixels.shape[:2]
            side = math.sqrt(areas[row] * height * width)
            stretch = math.sqrt(ratios[row])
            rows, columns = (
                min(most, max(1, round(length))) for most, length in ((height, side / stretch), (width, side * stretch))
            )
            top, left = (
                math.floor(place * (left + 1)) for place, left in zip(places[row], (height - rows, width - columns), strict=True)
            )
            made = pixels.copy()
            part = made[top : top + rows, left : left + columns]
            part[:] = self._shown(part, pixels, draws.take(np.array([row])))
            return made

        return paint

    def _shown(self, part: Pixels, pixels: Pixels, draws: Draws) -> Pixels:
        if self.fill == "noise":
            words = draws.words("noise", -(-part.size // 8))[0]
            return words.astype("<u8").view(np.uint8)[: part.size].reshape(part.shape)
        shown = pixels.mean(axis=(0, 1)) if self.fill == "mean" else np.zeros(part.shape[2])
        return np.round(shown).astype(np.uint8)
