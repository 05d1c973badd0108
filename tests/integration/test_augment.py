"""Wine on a running Ray → augmented rows: the same parts by 1 and 2 workers, of the train split alone, and a model id that knows them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.recipe import Recipe
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Run
from raysynth.schema import Schema
from raysynth.stages import augment, prepare, train

OPS = [
    {"use": "tabular.jitter", "copies": 2},
    {"use": "tabular.balance", "column": "target"},
    {"use": "tabular.mixup", "target": "target"},
]


def asked(folder: Path, *, workers: int, learnt: bool = True) -> Recipe:
    return parse_recipe(
        {
            "name": "wine",
            "source": "examples://wine",
            "run": str(folder / f"workers-{workers}"),
            "derive": {"strong": "alcohol > 13"},
            "augment": OPS,
            "train": {"augmented": learnt},
            "generate": {"workers": workers},
        }
    )


def made(recipe: Recipe) -> tuple[Folder, Folder]:
    run = Run(recipe.run)
    prepared = prepare.run(recipe, run)
    return prepared, augment.run(recipe, run, prepared)


def read(urls: list[str]) -> pa.Table:
    return pa.concat_tables([pq.ParquetFile(url.removeprefix("file://")).read() for url in urls])


@pytest.mark.usefixtures("cluster")
def test_workers_change_no_part_and_only_a_model_that_learns_from_them_knows_the_rows(tmp_path: Path) -> None:
    (prepared, one), (_, two) = (made(asked(tmp_path, workers=workers)) for workers in (1, 2))
    assert one.id == two.id and one.manifest().equals(two.manifest())

    real, rows = read(prepared.part_urls("train")), read(one.part_urls())
    names = [*real.column_names, "label_b", "lam"]
    assert rows.column_names == names and Schema.from_json(one.plan().facts["schema"]).names == names[2:]
    assert {str(file).partition("#")[0] for file in rows["_file"].to_pylist()} == set(real["_file"].to_pylist())
    assert set(rows["_row"].to_pylist()) <= set(real["_row"].to_pylist())
    ids = list(zip(rows["_file"].to_pylist(), rows["_row"].to_pylist(), strict=True))
    assert len(set(ids)) == len(ids) > 3 * real.num_rows
    assert rows["strong"].to_pylist() == (rows["alcohol"].to_numpy() > 13).tolist()
    assert rows["lam"].null_count == rows.num_rows - real.num_rows

    recipe = asked(tmp_path, workers=1)
    assert train.train_facts(recipe, prepared, one) == {**train.train_facts(recipe, prepared), "augmented": one.id}
    assert train.train_facts(asked(tmp_path, workers=1, learnt=False), prepared) == train.train_facts(recipe, prepared)
