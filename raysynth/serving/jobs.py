"""Jobs on the store: JOBS/<id>/ is a run of its own, with job.json (what was asked) and outcome.json (how it ended, written once).

Nothing here remembers anything: whoever reads the store knows every job, so a coordinator may die and another goes on.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from raysynth.commits import TASK_PARTS, Table, commit, missing, write_task
from raysynth.errors import DataError, RaysynthError, StoppedError
from raysynth.markers import Part, canonical, digest
from raysynth.models import load_model
from raysynth.orders import Order, check_fingerprint, files_of
from raysynth.runs import Folder, Plan, Run, folder_id, parquet_rows, part_rows
from raysynth.sampler import Sampler
from raysynth.serving.api import AskJob, Job, JobFile, JobFiles, conflict, not_found, unprocessable
from raysynth.serving.registry import Served, filters_of
from raysynth.stores.base import join, store_for

INDEX = "_raysynth/jobs"
"""JOBS/_raysynth/jobs/<owner>/<id>.json names every job, so that listing them never lists their parts."""
MOST_PARTS = 1_000_000
Ending = Literal["completed", "cancelled", "failed"]
ENDINGS: tuple[Ending, ...] = get_args(Ending)
TASK_SECONDS = 3600.0  # of one range of parts
LOOK_SECONDS = 1.0  # how often whoever makes parts asks whether they are still wanted
log = logging.getLogger("raysynth.serving")


class JobCancelledError(RaysynthError):
    """The job's own outcome says that it was cancelled."""


@dataclass(frozen=True)
class Record:
    """job.json. `owner`: the id of the key; `body`: the hash of what was asked; `version`: of the publication; `model_url`: its folder.
    `filters`, `filters_url`: those of its data set, as an order says them, and their folder."""

    id: str
    owner: str
    body: str
    created: str
    model: str
    version: str
    model_url: str
    digest: str
    seed: int
    rules: tuple[str, ...]
    where: Mapping[str, Any]
    rows: int
    rows_per_part: int
    max_attempts: int
    cpu: str
    fingerprint: Mapping[str, str]
    filters: Mapping[str, Any] | None = None
    filters_url: str | None = None

    @staticmethod
    def from_json(stored: Mapping[str, Any]) -> "Record":
        known: dict[str, Any] = {**stored, "rules": tuple(stored["rules"])}
        return Record(**known)

    @property
    def order(self) -> Order:
        return Order(
            self.digest,
            self.seed,
            self.rules,
            self.rows,
            self.rows_per_part,
            self.where,
            self.max_attempts,
            self.cpu,
            filters=self.filters,
        )

    @property
    def facts(self) -> dict[str, Any]:
        """Those of the machine that accepted the job: workers of another kind refuse its parts."""
        return {**self.order.facts(), "fingerprint": dict(self.fingerprint)}


def job_id(owner: str, idempotency_key: str) -> str:
    return hashlib.sha256(f"{owner}\x1f{idempotency_key}".encode()).hexdigest()[:20]


def body_hash(ask: AskJob) -> str:
    return hashlib.sha256(canonical(ask.model_dump())).hexdigest()


def record_of(ask: AskJob, served: Served, *, id: str, owner: str, created: str, drawn_seed: int) -> Record:
    """RecipeError where `where` does not fit the model, RuleError where hardly any row meets it."""
    if ask.rows_per_part is not None and ask.rows > ask.rows_per_part * MOST_PARTS:
        raise unprocessable(f"rows_per_part: {ask.rows_per_part} gives more than {MOST_PARTS:,} parts. Raise it")
    facts = served.facts
    where = facts["where"] if ask.where is None else ask.where
    served.sampler(where).check_acceptance()
    seed = drawn_seed if ask.seed is None else ask.seed
    order = Order(
        served.model.digest,
        seed,
        tuple(facts["rules"]),
        ask.rows,
        ask.rows_per_part,
        where,
        facts["max_attempts"],
        "avx2",
        filters=facts.get("filters"),
    )
    folder = served.published.filters
    return Record(
        id=id,
        owner=owner,
        body=body_hash(ask),
        created=created,
        model=served.published.id,
        version=served.published.version,
        model_url=served.published.model.url,
        digest=order.digest,
        seed=order.seed,
        rules=order.rules,
        where=where,
        rows=order.rows,
        rows_per_part=order.plan(len(served.model.schema)).facts["rows_per_part"],
        max_attempts=order.max_attempts,
        cpu=order.cpu,
        fingerprint=order.facts()["fingerprint"],
        filters=order.filters,
        filters_url=None if folder is None else folder.url,
    )


