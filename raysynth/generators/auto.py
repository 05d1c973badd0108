"""What the rows ask for: whichever generator of tables does best in short trials on some of them.

Before anything is trained, each of `candidates` learns some of the train rows and is judged by others; all of the best one's kind and the
best of each other kind then learn four times as many (a short form of successive halving: Jamieson & Talwalkar, "Non-stochastic best arm
identification and hyperparameter optimization", AISTATS 2016). The one that is best there takes this one's place in the recipe.
"""

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from raysynth.generators.base import Choice
from raysynth.layout import Fields, Layout

Want = Literal["fidelity", "utility", "privacy"]


class Auto(Choice):
    """`wants`, most wanted first: fidelity (a detector cannot tell the rows from real ones), utility (a model of evaluate.target learns as
    much from them), privacy (they lie no nearer to train rows than to others). What is not named is not asked. `rows`: of the last
    trials, at most."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)

    def __init__(
        self,
        *,
        wants: Annotated[tuple[Want, ...], Field(min_length=1)] = ("fidelity", "utility", "privacy"),
        rows: Annotated[int, Field(ge=500, le=1_000_000)] = 20_000,
    ) -> None:
        self.wants, self.rows = wants, rows

    def candidates(self) -> list[dict[str, Any]]:
        """The careful ones first: whoever cannot be told from another by trials comes after it."""
        return [
            *({"use": "trees", "leaf": leaf} for leaf in (40, 20, 10, 5)),
            {"use": "autoregressive"},
            {"use": "autoregressive", "dropout": 0.1},
        ]
