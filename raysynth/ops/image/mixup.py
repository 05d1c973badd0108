"""Pictures → pictures with another one shining through (Zhang et al., "mixup", ICLR 2018)."""

from typing import Annotated, cast

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from raysynth.ops.image._partners import Partnered
from raysynth.ops.image._pictures import Share
from raysynth.pictures import Pixels
from raysynth.schema import Schema


class Mixup(Partnered):
    """A pixel becomes lam × the row's + (1 - lam) × the partner's, with lam drawn from Beta(alpha, alpha). The row keeps its own label,
    `target`; the partner's stands in `label_b` and the row's share in `lam`: train on lam × loss(target) + (1 - lam) × loss(label_b).
    `pool_rows`: the partners come from the rows of lowest hashed id. Boxes and masks stay those of the row."""

    def __init__(
        self,
        schema: Schema,
        *,
        target: str,
        alpha: Annotated[float, Field(gt=0, le=100)] = 0.2,
        pool_rows: Annotated[int, Field(ge=1, le=100_000)] = 1000,
        probability: Share = 1.0,
        column: str | None = None,
    ) -> None:
        super().__init__(schema, target=target, alpha=alpha, pool_rows=pool_rows, probability=probability, column=column)

    def _joined(self, own: Pixels, other: Pixels, lam: float, place: NDArray[np.float64]) -> tuple[Pixels, float]:
        return cast("Pixels", cv2.addWeighted(own, lam, other, 1 - lam, 0).reshape(own.shape)), lam
