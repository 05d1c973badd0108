"""Every column on its own, learnt by a tower of blocks: the least Trained generator of which several workers may hold a share each."""

import time
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Batch, Fields, Given, Layout


class Tower(Trained):
    """`shard`: whether its blocks are dealt to the workers (FSDP2), or copied (DDP); `step_seconds`: a step takes its time,
    for whoever disturbs it."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    kernel_rows = 1024

    def __init__(self, layout: Fields, *, width: int = 24, blocks: int = 2, shard: bool = True, step_seconds: float = 0.0) -> None:
        super().__init__()
        self.shard, self.step_seconds = shard, step_seconds
        self.start = nn.Parameter(torch.randn(1, width))
        self.blocks = nn.ModuleList(nn.Linear(width, width) for _ in range(blocks))
        self.heads = nn.ParameterList(nn.Parameter(torch.randn(width, size) / width**0.5) for size in layout.sizes)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def shards(self) -> list[nn.Module]:
        return list(self.blocks) if self.shard else []

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        time.sleep(self.step_seconds)
        codes_BF = batch["codes"].long()
        logits = [row.expand(len(codes_BF), -1) for row in self._logits()]
        return torch.stack([functional.cross_entropy(row, codes) for row, codes in zip(logits, codes_BF.T, strict=True)]).sum()

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        cdfs = [torch.cumsum(torch.softmax(row[0], 0), 0).double().cpu().numpy() for row in self._logits()]
        codes = [np.searchsorted(cdf, draws.uniform(f"f{i}") * cdf[-1], side="right") for i, cdf in enumerate(cdfs)]
        return Batch({"codes": np.stack(codes, axis=1).astype(np.int32)})

    def _logits(self) -> list[Tensor]:
        x_1W = self.start
        for block in self.blocks:
            x_1W = x_1W + functional.relu(block(x_1W))
        return [x_1W @ head for head in self.heads]
