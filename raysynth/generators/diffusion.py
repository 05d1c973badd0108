"""Grids → a diffusion model: pictures that noise has covered step by step, and a network that takes it off again.

Ho et al., "Denoising diffusion probabilistic models" (NeurIPS 2020): at time t from 0 to 1 a picture is x_t = α·x + σ·noise, by Nichol and
Dhariwal's cosine (ICML 2021) α = cos(πt/2), σ = sin(πt/2), and the network learns from x_t, t and what is told of the row to say the noise,
or v = α·noise - σ·x (Salimans and Ho, "Progressive distillation", ICLR 2022), by squared errors; the times of a batch lie evenly (Kingma et
al., "Variational diffusion models", NeurIPS 2021). Drawing goes back from noise in `steps` steps without new noise (Song et al., "Denoising
diffusion implicit models", ICLR 2021): a row is a function of its first noise. Each step looks ahead by what the one before said (Lu et
al., "DPM-Solver++", arXiv 2211.01095, 2M), so that a third as many will do. In a share of the rows nothing is told while training, so that
what is told can be made more of than was learnt (Ho and Salimans, "Classifier-free diffusion guidance", arXiv 2207.12598); while there is
much noise or little that only makes pictures alike (Kynkäänniemi et al., "Guidance in a limited interval", NeurIPS 2024).

Shapes: B rows, C channels, H height, W width, D what is told of a row, S of these and the time, F frequencies.
"""

import math
from typing import Annotated, Literal, cast

import torch
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.generators._convolutions import Attention, Finer, Residual, coarser
from raysynth.generators._noising import mixed, without_noise
from raysynth.generators._pictures import Count, Pictures, Width
from raysynth.layout import Grids

FREQUENCIES = 16
EDGES = {"v": 0.004, "noise": 0.04}  # of the time: nearer to 0 or 1 σ, or of who says the noise α, would divide by next to nothing
GUIDED = (0.1, 0.8)
Share = Annotated[float, Limits(ge=0, lt=1)]
Guidance = Annotated[float, Limits(ge=0)]
Predicted = Literal["v", "noise"]


