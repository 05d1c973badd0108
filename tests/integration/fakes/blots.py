"""Pictures of grey levels at random, lighter or darker by what their codes say: the least generator of pictures."""

import torch
from torch import Tensor

from raysynth.draws import Draws
from raysynth.generators._pictures import Pictures
from raysynth.layout import Grids


class Blots(Pictures):
    """Learns nothing of a picture."""

    def __init__(self, layout: Grids) -> None:
        super().__init__(layout, 4)

    def picture_loss(self, x_BCHW: Tensor, codes: Tensor, told_BD: Tensor, turn: str, noise: torch.Generator) -> Tensor:
        return told_BD.square().mean()

    def pictures(self, told_BD: Tensor, draws: Draws) -> Tensor:
        shape = self.shape
        blots = torch.from_numpy(draws.uniform("blots", shape.channels, shape.height, shape.width)).float()
        return blots * 2 - 1 + told_BD.mean(1)[:, None, None, None]
