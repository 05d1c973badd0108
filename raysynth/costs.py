"""Measured figures and a recipe's prices → CPU-seconds, hours and money, each as low, expected and high. Nothing is measured here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raysynth.recipe import Recipe

POOLS = ("rows", "train")


def pool_of(stage: str) -> str:
    """The pool of `prices` that a stage's hours are paid to."""
    return "train" if stage == "train" else "rows"


def nodes(recipe: Recipe) -> dict[str, int]:
    """Nodes that each priced pool needs for the workers that the recipe asks for."""
    asked = {"rows": (recipe.prices.rows, recipe.generate.workers), "train": (recipe.prices.train, recipe.train.workers)}
    return {pool: -(-workers // priced.cpus) for pool, (priced, workers) in asked.items() if priced is not None}


def hour_prices(recipe: Recipe) -> dict[str, float]:
    """Price of an hour of all nodes of a pool; pools without a price are left out."""
    prices = {"rows": recipe.prices.rows, "train": recipe.prices.train}
    return {pool: count * priced.node_hour for pool, count in nodes(recipe).items() if (priced := prices[pool]) is not None}


@dataclass(frozen=True)
class Interval:
    """Low ≤ expected ≤ high."""

    low: float
    expected: float
    high: float

    @staticmethod
    def around(expected: float, low: float, high: float) -> "Interval":
        """`low` and `high` are factors."""
        return Interval(expected * low, expected, expected * high)

    def __add__(self, other: "Interval") -> "Interval":
        return Interval(self.low + other.low, self.expected + other.expected, self.high + other.high)

    def times(self, factor: float) -> "Interval":
        return Interval(self.low * factor, self.expected * factor, self.high * factor)

    def to_json(self) -> dict[str, float]:
        return {name: _rounded(value) for name, value in vars(self).items()}


NOTHING = Interval(0.0, 0.0, 0.0)


@dataclass(frozen=True)
class Estimate:
    """One stage: CPU-seconds that one process spends alone, those that `width` workers share, where the figures come from, and the
    seconds by the clock in which processes start and wait for one another. `feed`: what `feed_width` workers share before (encoding)."""

    stage: str
    alone: Interval
    shared: Interval
    width: int
    estimated_from: str
    waits: Interval = NOTHING
    feed: Interval = NOTHING
    feed_width: int = 1

    @property
    def cpu_seconds(self) -> Interval:
        return self.alone + self.shared + self.feed

    @property
    def hours(self) -> Interval:
        """By the clock, on nodes that are there and do nothing else."""
        together = self.shared.times(1 / self.width) + self.feed.times(1 / self.feed_width)
        return (self.waits + self.alone + together).times(1 / 3600)


def cost(recipe: Recipe, estimates: list[Estimate]) -> dict[str, Any]:
    """What `raysynth plan` tells: by stage, by pool, in all, and whether the caps of `budget` would do. Money is null without prices."""
    hours = {pool: _sum(item.hours for item in estimates if pool_of(item.stage) == pool) for pool in POOLS}
    cpu = _sum(item.cpu_seconds for item in estimates)
    prices, counts = hour_prices(recipe), nodes(recipe)
    money = {pool: hours[pool].times(prices[pool]) for pool in POOLS if pool in prices}
    total = _sum(money.values()) if set(money) == set(POOLS) else None
    return {
        "stages": {
            item.stage: {
                "cpu_seconds": item.cpu_seconds.to_json(),
                "hours": item.hours.to_json(),
                "workers": item.width,
                "estimated_from": item.estimated_from,
            }
            for item in estimates
        },
        "pools": {
            pool: {
                "nodes": counts.get(pool),
                "hours": hours[pool].to_json(),
                "money": money[pool].to_json() if pool in money else None,
            }
            for pool in POOLS
        },
        "total": {
            "cpu_hours": cpu.times(1 / 3600).to_json(),
            "hours": _sum(hours.values()).to_json(),
            "money": total.to_json() if total is not None else None,
            "currency": recipe.prices.currency,
        },
        "budget": _budget(recipe, {"cpu_hours": cpu.times(1 / 3600), "money": total}),
    }


def _budget(recipe: Recipe, needs: Mapping[str, Interval | None]) -> dict[str, Any]:
    caps = recipe.budget.model_dump()
    return {
        name: None if caps[name] is None or need is None else {"cap": caps[name], "suffices": _suffices(caps[name], need)}
        for name, need in needs.items()
    }


def _suffices(cap: float, need: Interval) -> str:
    if cap >= need.high:
        return "yes"
    return "probably" if cap >= need.expected else "perhaps" if cap > need.low else "no"


def _sum(intervals: Any) -> Interval:
    total = NOTHING
    for interval in intervals:
        total = total + interval
    return total


def _rounded(value: float) -> float:
    """Three digits: no estimate is worth more."""
    return float(f"{value:.3g}")
