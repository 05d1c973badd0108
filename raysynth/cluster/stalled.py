"""Waits with a stage's driver for whatever its workers end next: what hangs is ended and made again, and nobody waits for ever."""

import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, NoReturn

from raysynth.cluster import capacity
from raysynth.cluster.capacity import Asked, Seen
from raysynth.cluster.limits import limits
from raysynth.cluster.session import ANSWER_SECONDS, within
from raysynth.errors import StoppedError
from raysynth.progress import say

LOOK_SECONDS = 1.0
BEAT_SECONDS = 5.0
SPACE = b"raysynth-rows"
SILENT_SECONDS = 30.0  # Ray itself ends the driver after 60, with exit code 1
END_SECONDS = 10.0
TRIES = 3


class StalledError(Exception):
    """Nothing ends any more: what is in flight is to be ended, and made again."""


class Watch:
    """The patience of one piece of work: `left` items are to be made, `at_once` at most at a time, each by what `asked` says.

    Workers that are given its `key` (another one for each try) may `beat` within a long item, which counts as progress. The stall clock only
    runs while a node is there that could do the work; before, or once all are lost, `cluster.start_seconds` counts.
    """

    def __init__(
        self,
        asked: Asked,
        left: int,
        at_once: int,
        *,
        look: Callable[[], Seen | None] = capacity.look,
        hear: Callable[[str], bytes] | None = None,
    ) -> None:
        self.asked, self.left, self.at_once = asked, left, at_once
        self._look_at_cluster, self._hear = look, hear or _said
        self._begin()
        self._tries = 1
        self.wait()

    def _begin(self) -> None:
        self.key = uuid.uuid4().hex
        self._heard = {b""}  # a worker that dies again and again, each time at the same place, says nothing new

    def over(self) -> None:
        with suppress(Exception):  # a head that is gone has forgotten it
            _kv()._internal_kv_del(self.key, namespace=SPACE)

    def wait(self) -> None:
        """From now on something is waited for."""
        self._moved = self._answered = self._held = time.monotonic()

    def ended(self, items: int = 1) -> None:
        self.left -= items
        self._tries = 1
        self.wait()

    def look(self) -> None:
        """Each second in which nothing ended. StalledError where the work must be made again, StoppedError where waiting is in vain."""
        if self.left:
            limits().check_time()
        seen, now = self._look_at_cluster(), time.monotonic()
        if seen is None:
            self._check_silence(now - self._answered)
            return
        self._answered = now
        if not seen.holds(self.asked):
            self._moved = now
            self._check_start(seen, now - self._held)
            return
        self._held = now
        if (word := self._hear(self.key)) not in self._heard:
            self._heard.add(word)
            self._moved = now
        if now - self._moved >= (allowed := limits().cluster.stall_seconds):
            self.failed(f"nothing ended for {allowed:g} s (cluster.stall_seconds)", seen)

    def failed(self, reason: str, seen: Seen | None = None) -> NoReturn:
        """StalledError for what is worth another try; StoppedError the third time in a row."""
        flying = min(self.left, self.at_once)
        facts = f"{reason}; {self.left} items left, {flying} of them in flight; {seen or self._look_at_cluster() or 'the head is silent'}"
        if self._tries == TRIES:
            raise StoppedError(
                f"{_stage()}made {TRIES} times, and the last time {facts}. "
                "Ray's logs on the nodes say why; run the same command again to go on"
            )
        self._tries += 1
        raise StalledError(facts)

    def again(self, stalled: StalledError) -> None:
        """Once what was in flight is ended."""
        self._begin()
        say(stage="cluster", stalled=str(stalled), made_again=self._tries - 1)
        self.wait()

    def _check_start(self, seen: Seen, seconds: float) -> None:
        if seen.never(self.asked) and seconds >= capacity.grace_seconds():
            raise capacity.refusal(self.asked, seen)
        allowed = limits().cluster.start_seconds
        if seconds >= allowed:
            raise StoppedError(
                f"cluster.start_seconds: {allowed:g}, and no node with {self.asked} has come ({_stage()}{seen}). "
                "See what holds up the autoscaler (ray status), or raise it, and run the same command again to go on"
            )

    def _check_silence(self, seconds: float) -> None:
        if seconds >= SILENT_SECONDS:
            raise StoppedError(
                f"Ray's head has not answered for {seconds:.0f} s ({_stage()}{self.left} items left). "
                "Start it, and run the same command again to go on"
            )


class _Worker:
    """Of this process, where it is a worker: whose work it does, and when it last told so."""

    key = ""
    told = -BEAT_SECONDS


def watched_by(key: str) -> None:
    """In a worker: from now on `beat` reaches the watch with this key."""
    _Worker.key = key


def beat(word: object) -> None:
    """In a worker, within a long item: it has come to `word`. Told every few seconds at most, through the key-value store of Ray's head."""
    if not _Worker.key or time.monotonic() - _Worker.told < BEAT_SECONDS:
        return
    _Worker.told = time.monotonic()
    with suppress(Exception):  # one that is lost is no fault of the work
        _kv()._internal_kv_put(_Worker.key, str(word), namespace=SPACE)


def beats(part: int) -> Callable[[], None]:
    """For each of the calls that a long part takes."""
    calls = count(1)
    return lambda: beat(f"{part}: {next(calls)}")


def give_up(key: str) -> None:
    """Before the workers of this key are killed: Ray can lose the cancellation of a task that is about to start (ray 2.60)."""
    with suppress(Exception):
        _kv()._internal_kv_put(f"{key}-over", b"1", namespace=SPACE)


def given_up(key: str) -> bool:
    """In a worker, at the start of an item: whether nobody waits for it any more."""
    with suppress(Exception):
        return bool(_kv()._internal_kv_exists(f"{key}-over", namespace=SPACE))
    return False


def _said(key: str) -> bytes:
    """What the workers of this key said last."""
    return within(ANSWER_SECONDS, lambda: _kv()._internal_kv_get(key, namespace=SPACE)) or b""


def _kv() -> Any:
    from ray.experimental import internal_kv

    return internal_kv


def _stage() -> str:
    running = limits().spending.running
    return f"{running}: " if running else ""


def is_fault(error: BaseException) -> bool:
    """Whether Ray lost the work (a node, a process, an object), which may go well another time; else the work itself raised this."""
    from ray.exceptions import RayError, RayTaskError, UserCodeException

    inner = error.cause if isinstance(error, RayTaskError) else error
    return isinstance(inner, RayError) and not isinstance(inner, RayTaskError | UserCodeException)
