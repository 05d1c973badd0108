"""Fields → a diffusion model in the latent space of an autoencoder of rows.

Zhang et al., "Mixed-type tabular data synthesis with score-based diffusion in latent space" (TabSyn, ICLR 2024): an autoencoder says a row
in few numbers z, with little noise around them, and a diffusion model learns the law of these z, which need not be normal then. Both learn
at once, each in a turn of its own: the autoencoder by reconstruction + `weight` · KL to a normal law, the diffusion model by the squared
error of v at evenly spread times (as in diffusion.py; Salimans and Ho, ICLR 2022). Drawing goes back from noise in `steps` steps without
new noise (DDIM, Song et al., ICLR 2021; looking ahead as DPM-Solver++ 2M does): a row is a function of its first noise.

Shapes: B rows, F fields, Z latent dimensions, H hidden width.
"""

import math
from typing import Annotated, cast

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._latent_table import LatentTable, Residual, Weight, Width, noise_of
from raysynth.generators._noising import mixed, without_noise
from raysynth.generators.base import TensorBatch
from raysynth.layout import Fields

FREQUENCIES = 16
EDGE = 0.004  # of the time: nearer to 0 or 1, σ would divide by next to nothing
CODES, POINTS = "codes", "points"
MOMENTUM = 0.99
Count = Annotated[int, Limits(ge=1)]


class TableDiffusion(LatentTable):
    """`hidden`: width of all networks. `latent`: dimensions of z; `weight` of the KL: the less, the more of a row z says; `blocks` of the
    network that takes the noise off; `steps` of drawing."""

    turns = (CODES, POINTS)
    average_decay = 0.998

    def __init__(
        self,
        layout: Fields,
        *,
        hidden: Width = 256,
        latent: Count = 24,
        weight: Weight = 0.01,
        blocks: Count = 4,
        steps: Count = 24,
    ) -> None:
        super().__init__(layout, hidden=hidden, latent=latent)
        self.weight, self.steps = weight, steps
        self.network = _Network(latent, hidden, blocks)
        self.register_buffer("centre", torch.zeros(latent))
        self.register_buffer("spread", torch.ones(latent))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {CODES: [*self.encoder.parameters(), *self.decoder.parameters()], POINTS: list(self.network.parameters())}

    # --- training ------------------------------------------------------------------------------------------------------------

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Mean over the rows: of `codes` the bound in nats, with the KL's weight; of `points` half the squared error."""
        codes_BF = batch["codes"].long()
        noise = noise_of(draws, codes_BF.device)
        if turn == CODES:
            z_BZ, log_posterior_B = self.encoded(codes_BF, noise)
            divergence = (log_posterior_B + z_BZ.square().sum(1) / 2).sum()
            return (self.decoder.loss(z_BZ, codes_BF) + self.weight * divergence) / len(codes_BF)
        with torch.no_grad():
            z_BZ, _ = self.encoded(codes_BF, noise)
            if self.training:
                self._follow(z_BZ)
        return self._denoising((z_BZ - self._centre) / self._spread, noise)

    def _denoising(self, x_BZ: Tensor, noise: torch.Generator) -> Tensor:
        rows, device = len(x_BZ), x_BZ.device
        first = torch.rand(1, generator=noise, device=device)
        time_B = EDGE + (1 - 2 * EDGE) * ((first + torch.arange(rows, device=device) / rows) % 1)
        noise_BZ = torch.randn(x_BZ.shape, generator=noise, device=device)
        alpha_B1, sigma_B1 = (part[:, None] for part in mixed(time_B))
        said_BZ = self.network(alpha_B1 * x_BZ + sigma_B1 * noise_BZ, time_B)
        return (said_BZ - (alpha_B1 * noise_BZ - sigma_B1 * x_BZ)).square().sum() / (2 * rows)

    def _follow(self, z_BZ: Tensor) -> None:
        """Where points lie, and how far apart, so that noise is as large as they are."""
        self._centre.lerp_(z_BZ.mean(0), 1 - MOMENTUM)
        self._spread.lerp_(z_BZ.std(0).clamp(min=1e-3), 1 - MOMENTUM)

    @property
    def _centre(self) -> Tensor:
        return cast("Tensor", self.centre)

    @property
    def _spread(self) -> Tensor:
        return cast("Tensor", self.spread)

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def points(self, draws: Draws) -> Tensor:
        x_BZ = without_noise(self.normal(draws, "noise", self.latent), 1 - EDGE, self.steps, self._clean)
        return x_BZ * self._spread + self._centre

    def _clean(self, x_BZ: Tensor, time: Tensor) -> Tensor:
        alpha, sigma = mixed(time)
        return alpha * x_BZ - sigma * self.network(x_BZ, time.expand(len(x_BZ)).to(x_BZ.device))


class _Network(nn.Module):
    """A point under noise, and the time → v."""

    def __init__(self, latent: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.register_buffer("frequencies", math.pi * 2 ** torch.linspace(-1, 6, FREQUENCIES), persistent=False)
        self.of_time, self.read = nn.Linear(2 * FREQUENCIES, hidden), nn.Linear(latent, hidden)
        self.blocks = nn.ModuleList(Residual(hidden) for _ in range(blocks))
        self.norm, self.say = nn.LayerNorm(hidden), nn.Linear(hidden, latent)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def forward(self, x_BZ: Tensor, time_B: Tensor) -> Tensor:
        angle_BF = time_B[:, None] * cast("Tensor", self.frequencies)
        x_BH = self.read(x_BZ) + functional.silu(self.of_time(torch.cat([torch.sin(angle_BF), torch.cos(angle_BF)], dim=1)))
        for block in self.blocks:
            x_BH = block(x_BH)
        return self.say(functional.silu(self.norm(x_BH)))
