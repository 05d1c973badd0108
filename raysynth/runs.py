"""Run and Folder: where under one URL all that a recipe makes lies, what each folder is called, and whether it is committed."""

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from raysynth.errors import CorruptRunError, NondeterminismError, StoppedError
from raysynth.markers import HASH_CHARACTERS, Marker, canonical, digest, proven, put_content
from raysynth.stores.base import Store, absolute, join, store_for

log = logging.getLogger("raysynth.runs")

SYSTEM = "_raysynth"  # the one sub folder that holds no data; readers of Parquet folders skip names that start with _
POINTER_ATTEMPTS = 5
READERS = 8


def folder_id(facts: Mapping[str, Any]) -> str:
    """All that decides a folder's bytes, and nothing else → its id: 12 hex digits."""
    return digest(canonical(facts))[:HASH_CHARACTERS]


@dataclass(frozen=True)
class Plan:
    """What parts there will be, known before any is written; a pure function of the folder's id."""

    parts: int
    facts: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        return {"parts": self.parts, "facts": self.facts}

    @staticmethod
    def from_json(plan: Mapping[str, Any]) -> "Plan":
        return Plan(parts=int(plan["parts"]), facts=dict(plan["facts"]))


def rows_plan(rows: int, rows_per_part: int) -> Plan:
    """A plan by formula: part p holds the rows from p × rows_per_part on; the last part may be shorter."""
    return Plan(parts=-(-rows // rows_per_part), facts={"rows": rows, "rows_per_part": rows_per_part})


def part_rows(plan: Plan, part: int) -> range:
    """The row numbers of one part of a rows_plan."""
    rows, rows_per_part = int(plan.facts["rows"]), int(plan.facts["rows_per_part"])
    return range(part * rows_per_part, min((part + 1) * rows_per_part, rows))


def read_rows(url: str) -> pa.Table:
    """One part, whole."""
    return parquet_rows(store_for(url).read(url))


def parquet_rows(data: bytes) -> pa.Table:
    """A Parquet file's rows, by this thread alone: Arrow's threads end a process that is ending already by SIGABRT (`read_table` too,
    whose dataset lets them free Python's bytes), and a worker has one CPU."""
    return pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False)


@dataclass(frozen=True)
class Folder:
    """RUN/<name>/<id>: data, and below _raysynth/ what says which of it counts. Nothing stored in it names its URL."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.url))

    @property
    def store(self) -> Store:
        return store_for(self.url)

    @property
    def id(self) -> str:
        return self.url.rsplit("/", 1)[1]

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 2)[1]

    @property
    def path(self) -> str:
        """<name>/<id>, the same wherever the run is copied to."""
        return f"{self.name}/{self.id}"

    def system_url(self, *parts: str) -> str:
        return join(self.url, SYSTEM, *parts)

    @property
    def tmp_url(self) -> str:
        """Where unfinished things may lie (checkpoints); never part of what is committed."""
        return self.system_url("tmp")

    def clear_tmp(self) -> None:
        for stat in list(self.store.list(self.tmp_url)):
            self.store.delete(stat.url)

    def write_plan(self, plan: Plan) -> None:
        """NondeterminismError if the folder has a plan that says something else: an id must decide its plan."""
        data, url = canonical(plan.to_json()), self.system_url("plan.json")
        if self.store.put(url, data):
            return
        try:
            found = self.plan()
        except CorruptRunError:
            self.store.replace(url, data)
            return
        if canonical(found.to_json()) != data:
            raise NondeterminismError(
                f"{self.path}: its plan has {found.parts} parts and other facts than this one of {plan.parts} parts. "
                f"Abandon the folder: raysynth gc RUN --abandon {self.path}"
            )

    def plan(self) -> Plan:
        try:
            return Plan.from_json(json.loads(self.store.read(self.system_url("plan.json"))))
        except (ValueError, KeyError, TypeError, OverflowError) as error:  # Python's JSON knows Infinity
            raise CorruptRunError(f"{self.path}: plan.json is broken. Run the same command again to write it anew") from error

    def marked(self) -> list[range]:
        """The ranges that markers prove, read from their names alone."""
        names = (stat.url.rsplit("/", 1)[1] for stat in self.store.list(self.system_url("markers")))
        return [parts for name in names if (parts := proven(name)) is not None]

    def markers(self) -> Iterator[Marker]:
        """Every marker by its first part, read some at a time and compared with its name. CorruptRunError names one that does not
        match."""
        urls = [stat.url for stat in self.store.list(self.system_url("markers"))]
        with ThreadPoolExecutor(READERS) as pool:
            for start in range(0, len(urls), 8 * READERS):  # few in memory at once: a run may have a million parts
                yield from pool.map(self._marker, urls[start : start + 8 * READERS])

    def _marker(self, url: str) -> Marker:
        name = url.rsplit("/", 1)[1]
        data = self.store.read(url)
        if name.endswith(f"-{digest(data)[:HASH_CHARACTERS]}.json"):
            marker = Marker.from_json(json.loads(data))
            parts = range(marker.first, marker.stop)
            if proven(name) == parts and [part.part for part in marker.parts] == list(parts):
                return marker  # its name alone says to a resume and to the commit what it proves
        raise CorruptRunError(f"{self.path}: marker {name} does not match its hash. Delete it and run the same command again")

    def outcome(self) -> dict[str, Any] | None:
        """{committed: {manifest, sha256}, parts, rows, bytes}, {abandoned: true}, or None: not finished."""
        try:
            found: Any = json.loads(self.store.read(self.system_url("outcome.json")))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CorruptRunError(f"{self.path}: outcome.json is broken") from error
        if not isinstance(found, dict) or not ({"committed", "abandoned"} & set(cast(dict[str, Any], found))):
            raise CorruptRunError(f"{self.path}: outcome.json says neither committed nor abandoned")
        told = cast(dict[str, Any], found)
        if "committed" in told and not (isinstance(told["committed"], dict) and isinstance(told.get("rows"), int)):
            raise CorruptRunError(f"{self.path}: outcome.json does not say what was committed")
        return told

    @property
    def committed(self) -> bool:
        return "committed" in (self.outcome() or {})

    @property
    def abandoned(self) -> bool:
        return "abandoned" in (self.outcome() or {})

    def manifest(self) -> pa.Table:
        """The files that count: part, sub, name, rows, bytes, sha256, extra (JSON). StoppedError if the folder is not committed."""
        outcome = self.outcome()
        if outcome is None or "committed" not in outcome:
            raise StoppedError(f"{self.path}: not committed. Run the same command again to finish it")
        name, expected = outcome["committed"]["manifest"], outcome["committed"]["sha256"]
        try:
            data = self.store.read(self.system_url(name))
        except FileNotFoundError as error:
            raise CorruptRunError(f"{self.path}: {name} is missing") from error
        if digest(data) != expected:
            raise CorruptRunError(f"{self.path}: {name} has changed since it was committed")
        return parquet_rows(data)

    def part_urls(self, sub: str = "") -> list[str]:
        """The committed files, in order of part; with `sub`, those at or below that sub folder."""
        manifest = self.manifest()
        paths = [
            join(self.url, *filter(None, (folder, name)))
            for folder, name in zip(manifest["sub"].to_pylist(), manifest["name"].to_pylist(), strict=True)
        ]
        below = join(self.url, sub) + "/" if sub else self.url + "/"
        return [path for path in paths if path.startswith(below)]

    def read(self, name: str) -> bytes:
        return self.store.read(join(self.url, name))

    def names(self, sub: str) -> list[str]:
        """The objects at or below a sub folder, by their names there, sorted."""
        below = join(self.url, sub) + "/"
        return [stat.url.removeprefix(below) for stat in self.store.list(join(self.url, sub))]

    def read_json(self, name: str) -> Any:
        return json.loads(self.store.read(join(self.url, name)))

    def write_json(self, name: str, value: object) -> None:
        """Write once. NondeterminismError if the same name holds another value: an id must decide its bytes."""
        url, data = join(self.url, name), canonical(value)
        if not self.store.put(url, data) and self.store.read(url) != data:
            raise NondeterminismError(
                f"{self.path}: {name} holds other bytes than were made now. "
                f"Abandon the folder: raysynth gc RUN --abandon {self.path}"
            )

    def put_named(self, stem: str, suffix: str, data: bytes) -> str:
        """Write `stem-<hash>.suffix` once → that name."""
        name = f"{stem}-{digest(data)[:HASH_CHARACTERS]}.{suffix.lstrip('.')}"
        put_content(self.store, join(self.url, name), data)
        return name


def read_numbers(folder: Folder, numbers: range) -> pa.Table:
    """Of the rows of a committed rows_plan those of these numbers, as far as there are such."""
    rows, size = (int(folder.plan().facts[name]) for name in ("rows", "rows_per_part"))
    urls, start, stop = folder.part_urls(), min(numbers.start, rows), min(numbers.stop, rows)
    first = min(start, rows - 1) // size
    found = pa.concat_tables([read_rows(url) for url in urls[first : max(first + 1, -(-stop // size))]])
    return found.slice(start - first * size, stop - start)


@cache  # once for each run: a command reads the pointer many times
def _tell_broken(url: str) -> None:
    log.warning("%s: run.json is broken; what is current is told from the outcomes", url)


@dataclass(frozen=True)
class Run:
    """All that a recipe made, under one URL; run.json points at each stage's current folder, published.json at what may be used."""

    url: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", absolute(self.url))

    @property
    def store(self) -> Store:
        return store_for(self.url)

    def folder(self, name: str, id: str) -> Folder:
        """The folder of that id; of `<id>.2`, `<id>.3` … when the earlier ones were abandoned."""
        folder, attempt = Folder(join(self.url, name, id)), 1
        while folder.abandoned:
            attempt += 1
            folder = Folder(join(self.url, name, f"{id}.{attempt}"))
        return folder

    def folders(self, name: str = "") -> list[Folder]:
        """Every folder that has an outcome, committed or abandoned, found by listing (below one name, or the whole run)."""
        end = f"/{SYSTEM}/outcome.json"
        return [
            Folder(stat.url.removesuffix(end))
            for stat in self.store.list(join(self.url, name) if name else self.url)
            if stat.url.endswith(end)
        ]

    def started(self) -> list[Folder]:
        """Every folder that a stage has begun, finished or not, found by listing; whatever else lies beside them is none."""
        depth = self.url.count("/") + 3
        steps = (stat.url.split("/") for stat in self.store.list(self.url))
        return [
            Folder(url) for url in dict.fromkeys("/".join(step[:depth]) for step in steps if step[depth : depth + 1] == [SYSTEM])
        ]

    def _pointer(self) -> dict[str, Any]:
        """run.json; where it is missing or broken, what the outcomes say (the order of the history is lost then)."""
        try:
            pointer: Any = json.loads(self.store.read(join(self.url, "run.json")))
            if isinstance(pointer["current"], dict) and isinstance(pointer["history"], list):
                return cast(dict[str, Any], pointer)
        except FileNotFoundError:
            pass
        except (ValueError, KeyError, TypeError):
            _tell_broken(self.url)
        committed = [folder for folder in self.folders() if folder.committed]
        return {
            "version": 1,
            "current": {folder.name: folder.id for folder in committed},
            "history": [folder.path for folder in committed],
        }

    def current(self, name: str) -> Folder | None:
        """The committed folder that a stage's readers should use, or None. A name that run.json lost (two drivers may overwrite
        one another's entries) is found again by its outcomes."""
        id = self._pointer()["current"].get(name)
        candidates = self.folders(name) if id is None else [Folder(join(self.url, name, id))]
        committed = [folder for folder in candidates if folder.committed]
        return committed[-1] if committed else None

    def history(self, name: str = "") -> list[Folder]:
        """The folders that were current, oldest first."""
        paths: Iterable[str] = self._pointer()["history"]
        return [Folder(join(self.url, path)) for path in paths if not name or path.startswith(f"{name}/")]

    def point(self, name: str, folder: Folder) -> None:
        """Make a committed folder the current one of its stage; reads back, because another driver may write at the same moment."""
        if not folder.committed:
            raise StoppedError(f"{folder.path}: not committed, so it cannot become current")
        url = join(self.url, "run.json")
        for _ in range(POINTER_ATTEMPTS):
            pointer = self._pointer()
            history: list[str] = pointer["history"]
            same = pointer["current"].get(name) == folder.id
            if same and folder.path in history and self.store.exists(url):
                return
            if not same or folder.path not in history:
                history.append(folder.path)
            pointer["current"][name] = folder.id
            self.store.replace(url, canonical(pointer))
        log.warning("%s: another driver keeps changing run.json", self.url)

    def publish(self, folders: Iterable[Folder], facts: Mapping[str, Any]) -> dict[str, Any]:
        """Point published.json at committed folders, apart by name, each saying if it contains real rows; `facts`: gates, forced.
        The caller has checked the gates, and by `audit.verify(folder, deep=False)` that nothing is missing or foreign."""
        entries: dict[str, Any] = {}
        for folder in folders:
            outcome = folder.outcome()
            if outcome is None or "committed" not in outcome:
                raise StoppedError(
                    f"{folder.path}: not committed, so it cannot be published. Run the same command again to finish it"
                )
            entries[folder.name] = {"id": folder.id, "contains_real_rows": folder.name != "synthetic", **outcome}
        published = {"version": 1, "folders": entries, **facts}
        self.store.replace(join(self.url, "published.json"), canonical(published))
        return published

    def published(self) -> dict[str, Any] | None:
        """What may be used: {folders: {name: {id, contains_real_rows, committed, rows …}}, …}, or None: nothing yet."""
        try:
            found: Any = json.loads(self.store.read(join(self.url, "published.json")))
            if not all(isinstance(entry["id"], str) for entry in found["folders"].values()):
                raise ValueError("an id that is no text")
            return cast(dict[str, Any], found)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise CorruptRunError(f"{self.url}: published.json is broken. Delete it and run raysynth publish again") from error
