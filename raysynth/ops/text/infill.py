"""Texts → the same texts to a drawn word, and from there on as a language model of one's own goes on; the label stays.

The models on the shelf write from left to right, so nothing is filled in between words that stay: the end of a text is masked, and
written anew (as Kumar et al., "Data augmentation using pre-trained transformer models", LIFELONGNLP 2020, do with GPT-2).
"""

from typing import Annotated, Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Batch, Tokens
from raysynth.ops.base import Lent
from raysynth.ops.text._texts import pc, text_columns
from raysynth.schema import Schema

TRIES = 3  # of a text; then its row is left out
ROWS_AT_ONCE = 2048


class Infill(Lent):
    """`model`: the URL of a run with a trained language_model (or text_vae) of the same columns: it goes on given all the other columns, so
    that a label stays true as far as that model tells it. Of the `column` (null: the only text) at least `kept` of the tokens stay, and
    how many more is drawn; texts that the model writes behind it are written anew too, since they follow from it. A text of fewer than two
    tokens stays; a row that comes to no end, or out as it was, in three tries is left out."""

    aside: ClassVar[frozenset[str]] = frozenset({"model"})  # where it lies; what it is, `facts` says

    def __init__(
        self,
        schema: Schema,
        *,
        model: Annotated[str, Field(min_length=1)],
        column: str | None = None,
        kept: Annotated[float, Field(ge=0, lt=1)] = 0.3,
    ) -> None:
        super().__init__(schema)
        found = text_columns(schema, None if column is None else (column,))
        if len(found) > 1:
            raise RecipeError(f"column: there are several texts ({', '.join(found)}). Say which one's end is written anew")
        self.column, self.kept, self.run = found[0], kept, model
        self.model: Any = None

    def facts(self) -> dict[str, Any]:
        import torch

        return {"model": self.model.digest, "torch": torch.__version__.split("+")[0]}

    def lend(self, model: Any) -> None:
        names = model.schema.learnt.names
        if not isinstance(model.codec.layout, Tokens):
            raise RecipeError(f"model: the run '{self.run}' has a model of tables. Name one whose generator writes texts")
        if lacking := [name for name in names if name not in self.schema.names]:
            raise RecipeError(f"model: the run '{self.run}' has learnt the column '{lacking[0]}' too, which the rows lack")
        self.texts = [column.name for column in model.codec.texts]
        if self.column not in self.texts:
            raise RecipeError(
                f"column: the model of the run '{self.run}' writes no text '{self.column}', but {', '.join(self.texts)}"
            )
        self.model = model

    def __call__(self, rows: pa.Table, draws: Draws) -> pa.Table:
        every = np.arange(rows.num_rows)
        cuts = [every[start : start + ROWS_AT_ONCE] for start in range(0, rows.num_rows, ROWS_AT_ONCE)]
        return pa.concat_tables([rows.slice(0, 0), *(self._some(rows.take(cut), draws.take(cut)) for cut in cuts)])

    def _some(self, rows: pa.Table, draws: Draws) -> pa.Table:
        encoded = self.model.codec.encode(rows)
        kept, ends = self._kept(encoded["tokens"], draws.uniform("infill"))
        batch = Batch({"codes": encoded["codes"], "tokens": np.where(kept, encoded["tokens"], Tokens.PAD)})
        tokens, left = encoded["tokens"].copy(), np.flatnonzero(ends)
        for attempt in range(TRIES):
            if len(left):
                made = self.model.generator.go_on(batch.take(left), draws.take(left).attempt(attempt))
                good = made.accepted & (made["tokens"] != encoded["tokens"][left]).any(axis=1)
                tokens[left[good]] = made["tokens"][good]
                left = left[~good]
        stays = np.setdiff1d(np.arange(rows.num_rows), left)
        changed = ends.copy()
        changed[left] = False
        decoded = self.model.codec.decode(Batch({"codes": encoded["codes"], "tokens": tokens}), draws)
        for name in self.texts[self.texts.index(self.column) :]:
            field = rows.schema.field(name)
            texts = pc.if_else(pa.array(changed), decoded.column(name).cast(field.type), rows.column(name))
            rows = rows.set_column(rows.column_names.index(name), field, texts)
        return rows.take(pa.array(stays, pa.int64()))

    def _kept(self, tokens: NDArray[np.int32], uniform: NDArray[np.float64]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """(rows, T) which tokens stay, and (rows,) whether there is an end to write anew."""
        ended = np.cumsum(tokens == Tokens.END, axis=1) - (tokens == Tokens.END)
        inside = (ended == self.texts.index(self.column)) & (tokens > Tokens.NULL)
        count, first = inside.sum(axis=1), inside.argmax(axis=1)
        least = np.maximum(1, np.ceil(self.kept * count).astype(np.int64))
        stay = np.minimum(least + (uniform * np.maximum(1, count - least)).astype(np.int64), count - 1)
        return np.arange(tokens.shape[1]) < (first + stay)[:, None], count >= 2
