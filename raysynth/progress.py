"""How far a stage is: a bar with an ETA on a terminal, JSON lines elsewhere (and with --json)."""

import json
import sys
import time
from types import TracebackType
from typing import Any, Self

JSON_LINES = False
"""Set once by the command line's --json."""


class Progress:
    """`with Progress("generate", 40, "parts") as progress: progress.advance(rows=25_000)`; JSON lines come at most twice a second."""

    def __init__(self, stage: str, total: int, unit: str) -> None:
        self.stage, self.total, self.unit = stage, total, unit
        self.done = 0
        self._began = time.monotonic()
        self._said = 0.0
        self._bar: Any = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not JSON_LINES:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TextColumn(self.unit))
            columns += (TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.fields[facts]}"))
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._task = self._bar.add_task(self.stage, total=self.total, facts="")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def advance(self, done: int = 1, **facts: object) -> None:
        self.at(self.done + done, **facts)

    def at(self, done: int, **facts: object) -> None:
        self.done = done
        if self._bar is not None:
            text = " ".join(f"{name} {value}" for name, value in facts.items())
            self._bar.update(self._task, completed=done, facts=text)
            return
        now = time.monotonic()
        if done < self.total and now - self._said < 0.5:
            return
        self._said = now
        seconds = now - self._began
        eta = round(seconds / done * (self.total - done), 1) if done else None
        say(stage=self.stage, done=done, total=self.total, unit=self.unit, seconds=round(seconds, 1), eta_seconds=eta, **facts)


def say(**facts: object) -> None:
    """One fact line: JSON when no terminal reads it, plain words otherwise."""
    if sys.stderr.isatty() and not JSON_LINES:
        sys.stderr.write(" ".join(f"{name} {value}" if name != "stage" else f"{value}:" for name, value in facts.items()) + "\n")
    else:
        sys.stderr.write(json.dumps(facts) + "\n")
    sys.stderr.flush()
