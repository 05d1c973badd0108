"""Scores of pictures on shapes that the test draws: a reason where there is none, the same however rows are cut, copies found; and no score
of a table is disturbed by a column of images. What they are worth is for tests/statistical."""

import subprocess
import sys
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pictures_of import SCHEMA, law, table

from raysynth.cleaning import row_hash
from raysynth.draws import Draws
from raysynth.features import judged
from raysynth.histograms import histograms
from raysynth.image_frames import Frame, pixels_in, squared, thumbnails
from raysynth.metrics import _network
from raysynth.metrics.base import WORD, Score, Seen, Side
from raysynth.metrics.fidelity._laws import kernel_distance
from raysynth.parts import find
from raysynth.pictures import pictures
from raysynth.schema import IMAGE, Column, Schema
from raysynth.stages.evaluate import applying

TABLE = Schema((Column("x", "number", pa.float64()), Column("shape", "category", pa.string())))
IMAGE_METRICS = sorted(set(applying(SCHEMA, "shape")) - set(applying(TABLE, "shape")))
ALONE = Schema((Column("photo", "image", IMAGE),))


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch: pytest.MonkeyPatch) -> None:
    """How good the networks get is for tests/statistical."""
    for name, few in (("MOST_EPOCHS", 1), ("LEAST_STEPS", 8), ("BATCH_ROWS", 16)):
        monkeypatch.setattr(_network, name, few)


def scores(name: str, tables: dict[Side, pa.Table], target: str | None = "shape", cut: int = 300, schema: Schema = SCHEMA) -> Any:
    """As the stage does it: settle, observe pieces of `cut` rows, merge, score."""
    metric: Any = find("metrics", name)(schema, seed=1, target=target)
    samples: dict[Side, pa.Table] = {}
    for side, rows in tables.items():
        words = np.sort(Draws.range(1, side, 0, rows.num_rows).words("w"))
        samples[side] = rows.select(schema.names).append_column(WORD, pa.array(words))
    contents: dict[Side, Any] = {side: np.unique(row_hash(rows, schema)) for side, rows in tables.items()}
    seen = Seen(samples, {side: rows.num_rows for side, rows in tables.items()}, contents)
    metric.settle(seen)
    stats: dict[Side, Any] = {}
    for side in metric.sides:
        for start in range(0, samples[side].num_rows if side in samples else 0, cut):
            found = metric.observe(samples[side].slice(start, cut), side)
            stats[side] = stats[side].merge(found) if side in stats else found
    made: list[Score] = metric.score(seen, stats)
    assert [score.name for score in made] == list(metric.names)
    return {score.name: score for score in made}


REAL: dict[Side, pa.Table] = {"train": law(240, 1), "validation": law(40, 2), "holdout": law(100, 3)}


def with_synthetic(rows: pa.Table) -> dict[Side, pa.Table]:
    return {**REAL, "synthetic": rows}


def test_a_table_is_asked_no_metric_of_pictures_and_loads_nothing_for_them() -> None:
    assert IMAGE_METRICS == ["fidelity.image_features", "privacy.image_nearest", "utility.image_downstream"]
    assert "utility.image_downstream" not in applying(SCHEMA, None) + applying(SCHEMA, "photo")
    code = (
        "import sys; from raysynth.parts import available, find; import raysynth.report; "
        "[find('metrics', name) for name in available('metrics')]; "
        "print(sorted({'torch', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", IMAGE_METRICS)
@pytest.mark.parametrize("empty", ["train", "holdout", "synthetic"])
def test_a_side_that_is_empty_or_null_gives_a_reason_and_never_a_number_that_is_none(name: str, empty: Side) -> None:
    whole: dict[Side, pa.Table] = {"train": law(70, 1), "holdout": law(35, 3), "synthetic": law(35, 4)}
    missing = {side: rows for side, rows in whole.items() if side != empty}
    nulls = table([None] * 40, ["bar"] * 40)
    for tables in (missing, {**whole, empty: law(0, 1)}, {**whole, empty: nulls}):
        for score in scores(name, tables).values():
            numbers = [score.value or 0.0, score.ceiling or 0.0, score.worst, score.best, *score.columns.values()]
            assert np.isfinite(numbers).all(), score
            assert (score.value is None) == bool(score.why)


@pytest.mark.parametrize("name", IMAGE_METRICS)
def test_scores_do_not_depend_on_how_the_rows_were_cut_and_are_the_same_each_time(name: str) -> None:
    tables: dict[Side, pa.Table] = {"train": law(90, 1), "holdout": law(40, 2), "synthetic": law(45, 4), "mix": law(60, 5)}
    assert scores(name, tables, cut=37) == scores(name, tables, cut=10_000)


