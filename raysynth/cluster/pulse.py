"""Where a training stands, told by its first rank to the driver; and the driver's watch over it, which ends a training that stands still.

The word goes through the key-value store of Ray's head: it costs no process and no CPU slot, and a rank that hangs tells nothing.
"""

import _thread
import json
import threading
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, replace
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from raysynth.cluster import capacity
from raysynth.cluster.capacity import Asked
from raysynth.cluster.limits import limits
from raysynth.cluster.meter import METER
from raysynth.cluster.session import ANSWER_SECONDS, within
from raysynth.cluster.stalled import SILENT_SECONDS
from raysynth.errors import RaysynthError, StoppedError

SPACE = b"raysynth-train"
BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.5
NODES_SECONDS = 5.0
ABORT_SECONDS = 10.0
Item = TypeVar("Item")


@dataclass(frozen=True)
class Beat:
    """`ended`: epochs whose checkpoint is on the store, of those since the rank began, `done`: the last one's too; `cpu_seconds`: of all
    ranks until then, as the first one counts them."""

    world: int
    epoch: int
    step: int
    ended: int
    cpu_seconds: float
    done: bool


class Pulse:
    """The first rank's; the others' (without a key) tells nothing."""

    def __init__(self, key: str | None, world: int) -> None:
        self.key, self.world = key, world
        self._ended, self._cpu_seconds, self._done, self._told = 0, 0.0, False, -BEAT_SECONDS

    def beat(self, epoch: int, step: int, *, now: bool = False) -> None:
        """At most once a second, but for `now`."""
        if self.key is None or (not now and time.monotonic() - self._told < BEAT_SECONDS):
            return
        self._told = time.monotonic()
        told = Beat(self.world, epoch, step, self._ended, self._cpu_seconds, self._done)
        _kv()._internal_kv_put(self.key, json.dumps(asdict(told)), namespace=SPACE)

    def during(self, items: Iterable[Item], epoch: int) -> Iterator[Item]:
        """The items, with a sign of life at each: judging an epoch takes its time too."""
        for number, item in enumerate(items):
            self.beat(epoch, -1 - number)
            yield item

    def epoch_ended(self, epoch: int, *, done: bool) -> None:
        """Once its checkpoint is on the store."""
        self._ended, self._done = self._ended + 1, done
        self._cpu_seconds = time.process_time() * self.world
        self.beat(epoch + 1, 0, now=True)


