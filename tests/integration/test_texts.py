"""Texts and conversations through every stage on a real Ray: cleaned, de-identified, learnt, drawn under a condition, scored, published."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.audit import verify
from raysynth.pipeline import Made, run_to
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Run, read_rows
from raysynth.schema import TURNS
from raysynth.serving.registry import Served, read_published

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


@pytest.mark.slow
def test_one_worker_makes_the_same_texts(tmp_path: Path) -> None:
    (tmp_path / "shards").mkdir()
    write_shards(tmp_path / "shards")
    names = [folder.manifest()["name"] for workers in (2, 1) if (folder := made(tmp_path, workers, "generate").synthetic)]
    assert len(names) == 2 and names[0].equals(names[1])


@pytest.mark.slow
def test_conversations_go_the_whole_way(tmp_path: Path) -> None:
    noise, (mail, phone, _) = np.random.default_rng(9), PLANTED
    lines: list[str] = []
    for row in range(400):
        mood = str(noise.choice(["good", "bad"]))
        said = [f"{noise.choice(DISHES)} {noise.choice(WORDS[mood])}" for _ in range(1 + row % 3)]
        chat = [{"from": ("guest", "house")[turn % 2], "value": text} for turn, text in enumerate(said)]
        lines.append(
            json.dumps({"mood": mood, "chat": [*chat, {"from": "guest", "value": f"write to\n{mail}"}][: 4 if row < 9 else 3]})
        )
    lines[0] = json.dumps({"mood": "bad", "chat": [{"from": "guest", "value": f"\n{phone}"}, None]})
    (tmp_path / "chats.jsonl").write_text("\n".join(lines), encoding="utf-8")
    told = {"source": str(tmp_path / "chats.jsonl"), "run": str(tmp_path / "run"), "name": "chats", "augment": []}
    kind = {"schema": {"columns": {"chat": {"kind": "turns"}}}, "mix": {"synthetic": 1.0}}
    whole = run_to(parse_recipe(RECIPE | told | kind | {"train": {"max_epochs": 6}, "generate": {"rows": 200}}))
    assert whole.synthetic is not None and whole.mixed is not None and whole.evaluation is not None
    rows = pa.concat_tables([read_rows(url) for url in whole.synthetic.part_urls()])
    assert rows.num_rows == 200 and rows["chat"].type == TURNS and rows["chat"].null_count == 0
    assert {turn["role"] for chat in rows["chat"].to_pylist() for turn in chat} == {"guest", "house"}
    assert {len(chat) for chat in rows["chat"].to_pylist()} >= {1, 2, 3}
    scores = {score["name"]: score["value"] for score in whole.evaluation.read_json("scores.json")["scores"]}
    assert scores["text_lengths"] is not None and scores["text_copies"] is not None and scores["label_fidelity"] is not None
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    read = [
        str(pq.read_table(path).to_pylist()) if path.suffix == ".parquet" else path.read_text(errors="ignore") for path in files
    ]
    assert not [value for text in read for value in (mail, phone) if value in text]


@pytest.mark.slow
def test_filters_and_facts_hold_in_the_batch_and_for_whoever_is_served(tmp_path: Path) -> None:
    noise = np.random.default_rng(4)
    dishes, moods = (noise.choice(choices, 400).tolist() for choices in (DISHES, list(WORDS)))
    texts = [f"{dish} {noise.choice(WORDS[mood])}" for dish, mood in zip(dishes, moods, strict=True)]
    pq.write_table(pa.table({"dish": dishes, "mood": moods, "text": texts}), tmp_path / "rows.parquet")
    facts = [f"{dish},cuisine,{'western' if dish.isascii() else 'chinese'}" for dish in DISHES]
    (tmp_path / "facts.csv").write_text("\n".join(["head,relation,tail", *facts]), encoding="utf-8")
    rules = [
        "mood is not None",
        {"use": "knowledge.agrees"},
        {"use": "text.length", "column": "text", "max_words": 8},
        {"use": "text.label", "label": "mood"},
        {"use": "text.near_copy", "column": "text", "words": 4, "most": 0.5},
    ]
    told = {"source": str(tmp_path / "rows.parquet"), "run": str(tmp_path / "run"), "rules": rules, "evaluate": None}
    told |= {"knowledge": {"triples": str(tmp_path / "facts.csv"), "of": ["dish"]}}
    told |= {"generate": {"rows": 200, "rows_per_part": 80, "where": {"dish_cuisine": "chinese"}}}
    recipe = parse_recipe({name: RECIPE[name] for name in ("name", "schema", "generator")} | {"train": {"max_epochs": 4}} | told)
    whole = run_to(recipe)
    assert whole.published and whole.synthetic is not None and verify(Run(recipe.run)).whole
    rows = pa.concat_tables([read_rows(url) for url in whole.synthetic.part_urls()])
    assert rows.num_rows == 200
    assert {dish.isascii() for dish in rows["dish"].to_pylist()} == {False} and set(rows["dish_cuisine"].to_pylist()) == {"chinese"}
    served = Served(read_published(recipe.run))
    assert len(served.filters) == 4 and all(one.holds(rows).all() for one in served.filters)
    assert served.sampler(served.facts["where"]).range(70, 200).equals(rows.slice(70))
    counts = [part.extra["rejects"] for marker in whole.synthetic.markers() for part in marker.parts]
    assert len(counts) == 3 and all(count["filter text.label(mood)"] > 0 for count in counts)
    again = run_to(recipe)
    assert {name: folder.id for name, folder in again.folders.items()} == {
        name: folder.id for name, folder in whole.folders.items()
    }
    assert len(Run(recipe.run).folders("filters")) == 1
