"""Tokens → a small decoder that draws the texts of a row token by token, given its other columns, which it reads as control tokens first.

Control tokens: Keskar et al., "CTRL" (arXiv 1909.05858). A transformer as in Touvron et al., "LLaMA" (arXiv 2302.13971): normalised before
each block (RMSNorm, arXiv 1910.07467), positions by rotation (RoPE, arXiv 2104.09864), gated feed-forward (SwiGLU, arXiv 2002.05202);
embedding and head are one matrix (Press and Wolf, EACL 2017). Keys and values of each slot are kept in a cache of fixed size.

Guidance without a classifier: Ho and Salimans (arXiv 2207.12598), for texts Sanchez et al., "Stay on topic with classifier-free guidance"
(arXiv 2306.17806): the logits are those without the control tokens, and `guidance` times what the control tokens change in them.

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width, H heads, E width of a head.
"""

from collections.abc import Iterable
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators._base_model import BaseModel, Tune, facts_of, made_of, read
from raysynth.generators._ctranslate2 import Engine, check_options
from raysynth.generators._guidance import CodesInTexts
from raysynth.generators._texts import (
    CALIBRATED_ROWS,
    LEAST_CALIBRATED,
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
    first_rows,
    shifted,
)
from raysynth.layout import Arrays, Batch, Beginning, Facts, Tokens

UNTOLD = 0.1
"""The share of the rows that are learnt from without their control tokens: Ho and Salimans find 0.1 and 0.2 alike, and 0.5 worse."""

GUIDANCES = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0)
READ_ROWS = 4096  # of the validation rows, by which guidance is settled
Guidance = Annotated[float, Limits(ge=1)]


class LanguageModel(Texts):
    """`width` must be a multiple of 2 × `heads`; `dropout` on what each block adds, while training. See Texts for how tokens are drawn.

    `guidance` above 1 makes more of the other columns than was learnt, and doubles what drawing costs (null: the least at which they are
    found in drawn texts as often as in validation texts; 1 with `ctranslate2`, which knows of none, and with a `base`, whose calibration
    would take long).

    `sampler`: `torch` draws each row from its own draws alone. `ctranslate2` is several times as fast on a CPU, and its rows are the same in
    distribution only: they depend on their neighbours, so a resume, another number of workers or a server give others, which model.json
    tells. A text whose beginning is asked for is drawn by torch in any case.

    `base`: the local folder of a pre-trained causal language model of Hugging Face, its weights as safetensors, to begin with instead of
    nothing; `width`, `layers`, `heads` and `dropout` are then not looked at. `tune`: `lora` learns products of `rank` that are added to
    its matrices, weighed by `alpha` / `rank`; `full` learns all of them. `learning_rate` (null: 2e-3 from nothing, 1e-3 with lora, 5e-5
    in full). Weights are float32. The run keeps the whole of what was learnt, so that whoever draws needs no such folder; whoever trains
    reads it: the command and every training worker, under one path (a disk that they share, or the image)."""

    version: ClassVar[int] = 2

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
        guidance: Guidance | None = None,
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
            check_options(layout, top_k, top_p, repetition, guidance or 1.0)
        self.sampler, self.engine = sampler, cast("Engine | None", None)
        self.lead = len(layout.fields)
        self.first_code = np.cumsum([layout.vocabulary, *(field.size for field in layout.fields)])[:-1]
        self.path, self.tune, self.rank, self.alpha = base, tune, rank, alpha
        self.base: BaseModel | None = None
        plain = guidance is None and (sampler == "ctranslate2" or base is not None)
        self.asked_guidance = 1.0 if plain or not layout.fields else guidance
        self.guidance = self.asked_guidance or 1.0
        self.learning_rate = learning_rate or (2e-3 if base is None else 1e-3 if tune == "lora" else 5e-5)
        if base is not None:
            self.codes, self.untold = nn.ParameterList(), nn.ParameterList()  # of the base's width, once it is read
            return
        if width % (2 * heads):
            raise RecipeError(f"generator.width: must be a multiple of 2 × heads, {2 * heads} (got {width})")
        self.width, self.heads, self.dropout = width, heads, dropout
        self.embedding = nn.Parameter(torch.randn(layout.vocabulary, width) * 0.02)
        self.blocks = nn.ModuleList(_Block(width, heads, dropout, layers) for _ in range(layers))
        self.untold = nn.ParameterList(nn.Parameter(torch.randn(1, width) * 0.02) for _ in layout.fields)
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
        self.untold = nn.ParameterList(nn.Parameter(torch.randn(1, base.width) * spread) for _ in self.shape.fields)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, facts = super().state()
        facts["guidance"] = self.guidance
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
        self.guidance = self.asked_guidance or facts.get("guidance", 1.0)
        if self.base is not None:
            self.base.merge()
        self.engine = None

    def calibrate(self, rows: Iterable[Batch]) -> None:
        """The least of GUIDANCES at which the codes are found in texts as often as in real ones, by halving; each at its own temperature."""
        if self.asked_guidance is not None:
            super().calibrate(rows)
            return
        real, self.guidance = first_rows(rows, self.shape, READ_ROWS), 1.0
        if real.rows < LEAST_CALIBRATED:
            super().calibrate([real])
            return
        told, draws = CodesInTexts(self.shape, real), Draws.range(0, "guide", 0, CALIBRATED_ROWS)
        low, high = 0, len(GUIDANCES) - 1 if told.fields else 0
        while low < high:
            middle = (low + high) // 2
            self.guidance = GUIDANCES[middle]
            super().calibrate([real])
            if told.fewer(self.sample(draws, None)):
                low = middle + 1
            else:
                high = middle
        self.guidance = GUIDANCES[low]
        super().calibrate([real])

    def text_loss(self, codes: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        controls = self._controls(codes, noise)
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

    def _controls(self, codes: Tensor, noise: torch.Generator) -> list[Tensor]:
        """(B, 1, D) of each field. While training, UNTOLD of the rows are told nothing, so that guidance knows what is said without."""
        told = [table[codes[:, number], None] for number, table in enumerate(self.codes)]
        if not self.training:
            return told
        is_told_B11 = torch.ones((len(codes), 1, 1), dtype=torch.bool, device=codes.device)
        if self.asked_guidance != 1:
            is_told_B11 = torch.rand(is_told_B11.shape, generator=noise, device=codes.device) >= UNTOLD
        return [torch.where(is_told_B11, one, nothing) for one, nothing in zip(told, self.untold, strict=True)]

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
        """With guidance each slot is read twice: the second half of them are told no control tokens."""
        read = torch.cat([self.embedding if self.base is None else self.base.table(), *self.codes, *self.untold])
        if self.base is not None:
            return {"read": read}
        slots = SLOTS if self.guidance == 1 else 2 * SLOTS
        size = (slots, self.heads, self.lead + self.shape.length, self.width // self.heads)
        made = {
            f"{name}-{layer}": torch.zeros(size, device=device) for layer in range(len(self.blocks)) for name in ("keys", "values")
        }
        return {"read": read, **made}

    def logits(self, context: Memory, memory: Memory, previous: Tensor, place: Tensor, text: Tensor) -> Tensor:
        if self.guidance == 1:
            return self._step(memory, previous, place)
        untold = torch.where(place < self.lead, len(memory["read"]) - self.lead + place, previous)
        told_RV, untold_RV = self._step(memory, torch.cat([previous, untold]), torch.cat([place, place])).chunk(2)
        return untold_RV + self.guidance * (told_RV - untold_RV)

    def _step(self, memory: Memory, previous: Tensor, place: Tensor) -> Tensor:
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
