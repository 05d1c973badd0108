"""Two ranks of one training, in processes of their own and without Ray → FOLDER/{copied,sharded}.{json,npz}: losses, and rank 0's state.

python tests/integration/ranks.py FOLDER
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

sys.path.insert(0, str(Path(__file__).parents[1] / "integration" / "fakes"))

from tower import Tower

from raysynth.cluster.sharing import from_first, share
from raysynth.draws import Draws
from raysynth.layout import Batch, Field, Fields
from raysynth.training import Trainer, initialise

LAYOUT = Fields((Field("a", "a", 5), Field("b", "b", 7)))
CODES = Draws.range(0, "data", 0, 96).uniform("codes", 2)
BATCH = Batch({"codes": (CODES**2 * [5, 7]).astype(np.int32)})
WORLD, STEPS = 2, 3


def trainer(rank: int, world: int, *, shard: bool, steps: int = STEPS) -> Trainer:
    generator = initialise(lambda: Tower(LAYOUT, shard=shard), 3)
    wrap: Callable[[torch.nn.Module], torch.nn.Module] | None = (lambda module: share(generator, module)) if world > 1 else None
    device = torch.device("cpu")
    return Trainer(
        generator,
        seed=4,
        max_epochs=6,
        steps_per_epoch=steps,
        warmup_steps=2,
        rank=rank,
        wrap=wrap,
        agree=lambda loss: from_first(loss, world, device),
    )


def epoch(made: Trainer, number: int, rank: int, world: int) -> list[float]:
    """The losses of each step and, last, of validation."""
    size = 16
    starts = [(step * world + rank) * size for step in range(made.steps_per_epoch)]
    losses = [made.step(BATCH.take(slice(start, start + size)), number, step) for step, start in enumerate(starts)]
    return [*losses, made.end_epoch([BATCH.take(slice(0, 40)), BATCH.take(slice(40, 96))]).validation_loss]


def work(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=WORLD)
    for name in ("copied", "sharded"):
        first, second = (trainer(rank, WORLD, shard=name == "sharded") for _ in range(2))
        assert first.sharded == (name == "sharded")
        held = sum(getattr(value, "_local_tensor", value).numel() for value in first.generator.parameters())
        losses = [epoch(first, number, rank, WORLD) for number in range(2)]
        arrays, facts = first.state()
        went_on = epoch(first, 2, rank, WORLD)
        second.load(dict(reversed(arrays.items())) if rank else arrays, facts)  # safetensors has no order
        resumed = epoch(second, 2, rank, WORLD)
        best = first.best()
        ended, again = first.state()[0], second.state()[0]
        if rank == 0:
            told = {"losses": losses, "went_on": went_on, "resumed": resumed, "held": held, "facts": facts}
            told["same"] = all(np.array_equal(array, again[key]) for key, array in ended.items())
            (Path(folder) / f"{name}.json").write_text(json.dumps(told))
            np.savez(Path(folder) / f"{name}.npz", **arrays, **{f"published.{key}": array for key, array in best.items()})
    dist.barrier()  # one that leaves while the other still writes was seen to abort at its end
    dist.destroy_process_group()


if __name__ == "__main__":
    mp.spawn(work, (sys.argv[1],), nprocs=WORLD)
