"""Fields → a variational autoencoder of rows: a row is one point z of a learnt law, and its columns are drawn from there, each by itself.

Kingma and Welling, "Auto-encoding variational Bayes" (arXiv 1312.6114); of tables: Xu et al., "Modeling tabular data using conditional GAN"
(NeurIPS 2019), whose TVAE draws z from a normal law. Here that law is learnt too (_couplings.py), and a numeric column is no mixture of
normal laws but what its codec makes of it: single values and quantile intervals with what lies within them. The loss is reconstruction +
weight · KL in nats, the negative evidence lower bound where the weight is 1; below it z says more of a row (Higgins et al., "beta-VAE", ICLR
2017), and what is lost by that is made good by the learnt law. The weight grows from 0 over the first `warmup_steps`.

Shapes: B rows, F fields, Z latent dimensions.
"""

from typing import cast

import torch
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.generators._couplings import Coupling, Even, bent, log_prior
from raysynth.generators._latent_table import LatentTable, Natural, Weight, Width, noise_of
from raysynth.generators.base import TensorBatch
from raysynth.layout import Fields


class TableVae(LatentTable):
    """`hidden`: width of both networks. `latent`: dimensions of z; `couplings`: that bend its law (0: it is normal); `weight` of the KL, in
    full after `warmup_steps`."""

    def __init__(
        self,
        layout: Fields,
        *,
        hidden: Width = 256,
        latent: Even = 32,
        couplings: Natural = 6,
        weight: Weight = 0.2,
        warmup_steps: Natural = 500,
    ) -> None:
        super().__init__(layout, hidden=hidden, latent=latent)
        self.weight, self.warmup_steps = weight, warmup_steps
        self.prior = nn.ModuleList(Coupling(latent, 0) for _ in range(couplings))
        self.register_buffer("steps", torch.zeros(1))

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {"model": list(self.parameters())}

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        """Reconstruction and KL, the mean over the rows; while training with the KL's weight of the step."""
        codes_BF = batch["codes"].long()
        z_BZ, log_posterior_B = self.encoded(codes_BF, noise_of(draws, codes_BF.device))
        divergence = (log_posterior_B - log_prior(self.prior, z_BZ, z_BZ[:, :0])).sum()
        steps, weight = cast("Tensor", self.steps), torch.full((1,), self.weight, device=codes_BF.device)
        if self.training:
            weight = weight * (steps / max(1, self.warmup_steps)).clamp(max=1.0)
            steps.add_(1)
        return ((self.decoder.loss(z_BZ, codes_BF) + weight * divergence) / len(codes_BF)).sum()

    def points(self, draws: Draws) -> Tensor:
        normal_BZ = self.normal(draws, "z", self.latent)
        return bent(self.prior, normal_BZ, normal_BZ[:, :0])
