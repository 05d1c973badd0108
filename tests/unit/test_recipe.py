"""Recipes from text: defaults, refusals that name the key, overrides, and the traps of YAML. The shelves are fakes in a folder."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError

import raysynth.codecs
import raysynth.generators
import raysynth.sources
from raysynth.errors import RecipeError
from raysynth.recipe import Recipe
from raysynth.recipe_files import load_recipe, parse_recipe, recipe_schema
from raysynth.recipe_reference import recipe_reference
from raysynth.recipe_values import with_format

ROOT = Path(__file__).parents[2]
SOURCE = """
from raysynth.sources.base import Source
class Fake(Source):
    def __init__(self, *, url: str, delimiter: str = ",") -> None: ...
"""
CODEC = """
from raysynth.codecs.base import Codec
class Fake(Codec):
    def __init__(self, schema: object, *, bins: int = 10, seed: int = 0) -> None: ...
"""
GENERATOR = """
from raysynth.generators.base import Fitted
class Fake(Fitted):
    def __init__(self, layout: object, *, width: int = 4, rate: float = 0.1) -> None: ...
"""


@pytest.fixture(autouse=True)
def shelves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Fakes stand on every shelf: `fake_…`, and under the names that recipes use by default."""
    fakes: list[str] = []
    for package, text, names in (
        (raysynth.sources, SOURCE, ["fake_source", "examples", "csv", "parquet", "jsonl"]),
        (raysynth.codecs, CODEC, ["fake_codec", "tabular"]),
        (raysynth.generators, GENERATOR, ["fake_generator", "autoregressive"]),
    ):
        folder = tmp_path / package.__name__
        folder.mkdir()
        for name in names:
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
            fakes.append(f"{package.__name__}.{name}")
            monkeypatch.delitem(sys.modules, fakes[-1], raising=False)
            monkeypatch.setattr(package, name, None, raising=False)  # an import sets it; the end of the test puts it back
        monkeypatch.setattr(package, "__path__", [str(folder), *package.__path__])
    yield
    for fake in fakes:
        sys.modules.pop(fake, None)


def recipe_of(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    path = tmp_path / "my recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path, overrides)


def refusal(tmp_path: Path, text: str, *overrides: str) -> list[str]:
    with pytest.raises(RecipeError) as error:
        recipe_of(tmp_path, text, *overrides)
    return str(error.value).split("\n")


def test_every_key_but_source_has_a_default(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "source: examples://flights")
    assert (recipe.name, recipe.run, recipe.seed) == ("my-recipe", "runs/my-recipe", 7)
    assert (recipe.source.use, recipe.source.url) == ("examples", "examples://flights")
    assert (recipe.generator.use, recipe.codec, recipe.train.max_epochs, recipe.generate.rows) == (
        "autoregressive",
        None,
        50,
        100_000,
    )
    assert (recipe.prepare.validation, recipe.prepare.holdout, recipe.generate.max_rule_violations) == (0.1, 0.2, 0.05)


def test_the_recipe_of_the_demo_loads() -> None:
    recipe = load_recipe(ROOT / "jobs/recipes/flights.yaml")
    assert (recipe.name, recipe.run, recipe.generate.rows_per_part) == ("flights", "runs/flights", 25_000)
    assert recipe.derive == {"late": "arr_delay > 15"}


def test_it_is_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        recipe_of(tmp_path, "source: a.csv").seed = 8  # type: ignore[misc]


def test_nothing_to_learn_from_is_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path, "name: a") == ["source: must be given"]


@pytest.mark.parametrize(
    ("url", "use"),
    [
        ("data/*.parquet", "parquet"),
        ("s3://b/x.csv.gz", "csv"),
        ("x.CSV", "csv"),
        ("x.jsonl", "jsonl"),
        ("x.jsonl.gz", "jsonl"),
        ("examples://wine", "examples"),
    ],
)
def test_the_url_says_the_format(tmp_path: Path, url: str, use: str) -> None:
    assert recipe_of(tmp_path, f"source: {url}").source.use == use
    assert recipe_of(tmp_path, f"source: {{url: {url}, delimiter: ';'}}").source.options == {"delimiter": ";"}


