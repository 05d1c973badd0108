"""A normal law that is bent until points of an encoder's are likely: the law that a latent point z is drawn from, given what is told.

Affine couplings (Dinh et al., "Density estimation using Real NVP", ICLR 2017), as the prior of a variational autoencoder (Chen et al.,
"Variational lossy autoencoder", ICLR 2017).

Shapes: B rows, D what is told of a row, Z latent dimensions, H half of them.
"""

from typing import Annotated, cast

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

MOST_BENT = 2.0  # log of what one coupling stretches by
Even = Annotated[int, Limits(ge=2, multiple_of=2)]


def log_prior(couplings: nn.ModuleList, z_BZ: Tensor, told_BD: Tensor) -> Tensor:
    """(B,) log-density, but for the constant that a normal posterior's has as well."""
    stretched_B = torch.zeros(len(z_BZ), device=z_BZ.device)
    for coupling in couplings:
        z_BZ, log_B = cast("Coupling", coupling).straighten(z_BZ, told_BD)
        stretched_B = stretched_B + log_B
    return stretched_B - z_BZ.square().sum(1) / 2


def bent(couplings: nn.ModuleList, normal_BZ: Tensor, told_BD: Tensor) -> Tensor:
    """Points of a normal law → points of the prior."""
    for coupling in reversed(couplings):
        normal_BZ = cast("Coupling", coupling).bend(normal_BZ, told_BD)
    return normal_BZ


class Coupling(nn.Module):
    """Half of z, stretched and moved by what the other half and what is told say; then the halves change places."""

    def __init__(self, latent: int, told: int) -> None:
        super().__init__()
        self.read, self.say = nn.Linear(latent // 2 + told, 4 * latent), nn.Linear(4 * latent, latent)
        nn.init.zeros_(self.say.weight)
        nn.init.zeros_(self.say.bias)

    def straighten(self, z_BZ: Tensor, told_BD: Tensor) -> tuple[Tensor, Tensor]:
        """z → (nearer to a normal law, the log of how much it was stretched)."""
        one_BH, two_BH = z_BZ.chunk(2, dim=1)
        stretch_BH, move_BH = self._said(one_BH, told_BD)
        return torch.cat([two_BH * torch.exp(stretch_BH) + move_BH, one_BH], dim=1), stretch_BH.sum(1)

    def bend(self, z_BZ: Tensor, told_BD: Tensor) -> Tensor:
        """The way back."""
        two_BH, one_BH = z_BZ.chunk(2, dim=1)
        stretch_BH, move_BH = self._said(one_BH, told_BD)
        return torch.cat([one_BH, (two_BH - move_BH) * torch.exp(-stretch_BH)], dim=1)

    def _said(self, one_BH: Tensor, told_BD: Tensor) -> tuple[Tensor, Tensor]:
        said = self.say(functional.silu(self.read(torch.cat([one_BH, told_BD], dim=1))))
        stretch_BH, move_BH = said.chunk(2, dim=1)
        return MOST_BENT * torch.tanh(stretch_BH / MOST_BENT), move_BH
