"""Texts through every stage on a real Ray: cleaned, de-identified, varied, learnt, drawn under a condition, scored and published."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.audit import verify
from raysynth.pipeline import Made, run_to
from raysynth.recipe import parse_recipe
from raysynth.runs import Run, read_rows

pytestmark = pytest.mark.usefixtures("cluster")
DISHES = ["noodles", "rice", "soup", "tea", "面条", "米饭", "汤", "奶茶"]
WORDS = {"good": ["great", "tasty", "fresh", "好吃", "很快"], "bad": ["cold", "late", "stale", "难吃", "太慢"]}
PLANTED = ["li.lei@corp-mail.cn", "13912345678", "4111111111111111"]


def write_shards(folder: Path) -> None:
    noise = np.random.default_rng(8)
    for shard in range(2):
        moods = noise.choice(["good", "bad"], 200, p=[0.6, 0.4]).tolist()
        texts = [f"{noise.choice(DISHES)} {noise.choice(WORDS[mood])}, {noise.choice(WORDS[mood])}!" for mood in moods]
        texts[:3] = [f"call {PLANTED[1]} or {PLANTED[0]}", f"电话{PLANTED[1]}", f"card {PLANTED[2]} was charged"]
        texts[3] = texts[4] = "the very same long sentence stands in both of the shards, word for word but for one"
        pq.write_table(pa.table({"mood": moods, "text": texts}), folder / f"{shard}.parquet")


RECIPE: dict[str, Any] = {
    "name": "reviews",
    "schema": {"columns": {"text": {"kind": "text"}}},
    "prepare": {"text": {"near_duplicates": 0.8, "deidentify": ["email", "phone", "card"]}},
    "augment": [{"use": "text.words"}, {"use": "text.typos"}],
    "generator": {"use": "language_model", "width": 32, "layers": 1, "heads": 2},
    "train": {"max_epochs": 3, "augmented": True},
    "mix": {"real": 1.0, "synthetic": 0.5},
    "evaluate": {"target": "mood"},
}
GENERATE = {"rows": 600, "rows_per_part": 200, "where": {"mood": "bad"}}


def made(folder: Path, workers: int, last: str = "publish") -> Made:
    told = {"source": {"use": "parquet", "url": str(folder / "shards")}, "run": str(folder / f"run-{workers}")}
    return run_to(parse_recipe(RECIPE | told | {"generate": GENERATE | {"workers": workers}}), last)


def texts(urls: list[str]) -> list[str]:
    return [str(text) for url in urls for text in read_rows(url)["text"].to_pylist()]


def test_texts_go_the_whole_way(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards")
    whole, run = made(tmp_path, 2), tmp_path / "run-2"
    assert whole.published and whole.synthetic is not None and whole.prepared is not None and whole.evaluation is not None
    assert verify(Run(str(run))).whole
    rows = pa.concat_tables([read_rows(url) for url in whole.synthetic.part_urls()])
    assert rows.num_rows == 600 and set(rows["mood"].to_pylist()) == {"bad"}
    assert rows["text"].null_count == 0, "no train row had none"
    assert len(set(rows["text"].to_pylist())) > 100

    prepared = texts([url for split in ("train", "validation", "holdout") for url in whole.prepared.part_urls(split)])
    assert sum(text.startswith("the very same") for text in prepared) == 1, "near-duplicates are found over all shards"
    files = [path for path in run.rglob("*") if path.is_file()]
    told = [
        str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_bytes().decode(errors="ignore")
        for path in files
    ]
    assert [(value, path) for text, path in zip(told, files, strict=True) for value in PLANTED if value in text] == []
    scores = {score["name"]: score["value"] for score in whole.evaluation.read_json("scores.json")["scores"]}
    assert scores["text_copies"] is not None and scores["label_fidelity"] is not None and scores["distinct_2"] > 0

    alone = made(tmp_path, 1, "generate").synthetic
    assert alone is not None and alone.manifest()["name"].equals(whole.synthetic.manifest()["name"]), (
        "one worker makes the same bytes"
    )
