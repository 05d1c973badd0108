"""Concurrent asks for rows → one thread's kernel calls: asks for one sampler share them, and each gets the rows that it would get alone."""

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import CancelledError, Future, InvalidStateError
from contextlib import suppress
from dataclasses import dataclass, field

import pyarrow as pa

from raysynth.errors import RaysynthError
from raysynth.sampler import Numbers, Sampler


class _NobodyWaitsError(RaysynthError):
    """All that asked have gone."""


@dataclass(eq=False)
class _Piece:
    sampler: Sampler
    seed: int
    numbers: Numbers
    rows: "Future[pa.Table]" = field(default_factory=Future["pa.Table"])


class Batcher:
    """While one kernel runs, others wait; the next takes all that wait for the same sampler, up to a kernel's rows. No window of time is
    waited for: alone, an ask starts at once."""

    def __init__(self) -> None:
        self._waiting: deque[_Piece] = deque()
        self._changed = threading.Condition()
        self.kernels = 0
        """Rounds of sampling that were begun."""
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
        while True:
            pieces = self._next()
            if pieces:
                self._sample(pieces)

    def _next(self) -> list[_Piece]:
        """The oldest piece that is still wanted, and those that can share its kernel."""
        with self._changed:
            while not self._waiting:
                self._changed.wait()
            wanted = [piece for piece in self._waiting if not piece.rows.cancelled()]
            taken: list[_Piece] = []
            rows = 0
            for piece in wanted:
                if piece.sampler is wanted[0].sampler and (not taken or rows + len(piece.numbers) <= _most(piece)):
                    taken.append(piece)
                    rows += len(piece.numbers)
            chosen = set(map(id, taken))
            self._waiting = deque(piece for piece in wanted if id(piece) not in chosen)
            return taken

    def _sample(self, pieces: Sequence[_Piece]) -> None:
        def still_wanted() -> None:
            if all(piece.rows.cancelled() for piece in pieces):
                raise _NobodyWaitsError
            self.kernels += 1

        sampler = pieces[0].sampler
        sampler.rejects.clear()
        try:
            rows = sampler.pieces([(piece.seed, piece.numbers) for piece in pieces], between=still_wanted)
        except _NobodyWaitsError:
            return
        except Exception as error:  # whatever it is, who waits must learn it
            if len(pieces) > 1:  # one piece's fault is not the others'
                for piece in pieces:
                    self._sample([piece])
            else:
                with suppress(InvalidStateError, CancelledError):
                    pieces[0].rows.set_exception(error)
            return
        start = 0
        for piece in pieces:
            with suppress(InvalidStateError, CancelledError):
                piece.rows.set_result(rows.slice(start, len(piece.numbers)))
            start += len(piece.numbers)


def _most(piece: _Piece) -> int:
    return piece.sampler.model.generator.kernel_rows
