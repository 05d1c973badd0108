"""Pairs of a text and its reply, and a question → the replies to the texts that are nearest to it.

Near by its words is the cosine of TF-IDF points (Salton and Buckley, 1988); near by its meaning, that of the sentence encoder which the
metrics use (`metrics.fidelity.text_embeddings`).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.errors import DataError, RecipeError
from raysynth.text_vectors import Weights

By = Literal["words", "meaning"]
MOST_CHARACTERS = 1000  # of a text whose meaning is told

Similar = Callable[[str], NDArray[np.float64]]
"""A question → (texts,) how near each is, in [-1, 1]."""


@dataclass(frozen=True)
class Answer:
    """`row`: all that the mix says of the pair."""

    similarity: float
    row: dict[str, Any]


class Replies:
    """Rows with a text and a reply, each pair once: of equal ones the first. `asked`, `reply`: their columns."""

    def __init__(self, rows: pa.Table, asked: str, reply: str, by: By = "words") -> None:
        """DataError where no row has both. MissingExtraError where meaning is asked for without the encoder."""
        first: dict[tuple[str, str], int] = {}
        pairs = zip(rows.column(asked).to_pylist(), rows.column(reply).to_pylist(), strict=True)
        for at, (text, said) in enumerate(pairs):
            if text and text.strip() and said and said.strip():
                first.setdefault((text, said), at)
        if not first:
            raise DataError(f"no row has both a text in '{asked}' and a reply in '{reply}'. Name other columns, or other rows")
        self.rows = rows.take(pa.array(list(first.values()), pa.int64()))
        texts = [text for text, _ in first]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        self._place = np.array([distinct[text] for text in texts])
        self._similar = (_by_words if by == "words" else _by_meaning)(list(distinct))

    def answers(self, question: str, most: int) -> list[Answer]:
        """The nearest first, of equally near ones the earlier; none that has nothing in common with the question."""
        _check(question)
        near = self._similar(question)[self._place]
        order = np.argsort(-near, kind="stable")[:most]
        best = order[near[order] > 0]
        found = self.rows.take(pa.array(best, pa.int64())).to_pylist()
        return [Answer(round(float(near[at]), 6), row) for at, row in zip(best.tolist(), found, strict=True)]


def _check(question: str) -> None:
    if not question.strip():
        raise RecipeError("question: it is empty. Ask something")
    try:
        question.encode()
    except UnicodeEncodeError:
        raise RecipeError("question: it holds bytes that are no UTF-8, or half of a surrogate pair. Write it in UTF-8") from None


def _by_words(texts: Sequence[str]) -> Similar:
    weights = Weights(texts)
    points = weights.of(texts)
    return lambda question: np.asarray((points @ weights.of([question]).T).toarray()).ravel()


def _by_meaning(texts: Sequence[str]) -> Similar:
    from raysynth.metrics.fidelity.text_embeddings import embedded

    points = embedded([text[:MOST_CHARACTERS] for text in texts]).astype(np.float64)
    return lambda question: points @ embedded([question[:MOST_CHARACTERS]]).astype(np.float64)[0]
