"""What all generators of pictures share: the other columns are drawn by a table's network, and the picture given them.

The codes come from an Autoregressive of the same fields, so that any condition on them is met exactly, as in a table. A picture is drawn
from what its row's codes say (and the row's texts, where the layout has some), CHUNK pictures at a time, so that no product ever has
another shape: its bytes depend on its own draws alone.

Shapes: B rows, C channels, H height, W width, D what is told of a row.
"""

from abc import abstractmethod
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators.autoregressive import CHUNK_ROWS, Autoregressive
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Facts, Fields, Given, Grids, Layout, Tokens

CHUNK = 32
JUDGED_ROWS = 256  # of a validation batch at a time: what a network keeps of a picture is many times the picture


class Pictures(Trained):
    """`width`: of what is told of a row (D)."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Grids,)
    kernel_rows = 256
    chunk_rows = CHUNK

    def __init__(self, layout: Grids, width: int) -> None:
        super().__init__()
        self.shape, self.width = layout, width
        self.table = Autoregressive(Fields(layout.fields)) if layout.fields else None
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(field.size, width) * width**-0.5) for field in layout.fields)
        words = layout.tokens.vocabulary if layout.tokens is not None else 0
        self.words = nn.Parameter(torch.randn(words, width) * width**-0.5) if words else None

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        if self.table is not None:
            self.table.forget()

    # --- training ------------------------------------------------------------------------------------------------------------

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Of a picture given its codes, and on the last turn the nats of the codes as well. The mean over the rows."""
        table = self.table.loss({"codes": batch["codes"]}, turn, draws) if self.table and turn == self.turns[-1] else 0.0
        return self.given_loss(batch, turn, draws) + table

    def given_loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Of the pictures alone, given all the rest."""
        noise = torch.Generator(batch["pixels"].device)
        noise.manual_seed(int(draws.words("noise")[0] >> np.uint64(1)))
        rows = len(batch["pixels"])
        pieces = [batch] if self.training else _pieces(batch, JUDGED_ROWS)
        losses = [self._loss_of(piece, turn, noise) * len(piece["pixels"]) for piece in pieces]
        return torch.stack(losses).sum() / rows

    def _loss_of(self, batch: TensorBatch, turn: str, noise: torch.Generator) -> Tensor:
        told_BD = self.told_by(batch["codes"].long(), batch["tokens"].long() if self.words is not None else None)
        return self.picture_loss(self.to_signal(batch["pixels"]), told_BD, turn, noise)

    @abstractmethod
    def picture_loss(self, x_BCHW: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        """Mean over the rows of one turn's loss; all that is random in it comes from `noise`."""

    def told_by(self, codes: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, fields) codes and (B, T) tokens → (B, D): what they say, all together; of the words their mean."""
        found = [table[codes[:, number]] for number, table in enumerate(self.codes)]
        if self.words is not None and tokens is not None:
            is_word_BT1 = (tokens > Tokens.NULL)[..., None]
            said_BTD = self.words[tokens] * is_word_BT1
            found.append(said_BTD.sum(1) / is_word_BT1.sum(1).clamp(min=1) ** 0.5)
        if not found:
            return torch.zeros(len(codes), self.width, device=codes.device)
        return torch.stack(found).sum(0)

    def to_signal(self, pixels: Tensor) -> Tensor:
        """(B, H·W·C) bytes → (B, C, H, W) in [-1, 1]."""
        shape = self.shape
        x = pixels.reshape(-1, shape.height, shape.width, shape.channels).permute(0, 3, 1, 2)
        return x.float() / 127.5 - 1

    # --- sampling ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        codes, accepted = np.zeros((len(draws), 0), dtype=np.int32), None
        if self.table is not None:
            padded = draws.take(np.arange(-(-len(draws) // CHUNK_ROWS) * CHUNK_ROWS) % len(draws))
            drawn = self.table.sample(padded, given).take(slice(0, len(draws)))
            codes, accepted = drawn["codes"], drawn.accepted
        return Batch({"codes": codes, "pixels": self.draw(codes, None, draws)}, accepted)

    @torch.inference_mode()
    def draw(self, codes: NDArray[np.int32], tokens: NDArray[np.int32] | None, draws: Draws) -> NDArray[np.uint8]:
        """(rows, fields) codes and (rows, T) tokens, a multiple of CHUNK rows → (rows, H·W·C) pixels."""
        device = next(self.parameters()).device
        found: list[NDArray[np.uint8]] = []
        for first in range(0, len(draws), CHUNK):
            rows = np.arange(first, first + CHUNK)
            said_BT = None if tokens is None else torch.from_numpy(tokens[rows].astype(np.int64)).to(device)
            told_BD = self.told_by(torch.from_numpy(codes[rows].astype(np.int64)).to(device), said_BT)
            x_BCHW = self.pictures(told_BD, draws.take(rows))
            pixels = ((x_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
            found.append(pixels.reshape(len(rows), -1).cpu().numpy())
        return np.concatenate(found)

    @abstractmethod
    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        """CHUNK rows of what is told → (B, C, H, W) in [-1, 1], each a function of its own draws."""


def _pieces(batch: TensorBatch, rows: int) -> list[TensorBatch]:
    """So many rows of it at a time."""
    count = len(batch["pixels"])
    return [{name: value[start : start + rows] for name, value in batch.items()} for start in range(0, count, rows)]
