"""Pictures → the same pictures out of focus."""

from typing import Annotated, cast

import cv2
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged, span
from raysynth.pictures import Pixels
from raysynth.schema import Schema

Sigma = Annotated[float, Field(ge=0.1, le=20)]


class Blur(Painting):
    """`sigma`: of a Gaussian, in pixels, from and to."""

    def __init__(
        self, schema: Schema, *, sigma: tuple[Sigma, Sigma] = (0.2, 1.5), probability: Share = 1.0, column: str | None = None
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        self.sigma = span("sigma", sigma)

    def _painter(self, draws: Draws) -> Paint:
        sigmas = ranged(draws, "sigma", self.sigma)

        def paint(row: int, pixels: Pixels) -> Pixels:
            return cast("Pixels", cv2.GaussianBlur(pixels, (0, 0), sigmas[row]).reshape(pixels.shape))

        return paint
