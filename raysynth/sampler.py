"""A finished model → rows by number: row i is a pure function of (model, rules, seed, i, where), whoever asks and for how many.

Every kernel call is padded to a multiple of the model's step. A row that `where`, an exact condition or a rule turns down is drawn again
in its own slot with its next attempt; when a few rows are left, one call tries many attempts of each and the lowest that holds wins.
"""

from collections import Counter
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cases import Case, case_of, cases_of
from raysynth.derived import expressions_of
from raysynth.draws import Draws, SeededDraws
from raysynth.errors import RecipeError, RuleError
from raysynth.expressions import Expression
from raysynth.filters.base import Filter
from raysynth.generators.base import Remote, Trained
from raysynth.models import Model
from raysynth.turns import rows_as_texts
from raysynth.where import parse_where, satisfied

LEAST_ACCEPTANCE = 0.005
CASE_ROWS = 4_000  # of each case, where a probe has several
T = TypeVar("T")
Numbers = NDArray[np.uint64]
Failed = dict[str, NDArray[np.bool_]]
"""Check → (rows,) True where the row fails it."""


@dataclass(frozen=True)
class Found:
    """Rows that hold. `place`: (rows,) which of those that were asked for each is; `attempts`: (rows,) the attempt that it was."""

    rows: pa.Table
    place: NDArray[np.int64]
    attempts: Numbers

    @staticmethod
    def joined(found: "Sequence[Found]") -> "Found":
        """In the order of what was asked, and of its attempts."""
        place = np.concatenate([one.place for one in found])
        order = np.argsort(place, kind="stable")
        rows = pa.concat_tables([one.rows for one in found])
        return Found(rows.take(order), place[order], np.concatenate([one.attempts for one in found])[order])


