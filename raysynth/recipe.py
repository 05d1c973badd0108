"""The recipe: a YAML file and overrides → one validated, frozen configuration; its JSON Schema and its reference page."""

import inspect
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal, Self, cast, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    Tag,
    ValidationError,
    model_validator,
)
from pydantic_core import ErrorDetails, PydanticCustomError

from raysynth.errors import RecipeError
from raysynth.expressions import Expression
from raysynth.gates import check_gate
from raysynth.parts import check_options, explain, find, nearest, options_of, show
from raysynth.personal import PersonalKind
from raysynth.schema import ROW_ID, Kind
from raysynth.yaml_text import lay_over, read_yaml

MAX_BYTES = 1_000_000
MAX_PARTS = 10**9  # their numbers have nine digits in names, which sort by them
LEAST_PART_ROWS = 1000  # where the recipe leaves it to raysynth (orders.rows_per_part)
DEFAULT_GENERATOR = "autoregressive"
FORMATS = {
    "examples": r"examples://.+",
    "parquet": r".+\.(parquet|pq)",
    "csv": r".+\.(csv|tsv)(\.gz)?",
    "jsonl": r".+\.(jsonl|ndjson)(\.gz)?",
    "text": r".+\.txt(\.gz)?",
}

# The models


def _refuse(reason: str) -> PydanticCustomError:
    return PydanticCustomError("recipe", "{reason}", {"reason": reason})


def _parsable(text: str) -> str:
    try:
        Expression.parse(text, "expression")
    except RecipeError as error:
        raise _refuse(str(error).removeprefix("expression: ")) from None
    return text


def _without_credentials(url: str) -> str:
    if re.match(r"[\w+.-]+://[^/]*@", url):
        raise _refuse("must hold no user name or password; credentials come from the environment")
    if not url.strip():
        raise _refuse("must be a path or a URL")
    return url


def _condition(value: Any) -> Any:
    if isinstance(value, Mapping):
        bounds = cast("Mapping[str, Any]", value)
        if set(bounds) == {"starts"} and isinstance(bounds["starts"], str) and bounds["starts"]:
            return value
        right = set(bounds) <= {"min", "max", "over", "under"} and all(_is_scalar(bound) for bound in bounds.values())
        if not bounds or not right or {"min", "over"} <= set(bounds) or {"max", "under"} <= set(bounds):
            raise _refuse("a range takes min or over, and max or under; how a text begins is {starts: …}")
    elif isinstance(value, list):
        if not value or not all(_is_scalar(item) for item in cast("list[Any]", value)):
            raise _refuse("a set takes one or more values")
    elif not _is_scalar(value):
        raise _refuse("must be a value, a list of values, or a range such as {min: 1, under: 9}")
    return value


def _is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str)


def _source(value: Any) -> Any:
    """`examples://flights` or a mapping without `use` → a mapping with it, by the ending of the URL."""
    named: dict[str, Any] = {"url": value} if isinstance(value, str) else dict(value) if isinstance(value, Mapping) else {}
    url = named.get("url")
    if not isinstance(url, str) or "use" in named:
        return named if named else value
    for use, pattern in FORMATS.items():
        if re.fullmatch(pattern, url, re.IGNORECASE):
            return {"use": use, **named}
    raise _refuse("the format cannot be told from the URL. Write source: {use: parquet, url: …} (or csv, jsonl, text)")


def _part(value: Any, default: str | None = None) -> Any:
    if isinstance(value, str):
        return {"use": value}
    if default is not None and isinstance(value, Mapping) and "use" not in value:
        return {"use": default, **value}
    return value


