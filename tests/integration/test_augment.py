"""Wine, and pictures, on a running Ray → augmented rows: the same parts by 1 and 2 workers, and a model id that knows them."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.image_headers import format_of
from raysynth.pictures import data_of, encoded, image_array, pictures
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
    prepared = prepare.run(recipe, run, learns=False)
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


def with_pictures(folder: Path, *, workers: int) -> Recipe:
    chain = [{"use": "image.flip", **ALONG}, {"use": "image.crop", **ALONG, "size": [12, 10]}, {"use": "image.colour", **ALONE}]
    return parse_recipe(
        {
            "name": "pictures",
            "source": str(folder / "*.parquet"),
            "run": str(folder / f"workers-{workers}"),
            "augment": [
                {"use": "image.rotate", "degrees": 20, **ALONG, "copies": 2, "then": chain},
                {"use": "image.mixup", "target": "label", **ALONE},
            ],
            "generate": {"workers": workers},
        }
    )


ALONE = {"column": "photo"}
ALONG = {"column": "photo", "boxes": "boxes", "masks": ["mask"]}


@pytest.mark.usefixtures("cluster")
def test_chains_of_pictures_are_the_same_by_any_workers_with_boxes_masks_and_sizes_of_their_own(tmp_path: Path) -> None:
    noise = np.random.default_rng(1)
    for file in range(3):
        photos = [encoded(noise.integers(0, 256, (16, 20, 3), dtype=np.uint8), "jpeg" if row % 2 else "png") for row in range(20)]
        masks = [encoded(noise.integers(0, 2, (16, 20, 1), dtype=np.uint8)) for _ in range(20)]
        columns = {"photo": photos, "mask": image_array(masks), "boxes": ["[[2, 3, 8, 9]]"] * 20, "label": ["a", "b"] * 10}
        pq.write_table(pa.table(columns), tmp_path / f"{file}.parquet")
    (prepared, one), (_, two) = (made(with_pictures(tmp_path, workers=workers)) for workers in (1, 2))
    assert one.id == two.id and one.manifest().equals(two.manifest())
    real, rows = read(prepared.part_urls("train")), read(one.part_urls())
    assert rows.num_rows == 3 * real.num_rows
    assert len(set(zip(rows["_file"].to_pylist(), rows["_row"].to_pylist(), strict=True))) == rows.num_rows
    assert {format_of(data or b"") for data in data_of(rows["photo"])} == {"png", "jpeg"}
    sizes = [None if one is None else one.shape[:2] for one in pictures(rows["photo"])]
    assert sizes == [None if one is None else one.shape[:2] for one in pictures(rows["mask"])]
    assert sizes.count((12, 10)) == 2 * real.num_rows and sizes.count((16, 20)) == real.num_rows
    assert rows["photo_height"].to_pylist() == [size[0] for size in sizes if size is not None]
    assert rows["label_b"].null_count == 2 * real.num_rows
