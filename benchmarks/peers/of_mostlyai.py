"""mostlyai-engine's TabularARGN at its defaults."""

import pandas as pd
import torch
from _measured import Drawn, main
from mostlyai.engine import TabularARGN


def learn(rows: pd.DataFrame, seed: int) -> Drawn:
    torch.set_num_threads(1)
    model = TabularARGN(random_state=seed, device="cpu")
    model.fit(rows)
    return lambda count: model.sample(n_samples=count)


if __name__ == "__main__":
    main({"TabularARGN": learn})
