"""A column of texts → a test of each text, nulls left out; which columns a filter may name."""

from collections.abc import Callable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.schema import Schema


def check_text(schema: Schema, column: str, key: str = "column") -> str:
    """The name, if it is that of a column of strings. RecipeError says which there are."""
    able = [known.name for known in schema if pa.types.is_string(known.type)]
    if column not in able:
        raise RecipeError(f"{key}: '{column}' is no column of texts. Those are: {', '.join(able) or 'none'}")
    return column


def each(rows: pa.Table, column: str, test: Callable[[str], bool]) -> NDArray[np.bool_]:
    """(rows,) what the test says of each text; True for null."""
    texts: list[str | None] = rows.column(column).to_pylist()
    return np.fromiter((text is None or test(text) for text in texts), np.bool_, len(texts))
