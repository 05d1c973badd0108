"""A run's store → how far each stage is: parts, rows, epochs and losses, how fast, how long still, and the last sign of life.

Whoever may read the store may ask, from any machine. A look costs a listing of each unfinished folder's markers; the whole run is listed
seldom, and nothing that says the same for ever (plans, outcomes, markers) is read twice.
"""

import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from typing import Any, cast

from raysynth.cluster.checkpoints import CHECKPOINTS, epoch_of, unpack_facts
from raysynth.errors import CorruptRunError, RaysynthError
from raysynth.markers import Marker, proven
from raysynth.runs import READERS, Folder, Plan, Run
from raysynth.stores.base import Stat, join

STAGES = {
    "prepared": "prepare",
    "augmented": "augment",
    "chosen": "choose",
    "encoded": "encode",
    "model": "train",
    "filters": "generate",
    "unique": "generate",
    "synthetic": "generate",
    "mixed": "mix",
    "evaluation": "evaluate",
}
"""Folder → the stage that makes it; an unknown one is called by its own name."""
RECENT = 32
"""Markers, or epochs, by whose times the speed is told."""
MARKERS_READ = 64
"""In one look, to know their rows; where there are more, the others are taken to be like them."""
BROKEN = (ValueError, KeyError, TypeError, AttributeError, OverflowError, MemoryError)
"""What bytes that are not what they should be make Python raise: OverflowError and MemoryError for lengths that nobody wrote."""
LISTING_SHARE = 20
"""The whole run is listed again after so many times as long as that took."""


@dataclass
class _Known:
    """What was read of a folder, and need not be read again."""

    plan: Plan | None = None
    began: float | None = None
    rows: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    """Marker → its parts and their rows."""
    epoch: str = ""
    report: dict[str, Any] = field(default_factory=dict[str, Any])


class Watch:
    """One run, looked at again and again."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self._ended: dict[str, dict[str, Any]] = {}
        self._open: dict[str, tuple[Folder, _Known]] = {}
        self._list_again = 0.0

    def look(self) -> dict[str, Any]:
        """{folders: {path: its outcome, or {unfinished: …}}, published, last_sign_of_life_seconds}. What is broken says so, as `broken`,
        in its own place."""
        if time.monotonic() >= self._list_again:
            self._find()
        open_: dict[str, dict[str, Any]] = {}
        for path, (folder, known) in list(self._open.items()):
            try:
                outcome = folder.outcome()
                if outcome is None:
                    open_[path] = _progress(folder, known)
                    continue
            except CorruptRunError as error:  # the other stages are told all the same
                open_[path] = {"stage": _stage(folder), "broken": str(error), "last_sign_of_life_seconds": None}
                continue
            self._ended[path] = outcome
            del self._open[path]
            self._list_again = 0.0  # the next stage begins
        silent = [told["last_sign_of_life_seconds"] for told in open_.values() if told["last_sign_of_life_seconds"] is not None]
        return {
            "folders": {**self._ended, **{path: {"unfinished": told} for path, told in open_.items()}},
            "published": self._published(),
            "last_sign_of_life_seconds": min(silent, default=None),
        }

    def _published(self) -> dict[str, Any] | None:
        try:
            return self.run.published()
        except CorruptRunError as error:
            return {"broken": str(error)}

    def _find(self) -> None:
        began = time.monotonic()
        for folder in self.run.started():
            if folder.path not in self._ended and folder.path not in self._open:
                self._open[folder.path] = (folder, _Known())
        ended = time.monotonic()
        self._list_again = ended + LISTING_SHARE * (ended - began)


def unchanging(state: Any) -> Any:
    """A look without what each second changes: two that are equal here tell of no progress."""
    if not isinstance(state, dict):
        return state
    items = cast("dict[str, Any]", state).items()
    return {name: unchanging(value) for name, value in items if name not in ("eta_seconds", "last_sign_of_life_seconds")}


def _progress(folder: Folder, known: _Known) -> dict[str, Any]:
    stage = {"stage": _stage(folder)}
    if known.plan is None:
        try:
            known.plan, known.began = folder.plan(), _written(folder)
        except FileNotFoundError:  # training has no plan
            return stage | _training(folder, known)
    return stage | _parts(folder, known, known.plan)


def _stage(folder: Folder) -> str:
    return STAGES.get(folder.name, folder.name)


def _parts(folder: Folder, known: _Known, plan: Plan) -> dict[str, Any]:
    found = {stat.url.rsplit("/", 1)[1]: stat for stat in folder.store.list(folder.system_url("markers"))}
    ranges = {name: parts for name in found if (parts := proven(name)) is not None}
    done = {part for parts in ranges.values() for part in parts}
    speed = _speed([(found[name], len(parts)) for name, parts in ranges.items()], known.began)
    rows, estimated = _rows(folder, known, plan, done, list(ranges))
    return {
        "parts": len(done),
        "of": plan.parts,
        "rows": rows,
        "rows_estimated": estimated,
        "parts_per_second": speed,
        "rows_per_second": round(speed * rows / len(done), 1) if speed and done else None,
        **_ahead(plan.parts - len(done), speed, found.values(), known.began),
    }


def _rows(folder: Folder, known: _Known, plan: Plan, done: set[int], names: list[str]) -> tuple[int, bool]:
    """Rows of the parts that are done: by the plan's formula where it has one, else by their markers."""
    if {"rows", "rows_per_part"} <= set(plan.facts):
        rows, size = (_count(folder, plan, name) for name in ("rows", "rows_per_part"))
        return sum(min(size, rows - part * size) for part in done), False
    unread = [name for name in names if name not in known.rows]
    with ThreadPoolExecutor(READERS) as pool:
        for name, seen in zip(unread, pool.map(partial(_marker, folder), unread[:MARKERS_READ]), strict=False):
            if seen is not None:
                known.rows[name] = seen
    parts, rows = (sum(seen[at] for seen in known.rows.values()) for at in (0, 1))
    if len(known.rows) >= len(names) or not parts:
        return rows, False
    return round(rows / parts * len(done)), True


