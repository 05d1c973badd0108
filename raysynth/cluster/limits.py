"""Where the work of one command may run, how long it may take and what it may cost: set once by the pipeline, asked at every task's edge."""

import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from raysynth.cluster.spending import Spending
from raysynth.errors import StoppedError
from raysynth.recipe import Cluster, Recipe


@dataclass(frozen=True)
class Limits:
    """One command's; `began` is monotonic."""

    cluster: Cluster = field(default_factory=Cluster)
    spending: Spending = field(default_factory=Spending)
    began: float = field(default_factory=time.monotonic)

    def check(self) -> None:
        """At a task's edge, once what it made is safe. StoppedError where the command's time or budget is spent."""
        self.check_time()
        self.spending.check()

    def check_time(self) -> None:
        """Anywhere. The budget is not asked within a task: one that costs more than it would never end, however often it is made."""
        allowed, seconds = self.cluster.max_seconds, time.monotonic() - self.began
        if allowed is not None and seconds >= allowed:
            raise StoppedError(
                f"cluster.max_seconds: {allowed:g}, and {seconds:.0f} s have passed. Run the same command again to go on, or raise it"
            )


class _Current:
    limits = Limits()


def limits() -> Limits:
    """Those of the command that runs; without one, the defaults."""
    return _Current.limits


@contextmanager
def limited(recipe: Recipe) -> Generator[Limits]:
    """Inside, `limits()` are the recipe's, counted from here."""
    before, _Current.limits = _Current.limits, Limits(recipe.cluster, Spending.of(recipe))
    try:
        yield _Current.limits
    finally:
        _Current.limits = before