@dataclass(frozen=True)
class JobStore:
    """All jobs below one URL."""

    url: str

    def run(self, id: str) -> Run:
        return Run(join(self.url, id))

    def exists(self, id: str) -> bool:
        url = join(self.url, id, "job.json")
        return store_for(url).exists(url)

    def add(self, record: Record) -> tuple[Record, bool]:
        """The job as it is stored, and whether it is new. 422 if that idempotency key was used with another body."""
        url = join(self.url, record.id, "job.json")
        data = canonical(asdict(record))
        store = store_for(url)
        store.put(join(self.url, INDEX, record.owner, f"{record.id}.json"), b"{}")
        if store.put(url, data):
            return record, True
        found = Record.from_json(json.loads(store.read(url)))
        if found.body != record.body:
            raise unprocessable("Idempotency-Key: it was used with another body. Send the same body, or another key")
        return found, False

    def find(self, id: str, owner: str | None = None) -> Record:
        """404 if there is none, or none of that owner's."""
        url = join(self.url, id, "job.json")
        try:
            found = Record.from_json(json.loads(store_for(url).read(url)))
        except FileNotFoundError:
            raise not_found(f"job '{id}': there is none") from None
        except (ValueError, TypeError, KeyError):
            raise not_found(f"job '{id}': its job.json cannot be read") from None
        if owner is not None and found.owner != owner:
            raise not_found(f"job '{id}': there is none")
        return found

    def ids(self, owner: str = "") -> Iterator[str]:
        """Of one owner, or of all. One may be named whose writer died before it was asked."""
        url = join(self.url, INDEX, *([owner] if owner else []))
        for stat in store_for(url).list(url):
            id = stat.url.rsplit("/", 1)[1].removesuffix(".json")
            if self.exists(id):
                yield id

    def records(self, owner: str) -> Iterator[Record]:
        for id in self.ids(owner):
            try:
                record = self.find(id)
                self.outcome(record)
            except RaysynthError as error:
                log.warning("left out of the list: %s", error)
                continue
            yield record

    # How it goes

    def folder(self, record: Record) -> Folder:
        return self.run(record.id).folder("synthetic", folder_id(record.facts))

    def plan(self, record: Record) -> Plan:
        return record.order.plan(0)

    def outcome(self, record: Record) -> tuple[Ending, dict[str, Any]] | None:
        url = join(self.url, record.id, "outcome.json")
        try:
            told: Any = json.loads(store_for(url).read(url))
        except FileNotFoundError:
            return None
        except ValueError:
            told = {}
        for ending in ENDINGS:
            if isinstance(told, dict) and isinstance(told.get(ending), dict):
                return ending, told[ending]
        raise conflict(f"job '{record.id}': its outcome.json cannot be read")

    def ended_well(self, record: Record) -> bool:
        return (self.outcome(record) or ("failed",))[0] == "completed"

    def end(self, record: Record, ending: Ending, facts: Mapping[str, Any]) -> Ending:
        """How it really ended: of two that end it at once, the first counts."""
        url = join(self.url, record.id, "outcome.json")
        store_for(url).put(url, canonical({ending: dict(facts)}))
        ended = self.outcome(record)
        return ended[0] if ended else ending

    def told(self, record: Record) -> Job:
        folder, plan, ended = self.folder(record), self.plan(record), self.outcome(record)
        status = ended[0] if ended else "running"
        if status == "completed":
            done, rows = plan.parts, record.rows
        else:
            parts = {part for marked in folder.marked() for part in marked}
            done, rows = len(parts), sum(len(part_rows(plan, part)) for part in parts)
        return Job(
            id=record.id,
            model=record.model,
            digest=record.digest,
            seed=record.seed,
            where=dict(record.where),
            rows=record.rows,
            rows_per_part=record.rows_per_part,
            status=status,
            parts=plan.parts,
            parts_done=done,
            rows_done=rows,
            created=record.created,
            detail=str(ended[1].get("detail", "")) if ended else "",
            url=folder.url if status == "completed" else None,
        )

    def files(self, record: Record) -> JobFiles:
        """409 until the job is completed."""
        ended = self.outcome(record)
        if ended is None or ended[0] != "completed":
            raise conflict(f"job '{record.id}': it is {ended[0] if ended else 'running'}, and only a completed one has a manifest")
        folder = self.folder(record)
        return JobFiles(
            files=[
                JobFile(
                    part=entry["part"],
                    name=join(entry["sub"], entry["name"]),
                    rows=entry["rows"],
                    bytes=entry["bytes"],
                    sha256=entry["sha256"],
                    url=join(folder.url, entry["sub"], entry["name"]),
                )
                for entry in folder.manifest().to_pylist()
            ]
        )

    def cancel(self, record: Record) -> Job:
        """409 if it ended otherwise. What is made of the data stays: folders only ever get committed."""
        if (ending := self.end(record, "cancelled", {})) != "cancelled":
            raise conflict(f"job '{record.id}': it is {ending} already")
        return self.told(record)

    # The work

    def tasks(self, record: Record, slots: int) -> list[range]:
        """The ranges of parts that are missing, small enough that each slot gets several."""
        folder, plan = self.folder(record), self.plan(record)
        folder.write_plan(plan)
        ranges = missing(folder, plan)
        size = max(1, min(TASK_PARTS, sum(map(len, ranges)) // (slots * 4)))
        return [piece[start : start + size] for piece in ranges for start in range(0, len(piece), size)]

    def sibling(self, record: Record) -> str | None:
        """The folder of an equal job of the same owner that has more parts than any other: one that was cancelled, say."""
        id = folder_id(record.facts)
        equal = [other for other in self.records(record.owner) if other.id != record.id and folder_id(other.facts) == id]
        made = {self.folder(other).url: sum(map(len, self.folder(other).marked())) for other in equal}
        best = max(made, key=lambda url: made[url], default=None)
        return best if best is not None and made[best] else None

    def make(self, record: Record, sampler: Sampler, parts: range, sibling: str | None = None) -> None:
        """Write some parts; those that the sibling has are taken from there. JobCancelledError soon after the job has ended, StoppedError
        when it takes too long: who waited is gone."""
        check_fingerprint(record.fingerprint)
        folder, plan = self.folder(record), self.plan(record)
        sampled = files_of(sampler, plan, between=self._wanted(record))
        known = _made(Folder(sibling), parts) if sibling is not None else {}

        def files(part: int) -> Iterable[Table]:
            return (known.get(part) and _taken(Folder(sibling or ""), known[part])) or sampled(part)

        write_task(folder, plan, parts, files)

    def _wanted(self, record: Record) -> Callable[[], None]:
        ends, looked = time.monotonic() + TASK_SECONDS - 60, 0.0

        def still_wanted() -> None:
            nonlocal looked
            now = time.monotonic()
            if now > ends:
                raise StoppedError(f"job '{record.id}': parts took longer than {TASK_SECONDS:g} s. Ask for fewer rows per part")
            if now - looked > LOOK_SECONDS:
                looked = now
                if self.outcome(record) is not None:
                    raise JobCancelledError(f"job '{record.id}': it has ended")

        return still_wanted

    def finish(self, record: Record) -> Ending:
        """All parts are there: commit the folder and end the job; only if it was not cancelled meanwhile it is published."""
        folder = self.folder(record)
        outcome = commit(folder, self.plan(record))
        ending = self.end(record, "completed", {"folder": folder.path, **outcome["committed"]})
        if ending == "completed":
            self.publish(record)
        return ending

    def publish(self, record: Record) -> None:
        """Point the run of a completed job at its data; any number of times."""
        run, folder = self.run(record.id), self.folder(record)
        if run.published() is None:
            run.point("synthetic", folder)
            run.publish([folder], {"name": record.model, "model": None, "evaluation": None, "gates": [], "forced": False})


def _made(folder: Folder, parts: range) -> dict[int, Part]:
    """Those of the parts that the folder's markers prove."""
    try:
        return {part.part: part for marker in folder.markers() for part in marker.parts if part.part in parts}
    except RaysynthError as error:
        log.warning("%s: not resumed from: %s", folder.path, error)
        return {}


def _taken(folder: Folder, part: Part) -> list[Table]:
    """A part's files as they lie there; none if one has other bytes than its marker says. Written anew they are the same bytes."""
    found: list[Table] = []
    for file in part.files:
        try:
            data = folder.read(join(file.sub, file.name))
        except FileNotFoundError:
            return []
        if digest(data) != file.sha256:
            return []
        found.append((file.sub, parquet_rows(data), part.extra))
    return found


def job_sampler(record: Record) -> Sampler:
    """DataError or CorruptRunError if the model is not there any more, or is another one; RuleError if hardly any row can be made."""
    folder = Folder(record.model_url)
    if not folder.committed:
        raise DataError(f"job '{record.id}': its model is not there any more: {record.model_url}")
    model = load_model(folder)
    if model.digest != record.digest:
        raise DataError(f"job '{record.id}': {record.model_url} holds another model than the one that was asked")
    filters = filters_of(Folder(record.filters_url) if record.filters_url else None, record.filters, model.schema)
    sampler = Sampler(
        model, seed=record.seed, rules=record.rules, filters=filters, where=record.where, max_attempts=record.max_attempts
    )
    sampler.check_acceptance()
    return sampler