def test_a_folder_is_what_most_files_in_it_are(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "a/2.PNG", "a/metadata.csv", "a/.x.txt", "a/.y.txt", "a/.z.txt"):
        (tmp_path / "rows" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "rows" / name).touch()
    for url in (f"{tmp_path}/rows/", f"{tmp_path}/rows", f"{tmp_path}/rows/*/*", "x/**/*.JPG", "x.tar.gz"):
        assert with_format(url)["use"] == "images"
    assert with_format("train-images-idx3-ubyte.gz")["use"] == "idx"
    (tmp_path / "none").mkdir()
    assert "the format cannot be told" in refusal(tmp_path, f"source: {tmp_path}/none/")[0]
    assert "the format cannot be told" in refusal(tmp_path, "source: nowhere://bucket/flights/")[0]
    assert recipe_of(tmp_path, "source: {use: parquet, url: s3://bucket/flights/}").source.use == "parquet"


def test_credentials_in_a_url_are_refused_and_not_repeated(tmp_path: Path) -> None:
    for text in ("source: s3://key:hunter2@b/x.csv", "{source: a.csv, run: 's3://key:hunter2@b/x'}"):
        lines = refusal(tmp_path, text)
        assert "credentials come from the environment" in lines[0]
        assert "hunter2" not in lines[0]


@pytest.mark.parametrize("url", ["s3://b/k?secret=hunter2", "s3://b/k.csv?secret=hunter2", "https://h/x.csv#token=hunter2"])
def test_a_query_in_a_url_is_refused_and_not_repeated_before_a_store_is_asked(tmp_path: Path, url: str) -> None:
    for text in (f"source: {url}", f"source: {{use: csv, url: '{url}'}}", f"{{source: a.csv, run: '{url}'}}"):
        lines = "".join(refusal(tmp_path, text))
        assert "must hold no query (?name=value)" in lines and "hunter2" not in lines
    for text in (f"source: ['{url}']", f"{{source: a.csv, seed: '{url}'}}"):
        assert "hunter2" not in "".join(refusal(tmp_path, text))
    assert recipe_of(tmp_path, "source: s3://b/part-?.csv").source.url == "s3://b/part-?.csv"
    assert recipe_of(tmp_path, "source: rows/?year=1.csv").source.url == "rows/?year=1.csv"


