"""What `raysynth submit` checks before anything is sent, and what the job checks when it arrives."""

import json
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from raysynth.cluster import submit as submitting
from raysynth.cluster.submit import check_places, check_run, check_versions, submit
from raysynth.errors import RecipeError
from raysynth.recipe import Recipe
from raysynth.recipe_files import load_recipe, parse_recipe


def recipe(source: str, run: str) -> Recipe:
    return parse_recipe({"name": "wine", "source": source, "run": run})


@pytest.mark.parametrize(
    ("source", "run", "key"),
    [
        ("data/*.csv", "s3://bucket/runs/wine", "source.url"),
        ("s3://bucket/a.csv", "runs/wine", "run"),
        ("~/a.csv", "/shared", "source.url"),
    ],
)
def test_a_place_of_this_machine_alone_is_refused(source: str, run: str, key: str) -> None:
    with pytest.raises(RecipeError, match=rf"^{key}: '.*s3://"):
        check_places(recipe(source, run))


@pytest.mark.parametrize(
    ("more", "key"),
    [
        ({"knowledge": {"lexicons": {"rude": "rude.txt"}}}, "knowledge.lexicons.rude"),
        ({"knowledge": {"triples": "facts.tsv"}}, "knowledge.triples"),
        ({"evaluate": {"extractor": {"url": "eyes.onnx"}}}, "evaluate.extractor.url"),
        ({"generator": {"use": "language_model", "base": "models/small"}}, "generator.base"),
    ],
)
def test_so_is_any_other_file_of_this_machine(more: dict[str, Any], key: str) -> None:
    asked = parse_recipe({"name": "wine", "source": "examples://wine", "run": "s3://bucket/runs/wine", **more})
    with pytest.raises(RecipeError, match=rf"^{key}: '.*s3://"):
        check_places(asked)


def test_so_is_a_run_in_the_memory_of_one_process() -> None:
    with pytest.raises(RecipeError, match=r"^run: 'memory://x' lies in the memory of one process"):
        check_places(recipe("examples://wine", "memory://x"))


def test_a_path_may_be_a_disk_that_all_share_and_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    check_places(recipe("/shared/a.csv", "file:///shared/run"))
    told = [json.loads(line)["warning"] for line in capsys.readouterr().out.splitlines()]
    assert [warning.split(":")[0] for warning in told] == ["source.url", "run"]


def test_urls_and_examples_go_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    check_places(recipe("examples://wine", "s3://bucket/runs/wine"))
    assert not capsys.readouterr().out


def test_only_a_job_minds_where_a_relative_run_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    check_run(recipe("examples://wine", "runs/wine"))
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    check_run(recipe("examples://wine", "/shared/wine"))
    with pytest.raises(RecipeError, match="run: 'runs/wine'"):
        check_run(recipe("examples://wine", "runs/wine"))


def test_other_versions_are_named() -> None:
    here = {name: version(name).split("+")[0] for name in ("ray", "torch", "pyarrow", "numpy")}
    check_versions(json.dumps(here))
    with pytest.raises(RecipeError, match=rf"numpy 1\.0 there, {here['numpy']} on the cluster"):
        check_versions(json.dumps({**here, "numpy": "1.0"}))
    with pytest.raises(RecipeError, match=rf"numpy None there, {here['numpy']} on the cluster"):
        check_versions(json.dumps({**here, "numpy": None}))


def test_a_recipe_without_a_name_is_called_there_what_it_is_called_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "Größe 1.yaml"
    file.write_text("source: examples://wine\nrun: s3://bucket/runs/wine\n", encoding="utf-8")
    names: list[str] = []

    class Head:
        def submit_job(self, *, entrypoint: str, runtime_env: dict[str, Any], **_: Any) -> None:
            there = Path(runtime_env["working_dir"])
            names.append(load_recipe(there / shlex.split(entrypoint)[5]).name)

    def connected(address: str) -> Head:
        return Head()

    monkeypatch.setattr(submitting, "connect", connected)
    asked = load_recipe(file)
    assert submit(file, asked, address="http://head:8265", command=[], detach=True) == 0
    assert names == [asked.name] and asked.name != "recipe"
