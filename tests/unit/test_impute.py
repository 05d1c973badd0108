"""tabular.impute: missing cells are drawn by the law that the known ones leave, and nothing else is touched."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from scipy.stats import ks_2samp

from raysynth.codecs.tabular import Tabular
from raysynth.derived import expressions_of
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators.autoregressive import Autoregressive
from raysynth.generators.trees import Trees
from raysynth.models import Model
from raysynth.ops.tabular.impute import Impute
from raysynth.recipe_files import parse_recipe
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.stages.augment import augmented_rows, made_schema
from raysynth.training import fit, initialise

ROWS, HIDDEN, SEED = 4000, 0.25, 5
SCHEMA = Schema(
    (
        Column("key", "id", pa.int64()),
        Column("town", "category", pa.string()),
        Column("size", "number", pa.float64()),
        Column("floors", "integer", pa.int64()),
        Column("lost", "category", pa.string()),
        Column("large", "boolean", pa.bool_(), derived=True),
    )
)
LEARNT = SCHEMA.learnt.names


def whole_rows() -> pa.Table:
    """The size says the town all but surely, and how many floors there are."""
    noise = np.random.default_rng(3)
    town = noise.integers(0, 3, ROWS)
    size = (50.0 + 60 * town + noise.normal(0, 8, ROWS)).round(1)
    columns: dict[str, Any] = {
        "key": range(ROWS),
        "town": pa.array(["ash", "elm", "oak"]).take(pa.array(town)),
        "size": size,
        "floors": 1 + town + (noise.random(ROWS) < 0.1),
        "lost": pa.nulls(ROWS, pa.string()),
        "large": size > 120,
        FILE: ["a.csv"] * ROWS,
        ROW: range(ROWS),
    }
    return pa.table(columns)


def with_holes(rows: pa.Table) -> pa.Table:
    noise = np.random.default_rng(4)
    for name in ("town", "size", "floors"):
        column: Any = rows.column(name).combine_chunks()
        gone = pc.if_else(pa.array(noise.random(ROWS) < HIDDEN), pa.scalar(None, column.type), column)
        rows = rows.set_column(rows.column_names.index(name), rows.schema.field(name), gone)
    return rows


@pytest.fixture(scope="module")
def model() -> Model:
    """It has learnt from the rows with holes alone."""
    rows = with_holes(whole_rows())
    codec = Tabular(SCHEMA.learnt, seed=SEED)
    layout = codec.settle(codec.observe(rows))
    generator = initialise(lambda: Autoregressive(layout, hidden=32, dropout=0.0), SEED)
    batch = codec.encode(rows)
    fit(generator, batch, batch.take(slice(0, 500)), seed=SEED, max_epochs=15, batch_rows=200, learning_rate=5e-3)
    return Model(SCHEMA, {"large": "size > 120"}, codec, generator, "digest", {})


def filled(model: Model, rows: pa.Table, **options: Any) -> pa.Table:
    op = Impute(SCHEMA, model="memory://nowhere", **options)
    op.lend(model)
    return op(rows, Draws.range(1, "augment-0-0", 0, rows.num_rows))


def test_missing_cells_follow_the_law_that_the_known_ones_leave(model: Model) -> None:
    whole, holes = whole_rows(), with_holes(whole_rows())
    made = filled(model, holes)
    assert [made[name].null_count for name in ("town", "size", "floors")] == [0, 0, 0]
    for name in LEARNT:
        known = holes[name].is_valid()
        assert made[name].filter(known).equals(holes[name].filter(known)), "what is known stays"
    gone = pc.and_(holes["town"].is_null(), holes["size"].is_valid())
    assert pc.mean(pc.equal(made["town"], whole["town"]).filter(gone).cast(pa.float64())).as_py() > 0.9, "the size says it"
    for town in ("ash", "oak"):
        asked = pc.and_(holes["size"].is_null(), pc.and_(holes["town"].is_valid(), pc.equal(whole["town"], town)))
        one, two = (rows["size"].filter(asked).to_numpy() for rows in (made, whole))
        assert len(one) > 150 and abs(np.median(one) - np.median(two)) < 4, (town, np.median(one))
        assert ks_2samp(one, two).statistic < 0.2


def test_of_several_columns_only_those_asked_for_are_filled_and_derived_ones_are_computed_anew(model: Model) -> None:
    holes = with_holes(whole_rows())
    some = filled(model, holes, columns=("floors",))
    assert some["floors"].null_count == 0 and some["size"].equals(holes["size"]) and some["town"].equals(holes["town"])
    op = Impute(SCHEMA, model="memory://nowhere")
    op.lend(model)
    derive = {"large": model.derive["large"]}
    made = augmented_rows(
        op,
        holes,
        Draws.range(1, "augment-0-0", 0, ROWS),
        SCHEMA,
        made_schema([op], SCHEMA),
        expressions_of(SCHEMA, derive),
        mark="#x",
    )
    assert made["large"].equals(pc.greater(made["size"], 120.0)) and made["lost"].null_count == ROWS


def test_a_table_without_holes_stays_as_it_is(model: Model) -> None:
    rows = whole_rows()
    assert filled(model, rows).equals(rows)


def test_what_a_model_of_whole_rows_never_saw_missing_is_filled_too() -> None:
    whole = whole_rows()
    codec = Tabular(SCHEMA.learnt, seed=SEED)
    layout = codec.settle(codec.observe(whole))
    own = Model(SCHEMA, {}, codec, initialise(lambda: Autoregressive(layout, hidden=8), SEED), "digest", {})
    holes = with_holes(whole)
    assert [filled(own, holes)[name].null_count for name in ("town", "size", "floors")] == [0, 0, 0]
    some = filled(own, holes, columns=("town",))
    assert some["town"].null_count == 0 and some["size"].equals(holes["size"])
    with pytest.raises(RecipeError, match="knows no value of 'lost'"):
        filled(own, holes, columns=("lost",))
    with pytest.raises(RecipeError, match="names none"):
        Impute(SCHEMA, model="memory://nowhere", columns=())


def test_models_that_do_not_fit_are_refused(model: Model) -> None:
    op = Impute(SCHEMA, model="memory://nowhere")
    trees = Model(SCHEMA, {}, model.codec, Trees(model.codec.layout), "", {})  # type: ignore[arg-type]
    with pytest.raises(RecipeError, match="cannot fill in cells"):
        op.lend(trees)
    other = Schema(tuple(column for column in SCHEMA if column.name != "floors"))
    with pytest.raises(RecipeError, match=r"learnt the column 'floors' as int64, and the rows have none"):
        Impute(other, model="memory://nowhere").lend(model)
    with pytest.raises(RecipeError, match="'large' is none that is learnt"):
        Impute(SCHEMA, model="memory://nowhere", columns=("large",))
    with pytest.raises(RecipeError, match=r"augment\.0\.model: is missing|augment\.0.*model"):
        parse_recipe({"source": "examples://wine", "augment": [{"use": "tabular.impute"}]})
