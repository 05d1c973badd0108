"""Pictures → pictures with a rectangle of another one in them (Yun et al., "CutMix", ICCV 2019)."""

import math
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.ops.image._partners import Partnered
from raysynth.ops.image._pictures import Share
from raysynth.pictures import Pixels
from raysynth.schema import Schema


class Cutmix(Partnered):
    """The rectangle shows the same place of the partner; its sides are √(1 - lam) of the picture's, with lam drawn from Beta(alpha, alpha),
    and its middle lies anywhere in the picture. The row keeps its own label, `target`; the partner's stands in `label_b`, and in `lam`
    the share of the pixels that are still the row's: train on lam × loss(target) + (1 - lam) × loss(label_b). `pool_rows`: the partners
    come from the rows of lowest hashed id. Boxes and masks stay those of the row."""

    def __init__(
        self,
        schema: Schema,
        *,
        target: str,
        alpha: Annotated[float, Field(gt=0, le=100)] = 1.0,
        pool_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000,
        probability: Share = 1.0,
        column: str | None = None,
    ) -> None:
        super().__init__(schema, target=target, alpha=alpha, pool_rows=pool_rows, probability=probability, column=column)

    def _joined(self, own: Pixels, other: Pixels, lam: float, place: NDArray[np.float64]) -> tuple[Pixels, float]:
        ends = [_ends(side, math.sqrt(1 - lam), float(at)) for side, at in zip(own.shape[:2], place, strict=True)]
        window = tuple(slice(*end) for end in ends)
        made = own.copy()
        made[window] = other[window]
        area = math.prod(stop - start for start, stop in ends)
        return made, 1 - area / math.prod(own.shape[:2])


def _ends(side: int, share: float, place: float) -> tuple[int, int]:
    """Of that share of the side around a place in it; what would lie beyond its ends is left out."""
    start = round((place - share / 2) * side)
    return max(0, start), min(side, start + round(share * side))
