"""Op: one augmentation step, real rows → other rows. What it draws, it draws by row id, so it gives the same rows in any batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol, Self

import pyarrow as pa

from raysynth.chat import Foreseen
from raysynth.draws import Draws
from raysynth.layout import Facts
from raysynth.schema import Schema


class Stats(Protocol):
    """What was seen of some rows. Merging in task order gives the same result however the rows were cut into tasks."""

    def merge(self, other: Self, /) -> Self: ...


class Work(Protocol):
    """What an op does with each row by itself, its draws made: several ops do theirs one after the other while a row is at hand."""

    def takes(self, other: Any) -> bool:
        """Whether the work of the op behind it may be done along with it."""
        ...

    def done(self, rows: pa.Table, along: Sequence[Any]) -> pa.Table:
        """The rows with this and then the works `along` done."""
        ...


class Op(ABC):
    """Subclasses take their options as keyword arguments of the constructor, after `schema` (the columns of the prepared rows).
    RecipeError from the constructor where the options do not fit the columns."""

    aside: ClassVar[frozenset[str]] = frozenset()
    """Options that decide no row (where a server is, what it may cost): they are in no id."""

    most_pixels: int = 0
    """Of a picture that it makes larger than it was: the stage takes fewer rows at a time. 0 where none grows."""

    def __init__(self, schema: Schema) -> None:
        self.schema = schema

    @property
    def made(self) -> Schema:
        """The columns of what it gives: those of the rows, unless it adds some."""
        return self.schema

    @property
    def observes(self) -> bool:
        """Whether it has to see the train rows before it makes any."""
        return type(self).observe is not Op.observe

    def facts(self) -> dict[str, Any]:
        """What else than its options decides its rows, such as the digest of a file that it reads."""
        return {}

    def observe(self, rows: pa.Table) -> Stats | None:
        """Prepared train rows (with the row-id columns `_file`, `_row`) → statistics; None where it needs none."""
        return None

    def settle(self, stats: Stats | None) -> None:  # noqa: B027 (most ops keep nothing)
        """Keep what the merged statistics of all train rows say; called once, before any row is asked for."""

    def work(self, draws: Draws) -> Work | None:
        """Of an op that gives one row for each: what it does as a whole, if that can be told before the rows are there."""
        return None

    @abstractmethod
    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        """Rows with `_file` and `_row` → none, one or more rows for each, `_file` and `_row` still those of the row that each comes
        from. `draws` has one row per row. Derived columns may be left as they are: the stage computes them anew."""


class Lent(Op):
    """An op that draws from the model of another run, which the stage lends it, on each worker anew."""

    run: str
    """The URL of that run."""

    @abstractmethod
    def lend(self, model: Any) -> None:
        """Keep the model (raysynth/models.py has its class). RecipeError where it does not fit the columns."""


class Asking(Op):
    """An op that asks a server: each reply is stored before it is read, so a resume repeats no call. See generators/base.py, Remote."""

    concurrency: int = 1
    """Calls in flight at a time, of each worker."""
    budget: str = ""
    """What bounds the cost of all calls for the augmented rows, as the recipe has it."""
    answered: bool = False
    """Whether such calls are known to have been answered, by whoever has their replies: what is then refused is one prompt."""
    replies: Callable[[list[Facts]], list[Facts]] | None = None
    """Requests → replies, in order; set by the stage. Without it every call goes to the server."""

    @abstractmethod
    def send(self, request: Facts) -> Facts:
        """One call; threads may make several. StoppedError when the server does not answer in time; keys come from the environment."""

    @abstractmethod
    def usage(self, reply: Facts) -> tuple[int, int]:
        """Tokens that the call read and wrote."""

    @abstractmethod
    def spent(self, read: float, written: float) -> float:
        """The share of its budget that so many tokens are: from 1 on nothing is left. 0 where there is no budget."""

    @abstractmethod
    def foreseen(self, rows: pa.Table) -> Foreseen:
        """What the calls for these rows say, if all goes well."""

    def answers(self, requests: list[Facts]) -> list[Facts]:
        if not requests:
            return []
        return self.replies(requests) if self.replies else [self.send(request) for request in requests]
