"""How noise covers what is learnt: at time t from 0 to 1 it is α·x + σ·noise, by the cosine α = cos(πt/2), σ = sin(πt/2) (Nichol and
Dhariwal, "Improved denoising diffusion probabilistic models", ICML 2021)."""

import math

import torch
from torch import Tensor


def mixed(time: Tensor) -> tuple[Tensor, Tensor]:
    """α and σ."""
    return torch.cos(time * (math.pi / 2)), torch.sin(time * (math.pi / 2))


def clarity(time: Tensor) -> Tensor:
    """log(α / σ)"""
    alpha, sigma = mixed(time)
    return torch.log(alpha / sigma)
