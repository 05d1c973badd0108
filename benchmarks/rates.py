"""How many of something a CPU-second makes."""

import time
from collections.abc import Callable


def rate(work: Callable[[], int]) -> float:
    """Of what `work` counts, so many a CPU-second: the best of three."""
    best = 0.0
    for _ in range(3):
        start = time.process_time()
        count = work()
        best = max(best, count / (time.process_time() - start))
    return best
