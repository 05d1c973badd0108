"""What generators of tables share that draw a row from one latent point: the columns are independent given it.

A column that is written in several fields is drawn field by field, the later ones given those before. `where` restricts what may be drawn
of a field; a row is then accepted in proportion to how likely its point made what was asked for, so that accepted rows follow the law of
the rows that are drawn without, of which the condition holds.

Shapes: B rows, F fields, S codes of a field, H hidden width, Z latent dimensions. Rows are drawn CHUNK_ROWS at a time: float32 results
depend on the shape of a product.
"""

from abc import abstractmethod
from typing import Annotated, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._acceptance import Bounds, Masks
from raysynth.generators.autoregressive import CHUNK_ROWS, smooth
from raysynth.generators.base import Trained
from raysynth.layout import Arrays, Batch, Facts, Fields, FieldsGiven, Given, Layout

MOST_DRAWS = 100  # for one accepted row, about
MOST_WIDTH = 16  # of a field's embedding
Width = Annotated[int, Limits(ge=8)]
Natural = Annotated[int, Limits(ge=0)]
Weight = Annotated[float, Limits(gt=0, le=1)]


class LatentTable(Trained):
    """`encoder`: codes → mean and log-variance of z; `decoder`: z → the law of each field."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Fields,)
    kernel_rows = 16_384
    chunk_rows = CHUNK_ROWS

    def __init__(self, layout: Fields, *, hidden: int, latent: int) -> None:
        super().__init__()
        self.sizes, self.latent = layout.sizes, latent
        self.bounds = Bounds(MOST_DRAWS)
        self.encoder = _Encoder(layout, hidden, latent)
        self.decoder = _Decoder(layout, hidden, latent)

    # --- training ------------------------------------------------------------------------------------------------------------

    def encoded(self, codes_BF: Tensor, noise: torch.Generator) -> tuple[Tensor, Tensor]:
        """A point of each row's posterior, (B, Z), and the log-density of the posterior there, but for the constant: (B,)."""
        mean_BZ, log_variance_BZ = self.encoder(codes_BF)
        noise_BZ = torch.randn(mean_BZ.shape, generator=noise, device=mean_BZ.device)
        z_BZ = mean_BZ + torch.exp(log_variance_BZ / 2) * noise_BZ
        return z_BZ, -(log_variance_BZ + noise_BZ.square()).sum(1) / 2

    # --- sampling ------------------------------------------------------------------------------------------------------------

    @abstractmethod
    def points(self, draws: Draws) -> Tensor:
        """CHUNK_ROWS draws → (B, Z), each a function of its own draws."""

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        masks = dict(given.masks) if isinstance(given, FieldsGiven) else {}
        codes_BF, mass_B = self._drawn(draws, masks)
        if not masks:
            return Batch({"codes": codes_BF})
        bound = self.bounds.of(masks, self.kernel_rows, lambda draws, masks: self._drawn(draws, masks)[1])
        return Batch({"codes": codes_BF}, draws.uniform("accept") * bound < mass_B)

    def _drawn(self, draws: Draws, masks: Masks) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """(rows, fields) codes within the masks, and (rows,) how likely each row's point made them."""
        codes_BF, mass_B = np.zeros((len(draws), len(self.sizes)), np.int32), np.ones(len(draws))
        device = next(self.parameters()).device
        allowed = {field: torch.from_numpy(mask).to(device) for field, mask in masks.items()}
        for start in range(0, len(draws), CHUNK_ROWS):
            some = np.arange(start, start + CHUNK_ROWS)
            part = draws.take(some)
            uniform = {i: torch.from_numpy(part.uniform(f"field-{i}").astype(np.float32)).to(device) for i in self.decoder.varied}
            codes, mass = self.decoder.drawn(self.points(part), uniform, allowed)
            codes_BF[some], mass_B[some] = codes.cpu().numpy(), mass.cpu().numpy()
        return codes_BF, mass_B

    def normal(self, draws: Draws, name: str, *shape: int) -> Tensor:
        """(rows, *shape) float32, on the device of the weights."""
        return torch.from_numpy(draws.normal(name, *shape).astype(np.float32)).to(next(self.parameters()).device)

    def load(self, arrays: Arrays, facts: Facts) -> None:
        super().load(arrays, facts)
        self.bounds.clear()