def _language_codes(codes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    if codes is not None and not (codes and all(re.fullmatch("[a-z]{2,3}", code) for code in codes)):
        raise _refuse("must be one or more codes of ISO 639 in lower case, such as [zh, en]")
    return codes


def _fixed(value: Any) -> Any:
    return tuple(cast("list[Any]", value)) if isinstance(value, list) else value


def _columns(value: Any) -> Any:
    names = cast("list[Any]", value) if isinstance(value, list | tuple) else []
    if value is None or value is True or (names and all(isinstance(name, str) for name in names)):
        return tuple(names) or value
    raise _refuse("must be a list of one or more columns, or true: all of them")


Text = Annotated[str, AfterValidator(_parsable)]
Url = Annotated[str, AfterValidator(_without_credentials)]
UseGpu = Literal["auto", True, False]


class Keys(BaseModel):
    """The root of the models: frozen, strict about types, and without room for unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, validate_default=False)


class Part(Keys):
    """One part by its name on a shelf; whatever stands beside `use` is an option of its constructor."""

    model_config = ConfigDict(json_schema_extra={"additionalProperties": True})

    use: str = Field(pattern=r"^[a-z][a-z0-9_]*(\.[a-z][a-z0-9_]*)*$", description="Name of the file on the shelf.")
    options: dict[str, Any] = Field(default_factory=dict, description="Options of the part; they may stand beside `use` as well.")

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        given = cast("Mapping[str, Any]", value)
        own = {key: item for key, item in given.items() if key in cls.model_fields}
        beside = {key: item for key, item in given.items() if key not in cls.model_fields}
        options = own.get("options", {})
        if not isinstance(options, Mapping):
            return given if not beside else own
        if twice := sorted(set(beside) & set(options)):
            raise _refuse(f"{', '.join(twice)}: given twice, beside `use` and in options")
        return {**own, "options": {**options, **beside}}


_RULE_KINDS = ("[expression]", "[filter]")


def _kind_of_rule(value: Any) -> str:
    return _RULE_KINDS[1] if isinstance(value, Mapping | Part) else _RULE_KINDS[0]


Rule = Annotated[Annotated[Text, Tag(_RULE_KINDS[0])] | Annotated[Part, Tag(_RULE_KINDS[1])], Discriminator(_kind_of_rule)]
"""An expression, or a filter by its name."""


class SourcePart(Part):
    """Where the real rows are."""

    url: Url = Field(description="A path, glob or folder; or `s3://…`, `examples://…`.")


class PrepareText(Keys):
    """What is done to the columns of kind text or turns before rows are compared and split."""

    normalise: bool = Field(
        default=True,
        description="Mend mojibake, then NFKC; control characters and stray format marks go, runs of spaces become one.",
    )
    languages: Annotated[tuple[str, ...] | None, AfterValidator(_language_codes), BeforeValidator(_fixed)] = Field(
        default=None, description="Keep the rows in these languages (ISO 639 codes, such as [zh, en]); null: in all."
    )
    min_characters: int = Field(default=1, ge=0, description="Rows with a shorter text are left out.")
    max_characters: int = Field(default=20_000, ge=1, description="Rows with a longer text are left out.")
    near_duplicates: float | None = Field(
        default=None,
        ge=0.3,
        le=1,
        description="Of rows with texts at least as similar (Jaccard index of their shingles, by MinHash) the lowest row id stays.",
    )
    deidentify: Annotated[tuple[PersonalKind, ...], BeforeValidator(_fixed)] = Field(
        default=(),
        description="Kinds of personal values that fakes replace, the same by the same in all rows (without normalise, full-width digits "
        "are not seen). Whoever knows the seed can test a guess.",
    )
    names: Url | None = Field(default=None, description="For the kind name: a UTF-8 file with one name a line.")
    presidio: dict[str, Annotated[str, Field(min_length=1)]] = Field(
        default_factory=dict,
        description="For the kind name: language → a spaCy model, by its package or its folder on every node, as in {en: en_core_web_sm}; "
        "presidio then finds names that no list has.",
    )
    locale: Literal["auto", "en_US", "zh_CN"] = Field(
        default="auto", description="Of the fakes; `auto`: by the script of what they replace."
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.min_characters > self.max_characters:
            raise _refuse(f"min_characters: must be at most max_characters, {self.max_characters} (got {self.min_characters})")
        if ("name" in self.deidentify) != (self.names is not None or bool(self.presidio)):
            raise _refuse(
                "deidentify: name needs names, the URL of a file with one name a line, or presidio, models that find names; "
                "and both need name"
            )
        _language_codes(tuple(self.presidio) or None)
        return self


class Prepare(Keys):
    validation: float = Field(default=0.1, ge=0, lt=1, description="Share of the rows for calibration and early stopping.")
    holdout: float = Field(default=0.2, ge=0, lt=1, description="Share of the rows that only evaluation sees.")
    group_by: str | None = Field(default=None, description="Rows with one value of this column stay in one split.")
    drop_duplicates: bool = Field(default=False, description="Keep one of equal rows: the lowest row id.")
    max_bad_rows: float = Field(
        default=0.01, ge=0, le=1, description="Share of unreadable rows above which prepare refuses the data."
    )
    text: PrepareText | None = Field(
        default=None,
        description="Cleaning, de-identification and near-duplicates of columns of kind text or turns; null: they stay as read.",
    )

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.holdout >= 1:
            raise _refuse(f"validation + holdout must be below 1 (got {self.validation} + {self.holdout})")
        return self


class ColumnSpec(Keys):
    kind: Kind = Field(description="What the column is, instead of what is inferred.")


class SchemaSpec(Keys):
    columns: dict[str, ColumnSpec] = Field(default_factory=dict, description="Overrides by column; the rest is inferred.")


class Train(Keys):
    workers: int = Field(default=1, ge=1, description="Training workers (DDP).")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Go on with as few when nodes are lost, and grow again; such a model is marked not reproducible.",
    )
    use_gpu: UseGpu = Field(default="auto", description="`auto`: if the cluster has one.")
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto", description="`auto`: bfloat16 where the device has it."
    )
    augmented: bool = Field(default=False, description="Learn from the augmented rows as well.")
    max_epochs: int = Field(default=50, ge=1, description="The budget; early stopping may end sooner.")
    max_train_seconds: float | None = Field(
        default=None, gt=0, description="A second budget; a model that it cuts is marked not reproducible."
    )

    @model_validator(mode="after")
    def _can_shrink(self) -> Self:
        if self.min_workers is not None and self.min_workers > self.workers:
            raise _refuse(f"min_workers: must be at most workers, {self.workers} (got {self.min_workers})")
        return self


class Generate(Keys):
    rows: int = Field(default=100_000, ge=1, description="How many valid rows.")
    rows_per_part: int | None = Field(default=None, ge=1, description="Rows of one Parquet file; null: about 128 MiB.")
    workers: int = Field(default=2, ge=1, description="Sampling workers; they change no row.")
    use_gpu: UseGpu = Field(default="auto", description="`auto`: if the cluster has one.")
    cpu: Literal["avx2", "native"] = Field(
        default="avx2", description="`avx2`: the same bytes on every such CPU; `native`: all that it has."
    )
    max_attempts: int = Field(default=10_000, ge=1, description="Draws of one row until it obeys the rules.")
    max_rule_violations: float = Field(
        default=0.05, ge=0, le=1, description="Share of real rows breaking a rule above which it is refused."
    )
    where: dict[str, Annotated[Any, AfterValidator(_condition)]] = Field(
        default_factory=dict,
        description="Conditions that every row satisfies: a value, a list, a range {min, max, over, under}, or a text's beginning {starts}.",
    )
    unique: Annotated[Literal[True] | tuple[str, ...] | None, BeforeValidator(_columns)] = Field(
        default=None,
        description="Columns whose values together no two rows of the data set share, texts compared without case, form and spacing; "
        "true: all that are learnt, but ids.",
    )

    @model_validator(mode="after")
    def _fits_a_folder(self) -> Self:
        """Before a driver lists all that is missing."""
        if (parts := -(-self.rows // (self.rows_per_part or LEAST_PART_ROWS))) > MAX_PARTS:
            raise _refuse(
                f"rows_per_part: {self.rows} rows would be up to {parts} parts, and a folder takes 10^9. Give a larger one"
            )
        return self


class Op(Part):
    """One augmentation of the real train rows."""

    copies: int = Field(default=1, ge=1, le=1000, description="How often each train row goes through it, drawn anew each time.")


class Mix(Keys):
    """What the train split of the mixed rows is made of; its validation and test splits are the real ones."""

    real: float = Field(default=1.0, ge=0, description="Share of the real train rows; with `rows`, their weight.")
    augmented: float = Field(default=0.0, ge=0, description="Share of the augmented rows; with `rows`, their weight.")
    synthetic: float = Field(default=1.0, ge=0, description="Share of the synthetic rows; with `rows`, their weight.")
    rows: int | None = Field(default=None, ge=1, description="Size of the train split, dealt out by the three weights.")
    stratify_by: str | None = Field(default=None, description="A column whose values keep their shares of each kind of row.")
    partition_by: Annotated[tuple[str, ...], BeforeValidator(_fixed)] = Field(
        default=(), description="Columns that become folders, `column=value`."
    )

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        shares = {"real": self.real, "augmented": self.augmented, "synthetic": self.synthetic}
        if not any(shares.values()):
            raise _refuse("one of real, augmented and synthetic must be above 0")
        if above := [name for name, share in shares.items() if share > 1 and self.rows is None]:
            raise _refuse(
                f"{above[0]}: a share is at most 1, for no row is taken twice (got {shares[above[0]]}); with rows it is a weight"
            )
        return self


class Evaluate(Keys):
    """How synthetic rows are scored, and what they must reach to be published."""

    target: str | None = Field(
        default=None, description="The column that a downstream model predicts; null: utility is not scored."
    )
    gates: Annotated[tuple[Text, ...], BeforeValidator(_fixed)] = Field(
        default=("exact_copies <= holdout.exact_copies + 0.001",),
        description="Expressions over scores; `holdout.NAME` is the score of hold-out rows. One that fails stops publishing.",
    )
    sample_rows: int = Field(
        default=200_000, ge=100, description="Rows of each side that scores which cannot look at every row rest on."
    )


class KnowledgeFiles(Keys):
    """What is known beside the rows."""

    triples: Url | None = Field(
        default=None, description="A CSV, TSV or JSONL file of facts: head, relation, tail; the relation `alias` gives other names."
    )
    lexicons: dict[str, Url] = Field(default_factory=dict, description="Lists by name: a UTF-8 file with one term a line.")
    of: Annotated[tuple[str, ...], BeforeValidator(_fixed)] = Field(
        default=(),
        description="Columns whose values are heads: each relation with one tail a head becomes a column `COLUMN_RELATION`.",
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.triples is None and not self.lexicons:
            raise _refuse("give triples, lexicons or both, or leave knowledge out")
        if self.of and self.triples is None:
            raise _refuse("of: needs triples, the URL of a file of facts")
        if len(set(self.of)) < len(self.of):
            raise _refuse(f"of: names a column twice (got {list(self.of)})")
        return self


class Cluster(Keys):
    """Where the work runs and how long anybody waits for it; nothing here decides a byte."""

    row_labels: dict[str, str] = Field(
        default_factory=dict,
        description="Labels of the nodes that make rows (every stage but train), such as {ray.io/market-type: spot}.",
    )
    train_labels: dict[str, str] = Field(default_factory=dict, description="Labels of the nodes that train.")
    fallback: bool = Field(default=True, description="Any node will do where none with these labels can come.")
    start_seconds: float = Field(
        default=900.0, gt=0, description="Until the first worker of a stage must have started; pools take minutes to grow."
    )
    stall_seconds: float = Field(
        default=900.0, gt=0, description="Without progress for so long, what is in flight is ended and made again, twice at most."
    )
    max_seconds: float | None = Field(default=None, gt=0, description="Of one command; it then stops, and can be resumed.")


class Pool(Keys):
    """Nodes of one kind, as they are paid for."""

    node_hour: float = Field(ge=0, description="Price of one node for an hour.")
    cpus: int = Field(default=1, ge=1, description="CPUs of one node.")


class Prices(Keys):
    """What nodes cost: `plan` tells hours and money by it, and budget.money needs it."""

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="A code of three letters.")
    rows: Pool | None = Field(default=None, description="The pool that makes rows: {node_hour, cpus}.")
    train: Pool | None = Field(default=None, description="The pool that trains: {node_hour, cpus}.")


class Budget(Keys):
    """Caps of one command, asked at the edge of each task and epoch: it then stops, and can be resumed."""

    cpu_hours: float | None = Field(default=None, gt=0, description="CPU-hours of all that runs.")
    money: float | None = Field(default=None, gt=0, description="In the currency of prices.")


class Recipe(Keys):
    """One run: what to learn from, how, and what to make."""

    name: str = Field(
        default="data", pattern=r"^[a-z0-9][a-z0-9_-]*$", max_length=100, description="Name of the model; by default the file's."
    )
    seed: int = Field(default=7, ge=0, lt=2**63, description="The same seed gives the same rows.")
    source: Annotated[SourcePart, BeforeValidator(_source, json_schema_input_type=str | SourcePart)] = Field(
        description="The real rows: a URL, or {use, url, options}."
    )
    run: Url = Field(default="runs/data", description="The folder of the run: a path or store URL; by default runs/NAME.")
    prepare: Prepare = Field(default_factory=Prepare, description="Reading, cleaning and splitting.")
    derive: dict[str, Text] = Field(default_factory=dict, description="Columns computed by an expression, never learnt.")
    schema_: SchemaSpec = Field(default_factory=SchemaSpec, alias="schema", description="What the columns are.")
    augment: Annotated[
        tuple[Annotated[Op, BeforeValidator(_part, json_schema_input_type=str | Op)], ...], BeforeValidator(_fixed)
    ] = Field(default=(), description="Ops on the real train rows, each on its own.")
    codec: Annotated[Part | None, BeforeValidator(_part, json_schema_input_type=str | Part | None)] = Field(
        default=None, description="Rows ↔ tensors; null: what the schema calls for."
    )
    generator: Annotated[Part, BeforeValidator(partial(_part, default=DEFAULT_GENERATOR), json_schema_input_type=str | Part)] = (
        Field(default_factory=lambda: Part(use=DEFAULT_GENERATOR), description="The distribution that is learnt.")
    )
    train: Train = Field(default_factory=Train, description="Fitting the generator.")
    knowledge: KnowledgeFiles | None = Field(default=None, description="Facts and lists of terms that guide what is made.")
    rules: Annotated[tuple[Rule, ...], BeforeValidator(_fixed)] = Field(
        default=(), description="What every row obeys: expressions, and filters as {use, options}; null passes."
    )
    generate: Generate = Field(default_factory=Generate, description="Making rows.")
    mix: Mix | None = Field(default=None, description="Real, augmented and synthetic rows in one data set; null: none is made.")
    evaluate: Evaluate | None = Field(
        default_factory=Evaluate, description="Scores, gates and the report; null: none, and no gates."
    )
    cluster: Cluster = Field(default_factory=Cluster, description="Placement and deadlines; they decide no byte.")
    prices: Prices = Field(default_factory=Prices, description="What the nodes of the pools cost.")
    budget: Budget = Field(default_factory=Budget, description="Caps of one command: CPU-hours, money.")

    @model_validator(mode="after")
    def _money_has_prices(self) -> Self:
        if self.budget.money is not None and (self.prices.rows is None or self.prices.train is None):
            raise _refuse(
                f"budget.money: {self.budget.money:g} needs prices.rows and prices.train, such as {{node_hour: 0.3, cpus: 16}}"
            )
        return self

    @model_validator(mode="before")
    @classmethod
    def _run_by_name(cls, value: Any) -> Any:
        if isinstance(value, Mapping) and "run" not in value and isinstance(value.get("name"), str):
            return {**value, "run": f"runs/{value['name']}"}
        return value

    @model_validator(mode="after")
    def _derives_in_order(self) -> Self:
        names = list(self.derive)
        for index, (name, text) in enumerate(self.derive.items()):
            if name in ROW_ID:
                raise _refuse(f"derive.{name}: this name is kept for row ids")
            if later := sorted(Expression.parse(text, f"derive.{name}").columns & set(names[index:])):
                raise _refuse(f"derive.{name}: reads {', '.join(later)}, which is not derived before it (got {text!r})")
        return self

    @property
    def expressions(self) -> dict[str, str]:
        """The rules that are expressions, by their keys."""
        return {f"rules.{number}": rule for number, rule in enumerate(self.rules) if isinstance(rule, str)}

    @property
    def filters(self) -> dict[str, Part]:
        """The rules that are filters, by their keys."""
        return {f"rules.{number}": rule for number, rule in enumerate(self.rules) if isinstance(rule, Part)}

    def defaults_view(self) -> dict[str, Any]:
        """Every key with its value, the defaults of the parts' options included: what `raysynth plan` shows."""
        view: Any = self.model_dump(mode="json", by_alias=True)
        for shelf, key, part in _parts(self):
            shown = view
            for step in key.split("."):
                shown = shown[int(step)] if isinstance(shown, list) else shown[step]
            defaults = {
                name: item.default
                for name, item in options_of(find(shelf, part.use)).items()
                if name not in type(part).model_fields
            }
            shown["options"] = {
                **{name: value for name, value in defaults.items() if value is not inspect.Parameter.empty},
                **shown["options"],
            }
        return view


# Loading


def load_recipe(path: str | Path, overrides: Sequence[str] = ()) -> Recipe:
    """The file with `a.b=c` overrides (values are YAML) laid over it. RecipeError lists everything that is wrong, a line each.

    Relative paths in it stay relative to the working directory. The parts are found and their options checked.
    """
    path = Path(path)
    try:
        size_bytes = path.stat().st_size
        text = path.read_text(encoding="utf-8") if size_bytes <= MAX_BYTES else None
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    if text is None:
        raise RecipeError(f"{path}: a recipe has at most {MAX_BYTES:,} bytes (got {size_bytes:,})")
    raw = read_yaml(text, str(path))
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys (got {show(raw)}). Keys: {', '.join(_keys(Recipe))}")
    values = cast("dict[str, Any]", raw)
    for key, inner in (("source", "url"), ("codec", "use"), ("generator", "use")):
        if isinstance(values.get(key), str) and any(override.startswith(f"{key}.") for override in overrides):
            values[key] = {inner: values[key]}  # spelled out, so that an option can be laid over it
    for override in overrides:
        lay_over(values, override)
    name = re.sub(r"[^a-z0-9_-]+", "-", path.stem.lower()).lstrip("-_")
    return parse_recipe({"name": name, **values} if name else values)


def parse_recipe(values: Mapping[str, Any]) -> Recipe:
    """Plain values (of YAML or JSON) → the checked recipe. RecipeError lists everything that is wrong, a line each."""
    try:
        recipe = Recipe.model_validate_json(json.dumps(values, default=str))
    except ValidationError as error:
        raise RecipeError("\n".join(dict.fromkeys(_line(item) for item in error.errors(include_url=False)))) from None
    problems: list[str] = []
    for shelf, key, part in _parts(recipe):
        problems += _part_problems(shelf, key, part)
    for number, gate in enumerate(recipe.evaluate.gates if recipe.evaluate else ()):
        try:
            check_gate(gate, f"evaluate.gates.{number}")
        except RecipeError as error:
            problems.append(str(error))
    if recipe.train.augmented and not recipe.augment:
        problems.append("train.augmented: true, and augment names no op. Name one, or leave it out")
    if recipe.mix is not None and recipe.mix.augmented and not recipe.augment:
        problems.append(f"mix.augmented: {recipe.mix.augmented}, and augment names no op. Name one, or leave it out")
    if problems:
        raise RecipeError("\n".join(problems))
    return recipe


def recipe_schema() -> dict[str, Any]:
    """The recipe's JSON Schema, for editors."""
    schema = Recipe.model_json_schema(by_alias=True)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "raysynth recipe"}


