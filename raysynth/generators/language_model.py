"""Tokens → a small decoder that draws the texts of a row token by token, given its other columns.

A transformer as in Touvron et al., "LLaMA" (arXiv 2302.13971): normalised before each block (RMSNorm, arXiv 1910.07467), positions by
rotation (RoPE, arXiv 2104.09864), gated feed-forward (SwiGLU, arXiv 2002.05202); embedding and head are one matrix (Press and Wolf, EACL
2017). Keys and values of each slot are kept in a cache of fixed size.

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width, H heads, E width of a head.
"""

from collections.abc import Iterable
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysynth.errors import RecipeError
from raysynth.generators._texts import SLOTS, Count, Dropout, Memory, Natural, Positive, Share, Texts, dropped, shifted, texts_of
from raysynth.layout import Tokens


class LanguageModel(Texts):
    """`width` must be a multiple of 2 × `heads`; `dropout` on what each block adds, while training. See Texts for how tokens are drawn."""

    def __init__(
        self,
        layout: Tokens,
        *,
        width: Count = 192,
        layers: Count = 4,
        heads: Count = 4,
        dropout: Dropout = 0.2,
        temperature: Positive = 1.0,
        top_k: Natural = 0,
        top_p: Share = 1.0,
    ) -> None:
        super().__init__(layout, width, temperature, top_k, top_p)
        if width % (2 * heads):
            raise RecipeError(f"generator.width: must be a multiple of 2 × heads, {2 * heads} (got {width})")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.embedding = nn.Parameter(torch.randn(layout.vocabulary, width) * 0.02)
        self.of_text = nn.Parameter(torch.randn(layout.texts, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout, layers) for _ in range(layers))
        self.last_norm = nn.Parameter(torch.ones(width))
        self.turns_TE = _turns(layout.length, width // heads)

    def text_loss(self, codes: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        texts_BT = texts_of(tokens_BT).clamp(max=self.shape.texts - 1)
        told_B1D = self.told_by(codes)[..., None, :]
        x_BTD = self.embedding[shifted(tokens_BT)] + self.of_text[texts_BT] + told_B1D
        x_BTD = dropped(x_BTD, self.dropout if self.training else 0.0, noise)
        turns_TE = self.turns_TE[: tokens_BT.shape[1]].to(x_BTD.device)
        for block in self.blocks:
            x_BTD = block(x_BTD, turns_TE, noise)
        is_token_BT = tokens_BT != Tokens.PAD
        logits = _normed(x_BTD, self.last_norm)[is_token_BT] @ self.embedding.T
        return functional.cross_entropy(logits, tokens_BT[is_token_BT], reduction="sum")

    def contexts(self, codes: Tensor, start: Tensor) -> Memory:
        told = self.told_by(codes)
        return {"told": told if told.dim() else told.expand(SLOTS, self.width)}

    def memory(self, device: torch.device) -> Memory:
        size = (SLOTS, self.heads, self.shape.length, self.width // self.heads)
        return {
            f"{name}-{layer}": torch.zeros(size, device=device) for layer in range(len(self.blocks)) for name in ("keys", "values")
        }

    def logits(self, context: Memory, memory: Memory, previous: Tensor, place: Tensor, text: Tensor) -> Tensor:
        x_RD = self.embedding[previous] + self.of_text[text.clamp(max=self.shape.texts - 1)] + context["told"]
        place = place.clamp(max=self.shape.length - 1)
        turns_RE = self.turns_TE.to(x_RD.device)[place]
        seen_RT = torch.arange(self.shape.length, device=place.device) <= place[:, None]
        for layer, block in enumerate(cast("Iterable[_Block]", self.blocks)):
            x_RD = block.step(x_RD, turns_RE, memory[f"keys-{layer}"], memory[f"values-{layer}"], place, seen_RT)
        return _normed(x_RD, self.last_norm) @ self.embedding.T


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, dropout: float, layers: int) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        hidden = 8 * -(-width // 3)  # the three matrices of a gated layer weigh what two of 4 × width do
        self.norm, self.gated_norm = nn.Parameter(torch.ones(width)), nn.Parameter(torch.ones(width))
        self.read = nn.Parameter(torch.randn(width, 3 * width) / width**0.5)
        self.write = nn.Parameter(torch.randn(width, width) / (2 * layers * width) ** 0.5)
        self.gate = nn.Parameter(torch.randn(width, 2 * hidden) / width**0.5)
        self.back = nn.Parameter(torch.randn(hidden, width) / (2 * layers * hidden) ** 0.5)

    def forward(self, x_BTD: Tensor, turns_TE: Tensor, noise: torch.Generator) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        rows, length, width = x_BTD.shape
        q, k, v = (_normed(x_BTD, self.norm) @ self.read).view(rows, length, 3, self.heads, width // self.heads).unbind(2)
        q, k, v = _turned(q, turns_TE[:, None]).transpose(1, 2), _turned(k, turns_TE[:, None]).transpose(1, 2), v.transpose(1, 2)
        read = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x_BTD = x_BTD + dropped(read.transpose(1, 2).flatten(2) @ self.write, dropout, noise)
        return x_BTD + dropped(self._gated(x_BTD), dropout, noise)

    def step(self, x_RD: Tensor, turns_RE: Tensor, keys: Tensor, values: Tensor, place: Tensor, seen_RT: Tensor) -> Tensor:
        """The next token of each slot; its key and its value are kept at `place`."""
        rows, width = x_RD.shape
        q, k, v = (_normed(x_RD, self.norm) @ self.read).view(rows, 3, self.heads, width // self.heads).unbind(1)
        slots = torch.arange(rows, device=place.device)
        keys[slots, :, place] = _turned(k, turns_RE[:, None])
        values[slots, :, place] = v
        q = _turned(q, turns_RE[:, None])[:, :, None]
        read = functional.scaled_dot_product_attention(q, keys, values, attn_mask=seen_RT[:, None, None])
        x_RD = x_RD + read.flatten(1) @ self.write
        return x_RD + self._gated(x_RD)

    def _gated(self, x: Tensor) -> Tensor:
        gate, value = (_normed(x, self.gated_norm) @ self.gate).chunk(2, dim=-1)
        return (functional.silu(gate) * value) @ self.back


def _normed(x: Tensor, weight: Tensor) -> Tensor:
    return functional.rms_norm(x, weight.shape, weight, 1e-6)


def _turns(length: int, width: int) -> Tensor:
    """(T, E): the cosines of each place's angles, then their sines. In float64, so that they are the same on any machine."""
    speeds: NDArray[np.float64] = 10_000.0 ** (-np.arange(0, width, 2) / width)
    angles: Any = np.arange(length)[:, None] * speeds
    return torch.from_numpy(np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))


def _turned(x: Tensor, turns: Tensor) -> Tensor:
    """x (…, E), the halves of each pair E/2 apart; `turns` (…, E) as _turns has them."""
    (left, right), (cos, sin) = x.chunk(2, dim=-1), turns.chunk(2, dim=-1)
    return torch.cat([left * cos - right * sin, left * sin + right * cos], dim=-1)
