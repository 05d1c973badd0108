"""generate.unique: a data set in which no two rows say the same in these columns.

RUN/unique/<id>/ are its steps, each committed, so that a resume draws nothing twice. Drafts: every row, and its key in the bucket of its
hash. Rounds: a row whose key a lower row has draws again in its own slot, from its next attempt on, until it draws what nobody has; of rows
that draw the same in one turn the lowest keeps it. The list tells where each row lies that was drawn again, and the data set is the drafts
with those in their places.
"""

import json
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.cells import pc
from raysynth.cluster.limits import limits
from raysynth.cluster.parts import FilesOf, write_parts
from raysynth.cluster.rows import map_ordered
from raysynth.cluster.stalled import beats
from raysynth.commits import Table, commit_files, parquet_bytes
from raysynth.draws import Words
from raysynth.errors import RuleError
from raysynth.generators.base import Generator, Remote
from raysynth.orders import PARTS_PER_FOLDER, Order
from raysynth.runs import Folder, Plan, Run, folder_id, part_rows, read_rows
from raysynth.sampler import LEAST_ACCEPTANCE, Sampler
from raysynth.stages.unique_rounds import AGAIN, Contest, drawn, drawn_rows, refusal
from raysynth.stores.base import join
from raysynth.uniqueness import bucket_of, buckets, keys_of, repeats

LIST_ROWS = 1 << 20
"""Of one file of the list."""

MakeSampler = Callable[[], Sampler]


def drafts_of(run: Run, order: Order) -> Folder:
    """Where the first step lies, and the replies of a server for all of them."""
    return _step(run, order, "drafts")


def check_distinct(sampler: Sampler, order: Order) -> None:
    """RuleError if a probe shows that so many different rows are not to be had: it has fewer, and hardly any that it has once, by which the
    chance is told that one more is new (Good, Biometrika 40, 1953)."""
    generator = sampler.model.generator
    probe, remote = generator.probe_rows, isinstance(generator, Remote)
    if remote and order.rows < probe:
        return
    seen, distinct, unsaid = np.zeros(0, np.uint64), 0, 0
    size = generator.kernel_rows if remote else generator.step_rows  # few: mostly it is seen at once that there are enough
    for start in range(0, probe, size):
        rows = sampler.range(start, min(probe, start + size))
        words, said = keys_of(rows, sampler.model.schema, order.unique)
        seen, unsaid = np.concatenate([seen, words[said]]), unsaid + int((~said).sum())
        _, counts = np.unique(seen, return_counts=True)
        distinct = len(counts) + unsaid
        if distinct >= order.rows or (counts == 1).sum() + unsaid >= LEAST_ACCEPTANCE * probe:
            sampler.rejects.clear()
            return
    raise RuleError(refusal(order, f"a probe of {probe:,} has {distinct:,}"))


def write(
    run: Run, folder: Folder, order: Order, plan: Plan, generator: Generator, make_sampler: MakeSampler, size: dict[str, int]
) -> None:
    """The whole data set, committed. `make_sampler`: on a worker; `size`: workers and num_gpus, as of write_parts. RuleError where the
    columns do not hold so many different values."""
    draw = partial(write_parts, stage="generate", keep=True, **size)
    drafts, count, workers = drafts_of(run, order), buckets(order.rows), size["workers"]
    if not drafts.committed:
        draw(drafts, plan, partial(draft_files, make_sampler, plan, order.unique, count))
        limits().check()
    contest = Contest(order, generator, *_losers(drafts, count, workers))
    rounds: list[Folder] = []
    while len(contest.rows):
        rounds.append(_step(run, order, f"round-{len(rounds) + 1}"))
        keys = drawn(rounds[-1], contest, make_sampler, draw)
        contest.decide(keys, _known(drafts, count, keys["word"].to_numpy(), workers))
    listed = listed_in(_step(run, order, "list"), contest.settled)
    told = {**plan.facts["unique"], "drawn_again": contest.drawn_again, "list": (listed.outcome() or {})["committed"]["sha256"]}
    whole = Plan(plan.parts, {**plan.facts, "unique": told})
    write_parts(folder, whole, partial(whole_files, plan, drafts, rounds, listed), stage="generate", workers=workers, keep=False)


def _step(run: Run, order: Order, step: str) -> Folder:
    return run.folder("unique", folder_id({**order.facts(), "step": step}))


# Drafts


def draft_files(make_sampler: MakeSampler, plan: Plan, columns: Sequence[str], count: int) -> FilesOf:
    """On a worker: a part's rows, and their keys by bucket."""
    sampler = make_sampler()

    def files(part: int) -> Iterable[Table]:
        asked = part_rows(plan, part)
        numbers = np.arange(asked.start, asked.stop, dtype=np.uint64)
        sampler.rejects.clear()
        found = sampler.holding(numbers, np.zeros(len(numbers), np.uint64), between=beats(part))
        yield f"rows/{part // PARTS_PER_FOLDER:04d}", found.rows, {"rejects": dict(sampler.rejects)}
        words, said = keys_of(found.rows, sampler.model.schema, columns)
        told: dict[str, Any] = {"row": numbers, "attempt": found.attempts, "word": words}
        keys = pa.table(told)
        for bucket in range(count):
            mine = said & (bucket_of(words, count) == bucket)
            if mine.any():
                yield f"keys/{bucket:04d}", keys.filter(pa.array(mine))

    return files