def _parts(recipe: Recipe) -> Iterator[tuple[str, str, Part]]:
    yield "sources", "source", recipe.source
    if recipe.codec is not None:
        yield "codecs", "codec", recipe.codec
    yield "generators", "generator", recipe.generator
    for number, op in enumerate(recipe.augment):
        yield "ops", f"augment.{number}", op
    for key, rule in recipe.filters.items():
        yield "filters", key, rule


def _part_problems(shelf: str, key: str, part: Part) -> list[str]:
    try:
        cls = find(shelf, part.use)
    except RecipeError as error:
        return [f"{key}.use: {error}"]
    url = {"url": part.url} if isinstance(part, SourcePart) and "url" in options_of(cls) else {}
    try:
        check_options(cls, {**part.options, **url}, key)
    except RecipeError as error:
        return str(error).split("\n")
    return []


def _line(error: ErrorDetails) -> str:
    """One problem as `key: what (got value). What is allowed`."""
    path = [item for item in error["loc"] if item not in ("[key]", *_RULE_KINDS)]
    key = "".join(f"[{item}]" if isinstance(item, int) else f".{item}" for item in path).removeprefix(".")
    if error["type"] == "extra_forbidden":
        known = _keys(_model_at(path[:-1]))
        return f"{key}: unknown key.{nearest(str(path[-1]), known)} Allowed: {', '.join(known)}"
    reason = explain(error)
    if error["type"] == "string_pattern_mismatch":
        currency = "must be three capital letters, such as USD"
        name = "must be lower-case letters, digits, _ and -, and start with a letter or digit"
        reason = currency if key == "prices.currency" else name
    if error["type"] in ("missing", "recipe"):  # nothing was given; or the reason quotes what was
        got = (
            f" (got {show(error['input'])})"
            if error["type"] == "recipe" and "(got" not in reason and "password" not in reason
            else ""
        )
        return f"{key}: {reason}{got}" if key else reason
    return f"{key or 'recipe'}: {reason} (got {show(error['input'])})"


