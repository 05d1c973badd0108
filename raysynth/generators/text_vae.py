"""Tokens → a variational autoencoder: a row's texts are one point z of a normal law, and a decoder writes them out from there.

Kingma and Welling, "Auto-encoding variational Bayes" (arXiv 1312.6114), for texts as in Bowman et al., "Generating sentences from a
continuous space" (CoNLL 2016): a recurrent encoder tells the mean and the log-variance of z given the texts, z = mean + e^(log-variance / 2)
· noise, and the loss is the negative evidence lower bound, reconstruction + weight · KL(q(z | texts, codes) ‖ p(z | codes)). The law of z is
N(0, 1) around a mean that the row's codes give (Sohn et al., NeurIPS 2015), so that what a label says need not be said by z. A decoder this
able would do without z: so the weight of the KL grows from 0 to 1 over the first `warmup_steps`, each dimension has `free_bits` nats for
nothing (Kingma et al., "Improved variational inference with inverse autoregressive flow", NeurIPS 2016), some of the words that the decoder
goes by are hidden from it, and while training z alone must tell which words there are (Zhao et al., "Learning discourse-level diversity for
neural dialog models", ACL 2017).

Shapes: B rows, R slots, T tokens of a row, V tokens that there are, D width, Z latent dimensions.
"""

from typing import Annotated, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field as Limits
from torch import Tensor, nn
from torch.nn import functional

from raysynth.draws import Draws
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
    lengths_of,
    shifted,
)
from raysynth.layout import Batch, Tokens

Nats = Annotated[float, Limits(ge=0)]


