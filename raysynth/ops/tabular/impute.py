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

from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Batch, FieldsGiven
from raysynth.ops.base import Lent
from raysynth.schema import Schema
from raysynth.where import Range

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types

ROWS_AT_ONCE = 16_384  # what the network reads of a row takes more room than the row


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
        if columns is not None and not columns:
            raise RecipeError("columns: names none, so that nothing would be filled. Name some, or leave it out")
        self.columns, self.named = able if columns is None else list(columns), columns is not None
        self.run = model
        self.model: Any = None
        self.masks: dict[int, NDArray[np.bool_]] = {}
        self.never_null: set[str] = set()

    def facts(self) -> dict[str, Any]:
        import torch

        return {"model": self.model.digest, "torch": torch.__version__.split("+")[0]}

    def lend(self, model: Any) -> None:
        if not isinstance(model.codec, Tabular) or not hasattr(model.generator, "fill"):
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
        known = [column.name for column in model.schema.learnt if column.kind != "id" and self._known_to(column.name)]
        if self.named and (unknown := [name for name in self.columns if name not in known]):
            raise RecipeError(
                f"columns: the model of the run '{self.run}' knows no value of '{unknown[0]}'. It knows: {', '.join(known)}"
            )
        self.columns = [name for name in self.columns if name in known]

    def _known_to(self, name: str) -> bool:
        """Whether the model knows a value of the column; if so, its nulls are barred from now on, if it has seen any."""
        try:
            given = cast("FieldsGiven | None", self.model.codec.condition({name: Range()}))
        except RecipeError:
            return False
        if given is None:
            self.never_null.add(name)
        self.masks.update(given.masks if given is not None else {})
        return True

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        missing = {name: np.asarray(pc.is_null(rows.column(name)).to_numpy()) for name in self.columns}
        asked = np.flatnonzero(np.any([*missing.values(), np.zeros(rows.num_rows, np.bool_)], axis=0))
        if not len(asked):
            return rows
        cuts = [asked[start : start + ROWS_AT_ONCE] for start in range(0, len(asked), ROWS_AT_ONCE)]
        made = [self._filled(rows.take(pa.array(cut, pa.int64())), draws.take(cut)) for cut in cuts]
        place = np.arange(rows.num_rows)
        for name, gone in missing.items():
            if gone.any():
                field, own = rows.schema.field(name), cast("Any", rows.column(name).combine_chunks())
                drawn = pa.concat_arrays([one[name].cast(field.type) for one in made])
                of_drawn = np.searchsorted(asked, place[gone]) + rows.num_rows
                taken = place.copy()
                taken[gone] = of_drawn
                filled = pa.concat_arrays([own, drawn]).take(pa.array(taken, pa.int64()))
                rows = rows.set_column(rows.column_names.index(name), field, filled)
        return rows

    def _filled(self, rows: pa.Table, draws: Draws) -> dict[str, pa.Array]:
        """All columns of these rows, with every cell drawn that is to be. A null that the model has no code for is unknown too."""
        codec = self.model.codec
        drawn = {*self.columns, *self.never_null}
        known = {name: ~np.asarray(pc.is_null(rows.column(name)).to_numpy()) for name in drawn}
        every = np.ones(rows.num_rows, np.bool_)
        known_BF = np.stack([known.get(field.column, every) for field in codec.layout.fields], 1)
        codes_BF = self.model.generator.fill(codec.encode(rows)["codes"], known_BF, draws, self.masks)
        return codec.decode_learnt(Batch({"codes": codes_BF}), draws)
