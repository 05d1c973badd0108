"""What one command has spent so far, against its caps: CPU-seconds, and money by the hours of each pool's stages."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from raysynth.cluster.meter import METER
from raysynth.costs import hour_prices, pool_of
from raysynth.errors import StoppedError
from raysynth.recipe import Budget, Prices, Recipe

GO_ON = "What is made stays: run the same command again to go on for as much again, or raise it"


@dataclass
class Spending:
    """`hour_prices`: of all the nodes of a pool. Between stages nodes are not paid for: they go away."""

    budget: Budget = field(default_factory=Budget)
    currency: str = Prices().currency
    hour_prices: Mapping[str, float] = field(default_factory=dict[str, float])
    cpu_before: float = field(default_factory=lambda: METER.cpu_seconds)
    made: bool = False
    """Whether this command has made a stage already: one that stops before it has made anything would never end."""

    def __post_init__(self) -> None:
        self._seconds = {"rows": 0.0, "train": 0.0}
        self._pool, self._since = "", 0.0
        self.running = ""  # the stage, as errors name it

    @staticmethod
    def of(recipe: Recipe) -> "Spending":
        return Spending(recipe.budget, recipe.prices.currency, hour_prices(recipe))

    @contextmanager
    def stage(self, name: str) -> Generator[None]:
        """The hours of that stage's pool run."""
        self._pool, self._since, self.running = pool_of(name), time.monotonic(), name
        try:
            yield
        finally:
            self._seconds[self._pool] += time.monotonic() - self._since
            self._pool = self.running = ""

    @property
    def cpu_seconds(self) -> float:
        return METER.cpu_seconds - self.cpu_before

    @property
    def money(self) -> float:
        running = {self._pool: time.monotonic() - self._since} if self._pool else {}
        return sum(
            (self._seconds[pool] + running.get(pool, 0.0)) / 3600 * self.hour_prices.get(pool, 0.0) for pool in self._seconds
        )

    def check(self) -> None:
        """StoppedError names the cap that is reached."""
        hours, money = self.cpu_seconds / 3600, self.money
        if self.budget.cpu_hours is not None and hours >= self.budget.cpu_hours:
            raise StoppedError(f"budget.cpu_hours: {self.budget.cpu_hours:g}, and {hours:.4g} CPU-hours are spent. {GO_ON}")
        if self.budget.money is not None and money >= self.budget.money:
            raise StoppedError(
                f"budget.money: {self.budget.money:g} {self.currency}, and {money:.4g} {self.currency} are spent. {GO_ON}"
            )