class TextVae(Texts):
    """`latent`: dimensions of z; `free_bits`: nats of each that cost nothing; `warmup_steps` until the KL has its full weight;
    `word_dropout`: share of the tokens that the decoder does not see while training; `dropout` on what it reads and writes."""

    def __init__(
        self,
        layout: Tokens,
        *,
        width: Count = 256,
        latent: Count = 64,
        free_bits: Nats = 0.2,
        warmup_steps: Natural = 500,
        word_dropout: Dropout = 0.3,
        dropout: Dropout = 0.2,
        temperature: Positive | None = None,
        top_k: Natural = 0,
        top_p: Share = 1.0,
        repetition: Repetition = 1.0,
    ) -> None:
        super().__init__(layout, width, temperature, top_k, top_p, repetition, spread=0.3)
        self.width, self.latent, self.free_bits, self.warmup_steps = width, latent, free_bits, warmup_steps
        self.word_dropout, self.dropout = word_dropout, dropout
        self.embedding = nn.Parameter(torch.randn(layout.vocabulary, width) * 0.05)
        self.encoder = nn.GRU(width, width, batch_first=True, bidirectional=True)
        self.to_mean, self.to_log_variance = nn.Linear(3 * width, latent), nn.Linear(3 * width, latent)
        nn.init.constant_(self.to_log_variance.bias, -4.0)  # at first z says what there is to say, before the KL has its weight
        self.to_prior = nn.Linear(width, latent)
        self.to_start, self.to_input = nn.Linear(latent + width, width), nn.Linear(latent + width, width)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.bias = nn.Parameter(torch.zeros(layout.vocabulary))
        self.to_bag = nn.Linear(latent + width, width)
        self.register_buffer("steps", torch.zeros(1))

    # --- training ------------------------------------------------------------------------------------------------------------

    def text_loss(self, codes: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        """The negative evidence lower bound; while training with the KL's weight of the step, and free bits. Judged with neither."""
        told = self._told(codes)
        mean_BZ, log_variance_BZ = self._posterior(told, tokens_BT)
        if not self.training:
            z_BZ = mean_BZ + torch.exp(log_variance_BZ / 2) * torch.randn(mean_BZ.shape, generator=noise)
            return self._reconstruction(told, z_BZ, tokens_BT, noise) + self._divergence(told, mean_BZ, log_variance_BZ).sum()
        steps = cast("Tensor", self.steps)
        noise_BZ = torch.randn(mean_BZ.shape, generator=noise, device=mean_BZ.device)
        z_BZ = mean_BZ + torch.exp(log_variance_BZ / 2) * noise_BZ
        weight = (steps / max(1, self.warmup_steps)).clamp(max=1.0)
        costs_Z = self._divergence(told, mean_BZ, log_variance_BZ).mean(0).clamp(min=self.free_bits) * len(tokens_BT)
        return self._reconstruction(told, z_BZ, tokens_BT, noise) + (weight * costs_Z).sum() + self._bag(told, z_BZ, tokens_BT)

    def loss(self, batch: Any, turn: str, draws: Draws) -> Tensor:
        loss = super().loss(batch, turn, draws)
        if self.training:
            cast("Tensor", self.steps).add_(1)
        return loss

    def _read(self, tokens: Tensor) -> Tensor:
        """As inputs the embeddings are as long as their width asks for, as outputs short (Vaswani et al., NeurIPS 2017, section 3.4)."""
        return self.embedding[tokens] * self.width**0.5

    def _told(self, codes: Tensor) -> Tensor:
        told = self.told_by(codes)
        return told if told.dim() else told.expand(len(codes), self.width)

    def _posterior(self, told_BD: Tensor, tokens_BT: Tensor) -> tuple[Tensor, Tensor]:
        """(B, Z) mean and log-variance."""
        states_BTD, _ = self.encoder(self._read(tokens_BT))
        is_token_BT1 = (tokens_BT != Tokens.PAD)[..., None]
        read_BD = (states_BTD * is_token_BT1).sum(1) / is_token_BT1.sum(1).clamp(min=1)
        x = torch.cat([read_BD, told_BD], dim=1)
        return self.to_mean(x), self.to_log_variance(x).clamp(-8.0, 4.0)

    def _reconstruction(self, told_BD: Tensor, z_BZ: Tensor, tokens_BT: Tensor, noise: torch.Generator) -> Tensor:
        x_BTD = self._read(shifted(tokens_BT))
        if self.training:
            seen = torch.empty(tokens_BT.shape, device=x_BTD.device).bernoulli_(1 - self.word_dropout, generator=noise)
            x_BTD = self._dropped(x_BTD * seen[..., None], noise)
        start_BD, input_BD = self._starts(told_BD, z_BZ)
        states_BTD, _ = self.decoder(x_BTD + input_BD[:, None], start_BD[None])
        is_token_BT = tokens_BT != Tokens.PAD
        logits = self._dropped(states_BTD[is_token_BT], noise) @ self.embedding.T + self.bias
        return functional.cross_entropy(logits, tokens_BT[is_token_BT], reduction="sum")

    def _bag(self, told_BD: Tensor, z_BZ: Tensor, tokens_BT: Tensor) -> Tensor:
        """What the tokens cost where nothing is known but z and the codes, not even their order."""
        x_BD = torch.tanh(self.to_bag(torch.cat([z_BZ, told_BD], dim=1)))
        log_p_BV = torch.log_softmax(x_BD @ self.embedding.T + self.bias, dim=1)
        return -(log_p_BV.gather(1, tokens_BT) * (tokens_BT > Tokens.NULL)).sum()

    def _starts(self, told_BD: Tensor, z_BZ: Tensor) -> tuple[Tensor, Tensor]:
        """The decoder's first state, and what it reads of z and of the row's codes at every token."""
        x = torch.cat([z_BZ, told_BD], dim=1)
        return torch.tanh(self.to_start(x)), self.to_input(x)

    def _dropped(self, x: Tensor, noise: torch.Generator) -> Tensor:
        return dropped(x, self.dropout if self.training else 0.0, noise)

    def _divergence(self, told_BD: Tensor, mean_BZ: Tensor, log_variance_BZ: Tensor) -> Tensor:
        """(B, Z): KL(N(mean, variance) ‖ N(the codes' mean, 1)) in nats."""
        return ((mean_BZ - self.to_prior(told_BD)) ** 2 + torch.exp(log_variance_BZ) - 1 - log_variance_BZ) / 2

    # --- the latent space ----------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def encode(self, batch: Batch) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Encoded rows → (rows, Z) means and variances of their z."""
        codes, tokens = (torch.from_numpy(batch[name].astype(np.int64)) for name in ("codes", "tokens"))
        mean_BZ, log_variance_BZ = self._posterior(self._told(codes), tokens)
        return mean_BZ.numpy(), torch.exp(log_variance_BZ).numpy()

    @torch.inference_mode()
    def prior(self, codes: NDArray[np.int32]) -> NDArray[np.float32]:
        """(rows, fields) codes → (rows, Z): the mean of z given them; its variance is 1."""
        return self.to_prior(self._told(torch.from_numpy(codes.astype(np.int64)))).numpy()

    @torch.inference_mode()
    def decode(self, codes: NDArray[np.int32], z: NDArray[np.float32], draws: Draws) -> Batch:
        """(rows, fields) codes and (rows, Z) points → rows that the decoder draws there."""
        tokens = self._draw(codes, draws, z - self.prior(codes))
        return Batch({"codes": codes, "tokens": tokens}, (tokens == Tokens.END).sum(axis=1) == self.shape.texts)

    @torch.inference_mode()
    def nats(self, batch: Batch, z: NDArray[np.float32]) -> float:
        """What the tokens of encoded rows cost, in nats a token, with (rows, Z) z given: what a z tells is seen beside another one's."""
        codes, tokens = (torch.from_numpy(batch[name].astype(np.int64)) for name in ("codes", "tokens"))
        total = self._reconstruction(self._told(codes), torch.from_numpy(z), tokens, torch.Generator())
        return float(total / lengths_of(tokens).sum())

    # --- sampling ------------------------------------------------------------------------------------------------------------

    def starts(self, draws: Draws) -> NDArray[np.float64]:
        return draws.normal("z", self.latent)

    def contexts(self, codes: Tensor, start: Tensor) -> Memory:
        told = self._told(codes)
        first, read = self._starts(told, self.to_prior(told) + start)
        return {"first": first, "input": read}

    def memory(self, device: torch.device) -> Memory:
        return {"state": torch.zeros(SLOTS, self.width, device=device)}

    def logits(self, context: Memory, memory: Memory, previous: Tensor, place: Tensor, text: Tensor) -> Tensor:
        state = torch.where(place[:, None] == 0, context["first"], memory["state"])
        x = (self._read(previous) + context["input"])[:, None]
        _, after = self.decoder(x, state[None])
        memory["state"].copy_(after[0])
        return torch.addmm(self.bias, after[0], self.embedding.T)
