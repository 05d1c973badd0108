"""Rows with their ids (`_file`, `_row`) → a keyed hash of each: the order in which rows are sampled, split and learnt, whatever files and
tasks they came from."""

from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.draws import row_words
from raysynth.schema import FILE, ROW


def id_words(rows: pa.Table, seed: int) -> NDArray[np.uint64]:
    """(rows,)"""
    files = rows.column(FILE).cast(pa.string()).combine_chunks().dictionary_encode()
    names = cast("list[str]", files.dictionary.to_pylist())
    return row_words(names, np.asarray(files.indices, dtype=np.int64), np.asarray(rows.column(ROW), dtype=np.int64), seed)
