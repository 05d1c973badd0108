"""Pictures → the same pictures with the noise of a sensor in each pixel and channel."""

from functools import cache
from typing import Annotated, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged, span
from raysynth.pictures import Pixels
from raysynth.schema import Schema

Spread = Annotated[float, Field(ge=0, le=1)]


class Noise(Painting):
    """`sigma`: of a normal law, as a share of the whole range of values, from and to."""

    def __init__(
        self, schema: Schema, *, sigma: tuple[Spread, Spread] = (0.01, 0.06), probability: Share = 1.0, column: str | None = None
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        self.sigma = span("sigma", sigma)

    def _painter(self, draws: Draws) -> Paint:
        sigmas = ranged(draws, "sigma", self.sigma)

        def paint(row: int, pixels: Pixels) -> Pixels:
            noise = _normal(draws.take(np.array([row])), pixels.size).reshape(pixels.shape)
            noise *= 255 * sigmas[row]
            return cast("Pixels", cv2.add(pixels, noise, dtype=cv2.CV_8U).reshape(pixels.shape))

        return paint


def _normal(draws: Draws, count: int) -> NDArray[np.float32]:
    """Of one row: a draw of 64 bits makes four values, each a quantile of the normal law at one of 65,536 equal steps."""
    words = draws.words("noise", -(-count // 4))[0]
    return _quantiles()[words.astype("<u8").view("<u2")[:count]]


@cache
def _quantiles() -> NDArray[np.float32]:
    from scipy.special import ndtri

    return np.asarray(ndtri((np.arange(65_536) + 0.5) / 65_536), dtype=np.float32)
