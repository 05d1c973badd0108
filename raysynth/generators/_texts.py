"""What all generators of texts share: the other columns are drawn by a table's network, and the texts, given them, token by token.

The codes come from an Autoregressive of the same fields, so that any condition on them is met exactly, as in a table. The texts of a call
are drawn in SLOTS places at a time, each at a step of its own; a row that has ended makes room for the next. All products have SLOTS
rows, whoever they are, and what a row reads is its own: so its bytes depend on its draws alone. A row may be led: what it reads before its
first token (its control tokens) is known, as are the first tokens of a text whose beginning was asked for.

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators.autoregressive import CHUNK_ROWS, Autoregressive
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Beginning, Facts, Fields, Given, Layout, Tokens, TokensGiven

SLOTS = 128
GROUP_ROWS = 32  # rows of like length, which are learnt from together: what is shorter than the longest of them is padded
TEMPERATURES = [
    round(0.5 + 0.05 * step, 2) for step in range(11)
]  # the last is what was learnt: a text may be as varied, never more
CALIBRATED_ROWS, LEAST_CALIBRATED, LEAST_DIFFERENT = 512, 64, 0.2
Share = Annotated[float, Limits(gt=0, le=1)]
Positive = Annotated[float, Limits(gt=0)]
Repetition = Annotated[float, Limits(ge=1)]
Count = Annotated[int, Limits(ge=1)]
Natural = Annotated[int, Limits(ge=0)]
Dropout = Annotated[float, Limits(ge=0, lt=1)]
Memory = dict[str, Tensor]
"""What the network keeps of each slot, slots first."""


class Texts(Trained):
    """`temperature` divides the logits (null: as far below 1 as makes the texts as varied as validation texts are, since a network that has
    seen little spreads what it knows too thin); of the tokens only the `top_k` likeliest (0: all), and of those the likeliest that hold
    `top_p` of the probability, are drawn; `repetition` above 1 makes tokens that the row has already less likely (Keskar et al., "CTRL",
    arXiv 1909.05858, section 4.1)."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Tokens,)
    kernel_rows = 2048
    chunk_rows = CHUNK_ROWS

    def __init__(
        self,
        layout: Tokens,
        width: int,
        temperature: float | None,
        top_k: int,
        top_p: float,
        repetition: float,
        spread: float = 0.02,
    ) -> None:
        super().__init__()
        self.shape, self.top_k, self.top_p, self.repetition = layout, top_k, top_p, repetition
        self.asked, self.temperature = temperature, temperature or 1.0
        self.table = Autoregressive(Fields(layout.fields)) if layout.fields else None
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(field.size, width) * spread) for field in layout.fields)

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        self.temperature = self.asked or facts.get("temperature", 1.0)
        if self.table is not None:
            self.table.forget()

    def state(self) -> tuple[Arrays, Facts]:
        return super().state()[0], {"temperature": self.temperature}

    def calibrate(self, rows: Iterable[Batch]) -> None:
        """The lowest of TEMPERATURES at which as many pairs of tokens are different as in the rows, found by halving. Where the rows say the
        same few things again and again, that would tell nothing: they are drawn as they were learnt."""
        if self.asked is not None:
            return
        real = first_rows(rows, self.shape, CALIBRATED_ROWS)["tokens"]
        self.temperature = TEMPERATURES[-1]
        if len(real) < LEAST_CALIBRATED or different(real) < LEAST_DIFFERENT:
            return
        draws, low, high = Draws.range(0, "calibrate", 0, CALIBRATED_ROWS), 0, len(TEMPERATURES) - 1
        while low < high:
            middle = (low + high) // 2
            self.temperature = TEMPERATURES[middle]
            if less_varied(self.sample(draws, None)["tokens"], real):
                low = middle + 1
            else:
                high = middle
        self.temperature = TEMPERATURES[low]

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
        begun = given.begun if isinstance(given, TokensGiven) else ()
        tokens = self._draw(codes, draws, self.starts(draws).astype(np.float32), begun)
        return Batch({"codes": codes, "tokens": tokens}, accepted & ((tokens == Tokens.END).sum(axis=1) == self.shape.texts))

    @torch.inference_mode()
    def go_on(self, rows: Batch, draws: Draws) -> Batch:
        """Rows that are written in part, PAD from there on → the same rows, written to their end."""
        tokens = self._draw(rows["codes"], draws, self.starts(draws).astype(np.float32), written=rows["tokens"])
        return Batch({"codes": rows["codes"], "tokens": tokens}, (tokens == Tokens.END).sum(axis=1) == self.shape.texts)

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
        """(R, V) of the next token. (R,): `previous` is what is read at `place` (from `led`, then END, then the row's tokens), `text` the
        number of the text that the next token belongs to. Keeps in `memory` what later steps need."""

    def led(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """(rows, L): what is read before a row's first token, in numbers that `logits` knows."""
        return np.zeros((len(codes), 0), dtype=np.int64)

    def _draw(
        self,
        codes: NDArray[np.int32],
        draws: Draws,
        start: NDArray[np.float32],
        begun: tuple[Beginning | None, ...] = (),
        written: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        """(rows, T) tokens. Rows enter the slots in their order. `written` (rows, T): what stands there already, PAD where it is drawn."""
        rows, length = len(draws), self.shape.length
        device = next(self.parameters()).device
        uniform = draws.uniform("token", length).astype(np.float32)
        led = np.concatenate([self.led(codes), np.full((rows, 1), Tokens.END)], axis=1)
        lead, beginnings = led.shape[1] - 1, _Beginnings(begun, device)
        known = self._known(codes, start, device)
        context = {name: array[:SLOTS].clone() for name, array in known.items()}
        memory, nullable = self.memory(device), np.array(self.shape.nullable)
        seen_RV = torch.zeros((SLOTS, self.shape.vocabulary), dtype=torch.bool, device=device)
        barred_2PV = torch.from_numpy(self.shape.barred()).to(device) if self.shape.roles else None
        tokens = np.full((rows, length), Tokens.PAD, dtype=np.int32)
        row, waiting = np.arange(SLOTS), SLOTS
        place, text, within = (np.zeros(SLOTS, dtype=np.int64) for _ in range(3))
        previous = led[np.minimum(row, rows - 1), 0]
        while len(busy := np.flatnonzero(row < rows)):
            logits = self.logits(context, memory, *(torch.from_numpy(array).to(device) for array in (previous, place, text)))
            writes = busy[place[busy] >= lead]
            at, column = np.zeros(SLOTS, dtype=np.float32), np.maximum(place - lead, 0)
            at[writes] = uniform[row[writes], column[writes]]
            of_text = np.minimum(text, self.shape.texts - 1)
            if barred_2PV is not None:
                behind = (torch.from_numpy(array).to(device) for array in ((within > 0).astype(np.int64), of_text))
                logits = logits.masked_fill(barred_2PV[*behind], -torch.inf)
            logits = beginnings.kept_to(logits, of_text)
            told = (torch.from_numpy(array).to(device) for array in (within == 0, previous, nullable[of_text], at))
            drawn = self._chosen(logits, seen_RV, *told).cpu().numpy()
            if written is not None:
                stands = written[row[writes], column[writes]]
                drawn[writes] = np.where(stands == Tokens.PAD, drawn[writes], stands)
            tokens[row[writes], column[writes]] = drawn[writes]
            if self.repetition != 1:
                seen_RV[torch.from_numpy(writes), torch.from_numpy(drawn[writes])] = True
            place = place + 1
            reads = np.flatnonzero((place <= lead) & (row < rows))
            previous = drawn.copy()
            previous[reads] = led[row[reads], place[reads]]
            text[writes] += drawn[writes] == Tokens.END
            beginnings.wrote(drawn, writes)
            within[writes] = np.where(drawn[writes] == Tokens.END, 0, within[writes] + 1)
            ended = busy[(text[busy] == self.shape.texts) | (place[busy] == lead + length)]
            if len(ended):
                row[ended] = np.arange(waiting, waiting + len(ended))
                waiting += len(ended)
                place[ended], text[ended], within[ended], seen_RV[torch.from_numpy(ended)] = 0, 0, 0, False
                beginnings.written[ended] = 0
                enters = ended[row[ended] < rows]
                previous[enters] = led[row[enters], 0]
                for name, array in context.items():
                    array[torch.from_numpy(enters)] = known[name][torch.from_numpy(row[enters])]
            idle = row >= rows
            previous[idle], place[idle], text[idle], within[idle] = Tokens.END, 0, 0, 0
        return tokens

    def _known(self, codes: NDArray[np.int32], start: NDArray[np.float32], device: torch.device) -> Memory:
        parts: list[Memory] = []
        for first in range(0, len(codes), SLOTS):
            rows = np.arange(first, first + SLOTS) % len(codes)
            told = (torch.from_numpy(array[rows]).to(device) for array in (codes.astype(np.int64), start))
            parts.append(self.contexts(*told))
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _chosen(
        self, logits_RV: Tensor, seen_RV: Tensor, first_R: Tensor, previous_R: Tensor, nullable_R: Tensor, uniform_R: Tensor
    ) -> Tensor:
        """(R,) tokens by the inverse of the distribution function. A text is NULL or has tokens, never both, and never none."""
        after_null = ~first_R & (previous_R == Tokens.NULL)
        if self.repetition != 1:
            less = torch.where(logits_RV > 0, logits_RV / self.repetition, logits_RV * self.repetition)
            again = [Tokens.END, *(role for roles in self.shape.roles for role in roles or ())]
            less[:, again] = logits_RV[:, again]  # or no row would have as many texts as it must, and nobody would answer
            logits_RV = torch.where(seen_RV, less, logits_RV)
        logits_RV = logits_RV / self.temperature
        logits_RV[:, [Tokens.PAD, *self.shape.never]] = -torch.inf
        logits_RV[first_R, Tokens.END] = -torch.inf
        logits_RV[~first_R | ~nullable_R, Tokens.NULL] = -torch.inf
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


def first_rows(rows: Iterable[Batch], shape: Tokens, most: int) -> Batch:
    """So many of them, or all there are; no more batches are read than that takes."""
    found, count = (
        [Batch({"codes": np.zeros((0, len(shape.fields)), np.int32), "tokens": np.zeros((0, shape.length), np.int32)})],
        0,
    )
    for batch in rows:
        found.append(batch.take(slice(0, most - count)))
        if (count := count + found[-1].rows) == most:
            break
    return Batch({name: np.concatenate([batch[name] for batch in found]) for name in ("codes", "tokens")})


def less_varied(made: NDArray[np.int32], real: NDArray[np.int32]) -> bool:
    """Of as many pairs of tokens that follow one another in a text, fewer are different."""
    pairs = [_pairs(tokens) for tokens in (made, real)]
    count = min(map(len, pairs))
    return len(np.unique(pairs[0][:count])) < len(np.unique(pairs[1][:count]))


def different(tokens: NDArray[np.int32]) -> float:
    """The share of the pairs of tokens that are different."""
    pairs = _pairs(tokens)
    return len(np.unique(pairs)) / max(1, len(pairs))


def _pairs(tokens: NDArray[np.int32]) -> NDArray[np.int64]:
    left, right = tokens[:, :-1].astype(np.int64), tokens[:, 1:].astype(np.int64)
    return ((left << 32) + right)[(left > Tokens.NULL) & (right > Tokens.NULL)]


class _Beginnings:
    """Which tokens may come next in each slot, as long as the beginning that its text must have is not written; `written`: bytes of it."""

    def __init__(self, begun: tuple[Beginning | None, ...], device: torch.device) -> None:
        known = [one for one in begun if one is not None]
        lengths = [0 if one is None else len(one.allowed) for one in begun]
        self.lengths, self.first = np.array(lengths, dtype=np.int64), np.cumsum([0, *lengths])[:-1]
        self.spelled = known[0].spelled if known else np.zeros(0, dtype=np.int64)
        self.barred_BV = torch.from_numpy(~np.concatenate([one.allowed for one in known])).to(device) if known else None
        self.written = np.zeros(SLOTS, dtype=np.int64)

    def kept_to(self, logits_RV: Tensor, text: NDArray[np.int64]) -> Tensor:
        if self.barred_BV is None:
            return logits_RV
        begins = self.written < self.lengths[text]
        at = torch.from_numpy(np.where(begins, self.first[text] + self.written, 0)).to(logits_RV.device)
        return logits_RV.masked_fill(self.barred_BV[at] & torch.from_numpy(begins).to(at.device)[:, None], -torch.inf)

    def wrote(self, drawn: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        if self.barred_BV is not None:
            self.written[slots] = np.where(drawn[slots] == Tokens.END, 0, self.written[slots] + self.spelled[drawn[slots]])


def lengths_of(tokens_BT: Tensor) -> Tensor:
    """(B,): tokens of each row, without the padding."""
    return (tokens_BT != Tokens.PAD).sum(1)


def dropped(x: Tensor, share: float, noise: torch.Generator) -> Tensor:
    """x with a share of its numbers set to nothing, the others raised as much."""
    if share == 0:
        return x
    return x * (torch.empty(x.shape, device=x.device).bernoulli_(1 - share, generator=noise) / (1 - share))


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
