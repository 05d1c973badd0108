"""Makes the parts of a plan that are missing on a pool of workers, and commits the folder: any number of times, by any number of drivers."""

from collections.abc import Callable, Iterable
from typing import Any

from raysynth.cluster import metrics
from raysynth.cluster.limits import limits
from raysynth.cluster.meter import METER
from raysynth.cluster.rows import map_items
from raysynth.cluster.stalled import beat
from raysynth.commits import Table, commit, missing, write_task
from raysynth.progress import Progress
from raysynth.runs import Folder, Plan

FilesOf = Callable[[int], Iterable[Table]]
"""A part's number → its files: (sub folder, table) or (sub folder, table, facts for the marker)."""


def write_parts(
    folder: Folder,
    plan: Plan,
    make: Callable[[], FilesOf],
    *,
    stage: str,
    workers: int,
    keep: bool,
    num_cpus: float = 1,
    num_gpus: float = 0,
) -> dict[str, Any]:
    """`make` is called once per worker with `keep`, else once per task. Returns the outcome."""
    if (outcome := folder.outcome()) is not None:
        return outcome
    folder.write_plan(plan)
    tasks = _cut(missing(folder, plan), workers)
    left = sum(map(len, tasks))
    METER.went_on |= plan.parts > left
    with Progress(stage, plan.parts, "parts") as progress:
        progress.at(plan.parts - left)
        size: dict[str, Any] = {"workers": workers, "num_cpus": num_cpus, "num_gpus": num_gpus}
        bare = Plan(plan.parts, {})  # its facts may be as long as the input's list of files, and no task asks for them
        for position, _ in map_items(tasks, lambda: _Writer(folder, bare, make()), keep=keep, **size):
            progress.advance(len(tasks[position]))
            left -= len(tasks[position])
            if left:  # a command that has made its last part commits it
                limits().check()
    return commit(folder, plan)


class _Writer:
    def __init__(self, folder: Folder, plan: Plan, files_of: FilesOf) -> None:
        self.folder, self.plan, self.files_of = folder, plan, files_of

    def __call__(self, parts: range) -> int:
        metrics.wrote(self.folder, write_task(self.folder, self.plan, parts, self._files))
        return len(parts)

    def _files(self, part: int) -> Iterable[Table]:
        beat(part)  # a task of many parts may take longer than anybody waits for one
        return self.files_of(part)


def _cut(ranges: list[range], workers: int) -> list[range]:
    """Ranges of at most 64 parts that shrink to single ones, so that all workers end together and losing one costs little: half of
    every worker's share of what is left (guided self-scheduling: Polychronopoulos and Kuck 1987, IEEE Trans. Computers C-36(12))."""
    left, tasks = sum(map(len, ranges)), list[range]()
    for piece in ranges:
        start = 0
        while start < len(piece):
            size = max(1, min(64, left // (workers * 2)))
            tasks.append(piece[start : start + size])
            start += len(tasks[-1])
            left -= len(tasks[-1])
    return tasks
