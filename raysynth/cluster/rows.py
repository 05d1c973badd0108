"""Runs one function over many items on Ray Data, a few in flight per worker; results come back as they end, or in the items' order."""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import cloudpickle  # in flight only, as Ray itself does; nothing pickled is ever stored
import pyarrow as pa

from raysynth.cluster.capacity import Asked, check, rows_asked
from raysynth.cluster.limits import limits
from raysynth.cluster.meter import METER
from raysynth.cluster.session import session, within
from raysynth.cluster.stalled import END_SECONDS, LOOK_SECONDS, StalledError, Watch, give_up, given_up, is_fault, watched_by
from raysynth.errors import RaysynthError, SpentError

Make = Callable[[], Callable[[Any], Any]]
"""Called once on each worker (loads a model, say); what it returns is called once per item."""


class _Worker:
    """An actor of Ray Data's pool: rows of (index, item) → rows of (index, result). raysynth's own errors travel as results, since Ray
    wraps what a worker raises in its own exceptions and loses the one that the user should read."""

    def __init__(self, make: Make, key: str) -> None:
        self.make, self.key = make, key
        self.work: Callable[[Any], Any] | None = None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        return {"index": batch["index"], "result": pa.array([self._done(item) for item in batch["item"]], pa.large_binary())}

    def _done(self, item: bytes) -> bytes:
        """(error or None, result, CPU-seconds that it took)."""
        began = time.process_time()
        watched_by(self.key)
        if given_up(self.key):
            return b""
        try:
            if self.work is None:
                self.work = self.make()
            result = self.work(cloudpickle.loads(item))
            return cloudpickle.dumps((None, result, time.process_time() - began))
        except RaysynthError as error:
            return cloudpickle.dumps((error, None, time.process_time() - began))


def map_items(
    items: Sequence[Any], make: Make, *, workers: int, keep: bool = True, num_cpus: float = 1, num_gpus: float = 0
) -> Iterator[tuple[int, Any]]:
    """(position, result) as they end. raysynth's own errors are raised here as they were raised there, SpentError at the end.
    `num_cpus`, `num_gpus`: of a worker.

    `keep`: what `make` returns is costly (a model) and lives in an actor as long as the items last; else each item is a task of its own, on
    worker processes that Ray has already, which saves the seconds in which an actor starts.
    """
    if not items:
        return
    with session():
        asked = rows_asked(num_cpus, num_gpus)
        seen = check(asked)
        # an autoscaler sees actors that wait for a node; tasks Ray Data holds back until one is there
        keep = keep or (seen is not None and seen.grows)
        left = dict(enumerate(items))
        watch = Watch(asked, len(items), workers)
        spent: SpentError | None = None
        while left:
            size = max(1, min(workers, len(left)))
            flow = _Flow(_dataset(left, make, watch.key, size=size, keep=keep, asked=asked), watch.key, size)
            try:
                for index, reply in flow.replies(watch):
                    del left[index]
                    watch.ended()
                    error, result, cpu_seconds = cloudpickle.loads(reply)
                    METER.add(cpu_seconds)
                    if isinstance(error, SpentError):
                        spent = spent or error
                        watch.wait()
                        continue
                    if error is not None:
                        raise error
                    yield index, result
                    if left:
                        limits().check_time()
                    watch.wait()
                if left:
                    watch.failed("Ray Data ended without them")
            except StalledError as stalled:
                flow.end()
                watch.again(stalled)
            finally:
                flow.end()
        watch.over()
        if spent is not None:
            raise spent


def map_ordered(items: Sequence[Any], make: Make, *, workers: int) -> list[Any]:
    """The results in the order of the items, each made by a task of its own."""
    results = dict(map_items(items, make, workers=workers, keep=False))
    return [results[index] for index in range(len(items))]


class _Flow:
    """One Ray dataset at work, consumed by a thread of its own: where Ray Data hangs, as it can when a streaming task is lost (ray issues
    62535, 62746), the driver does not hang with it."""

    def __init__(self, data: Any, key: str, size: int) -> None:
        self._data, self._key, self._whole = data, key, False
        self._replies: queue.Queue[Any] = queue.Queue(2 * size)
        self._ended = threading.Event()
        self._executors: list[Any] = []
        begin = data._create_executor

        def remembered() -> Any:
            self._executors.append(begin())
            return self._executors[-1]

        data._create_executor = remembered  # Ray tells of its executor only once a first block has come
        threading.Thread(target=self._consume, daemon=True, name="raysynth-rows").start()

    def replies(self, watch: Watch) -> Iterator[tuple[int, bytes]]:
        while (reply := self._next(watch)) is not None:
            if isinstance(reply, BaseException):
                if not is_fault(reply):
                    raise reply
                watch.failed(str(reply).strip().split("\n")[0])
            yield reply
        self._whole = True

    def _next(self, watch: Watch) -> Any:
        while True:
            with suppress(queue.Empty):
                return self._replies.get(timeout=LOOK_SECONDS)
            watch.look()

    def end(self) -> None:
        """What is in flight is killed, not asked to end. Ray waits for it without a deadline: that too is left to a thread."""
        if self._ended.is_set():
            return
        self._ended.set()
        within(END_SECONDS, self._shut_down)

    def _shut_down(self) -> None:
        if not self._whole:
            give_up(self._key)
        for executor in self._executors:
            executor.shutdown(force=True)

    def _consume(self) -> None:
        try:
            for batch in self._data.iter_batches(batch_size=1, batch_format="pyarrow", prefetch_batches=0):
                self._put((batch["index"][0].as_py(), batch["result"][0].as_py()))
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _put(self, reply: Any) -> None:
        waits = True
        while waits and not self._ended.is_set():
            with suppress(queue.Full):
                self._replies.put(reply, timeout=LOOK_SECONDS)
                waits = False


def _dataset(items: Mapping[int, Any], make: Make, key: str, *, size: int, keep: bool, asked: Asked) -> Any:
    import ray.data

    rows = [{"index": index, "item": cloudpickle.dumps(item)} for index, item in items.items()]
    data: Any = ray.data.from_items(rows, override_num_blocks=len(rows))
    data.context.execution_no_progress_timeout_s = -1  # Watch is the guard, and knows the recipe's seconds
    place = asked.options()
    if keep:
        pool = ray.data.ActorPoolStrategy(size=size)
        return data.map_batches(_Worker, fn_constructor_args=(make, key), batch_size=1, batch_format="numpy", compute=pool, **place)
    tasks = ray.data.TaskPoolStrategy(size=size)
    return data.map_batches(_Worker(make, key), batch_size=1, batch_format="numpy", compute=tasks, **place)
