"""How much weights of conditioned rows are divided by to be odds of acceptance: by the largest of them, but for a few."""

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from raysynth.draws import Draws

CLIPPED = 0.02  # of the weight of conditioned rows: the distance allowed between them and filtered unconditional rows
MOST_BOUNDS = 1024  # conditions whose bound is kept: a server may be asked for any number of them, and one `where` may be 256
Masks = Mapping[int, NDArray[np.bool_]]


class Bounds:
    """Masks of codes by field → the bound of their weights. `most_draws`: rows drawn for one accepted, about; where the weights differ so
    much that more would be needed, more of the weight is clipped instead."""

    def __init__(self, most_draws: int) -> None:
        self.most_draws = most_draws
        self._known: dict[tuple[tuple[int, bytes], ...], float] = {}

    def of(self, masks: Masks, rows: int, weights: Callable[[Draws, Masks], NDArray[np.float64]]) -> float:
        """CLIPPED of the weight, or more, lies above it. `weights`: draws and masks → (rows,) the weight of each row, asked of the same
        `rows` rows always."""
        key = tuple((field, masks[field].tobytes()) for field in sorted(masks))
        if key not in self._known:
            if len(self._known) >= MOST_BOUNDS:
                del self._known[next(iter(self._known))]
            self._known[key] = self._bound(np.sort(weights(Draws.range(0, "bound", 0, rows), masks)))
        return self._known[key]

    def clear(self) -> None:
        self._known.clear()

    def _bound(self, weights: NDArray[np.float64]) -> float:
        """Of sorted weights."""
        above = np.append(np.cumsum(weights[::-1])[::-1], 0.0)  # above[k]: of weights k and on
        over = above[:-1] - weights * np.arange(len(weights), 0, -1)
        exact, cheap = weights[np.argmax(over <= CLIPPED * above[0])], self.most_draws * above[0] / len(weights)
        return float(min(exact, cheap))