def test_options_stand_beside_use_or_apart(tmp_path: Path) -> None:
    beside = recipe_of(tmp_path, "{source: a.csv, generator: {use: fake_generator, width: 8}}")
    apart = recipe_of(tmp_path, "{source: a.csv, generator: {use: fake_generator, options: {width: 8}}}")
    assert beside.generator == apart.generator
    assert recipe_of(tmp_path, "{source: a.csv, generator: fake_generator}").generator.options == {}
    assert recipe_of(tmp_path, "{source: a.csv, generator: {width: 8}}").generator.use == "autoregressive"
    assert "given twice" in refusal(tmp_path, "{source: a.csv, codec: {use: fake_codec, bins: 1, options: {bins: 2}}}")[0]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sede: 1", "sede: unknown key. Did you mean 'seed'? Allowed: name, seed, source"),
        ("mix: {real: 0, synthetic: 0}", "mix: one of real, augmented and synthetic must be above 0"),
        ("mix: {synthetic: 1.5}", "mix: synthetic: a share is at most 1, for no row is taken twice"),
        ("mix: {augmented: 0.5}", "mix.augmented: 0.5, and augment names no op"),
        ("train: {augmented: true}", "train.augmented: true, and augment names no op"),
        (
            'evaluate: {gates: ["exact_copys < 1"]}',
            "evaluate.gates.0: no score 'exact_copys' (got 'exact_copys < 1'). Did you mean 'exact_copies'?",
        ),
        ('evaluate: {gates: ["exact_copies"]}', "evaluate.gates.0: must be true or false"),
        ("prepare: {holdot: 0.1}", "prepare.holdot: unknown key. Did you mean 'holdout'? Allowed: validation, holdout, group_by"),
        ("schema: {columns: {a: {kind: id, knd: id}}}", "schema.columns.a.knd: unknown key. Did you mean 'kind'? Allowed: kind"),
        ("schema: {columns: {a: {kind: colour}}}", "schema.columns.a.kind: must be 'boolean', 'integer'"),
        ("seed: big", "seed: must be an integer (got 'big')"),
        ("seed: true", "seed: must be an integer (got True)"),
        ("seed: -1", "seed: must be greater than or equal to 0 (got -1)"),
        ("prices: {currency: usd}", "prices.currency: must be three capital letters, such as USD (got 'usd')"),
        ("name: My Data", "name: must be lower-case letters"),
        ("name: ../up", "name: must be lower-case letters"),
        ("generate: {rows: 0}", "generate.rows: must be greater than or equal to 1 (got 0)"),
        ("generate: {rows: 1.5}", "generate.rows: must be an integer"),
        ("generate: 5", "generate: must be a mapping"),
        ("generate: {cpu: sse}", "generate.cpu: must be 'avx2' or 'native' (got 'sse')"),
        ("train: {use_gpu: maybe}", "train.use_gpu: must be 'auto', true or false (got 'maybe')"),
        ("prepare: {validation: 0.5, holdout: 0.5}", "prepare: validation + holdout must be below 1 (got 0.5 + 0.5)"),
        ("prepare: {max_bad_rows: 2}", "prepare.max_bad_rows: must be less than or equal to 1"),
        ("prepare: {max_bad_rows: .nan}", "prepare.max_bad_rows: must be"),
        ("rules: ['a >']", "rules[0]: cannot be read"),
        ("rules: 'a > 1'", "rules: must be a list"),
        ("derive: {b: 'a.b'}", "derive.b: Attribute is not part of the grammar"),
        ("derive: {b: 5}", "derive.b: must be text (got 5)"),
        ("derive: {b: c + 1, c: a}", "derive.b: reads c, which is not derived before it"),
        ("derive: {_row: a}", "derive._row: this name is kept for row ids"),
        ("generate: {where: {a: []}}", "generate.where.a: a set takes one or more values"),
        ("generate: {where: {a: {min: 1, over: 2}}}", "generate.where.a: a range takes min or over"),
        ("generate: {where: {a: {least: 1}}}", "generate.where.a: a range takes min or over"),
        (
            "generator: {use: fake_generator, width: big}",
            "generator.width: must be an integer (got 'big'). Fake takes: width, rate",
        ),
        (
            "generator: fake_gnerator",
            "generator.use: 'fake_gnerator' is not in raysynth/generators. Did you mean 'fake_generator'?",
        ),
        ("codec: {bins: 3}", "codec.use: must be given"),
        ("seed: 1\nseed: 2", "given twice"),
        ("rules: &x ['a > 1']", "anchors (&) and aliases (*) are not allowed"),
        ("rules: !!python/object/apply:os.system ['true']", "is not valid YAML"),
        ("rules: [", "is not valid YAML"),
        ("rules: " + "[" * 200, "is nested deeper than 30"),
    ],
)
def test_what_cannot_be_is_named_with_what_can(tmp_path: Path, text: str, line: str) -> None:
    lines = refusal(tmp_path, f"source: a.csv\n{text}")
    assert len(lines) == 1
    assert line in lines[0]


def test_all_that_is_wrong_is_listed_at_once(tmp_path: Path) -> None:
    lines = refusal(tmp_path, "{source: a.csv, seed: x, sede: 1, generate: {rows: 0}, rules: ['(']}")
    assert [line.split(":")[0] for line in sorted(lines)] == ["generate.rows", "rules[0]", "sede", "seed"]
    assert len(refusal(tmp_path, "{source: {url: a.csv, delimitr: 1}, generator: {width: 1.5, rate: x}}")) == 3


