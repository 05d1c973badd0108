"""Concurrent asks for rows → one thread's kernel calls: asks for one sampler share them, and each gets the rows that it would get alone."""

import asyncio
import threading
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from raysynth.sampler import Numbers, Sampler


@dataclass(eq=False)
class _Piece:
    sampler: Sampler
    seed: int
    numbers: Numbers
    rows: "Future[pa.Table]" = field(default_factory=Future["pa.Table"])

    def answer(self, rows: pa.Table | Exception) -> None:
        with suppress(InvalidStateError):  # nobody waits any more
            if isinstance(rows, Exception):
                self.rows.set_exception(rows)
            else:
                self.rows.set_result(rows)


class _Work:
    """Pieces of one sampler, done kernel after kernel."""

    def __init__(self, pieces: list[_Piece]) -> None:
        self.pieces = pieces
        self._steps: Generator[None, None, pa.Table] | None = None

    @property
    def wanted(self) -> bool:
        return not all(piece.rows.cancelled() for piece in self.pieces)

    def step(self) -> pa.Table | None:
        """One kernel call; the rows of all pieces, once they are done."""
        if self._steps is None:
            self._steps = self._begun()
        try:
            next(self._steps)
        except StopIteration as done:
            return done.value
        return None

    def _begun(self) -> Generator[None, None, pa.Table]:
        sampler = self.pieces[0].sampler
        yield from sampler.ready()
        return (yield from sampler.steps([(piece.seed, piece.numbers) for piece in self.pieces]))


class Batcher:
    """While one kernel runs, others wait; the next takes all that wait for the same sampler, up to a kernel's rows. No window of time is
    waited for: alone, an ask starts at once. What takes many kernels (a `where` that few rows meet) gives every other one to whoever came
    meanwhile."""

    def __init__(self) -> None:
        self._waiting: deque[_Piece] = deque()
        self._unfinished: deque[_Work] = deque()
        self._changed = threading.Condition()
        self.kernels = 0
        """Kernel calls that were begun."""
        self._thread = threading.Thread(target=self._run, name="kernels", daemon=True)
        self._thread.start()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    async def rows(self, sampler: Sampler, seed: int, numbers: Numbers) -> pa.Table:
        """At most one kernel's rows. Whoever stops waiting stops the work, unless others share it."""
        piece = _Piece(sampler, seed, numbers)
        with self._changed:
            self._waiting.append(piece)
            self._changed.notify()
        return await asyncio.wrap_future(piece.rows)

    def _run(self) -> None:
        newcomers = True
        while True:
            work = self._next(newcomers)
            newcomers = not newcomers
            if work.wanted:
                self._step(work)

    def _next(self, newcomers: bool) -> _Work:
        """What was begun and what was not yet take turns."""
        with self._changed:
            while not (self._waiting or self._unfinished):
                self._changed.wait()
            if self._unfinished and not (newcomers and self._waiting):
                return self._unfinished.popleft()
            return _Work(self._together())

    def _together(self) -> list[_Piece]:
        """The oldest piece that waits, and those that can share its kernel."""
        first = self._waiting[0]
        taken: list[_Piece] = []
        rows = 0
        for piece in self._waiting:
            if piece.sampler is first.sampler and (not taken or rows + len(piece.numbers) <= _most(piece)):
                taken.append(piece)
                rows += len(piece.numbers)
        chosen = set(map(id, taken))
        self._waiting = deque(piece for piece in self._waiting if id(piece) not in chosen)
        return [piece for piece in taken if not piece.rows.cancelled()] or [first]

    def _step(self, work: _Work) -> None:
        self.kernels += 1
        try:
            rows = work.step()
        except Exception as error:  # whatever it is, who waits must learn it
            if len(work.pieces) == 1:
                work.pieces[0].answer(error)
            else:  # one piece's fault is not the others'
                self._unfinished.extend(_Work([piece]) for piece in work.pieces)
            return
        if rows is None:
            self._unfinished.append(work)
            return
        start = 0
        for piece in work.pieces:
            piece.answer(rows.slice(start, len(piece.numbers)))
            start += len(piece.numbers)


def _most(piece: _Piece) -> int:
    return piece.sampler.model.generator.kernel_rows