def _model_at(path: Sequence[str | int]) -> type[BaseModel]:
    model: type[BaseModel] = Recipe
    inner: type[BaseModel] | None = None
    for step in path:
        if inner is not None:  # the step is a key of a mapping whose values are of this model
            model, inner = inner, None
            continue
        field = next((item for name, item in model.model_fields.items() if (item.alias or name) == step), None)
        kinds: list[Any] = [] if field is None else [field.annotation, *get_args(field.annotation)]
        found = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
        if found is None:
            break
        model, inner = (found, None) if found is kinds[0] or type(None) in kinds else (model, found)
    return model


def _keys(model: type[BaseModel]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


# The reference page


def recipe_reference() -> str:
    """docs/recipe.md: every key with its type, default and meaning, from the models."""
    lines = [
        "# The recipe",
        "",
        "One YAML file drives a run. Every key but `source` has a default; unknown keys are refused; `--set train.workers=4`",
        "overrides one. This page is made from the models by `raysynth.recipe.recipe_reference()`.",
        "",
        *_table(Recipe, ""),
    ]
    for name, model in (
        ("source", SourcePart),
        ("codec, generator", Part),
        ("prepare", Prepare),
        ("prepare.text", PrepareText),
        ("schema.columns.COLUMN", ColumnSpec),
        ("train", Train),
        ("generate", Generate),
        ("augment", Op),
        ("knowledge", KnowledgeFiles),
        ("mix", Mix),
        ("evaluate", Evaluate),
        ("cluster", Cluster),
        ("prices", Prices),
        ("prices.rows, prices.train", Pool),
        ("budget", Budget),
    ):
        lines += ["", f"## {name}", "", *_table(model, "" if "," in name else f"{name}.")]
    return "\n".join([*lines, "", *_GRAMMAR, ""])


_GRAMMAR = (
    "## Expressions",
    "",
    '`derive` and `rules` share one grammar, Python\'s: columns (`` `in backquotes` `` or `col("…")` where a name is not a plain',
    "word), numbers, texts, `True`, `False`, `None`, `+ - * / // % **`, comparisons and chains of them, `and`, `or`, `not`,",
    "`in (…)`, `is None`, and the functions `abs min max round length lower upper year month day hour weekday isnull coalesce`.",
    "Dates and times are compared with ISO text: `departed >= '2013-06-01'`. Weekday 0 is Monday. A division by zero and a number",
    "out of range are null; a null makes a rule pass.",
)


def _table(model: type[BaseModel], prefix: str) -> list[str]:
    lines = ["| key | type | default | meaning |", "|---|---|---|---|"]
    properties = cast("dict[str, Any]", model.model_json_schema(by_alias=True)["properties"])
    for key, facts in properties.items():
        field = next(item for name, item in model.model_fields.items() if (item.alias or name) == key)
        default = "required" if field.is_required() else f"`{json.dumps(_plain(field.get_default(call_default_factory=True)))}`"
        lines.append(f"| `{prefix}{key}` | {_type_name(facts)} | {default} | {field.description} |")
    return lines


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json", by_alias=True, exclude_defaults=True) if isinstance(value, BaseModel) else value


def _type_name(facts: Mapping[str, Any]) -> str:
    if "anyOf" in facts:
        return " or ".join(_type_name(item) for item in facts["anyOf"])
    if "const" in facts:
        return json.dumps(facts["const"])
    if "enum" in facts:
        return ", ".join(f"`{json.dumps(item)}`".replace('"', "") for item in facts["enum"])
    if "$ref" in facts:
        return "mapping"
    names = {
        "object": "mapping",
        "array": "list",
        "string": "text",
        "number": "number",
        "integer": "integer",
        "boolean": "true or false",
    }
    bounds = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {facts[bound]:g}" for bound, sign in bounds.items() if bound in facts and abs(facts[bound]) < 2**53]
    return " ".join([names.get(str(facts.get("type")), str(facts.get("type"))), ", ".join(limits)]).strip()
