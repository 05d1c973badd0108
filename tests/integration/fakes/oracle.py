"""The least Remote generator: a «server» that is a function of the request, counts its calls, and answers every seventh with rubbish."""

import os
import time
from pathlib import Path
from typing import ClassVar

import numpy as np

from raysynth.draws import Draws
from raysynth.generators.base import Remote
from raysynth.layout import Arrays, Batch, Facts, Fields, Given, Layout


class Oracle(Remote):
    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    kernel_rows = 32

    def __init__(self, layout: Fields) -> None:
        self.sizes = np.array(layout.sizes)

    def request(self, draws: Draws, given: Given | None) -> list[Facts]:
        return [{"seed": int(word)} for word in draws.words("seed")]

    def send(self, request: Facts) -> Facts:
        with Path(os.environ["RAYSYNTH_ORACLE_CALLS"]).open("a") as calls:
            calls.write(f"{request['seed']}\n")
        time.sleep(0.002)
        if request["seed"] % 7 == 0:
            return {"text": "I am sorry"}
        return {"codes": [int((request["seed"] >> field) % int(size)) for field, size in enumerate(self.sizes)]}

    def parse(self, replies: list[Facts]) -> Batch:
        codes = [reply.get("codes", [0] * len(self.sizes)) for reply in replies]
        return Batch({"codes": np.array(codes, np.int32)}, np.array(["codes" in reply for reply in replies]))

    def state(self) -> tuple[Arrays, Facts]:
        return {}, {}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        """Nothing was learnt."""
