"""Pictures → the same pictures with the noise of a sensor in each pixel and channel."""

from functools import cache
from typing import Annotated, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged
from raysynth.pictures import Pixels
from raysynth.schema import Schema


class Noise(Painting):
    """Of a normal law; `spread`: its largest standard deviation, in levels of 255, each picture's being drawn from 0 to it."""

    def __init__(
        self,
        schema: Schema,
        *,
        spread: Annotated[float, Field(gt=0, le=255)] = 12.0,
        probability: Share = 1.0,
        column: str | None = None,
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        self.spread = spread

    def _painter(self, draws: Draws) -> Paint:
        spreads = ranged(draws, "spread", (0.0, self.spread))

        def paint(row: int, pixels: Pixels) -> Pixels:
            noise = _normal(draws.take(np.array([row])), pixels.size).reshape(pixels.shape)
            noise *= spreads[row]
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
