"""Settings → a Ray Serve application: Api (HTTP and samples), Coordinator (who does what of which job), Maker (parts of jobs).

Api replicas answer requests themselves, each with a sampling thread of its own: no second hop, no copy of rows. The store is the only
memory of jobs: replicas of each of the three may die at any moment.
"""

import asyncio
import dataclasses
import logging
import secrets
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.handle import DeploymentHandle

from raysynth.cluster.session import pin_cpu, pins
from raysynth.errors import NondeterminismError, RaysynthError, StoreError
from raysynth.keys import Key, Keyring
from raysynth.sampler import Sampler
from raysynth.serving.api import AskJob, HttpError, Job, not_found, too_many, unprocessable
from raysynth.serving.jobs import TASK_SECONDS, JobCancelledError, JobStore, Record, job_id, job_sampler, record_of
from raysynth.serving.meters import RayMeters
from raysynth.serving.registry import Published, Registry, Served
from raysynth.serving.routes import make_app
from raysynth.serving.service import SEED_BITS, Service
from raysynth.serving.settings import Settings

log = logging.getLogger("raysynth.serving")

LOOK_SECONDS = 2.0  # how soon a coordinator sees a job that it was not told of, or that one was cancelled
CANCELLED = "cancelled"
TRIES = 20  # of one range: a replica that dies is replaced within seconds
SPARE_REQUESTS = (
    4096  # that Serve lets through beyond the guard's cap: it is the guard who answers, and Serve's router, when it holds
)
# requests back, falls to a few a second (ray 2.60)


class HopelessError(RaysynthError):
    """No further try of a part can end otherwise."""


def build(settings: Settings) -> Application:
    """For `raysynth serve`, and for serve/app.py of a Ray Serve configuration."""
    sampling = {"num_cpus": settings.replica_cpus, "runtime_env": {"env_vars": pins()}}
    coordinator: Any = None
    if settings.jobs is not None:
        maker: Any = serve.deployment(Maker, name="Maker")
        maker = maker.options(
            num_replicas=settings.job_replicas, max_ongoing_requests=1, ray_actor_options=sampling, graceful_shutdown_timeout_s=5
        )
        coordinator = serve.deployment(Coordinator, name="Coordinator")
        coordinator = coordinator.options(num_replicas=1, max_ongoing_requests=1000, ray_actor_options={**sampling, "num_cpus": 0})
        coordinator = coordinator.bind(settings.jobs, maker.bind(settings.jobs), settings.job_replicas)
    api: Any = serve.deployment(serve.ingress()(_api(settings.models_per_replica)), name="Api")
    requests = settings.max_requests + SPARE_REQUESTS
    return api.options(
        max_ongoing_requests=requests,
        max_queued_requests=4 * requests,
        backpressure_config={"status_code": 429, "retry_after_s": 3},
        ray_actor_options=sampling,
        graceful_shutdown_timeout_s=settings.timeout_seconds + 5,
        health_check_period_s=5,
        autoscaling_config={
            "min_replicas": settings.replicas,
            "max_replicas": max(settings.replicas, settings.max_replicas),
            "target_ongoing_requests": 8,
            "upscale_delay_s": 10,
            "downscale_delay_s": 300,
        },
    ).bind(settings, coordinator)


def _api(models_per_replica: int) -> type:
    """The class is made here because Serve wants the number of models when it is defined."""

    class Api:
        """Answers HTTP."""

        def __init__(self, settings: Settings, coordinator: DeploymentHandle | None) -> None:
            _begin()
            self.coordinator = coordinator
            self.keyring = Keyring(settings.keys)
            self.jobs = JobStore(settings.jobs) if settings.jobs is not None else None
            registry = Registry(settings.runs, settings.refresh_seconds)
            self.service = Service(settings, registry, self.load, RayMeters())
            self._published: dict[str, Published] = {}  # by key: what Serve's multiplexing hands back is the key alone

        def __serve_build_asgi_app__(self) -> Any:
            return make_app(self.service, self.jobs, self.start_job, self.keyring.checked, tells_id=False)

        async def load(self, published: Published) -> Served:
            self._published[published.key] = published
            return await self.model(published.key)  # pyright: ignore[reportCallIssue] (the stub takes it for no method)

        @serve.multiplexed(max_num_models_per_replica=models_per_replica)
        async def model(self, key: str) -> Served:
            return await asyncio.to_thread(Served, self._published[key])

        async def start_job(self, key: Key, idempotency_key: str, ask: AskJob) -> tuple[Job, bool]:
            if self.coordinator is None:
                raise not_found("this server writes no jobs")
            served = await self.service.served(ask.model)
            told = await self.coordinator.start.remote(dataclasses.asdict(key), idempotency_key, ask, served.published)
            if "error" in told:
                raise HttpError(**told["error"])
            return Job.model_validate(told["job"]), told["new"]

        def check_health(self) -> None:
            if not self.service.batcher.alive:
                raise RuntimeError("the sampling thread has ended")

    return Api


