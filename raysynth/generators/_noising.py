"""How noise covers what is learnt: at time t from 0 to 1 it is α·x + σ·noise, by the cosine α = cos(πt/2), σ = sin(πt/2) (Nichol and
Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021); and the way back."""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor


def mixed(time: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ."""
    return torch.cos(time * (math.pi / 2)), torch.sin(time * (math.pi / 2))


def clarity(time: Tensor) -> Tensor:
    """log(α / σ)"""
    alpha, sigma = mixed(time)
    return torch.log(alpha / sigma)


def without_noise(x: Tensor, first: float, steps: int, clean: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """From noise at the time `first` back to 0, without new noise (DDIM). `clean`: (x, time) → what lies under the noise. Each step looks
    ahead by what the one before said (DPM-Solver++, 2M)."""
    before: tuple[Tensor, Tensor] | None = None  # a time, and what was said to lie under the noise then
    for time, after in pairwise(torch.linspace(first, 0, steps + 1)):
        found = ahead = clean(x, time)
        if before is not None and after > 0:
            share = (clarity(after) - clarity(time)) / (clarity(time) - clarity(before[0]))
            ahead = found + share / 2 * (found - before[1])
        (alpha, sigma), (alpha_after, sigma_after) = mixed(time), mixed(after)
        x = alpha_after * ahead + sigma_after * (x - alpha * ahead) / sigma
        before = time, found
    return x
