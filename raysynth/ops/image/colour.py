"""Pictures → the same pictures brighter or darker, of more or less contrast and saturation, in other hues: one matrix for each."""

import math
from typing import Annotated, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.ops.image._pictures import Paint, Painting, Share, ranged
from raysynth.pictures import Pixels
from raysynth.schema import Schema

GREY = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601, as OpenCV has it
_YIQ = np.array([GREY, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])  # the NTSC's grey and two colour differences
_RGB = np.linalg.inv(_YIQ)


class Colour(Painting):
    """`brightness`, `contrast` and `saturation` become 1 ± so much of what they were: contrast around the picture's mean grey, saturation
    around the pixel's own. `hue`: by up to this share of the colour circle to either side. Of a grey picture brightness and contrast."""

    def __init__(
        self,
        schema: Schema,
        *,
        brightness: Share = 0.2,
        contrast: Share = 0.2,
        saturation: Share = 0.2,
        hue: Annotated[float, Field(ge=0, le=0.5)] = 0.02,
        probability: Share = 1.0,
        column: str | None = None,
    ) -> None:
        super().__init__(schema, column=column, probability=probability)
        self.brightness, self.contrast, self.saturation, self.hue = brightness, contrast, saturation, hue

    def _painter(self, draws: Draws) -> Paint:
        factors = {"brightness": self.brightness, "contrast": self.contrast, "saturation": self.saturation}
        drawn = [ranged(draws, name, (1 - most, 1 + most)) for name, most in factors.items()]
        turns = ranged(draws, "hue", (-self.hue, self.hue))

        def paint(row: int, pixels: Pixels) -> Pixels:
            brightness, contrast, saturation = (factor[row] for factor in drawn)
            means = np.array(cv2.mean(pixels)[: pixels.shape[2]])
            mean = float(GREY @ means) if pixels.shape[2] == 3 else float(means[0])
            offset = (1 - contrast) * brightness * mean
            hues = _hues(saturation, turns[row]) if pixels.shape[2] == 3 else np.eye(1)
            matrix = np.column_stack([brightness * contrast * hues, np.full(len(hues), offset)])
            return cast("Pixels", cv2.transform(pixels, matrix).reshape(pixels.shape))

        return paint


def _hues(saturation: float, turn: float) -> NDArray[np.float64]:
    """(3, 3): the two colour differences turned by this share of the circle and stretched; grey stays as it is."""
    cos, sin = saturation * math.cos(math.tau * turn), saturation * math.sin(math.tau * turn)
    return _RGB @ np.array([[1.0, 0.0, 0.0], [0.0, cos, -sin], [0.0, sin, cos]]) @ _YIQ
