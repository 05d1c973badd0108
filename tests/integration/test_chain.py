"""Rows of several kinds, picture, caption and two attributes, through every stage on a real Ray as one model: conditions met, and one row
whoever asks for it."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.audit import verify
from raysynth.pictures import Pixels, encoded, image_array, pictures
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run, read_rows
from raysynth.serving.registry import Served, read_published

pytestmark = pytest.mark.usefixtures("cluster")
COLOURS = {"red": (220, 30, 30), "blue": (30, 60, 220)}
SIDE, ROWS = 16, 300


def drawn(shape: str, colour: str, noise: np.random.Generator) -> Pixels:
    canvas = np.full((SIDE, SIDE, 3), 255, np.uint8)
    middle, reach = noise.integers(6, 10, 2), int(noise.integers(3, 6))
    if shape == "circle":
        cv2.circle(canvas, middle.tolist(), reach, COLOURS[colour], -1)
    else:
        cv2.rectangle(canvas, (middle - reach).tolist(), (middle + reach).tolist(), COLOURS[colour], -1)
    return canvas


def write_rows(path: Path) -> None:
    noise = np.random.default_rng(6)
    shapes, colours = (noise.choice(names, ROWS).tolist() for names in (["circle", "square"], list(COLOURS)))
    photos = [encoded(drawn(*pair, noise)) for pair in zip(shapes, colours, strict=True)]
    captions = [
        f"{noise.choice(['a', 'one', 'there is a'])} {colour} {shape} {noise.choice(['on white', 'in the middle', ''])}".strip()
        for shape, colour in zip(shapes, colours, strict=True)
    ]
    pq.write_table(pa.table({"shape": shapes, "colour": colours, "caption": captions, "photo": image_array(photos)}), path)


RECIPE: dict[str, Any] = {
    "name": "shapes",
    "schema": {"columns": {"caption": {"kind": "text"}}},
    "generator": {
        "use": "chain",
        "text": {"use": "language_model", "width": 32, "layers": 1, "heads": 2},
        "image": {"use": "vae", "width": 16},
    },
    "train": {"max_epochs": 6},
}
GENERATE: dict[str, Any] = {"rows": 300, "rows_per_part": 100, "where": {"colour": "red", "caption": {"starts": "a red"}}}


def made(folder: Path, workers: int, last: str = "publish") -> Made:
    told = {"source": {"use": "parquet", "url": str(folder / "rows.parquet")}, "run": str(folder / f"run-{workers}")}
    return run_to(parse_recipe(RECIPE | told | {"generate": GENERATE | {"workers": workers}}), last)


def test_pictures_captions_and_attributes_are_one_model(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.parquet")
    whole = made(tmp_path, 2)
    assert whole.published and whole.synthetic is not None
    assert verify(Run(str(tmp_path / "run-2"))).whole
    rows = pa.concat_tables([read_rows(url) for url in whole.synthetic.part_urls()])
    assert rows.num_rows == 300
    assert rows.column_names == ["shape", "colour", "caption", "photo", "height", "width"]
    assert set(rows["colour"].to_pylist()) == {"red"} and set(rows["shape"].to_pylist()) == {"circle", "square"}
    assert all(text.startswith("a red") for text in rows["caption"].to_pylist())
    assert {picture.shape for picture in pictures(rows["photo"]) if picture is not None} == {(SIDE, SIDE, 3)}
    assert set(rows["height"].to_pylist()) == set(rows["width"].to_pylist()) == {SIDE}

    alone = made(tmp_path, 1, "generate").synthetic
    assert alone is not None and alone.manifest()["name"].equals(whole.synthetic.manifest()["name"]), "one worker, the same bytes"
    served = Served(read_published(str(tmp_path / "run-2")))
    assert served.sampler(served.facts["where"]).range(150, 200).equals(rows.slice(150, 50)), "whoever is served gets these rows"