def _count(folder: Folder, plan: Plan, name: str) -> int:
    try:
        return int(plan.facts[name])
    except BROKEN as error:
        raise CorruptRunError(
            f"{folder.path}: plan.json is broken: {name} is no number. raysynth gc RUN --abandon {folder.path}"
        ) from error


def _marker(folder: Folder, name: str) -> tuple[int, int] | None:
    try:
        marker = Marker.from_json(folder.read_json(f"_raysynth/markers/{name}"))
        return len(marker.parts), sum(file.rows for part in marker.parts for file in part.files)
    except (FileNotFoundError, *BROKEN):  # not a whole marker: `verify` tells of it
        return None


def _training(folder: Folder, known: _Known) -> dict[str, Any]:
    url = join(folder.url, CHECKPOINTS)
    stats = {stat.url.rsplit("/", 1)[1]: stat for stat in folder.store.list(url)}
    found = {name: stat for name, stat in stats.items() if epoch_of(name) is not None}
    if not found:
        return {"last_sign_of_life_seconds": None}
    latest, broken = max(found), {}
    if latest != known.epoch:
        try:
            known.report, known.epoch = _report(folder, latest), latest
        except CorruptRunError as error:
            broken = {"broken": str(error)}
        except (FileNotFoundError, RaysynthError):  # it went while it was looked at: a newer one is there
            pass
    epochs, of = cast("int", epoch_of(latest)) + 1, known.report.get("max_epochs")
    speed = _speed([(stat, 1) for stat in found.values()], None)
    losses = {name: known.report.get(name) for name in ("train_loss", "validation_loss")}
    ahead = _ahead((of or epochs) - epochs, speed, found.values(), None)
    return {"epoch": epochs, "of": of, **losses, **ahead, **({} if of else {"eta_seconds": None}), **broken}


def _report(folder: Folder, name: str) -> dict[str, Any]:
    """What status tells of a checkpoint's report, as far as it is there. CorruptRunError where the file is no checkpoint."""
    try:
        report = unpack_facts(folder, name)["report"]
        kinds = {"max_epochs": int, "train_loss": float, "validation_loss": float}
        return {key: kind(report[key]) for key, kind in kinds.items() if report.get(key) is not None}
    except BROKEN as error:
        raise CorruptRunError(f"{folder.path}: checkpoint {name} is broken") from error


def _speed(made: list[tuple[Stat, int]], began: float | None) -> float | None:
    """Pieces a second, by when the last ones were written; of the first ones, since the folder was begun."""
    timed = sorted((stat.modified_seconds, count) for stat, count in made if stat.modified_seconds is not None)
    recent = timed[-RECENT:]
    if len(recent) == len(timed) and began is not None:
        recent = [(began, 0), *recent]
    if len(recent) < 2 or recent[-1][0] <= recent[0][0]:
        return None
    return float(f"{sum(count for _, count in recent[1:]) / (recent[-1][0] - recent[0][0]):.3g}")


def _ahead(left: int, speed: float | None, stats: Iterable[Stat], began: float | None) -> dict[str, Any]:
    """`last_sign_of_life_seconds`: by this machine's clock against the store's."""
    written = [stat.modified_seconds for stat in stats if stat.modified_seconds is not None]
    if began is not None:
        written.append(began)
    silent = round(max(0.0, time.time() - max(written)), 1) if written else None
    return {
        "eta_seconds": round(left / speed, 1) if speed else None,
        "last_sign_of_life_seconds": silent,
    }


def _written(folder: Folder) -> float | None:
    stat = folder.store.stat(folder.system_url("plan.json"))
    return stat.modified_seconds if stat is not None else None


def newest(folders: dict[str, Any], count: int) -> Iterator[tuple[str, Any]]:
    """Of each stage what is unfinished, and the last `count` others, in the order of the stages."""
    for name in [*STAGES, *sorted({path.split("/")[0] for path in folders} - set(STAGES))]:
        mine = [(path, told) for path, told in folders.items() if path.split("/")[0] == name]
        ended = [item for item in mine if "unfinished" not in item[1]]
        yield from islice(ended, max(0, len(ended) - count), None)
        yield from (item for item in mine if "unfinished" in item[1])
