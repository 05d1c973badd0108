"""Jobs on the store, without Ray: whoever dies when, a job ends once, and what cannot be read keeps nobody else's."""

from pathlib import Path

import pytest

from raysynth.errors import DataError, RuleError
from raysynth.runs import Run
from raysynth.sampler import Sampler
from raysynth.serving.api import AskJob, HttpError
from raysynth.serving.jobs import JobCancelledError, JobStore, Record, job_id, job_sampler, record_of
from raysynth.serving.registry import Served, read_published

OWNER = "somebody"


@pytest.fixture(scope="module")
def served(published_run: str) -> Served:
    return Served(read_published(published_run))


@pytest.fixture
def store(tmp_path: Path) -> JobStore:
    return JobStore(str(tmp_path / "jobs"))


def asked(store: JobStore, served: Served, key: str = "one", **more: object) -> Record:
    ask = AskJob.model_validate({"model": "shop", "rows": 60, "seed": 5, "rows_per_part": 20, **more})
    record = record_of(ask, served, id=job_id(OWNER, key), owner=OWNER, created="2026-01-01T00:00:00", drawn_seed=1)
    return store.add(record)[0]


def made(store: JobStore, record: Record) -> None:
    for parts in store.tasks(record, 1):
        store.make(record, job_sampler(record), parts)


def test_a_job_is_made_committed_ended_and_published(store: JobStore, served: Served) -> None:
    record = asked(store, served)
    assert store.told(record).status == "running"
    made(store, record)
    assert (store.told(record).parts_done, store.told(record).rows_done) == (3, 60)
    assert store.finish(record) == "completed"
    published = store.run(record.id).published()
    assert published is not None and published["folders"]["synthetic"]["rows"] == 60
    assert sum(file.rows for file in store.files(record).files) == 60


def test_a_job_that_is_cancelled_while_it_is_finished_is_not_published(
    store: JobStore, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = asked(store, served)
    made(store, record)
    end = JobStore.end

    def cancelled_first(self: JobStore, record: Record, ending: str, facts: dict[str, object]) -> str:
        end(self, record, "cancelled", {})
        return end(self, record, ending, facts)  # type: ignore[arg-type]

    monkeypatch.setattr(JobStore, "end", cancelled_first)
    assert store.finish(record) == "cancelled"
    assert store.run(record.id).published() is None


def test_a_coordinator_that_died_before_it_published_is_made_up_for(
    store: JobStore, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = asked(store, served)
    made(store, record)
    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "publish", lambda self, record: None)
        assert store.finish(record) == "completed"
    assert store.run(record.id).published() is None and store.ended_well(record)
    store.publish(record)
    assert store.run(record.id).published() is not None


def test_an_equal_later_job_takes_what_a_cancelled_one_has_made(store: JobStore, served: Served) -> None:
    first = asked(store, served)
    store.make(first, job_sampler(first), range(0, 2))
    store.cancel(first)
    later, other = asked(store, served, "later"), asked(store, served, "other", seed=6)
    sibling = store.sibling(later)
    assert sibling == store.folder(first).url and store.sibling(other) is None
    nothing = Sampler(served.model, seed=5, where={"dear": True, "price": {"under": 20}}, max_attempts=1)
    store.make(later, nothing, range(0, 2), sibling)  # it could not make a row itself
    store.make(later, job_sampler(later), range(2, 3), sibling)
    assert store.finish(later) == "completed"
    whole = asked(JobStore(store.url + "-apart"), served)
    made(JobStore(store.url + "-apart"), whole)
    JobStore(store.url + "-apart").finish(whole)
    assert [file.name for file in store.files(later).files] == [
        file.name for file in JobStore(store.url + "-apart").files(whole).files
    ]


def test_a_part_of_a_sibling_that_has_changed_is_made_anew(store: JobStore, served: Served) -> None:
    first = asked(store, served)
    store.make(first, job_sampler(first), range(0, 3))
    sibling = store.folder(first).url
    for path in Path(sibling.removeprefix("file://"), "0000").iterdir():
        path.write_bytes(path.read_bytes()[:-1] + b"x")
    later = asked(store, served, "later")
    store.make(later, job_sampler(later), range(0, 3), sibling)
    assert store.finish(later) == "completed"


def test_parts_of_a_cancelled_job_are_not_begun(store: JobStore, served: Served) -> None:
    record = asked(store, served)
    store.cancel(record)
    with pytest.raises(JobCancelledError):
        store.make(record, job_sampler(record), range(0, 3))
    assert store.told(record).parts_done == 0


@pytest.mark.parametrize("broken", [b"", b"{", b"[]", b"{}", b'{"completed": 3}', b'{"id": "x"}'], ids=range(6))
@pytest.mark.parametrize("name", ["job.json", "outcome.json"])
def test_what_cannot_be_read_is_told_and_keeps_nobody_elses_job(store: JobStore, served: Served, name: str, broken: bytes) -> None:
    record, other = asked(store, served), asked(store, served, "other")
    Path(store.url.removeprefix("file://"), record.id, name).write_bytes(broken)
    with pytest.raises(HttpError, match=f"its {name} cannot be read"):
        store.told(store.find(record.id))
    assert [one.id for one in store.records(OWNER)] == [other.id]


def test_a_job_whose_model_is_gone_can_never_be_made(store: JobStore, served: Served) -> None:
    record = asked(store, served)
    gone = Record(**{**vars(record), "model_url": Run(store.url).url + "/model/none"})
    with pytest.raises(DataError, match="not there any more"):
        job_sampler(gone)


def test_conditions_that_hardly_any_row_meets_and_too_many_parts_are_refused_before_the_job_is_kept(
    store: JobStore, served: Served
) -> None:
    with pytest.raises(RuleError, match=r"0\.00% hold"):
        asked(store, served, where={"dear": True, "price": {"under": 20}})
    with pytest.raises(HttpError, match="parts"):
        asked(store, served, rows=2_000_001, rows_per_part=1)
    assert list(store.ids()) == []
