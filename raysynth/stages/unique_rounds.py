"""Rows that repeat others → for each, the next of its attempts that says what nobody else says: drawn in rounds, each a committed folder."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import pc
from raysynth.cluster.limits import limits
from raysynth.cluster.parts import FilesOf
from raysynth.cluster.stalled import beats
from raysynth.commits import Table, parquet_bytes
from raysynth.draws import Words
from raysynth.errors import RuleError, StoppedError
from raysynth.generators.base import Generator, Remote
from raysynth.orders import Order
from raysynth.progress import say
from raysynth.runs import Folder, Plan, parquet_rows, read_rows
from raysynth.sampler import LEAST_ACCEPTANCE, Sampler
from raysynth.stores.base import join
from raysynth.uniqueness import Candidates, keys_of

MOST_DRAWN = 1 << 20
"""Candidates of one round, where rows draw more than one each: half of them may be in vain."""
PART_DRAWN = 8192
"""… and of a part of it."""
AGAIN = pa.schema([("row", pa.uint64()), ("round", pa.int64()), ("part", pa.int64()), ("place", pa.int64())])
"""Where a row that was drawn again lies: the round's number, its part, and the place in that."""

MakeSampler = Callable[[], Sampler]


@dataclass
class Contest:
    """`rows`: (losers,) those without a value of their own, ascending; `since`: the attempt from which on each draws next; `generator`: what
    they are drawn from; `drawn_again`: how many there were at first."""

    order: Order
    generator: Generator
    rows: Words
    since: NDArray[np.uint64]
    rounds: int = 0
    drawn_again: int = field(init=False)
    _settled: list[pa.Table] = field(default_factory=list[pa.Table])
    _taken: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    _shown: int = 0
    _vain: int = 0  # of the candidates that were looked at those since the last round in which one won

    def __post_init__(self) -> None:
        self.drawn_again = len(self.rows)

    @property
    def wanted(self) -> int:
        """Candidates of each row in the next round: twice as many each time, so that rounds are few. A call that costs is not made ahead."""
        if isinstance(self.generator, Remote):
            return 1
        return max(1, min(1 << min(self.rounds, 20), MOST_DRAWN // len(self.rows), self.order.max_attempts))

    @property
    def part_rows(self) -> int:
        """Of the next round."""
        return max(1, min(PART_DRAWN, self.order.rows_per_part or PART_DRAWN) // self.wanted)

    def decide(self, keys: pa.Table, known: NDArray[np.bool_]) -> None:
        """`keys`: of the round's candidates, part by part; `known`: (candidates,) whether a draft has that key. RuleError where a row has no
        attempt left, and where it is sure to come to that."""
        part, words = keys["part"].to_numpy(), keys["word"].to_numpy()
        slot = part * self.part_rows + keys["slot"].to_numpy()
        said = np.asarray(keys["said"].to_numpy(), np.bool_)
        won, shown = Candidates(slot, words, said, ~known & ~np.isin(words, self._taken)).winners(len(self.rows))
        left, kept = won < 0, won[won >= 0]
        counts = np.bincount(slot, minlength=len(won))
        self._check(shown, len(kept), int(left.sum()), bool((counts[left] < self.wanted).any()))
        self.rounds += 1
        columns = (self.rows[~left], np.full(len(kept), self.rounds), part[kept], keys["place"].to_numpy()[kept])
        self._settled.append(_table(**dict(zip(AGAIN.names, columns, strict=True))).cast(AGAIN))
        self._taken = np.concatenate([self._taken, words[kept][said[kept]]])
        self.since = keys["attempt"].to_numpy()[np.cumsum(counts)[left] - 1] + np.uint64(1)
        self.rows = self.rows[left]

    def _check(self, shown: int, won: int, left: int, spent: bool) -> None:
        """That the draws would be too many is seen long before they are made: a data set may cost as many as rules that turn down nearly
        all of its rows."""
        self._shown, self._vain = self._shown + shown, self._vain + shown
        most = max(self.order.rows / LEAST_ACCEPTANCE, self.generator.probe_rows)
        expected = left * (self._vain + 1) / (won + 1)
        if spent or (left and self._shown + expected > most):
            of_draws = f"of the last {self._vain:,} draws {won:,} said something new"
            attempts = f", and a row has no more than generate.max_attempts, {self.order.max_attempts:,}" if spent else ""
            raise RuleError(refusal(self.order, f"{self.order.rows - left:,} were found; {of_draws}{attempts}"))
        self._vain = 0 if won else self._vain

    @property
    def settled(self) -> pa.Table:
        """As AGAIN, by row."""
        return pa.concat_tables([AGAIN.empty_table(), *self._settled]).sort_by("row")


def refusal(order: Order, seen: str) -> str:
    return (
        f"generate.unique: [{', '.join(order.unique)}]: {order.rows:,} rows that differ were asked, and {seen}. Ask for fewer rows, name "
        "more columns, or loosen the rules or generate.where"
    )


def drawn(folder: Folder, contest: Contest, make_sampler: MakeSampler, draw: Callable[[Folder, Plan, Any], object]) -> pa.Table:
    """The keys of a round's candidates, each with its part; the round is made where it is not there."""
    if not folder.committed:
        told = {"round": contest.rounds + 1, "rows_to_draw_again": len(contest.rows)}
        say(stage="generate", unique=list(contest.order.unique), **told)
        size, asked = contest.part_rows, _table(row=contest.rows, since=contest.since)
        starts = range(0, len(contest.rows), size)
        for part, start in enumerate(starts):
            folder.store.put(_asked_url(folder, part), parquet_bytes(asked.slice(start, size)))
        plan = Plan(len(starts), {"rows_drawn_again": len(contest.rows), "rows_of_a_part": size, "wanted": contest.wanted})
        try:
            draw(folder, plan, partial(round_files, make_sampler, folder, contest.order.unique, contest.wanted))
        except StoppedError:
            if not folder.committed:  # else another driver has finished it, and taken away what was asked
                raise
        folder.clear_tmp()
        limits().check()
    tables = (read_rows(url).append_column("part", pa.array(np.full(rows, part))) for part, rows, url in _files(folder, "keys"))
    return pa.concat_tables(tables)


def drawn_rows(folder: Folder) -> dict[int, str]:
    """Part of a round → the URL of its candidates."""
    return {part: url for part, _, url in _files(folder, "rows")}


def _files(folder: Folder, sub: str) -> Iterator[tuple[int, int, str]]:
    """(part, rows, url)"""
    manifest = folder.manifest()
    for entry in manifest.filter(pc.equal(manifest["sub"], sub)).to_pylist():
        yield entry["part"], entry["rows"], join(folder.url, sub, entry["name"])


def _asked_url(folder: Folder, part: int) -> str:
    return join(folder.tmp_url, f"asked-{part:09d}.parquet")


def round_files(make_sampler: MakeSampler, folder: Folder, columns: tuple[str, ...], wanted: int) -> FilesOf:
    """On a worker: what the rows of a part draw next, and the keys of that."""
    sampler = make_sampler()

    def files(part: int) -> Iterable[Table]:
        try:
            asked = parquet_rows(folder.store.read(_asked_url(folder, part)))
        except FileNotFoundError:
            raise StoppedError(f"{folder.path}: another driver has finished it. Run the same command again to go on") from None
        sampler.rejects.clear()
        rows, since = asked["row"].to_numpy(), asked["since"].to_numpy()
        found = sampler.holding(rows, since, wanted, all_found=False, between=beats(part))
        yield "rows", found.rows, {"rejects": dict(sampler.rejects)}
        words, said = keys_of(found.rows, sampler.model.schema, columns)
        places = np.arange(len(words))
        yield "keys", _table(slot=found.place, place=places, attempt=found.attempts, word=words, said=said)

    return files


def _table(**columns: Any) -> pa.Table:
    return pa.table(columns)
