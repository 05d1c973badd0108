"""The rows of lowest hashed id: a sample that is the same however the rows were cut into tasks."""

from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import row_words
from raysynth.schema import FILE, ROW


@dataclass(frozen=True)
class Pool:
    """At most `size` rows in the order of their hashes, `words`."""

    rows: pa.Table
    words: NDArray[np.uint64]
    size: int

    @staticmethod
    def of(rows: pa.Table, size: int) -> "Pool":
        column = rows.column(FILE).combine_chunks()
        files = cast("Any", column if pa.types.is_dictionary(column.type) else column.dictionary_encode())
        index = np.asarray(files.indices).astype(np.int64)
        return _lowest(rows, row_words(files.dictionary.to_pylist(), index, rows.column(ROW).to_numpy()), size)

    def merge(self, other: "Pool") -> "Pool":
        return _lowest(pa.concat_tables([self.rows, other.rows]), np.concatenate([self.words, other.words]), self.size)


def _lowest(rows: pa.Table, words: NDArray[np.uint64], size: int) -> Pool:
    order = np.argsort(words, kind="stable")[:size]
    return Pool(rows.take(order).combine_chunks(), words[order], size)
