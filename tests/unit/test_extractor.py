"""A network of the user's own that sees pictures: what it is given, what is made of its points, and what is refused by name."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from pictures_of import SCHEMA, law

from raysynth.draws import Draws
from raysynth.errors import MissingExtraError, RecipeError
from raysynth.extractor import Extractor, extractor_of
from raysynth.metrics.base import WORD, Score, Seen, Side
from raysynth.parts import find
from raysynth.recipe import Evaluate
from raysynth.stages import evaluate

PLAIN = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
WEIGHTS = np.random.default_rng(3).normal(size=(4 * 4 * 3, 5)).astype(np.float32)


def network(
    shape: list[int | str], weights: NDArray[np.float32] | None = WEIGHTS, kind: int = TensorProto.FLOAT, grid: bool = False
) -> bytes:
    """Pictures → their levels times the weights; without weights, or for a grid, the pictures themselves."""
    asked = [helper.make_tensor_value_info("x", kind, shape)]
    if weights is None or grid:
        nodes, held = [helper.make_node("Identity", ["x"], ["y"])], []
    else:
        nodes = [helper.make_node("Flatten", ["x"], ["flat"]), helper.make_node("MatMul", ["flat", "w"], ["y"])]
        held = [numpy_helper.from_array(weights, "w")]
    said = [helper.make_tensor_value_info("y", kind, list("abcd"[: len(shape)] if not held else "ab"))]
    model = helper.make_model(helper.make_graph(nodes, "points", asked, said, held), opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return model.SerializeToString()


def file(folder: Path, data: bytes) -> str:
    (folder / "network.onnx").write_bytes(data)
    return str(folder / "network.onnx")


def pictures(count: int) -> list[NDArray[np.uint8]]:
    return [np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8) for seed in range(count)]


@pytest.mark.parametrize("shape", [["n", 3, 4, 4], [7, 3, 4, 4]])
def test_points_are_what_the_network_says_of_length_one_whatever_its_batch(tmp_path: Path, shape: list[int | str]) -> None:
    mean, spread = (10.0, 20.0, 30.0), (2.0, 3.0, 4.0)
    found = extractor_of(file(tmp_path, network(shape)), mean, spread).points(pictures(40))
    x = (np.stack(pictures(40)) - np.array(mean)) / np.array(spread)
    said = x.transpose(0, 3, 1, 2).reshape(40, -1) @ WEIGHTS
    assert np.allclose(found, said / np.linalg.norm(said, axis=1, keepdims=True), atol=1e-5)
    alone = extractor_of(file(tmp_path, network(shape)), mean, spread).points(pictures(40)[11:12])
    assert np.array_equal(alone[0], found[11]), "whoever its neighbours are"


def test_channels_may_come_last_and_a_grid_is_its_mean(tmp_path: Path) -> None:
    last = extractor_of(file(tmp_path, network(["n", 4, 4, 3])), *PLAIN).points(pictures(3))
    said = np.stack(pictures(3)).reshape(3, -1).astype(np.float32) @ WEIGHTS
    assert np.allclose(last, said / np.linalg.norm(said, axis=1, keepdims=True), atol=1e-5)
    for shape in (["n", 3, 4, 4], ["n", 4, 4, 3]):
        grid = extractor_of(file(tmp_path, network(shape, grid=True)), *PLAIN).points(pictures(3))
        mean = np.stack(pictures(3)).mean(axis=(1, 2))
        assert np.allclose(grid, mean / np.linalg.norm(mean, axis=1, keepdims=True), atol=1e-5)


def test_one_channel_is_grey_and_a_free_side_is_that_of_the_samples(tmp_path: Path) -> None:
    grey = extractor_of(file(tmp_path, network(["n", 1, "h", "w"], grid=True)), *PLAIN)
    assert grey.points(pictures(2)).shape == (2, 1)
    assert grey.points([]).shape[0] == 0


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"no network", "no network that can be asked"),
        (b"", "no network that can be asked"),
        (network(["n", 3, 4, 4], kind=TensorProto.DOUBLE, weights=None), r"first input is a tensor\(double\)"),
        (network(["n", 48]), "of shape"),
        (network(["n", 5, 4, 4], grid=True), "without 1 or 3 channels"),
        (network(["n", 3, 9, 9]), "no network that can be asked"),
    ],
)
def test_what_is_no_network_of_pictures_is_refused_by_name(tmp_path: Path, data: bytes, why: str) -> None:
    with pytest.raises(RecipeError, match=r"evaluate\.extractor: '.*network\.onnx'.*" + why):
        extractor_of(file(tmp_path, data), *PLAIN)


def test_weights_that_lie_beside_the_file_are_refused(tmp_path: Path) -> None:
    model = onnx.load_from_string(network(["n", 3, 4, 4]))
    onnx.save_model(
        model,
        str(tmp_path / "split.onnx"),
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
        all_tensors_to_one_file=True,
    )
    assert (tmp_path / "weights.bin").exists()
    with pytest.raises(RecipeError, match="holds its weights itself"):
        extractor_of(str(tmp_path / "split.onnx"), *PLAIN)


def test_a_file_that_is_not_there_and_a_package_that_is_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match="is not there"):
        extractor_of(str(tmp_path / "none.onnx"), *PLAIN)
    url = file(tmp_path, network(["n", 3, 4, 4]))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingExtraError, match=r"raysynth\[onnx\]"):
        extractor_of(url, *PLAIN)


def scores(extractor: Extractor | None, synthetic: pa.Table) -> dict[str, Score]:
    metric: Any = find("metrics", "fidelity.image_features")(SCHEMA, seed=1, target="shape", extractor=extractor)
    samples: dict[Side, pa.Table] = {}
    tables: dict[Side, pa.Table] = {"train": law(200, 1), "holdout": law(80, 3), "synthetic": synthetic}
    for side, rows in tables.items():
        words = np.sort(Draws.range(1, side, 0, rows.num_rows).words("w"))
        samples[side] = rows.append_column(WORD, pa.array(words))
    made: list[Score] = metric.score(Seen(samples, {side: rows.num_rows for side, rows in tables.items()}), {})
    return {score.name: score for score in made}


def test_the_scores_of_pictures_are_by_its_points_and_say_so(tmp_path: Path) -> None:
    side = 8
    weights = np.random.default_rng(5).normal(size=(3 * side * side, 16)).astype(np.float32)
    extractor = extractor_of(file(tmp_path, network(["n", 3, side, side], weights)), (127.5,) * 3, (50.0,) * 3)
    same = scores(extractor, law(80, 4))
    frechet = same["image_frechet"]
    assert frechet.facts["features"] == f"onnx {extractor.sha256[:16]}" and frechet.facts["learnt_from"] == 0
    rows = law(80, 4)
    grey = rows.set_column(rows.column_names.index("photo"), "photo", pa.concat_arrays([rows["photo"].chunk(0).slice(0, 1)] * 80))
    assert scores(extractor, grey)["image_frechet"].value > 2 * (frechet.value or 0), "one picture over and over is far from all"


def test_the_evaluations_id_has_the_files_hash_and_none_without_one(tmp_path: Path) -> None:
    url = file(tmp_path, network(["n", 3, 4, 4]))
    asked = Evaluate.model_validate({"extractor": {"url": url}})
    first = evaluate._seen_by(asked)
    file(tmp_path, network(["n", 3, 4, 4], 2 * WEIGHTS))
    assert first["extractor"]["sha256"] != evaluate._seen_by(asked)["extractor"]["sha256"]
    assert evaluate._seen_by(Evaluate()) == {} and "extractor" in evaluate._silent(Evaluate(), SCHEMA)