class Watch:
    """Over one attempt of workers as `asked`, from a thread of the driver. It ends the attempt once: `error` then says why, or `stalled`
    how it stood.

    Until the first beat `cluster.start_seconds` count, then `cluster.stall_seconds`; where nobody beats and no node can ever take the
    workers, a minute. The command's time is asked always, its budget at each epoch's edge.
    """

    def __init__(self, asked: Asked) -> None:
        self.asked, self.key = asked, uuid.uuid4().hex
        self.controller: Any = None  # Ray Train's, once it is there
        self.beat: Beat | None = None
        self.error: RaysynthError | None = None
        self.stalled: str | None = None
        self._moved = self._answered = self._possible = self._looked = time.monotonic()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="raysynth-train")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(2 * ABORT_SECONDS)
        self._hear()
        within(ANSWER_SECONDS, lambda: _kv()._internal_kv_del(self.key, namespace=SPACE))

    @property
    def patience_seconds(self) -> float:
        cluster = limits().cluster
        return cluster.start_seconds if self.beat is None else cluster.stall_seconds

    @property
    def _done(self) -> bool:
        return self.beat is not None and self.beat.done

    def _follow(self) -> None:
        while not self._over.wait(LOOK_SECONDS):
            edge = self._hear()
            if not self._done:  # there is nothing left to spare
                self._check_limits(edge=edge)
                self._check_nodes()
            if self._is_silent():
                _thread.interrupt_main()  # it waits for the controller's end, of which it would never hear
                return
            if time.monotonic() - self._moved >= self.patience_seconds:
                self.stalled = self._told()
            if (self.error or self.stalled) and self.controller is not None:
                _end(self.controller)
                return

    def _check_limits(self, *, edge: bool) -> None:
        try:
            if edge:
                limits().check()
            else:
                limits().check_time()
        except RaysynthError as error:
            self.error = error

    def _check_nodes(self) -> None:
        """Every few seconds in which nobody beats."""
        now = time.monotonic()
        if now - max(self._moved, self._looked) < NODES_SECONDS:
            return
        self._looked = now
        strictly = replace(self.asked, fallback=False)  # as Ray Train asks
        seen = capacity.look()
        if seen is None or not seen.never(strictly):
            self._possible = now
        elif now - max(self._moved, self._possible) >= capacity.grace_seconds():
            if self.asked.fallback and self.asked.labels:
                self.stalled = self._told()
            else:
                self.error = capacity.refusal(strictly, seen)

    def _is_silent(self) -> bool:
        """Whether the head has not answered for so long that `error` says so."""
        seconds = time.monotonic() - self._answered
        if seconds < SILENT_SECONDS:
            return False
        stood = f"at epoch {self.beat.epoch}" if self.beat is not None else "no worker has begun"
        self.error = StoppedError(
            f"Ray's head has not answered for {seconds:.0f} s (train: {stood}). "
            "Start it, and run the same command again to go on from the last epoch"
        )
        return True

    def _hear(self) -> bool:
        """Whether an epoch has ended since."""
        answer = within(ANSWER_SECONDS, lambda: [_kv()._internal_kv_get(self.key, namespace=SPACE)])
        if answer is not None:
            self._answered = time.monotonic()
        data = answer[0] if answer else None
        heard = None if data is None else Beat(**json.loads(data))
        if heard is None or heard == self.beat:
            return False
        before, self.beat, self._moved = self.beat, heard, time.monotonic()
        ended = heard.ended != (before.ended if before else 0)
        if ended:  # a rank that began anew counts from 0 again
            same = before is not None and heard.ended > before.ended
            METER.add(heard.cpu_seconds - (before.cpu_seconds if before and same else 0.0))
        return ended

    def _told(self) -> str:
        """Where training stood, and what the cluster waits for."""
        seconds = time.monotonic() - self._moved
        stood = (
            "no worker has begun"
            if self.beat is None
            else f"no step in {seconds:.0f} s, at epoch {self.beat.epoch}, step {max(self.beat.step, 0)}, of {self.beat.world} workers"
        )
        seen = capacity.look()
        waiting = within(ANSWER_SECONDS, _pending) or ""
        return f"{stood}; {'Ray does not answer' if seen is None else f'{seen}{waiting}'}"


def _pending() -> str:
    """The placement groups that wait for nodes: how workers that must start together ask for them."""
    from ray.util import placement_group_table

    groups: list[dict[str, Any]] = list(placement_group_table().values())
    waiting = [list(group["bundles"].values()) for group in groups if group["state"] in ("PENDING", "RESCHEDULING")]
    return "; waiting together: " + ", ".join(f"{len(bundles)} × {bundles[0]}" for bundles in waiting) if waiting else ""


def _end(controller: Any) -> None:
    """It is asked to give back what it reserved, and killed where it does not answer; its workers die with it."""
    import ray

    ray.wait([controller.abort.remote()], timeout=ABORT_SECONDS)
    ray.kill(controller)
    for group in _reserved_by(controller):
        ray.util.remove_placement_group(group)


def _reserved_by(controller: Any) -> list[Any]:
    """Its placement groups. Ray keeps those of a dead actor as long as the driver lives, and the cleaner that Ray Train has for them asks
    the dashboard, which an embedded Ray does not have (ray 2.60): nothing could be placed again."""
    from ray import PlacementGroupID
    from ray._private import state
    from ray.core.generated import gcs_pb2
    from ray.util.placement_group import PlacementGroup

    accessor, messages = cast("Any", state.state)._connect_and_get_accessor(), cast("Any", gcs_pb2)
    tables = [messages.PlacementGroupTableData.FromString(data) for data in accessor.get_placement_group_table()]
    mine = [table for table in tables if table.creator_actor_id == controller._actor_id.binary()]
    return [PlacementGroup(PlacementGroupID(table.placement_group_id)) for table in mine]


def _kv() -> Any:
    from ray.experimental import internal_kv

    return internal_kv
