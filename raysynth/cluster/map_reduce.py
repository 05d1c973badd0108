"""A shuffle on Ray tasks: every item is cut into buckets, and every bucket is brought together in the items' order."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pyarrow as pa

from raysynth.cluster.capacity import check, rows_asked
from raysynth.cluster.limits import limits
from raysynth.cluster.meter import METER
from raysynth.cluster.session import session, within
from raysynth.cluster.stalled import END_SECONDS, LOOK_SECONDS, StalledError, Watch, give_up, given_up, is_fault
from raysynth.errors import RaysynthError


def map_reduce(
    items: Sequence[Any], cut: Callable[[Any], list[pa.Table]], bring: Callable[[int, list[pa.Table]], Any], *, buckets: int
) -> list[Any]:
    """`cut(item)` gives one table per bucket; `bring(bucket, tables)` gets those of one bucket. The results, by bucket.

    Tables stay in Ray's object store (and spill to disk); the driver holds references only. A task that dies runs again.
    """
    with session() as ray:
        asked = rows_asked()
        check(asked)
        shuffle = _Shuffle(ray, items, cut, bring, buckets, {"max_retries": 4, **asked.options()})
        watch = Watch(asked, len(items) + buckets, len(items) + buckets)
        while shuffle.left:
            try:
                shuffle.go_on(watch)
            except StalledError as stalled:
                shuffle.end(watch.key)
                watch.again(stalled)
            except BaseException:
                shuffle.end(watch.key)
                raise
        return [shuffle.ended[bucket] for bucket in range(buckets)]


class _Shuffle:
    """Its tasks. What has ended stays, whatever must be made again: `cuts`, an item's references to one table per bucket, and `ended`, a
    bucket's result."""

    def __init__(self, ray: Any, items: Sequence[Any], cut: Any, bring: Any, buckets: int, options: dict[str, Any]) -> None:
        def cut_one(key: str, item: Any) -> list[Any]:  # Ray wants a function
            if given_up(key):
                return [None] * (1 + buckets)
            began = time.process_time()
            tables = cut(item)
            return [(None, time.process_time() - began), *tables]

        def bring_one(key: str, bucket: int, *tables: pa.Table) -> tuple[Any, float] | None:
            if given_up(key):
                return None
            began = time.process_time()
            return bring(bucket, list(tables)), time.process_time() - began

        self.ray, self.items, self.buckets = ray, items, buckets
        self._cut = ray.remote(num_returns=1 + buckets, **options)(cut_one)
        self._bring = ray.remote(**options)(bring_one)
        self.cuts: dict[int, list[Any]] = {}
        self.ended: dict[int, Any] = {}
        self._cutting: dict[Any, int] = {}
        self._bringing: dict[Any, int] = {}

    @property
    def left(self) -> int:
        return self.buckets - len(self.ended)

    def go_on(self, watch: Watch) -> None:
        """To the end. StalledError where that must be tried again, after `end`."""
        self._begin(watch.key)
        watch.left = len(self._cutting) + len(self._bringing)
        while waiting := [*self._cutting, *self._bringing]:
            ready, _ = self.ray.wait(waiting, num_returns=len(waiting), timeout=LOOK_SECONDS)
            for ref in ready:
                result, cpu_seconds = self._result(ref, watch)
                METER.add(cpu_seconds)
                if self._cutting.pop(ref, None) is None:
                    self.ended[self._bringing.pop(ref)] = result
            if ready:
                watch.ended(len(ready))
                if watch.left:
                    limits().check_time()
            else:
                watch.look()

    def end(self, key: str) -> None:
        """Kills what is in flight."""
        flying = (*self._cutting, *self._bringing)

        def kill() -> None:
            give_up(key)
            for ref in flying:
                self.ray.cancel(ref, force=True)

        within(END_SECONDS, kill)
        for number in self._cutting.values():
            self.cuts.pop(number, None)
        self._cutting, self._bringing = {}, {}

    def _begin(self, key: str) -> None:
        for number, item in enumerate(self.items):
            if number not in self.cuts:
                ended, *self.cuts[number] = self._cut.remote(key, item)
                self._cutting[ended] = number
        for bucket in range(self.buckets):
            if bucket not in self.ended:
                pieces = [self.cuts[number][bucket] for number in range(len(self.items))]
                self._bringing[self._bring.remote(key, bucket, *pieces)] = bucket

    def _result(self, ref: Any, watch: Watch) -> tuple[Any, float]:
        try:
            return self.ray.get(ref)
        except self.ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None)  # Ray wraps what a task raised, with a traceback in its text
            if isinstance(cause, RaysynthError):
                raise cause from None
            if is_fault(error):
                self.cuts.clear()  # one of them may be what was lost
                watch.failed(str(error).strip().split("\n")[0])
            raise
