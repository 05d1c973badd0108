"""raysynth's generators of tables at their defaults: the codec, the generator and the decoding of a run, in one process."""

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from _measured import Drawn, main

sys.path.insert(0, str(Path(__file__).parents[1]))

from quality import encoded_rows

from raysynth.generators.base import Fitted
from raysynth.models import Model
from raysynth.parts import find
from raysynth.sampler import Sampler
from raysynth.training import fit, initialise

EPOCHS = 50  # at most, as a recipe has it; early stopping ends sooner


def learn(name: str, rows: pd.DataFrame, seed: int) -> Drawn:
    torch.set_num_threads(1)
    codec, layout, batch, held = encoded_rows(pa.Table.from_pandas(rows, preserve_index=False), seed)
    made = find("generators", name)
    train, validation = batch.take(np.flatnonzero(~held)), batch.take(np.flatnonzero(held))
    if issubclass(made, Fitted):
        generator = made(layout)
        generator.merge([generator.fit(task, [train]) for task in generator.tasks()])
    else:
        generator = initialise(lambda: made(layout), seed)
        fit(generator, train, validation, seed=seed, max_epochs=EPOCHS)
    model = Model(codec.schema, {}, codec, generator, "", {})
    return lambda count: Sampler(model, seed=seed).range(0, count).to_pandas()


if __name__ == "__main__":
    main({name: partial(learn, name) for name in ("trees", "autoregressive")})
