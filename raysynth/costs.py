"""Measured figures and prices of a recipe → CPU-seconds, hours, tokens and money: low, expected and high. Nothing is measured here."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from raysynth.chat import Foreseen
from raysynth.recipe import Pool, Recipe
from raysynth.recipe_values import UseGpu

POOLS = ("rows", "train")


def pool_of(stage: str) -> str:
    """The pool of `prices` that a stage's hours are paid to."""
    return "train" if stage == "train" else "rows"


def nodes(recipe: Recipe) -> dict[str, int]:
    """Nodes that each priced pool needs for the workers that the recipe asks for."""
    asked = {"rows": (recipe.prices.rows, recipe.generate), "train": (recipe.prices.train, recipe.train)}
    return {pool: -(-of.workers // _room(priced, of.use_gpu)) for pool, (priced, of) in asked.items() if priced is not None}


def _room(priced: Pool, use_gpu: UseGpu) -> int:
    """Workers that one node takes. `auto` is settled by what the cluster has, which nobody asks here: a pool's own GPUs say it."""
    if use_gpu is False or (use_gpu == "auto" and priced.gpus is None):
        return priced.cpus
    return priced.gpus or 1


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

    @property
    def values(self) -> tuple[float, float, float]:
        return self.low, self.expected, self.high

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


BYTES_A_TOKEN = Interval(2.0, 3.5, 5.0)
"""Of what is said to a server, as servers count: Chinese and JSON take two to three, English prose four to five."""
REDONE = Interval(1.0, 1.1, 2.0)
"""Calls for each answer that stands, beside those that the rules turn down."""
SCHEMA_READ = Interval(0.0, 0.5, 1.0)
"""The share of an answer's schema that a server counts as read: some count all of it, some none."""


@dataclass(frozen=True)
class Calls:
    """What `by` (a stage, or an op by its key) asks of a server for so many rows, each called for `times` times. `foreseen`: of some of
    them."""

    by: str
    rows: float
    times: float
    foreseen: Foreseen
    estimated_from: str

    @property
    def calls(self) -> Interval:
        return REDONE.times(self._each(self.foreseen.calls))

    @property
    def read(self) -> Interval:
        """Tokens of prompts and schemas."""
        asked, schema = self._each(self.foreseen.asked_bytes), self._each(self.foreseen.schema_bytes)
        return _tokens(Interval(*(asked + share * schema for share in SCHEMA_READ.values)))

    @property
    def written(self) -> Interval:
        """Tokens of answers: none is longer than it may be."""
        tokens = _tokens(Interval.around(self._each(self.foreseen.answered_bytes), 1, 1))
        most = self.calls.times(self.foreseen.most_tokens)
        return Interval(*(min(pair) for pair in zip(tokens.values, most.values, strict=True)))

    @property
    def money(self) -> Interval | None:
        prices, read, written = self.foreseen.budget, self.read, self.written
        low, expected, high = (prices.money(*pair) for pair in zip(read.values, written.values, strict=True))
        return None if low is None or expected is None or high is None else Interval(low, expected, high)

    def to_json(self) -> dict[str, Any]:
        caps, money = self.foreseen.budget, self.money
        return {
            "calls": self.calls.to_json(),
            "tokens_read": self.read.to_json(),
            "tokens_written": self.written.to_json(),
            "money": money.to_json() if money is not None else None,
            "max_tokens": _capped(caps.max_tokens, self.read + self.written),
            "max_money": _capped(caps.max_money, money),
            "estimated_from": self.estimated_from,
        }

    def _each(self, of_foreseen: float) -> float:
        return of_foreseen / max(1, self.foreseen.rows) * self.rows * self.times


def _tokens(said_bytes: Interval) -> Interval:
    """Of bytes that are said once, with what is asked for again."""
    return Interval(
        said_bytes.low * REDONE.low / BYTES_A_TOKEN.high,
        said_bytes.expected * REDONE.expected / BYTES_A_TOKEN.expected,
        said_bytes.high * REDONE.high / BYTES_A_TOKEN.low,
    )


def cost(recipe: Recipe, estimates: list[Estimate], calls: Iterable[Calls] = ()) -> dict[str, Any]:
    """What `raysynth plan` tells: by stage, by pool, in all, and whether the caps of `budget` would do. Money is null without prices.
    What servers are paid stands apart, by whoever asks them."""
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
        "servers": {one.by: one.to_json() for one in calls},
    }


def _budget(recipe: Recipe, needs: Mapping[str, Interval | None]) -> dict[str, Any]:
    caps = recipe.budget.model_dump()
    return {name: _capped(caps[name], need) for name, need in needs.items()}


def _capped(cap: float | None, need: Interval | None) -> dict[str, Any] | None:
    return None if cap is None or need is None else {"cap": cap, "suffices": _suffices(cap, need)}


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
