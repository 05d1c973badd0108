"""Blocks of the networks of pictures: residual convolutions that are told something, and what makes a grid coarser or finer.

A picture is read as a grid of small squares (`Grids.patch`), each with all its pixels as channels: what a convolution costs, it costs by
the cell. Then there are two scales: the grid, and one of half its sides.

Shapes: B rows, C channels, H height, W width, D what is told.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from raysynth.layout import Grids

HEAD = 32  # channels of an attention head
WIDER = 4  # the coarse grid has so many times the channels of the fine one


class Residual(nn.Module):
    """x + convolutions of x, which what is told scales and shifts (Perez et al., "FiLM", arXiv 1709.07871). At first it is x alone."""

    def __init__(self, width_in: int, width: int, told: int) -> None:
        super().__init__()
        self.norm_in, self.norm = nn.GroupNorm(_groups(width_in), width_in), nn.GroupNorm(_groups(width), width)
        self.conv_in, self.conv = nn.Conv2d(width_in, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(told, 2 * width)
        self.skip = nn.Conv2d(width_in, width, 1) if width_in != width else nn.Identity()
        nn.init.zeros_(self.conv.weight)
        nn.init.zeros_(self.film.weight)
        for bias in (self.conv.bias, self.film.bias):
            nn.init.zeros_(bias) if bias is not None else None

    def forward(self, x_BCHW: Tensor, told_BD: Tensor) -> Tensor:
        scale, shift = self.film(told_BD)[:, :, None, None].chunk(2, dim=1)
        z_BCHW = self.norm(self.conv_in(functional.silu(self.norm_in(x_BCHW))))
        z_BCHW = self.conv(functional.silu(torch.addcmul(shift + z_BCHW, z_BCHW, scale)))
        return self.skip(x_BCHW) + z_BCHW


class Attention(nn.Module):
    """x + what each cell finds in all the others (Vaswani et al., NeurIPS 2017). At first it is x alone."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.heads = max(1, width // HEAD)
        self.norm, self.ask, self.say = (
            nn.GroupNorm(_groups(width), width),
            nn.Conv2d(width, 3 * width, 1),
            nn.Conv2d(width, width, 1),
        )
        nn.init.zeros_(self.say.weight)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        asked = self.ask(self.norm(x_BCHW)).flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2)
        found = functional.scaled_dot_product_attention(*asked.unbind(1))
        return x_BCHW + self.say(found.transpose(-1, -2).reshape(x_BCHW.shape))


class Finer(nn.Module):
    """Twice the sides: each cell becomes four (Shi et al., "sub-pixel convolution", arXiv 1609.05158)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, 4 * width, 1)

    def forward(self, x_BCHW: Tensor) -> Tensor:
        return functional.pixel_shuffle(self.conv(x_BCHW), 2)


class Decoder(nn.Module):
    """(B, D) what is told → (B, C, H, W): drawn coarse, then fine."""

    def __init__(self, layout: Grids, width: int, told: int) -> None:
        super().__init__()
        self.patch, wide = layout.patch, WIDER * width
        self.sides = (layout.height // self.patch // 2, layout.width // self.patch // 2)
        self.start = nn.Linear(told, wide * self.sides[0] * self.sides[1])
        self.coarse, self.fine = Residual(wide, wide, told), Residual(width, width, told)
        self.finer = Finer(wide, width)
        self.norm = nn.GroupNorm(_groups(width), width)
        self.write = nn.Conv2d(width, layout.channels * self.patch**2, 3, padding=1)

    def forward(self, told_BD: Tensor) -> Tensor:
        x_BCHW = self.start(told_BD).unflatten(1, (*self.sides, -1)).permute(0, 3, 1, 2)
        x_BCHW = self.fine(self.finer(self.coarse(x_BCHW, told_BD)), told_BD)
        return functional.pixel_shuffle(self.write(functional.silu(self.norm(x_BCHW))), self.patch)


def coarser(width_in: int, width: int) -> nn.Module:
    """Half the sides: four cells become one."""
    return nn.Conv2d(width_in, width, 2, stride=2)


def _groups(width: int) -> int:
    return max(1, width // 8)