class Residual(nn.Module):
    """x + a network of one hidden layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.read, self.say = nn.LayerNorm(width), nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def forward(self, x_BH: Tensor) -> Tensor:
        return x_BH + self.say(functional.silu(self.read(self.norm(x_BH))))


class _Encoder(nn.Module):
    def __init__(self, layout: Fields, hidden: int, latent: int) -> None:
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(smooth(size, _width(size))) for size in layout.sizes)
        self.read = nn.Linear(sum(table.shape[1] for table in self.tables), hidden)
        self.blocks = nn.ModuleList(Residual(hidden) for _ in range(2))
        self.tell = nn.Linear(hidden, 2 * latent)
        nn.init.normal_(self.tell.weight, std=0.1 * hidden**-0.5)
        with torch.no_grad():
            self.tell.bias[latent:] = -4.0  # at first z says what there is to say, before the KL has its weight

    def forward(self, codes_BF: Tensor) -> tuple[Tensor, Tensor]:
        x_BH = self.read(torch.cat([table[codes_BF[:, i]] for i, table in enumerate(self.tables)], dim=1))
        for block in self.blocks:
            x_BH = block(x_BH)
        mean_BZ, log_variance_BZ = self.tell(functional.silu(x_BH)).chunk(2, dim=1)
        return mean_BZ, log_variance_BZ.clamp(-12.0, 4.0)


class _Decoder(nn.Module):
    """`varied`: the fields that have more than one code. `before`: of each field those of its column that are drawn before it."""

    def __init__(self, layout: Fields, hidden: int, latent: int) -> None:
        super().__init__()
        columns, self.fields = [field.column for field in layout.fields], len(layout.fields)
        self.varied = [i for i, size in enumerate(layout.sizes) if size > 1]
        self.before = {i: [j for j in self.varied if j < i and columns[j] == columns[i]] for i in self.varied}
        self.read = nn.Linear(latent, hidden)
        self.blocks = nn.ModuleList(Residual(hidden) for _ in range(2))
        self.norm = nn.LayerNorm(hidden)
        self.heads = nn.ModuleDict({str(i): nn.Linear(hidden, layout.sizes[i]) for i in self.varied})
        self.known = nn.ParameterDict(
            {
                f"{i}-{j}": nn.Parameter(torch.randn(layout.sizes[j], hidden) * hidden**-0.5)
                for i in self.varied
                for j in self.before[i]
            }
        )

    def trunk(self, z_BZ: Tensor) -> Tensor:
        x_BH = self.read(z_BZ)
        for block in self.blocks:
            x_BH = block(x_BH)
        return self.norm(x_BH)

    def logits(self, i: int, x_BH: Tensor, codes_BF: Tensor) -> Tensor:
        """(B, S)"""
        for j in self.before[i]:
            x_BH = x_BH + self.known[f"{i}-{j}"][codes_BF[:, j]]
        return self.heads[str(i)](functional.silu(x_BH))

    def loss(self, z_BZ: Tensor, codes_BF: Tensor) -> Tensor:
        """Of all rows and fields, in nats."""
        x_BH = self.trunk(z_BZ)
        losses = [functional.cross_entropy(self.logits(i, x_BH, codes_BF), codes_BF[:, i], reduction="sum") for i in self.varied]
        return torch.stack(losses).sum() if losses else x_BH.sum() * 0

    def drawn(self, z_BZ: Tensor, uniform: dict[int, Tensor], allowed: dict[int, Tensor]) -> tuple[Tensor, Tensor]:
        """(B, F) codes by the inverse of the distribution function, and the product of the masses of what was allowed."""
        x_BH = self.trunk(z_BZ)
        codes_BF = torch.zeros((len(z_BZ), self.fields), dtype=torch.long, device=z_BZ.device)
        mass_B = torch.ones(len(z_BZ), dtype=torch.float64, device=z_BZ.device)
        for i in self.varied:
            p_BS = torch.softmax(self.logits(i, x_BH, codes_BF), dim=1)
            cdf_BS = torch.cumsum(p_BS if i not in allowed else p_BS * allowed[i], dim=1)
            total_B = cdf_BS[:, -1]
            if i in allowed:
                mass_B = mass_B * total_B
            # below the total, so that the code found is one of positive probability
            below_B = torch.minimum(uniform[i] * total_B, torch.nextafter(total_B, torch.zeros_like(total_B)))
            codes_BF[:, i] = torch.searchsorted(cdf_BS, below_B[:, None], right=True)[:, 0].clamp(max=p_BS.shape[1] - 1)
        return codes_BF, mass_B


def _width(size: int) -> int:
    return min(MOST_WIDTH, max(2, round(1.6 * size**0.56)))


def noise_of(draws: Draws, device: torch.device) -> torch.Generator:
    """A batch's own, the same wherever it is trained on."""
    noise = torch.Generator(device)
    noise.manual_seed(int(draws.words("noise")[0] >> np.uint64(1)))
    return noise
