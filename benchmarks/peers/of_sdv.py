"""SDV's synthesizers at their defaults; CTGAN and TVAE for EPOCHS of their 300 where that is fewer."""

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import pandas as pd
import torch
from _measured import Drawn, main
from quality_report import metadata_of
from sdv.metadata import Metadata
from sdv.single_table import CTGANSynthesizer, GaussianCopulaSynthesizer, TVAESynthesizer

DEFAULT_EPOCHS = 300


def learn(made: Callable[..., Any], rows: pd.DataFrame, seed: int) -> Drawn:
    metadata = Metadata.load_from_dict({"tables": {"table": metadata_of(rows)}, "relationships": []})
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    synthesizer = made(metadata)
    synthesizer.fit({"table": rows})
    return lambda count: synthesizer.sample(count)["table"]


def of_epochs(made: Callable[..., Any]) -> Callable[..., Any]:
    return partial(made, epochs=min(DEFAULT_EPOCHS, int(os.environ.get("EPOCHS", DEFAULT_EPOCHS))), enable_gpu=False)


if __name__ == "__main__":
    main(
        {
            "GaussianCopula": partial(learn, GaussianCopulaSynthesizer),
            "CTGAN": partial(learn, of_epochs(CTGANSynthesizer)),
            "TVAE": partial(learn, of_epochs(TVAESynthesizer)),
        }
    )
