"""A text says what its label says, by a judge that learnt from the train rows."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.draws import Words
from raysynth.errors import RecipeError
from raysynth.features import codes, levels
from raysynth.filters._texts import check_text
from raysynth.filters.base import Filter
from raysynth.filters.text._judge import MOST_LETTERS, Judge
from raysynth.layout import Arrays, Facts
from raysynth.row_ids import id_words
from raysynth.schema import Schema

LEAST_ROWS = 30
MOST_ROWS = 20_000
MOST_CLASSES = 300


@dataclass(frozen=True)
class _Sample:
    """The MOST_ROWS rows of lowest hashed id, in the order of the hashes: `text` and `label`, neither null."""

    rows: pa.Table
    hashes: Words

    def merge(self, other: "_Sample") -> "_Sample":
        return _lowest(pa.concat_tables([self.rows, other.rows]), np.concatenate([self.hashes, other.hashes]))


class Label(Filter):
    """`label`: the column that says it; `columns`: the texts, by default all of kind text. The judge learns from at most 20,000 train rows.
    A label that it has not learnt passes. It is no arbiter: what it turns down wrongly is missing from the rows, and of rare labels more."""

    learns: ClassVar[bool] = True

    def __init__(self, schema: Schema, *, label: str, columns: tuple[str, ...] | None = None, seed: int = 0) -> None:
        super().__init__(schema, seed=seed)
        able = [column.name for column in schema if column.kind in ("category", "boolean", "integer")]
        if label not in able:
            raise RecipeError(f"label: '{label}' is no column of labels. Those could be: {', '.join(able) or 'none'}")
        texts = [column.name for column in schema.learnt if column.kind == "text"]
        self.label, self.columns = label, [check_text(schema, column, "columns") for column in columns or texts]
        if not self.columns:
            raise RecipeError("columns: there is no column of kind text. Name those of the texts")
        if label in self.columns:
            raise RecipeError(f"columns: '{label}' is the label itself. Leave it out")
        self._classes: list[str] = []
        self._judge: Judge | None = None

    def facts(self) -> dict[str, Any]:
        import scipy
        import sklearn

        return {"scikit-learn": sklearn.__version__, "scipy": scipy.__version__, "numpy": np.__version__}

    def observe(self, rows: pa.Table) -> _Sample:
        hashes = id_words(rows, self.seed)
        labels = rows.column(self.label).cast(pa.string())
        labelled = np.asarray(pc.is_valid(labels).to_numpy(), np.bool_)
        texts = self._texts(rows)
        kept = np.flatnonzero(labelled & np.array([text is not None for text in texts], np.bool_))
        columns: dict[str, Any] = {"text": pa.array(texts, pa.large_string()), "label": labels}
        found = pa.table(columns).take(kept)
        return _lowest(found, hashes[kept])

    def settle(self, stats: _Sample | None) -> None:
        rows = pa.table({"text": [], "label": pa.array([], pa.string())}) if stats is None else stats.rows
        self._classes = levels([rows], "label")
        if rows.num_rows < LEAST_ROWS or not 2 <= len(self._classes) <= MOST_CLASSES:
            raise RecipeError(
                f"label: a judge of '{self.label}' takes {LEAST_ROWS} train rows with a text, and 2 to {MOST_CLASSES} labels (there are "
                f"{rows.num_rows} rows, and {len(self._classes)} labels). Leave the filter out"
            )
        labels = codes(rows.column("label"), self._classes)
        texts: list[Any] = rows.column("text").to_pylist()
        self._judge = Judge.learn(texts, labels, len(self._classes))

    def holds(self, rows: pa.Table) -> NDArray[np.bool_]:
        texts = self._texts(rows)
        labels = codes(rows.column(self.label), self._classes)
        asked = (labels >= 0) & (labels < len(self._classes)) & np.array([text is not None for text in texts], np.bool_)
        holds = np.ones(rows.num_rows, np.bool_)
        if self._judge is not None and asked.any():
            places = np.flatnonzero(asked)
            holds[places] = self._judge.labels([texts[place] or "" for place in places.tolist()]) == labels[places]
        return holds

    def state(self) -> tuple[Arrays, Facts]:
        return dict(vars(self._judge)) if self._judge is not None else {}, {"classes": self._classes}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        self._judge, self._classes = Judge(**arrays), list(facts["classes"])

    def _texts(self, rows: pa.Table) -> list[str | None]:
        """A row's texts as one; None where it has none."""
        columns: list[list[str | None]] = [rows.column(name).to_pylist() for name in self.columns]
        told = ([text[:MOST_LETTERS] for text in texts if text is not None] for texts in zip(*columns, strict=True))
        return ["\n".join(texts) if texts else None for texts in told]


def _lowest(rows: pa.Table, hashes: Words) -> _Sample:
    order = np.argsort(hashes, kind="stable")[:MOST_ROWS]
    return _Sample(rows.take(order).combine_chunks(), hashes[order])
