"""Grids → a variational autoencoder: a row's picture is one point z of a law that its codes give, and a network paints it from there.

Kingma and Welling, "Auto-encoding variational Bayes" (arXiv 1312.6114), given what is told of the row (Sohn et al., NeurIPS 2015): an
encoder tells the mean and the log-variance of z given the picture, and the loss is the negative evidence lower bound in nats, reconstruction
+ weight · KL; the weight grows from 0 to 1 over the first `warmup_steps`. Pixels are normal around what the decoder says, with the one
variance at which a batch is likeliest (Rybkin et al., "Simple and effective VAE training with calibrated decoders", ICML 2021): so it is
learnt how much of a picture z must say, and pictures are crisp. What z then says is no longer normal. So the law that it is drawn from is
learnt too: a normal law, bent by affine couplings that read what is told (Dinh et al., "Density estimation using Real NVP", ICLR 2017;
Chen et al., "Variational lossy autoencoder", ICLR 2017).

Shapes: B rows, C channels, H height, W width, D what is told of a row, Z latent dimensions.
"""

import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._convolutions import WIDER, Decoder, Residual, coarser
from raysynth.generators._couplings import Coupling, Even, bent, log_prior
from raysynth.generators._pictures import Natural, Pictures, Width
from raysynth.layout import Grids

LEAST_VARIANCE = 1e-4  # of a pixel in [-1, 1]: about one of its 256 levels


class Vae(Pictures):
    """`width`: channels of the fine grid, and a quarter of the coarse one's. `latent`: dimensions of z; `couplings`: that bend its law (0:
    it is normal); `warmup_steps` until the KL has its full weight."""

    def __init__(
        self,
        layout: Grids,
        *,
        width: Width = 16,
        latent: Even = 32,
        couplings: Natural = 6,
        warmup_steps: Natural = 500,
    ) -> None:
        super().__init__(layout, WIDER * width)
        self.latent, self.warmup_steps = latent, warmup_steps
        self.encoder = _Encoder(layout, width, self.told, latent)
        self.decoder = Decoder(layout, width, latent + self.told)
        self.prior = nn.ModuleList(Coupling(latent, self.told) for _ in range(couplings))
        self.register_buffer("steps", torch.zeros(1))

    # --- training ------------------------------------------------------------------------------------------------------------

    def loss(self, batch: Any, turn: str, draws: Draws) -> Tensor:
        loss = super().loss(batch, turn, draws)
        if self.training and turn in self.picture_turns:
            cast("Tensor", self.steps).add_(1)
        return loss

    def picture_loss(self, x_BCHW: Tensor, codes: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        """The negative evidence lower bound; while training with the KL's weight of the step."""
        mean_BZ, log_variance_BZ = self.encoder(x_BCHW, told_BD)
        noise_BZ = torch.randn(mean_BZ.shape, generator=noise, device=mean_BZ.device)
        z_BZ = mean_BZ + torch.exp(log_variance_BZ / 2) * noise_BZ
        variance = (self.painted(z_BZ, told_BD) - x_BCHW).square().mean().clamp(min=LEAST_VARIANCE)
        reconstruction = self.pixels / 2 * (torch.log(2 * math.pi * variance) + 1)
        divergence_B = log_prior(self.prior, z_BZ, told_BD) + (log_variance_BZ + noise_BZ.square()).sum(1) / 2
        steps = cast("Tensor", self.steps)
        weight = (steps / max(1, self.warmup_steps)).clamp(max=1.0) if self.training else 1.0
        return (reconstruction - weight * divergence_B.mean()).sum()

    def painted(self, z_BZ: Tensor, told_BD: Tensor) -> Tensor:
        return self.decoder(torch.cat([z_BZ, told_BD], dim=1))

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        return self.painted(bent(self.prior, self.normal(draws, "z", self.latent), told_BD), told_BD)


class _Encoder(nn.Module):
    """A picture and what is told → mean and log-variance of z."""

    def __init__(self, layout: Grids, width: int, told: int, latent: int) -> None:
        super().__init__()
        self.patch, wide = layout.patch, WIDER * width
        cells = layout.height * layout.width // (2 * self.patch) ** 2
        self.read = nn.Conv2d(layout.channels * self.patch**2, width, 3, padding=1)
        self.fine, self.coarse = Residual(width, width, told), Residual(wide, wide, told)
        self.coarser = coarser(width, wide)
        self.tell = nn.Linear(wide * cells, 2 * latent)
        nn.init.normal_(self.tell.weight, std=0.1 * (wide * cells) ** -0.5)
        with torch.no_grad():
            self.tell.bias[latent:] = -4.0  # at first z says what there is to say, before the KL has its weight

    def forward(self, x_BCHW: Tensor, told_BD: Tensor) -> tuple[Tensor, Tensor]:
        x_BCHW = self.fine(self.read(functional.pixel_unshuffle(x_BCHW, self.patch)), told_BD)
        x_BCHW = self.coarse(self.coarser(x_BCHW), told_BD)
        mean_BZ, log_variance_BZ = self.tell(functional.silu(x_BCHW).flatten(1)).chunk(2, dim=1)
        return mean_BZ, log_variance_BZ.clamp(-12.0, 4.0)
