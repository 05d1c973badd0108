"""Tokens → a small decoder that draws the texts of a row token by token, given its other columns, which it reads as control tokens first.

Control tokens: Keskar et al., "CTRL" (arXiv 1909.05858). A transformer as in Touvron et al., "LLaMA" (arXiv 2302.13971): normalised before
each block (RMSNorm, arXiv 1910.07467), positions by rotation (RoPE, arXiv 2104.09864), gated feed-forward (SwiGLU, arXiv 2002.05202);
embedding and head are one matrix (Press and Wolf, EACL 2017). Keys and values of each slot are kept in a cache of fixed size.

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width, H heads, E width of a head.
"""

from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators._base_model import BaseModel, Tune, facts_of, made_of, read
from raysynth.generators._ctranslate2 import Engine, check_options
from raysynth.generators._texts import (
    SLOTS,
    Count,
    Dropout,
    Memory,
    Natural,
    Positive,
    Repetition,
    Share,
    Texts,
    dropped,
    shifted,
)
from raysynth.layout import Arrays, Beginning, Facts, Tokens


class LanguageModel(Texts):
    """`width` must be a multiple of 2 × `heads`; `dropout` on what each block adds, while training. See Texts for how tokens are drawn.

    `sampler`: `torch` draws each row from its own draws alone. `ctranslate2` is several times as fast on a CPU, and its rows are the same in
    distribution only: they depend on their neighbours, so a resume, another number of workers or a server give others, which model.json
    tells. A text whose beginning is asked for is drawn by torch in any case.

    `base`: the local folder of a pre-trained causal language model of Hugging Face, its weights as safetensors, to begin with instead of
    nothing; `width`, `layers`, `heads` and `dropout` are then not looked at. `tune`: `lora` learns products of `rank` that are added to
    its matrices, weighed by `alpha` / `rank`; `full` learns all of them. `learning_rate` (null: 2e-3 from nothing, 1e-3 with lora, 5e-5
    in full). Weights are float32. The run keeps the whole of what was learnt, so that whoever draws needs no such folder; whoever trains
    reads it: the command and every training worker, under one path (a disk that they share, or the image)."""

    def __init__(
        self,
        layout: Tokens,
        *,
        width: Count = 192,
        layers: Count = 4,
        heads: Count = 4,
        dropout: Dropout = 0.2,
        temperature: Positive | None = None,
        top_k: Natural = 0,
        top_p: Share = 1.0,
        repetition: Repetition = 1.0,
        sampler: Literal["torch", "ctranslate2"] = "torch",
        base: str | None = None,
        tune: Tune = "lora",
        rank: Count = 8,
        alpha: Positive = 16.0,
        learning_rate: Positive | None = None,
    ) -> None:
        super().__init__(layout, width, temperature, top_k, top_p, repetition)
        if sampler == "ctranslate2" and base is not None:
            raise RecipeError("generator.sampler: ctranslate2 draws from what is made without a base. Leave one of them out")
        if sampler == "ctranslate2":
            check_options(layout, top_k, top_p, repetition)
        self.sampler, self.engine = sampler, cast("Engine | None", None)
        self.lead = len(layout.fields)
        self.first_code = np.cumsum([layout.vocabulary, *(field.size for field in layout.fields)])[:-1]
        self.path, self.tune, self.rank, self.alpha = base, tune, rank, alpha
        self.base: BaseModel | None = None
        self.learning_rate = learning_rate or (2e-3 if base is None else 1e-3 if tune == "lora" else 5e-5)
        if base is not None:
            self.codes = nn.ParameterList()  # of the base's width, once it is read
            return
        if width % (2 * heads):
            raise RecipeError(f"generator.width: must be a multiple of 2 × heads, {2 * heads} (got {width})")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.embedding = nn.Parameter(torch.randn(layout.vocabulary, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout, layers) for _ in range(layers))
        self.last_norm = nn.Parameter(torch.ones(width))
        self.turns_TE = _turns(self.lead + layout.length, width // heads)

    @property
    def decoder_blocks(self) -> "list[_Block]":
        return cast("list[_Block]", list(self.blocks))

    def begin(self) -> None:
        if self.path is not None and self.base is None:
            base = read(self.path, self.shape, adapted=self.tune == "lora")
            base.check(self.lead + self.shape.length)
            if self.tune == "lora":
                base.adapt(self.rank, self.alpha)
            self._take(base)

    def _take(self, base: BaseModel) -> None:
        spread = float(base.own.detach().std())
        self.base = base
        self.codes = nn.ParameterList(nn.Parameter(torch.randn(field.size, base.width) * spread) for field in self.shape.fields)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        if self.sampler != "torch":
            facts["rows"] = "the same in distribution only"
        if self.base is not None:
            facts["base"] = facts_of(self.base)
        return arrays, facts

    def load(self, arrays: Arrays, facts: Facts) -> None:
        if self.path is not None:
            with torch.random.fork_rng(devices=[]):
                if "base" in facts:
                    self._take(made_of(facts["base"], self.shape))
                else:
                    self.begin()
        super().load(arrays, facts)
        if self.base is not None:
            self.base.merge()
        self.engine = None

    def text_loss(self, codes: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        controls = [table[codes[:, number], None] for number, table in enumerate(self.codes)]
        is_token_BT = tokens_BT != Tokens.PAD
        if self.base is not None:
            logits_BTV = self.base(torch.cat([*controls, self.base.table()[shifted(tokens_BT)]], dim=1))[:, self.lead :]
            return functional.cross_entropy(logits_BTV[is_token_BT], tokens_BT[is_token_BT], reduction="sum")
        x_BTD = torch.cat([*controls, self.embedding[shifted(tokens_BT)]], dim=1)
        x_BTD = dropped(x_BTD, self.dropout if self.training else 0.0, noise)
        turns_TE = self.turns_TE[: x_BTD.shape[1]].to(x_BTD.device)
        for block in self.decoder_blocks:
            x_BTD = block(x_BTD, turns_TE, noise)
        logits = _normed(x_BTD[:, self.lead :], self.last_norm)[is_token_BT] @ self.embedding.T
        return functional.cross_entropy(logits, tokens_BT[is_token_BT], reduction="sum")

    def led(self, codes: NDArray[np.int32]) -> NDArray[np.int64]:
        """Control tokens are numbered behind the vocabulary, field by field."""
        return codes.astype(np.int64) + self.first_code

    def _draw(
        self,
        codes: NDArray[np.int32],
        draws: Draws,
        start: NDArray[np.float32],
        begun: tuple[Beginning | None, ...] = (),
        written: NDArray[np.int32] | None = None,
    ) -> NDArray[np.int32]:
        if self.sampler == "torch" or any(begun) or written is not None:
            return super()._draw(codes, draws, start, begun, written)
        if self.engine is None or (self.engine.device, self.engine.temperature) != (self.embedding.device.type, self.temperature):
            self.engine = Engine(self)
        return self.engine.draw(np.concatenate([self.led(codes), np.full((len(codes), 1), Tokens.END)], axis=1), draws)

    def contexts(self, codes: Tensor, start: Tensor) -> Memory:
        return {}

    def memory(self, device: torch.device) -> Memory:
        if self.base is not None:
            return {"read": torch.cat([self.base.table(), *self.codes])}
        size = (SLOTS, self.heads, self.lead + self.shape.length, self.width // self.heads)
        made = {
            f"{name}-{layer}": torch.zeros(size, device=device) for layer in range(len(self.blocks)) for name in ("keys", "values")
        }
        return {"read": torch.cat([self.embedding, *self.codes]), **made}

    def logits(self, context: Memory, memory: Memory, previous: Tensor, place: Tensor, text: Tensor) -> Tensor:
        x_RD = memory["read"][previous]
        if self.base is not None:
            return self.base.step(x_RD, memory, place, self.lead + self.shape.length)
        turns_RE = self.turns_TE.to(x_RD.device)[place]
        seen_RT = torch.arange(len(self.turns_TE), device=place.device) <= place[:, None]
        for layer, block in enumerate(self.decoder_blocks):
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