def _losers(drafts: Folder, count: int, workers: int) -> tuple[Words, NDArray[np.uint64]]:
    """The rows that repeat a lower one, ascending, and the attempt from which on each draws next."""
    found: list[pa.Table] = map_ordered(range(count), partial(repeats_in, drafts), workers=workers)
    table = pa.concat_tables(found).sort_by("row")
    return table["row"].to_numpy(), table["attempt"].to_numpy() + np.uint64(1)


def repeats_in(drafts: Folder) -> Callable[[int], pa.Table]:
    """On a worker: a bucket → the rows in it that repeat a lower one, each with the attempt that it was."""

    def find(bucket: int) -> pa.Table:
        keys = _keys(drafts, bucket, ["row", "attempt", "word"])
        return keys.take(repeats(keys["row"].to_numpy(), keys["word"].to_numpy())).select(["row", "attempt"])

    return find


def _known(drafts: Folder, count: int, words: Words, workers: int) -> NDArray[np.bool_]:
    """(words,) whether a draft has that key: then it is somebody's, the lowest such row's."""
    bucket = bucket_of(words, count)
    places = {number: np.flatnonzero(bucket == number) for number in np.unique(bucket).tolist()}
    items = [(number, words[at]) for number, at in places.items()]
    known = np.zeros(len(words), np.bool_)
    for at, found in zip(places.values(), map_ordered(items, partial(among_keys, drafts), workers=workers), strict=True):
        known[at] = found
    return known


def among_keys(drafts: Folder) -> Callable[[tuple[int, Words]], NDArray[np.bool_]]:
    """On a worker: a bucket and keys → which of them a draft has."""

    def look(item: tuple[int, Words]) -> NDArray[np.bool_]:
        return np.isin(item[1], _keys(drafts, item[0], ["word"])["word"].to_numpy())

    return look


def _keys(drafts: Folder, bucket: int, names: list[str]) -> pa.Table:
    empty = pa.schema([(name, pa.uint64()) for name in names]).empty_table()
    return pa.concat_tables([empty, *(read_rows(url).select(names) for url in drafts.part_urls(f"keys/{bucket:04d}"))])


# The data set


def listed_in(folder: Folder, settled: pa.Table) -> Folder:
    """The list, committed as files that bear the number of their first row."""
    if not folder.committed:
        cuts = [settled.slice(start, LIST_ROWS) for start in range(0, settled.num_rows, LIST_ROWS)]
        names = [folder.put_named(f"again-{cut['row'][0].as_py():020d}", "parquet", parquet_bytes(cut)) for cut in cuts]
        commit_files(folder, names)
    return folder


def whole_files(plan: Plan, drafts: Folder, rounds: Sequence[Folder], listed: Folder) -> FilesOf:
    """On a worker: a part's drafts, with the rows that were drawn again in their places."""
    made = drafts.manifest()
    made = made.filter(pc.starts_with(made["sub"], "rows/"))
    lists = listed.part_urls()
    firsts = [int(url.rsplit("/", 1)[1].split("-")[1]) for url in lists]
    candidates = [drawn_rows(folder) for folder in rounds]

    def files(part: int) -> Iterable[Table]:
        draft = made.filter(pc.equal(made["part"], part)).to_pylist()[0]
        numbers = part_rows(plan, part)
        first, stop = bisect_right(firsts, numbers.start) - 1, bisect_right(firsts, numbers.stop - 1)
        again = pa.concat_tables([AGAIN.empty_table(), *map(read_rows, lists[max(0, first) : stop])])
        again = again.filter(pc.and_(pc.greater_equal(again["row"], numbers.start), pc.less(again["row"], numbers.stop)))
        rows = replaced(read_rows(join(drafts.url, draft["sub"], draft["name"])), numbers.start, again, candidates)
        yield f"{part // PARTS_PER_FOLDER:04d}", rows, {**json.loads(draft["extra"]), "drawn_again": again.num_rows}

    return files


def replaced(rows: pa.Table, start: int, again: pa.Table, candidates: Sequence[dict[int, str]]) -> pa.Table:
    """The rows from number `start` on, those that `again` names taken from where they lie."""
    order, tables, count = np.arange(rows.num_rows), [rows], rows.num_rows
    for number, part in sorted({(entry["round"], entry["part"]) for entry in again.select(["round", "part"]).to_pylist()}):
        some = again.filter(pc.and_(pc.equal(again["round"], number), pc.equal(again["part"], part)))
        order[some["row"].to_numpy().astype(np.int64) - start] = np.arange(count, count + some.num_rows)
        tables.append(read_rows(candidates[number - 1][part]).take(some["place"].combine_chunks()))
        count += some.num_rows
    return pa.concat_tables(tables).take(order) if len(tables) > 1 else rows