class Coordinator:
    """Hands ranges of parts to makers; all that it knows is on the store."""

    async def __init__(self, jobs: str, makers: DeploymentHandle, replicas: int) -> None:
        _begin()
        self.store, self.makers = JobStore(jobs), makers
        self.slots = 2 * replicas
        self._room = asyncio.Semaphore(self.slots)
        self._going: dict[str, asyncio.Task[None]] = {}
        self._ended: set[str] = set()
        self._starting = asyncio.Lock()
        self._watch = asyncio.get_running_loop().create_task(self._look_forever())

    async def start(self, key: Mapping[str, Any], idempotency_key: str, ask: AskJob, published: Published) -> dict[str, Any]:
        """{job, new} or {error: what HttpError takes}: one at a time, so that quotas hold."""
        try:
            async with self._starting:
                record, new = await asyncio.to_thread(self._add, Key(**key), idempotency_key, ask, published)
            self._go(record)
            return {"job": (await asyncio.to_thread(self.store.told, record)).model_dump(), "new": new}
        except HttpError as error:
            return {"error": _plain(error)}
        except RaysynthError as error:
            return {"error": _plain(unprocessable(str(error)))}

    def check_health(self) -> None:
        if self._watch.done():
            raise RuntimeError("nobody looks after the jobs")

    def _add(self, key: Key, idempotency_key: str, ask: AskJob, published: Published) -> tuple[Record, bool]:
        created = datetime.now(UTC).isoformat(timespec="milliseconds")
        id = job_id(key.id, idempotency_key)
        drawn = secrets.randbits(SEED_BITS)
        record = record_of(ask, Served(published), id=id, owner=key.id, created=created, drawn_seed=drawn)
        if not self.store.exists(id):
            if ask.rows > key.max_job_rows:
                raise unprocessable(f"rows: {ask.rows:,}, and this key's jobs have at most {key.max_job_rows:,}")
            if not key.max_running_jobs:
                raise unprocessable("this key may run no jobs. Ask whoever gave it for one that may")
            running = sum(self.store.outcome(other) is None for other in self.store.records(key.id))
            if running >= key.max_running_jobs:
                raise too_many(f"{running} jobs of this key are running, and {key.max_running_jobs} may", 10)
        return self.store.add(record)

    async def _look_forever(self) -> None:
        """Jobs that nobody told this coordinator of: those of the one before it."""
        while True:
            try:
                for id in await asyncio.to_thread(lambda: list(self.store.ids())):
                    if id not in self._going and id not in self._ended:
                        await self._find(id)
            except Exception:
                log.exception("the list of jobs cannot be read; looked at again soon")
            await asyncio.sleep(LOOK_SECONDS)

    async def _find(self, id: str) -> None:
        """One job that cannot be read must not keep the others."""
        try:
            self._go(await asyncio.to_thread(self.store.find, id))
        except RaysynthError as error:
            self._ended.add(id)
            log.warning("left alone: %s", error)

    def _go(self, record: Record) -> None:
        if record.id not in self._going and record.id not in self._ended:
            task = asyncio.get_running_loop().create_task(self._work(record))
            self._going[record.id] = task
            task.add_done_callback(lambda _: self._going.pop(record.id, None))

    async def _work(self, record: Record) -> None:
        """Until the job has ended. Where the store or a replica is gone for long, it goes on with a later look."""
        try:
            if await asyncio.to_thread(self.store.outcome, record) is None:
                sibling = await asyncio.to_thread(self.store.sibling, record)
                ranges = iter(await asyncio.to_thread(self.store.tasks, record, self.slots))
                async with asyncio.TaskGroup() as group:
                    for _ in range(self.slots):
                        group.create_task(self._take(record, ranges, sibling))
                ending = await asyncio.to_thread(self.store.finish, record)
                log.info("job %s: %s", record.id, ending)
            elif await asyncio.to_thread(self.store.ended_well, record):
                await asyncio.to_thread(self.store.publish, record)  # its coordinator may have died before it did
            self._ended.add(record.id)
        except* JobCancelledError:
            self._ended.add(record.id)
        except* (HopelessError, NondeterminismError) as errors:
            detail = str(_first(errors))
            await asyncio.to_thread(self.store.end, record, "failed", {"detail": detail})
            self._ended.add(record.id)
            log.warning("job %s failed: %s", record.id, detail)
        except* Exception:
            log.exception("job %s is interrupted; it goes on with the next look", record.id)

    async def _take(self, record: Record, ranges: Iterator[range], sibling: str | None) -> None:
        """Range after range. All jobs wait for the same slots, a few ranges each, so that a small job need not wait for a big one."""
        for parts in ranges:
            told = await self._made(record, parts, sibling)
            if told == CANCELLED:
                raise JobCancelledError(f"job '{record.id}': it was cancelled")
            if told:
                raise HopelessError(told)

    async def _made(self, record: Record, parts: range, sibling: str | None) -> str:
        """What the maker says. A replica that dies is replaced, and its work made again, to the same bytes."""
        for attempt in range(1, TRIES):
            try:
                return await self._ask(record, parts, sibling)
            except Exception as error:
                log.warning("job %s, parts %d to %d, try %d: %s", record.id, parts.start, parts.stop - 1, attempt, error)
                await asyncio.sleep(min(10.0, 0.2 * 2**attempt))
        return await self._ask(record, parts, sibling)

    async def _ask(self, record: Record, parts: range, sibling: str | None) -> str:
        async with self._room:
            call = self.makers.make.remote(dataclasses.asdict(record), parts.start, parts.stop, sibling)
            return await asyncio.wait_for(call, TASK_SECONDS)


