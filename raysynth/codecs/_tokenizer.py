"""Texts ↔ token ids: byte-pair encoding learnt from the texts themselves, with bytes to fall back on, so that no text is unknown and
every text comes out as it went in.

Ids from 3 on (PAD, END and NULL come before): the 256 bytes, then single characters, then pairs in the order in which they were merged.
Sennrich et al., "Neural machine translation of rare words with subword units" (ACL 2016); the byte fallback is SentencePiece's (Kudo
and Richardson, EMNLP 2018). The work is done by Hugging Face's tokenizers.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread, as all sampling has; before the import

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from raysynth.layout import Beginning, Tokens

FIRST = Tokens.NULL + 1
_BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
_LIKE_A_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_PIECES = r" ?[\p{L}\p{M}]+| ?\p{N}| ?[^\s\p{L}\p{M}\p{N}]+|\s+"
"""A word with the blank before it, a digit, a run of signs, blanks: no token reaches over two of them."""
LEAST_SEEN = 3
"""A character, or a merged pair, that the texts have less often is written as its bytes, or as its halves."""
CHARACTERS_PER_MERGE = 100
MOST_TOKENS = 16_384


@dataclass(frozen=True)
class Vocabulary:
    """`characters` and `merges`: all that was learnt; the rest is made of them."""

    characters: tuple[str, ...]
    merges: tuple[tuple[str, str], ...]

    @property
    def size(self) -> int:
        """So many ids, PAD, END and NULL among them."""
        return FIRST + len(self._pieces)

    @cached_property
    def _pieces(self) -> list[str]:
        return [*_BYTES, *self.characters, *(left + right for left, right in self.merges)]

    @cached_property
    def _model(self) -> Any:
        ids = {piece: number for number, piece in enumerate(self._pieces)}
        model: Any = Tokenizer(models.BPE(vocab=ids, merges=list(self.merges), byte_fallback=True, fuse_unk=False))
        model.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
        return model

    @cached_property
    def _spelled(self) -> list[bytes]:
        return [bytes([byte]) for byte in range(256)] + [piece.encode() for piece in self._pieces[256:]]

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids from FIRST on, without END."""
        return [[FIRST + number for number in found.ids] for found in self._model.encode_batch_fast(list(texts))]

    def beginning(self, text: str) -> Beginning:
        """Any tokens that spell it, the last of which may say more: a word that the text cuts off can go on as one token."""
        return allowed_next(text.encode(), [b""] * FIRST + self._spelled)

    def unseen_controls(self, texts: Iterable[str]) -> tuple[int, ...]:
        """The tokens of control characters of one byte, but for tabs and ends of lines, that no text has: other bytes to fall back on may be
        drawn, these not."""
        seen = set("\t\n\r").union(*texts)
        return tuple(FIRST + byte for byte in (*range(32), 127) if chr(byte) not in seen)

    def decode(self, ids: Iterable[int]) -> str:
        """Bytes that are no character, as a model may draw them, are left out."""
        return b"".join(self._spelled[number - FIRST] for number in ids if number >= FIRST).decode(errors="ignore")


def allowed_next(data: bytes, spelled: Sequence[bytes]) -> Beginning:
    """`spelled`: the bytes that each token writes, none of those that write no text."""
    allowed = np.zeros((len(data), len(spelled)), dtype=np.bool_)
    by_first: dict[bytes, list[int]] = {}
    for token in range(FIRST, len(spelled)):
        by_first.setdefault(spelled[token][:1], []).append(token)
    for at in range(len(data)):
        rest = data[at:]
        for token in by_first.get(rest[:1], []):
            allowed[at, token] = rest.startswith(spelled[token]) or spelled[token].startswith(rest)
    return Beginning(allowed, np.array([len(one) for one in spelled], dtype=np.int64))


def learn(texts: Sequence[str], most: int | None) -> Vocabulary:
    """`most`: of the tokens, bytes and all; None: by how much text there is. The same texts in another order give the same tokens."""
    counts = Counter(character for text in texts for character in text)
    total = sum(counts.values())
    most = most or min(MOST_TOKENS, FIRST + 256 + len(counts) + total // CHARACTERS_PER_MERGE)
    room = max(0, most - FIRST - 256)
    known = sorted((character for character, count in counts.items() if count >= LEAST_SEEN), key=lambda one: (-counts[one], one))
    characters = tuple(sorted(known[:room]))
    merges = _merges(sorted(texts), characters, most - FIRST - 256) if room > len(characters) else ()
    return Vocabulary(characters, merges)


def _merges(texts: Sequence[str], characters: Sequence[str], room: int) -> tuple[tuple[str, str], ...]:
    trainer: Any = trainers.BpeTrainer(
        vocab_size=room,
        min_frequency=LEAST_SEEN,
        limit_alphabet=len(characters),
        initial_alphabet=list(characters),
        show_progress=False,
    )
    learner: Any = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Split(Regex(_PIECES), "isolated")
    learner.train_from_iterator(iter(texts), trainer)
    learnt = cast("list[list[str]]", json.loads(learner.to_str())["model"]["merges"])
    seen = {*_BYTES, *characters}
    merges: list[tuple[str, str]] = []
    for left, right in learnt:
        if left in seen and right in seen and left + right not in seen and not _LIKE_A_BYTE.search(left + right):
            seen.add(left + right)
            merges.append((left, right))
    return tuple(merges)
