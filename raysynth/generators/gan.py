"""Grids → two networks that learn from each other: a forger paints pictures from noise, a critic tells theirs from real ones.

Gulrajani et al., "Improved training of Wasserstein GANs" (arXiv 1704.00028): the critic learns to score real pictures higher than forged
ones, its slope held near 1 on the way between the two; the forger learns to be scored high. What is told of the row the forger reads, and
the critic by a projection (Miyato and Koyama, "cGANs with projection discriminator", ICLR 2018). Neither's loss says how good the pictures
are: so the forger is judged by how far made rows lie from real ones with the same codes, an energy distance (Székely and Rizzo, 2013)
between what convolutions that were drawn once and never learn see of them, as KID does with a trained network (Bińkowski et al., ICLR 2018).

Shapes: B rows, C channels, H height, W width, D what is told of a row, Z latent dimensions, F features.
"""

from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._convolutions import WIDER, Decoder, coarser
from raysynth.generators._pictures import Count, Pictures, Width
from raysynth.generators.base import Pace
from raysynth.layout import Grids

CRITIC, FORGER = "critic", "forger"
SLOPE = 0.2  # of a leaky unit below 0
SEEN = 4  # a side: the features of a picture are means over so many times so many parts of it
CODES_WEIGHT = 1.0  # of codes that differ, beside features of variance 1
Penalty = Annotated[float, Limits(gt=0)]


