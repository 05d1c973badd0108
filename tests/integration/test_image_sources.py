"""Pictures through prepare, profile and plan on a local Ray: a folder of good, odd and broken ones, and archives beside it."""

import io
import json
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from raysynth import cli
from raysynth.errors import DataError
from raysynth.pictures import encoded, pictures
from raysynth.recipe_files import parse_recipe
from raysynth.runs import Folder, Run
from raysynth.schema import IMAGE
from raysynth.sources import images
from raysynth.stages import prepare


def picture(at: int) -> bytes:
    pixels = np.full((6, 8, 3), at % 256, np.uint8)
    pixels[0, 0] = [at // 256, 1, 2]
    return encoded(pixels, "jpeg" if at % 2 else "png")


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """120 pictures in two folders, one of them twice; a broken one, an empty one, an SVG, a broken zip; a zip of 5 and a tar of 5."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photos"
    for at in range(120):
        (folder / "ab"[at % 2]).mkdir(parents=True, exist_ok=True)
        (folder / "ab"[at % 2] / f"{at:03d}.jpg").write_bytes(picture(at))
    (folder / "a/copy.jpg").write_bytes(picture(0))
    (folder / "a/cut.jpg").write_bytes(picture(1)[:300])
    (folder / "a/empty.png").touch()
    (folder / "b/drawn.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'></svg>")
    (folder / "x.zip").write_bytes(b"PK no zip")
    with zipfile.ZipFile(folder / "y.zip", "w") as packed:
        for at in range(5):
            packed.writestr(f"../c/{at}.png", picture(200 + at))
        packed.writestr("c/bomb.png", b"\0" * (60 << 20), zipfile.ZIP_DEFLATED)
    with tarfile.open(folder / "z.tar", "w") as tar:
        for at in range(5):
            info = tarfile.TarInfo(f"/etc/{at}.png")
            info.size = len(data := picture(220 + at))
            tar.addfile(info, io.BytesIO(data))
    return folder


def rows_in(folder: Folder, sub: str) -> list[dict[str, Any]]:
    return [row for url in folder.part_urls(sub) for row in pq.read_table(url.removeprefix("file://")).to_pylist()]


def test_a_folder_of_pictures_is_prepared_and_what_is_broken_is_in_quarantine_by_name(
    photos: Path, cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(prepare, "check_codec", lambda *_: None)
    monkeypatch.setattr(images, "SHARD_FILES", 50)
    options = {"validation": 0.1, "holdout": 0.2, "max_bad_rows": 0.5, "drop_duplicates": True}
    recipe = parse_recipe({"source": "photos/", "run": "run", "prepare": options})
    folder = prepare.run(recipe, Run("run"))
    rows = [row for split in prepare.SPLITS for row in rows_in(folder, split)]
    assert len(rows) == 130 and len({(row["_file"], row["_row"]) for row in rows}) == 130
    assert "a/000.jpg" in {row["_file"] for row in rows} and "a/copy.jpg" not in {row["_file"] for row in rows}
    assert {row["label"] for row in rows} == {"a", "b", "c", "etc"} and {(row["height"], row["width"]) for row in rows} == {(6, 8)}
    bad = {row["_file"]: row for row in rows_in(folder, "quarantine")}
    assert {name: row["_row"] for name, row in bad.items()} == {
        "a/cut.jpg": 0,
        "a/empty.png": 0,
        "b/drawn.svg": 0,
        "x.zip": -1,
        "y.zip": 5,
    }
    assert "an empty file" in bad["a/empty.png"]["reason"] and "an SVG" in bad["b/drawn.svg"]["reason"]
    assert "at most 52,428,800 are read" in bad["y.zip"]["reason"] and "as a zip" in bad["x.zip"]["reason"]
    assert "1 input files cannot be read and are left out: x.zip" in capsys.readouterr().err
    assert sorted(path.name for path in Path.cwd().iterdir()) == ["photos", "run"]  # nothing was unpacked
    (url, *_) = folder.part_urls("train")
    written = pq.read_table(url.removeprefix("file://"))
    assert written.schema.field("image").type == IMAGE
    assert all(found is not None for found in pictures(written["image"]))
    again = prepare.run(
        parse_recipe({"source": "photos/", "run": "again", "prepare": options, "generate": {"workers": 1}}), Run("again")
    )
    assert again.manifest().equals(folder.manifest())
    with pytest.raises(DataError, match=r"max_bad_rows: 5 of 135 rows"):
        prepare.run(parse_recipe({"source": "photos/", "run": "run", "prepare": {**options, "max_bad_rows": 0.0}}), Run("run"))


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["raysynth", *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_profile_and_plan_know_pictures(
    photos: Path, cluster: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert call(monkeypatch, "profile", "photos/") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 134 and told["bad"]["rows"] == 5
    assert {one["file"] for one in told["bad"]["first"]} == {"a/cut.jpg", "a/empty.png", "b/drawn.svg", "x.zip", "y.zip"}
    assert told["pictures"]["image"]["formats"] == {"png": 67, "jpeg": 64} and told["pictures"]["image"]["repeated"] == 1
    assert told["balance"]["label"]["fewest"]["count"] == 5
    assert any("5 rows of 134 cannot be kept" in warning for warning in told["warnings"])
    assert any("2 of its 4 values have fewer than 20 rows" in warning for warning in told["warnings"])
    Path("recipe.yaml").write_text("source: photos/\nrun: run\ngenerate: {rows: 20}\n")
    assert call(monkeypatch, "plan", "recipe.yaml") == 2
    assert "codec.use: tabular writes no pictures" in capsys.readouterr().err
    assert not Path("run").exists()
