"""Pictures over HTTP, without Ray and with a generator that draws blots: the same bytes in every format as in the batch, and never more at
once than the server may hold."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from here import Server
from pictures_of import SCHEMA, law
from typer.testing import CliRunner

import raysynth.generators
from raysynth import formats
from raysynth.cli import app
from raysynth.codecs.image import Image
from raysynth.commits import commit, commit_files, write_task
from raysynth.models import load_model, model_files
from raysynth.orders import Order, files_of
from raysynth.parts import find
from raysynth.pictures import pictures
from raysynth.runs import Run, folder_id, read_rows
from raysynth.sampler import Sampler
from raysynth.schema import FILE, IMAGE, ROW
from raysynth.serving import service
from raysynth.stores.base import join
from raysynth.training import initialise

SEED = 5
SIDE = 12
FAKES = Path(__file__).parents[1] / "integration" / "fakes"


@pytest.fixture(scope="module")
def blots_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a published run of 60 pictures."""
    raysynth.generators.__path__.append(str(FAKES))
    blots = find("generators", "blots")
    run = Run(str(tmp_path_factory.mktemp("run") / "blots"))
    codec = Image(SCHEMA.learnt, seed=SEED, size=(SIDE, SIDE))
    real = law(50, 1).append_column(FILE, pa.array(["a"] * 50)).append_column(ROW, pa.array(range(50)))
    layout = codec.settle(codec.observe(real))
    generator: Any = initialise(lambda: blots(layout), SEED)
    parts = {"codec": {"use": "image", "size": [SIDE, SIDE]}, "generator": {"use": "blots"}}
    facts = {"name": "blots", "seed": SEED, "schema": SCHEMA.to_json(), "derive": {}, "parts": parts}
    model = run.folder("model", folder_id(facts))
    files = model_files(codec, generator, facts)
    for name, data in files.items():
        model.store.put(join(model.url, name), data)
    commit_files(model, files)
    loaded = load_model(model)
    order = Order(loaded.digest, SEED, (), 60, 40, {}, 10_000, "avx2")
    plan = order.plan(len(SCHEMA))
    synthetic = run.folder("synthetic", folder_id(order.facts()))
    synthetic.write_plan(plan)
    write_task(synthetic, plan, range(plan.parts), files_of(Sampler(loaded, seed=SEED), plan))
    commit(synthetic, plan)
    for name, folder in (("model", model), ("synthetic", synthetic)):
        run.point(name, folder)
    run.publish([synthetic], {"name": "blots", "model": model.id, "evaluation": None, "gates": [], "forced": False})
    yield run.url
    raysynth.generators.__path__.remove(str(FAKES))


@pytest.fixture(scope="module")
def server(blots_run: str, tmp_path_factory: pytest.TempPathFactory) -> Server:
    return Server(blots_run, tmp_path_factory.mktemp("server"), "blots", max_picture_bytes=60 * SIDE * SIDE)


@pytest.mark.parametrize("format", formats.FORMATS)
def test_every_format_gives_the_pictures_of_the_batch(server: Server, blots_run: str, format: str) -> None:
    synthetic = Run(blots_run).current("synthetic")
    assert synthetic is not None
    part = read_rows(synthetic.part_urls()[0])
    answer = server.sample({"rows": 40, "seed": SEED}, format)
    assert answer.status_code == 200, answer.text
    assert formats.decode(format, answer.content, SCHEMA.arrow, 40).equals(part)
    if format == "parquet":
        assert answer.content == synthetic.store.read(synthetic.part_urls()[0])
    assert [None if pixels is None else pixels.shape for pixels in pictures(part["photo"])] == [(SIDE, SIDE, 1)] * 40
    assert set(part["height"].to_pylist()) == {SIDE}


def test_pictures_meet_conditions_and_some_columns_do(server: Server) -> None:
    answer = server.sample({"rows": 9, "seed": 3, "where": {"shape": "ring"}, "columns": ["shape", "photo"]}, "json").json()
    assert answer["columns"] == ["shape", "photo"]
    assert {row[0] for row in answer["rows"]} == {"ring"}
    assert all(row[1]["bytes"].startswith("iVBORw0KGgo") and row[1]["path"] is None for row in answer["rows"])


def test_more_pictures_than_may_be_held_are_refused_and_what_is_sent_is_cut_small(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = server.sample({"rows": 61, "seed": SEED})
    assert refused.status_code == 413
    assert "a sample of such pictures has at most 60. POST /v1/jobs" in refused.json()["detail"]
    whole = server.sample({"rows": 60, "seed": SEED}).content
    monkeypatch.setattr(service, "PIECE_BYTES", 7 * SIDE * SIDE)
    pieces = pa.ipc.open_stream(server.sample({"rows": 60, "seed": SEED}).content)
    batches = list(pieces)
    assert max(batch.num_rows for batch in batches) == 7
    assert pa.Table.from_batches(batches).equals(formats.decode("arrow", whole, SCHEMA.arrow))


def test_the_card_tells_of_a_column_of_images(server: Server) -> None:
    card = server.ask("GET", "/v1/models/blots").json()
    assert card["schema"][0] == {"name": "photo", "kind": "image", "type": str(IMAGE), "nullable": True, "derived": False}


def test_preview_tells_a_picture_in_words(blots_run: str) -> None:
    told = CliRunner().invoke(app, ["preview", blots_run, "-n", "3"])
    assert told.exit_code == 0, told.output
    rows = [json.loads(line) for line in told.output.splitlines()]
    assert len(rows) == 3
    assert all(row["photo"].startswith(f"PNG {SIDE} × {SIDE}, ") and row["photo"].endswith(" bytes") for row in rows)


def test_the_client_and_what_it_loads_need_no_library_of_pictures() -> None:
    code = "import raysynth.client, sys; print(sorted({'torch', 'cv2', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
