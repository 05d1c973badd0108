"""Pictures of one size → a small convolutional network that learnt from them: what it says of a picture, and the points that it sees in it.

Shapes: N pictures, B of a batch, H height, W width, C channels, F features, K classes.
"""

import math
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws

FEATURES = 64
BATCH_ROWS = 64
MOST_EPOCHS, MOST_LEARNT = 40, 20_000  # pictures that are learnt from, each as often as it is seen
LEAST_STEPS = 150
_JUDGED_ROWS = 256
_LEARNING_RATE = 3e-3


class Network(nn.Module):
    """`classes`: of the labels that it tells apart, 0 for none; `redraws`: it is asked as well to give the picture back from its features
    by a linear map, so that they keep what no label says."""

    def __init__(self, height: int, width: int, channels: int, *, classes: int, redraws: bool) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after, stride in ((channels, 16, 2), (16, 32, 2), (32, 64, 1)):  # pools cost twice the time of strides
            layers += [nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        cells = math.ceil(math.ceil(height / 2) / 2) * math.ceil(math.ceil(width / 2) / 2)
        self.seen = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * cells, FEATURES), nn.ReLU())
        self.told = nn.Linear(FEATURES, classes) if classes else None
        self.redrawn = nn.Linear(FEATURES, height * width * channels) if redraws else None

    def loss(self, x_BCHW: Tensor, labels_B: Tensor) -> Tensor:
        f_BF = self.seen(x_BCHW)
        loss = x_BCHW.new_zeros(())
        if self.told is not None:
            known = labels_B >= 0
            loss = functional.cross_entropy(self.told(f_BF)[known], labels_B[known], reduction="sum") / known.sum().clamp(min=1)
        if self.redrawn is not None:
            loss = loss + functional.mse_loss(self.redrawn(f_BF), x_BCHW.flatten(1))
        return loss

    @torch.inference_mode()
    def labels(self, pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
        """(N, H, W, C) → (N,) the likeliest class of each."""
        told = cast("nn.Linear", self.told)
        found = [told(self.seen(x_BCHW)).argmax(1).numpy() for x_BCHW in _pieces(pixels)]
        return np.concatenate([np.zeros(0, np.int64), *found])

    @torch.inference_mode()
    def points(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """(N, H, W, C) → (N, F) of length 1, none of them negative."""
        found = [functional.normalize(self.seen(x_BCHW)).numpy() for x_BCHW in _pieces(pixels)]
        return np.concatenate([np.zeros((0, FEATURES), np.float32), *found])


def learnt(pixels: NDArray[np.uint8], labels: NDArray[np.int64], *, classes: int, redraws: bool, seed: int) -> Network:
    """(N, H, W, C) and (N,) labels (outside of 0 … classes - 1: not known) → the network, the same every time."""
    known = np.where(labels < classes, labels, -1)
    rows = len(pixels)
    epochs = min(MOST_EPOCHS, MOST_LEARNT / rows)
    steps = max(LEAST_STEPS, round(epochs * rows / BATCH_ROWS))
    draws = Draws.range(seed, "network", 0, rows)
    with one_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(draws.words("weights")[0] >> np.uint64(1)))
        network = Network(*pixels.shape[1:], classes=classes, redraws=redraws)
        optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps + 1, pct_start=0.2)
        network.train()
        for batch in _batches(draws, rows, steps):
            optimizer.zero_grad()
            network.loss(_signal(pixels[batch]), torch.from_numpy(known[batch])).backward()
            optimizer.step()
            schedule.step()
    return network.eval()


@contextmanager
def one_thread() -> Generator[None]:
    """Sums of several threads differ in the last bits, and threads that wait spin."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _batches(draws: Draws, rows: int, steps: int) -> Iterator[NDArray[np.int64]]:
    """Epoch after epoch in another order, as many batches as there are steps; none of one row, which has no spread to be normed by."""
    made, epoch = 0, 0
    size = min(BATCH_ROWS, rows)
    while made < steps:
        order = np.argsort(draws.words(f"epoch-{epoch}"), kind="stable")
        for start in range(0, rows - size + 1, size):
            if made == steps:
                return
            yield order[start : start + size]
            made += 1
        epoch += 1


def _signal(pixels: NDArray[np.uint8]) -> Tensor:
    """(B, H, W, C) bytes → (B, C, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _pieces(pixels: NDArray[np.uint8]) -> Iterator[Tensor]:
    for start in range(0, len(pixels), _JUDGED_ROWS):
        yield _signal(pixels[start : start + _JUDGED_ROWS])
