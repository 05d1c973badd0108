"""Fields → a network that draws one field after another, each given those before it, and so conditions on any subset of them.

The family of TabularARGN (arXiv 2501.12012) and MADE (arXiv 1502.03509): every field has an embedding and a small residual network
that reads the embeddings of the fields before it. Training orders put a random subset of the columns first and keep the
rest in the order of sampling (narrow fields first), which are exactly the orders that `where` can ask for.

Shapes: B rows, F fields, K embedded width of all fields, H hidden width, S size of a field, U distinct prefixes, T target fields.
"""

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._acceptance import Bounds, Masks
from raysynth.generators.base import TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Facts, Fields, FieldsGiven, Given, Layout

CHUNK_ROWS = 512  # every matrix product of sampling has so many rows: float32 results depend on the shape
MAX_SHARED_KEYS = 1 << 20
MOST_DRAWS = 32  # for one accepted row: each costs a pass of the network
MAX_READ_WEIGHTS = 1 << 26  # 256 MiB: they grow with the square of the columns, and training holds some eight of them


class Autoregressive(Trained):
    """`hidden`: width of each field's network; `embedding`: widest embedding; `dropout` on hidden units, while training;
    `waves`: so many cosines over a field's codes are shared by its embedding and its head, since near codes mostly mean alike.
    Tables of some hundred fields get narrower networks, so that what the fields read stays within MAX_READ_WEIGHTS."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    kernel_rows = 16_384
    chunk_rows = CHUNK_ROWS

    def __init__(
        self, layout: Fields, *, hidden: int = 96, embedding: int = 16, dropout: float = 0.3, orders: int = 2, waves: int = 8
    ) -> None:
        super().__init__()
        self.sizes, self.dropout, self.orders = layout.sizes, dropout, orders
        self.columns = [field.column for field in layout.fields]
        self.widths, hidden = _widths(self.sizes, embedding, hidden)
        self.order = self._canonical_order()
        fields, width = len(self.sizes), sum(self.widths)
        self.embeddings = nn.ParameterList(nn.Parameter(smooth(size, w)) for size, w in zip(self.sizes, self.widths, strict=True))
        self.read = nn.Parameter(torch.randn(width, fields, hidden) / max(width, 1) ** 0.5)
        self.read_bias = nn.Parameter(torch.zeros(fields, hidden))
        self.turn = nn.Parameter(torch.randn(fields, hidden, hidden) * (2 / hidden) ** 0.5)
        self.turn_bias = nn.Parameter(torch.zeros(fields, hidden))
        self.heads = nn.ParameterList(nn.Parameter(torch.randn(hidden, size) * 0.5 / hidden**0.5) for size in self.sizes)
        self.head_biases = nn.ParameterList(nn.Parameter(torch.zeros(size)) for size in self.sizes)
        self.waves = [_waves(size, min(waves, size - 1)) for size in self.sizes]
        self.head_waves = nn.ParameterList(nn.Parameter(torch.zeros(hidden, len(wave))) for wave in self.waves)
        self.table_waves = nn.ParameterList(
            nn.Parameter(torch.zeros(len(wave), w)) for wave, w in zip(self.waves, self.widths, strict=True)
        )
        self.bounds = Bounds(MOST_DRAWS)
        self._bounds = np.concatenate([[0], np.cumsum(self.widths)]).astype(int).tolist()
        self._source_K = torch.repeat_interleave(torch.arange(fields), torch.tensor(self.widths, dtype=torch.long))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    # --- training ------------------------------------------------------------------------------------------------------------

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Mean over rows of the summed negative log-likelihoods of the fields (nats), each group of rows in an order of its own."""
        codes_BF = batch["codes"].long()
        noise = torch.Generator(codes_BF.device)
        noise.manual_seed(int(draws.words("dropout")[0] >> np.uint64(1)))
        picks = draws.uniform("order", len(self.sizes) + 2)[: self.orders]
        groups = [group for group in codes_BF.tensor_split(len(picks)) if len(group)]
        losses = [self._loss_in_order(group, self._training_order(pick), noise) for group, pick in zip(groups, picks, strict=False)]
        return torch.stack(losses).sum() / len(codes_BF)

    def _loss_in_order(self, codes_BF: Tensor, order: list[int], noise: torch.Generator) -> Tensor:
        rank_F = torch.empty(len(order), dtype=torch.long)
        rank_F[torch.tensor(order, dtype=torch.long)] = torch.arange(len(order))
        varied_K1 = torch.tensor(self.sizes)[self._source_K][:, None] > 1  # a field of one code tells nothing
        before_KF = ((rank_F[self._source_K][:, None] < rank_F[None, :]) & varied_K1).to(self.read)
        x_BK = torch.cat([self._table(i)[codes_BF[:, i]] for i in range(len(self.sizes))], dim=1)
        read = (self.read * before_KF[:, :, None]).flatten(1)
        z_BFH = functional.relu((x_BK @ read).unflatten(1, self.read_bias.shape) + self.read_bias)
        z_FBH = self._drop(z_BFH.transpose(0, 1), noise)
        z_FBH = z_FBH + self._drop(functional.relu(torch.baddbmm(self.turn_bias[:, None], z_FBH, self.turn)), noise)
        losses = [
            functional.cross_entropy(torch.addmm(bias, z_BH, self._head(i)), codes_BF[:, i], reduction="sum")
            for i, (z_BH, bias) in enumerate(zip(z_FBH.unbind(0), self.head_biases, strict=True))
            if self.sizes[i] > 1
        ]
        return torch.stack(losses).sum() if losses else x_BK.sum() * 0

    def _head(self, i: int) -> Tensor:
        """(H, S)"""
        return torch.addmm(self.heads[i], self.head_waves[i], self.waves[i].to(self.read.device))

    def _table(self, i: int) -> Tensor:
        """(S, width): the embeddings of the field's codes."""
        return torch.addmm(self.embeddings[i], self.waves[i].to(self.read.device).T, self.table_waves[i])

    def _drop(self, z: Tensor, noise: torch.Generator) -> Tensor:
        if not self.training or self.dropout == 0:
            return z
        # one mask for all fields: their networks are apart, and drawing it is what would cost
        keep = torch.empty_like(z[:1]).bernoulli_(1 - self.dropout, generator=noise)
        return z * (keep / (1 - self.dropout))

    def _training_order(self, uniform: NDArray[np.float64]) -> list[int]:
        """Half of the orders are the plain one; the others put a random subset of the columns first, small ones as often as big."""
        if uniform[0] < 0.5:
            return self.order
        share = uniform[1] ** 2
        return self._order_with_first(
            {i for i, column in enumerate(self.columns) if uniform[2 + self.columns.index(column)] < share}
        )

    def _canonical_order(self) -> list[int]:
        """Narrow columns first, so that many rows share a prefix; the fields of one column stay together."""
        widest = dict.fromkeys(self.columns, 0)
        for column, size in zip(self.columns, self.sizes, strict=True):
            widest[column] = max(widest[column], size)
        return sorted(range(len(self.sizes)), key=lambda i: (widest[self.columns[i]], self.columns.index(self.columns[i]), i))

    def _order_with_first(self, first: set[int]) -> list[int]:
        return [i for i in self.order if i in first] + [i for i in self.order if i not in first]

    # --- sampling ------------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        """Restricted columns are drawn first, renormalised on their masks; a row is then accepted in proportion to how much likelier
        it is in the plain order, in which unrestricted rows are drawn: so that both kinds follow one distribution."""
        masks = dict(given.masks) if isinstance(given, FieldsGiven) else {}
        codes_BF, weight_B = self._propose(draws, masks)
        return Batch({"codes": codes_BF}, self._accepted(draws, masks, weight_B) if masks else None)

    def _propose(self, draws: Draws, masks: Masks) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(rows, fields) codes that satisfy the masks, and (rows,) their weights: the density wanted over the density drawn from."""
        restricted = {self.columns[i] for i in masks}
        order = self._order_with_first({i for i, column in enumerate(self.columns) if column in restricted})
        codes_FB = np.zeros((len(self.sizes), len(draws)), dtype=np.int32)
        prefixes, context = Prefixes(len(draws)), Context(self.read, len(draws))
        weight_B = np.zeros(len(draws))
        for i in order:
            if self.sizes[i] > 1:
                mask = None if i not in masks else torch.from_numpy(masks[i]).to(self.read.device)
                codes_FB[i], mass_B, chosen_B = self._draw_field(i, context, prefixes, mask, draws)
                with np.errstate(divide="ignore"):  # a mass of 0 is a weight of 0
                    if mask is not None and context.width:  # the first mass is the same for all rows
                        weight_B += np.log(mass_B)
                    if masks and order != self.order:
                        weight_B -= np.log(np.maximum(chosen_B, 1e-30))
                prefixes.extend(codes_FB[i], self.sizes[i])
                context.extend(self._table(i), codes_FB[i], slice(self._bounds[i], self._bounds[i + 1]))
        codes_BF = np.ascontiguousarray(codes_FB.T)
        if masks and order != self.order:
            weight_B += self._log_likelihood(codes_BF)
        return codes_BF, np.exp(weight_B)

    def _accepted(self, draws: Draws, masks: Masks, weight_B: NDArray[np.float64]) -> NDArray[np.bool_]:
        return draws.uniform("accept") * self.bounds.of(masks, self.kernel_rows, self._weights) < weight_B

    def _weights(self, draws: Draws, masks: Masks) -> NDArray[np.float64]:
        return self._propose(draws, masks)[1]

    @torch.inference_mode()
    def fill(self, codes_BF: NDArray[np.int32], known_BF: NDArray[np.bool_], draws: Draws, masks: Masks) -> NDArray[np.int32]:
        """The codes, those that are not known drawn given those that are, each row's own: in the plain order, within the masks."""
        codes_BF = codes_BF.copy()
        x_BK = torch.zeros(len(codes_BF), self.read.shape[0], device=self.read.device)  # what is not known yet is read as nothing
        varied = [i for i in self.order if self.sizes[i] > 1]
        for i in varied:
            self._put(x_BK, i, codes_BF, np.flatnonzero(known_BF[:, i]))
        for i in varied:
            rows = np.flatnonzero(~known_BF[:, i])
            if len(rows):
                codes_BF[rows, i] = self._filled(i, x_BK, rows, masks.get(i), draws)
                self._put(x_BK, i, codes_BF, rows)
        return codes_BF

    def _put(self, x_BK: Tensor, i: int, codes_BF: NDArray[np.int32], rows: NDArray[np.int64]) -> None:
        codes = torch.from_numpy(codes_BF[rows, i].astype(np.int64)).to(x_BK.device)
        x_BK[torch.from_numpy(rows).to(x_BK.device), self._bounds[i] : self._bounds[i + 1]] = self._table(i).index_select(0, codes)

    def _filled(
        self, i: int, x_BK: Tensor, rows: NDArray[np.int64], mask: NDArray[np.bool_] | None, draws: Draws
    ) -> NDArray[np.int64]:
        """(len(rows),) codes of field i, given what stands in their lines of x_BK."""
        uniform = draws.take(rows).uniform(f"field-{i}").astype(np.float32)
        made: list[NDArray[np.int64]] = []
        for start in range(0, len(rows), CHUNK_ROWS):
            some = torch.from_numpy(_padded(rows[start : start + CHUNK_ROWS])).to(x_BK.device)
            p_CS = torch.softmax(self._logits(i, x_BK.index_select(0, some), self.read[:, i]), dim=1)
            cdf_CS = torch.cumsum(p_CS if mask is None else p_CS * torch.from_numpy(mask).to(p_CS), dim=1)
            total_C = cdf_CS[:, -1]
            uniform_C = torch.zeros(len(some), device=x_BK.device)
            uniform_C[: len(rows) - start] = torch.from_numpy(uniform[start : start + CHUNK_ROWS]).to(x_BK.device)
            below_C = torch.minimum(uniform_C * total_C, torch.nextafter(total_C, torch.zeros_like(total_C)))
            found = torch.searchsorted(cdf_CS, below_C[:, None], right=True)[:, 0].clamp(max=self.sizes[i] - 1)
            made.append(found.cpu().numpy()[: len(rows) - start])
        return np.concatenate(made)

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        self.forget()

    def forget(self) -> None:
        """What was seen of older weights."""
        self.bounds.clear()

    def _log_likelihood(self, codes_BF: NDArray[np.int32]) -> NDArray[np.float64]:
        """(rows,) in the plain order."""
        rows = _padded(np.arange(len(codes_BF)))
        codes_RF = torch.from_numpy(codes_BF[rows].astype(np.int64)).to(self.read.device)
        total_R = torch.zeros(len(rows), dtype=torch.float64, device=self.read.device)
        context = Context(self.read, len(codes_BF))
        for i in self.order:
            if self.sizes[i] > 1:
                weights_KH = context.weights(i)
                for x_CK, codes_CF, total_C in zip(
                    context.known().split(CHUNK_ROWS), codes_RF.split(CHUNK_ROWS), total_R.split(CHUNK_ROWS), strict=True
                ):
                    total_C += torch.log_softmax(self._logits(i, x_CK, weights_KH), dim=1).gather(1, codes_CF[:, i : i + 1])[:, 0]
                context.extend(self._table(i), codes_BF[:, i], slice(self._bounds[i], self._bounds[i + 1]))
        return total_R.cpu().numpy()[: len(codes_BF)]

    def _draw_field(
        self, i: int, context: "Context", prefixes: "Prefixes", mask: Tensor | None, draws: Draws
    ) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
        """(rows,) codes by the inverse of the distribution function, the mass of the mask, the probability of the code without it."""
        weights_KH = context.weights(i)
        known_UK = context.known() if not prefixes.shared else context.known()[torch.from_numpy(prefixes.padded_rows)]
        p_US = torch.cat([torch.softmax(self._logits(i, x_CK, weights_KH), dim=1) for x_CK in known_UK.split(CHUNK_ROWS)])
        cdf_US = torch.cat([torch.cumsum(p_CS if mask is None else p_CS * mask, dim=1) for p_CS in p_US.split(CHUNK_ROWS)])
        of_row = torch.from_numpy(prefixes.of_row).to(cdf_US.device)
        cdf_BS = cdf_US.index_select(0, of_row) if prefixes.shared else cdf_US[: len(draws)]
        total_B = cdf_BS[:, -1]
        uniform_B = torch.from_numpy(draws.uniform(f"field-{i}").astype(np.float32)).to(total_B.device)
        # below the total, so that the code found is one of positive probability
        below_B = torch.minimum(uniform_B * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
        code_B = torch.searchsorted(cdf_BS, below_B[:, None], right=True)[:, 0].clamp(max=self.sizes[i] - 1)
        chosen_B = p_US[of_row, code_B]
        return code_B.cpu().numpy(), total_B.cpu().numpy().astype(np.float64), chosen_B.cpu().numpy().astype(np.float64)

    def _logits(self, i: int, x_CK: Tensor, weights_KH: Tensor) -> Tensor:
        z_CH = torch.addmm(self.read_bias[i], x_CK, weights_KH).relu_()
        z_CH = z_CH + torch.addmm(self.turn_bias[i], z_CH, self.turn[i]).relu_()
        return torch.addmm(self.head_biases[i], z_CH, self._head(i))


class Context:
    """The embeddings of the fields drawn so far, side by side: (rows, padded to whole chunks; K of those fields)."""

    def __init__(self, read: Tensor, rows: int) -> None:
        self.read, self.rows = read, rows
        self.x_BK = torch.zeros(rows + -rows % CHUNK_ROWS, read.shape[0], device=read.device)
        self.width = 0
        self.read_rows = np.zeros(0, dtype=np.int64)

    def known(self) -> Tensor:
        return self.x_BK[:, : self.width]

    def weights(self, i: int) -> Tensor:
        """(K, H): what field i reads of the fields drawn, in their order."""
        return self.read[:, i].index_select(0, torch.from_numpy(self.read_rows).to(self.read.device))

    def extend(self, table: Tensor, codes_B: NDArray[np.int32], span: slice) -> None:
        width = table.shape[1]
        codes = torch.from_numpy(codes_B.astype(np.int64)).to(table.device)
        self.x_BK[: self.rows, self.width : self.width + width] = table.index_select(0, codes)
        self.width += width
        self.read_rows = np.append(self.read_rows, np.arange(span.start, span.stop))


class Prefixes:
    """The distinct prefixes of the rows drawn so far, each evaluated once while they are few."""

    def __init__(self, rows: int) -> None:
        self.shared = True
        self.of_row = np.zeros(rows, dtype=np.int64)
        self.padded_rows = np.zeros(CHUNK_ROWS, dtype=np.int64)

    def extend(self, codes_B: NDArray[np.int64], size: int) -> None:
        """One more field: (rows,) its codes."""
        rows = len(self.of_row)
        if not self.shared:
            return
        keys = self.of_row * size + codes_B
        span = (int(self.of_row.max(initial=0)) + 1) * size
        if span <= MAX_SHARED_KEYS:
            row_of_key = np.full(span, -1, dtype=np.int64)
            row_of_key[keys] = np.arange(rows)
            known = np.flatnonzero(row_of_key >= 0)
            if len(known) <= 0.7 * rows:
                rank = np.cumsum(row_of_key >= 0) - 1
                self.of_row, self.padded_rows = rank[keys], _padded(row_of_key[known])
                return
        self.shared = False
        self.of_row, self.padded_rows = np.arange(rows), _padded(np.arange(rows))


def _padded(rows: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([rows, np.zeros(-len(rows) % CHUNK_ROWS, dtype=np.int64)])


def _widths(sizes: Sequence[int], embedding: int, hidden: int) -> tuple[list[int], int]:
    """The width of each field's embedding, and that of the networks: as asked where MAX_READ_WEIGHTS allows, else narrower."""
    widths = [min(embedding, max(2, round(1.6 * size**0.56))) for size in sizes]
    excess = len(sizes) * sum(widths) * hidden / MAX_READ_WEIGHTS
    if excess <= 1:
        return widths, hidden
    widths = [min(width, max(2, int(embedding / excess**0.5))) for width in widths]
    return widths, max(1, min(hidden, MAX_READ_WEIGHTS // (len(sizes) * sum(widths))))


def smooth(size: int, width: int) -> Tensor:
    """(size, width): half of it waves over the codes, whose order mostly means something, half noise."""
    place = torch.arange(size)[:, None] / max(size - 1, 1)
    waves = torch.cos(torch.pi * place * torch.arange(1, width + 1)[None, :])
    return 0.5 * waves + 0.5 * torch.randn(size, width)


def _waves(size: int, number: int) -> Tensor:
    """(number, size): cosines over the codes, the slowest first."""
    place = (torch.arange(size) + 0.5) / size
    return torch.cos(torch.pi * torch.arange(1, number + 1)[:, None] * place[None, :])
