"""A trained LanguageModel → the texts of rows, drawn by ctranslate2: faster, and the same in distribution only.

ctranslate2 has the same network (TransformerDecoderModelSpec), with its matrices in 8-bit integers wherever the next token is then drawn
from nearly the same distribution: on CPUs without VNNI, as sampling's fixed instruction set leaves them, large sums of such integers
overflow, which some networks bear and others do not. Its random numbers belong to a thread and serve all rows of a batch: so every call
starts a thread of its own, seeded by the rows' draws. The same call gives the same rows again on one machine; a row beside other
neighbours is another row.
"""

from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from raysynth.draws import Draws
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.layout import Tokens

if TYPE_CHECKING:
    from raysynth.generators.language_model import LanguageModel

BATCH_ROWS = 256  # are drawn at a time: those that have ended leave, so larger batches gain little
NEVER = -1e9
TRIED_ROWS = 64
MOST_APART = 0.01
"""Total variation between the next tokens by integers and by float32, in the mean over TRIED_ROWS places: what a sample of thousands of
rows does not tell from noise."""


def check_options(layout: Tokens, top_k: int, top_p: float, repetition: float, guidance: float) -> None:
    """RecipeError on what ctranslate2 does otherwise than torch's sampler, MissingExtraError where it is not installed."""
    if find_spec("ctranslate2") is None:
        raise MissingExtraError("generator.sampler: ctranslate2 needs the package 'ctranslate2': pip install 'raysynth[llm]'")
    if guidance != 1:
        raise RecipeError(
            f"generator.sampler: ctranslate2 knows no guidance (got guidance {guidance}). Leave guidance out, or give sampler: torch"
        )
    if top_k and top_p < 1:
        raise RecipeError(
            f"generator.sampler: ctranslate2 takes top_p of all tokens, not of the top_k (got top_k {top_k} and top_p {top_p}). "
            "Give one of them, or sampler: torch"
        )
    if repetition != 1 and (layout.texts > 1 or layout.roles):
        raise RecipeError(
            f"generator.sampler: ctranslate2 tells repetition within one plain text alone (got repetition {repetition}, and "
            f"{layout.texts} texts a row or turns of a conversation). Leave repetition at 1, or give sampler: torch"
        )


class Engine:
    """The network as it was when this was made. `draw` may be called any number of times."""

    def __init__(self, model: "LanguageModel") -> None:
        self.shape, self.device, self.temperature = model.shape, model.embedding.device.type, model.temperature
        self.options = {
            "max_batch_size": BATCH_ROWS,
            "include_prompt_in_result": False,
            "return_end_token": True,
            "end_token": [str(Tokens.END)],
            "sampling_topk": model.top_k,  # 0: all
            "sampling_topp": model.top_p,
            "repetition_penalty": model.repetition,
        }
        self.files = _saved(model, "int8")
        exact, draws = _saved(model, None), Draws.range(0, "tried", 0, TRIED_ROWS)
        sizes = np.array([field.size for field in model.shape.fields])
        led = model.led((draws.uniform("codes", len(sizes)) * sizes).astype(np.int32))
        if self._apart(exact, np.concatenate([led, np.full((TRIED_ROWS, 1), Tokens.END)], axis=1), draws) > MOST_APART:
            self.files = exact

    def draw(self, led: NDArray[np.int64], draws: Draws) -> NDArray[np.int32]:
        """`led` (rows, L): what is read before each row's first token, END and all → (rows, T) tokens."""
        engine = self._started(self.files, int(np.bitwise_xor.reduce(draws.words("ctranslate2")) & np.uint64(0xFFFFFFFF)))
        rows = [_Row(one) for one in led.tolist()]
        barred_2PV = self._barred()
        for text, nullable in enumerate(self.shape.nullable):
            first, later = ([[str(token)] for token in np.flatnonzero(barred_V)] for barred_V in barred_2PV[:, text])
            open_rows = [row for row in rows if row.whole and len(row.tokens) < self.shape.length]
            for row in open_rows:
                row.whole = False
            begins_apart = nullable or bool(self.shape.roles)  # then a text begins otherwise than it goes on
            if begins_apart:
                self._write(engine, open_rows, 1, first)
                for row in open_rows:
                    if row.tokens[-1] == Tokens.NULL:
                        row.write([Tokens.END])
                open_rows = [row for row in open_rows if not row.whole]
            room = max((self.shape.length - len(row.tokens) for row in open_rows), default=0)
            self._write(engine, open_rows, room, later, least=0 if begins_apart else 1)
        tokens = np.full((len(rows), self.shape.length), Tokens.PAD, dtype=np.int32)
        for number, row in enumerate(rows):
            written = row.tokens[: self.shape.length]
            tokens[number, : len(written)] = written
        return tokens

    def _write(self, engine: Any, rows: "list[_Row]", most: int, barred: list[list[str]], least: int = 0) -> None:
        """`most` tokens more of each row, or as many as there are up to the end of its text, which has `least` before it."""
        if not rows or not most:
            return
        read = [row.read for row in rows]
        found = engine.generate_batch(read, max_length=most, min_length=least, suppress_sequences=barred, **self.options)
        for row, one in zip(rows, found, strict=True):
            row.write(one.sequences_ids[0])

    def _started(self, files: dict[str, bytes], seed: int) -> Any:
        from ctranslate2 import Generator, set_random_seed

        set_random_seed(seed)
        return Generator("memory", device=self.device, files=files, inter_threads=1, intra_threads=1)

    def _apart(self, exact: dict[str, bytes], led: NDArray[np.int64], draws: Draws) -> float:
        """How far integers are from `exact`, each time somewhere in a row that they draw."""
        rows, at = self.draw(led, draws), draws.uniform("at")
        lengths = ((rows != Tokens.PAD).sum(axis=1) * at).astype(np.int64)
        written = [row[:length] for row, length in zip(rows, lengths, strict=True)]
        read = [[str(token) for token in (*before, *tokens)] for before, tokens in zip(led.tolist(), written, strict=True)]
        laws = [self._next(self._started(files, 0), read) for files in (self.files, exact)]
        return float(np.abs(laws[0] - laws[1]).sum(axis=1).mean() / 2)

    def _next(self, engine: Any, read: list[list[str]]) -> NDArray[np.float64]:
        """(rows, V): how likely each next token is."""
        found = [engine.generate_batch([one], max_length=1, return_logits_vocab=True, **self.options)[0] for one in read]
        logits_RV = np.stack([np.array(one.logits[0]).reshape(-1) for one in found])
        return torch.softmax(torch.from_numpy(logits_RV).double(), dim=1).numpy()

    def _barred(self) -> NDArray[np.bool_]:
        """(2, texts, V): what a text cannot begin with, and what cannot stand behind. PAD has its bias."""
        barred_2PV = self.shape.barred()
        barred_2PV[0, :, Tokens.NULL] = ~np.array(self.shape.nullable)
        barred_2PV[1, :, Tokens.NULL] = True
        return barred_2PV


