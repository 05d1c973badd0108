"""The text of a derived column, a rule or a gate → a checked expression, evaluated on Arrow tables row by row."""

import ast
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.evaluation import repeated, value_of
from raysynth.grammar import ALLOWED, RefusedError, names_of, origin, parsed
from raysynth.schema import Schema


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `key` is where the recipe has it, as errors name it. Weekday 0 is Monday."""

    text: str
    key: str
    columns: frozenset[str] = field(compare=False)
    tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, key: str) -> "Expression":
        """RecipeError with the position of what cannot be, and what is allowed."""
        try:
            tree, origins = parsed(text)
            try:
                names = frozenset(names_of(tree, 0))
            except RefusedError as refused:
                raise RefusedError(str(refused), origin(refused.offset, origins)) from None
        except RefusedError as refused:
            place = "" if refused.offset is None else f" at character {refused.offset + 1}"
            shown = text if len(text) <= 200 else text[:200] + "…"
            raise RecipeError(f"{key}: {refused}{place} (got {shown!r}). Allowed: {ALLOWED}") from None
        return cls(text, key, names, tree)

    def evaluate(self, table: pa.Table) -> pa.Array:
        """One value per row. RecipeError on a column that the table lacks or a type that an operation does not take."""
        for name in sorted(self.columns - set(table.column_names)):
            near = get_close_matches(name, table.column_names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RecipeError(f"{self.key}: no column '{name}' (got {self.text!r}).{hint} Columns: {', '.join(table.column_names)}")
        try:
            value = value_of(self.tree, table)
        except RefusedError as refused:
            raise RecipeError(f"{self.key}: {refused} (got {self.text!r})") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise RecipeError(f"{self.key}: cannot be computed: {error} (got {self.text!r})") from None
        return repeated(value, table.num_rows) if isinstance(value, pa.Scalar) else value

    def holds(self, table: pa.Table) -> NDArray[np.bool_]:
        """(rows,) True where the expression is true or null. RecipeError if it is not a condition."""
        value: Any = self.evaluate(table)
        if not pa.types.is_boolean(value.type) and not pa.types.is_null(value.type):
            raise RecipeError(f"{self.key}: must be true or false for each row (got {self.text!r}, of type {value.type})")
        filled = pc.fill_null(value.cast(pa.bool_()), True)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)

    def type(self, schema: Schema) -> pa.DataType:
        """The type of its values for columns of this schema; it is also the full check of an expression before any row is read."""
        return self.evaluate(schema.arrow.empty_table()).type
