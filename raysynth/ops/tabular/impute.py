"""Rows → the same rows with their missing cells drawn by a model of such rows, each given all that is known of its row.

Drawn, not guessed: the most likely value would make columns too narrow and too alike (Rubin, "Multiple imputation for nonresponse in
surveys", 1987, chapter 1). Several `copies` are as many ways in which the table may have been.
"""

from typing import Annotated, Any, ClassVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Batch, Fields, FieldsGiven
from raysynth.ops.base import Lent
from raysynth.schema import Schema
from raysynth.where import Range

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types


class Impute(Lent):
    """`model`: the URL of a run whose generator can fill in (autoregressive), and which has learnt the same columns: this table's own, or a
    more complete one's. `columns`: those whose missing cells are drawn; null: all that it has learnt, but ids. What is known stays as it is;
    a column of which the model has never seen a value keeps its nulls."""

    aside: ClassVar[frozenset[str]] = frozenset({"model"})  # where it lies; what it is, `facts` says

    def __init__(
        self, schema: Schema, *, model: Annotated[str, Field(min_length=1)], columns: tuple[str, ...] | None = None
    ) -> None:
        super().__init__(schema)
        able = [column.name for column in schema.learnt if column.kind != "id"]
        if wrong := [name for name in columns or () if name not in able]:
            raise RecipeError(f"columns: '{wrong[0]}' is none that is learnt. Those are: {', '.join(able) or 'none'}")
        self.columns = able if columns is None else list(columns)
        self.run = model
        self.model: Any = None
        self.masks: dict[int, NDArray[np.bool_]] = {}

    def facts(self) -> dict[str, Any]:
        import torch

        return {"model": self.model.digest, "torch": torch.__version__.split("+")[0]}

    def lend(self, model: Any) -> None:
        if not isinstance(model.codec.layout, Fields) or not hasattr(model.generator, "fill"):
            raise RecipeError(
                f"model: the generator of the run '{self.run}' cannot fill in cells. Name a run with generator: autoregressive"
            )
        learnt = {column.name: column.type for column in model.schema.learnt}
        own = {column.name: column.type for column in self.schema}
        if lacking := [name for name in learnt if own.get(name) != learnt[name]]:
            raise RecipeError(
                f"model: the run '{self.run}' has learnt the column '{lacking[0]}' as {learnt[lacking[0]]}, and the rows have "
                f"{own.get(lacking[0], 'none of that name')}. Name a run of the same columns"
            )
        self.model = model
        self.columns = [name for name in self.columns if name in learnt and self._known_to(name)]

    def _known_to(self, name: str) -> bool:
        """Whether the model knows a value of the column; if so, its nulls are barred from now on."""
        try:
            given = cast("FieldsGiven | None", self.model.codec.condition({name: Range()}))
        except RecipeError:
            return False
        self.masks.update(given.masks if given is not None else {})
        return given is not None

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        missing = {name: np.asarray(pc.is_null(rows.column(name)).to_numpy()) for name in self.columns}
        asked = np.flatnonzero(np.any([*missing.values(), np.zeros(rows.num_rows, np.bool_)], axis=0))
        if not len(asked):
            return rows
        codec, some, drawn = self.model.codec, rows.take(pa.array(asked, pa.int64())), draws.take(asked)
        known_BF = np.stack(
            [~missing[f.column][asked] if f.column in missing else np.ones(len(asked), np.bool_) for f in codec.layout.fields], 1
        )
        codes_BF = self.model.generator.fill(codec.encode(some)["codes"], known_BF, drawn, self.masks)
        made = codec.decode(Batch({"codes": codes_BF}), drawn)
        for name, gone in missing.items():
            if gone.any():
                field, place = rows.schema.field(name), rows.column_names.index(name)
                values = made.column(name).filter(pa.array(gone[asked])).cast(field.type).combine_chunks()
                filled = pc.replace_with_mask(rows.column(name).combine_chunks(), cast("Any", pa.array(gone)), values)
                rows = rows.set_column(place, field, filled)
        return rows