class Sampler:
    """`where` is the recipe's raw mapping, `filters` are settled. RecipeError on a condition or a rule that does not fit the schema."""

    def __init__(
        self,
        model: Model,
        *,
        seed: int,
        rules: Sequence[str] = (),
        filters: Sequence[Filter] = (),
        where: Mapping[str, Any] | None = None,
        max_attempts: int = 10_000,
    ) -> None:
        self.model = model
        self.seed = seed
        self.max_attempts = max_attempts
        self.cases = cases_of(parse_where(where or {}, model.schema), model)
        self.rules = [Expression.parse(rule, f"rules.{i}") for i, rule in enumerate(rules)]
        self.filters = tuple(filters)
        self.derive = expressions_of(model.schema, model.derive)
        for rule in self.rules:
            rule.holds(model.schema.arrow.empty_table())  # one that does not fit the schema is refused here, before any row
        self.rejects: Counter[str] = Counter()
        self._probed, self._refusal = False, ""

    @property
    def _conditioned(self) -> bool:
        return any(case.where for case in self.cases)

    def to_gpu(self) -> None:
        """From now on the rows are drawn there: the same distribution, and not the bytes of the CPU."""
        import torch

        if not torch.cuda.is_available():
            raise RecipeError(
                "generate.use_gpu: a worker got a GPU that its torch cannot use. Install torch for CUDA there, or say false"
            )
        if isinstance(self.model.generator, Trained):
            self.model.generator.to("cuda")

    def range(self, start: int, stop: int) -> pa.Table:
        """Rows start … stop-1, in order."""
        return self.rows(np.arange(start, stop, dtype=np.uint64))

    def rows(self, numbers: Numbers) -> pa.Table:
        """The rows of these numbers, in this order. RuleError when a row finds no valid attempt."""
        return self.pieces([(self.seed, numbers)])

    def pieces(self, pieces: Sequence[tuple[int, Numbers]], *, between: Callable[[], None] | None = None) -> pa.Table:
        """The rows of several (seed, numbers), one piece after the other: they share kernel calls, and are what each would be alone.
        `between` is called before every kernel call; what it raises ends the work."""
        return _ended(self.steps(pieces), between)

    def steps(self, pieces: Sequence[tuple[int, Numbers]]) -> Generator[None, None, pa.Table]:
        """`pieces`, one kernel call after another: between two of them other work may be done."""
        numbers = np.concatenate([numbers for _, numbers in pieces])
        found = yield from self._search(_draws(pieces, numbers), np.zeros(len(numbers), np.uint64), 1)
        return found.rows

    def holding(
        self,
        numbers: Numbers,
        since: Numbers,
        wanted: int = 1,
        *,
        all_found: bool = True,
        between: Callable[[], None] | None = None,
    ) -> Found:
        """Of each row its first `wanted` attempts that hold, from attempt `since` on. RuleError where a row has fewer, unless not
        `all_found`. `between`: as of `pieces`."""
        return _ended(self._search(Draws.of(self.seed, "generate", numbers), since, wanted, all_found), between)

    def _search(self, draws: Draws, since: Numbers, wanted: int, all_found: bool = True) -> Generator[None, None, Found]:
        position, attempt = np.arange(len(draws)), since.copy()
        left = np.full(len(draws), wanted)
        found = [Found(self.model.schema.arrow.empty_table(), np.zeros(0, np.int64), np.zeros(0, np.uint64))]
        width = self.model.generator.step_rows  # rows of a call that tries again: few first, since mostly one more try is enough
        while len(position):
            taken = position[: self.model.generator.kernel_rows]
            held, attempts = yield from self._try(draws.take(taken), attempt[taken], width, left[taken])
            found.append(Found(held.rows, taken[held.place], held.attempts))
            np.subtract.at(left, found[-1].place, 1)
            attempt[taken] += np.uint64(attempts)
            missed = taken[left[taken] > 0]
            if all_found:
                self._check_attempts(draws, attempt, missed)
            missed = missed[attempt[missed] < self.max_attempts]
            position = np.concatenate([position[len(taken) :], missed])
            width = min(2 * width, self.model.generator.kernel_rows)
            if len(position):
                yield
        return Found.joined(found)

    def first_attempts(self, rows: int) -> pa.Table:
        """So many rows (at most one kernel's), valid or not: what a row is like before anything is learnt."""
        return _ended(self._draw(Draws.range(self.seed, "generate", 0, rows)), None)[0]

    def check_acceptance(self, rows: int | None = None) -> None:
        """RuleError if the rules and `where` turn down nearly all of a probe's rows, or of those of one case. The probe is drawn once.
        `rows`: of the data set, for a generator whose rows cost something is only probed with rows that are then used."""
        if not isinstance(self.model.generator, Remote) or (rows or 0) >= self.model.generator.probe_rows:
            _ended(self.ready(), None)

    def ready(self) -> Generator[None, None, None]:
        """`check_acceptance`, one case after another: between two of them other work may be done."""
        if not self._probed and (self.rules or self.filters or self._conditioned):
            several = len(self.cases) > 1 and not isinstance(self.model.generator, Remote)
            for case in self.cases if several else [None]:
                self._refusal = self._refused(case)
                if self._refusal:
                    break
                yield
        self._probed = True
        if self._refusal:
            raise RuleError(self._refusal)

    def _refused(self, case: Case | None) -> str:
        """Why the probe of a case, or of all rows, is refused; nothing where it is not."""
        probe = self.model.generator.probe_rows if case is None else CASE_ROWS
        acceptance, worst = self.acceptance(probe, enough=LEAST_ACCEPTANCE, case=case), self.rejects.most_common(1)
        self.rejects.clear()
        if acceptance >= LEAST_ACCEPTANCE:
            return ""
        key, loosen = (
            ("rules", "the rules or generate.where") if self.rules or self.filters else ("generate.where", "that condition")
        )
        return (
            f"{key}: of {probe:,} probe rows{_with(case)} {acceptance:.2%} hold, and at least {LEAST_ACCEPTANCE:.1%} must; most were turned "
            f"down by {worst[0][0]}. Loosen {loosen}"
        )

    def acceptance(self, rows: int = 10_000, *, enough: float = 1.0, case: Case | None = None) -> float:
        """Share of first attempts that hold, over the first `rows` row numbers, each with its own case or all with that one; `rejects`
        then says why the others did not. Once it is sure to be `enough`, the other rows are not drawn, and it is more than what is
        returned."""
        numbers = np.arange(rows, dtype=np.uint64)
        kernel_rows = self.model.generator.kernel_rows
        held = 0
        for start in range(0, rows, kernel_rows):
            part = numbers[start : start + kernel_rows]
            draws = Draws.of(self.seed, "generate", part)
            _, failed = _ended(self._draw(draws), None) if case is None else self._draw_case(case, draws)
            every = np.ones(len(part), dtype=np.bool_)
            held += int(self._holds(failed, every).sum())
            self._count(failed, every)
            if held >= enough * rows:
                break
        return held / rows

    def _try(
        self, draws: Draws, attempt: Numbers, width: int, wanted: NDArray[np.int64]
    ) -> Generator[None, None, tuple[Found, int]]:
        """One kernel call → of each slot the first `wanted` attempts in it that hold, and how many attempts of each were tried."""
        once = (
            isinstance(self.model.generator, Remote) or not attempt.any()
        )  # the first try mostly holds; a call is made when it must
        attempts = 1 if once else max(1, width // len(draws))
        tries = np.repeat(attempt, attempts) + np.tile(np.arange(attempts, dtype=np.uint64), len(draws))
        drawn, failed = yield from self._draw(replace(draws.take(np.repeat(np.arange(len(draws)), attempts)), attempts=tries))
        within = tries < self.max_attempts  # a call may try more: they never count, so that no batching saves a row
        holds = self._holds(failed, within).reshape(len(draws), attempts)
        before = np.cumsum(holds, axis=1) - holds  # attempts after the last that is wanted belong to no row
        asked = before < wanted[:, None]
        self._count(failed, within & asked.ravel())
        slot, turn = np.nonzero(holds & asked)
        at = slot * attempts + turn
        return Found(drawn.take(at), slot, tries[at]), attempts

    def _draw(self, draws: Draws) -> Generator[None, None, tuple[pa.Table, Failed]]:
        """Draws (at most one kernel's) → as many rows, derived columns too, and which of them fail each check; one case after another."""
        case_of_row = case_of(self.cases, draws)
        found: list[tuple[NDArray[np.int64], pa.Table, Failed]] = []
        for number in np.unique(case_of_row):
            if found:
                yield
            rows = np.flatnonzero(case_of_row == number)
            found.append((rows, *self._draw_case(self.cases[number], draws.take(rows))))
        if len(found) == 1:
            return found[0][1:]
        order = np.argsort(np.concatenate([rows for rows, *_ in found]))
        checks = list(found[0][2])
        return pa.concat_tables([table for _, table, _ in found]).take(order), {
            name: np.concatenate([failed[name] for *_, failed in found])[order] for name in checks
        }

    def _draw_case(self, case: Case, draws: Draws) -> tuple[pa.Table, Failed]:
        step = self.model.generator.step_rows
        padded = draws.take(np.arange(-(-len(draws) // step) * step) % len(draws))
        batch = self.model.generator.sample(padded, case.given)
        table = self.model.codec.decode(batch, padded).slice(0, len(draws))
        for name, expression in self.derive.items():
            table = table.append_column(name, expression.evaluate(table))
        table = table.select(self.model.schema.names).cast(self.model.schema.arrow)
        failed: Failed = {}
        if batch.accepted is not None:
            failed["where" if case.where else "the generator"] = ~batch.accepted[: len(draws)]
        if case.where:
            failed["where"] = ~satisfied(case.where, table) | failed.get("where", np.zeros(len(draws), dtype=np.bool_))
        failed |= {f"rule '{rule.text}'": ~rule.holds(table) for rule in self.rules}
        texts = rows_as_texts(table) if self.filters else table
        return table, failed | {f"filter {one.name}": ~one.holds(texts) for one in self.filters}

    def _holds(self, failed: Failed, among: NDArray[np.bool_]) -> NDArray[np.bool_]:
        holds = among.copy()
        for fails in failed.values():
            holds &= ~fails
        return holds

    def _count(self, failed: Failed, counted: NDArray[np.bool_]) -> None:
        """Each check on its own, so that one that nothing passes is always the worst."""
        for name, fails in failed.items():
            self.rejects[name] += int((fails & counted).sum())

    def _check_attempts(self, draws: Draws, attempt: Numbers, missed: NDArray[np.int64]) -> None:
        spent = missed[attempt[missed] >= self.max_attempts] if len(missed) else missed
        if not len(spent):
            return
        worst, case = self.rejects.most_common(1)[0][0], self.cases[case_of(self.cases, draws.take(spent[:1]))[0]]
        raise RuleError(
            f"row {draws.rows[spent[0]]}{_with(case)}: no valid row in {self.max_attempts} attempts; most were turned down by {worst} "
            f"({dict(self.rejects)}). Loosen it, or raise generate.max_attempts"
        )


def _with(case: Case | None) -> str:
    return f" with {case.told}" if case is not None and case.told else ""


def _ended(steps: Generator[None, None, T], between: Callable[[], None] | None) -> T:
    while True:
        if between is not None:
            between()
        try:
            next(steps)
        except StopIteration as done:
            return done.value


def _draws(pieces: Sequence[tuple[int, Numbers]], numbers: Numbers) -> Draws:
    seeds = [seed for seed, _ in pieces]
    if len(set(seeds)) == 1:
        return Draws.of(seeds[0], "generate", numbers)
    which = np.repeat(np.arange(len(seeds)), [len(numbers) for _, numbers in pieces])
    return SeededDraws(0, "generate", numbers, np.zeros(len(numbers), dtype=np.uint64), tuple(seeds), which)