def test_a_recipe_that_is_no_mapping_or_no_file_is_refused(tmp_path: Path) -> None:
    assert "a recipe is a mapping of keys (got None)" in refusal(tmp_path, "")[0]
    with pytest.raises(RecipeError, match="no such recipe"):
        load_recipe(tmp_path / "none.yaml")
    with pytest.raises(RecipeError, match="cannot be read"):
        load_recipe(tmp_path)
    assert "at most 1,000,000 bytes" in refusal(tmp_path, "#" * 1_000_001)[0]


def test_yamls_traps_are_no_traps(tmp_path: Path) -> None:
    where = "{carrier: [NO, off, y], at: 12:30, day: 2013-01-01, code: 010, 2013: 1, rate: 1e-3, n: 100_000, gone: null, ok: true}"
    got = recipe_of(tmp_path, f"source: a.csv\ngenerate: {{where: {where}}}").generate.where
    assert got["carrier"] == ["NO", "off", "y"]
    assert (got["at"], got["day"], got["code"], got["2013"]) == ("12:30", "2013-01-01", 10, 1)
    assert (got["rate"], got["n"], got["gone"], got["ok"]) == (0.001, 100_000, None, True)


def test_overrides_lie_over_the_file(tmp_path: Path) -> None:
    recipe = recipe_of(
        tmp_path,
        "{source: a.csv, train: {workers: 2}}",
        "train.workers=4",
        "generate.where.carrier=[UA, AA]",
        "generator.rate=1e-3",
        "run=s3://b/r",
        "rules=['a > 1']",
        "prepare.group_by=null",
    )
    assert (recipe.train.workers, recipe.generate.where, recipe.run) == (4, {"carrier": ["UA", "AA"]}, "s3://b/r")
    assert (recipe.generator.options, recipe.rules) == ({"rate": 0.001}, ("a > 1",))


@pytest.mark.parametrize("override", ["train.workers", "=4", "train..workers=4", "seed.x=1", "seed=[", "seed=&a 1"])
def test_a_broken_override_is_refused_by_name(tmp_path: Path, override: str) -> None:
    assert refusal(tmp_path, "{source: a.csv, seed: 1}", override)[0].startswith("--set ")


def test_plain_values_give_the_same_recipe_back(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "{source: a.csv, rules: ['a > 1'], codec: fake_codec, schema: {columns: {a: {kind: id}}}}")
    assert parse_recipe(json.loads(recipe.model_dump_json(by_alias=True))) == recipe


def test_the_view_shows_every_default_of_parts_too(tmp_path: Path) -> None:
    view = recipe_of(tmp_path, "{source: a.csv, generator: {use: fake_generator, width: 9}}").defaults_view()
    assert view["generator"] == {"use": "fake_generator", "options": {"width": 9, "rate": 0.1}}
    assert view["source"] == {"use": "csv", "options": {"delimiter": ","}, "url": "a.csv"}
    assert view["schema"] == {"columns": {}}
    assert json.loads(json.dumps(view)) == view


def test_the_json_schema_is_of_what_may_be_written() -> None:
    schema = recipe_schema()
    assert schema["required"] == ["source"]
    assert {"type": "string"} in schema["properties"]["source"]["anyOf"]
    assert schema["additionalProperties"] is False
    assert schema["$defs"]["Part"]["additionalProperties"] is True


def test_the_reference_page_is_what_the_models_say() -> None:
    assert (ROOT / "docs/recipe.md").read_text(encoding="utf-8") == recipe_reference()


@pytest.mark.parametrize(
    ("asked", "holds"), [({"rows": 10**12}, True), ({"rows": 10**30}, False), ({"rows": 10**10, "rows_per_part": 9}, False)]
)
def test_more_parts_than_a_folder_takes_are_refused(asked: dict[str, int], holds: bool) -> None:
    if holds:
        assert parse_recipe({"source": "a.csv", "generate": asked}).generate.rows == asked["rows"]
        return
    with pytest.raises(RecipeError, match=r"generate: rows_per_part: 10+ rows would be up to \d+ parts"):
        parse_recipe({"source": "a.csv", "generate": asked})
