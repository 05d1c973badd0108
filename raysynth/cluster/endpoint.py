"""Requests of a generator or an op → a server's replies, each stored in the folder before it is used: whoever resumes repeats no call."""

import json
from collections.abc import Generator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock
from typing import cast

from raysynth.cluster.stalled import BEAT_SECONDS, beat
from raysynth.errors import SpentError
from raysynth.generators.base import Remote
from raysynth.layout import Facts
from raysynth.markers import canonical, digest
from raysynth.ops.base import Asking
from raysynth.runs import Folder

LOOKS = 50  # at what all workers have spent, while the whole budget is: so far, a fiftieth, may it be exceeded


@dataclass
class StoredReplies:
    """`_raysynth/replies/<2 hex digits>/<hash of the request>.json`. The first reply that is stored counts, for every driver. `workers`: how
    many make such calls at the same time."""

    folder: Folder
    asker: Remote | Asking
    workers: int = 1
    purse: "Purse" = field(init=False)

    def __post_init__(self) -> None:
        self.purse = Purse(self.folder, self.asker, self.workers)
        self.asker.answered |= any(spent(self.folder))

    def __call__(self, requests: list[Facts]) -> list[Facts]:
        keys = [digest(canonical(request)) for request in requests]
        wanted = dict(zip(keys, requests, strict=True))
        with ThreadPoolExecutor(self.asker.concurrency) as pool:
            calls = {key: pool.submit(self._reply, key, request) for key, request in wanted.items()}
            try:
                _wait(list(calls.values()), word="".join(keys[:1]))
            finally:  # those in flight end, and are stored: they are paid for
                pool.shutdown(cancel_futures=True)
                self.purse.note()
        return [calls[key].result() for key in keys]

    def _reply(self, key: str, request: Facts) -> Facts:
        url = self.folder.system_url("replies", key[:2], f"{key}.json")
        try:
            found = cast("Facts", json.loads(self.folder.store.read(url)))
        except FileNotFoundError:
            pass
        else:
            self.asker.answered |= any(self.asker.usage(found))
            return found
        with self.purse.opened():
            reply = self.asker.send(request)
            stored = self.folder.store.put(url, canonical(reply))
            self.purse.pay(key, *self.asker.usage(reply))
        return reply if stored else cast("Facts", json.loads(self.folder.store.read(url)))


class Purse:
    """What the calls for one folder have cost, whoever made them, against the asker's budget.

    `_raysynth/spent/<hash of a request>-<tokens read>-<tokens written>.json`, one for each batch of calls: a listing tells the sum. A worker
    that dies has not noted its last batch.
    """

    def __init__(self, folder: Folder, asker: Remote | Asking, workers: int) -> None:
        self.folder, self.asker = folder, asker
        self._often = 1 / (LOOKS * workers)
        self._bounded = asker.spent(1, 1) > 0
        self._lock = Lock()
        self._known: tuple[int, int] | None = None  # by all, as it was listed last
        self._mine, self._last = (0, 0), ""  # since then: not noted yet
        self._calls, self._total, self._seen, self._flying = 0, (0, 0), (0, 0), 0

    @contextmanager
    def opened(self) -> Generator[None]:
        """For one call. SpentError where the budget does not reach for it."""
        with self._lock:
            self._check()
            self._flying += 1
        try:
            yield
        finally:
            with self._lock:
                self._flying -= 1

    def pay(self, key: str, read: int, written: int) -> None:
        with self._lock:
            self._mine, self._last = (self._mine[0] + read, self._mine[1] + written), key
            self._total, self._calls = (self._total[0] + read, self._total[1] + written), self._calls + 1

    def note(self) -> None:
        with self._lock:
            self._note()

    def _note(self) -> None:
        if any(self._mine):
            read, written = self._mine
            url = self.folder.system_url("spent", f"{self._last}-{read}-{written}.json")
            self.folder.store.put(url, canonical({"read": read, "written": written}))
            if self._known is not None:
                self._known = (self._known[0] + read, self._known[1] + written)
            self._mine = (0, 0)

    def _check(self) -> None:
        if not self._bounded:
            return
        if self._known is None or self._since_looked() >= self._often:
            self._note()
            self._known, self._seen = spent(self.folder), self._total
        now = (self._known[0] + self._mine[0], self._known[1] + self._mine[1])
        flying = [(self._flying + 1) * total / max(1, self._calls) for total in self._total]
        if self.asker.spent(*now) >= 1 or self.asker.spent(now[0] + flying[0], now[1] + flying[1]) > 1 + 1e-9:
            raise SpentError(
                f"{self.asker.budget}: {now[0]:,} tokens are read and {now[1]:,} written ({self.asker.spent(*now):.1%} of it), and "
                "the next call would not fit. Every reply is kept: raise it, and run the same command again to go on"
            )

    def _since_looked(self) -> float:
        return self.asker.spent(self._total[0] - self._seen[0], self._total[1] - self._seen[1])


def spent(folder: Folder) -> tuple[int, int]:
    """Tokens read and written by all calls for the folder, as far as they are noted."""
    names = [stat.url.rsplit("/", 1)[1].removesuffix(".json").split("-") for stat in folder.store.list(folder.system_url("spent"))]
    return sum(int(read) for _, read, _ in names), sum(int(written) for *_, written in names)


def _wait(calls: Sequence[Future[Facts]], word: str) -> None:
    """Until all have ended, or one has failed: what it raised. However long a server is waited for, each wait has an end: it is no stall."""
    left, beats = set(calls), 0
    while left:
        done, left = wait(left, timeout=BEAT_SECONDS, return_when=FIRST_EXCEPTION)
        beats += 1
        beat(f"{word}:{beats}")
        for call in done:
            call.result()
