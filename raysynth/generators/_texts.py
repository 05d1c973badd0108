"""What all generators of texts share: the other columns are drawn by a table's network, and the texts, given them, token by token.

The codes come from an Autoregressive of the same fields, so that any condition on them is met exactly, as in a table. The texts of a call
are drawn in SLOTS places at a time, each at a step of its own; a row that has ended makes room for the next. All products have SLOTS
rows, whoever they are, and what a row reads is its own: so its bytes depend on its draws alone.

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width.
"""

from abc import abstractmethod
from collections.abc import Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators.autoregressive import CHUNK_ROWS, Autoregressive
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Facts, Fields, Given, Layout, Tokens

SLOTS = 128
GROUP_ROWS = 32  # rows of like length, which are learnt from together: what is shorter than the longest of them is padded
Share = Annotated[float, Limits(gt=0, le=1)]
Positive = Annotated[float, Limits(gt=0)]
Count = Annotated[int, Limits(ge=1)]
Natural = Annotated[int, Limits(ge=0)]
Dropout = Annotated[float, Limits(ge=0, lt=1)]
Memory = dict[str, Tensor]
"""What the network keeps of each slot, slots first."""


class Texts(Trained):
    """`temperature` divides the logits; of the tokens only the `top_k` likeliest (0: all), and of those the likeliest that hold `top_p` of
    the probability, are drawn. What a text generator learns is the tokens as they are: the defaults draw from just that."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Tokens,)
    kernel_rows = 2048
    chunk_rows = CHUNK_ROWS

    def __init__(self, layout: Tokens, width: int, temperature: float, top_k: int, top_p: float, spread: float = 0.02) -> None:
        super().__init__()
        self.shape, self.temperature, self.top_k, self.top_p = layout, temperature, top_k, top_p
        self.table = Autoregressive(Fields(layout.fields)) if layout.fields else None
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(field.size, width) * spread) for field in layout.fields)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        if self.table is not None:
            self.table.forget()

    # --- training ------------------------------------------------------------------------------------------------------------

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Nats of a row: of its codes, and of its texts given them."""
        noise = torch.Generator(batch["tokens"].device)
        noise.manual_seed(int(draws.words("noise")[0] >> np.uint64(1)))
        losses = [self.text_loss(group["codes"].long(), group["tokens"].long(), noise) for group in _groups(batch)]
        text = torch.stack(losses).sum() / len(batch["tokens"])
        return text if self.table is None else text + self.table.loss({"codes": batch["codes"]}, turn, draws)

    @abstractmethod
    def text_loss(self, codes: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        """Sum over the rows, all of about one length, padded to the longest of them."""

    def told_by(self, codes: Tensor) -> Tensor:
        """(B, fields) codes → (B, D): what they say, all together."""
        found = [table[codes[:, number]] for number, table in enumerate(self.codes)]
        return torch.stack(found).sum(0) if found else torch.zeros(())

    # --- sampling ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        """A row is accepted where its codes are and its texts end in the room there is."""
        codes, accepted = np.zeros((len(draws), 0), dtype=np.int32), np.ones(len(draws), dtype=np.bool_)
        if self.table is not None:
            drawn = self.table.sample(draws, given)
            codes, accepted = drawn["codes"], accepted if drawn.accepted is None else drawn.accepted
        tokens = self._draw(codes, draws, self.starts(draws).astype(np.float32))
        return Batch({"codes": codes, "tokens": tokens}, accepted & ((tokens == Tokens.END).sum(axis=1) == self.shape.texts))

    def starts(self, draws: Draws) -> NDArray[np.float64]:
        """(rows, any): what else than its codes a row is written from."""
        return np.zeros((len(draws), 0))

    @abstractmethod
    def contexts(self, codes: Tensor, start: Tensor) -> Memory:
        """SLOTS rows of codes and `starts` → what the network knows of each before its first token."""

    @abstractmethod
    def memory(self, device: torch.device) -> Memory:
        """Room for SLOTS rows, which may hold anything finite."""

    @abstractmethod
    def logits(self, context: Memory, memory: Memory, previous: Tensor, place: Tensor, text: Tensor) -> Tensor:
        """(R, V) of the next token. (R,): `previous` is the token before it (END before the first), `place` its number in the row, `text`
        the number of the text that it belongs to. Keeps in `memory` what later steps need."""

    def _draw(self, codes: NDArray[np.int32], draws: Draws, start: NDArray[np.float32]) -> NDArray[np.int32]:
        """(rows, T) tokens. Rows enter the slots in their order."""
        rows, length = len(draws), self.shape.length
        device = next(self.parameters()).device
        uniform = draws.uniform("token", length).astype(np.float32)
        known = self._known(codes, start, device)
        context = {name: array[:SLOTS].clone() for name, array in known.items()}
        memory, nullable = self.memory(device), np.array(self.shape.nullable)
        tokens = np.full((rows, length), Tokens.PAD, dtype=np.int32)
        row, place, text = np.arange(SLOTS), np.zeros(SLOTS, dtype=np.int64), np.zeros(SLOTS, dtype=np.int64)
        previous, waiting = np.full(SLOTS, Tokens.END, dtype=np.int64), SLOTS
        while len(busy := np.flatnonzero(row < rows)):
            logits = self.logits(context, memory, *(torch.from_numpy(array).to(device) for array in (previous, place, text)))
            at = np.zeros(SLOTS, dtype=np.float32)
            at[busy] = uniform[row[busy], place[busy]]
            told = (torch.from_numpy(array).to(device) for array in (previous, nullable[np.minimum(text, len(nullable) - 1)], at))
            drawn = self._chosen(logits, *told).cpu().numpy()
            tokens[row[busy], place[busy]] = drawn[busy]
            previous, place, text = drawn, place + 1, text + (drawn == Tokens.END)
            ended = busy[(text[busy] == self.shape.texts) | (place[busy] == length)]
            if len(ended):
                row[ended] = np.arange(waiting, waiting + len(ended))
                waiting += len(ended)
                previous[ended], place[ended], text[ended] = Tokens.END, 0, 0
                enters = ended[row[ended] < rows]
                for name, array in context.items():
                    array[torch.from_numpy(enters)] = known[name][torch.from_numpy(row[enters])]
            place[row >= rows], text[row >= rows] = 0, 0
        return tokens

    def _known(self, codes: NDArray[np.int32], start: NDArray[np.float32], device: torch.device) -> Memory:
        parts: list[Memory] = []
        for first in range(0, len(codes), SLOTS):
            rows = np.arange(first, first + SLOTS) % len(codes)
            told = (torch.from_numpy(array[rows]).to(device) for array in (codes.astype(np.int64), start))
            parts.append(self.contexts(*told))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _chosen(self, logits_RV: Tensor, previous_R: Tensor, nullable_R: Tensor, uniform_R: Tensor) -> Tensor:
        """(R,) tokens by the inverse of the distribution function. A text is NULL or has tokens, never both."""
        after_null, inside = previous_R == Tokens.NULL, previous_R != Tokens.END
        logits_RV = logits_RV / self.temperature
        logits_RV[:, Tokens.PAD] = -torch.inf
        logits_RV[inside | ~nullable_R, Tokens.NULL] = -torch.inf
        logits_RV[after_null, Tokens.NULL :] = -torch.inf
        p_RV = torch.softmax(self._cut(logits_RV), dim=1)
        cdf_RV = torch.cumsum(p_RV, dim=1)
        total_R = cdf_RV[:, -1]
        # below the total, so that the token found is one of positive probability
        below_R = torch.minimum(uniform_R * total_R, torch.nextafter(total_R, torch.zeros_like(total_R)))
        return torch.searchsorted(cdf_RV, below_R[:, None], right=True)[:, 0].clamp(max=logits_RV.shape[1] - 1)

    def _cut(self, logits_RV: Tensor) -> Tensor:
        if self.top_k:
            least_R1 = logits_RV.topk(min(self.top_k, logits_RV.shape[1]), dim=1).values[:, -1:]
            logits_RV = logits_RV.masked_fill(logits_RV < least_R1, -torch.inf)
        if self.top_p < 1:
            sorted_RV, order_RV = logits_RV.sort(dim=1, descending=True, stable=True)
            p_RV = torch.softmax(sorted_RV, dim=1)
            beyond_RV = torch.cumsum(p_RV, dim=1) - p_RV >= self.top_p
            logits_RV = logits_RV.masked_fill(torch.zeros_like(beyond_RV).scatter(1, order_RV, beyond_RV), -torch.inf)
        return logits_RV


def lengths_of(tokens_BT: Tensor) -> Tensor:
    """(B,): tokens of each row, without the padding."""
    return (tokens_BT != Tokens.PAD).sum(1)


def dropped(x: Tensor, share: float, noise: torch.Generator) -> Tensor:
    """x with a share of its numbers set to nothing, the others raised as much."""
    if share == 0:
        return x
    return x * (torch.empty(x.shape, device=x.device).bernoulli_(1 - share, generator=noise) / (1 - share))


def texts_of(tokens_BT: Tensor) -> Tensor:
    """(B, T): the number of the text that each token belongs to."""
    ends = (tokens_BT == Tokens.END).long()
    return ends.cumsum(1) - ends


def shifted(tokens_BT: Tensor) -> Tensor:
    """(B, T): the token before each, END before the first."""
    return torch.cat([torch.full_like(tokens_BT[:, :1], Tokens.END), tokens_BT[:, :-1]], dim=1)


def _groups(batch: TensorBatch) -> Iterator[TensorBatch]:
    """The rows by their length, GROUP_ROWS at a time, cut to the longest of them."""
    lengths = lengths_of(batch["tokens"])
    order = torch.argsort(lengths, stable=True)
    for rows in order.split(GROUP_ROWS):
        longest = int(lengths[rows[-1]])
        yield {"codes": batch["codes"][rows], "tokens": batch["tokens"][rows][:, : max(1, longest)]}
