"""What all generators of pictures share: the other columns are drawn by a table's network, and the picture given them.

The codes come from an Autoregressive of the same fields, so that any condition on them is met exactly, as in a table; it learns in a turn
of its own, beside the picture's. A picture is drawn from what its row's codes say (and the row's texts, where the layout has some), CHUNK
pictures at a time, so that no product ever has another shape: its bytes depend on its own draws alone.

Shapes: B rows, C channels, H height, W width, D what is told of a row, T tokens.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators.autoregressive import CHUNK_ROWS, Autoregressive
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Facts, Fields, Given, Grids, Layout, Tokens

CHUNK = 32
JUDGED_ROWS = 256  # of a validation batch at a time: what a network keeps of a picture is many times the picture
LEARNS_TABLE = "table"
Count = Annotated[int, Limits(ge=1)]
Width = Annotated[int, Limits(ge=8, multiple_of=8)]
Natural = Annotated[int, Limits(ge=0)]


class Pictures(Trained):
    """`told`: the width of what is told of a row (D). `picture_turns`: those of the picture alone."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Grids,)
    picture_turns: ClassVar[tuple[str, ...]] = ("model",)
    kernel_rows = 256
    most_batch_rows = 32
    chunk_rows = CHUNK

    def __init__(self, layout: Grids, told: int) -> None:
        super().__init__()
        self.shape, self.told = layout, told
        self.table = Autoregressive(Fields(layout.fields)) if layout.fields else None
        self.turns = (*self.picture_turns, LEARNS_TABLE) if self.table is not None else self.picture_turns
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(field.size, told)) for field in layout.fields)
        words = layout.tokens.vocabulary if layout.tokens is not None else 0
        self.words = nn.Parameter(torch.randn(words, told)) if words else None

    def without_table(self) -> None:
        """From now on others draw the codes."""
        self.table, self.turns = None, self.picture_turns

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        if self.table is not None:
            self.table.forget()

    @property
    def pixels(self) -> int:
        """Numbers in a picture."""
        return self.shape.height * self.shape.width * self.shape.channels

    # --- training ------------------------------------------------------------------------------------------------------------

    def players(self) -> dict[str, list[nn.Parameter]]:
        table = {LEARNS_TABLE: list(self.table.parameters())} if self.table is not None else {}
        return self.picture_players() | table

    def judged(self) -> dict[tuple[str, ...], str]:
        """The table has learnt long before the pictures have."""
        return {self.picture_turns: "", **({(LEARNS_TABLE,): "table."} if self.table is not None else {})}

    def picture_players(self) -> dict[str, list[nn.Parameter]]:
        """Of `picture_turns`."""
        return {"model": [value for name, value in self.named_parameters() if not name.startswith("table.")]}

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Of the codes in nats, or of the pictures given all the rest. The mean over the rows."""
        if turn == LEARNS_TABLE and self.table is not None:
            return self.table.loss({"codes": batch["codes"]}, turn, draws)
        noise = torch.Generator(batch["pixels"].device)
        noise.manual_seed(int(draws.words("noise")[0] >> np.uint64(1)))
        rows = len(batch["pixels"])
        pieces = [batch] if self.training else _pieces(batch, JUDGED_ROWS)
        losses = [self._loss_of(piece, turn, noise) * len(piece["pixels"]) for piece in pieces]
        return torch.stack(losses).sum() / rows

    def _loss_of(self, batch: TensorBatch, turn: str, noise: torch.Generator) -> Tensor:
        codes, tokens = batch["codes"].long(), batch["tokens"].long() if self.words is not None else None
        return self.picture_loss(self.to_signal(batch["pixels"]), codes, self.told_by(codes, tokens), turn, noise)

    @abstractmethod
    def picture_loss(self, x_BCHW: Tensor, codes: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        """Mean over the rows of one turn's loss, of a whole picture each, so that it weighs what it should beside the codes' nats where
        both are judged; all that is random in it comes from `noise`."""

    def told_by(self, codes: Tensor, tokens: Tensor | None) -> Tensor:
        """(B, fields) codes and (B, T) tokens → (B, D): what they say, all together, at first of variance 1: sums over roots of numbers."""
        found = [table[codes[:, number]] for number, table in enumerate(self.codes)]
        if self.words is not None and tokens is not None:
            is_word_BT1 = (tokens > Tokens.NULL)[..., None]
            said_BTD = self.words[tokens] * is_word_BT1
            found.append(said_BTD.sum(1) / is_word_BT1.sum(1).clamp(min=1) ** 0.5)
        if not found:
            return torch.zeros(len(codes), self.told, device=codes.device)
        return torch.stack(found).sum(0) / len(found) ** 0.5

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
        return Batch({"codes": codes, "pixels": self.draw(codes, None, draws, accepted)}, accepted)

    @torch.inference_mode()
    def draw(
        self, codes: NDArray[np.int32], tokens: NDArray[np.int32] | None, draws: Draws, accepted: NDArray[np.bool_] | None = None
    ) -> NDArray[np.uint8]:
        """(rows, fields) codes and (rows, T) tokens → (rows, H·W·C) pixels; all 0 where the row is not accepted."""
        device = next(self.parameters()).device
        wanted = np.arange(len(draws)) if accepted is None else np.flatnonzero(accepted)
        pixels = np.zeros((len(draws), self.pixels), dtype=np.uint8)
        for first in range(0, len(wanted), CHUNK):
            rows = np.resize(wanted[first : first + CHUNK], CHUNK)  # the last ones again and again, until it is a whole chunk
            said_BT = None if tokens is None else torch.from_numpy(tokens[rows].astype(np.int64)).to(device)
            told_BD = self.told_by(torch.from_numpy(codes[rows].astype(np.int64)).to(device), said_BT)
            x_BCHW = self.pictures(told_BD, draws.take(rows))
            made = ((x_BCHW.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1)
            pixels[rows] = made.reshape(CHUNK, -1).cpu().numpy()
        return pixels

    @abstractmethod
    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        """CHUNK rows of what is told → (B, C, H, W) in [-1, 1], each a function of its own draws."""

    def normal(self, draws: Draws, name: str, *shape: int) -> Tensor:
        """(rows, *shape) float32, on the device of the weights."""
        return torch.from_numpy(draws.normal(name, *shape).astype(np.float32)).to(next(self.parameters()).device)


def _pieces(batch: TensorBatch, rows: int) -> list[TensorBatch]:
    """So many rows of it at a time."""
    count = len(batch["pixels"])
    return [{name: value[start : start + rows] for name, value in batch.items()} for start in range(0, count, rows)]
