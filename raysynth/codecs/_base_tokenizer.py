"""The tokenizer of a Hugging Face model (its tokenizer.json) as a vocabulary of ours: its ids behind PAD, END and NULL.

What it takes for special (`</s>`, `<|endoftext|>`) is a text like any other where a text has it: END alone ends a text.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # one thread, as all sampling has; before the import

from tokenizers import Tokenizer

from raysynth.codecs._tokenizer import FIRST, allowed_next
from raysynth.errors import RecipeError
from raysynth.layout import Beginning

FILE = "tokenizer.json"


@dataclass(frozen=True)
class BaseVocabulary:
    """`told`: all of tokenizer.json."""

    told: str

    @property
    def size(self) -> int:
        """So many ids, PAD, END and NULL among them."""
        return FIRST + 1 + max(self._model.get_vocab(with_added_tokens=True).values())

    @cached_property
    def _model(self) -> Any:
        model: Any = Tokenizer.from_str(self.told)
        model.no_padding()
        model.no_truncation()
        model.encode_special_tokens = True
        return model

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids from FIRST on, without END."""
        found = self._model.encode_batch_fast(list(texts), add_special_tokens=False)
        return [[FIRST + number for number in one.ids] for one in found]

    def decode(self, ids: Iterable[int]) -> str:
        return str(self._model.decode([number - FIRST for number in ids if number >= FIRST], skip_special_tokens=True))

    def kept(self, texts: Sequence[str]) -> int:
        """How many of the texts come out as they went in: a tokenizer may write them small, or lose a blank."""
        return sum(self.decode(ids) == text for ids, text in zip(self.encode(texts), texts, strict=True))

    def beginning(self, text: str) -> Beginning:
        """RecipeError where tokens do not simply spell bytes, one behind the other."""
        decoder = json.loads(self.told).get("decoder") or {}
        if decoder.get("type") != "ByteLevel":
            raise RecipeError(
                f"where: starts needs a tokenizer whose tokens spell bytes (got a decoder of type {decoder.get('type')}). Take a model "
                "with a byte-level tokenizer, as GPT-2, Llama 3 and Qwen have, or leave starts out"
            )
        spelled, byte_of = [b""] * self.size, _byte_of()
        added = {token.content for token in self._model.get_added_tokens_decoder().values()}
        for token, number in self._model.get_vocab(with_added_tokens=True).items():
            if token not in added:
                spelled[FIRST + number] = bytes(byte_of[character] for character in token)
        return allowed_next(text.encode(), spelled)


def read_tokenizer(path: str) -> BaseVocabulary:
    """A folder's, or the file itself. RecipeError on what is no tokenizer."""
    file = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        found = BaseVocabulary(file.read_text(encoding="utf-8"))
        found.encode([""])
    except OSError:
        raise RecipeError(
            f"codec.tokenizer: '{path}' has no {FILE}. With transformers: AutoTokenizer.from_pretrained('…').save_pretrained('{path}')"
        ) from None
    except Exception as error:  # tokenizers raises nothing narrower
        raise RecipeError(f"codec.tokenizer: '{file}' is no tokenizer ({error}). Save it again with transformers") from None
    return found


def _byte_of() -> dict[str, int]:
    """The characters by which byte-level tokenizers write bytes: those that can be seen are themselves (GPT-2's table)."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + number): byte for number, byte in enumerate(hidden)}