class Diffusion(Pictures):
    """`width`: channels of the fine grid, and half of the coarse one's. `blocks` of each; `steps` of drawing; `guidance`: 1 draws what
    was learnt, 0 whatever is there, above 1 what is told is seen more clearly, and pictures are less varied; `untold`: share of the rows
    that are learnt from with nothing told (0: guidance is 1 always); `predicts`: what the network says."""

    average_decay = 0.998

    def __init__(
        self,
        layout: Grids,
        *,
        width: Width = 32,
        blocks: Count = 1,
        steps: Count = 16,
        guidance: Guidance = 1.5,
        untold: Share = 0.1,
        predicts: Predicted = "v",
    ) -> None:
        super().__init__(layout, 2 * width)
        self.steps, self.untold, self.predicts, self.edge = steps, untold, predicts, EDGES[predicts]
        self.guidance = guidance if self.codes or self.words is not None else 1.0
        self.network = _Network(layout, width, blocks, self.told)

    # --- training ------------------------------------------------------------------------------------------------------------

    def picture_loss(self, x_BCHW: Tensor, codes: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        """Half the squared error, over the picture: the nats of what is predicted, were it normal around what the network says."""
        rows, device = len(x_BCHW), x_BCHW.device
        first = torch.rand(1, generator=noise, device=device)
        time_B = self.edge + (1 - 2 * self.edge) * ((first + torch.arange(rows, device=device) / rows) % 1)
        noise_BCHW = torch.randn(x_BCHW.shape, generator=noise, device=device)
        if self.training:
            told_BD = told_BD * (torch.rand(rows, 1, generator=noise, device=device) >= self.untold)
        alpha_B, sigma_B = (part[:, None, None, None] for part in mixed(time_B))
        said_BCHW = self.network(alpha_B * x_BCHW + sigma_B * noise_BCHW, time_B, told_BD)
        wanted_BCHW = alpha_B * noise_BCHW - sigma_B * x_BCHW if self.predicts == "v" else noise_BCHW
        return (said_BCHW - wanted_BCHW).square().sum() / (2 * rows)

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        shape = self.shape
        x_BCHW = self.normal(draws, "noise", shape.height, shape.width, shape.channels).permute(0, 3, 1, 2)
        return without_noise(x_BCHW, 1 - self.edge, self.steps, lambda x_BCHW, time: self._clean(x_BCHW, time, told_BD))

    def _clean(self, x_BCHW: Tensor, time: Tensor, told_BD: Tensor) -> Tensor:
        """What lies under the noise of that time, by all that is known."""
        time_B = time.expand(len(x_BCHW)).to(x_BCHW.device)
        said_BCHW = self.network(x_BCHW, time_B, told_BD)
        if self.guidance != 1 and self.untold > 0 and GUIDED[0] < time < GUIDED[1]:
            untold_BCHW = self.network(x_BCHW, time_B, torch.zeros_like(told_BD))
            said_BCHW = untold_BCHW + self.guidance * (said_BCHW - untold_BCHW)
        alpha, sigma = mixed(time)
        clean_BCHW = alpha * x_BCHW - sigma * said_BCHW if self.predicts == "v" else (x_BCHW - sigma * said_BCHW) / alpha
        return clean_BCHW.clamp(-1, 1)


class _Network(nn.Module):
    """A U-Net of two scales (Ronneberger et al., MICCAI 2015), attention on the coarse one: what it says, in the shape of the picture."""

    def __init__(self, layout: Grids, width: int, blocks: int, told: int) -> None:
        super().__init__()
        self.patch, wide, said = layout.patch, 2 * width, 4 * width
        channels = layout.channels * self.patch**2
        self.register_buffer("frequencies", math.pi * 2 ** torch.linspace(-1, 6, FREQUENCIES), persistent=False)
        self.of_time, self.of_told = nn.Linear(2 * FREQUENCIES, said), nn.Linear(told, said, bias=False)
        self.to_said = nn.Linear(said, said)
        self.read = nn.Conv2d(channels, width, 3, padding=1)
        self.down = nn.ModuleList(Residual(width, width, said) for _ in range(blocks))
        self.coarser = coarser(width, wide)
        self.sides = (layout.height // self.patch // 2, layout.width // self.patch // 2)
        self.place = nn.Linear(said, wide * self.sides[0] * self.sides[1])  # a convolution knows not where it is
        nn.init.zeros_(self.place.weight)
        self.middle = nn.ModuleList(Residual(wide, wide, said) for _ in range(2 * blocks))
        self.attend = nn.ModuleList(Attention(wide) for _ in self.middle)
        self.finer = Finer(wide, width)
        self.up = nn.ModuleList(Residual(2 * width if number == 0 else width, width, said) for number in range(blocks))
        self.norm, self.write = nn.GroupNorm(width // 8, width), nn.Conv2d(width, channels, 3, padding=1)
        nn.init.zeros_(self.write.weight)

    def forward(self, x_BCHW: Tensor, time_B: Tensor, told_BD: Tensor) -> Tensor:
        angle_BF = time_B[:, None] * cast("Tensor", self.frequencies)
        of_time_BS = self.of_time(torch.cat([torch.sin(angle_BF), torch.cos(angle_BF)], dim=1))
        said_BS = functional.silu(self.to_said(functional.silu(of_time_BS + self.of_told(told_BD))))
        x_BCHW = self.read(functional.pixel_unshuffle(x_BCHW, self.patch))
        for block in self.down:
            x_BCHW = block(x_BCHW, said_BS)
        z_BCHW = self.coarser(x_BCHW) + self.place(said_BS).unflatten(1, (*self.sides, -1)).permute(0, 3, 1, 2)
        for block, attend in zip(self.middle, self.attend, strict=True):
            z_BCHW = attend(block(z_BCHW, said_BS))
        x_BCHW = torch.cat([x_BCHW, self.finer(z_BCHW)], dim=1)
        for block in self.up:
            x_BCHW = block(x_BCHW, said_BS)
        return functional.pixel_shuffle(self.write(functional.silu(self.norm(x_BCHW))), self.patch)