class Gan(Pictures):
    """`width`: channels of the fine grid, and a quarter of the coarse one's. `latent`: numbers of noise; `penalty`: of the
    critic's slope."""

    picture_turns: ClassVar[tuple[str, ...]] = (CRITIC, CRITIC, FORGER)
    average_decay = 0.998
    patience = 15  # an epoch of the two is better or worse than the last by chance

    def __init__(self, layout: Grids, *, width: Width = 16, latent: Count = 64, penalty: Penalty = 10.0) -> None:
        super().__init__(layout, WIDER * width)
        self.latent, self.penalty = latent, penalty
        self.forger = Decoder(layout, width, latent + self.told)
        self.critic = _Critic(layout, width, self.told)
        self.features = _Features(layout)

    def picture_players(self) -> dict[str, list[nn.Parameter]]:
        """What codes and words say stays as it was drawn: one of the two would change it under the other."""
        return {CRITIC: list(self.critic.parameters()), FORGER: list(self.forger.parameters())}

    def pace(self, turn: str) -> Pace:
        return Pace(0.25, (0.0, 0.9)) if turn in self.picture_turns else super().pace(turn)

    # --- training ------------------------------------------------------------------------------------------------------------

    def picture_loss(self, x_BCHW: Tensor, codes: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        """While training the critic's or the forger's; judged the forger's alone, as a distance from real rows."""
        if not self.training and turn == CRITIC:
            return torch.zeros((), device=x_BCHW.device)
        z_BZ = torch.randn(len(x_BCHW), self.latent, generator=noise, device=x_BCHW.device)
        if not self.training:
            return self.pixels * _distance(self.features(x_BCHW), self.features(self.forged(z_BZ, told_BD)), codes)
        if turn == FORGER:
            return -self.critic(self.forged(z_BZ, told_BD), told_BD).mean()
        with torch.no_grad():
            forged_BCHW = self.forged(z_BZ, told_BD)
        share_B111 = torch.rand(len(x_BCHW), 1, 1, 1, generator=noise, device=x_BCHW.device)
        between_BCHW = torch.lerp(x_BCHW, forged_BCHW, share_B111).requires_grad_()
        (slope_BCHW,) = torch.autograd.grad(self.critic(between_BCHW, told_BD).sum(), between_BCHW, create_graph=True)
        penalty = (slope_BCHW.flatten(1).norm(dim=1) - 1).square().mean()
        return (self.critic(forged_BCHW, told_BD) - self.critic(x_BCHW, told_BD)).mean() + self.penalty * penalty

    def forged(self, z_BZ: Tensor, told_BD: Tensor) -> Tensor:
        return torch.tanh(self.forger(torch.cat([z_BZ, told_BD], dim=1)))

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        return self.forged(self.normal(draws, "z", self.latent), told_BD)


class _Critic(nn.Module):
    """A picture and what is told → (B,) a score. Without norms: the slope of a row is its own."""

    def __init__(self, layout: Grids, width: int, told: int) -> None:
        super().__init__()
        self.patch, wide = layout.patch, WIDER * width
        cells = layout.height * layout.width // (2 * self.patch) ** 2
        self.fine = nn.Sequential(
            nn.Conv2d(layout.channels * self.patch**2, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(width, width, 3, padding=1),
            nn.LeakyReLU(SLOPE),
        )
        self.coarse = nn.Sequential(
            coarser(width, wide),
            nn.LeakyReLU(SLOPE),
            nn.Conv2d(wide, wide, 3, padding=1),
            nn.LeakyReLU(SLOPE),
            nn.Flatten(),
            nn.Linear(wide * cells, 4 * width),
            nn.LeakyReLU(SLOPE),
        )
        self.score, self.to_told = nn.Linear(4 * width, 1), nn.Linear(told, 4 * width, bias=False)
        for layer in self.modules():  # as steep as it shall be from the start: to become so takes longer than to learn
            if isinstance(layer, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(layer.weight, a=SLOPE)

    def forward(self, x_BCHW: Tensor, told_BD: Tensor) -> Tensor:
        x_BD = self.coarse(self.fine(functional.pixel_unshuffle(x_BCHW, self.patch)))
        return self.score(x_BD)[:, 0] + (x_BD * self.to_told(told_BD)).sum(1) / x_BD.shape[1] ** 0.5


class _Features(nn.Module):
    """A picture → (B, F) what two layers of convolutions see of it, whose weights are drawn once, the same for every model."""

    def __init__(self, layout: Grids) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        for name, width_in, width in (("one", layout.channels, 16), ("two", 16, 32)):
            weights = torch.randn(width, width_in, 3, 3, generator=draw) * (9 * width_in) ** -0.5
            self.register_buffer(name, weights, persistent=False)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        one_BCHW = functional.relu(functional.conv2d(x_BCHW, cast("Tensor", self.one), padding=1))
        two_BCHW = functional.relu(functional.conv2d(functional.avg_pool2d(one_BCHW, 2), cast("Tensor", self.two), padding=1))
        seen = [functional.adaptive_avg_pool2d(layer, SEEN).flatten(1) for layer in (x_BCHW, one_BCHW, two_BCHW)]
        return torch.cat(seen, dim=1)


def _distance(real_BF: Tensor, made_BF: Tensor, codes: Tensor) -> Tensor:
    """Between the laws of (features, codes), by pairs of different rows; 0 where they are one, in units of how far real rows lie apart."""
    rows = len(real_BF)
    if rows < 2:
        return torch.zeros((), device=real_BF.device)
    scale_F = real_BF.std(dim=0).clamp(min=1e-3) * real_BF.shape[1] ** 0.5
    real_BF, made_BF = real_BF / scale_F, made_BF / scale_F
    apart_BB = CODES_WEIGHT * (codes[:, None] != codes[None]).float().mean(-1) if codes.shape[1] else torch.zeros(rows, rows)
    pairs = rows * (rows - 1)

    def mean(one_BF: Tensor, two_BF: Tensor) -> Tensor:
        length_BB = (torch.cdist(one_BF, two_BF).square() + apart_BB.to(one_BF.device)).sqrt()
        return (length_BB.sum() - length_BB.diagonal().sum()) / pairs

    within = mean(real_BF, real_BF)
    return (2 * mean(real_BF, made_BF) - within - mean(made_BF, made_BF)) / within.clamp(min=1e-6)