class _Row:
    """`read`: what the network reads of it, as ctranslate2 names tokens; `whole`: whether its last text has come to its end."""

    def __init__(self, led: list[int]) -> None:
        self.read, self.tokens, self.whole = [str(token) for token in led], list[int](), True

    def write(self, tokens: list[int]) -> None:
        self.tokens += tokens
        self.read += [str(token) for token in tokens]
        self.whole = self.tokens[-1:] == [Tokens.END]


def _saved(model: "LanguageModel", quantization: str | None) -> dict[str, bytes]:
    spec = _spec(model)
    spec.validate()
    spec.optimize(quantization=quantization)
    with TemporaryDirectory() as folder:
        spec.save(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def _spec(model: "LanguageModel") -> Any:
    """The temperature goes into the last norm, so that top_p is of what it leaves."""
    from ctranslate2.specs import TransformerDecoderModelSpec
    from ctranslate2.specs.common_spec import Activation

    spec: Any = TransformerDecoderModelSpec.from_config(
        len(model.blocks), model.heads, activation=Activation.SWISH, ffn_glu=True, rms_norm=True, rotary_dim=0, rotary_interleave=False
    )  # fmt: skip
    table = torch.cat([model.embedding, *model.codes])
    decoder = spec.decoder
    decoder.scale_embeddings = False
    decoder.embeddings.weight, decoder.projection.weight = _array(table), _array(model.embedding)
    bias = torch.zeros(model.shape.vocabulary)
    bias[Tokens.PAD] = NEVER
    decoder.projection.bias = _array(bias)
    decoder.layer_norm.gamma = _array(model.last_norm / model.temperature)
    for layer, block in zip(decoder.layer, model.decoder_blocks, strict=True):
        read, write = layer.self_attention.linear
        read.weight, write.weight = _array(block.read.T), _array(block.write.T)
        layer.self_attention.layer_norm.gamma, layer.ffn.layer_norm.gamma = _array(block.norm), _array(block.gated_norm)
        gate, up = block.gate.chunk(2, dim=1)
        layer.ffn.linear_0.weight, layer.ffn.linear_0_noact.weight = _array(gate.T), _array(up.T)
        layer.ffn.linear_1.weight = _array(block.back.T)
    end, pad = str(Tokens.END), str(Tokens.PAD)
    spec.config.layer_norm_epsilon, spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = 1e-6, end, end, pad
    spec.register_vocabulary([str(number) for number in range(len(table))])
    return spec


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return np.ascontiguousarray(tensor.detach().cpu().numpy().astype(np.float32))
