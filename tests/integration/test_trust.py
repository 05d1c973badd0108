"""What the gates are for: rows that may be published are, and rows that copy, leak or break the law of the columns are not."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raysynth.commits import commit, write_task
from raysynth.errors import GateError
from raysynth.gates import Gate, judge
from raysynth.recipe import Recipe
from raysynth.recipe_files import load_recipe
from raysynth.runs import Folder, Plan, Run, folder_id
from raysynth.stages import evaluate, prepare, publish

RECIPE = """
name: law
source: {folder}/real.parquet
run: {folder}/run
derive: {{tall: "height > 175"}}
prepare: {{validation: 0.1, holdout: 0.3}}
evaluate:
  target: bought
  gates: [{gates}]
"""
GATES = {
    "copies": "exact_copies <= holdout.exact_copies + 0.001",
    "nearer": "nearer_to_train <= 0.53",
    "detector": "c2st_auc <= 0.6",
    "shapes": "column_shapes >= holdout.column_shapes - 0.03",
    "useful": "utility_synthetic >= utility_real - 0.1",
}


def law(rows: int, seed: int) -> pa.Table:
    """Dependent columns of several kinds."""
    noise = np.random.default_rng(seed)
    height, mood = noise.normal(170, 10, rows), noise.normal(0, 1, rows)
    weight = height - 100 + 8 * noise.normal(size=rows)
    return pa.table(
        {
            "height": height.round(3),
            "weight": pa.array(weight.round(3), mask=noise.random(rows) < 0.05),
            "mood": mood.round(4),
            "steps": np.maximum(0, 8000 + 3000 * mood + 800 * noise.normal(size=rows)).astype(int),
            "town": np.where(mood > 0.5, "north", np.where(noise.random(rows) < 0.5, "south", "east")),
            "bought": height + 10 * mood + 5 * noise.normal(size=rows) > 172,
        }
    )


@dataclass(frozen=True)
class Bench:
    """A prepared real table, and how rows passed off as synthetic are judged."""

    folder: Path
    recipe: Recipe
    prepared: Folder

    def split(self, name: str) -> pa.Table:
        rows = [pq.read_table(url.removeprefix("file://")) for url in self.prepared.part_urls(name)]
        return pa.concat_tables(rows).drop_columns(["_file", "_row"])

    def passed_off(self, rows: pa.Table, name: str) -> Folder:
        folder = Run(str(self.folder / name)).folder("synthetic", folder_id({"rows": name}))
        half = rows.num_rows // 2
        halves = [rows.slice(0, half), rows.slice(half)]
        plan = Plan(2, {"rules": []})
        folder.write_plan(plan)
        write_task(folder, plan, range(2), lambda part: [("0000", halves[part])])
        commit(folder, plan)
        return folder

    def evaluated(self, rows: pa.Table, name: str, workers: int = 2) -> Folder:
        recipe = self.recipe.model_copy(update={"generate": self.recipe.generate.model_copy(update={"workers": workers})})
        run = Run(str(self.folder / name))
        return evaluate.run(recipe, run, self.prepared, self.passed_off(rows, name), None, [])

    def judged(self, rows: pa.Table, name: str) -> tuple[dict[str, Gate], dict[str, dict[str, Any]]]:
        scores = evaluate.read_scores(self.evaluated(rows, name))
        gates = judge(list(GATES.values()), scores)
        return dict(zip(GATES, gates, strict=True)), {score["name"]: score for score in scores}


@pytest.fixture(scope="module")
def bench(cluster: None, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    folder = tmp_path_factory.mktemp("trust")
    pq.write_table(law(8000, seed=1), folder / "real.parquet")
    path = folder / "law.yaml"
    path.write_text(RECIPE.format(folder=folder, gates=", ".join(f'"{gate}"' for gate in GATES.values())))
    recipe = load_recipe(path)
    return Bench(folder, recipe, prepare.run(recipe, Run(recipe.run)))


def with_tall(rows: pa.Table) -> pa.Table:
    return rows.append_column("tall", pa.array(np.asarray(rows["height"]) > 175))


def test_hold_out_rows_pass_every_gate(bench: Bench) -> None:
    gates, scores = bench.judged(bench.split("holdout"), "holdout")
    assert {name: gate.holds for name, gate in gates.items()} == dict.fromkeys(GATES, True), scores


def test_new_rows_of_the_same_law_pass_every_gate_whatever_the_workers(bench: Bench) -> None:
    rows = with_tall(law(6000, seed=2))
    folders = [bench.evaluated(rows, f"workers-{workers}", workers) for workers in (1, 2, 4)]
    assert len({folder.read("scores.json") for folder in folders}) == 1
    scores = evaluate.read_scores(folders[0])
    assert all(gate.holds for gate in judge(list(GATES.values()), scores)), scores
    nearer = next(score for score in scores if score["name"] == "nearer_to_train")
    assert abs(nearer["value"] - 0.5) < 0.03 and abs(nearer["ceiling"] - 0.5) < 0.06
    page = folders[0].read("report.html").decode()
    assert "<svg" in page and "nearer_to_train" in page


def test_train_rows_fail_the_privacy_gates(bench: Bench) -> None:
    gates, scores = bench.judged(bench.split("train"), "train")
    assert not gates["copies"].holds and not gates["nearer"].holds
    assert scores["exact_copies"]["value"] == 1.0 and scores["nearer_to_train"]["value"] > 0.9


def test_one_planted_copy_in_a_hundred_fails(bench: Bench) -> None:
    rows = pa.concat_tables([with_tall(law(5940, seed=3)), bench.split("train").slice(0, 60)])
    gates, scores = bench.judged(rows, "planted")
    assert not gates["copies"].holds and gates["detector"].holds
    assert scores["exact_copies"]["facts"]["copies"] >= 60


def independent(rows: pa.Table) -> pa.Table:
    noise = np.random.default_rng(4)
    shuffled = {name: rows[name].take(noise.permutation(rows.num_rows)) for name in rows.column_names}
    return pa.table(shuffled)


def test_independent_columns_fail_the_detector_and_no_marginal_score_sees_them(bench: Bench) -> None:
    gates, scores = bench.judged(independent(bench.split("train")), "independent")
    assert not gates["detector"].holds and not gates["useful"].holds
    assert gates["shapes"].holds
    assert scores["pair_trends"]["value"] < scores["pair_trends"]["ceiling"] - 0.02


def constant(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.column_names.index("mood"), "mood", pa.array(np.full(rows.num_rows, 0.25)))


def swapped(rows: pa.Table) -> pa.Table:
    names = ["weight" if name == "height" else "height" if name == "weight" else name for name in rows.column_names]
    return rows.rename_columns(names).select(rows.column_names)


def rescaled(rows: pa.Table) -> pa.Table:
    return rows.set_column(rows.column_names.index("steps"), "steps", pa.array((np.asarray(rows["steps"]) * 2.2).astype(int)))


@pytest.mark.parametrize(
    ("spoil", "columns"),
    [(constant, {"mood"}), (swapped, {"height", "weight"}), (rescaled, {"steps"})],
    ids=["constant", "swapped", "rescaled"],
)
def test_a_spoilt_column_lowers_the_score_that_should_see_it_and_is_named(
    bench: Bench, spoil: Callable[[pa.Table], pa.Table], columns: set[str]
) -> None:
    gates, scores = bench.judged(spoil(with_tall(law(6000, seed=5))), spoil.__name__)
    assert not gates["shapes"].holds and not gates["detector"].holds
    by_column = scores["column_shapes"]["columns"]
    assert set(sorted(by_column, key=lambda name: by_column[name])[: len(columns)]) == columns


def test_a_failed_gate_leaves_the_older_publication_and_force_is_recorded(bench: Bench) -> None:
    run = Run(str(bench.folder / "published"))
    rows = {"good": with_tall(law(6000, seed=6)), "bad": bench.split("train")}
    folders: dict[str, tuple[Folder, Folder]] = {}
    for name, table in rows.items():
        synthetic = bench.passed_off(table, f"published-{name}")
        folders[name] = synthetic, evaluate.run(bench.recipe, run, bench.prepared, synthetic, None, [])
    synthetic, evaluation = folders["good"]
    publish.run(bench.recipe, run, bench.prepared, None, synthetic, None, evaluation)
    before = (bench.folder / "published" / "published.json").read_bytes()
    synthetic, evaluation = folders["bad"]
    with pytest.raises(GateError, match=r"evaluate\.gates: 'exact_copies <= holdout\.exact_copies \+ 0\.001' \(exact_copies = 1"):
        publish.run(bench.recipe, run, bench.prepared, None, synthetic, None, evaluation)
    assert (bench.folder / "published" / "published.json").read_bytes() == before
    published = publish.run(bench.recipe, run, bench.prepared, None, synthetic, None, evaluation, force=True)
    assert published["forced"] is True and not all(gate["holds"] for gate in published["gates"])
    assert json.loads((bench.folder / "published" / "published.json").read_bytes())["forced"] is True
    card = bench.folder / "published" / "README.md"
    assert "Published by force" in card.read_text()
    card.write_text("what a driver left that died after it published")
    publish.run(bench.recipe, run, bench.prepared, None, synthetic, None, evaluation, force=True)
    assert "Published by force" in card.read_text()
