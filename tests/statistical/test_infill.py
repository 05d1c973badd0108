"""text.infill: the beginning of a text stays, its end is another one of the same label, and a model that does not fit is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from statistical.test_text_generators import SCHEMA, agrees, codec, model, rows

from raysynth.codecs.tabular import Tabular
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Tokens
from raysynth.models import Model
from raysynth.ops.text.infill import Infill
from raysynth.schema import Column, Schema
from raysynth.stages.augment import lent


def lent_to(schema: Schema = SCHEMA, **options: Any) -> Infill:
    op = Infill(schema, model="runs/other", **options)
    op.lend(Model(SCHEMA, {}, codec(), model(), "digest", {}))
    return op


def test_the_end_of_a_text_is_written_anew_under_its_label() -> None:
    real = rows().slice(0, 600)
    made = lent_to()(real, Draws.range(5, "augment-0-0", 0, 600))
    assert made.num_rows > 500, "few texts have but one end that fits"
    before = dict(zip(real["_row"].to_pylist(), real.select(["mood", "text"]).to_pylist(), strict=True))
    pairs = [(before[number], row) for number, row in zip(made["_row"].to_pylist(), made.to_pylist(), strict=True)]
    assert all(
        old["mood"] == new["mood"] and old["text"] != new["text"] and old["text"][:1] == new["text"][:1] for old, new in pairs
    )
    assert agrees(made) > 0.85
    assert len({new["text"] for _, new in pairs}) > 60


def test_more_stays_where_more_is_to_be_kept() -> None:
    tokens = np.full((400, 24), Tokens.PAD, dtype=np.int32)
    tokens[:, :20], tokens[:, 20] = 7, Tokens.END
    draws = np.random.default_rng(5).random(400)
    for kept in (0.0, 0.5, 0.9):
        stays, ends = lent_to(kept=kept)._kept(tokens, draws)  # pyright: ignore[reportPrivateUsage]
        count = (stays & (tokens == 7)).sum(axis=1)
        assert ends.all() and not stays[:, 20:].any()
        assert count.min() == max(1, 20 * kept) and count.max() == 19 and len(set(count.tolist())) == 20 - max(1, 20 * kept)


def test_a_null_or_a_text_of_one_token_stays_as_it_is() -> None:
    real = rows().slice(0, 3).set_column(1, "text", pa.array([None, "", "a"]))
    assert lent_to()(real, Draws.range(5, "augment-0-0", 0, 3)).equals(real)


def test_a_model_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RecipeError, match="has learnt the column 'mood' too, which the rows lack"):
        lent_to(Schema((Column("text", "text", pa.string()),)))
    with pytest.raises(RecipeError, match="writes no text 'note', but text"):
        lent_to(Schema((*SCHEMA, Column("note", "text", pa.string()))), column="note")
    with pytest.raises(RecipeError, match=r"several texts \(text, note\)\. Say which"):
        lent_to(Schema((*SCHEMA, Column("note", "text", pa.string()))))
    table = Tabular(Schema((SCHEMA["mood"],)))
    table.settle(table.observe(rows().drop_columns(["text"])))
    with pytest.raises(RecipeError, match="has a model of tables"):
        Infill(SCHEMA, model="runs/other").lend(Model(SCHEMA, {}, table, model(), "digest", {}))


def test_a_run_without_a_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=rf"augment: model: the run '{tmp_path}' has no trained model\. Train it first"):
        lent([Infill(SCHEMA, model=str(tmp_path))])