class Maker:
    """Writes parts of jobs straight to the store."""

    def __init__(self, jobs: str) -> None:
        _begin()
        self.store = JobStore(jobs)
        self._ready: tuple[str, Sampler] | None = None

    async def make(self, record: Mapping[str, Any], start: int, stop: int, sibling: str | None) -> str:
        """'' when it is done, 'cancelled', or why it can never be done."""
        return await asyncio.to_thread(self._make, Record.from_json(record), range(start, stop), sibling)

    def _make(self, record: Record, parts: range, sibling: str | None) -> str:
        try:
            if self._ready is None or self._ready[0] != record.id:
                self._ready = record.id, job_sampler(record)
            self.store.make(record, self._ready[1], parts, sibling)
        except JobCancelledError:
            return CANCELLED
        except (StoreError, NondeterminismError):  # another try, or another machine, may do it
            raise
        except RaysynthError as error:
            return f"{type(error).__name__}: {error}"
        return ""


def _plain(error: HttpError) -> dict[str, Any]:
    return {"status": error.status, "title": error.title, "detail": str(error), "retry_after_seconds": error.retry_after_seconds}


def _first(errors: BaseExceptionGroup[Any]) -> BaseException:
    inner = errors.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner


def _begin() -> None:
    """One thread a replica: a kernel's bits do not depend on it, and two replicas on a CPU would fight."""
    import torch

    pin_cpu()
    torch.set_num_threads(1)
    _log_with_serve()


def _log_with_serve() -> None:
    """Our lines stand where Serve's own do: in the replica's log, in Serve's form."""
    ours = logging.getLogger("raysynth")
    ours.setLevel(logging.INFO)
    ours.propagate = False
    for handler in logging.getLogger("ray.serve").handlers:
        ours.addHandler(handler)
