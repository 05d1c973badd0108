"""A table of characters, or of pairs of them, and the texts that may stand for each, as arrays that are looked up for many at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from raysynth.ops.text._codes import Codes, Places

Keys = NDArray[np.uint64]


@dataclass(frozen=True)
class Alike:
    """`keys`, sorted; key i may become the texts of number `first[i]` to `first[i + 1]`; text j is `letters[starts[j] : starts[j + 1]]`."""

    keys: Keys
    first: Places
    starts: Places
    letters: str

    @staticmethod
    def of(table: Mapping[str, Sequence[str]]) -> "Alike":
        """One or two characters → texts."""
        known = {pair_key(*(np.array(ord(one), np.uint32) for one in key)).item(): texts for key, texts in table.items() if texts}
        keys = sorted(known)
        texts = [text for key in keys for text in known[key]]
        return Alike(
            np.array(keys, np.uint64),
            np.cumsum([0, *(len(known[key]) for key in keys)]),
            np.cumsum([0, *map(len, texts)]),
            "".join(texts),
        )

    def has(self, keys: Keys) -> NDArray[np.bool_]:
        return self.keys[np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)] == keys

    def chosen(self, keys: Keys, choices: Places) -> tuple[Places, Places]:
        """One text of each key: its place in `letters` and its length. Of keys that it has not, anything."""
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        number = self.first[at] + choices % (self.first[at + 1] - self.first[at])
        return self.starts[number], self.starts[number + 1] - self.starts[number]


def pair_key(code: Codes, second: Codes | None = None) -> Keys:
    """What one character, or a pair, is looked up by."""
    key = code.astype(np.uint64)
    return key if second is None else (key << np.uint64(21)) | second
