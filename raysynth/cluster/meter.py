"""What the work has cost so far: CPU-seconds of this process and of every task that reported back to it."""

import time


class Meter:
    """One driver's count. Tasks that died report nothing."""

    def __init__(self) -> None:
        self._of_tasks = 0.0
        self.went_on = False
        """Whether the stage that runs found work of an earlier command, whose cost is not in this count."""

    def add(self, cpu_seconds: float) -> None:
        self._of_tasks += cpu_seconds

    @property
    def cpu_seconds(self) -> float:
        return self._of_tasks + time.process_time()


METER = Meter()
"""The driver's own; cluster/ adds to it whatever runs elsewhere."""