def test_pictures_that_were_learnt_by_heart_are_found_whatever_file_they_come_in() -> None:
    again = table(pictures(REAL["train"]["photo"])[:60], REAL["train"]["shape"].to_pylist()[:60])
    found = scores("privacy.image_nearest", with_synthetic(again))
    assert found["image_copies"].value == 1.0 and found["image_copies"].ceiling == 0.0
    assert found["image_memorised"].value == 1.0 and found["image_memorised"].ceiling == pytest.approx(0.01)
    assert found["image_memorised"].facts["train_pictures"] == 240
    blurred = [
        np.clip(pixels.astype(int) + 1, 0, 255).astype(np.uint8) for pixels in pictures(again["photo"]) if pixels is not None
    ]
    found = scores("privacy.image_nearest", with_synthetic(table(blurred, ["bar"] * 60)))
    assert found["image_copies"].value == 0.0 and found["image_memorised"].value == 1.0


def test_holdout_pictures_that_repeat_train_ones_raise_the_ceiling_with_the_score() -> None:
    tables = {**REAL, "holdout": REAL["train"].slice(0, 50), "synthetic": REAL["train"].slice(50, 50)}
    found = scores("privacy.image_nearest", tables)
    assert found["image_copies"].value == found["image_copies"].ceiling == 1.0
    assert found["image_memorised"].value == found["image_memorised"].ceiling == 1.0


def test_without_a_label_the_features_are_learnt_from_the_pictures_alone() -> None:
    found = scores("fidelity.image_features", with_synthetic(law(40, 4)), target=None, schema=ALONE)
    assert found["image_frechet"].value is not None and found["image_frechet"].facts["label"] is None
    assert found["image_diversity"].facts["classes"] == {"photo": {"all": pytest.approx(1, abs=0.5)}}


@pytest.mark.parametrize("schema", [SCHEMA, ALONE], ids=["beside others", "alone"])
def test_no_score_of_a_table_is_disturbed_by_a_column_of_images(schema: Schema) -> None:
    target = "shape" if schema is SCHEMA else None
    few: dict[Side, pa.Table] = {"train": law(80, 1), "holdout": law(40, 3), "synthetic": law(40, 4)}
    for name in sorted(set(applying(schema, target)) - set(IMAGE_METRICS)):
        for score in scores(name, few, target, schema=schema).values():
            assert score.value is not None or score.why
            assert not {"height", "width", "photo"} & set(score.columns)
    assert (
        scores("privacy.exact_copies", with_synthetic(REAL["train"].slice(0, 30)), target, schema=schema)["exact_copies"].value
        == 1.0
    )
    assert "image" in scores("utility.downstream", with_synthetic(law(60, 4)), "photo", schema=schema)["utility_real"].why


def test_sizes_of_pictures_are_no_columns_to_judge_and_images_have_no_histogram() -> None:
    assert judged(SCHEMA).names == ["shape"]
    real = Schema((Column("height", "integer", pa.int64()), Column("photo", "image", IMAGE)))
    assert judged(real).names == ["height"], "a person's height is no picture's"
    assert set(histograms(law(20, 1), SCHEMA)["photo"]) == {"missing"}


def test_a_frame_has_the_synthetic_proportions_and_distances_in_it_are_exact() -> None:
    wide, tall = np.zeros((20, 40, 1), np.uint8), np.full((40, 40, 3), 200, np.uint8)
    assert Frame.around([wide], [tall], 16) == Frame(8, 16, 3)
    assert Frame.around([], [wide], 64) == Frame(20, 40, 1)
    assert Frame.around([], [], 16) == Frame(16, 16, 1)
    frame = Frame(16, 16, 3)
    ends = frame.points([np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8), np.full((16, 16, 1), 254, np.uint8)])
    assert squared(ends, ends).tolist() == [[0, 768 * 255**2, 768 * 254**2], [768 * 255**2, 0, 768], [768 * 254**2, 768, 0]]


def test_thumbnails_are_what_judges_see_of_the_pictures_themselves() -> None:
    large = law(3, 1, side=100)["photo"]
    kept = np.array([True, False, True])
    small = pa.chunked_array([thumbnails(large, kept)])
    assert [None if pixels is None else pixels.shape for pixels in pictures(small)] == [(64, 64, 1), None, (64, 64, 1)]
    for one, two in zip(pixels_in(large), pixels_in(small), strict=True):
        assert two is None or (one is not None and np.array_equal(one, two))
    little = law(2, 1)["photo"]
    assert thumbnails(little, kept[:2]).to_pylist()[0] == little.to_pylist()[0], "what is small stays the file that it is"


def test_the_kernel_distance_of_equal_laws_is_nothing_on_average() -> None:
    noise = np.random.default_rng(3)

    def points(mean: float) -> Any:
        found = noise.normal(mean, 1, (200, 8))
        return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)

    alike = [kernel_distance(points(0), points(0)) for _ in range(20)]
    assert abs(np.mean(alike)) < 0.01 and min(alike) < 0
    assert kernel_distance(points(0), points(1)) > 1
    one, other = np.zeros((2, 5, 4), np.float32)
    one[:, 0] = other[:, 1] = 1
    assert kernel_distance(one, other) == pytest.approx(14)
