"""The recipe's keys: one validated, frozen configuration, with a default behind every key but `source`."""

import inspect
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Annotated, Any, Literal, Self, cast

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PositiveFloat,
    Tag,
    model_validator,
)

from raysynth.cleaning import MAX_PIXELS
from raysynth.expressions import Expression
from raysynth.parts import find, options_of
from raysynth.personal import PersonalKind
from raysynth.recipe_values import (
    NO_LANGUAGE,
    Text,
    Url,
    UseGpu,
    columns_or_all,
    condition,
    fixed,
    is_language,
    language_codes,
    named_part,
    refused,
    with_format,
)
from raysynth.schema import ROW_ID, Kind

MAX_PARTS = 10**9  # their numbers have nine digits in names, which sort by them
LEAST_PART_ROWS = 1000  # where the recipe leaves it to raysynth (orders.rows_per_part)
DEFAULT_GENERATOR = "autoregressive"


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
            raise refused(f"{', '.join(twice)}: given twice, beside `use` and in options")
        return {**own, "options": {**options, **beside}}


RULE_KINDS = ("[expression]", "[filter]")


def _kind_of_rule(value: Any) -> str:
    return RULE_KINDS[1] if isinstance(value, Mapping | Part) else RULE_KINDS[0]


Rule = Annotated[Annotated[Text, Tag(RULE_KINDS[0])] | Annotated[Part, Tag(RULE_KINDS[1])], Discriminator(_kind_of_rule)]
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
    languages: Annotated[tuple[str, ...] | None, AfterValidator(language_codes), BeforeValidator(fixed)] = Field(
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
    deidentify: Annotated[tuple[PersonalKind, ...], BeforeValidator(fixed)] = Field(
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
            raise refused(f"min_characters: must be at most max_characters, {self.max_characters} (got {self.min_characters})")
        if ("name" in self.deidentify) != (self.names is not None or bool(self.presidio)):
            raise refused(
                "deidentify: name needs names, the URL of a file with one name a line, or presidio, models that find names; "
                "and both need name"
            )
        if wrong := [language for language in self.presidio if not is_language(language)]:
            raise refused(f"presidio.{wrong[0]}: {NO_LANGUAGE}")
        return self


class PrepareImage(Keys):
    """What columns of kind image may hold. They are decoded once, made upright and of 8 bits where they are not."""

    max_pixels: int = Field(
        default=MAX_PIXELS, ge=1, description="A picture whose header claims more is a bad row, and is never decoded."
    )


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
    image: PrepareImage | None = Field(default=None, description="Limits of columns of kind image; null: the defaults.")

    @model_validator(mode="after")
    def _leaves_rows_to_train_on(self) -> Self:
        if self.validation + self.holdout >= 1:
            raise refused(f"validation + holdout must be below 1 (got {self.validation} + {self.holdout})")
        return self


class ColumnSpec(Keys):
    kind: Kind = Field(description="What the column is, instead of what is inferred.")


class SchemaSpec(Keys):
    columns: dict[str, ColumnSpec] = Field(default_factory=dict, description="Overrides by column; the rest is inferred.")


USE_GPU = (
    "`auto`: if a node that is up at that moment has one. The device is in the folder's id: where nodes come and go say true or "
    "false, or a resume may begin another folder."
)


class Train(Keys):
    workers: int = Field(default=1, ge=1, description="Training workers (DDP).")
    min_workers: int | None = Field(
        default=None,
        ge=1,
        description="Go on with as few when nodes are lost, and grow again; such a model is marked not reproducible.",
    )
    use_gpu: UseGpu = Field(default="auto", description=USE_GPU)
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
            raise refused(f"min_workers: must be at most workers, {self.workers} (got {self.min_workers})")
        return self


class Generate(Keys):
    rows: int = Field(default=100_000, ge=1, description="How many valid rows.")
    rows_per_part: int | None = Field(default=None, ge=1, description="Rows of one Parquet file; null: about 128 MiB.")
    workers: int = Field(default=2, ge=1, description="Sampling workers; they change no row.")
    use_gpu: UseGpu = Field(default="auto", description=USE_GPU)
    cpu: Literal["avx2", "native"] = Field(
        default="avx2", description="`avx2`: the same bytes on every such CPU; `native`: all that it has."
    )
    max_attempts: int = Field(default=10_000, ge=1, description="Draws of one row until it obeys the rules.")
    max_rule_violations: float = Field(
        default=0.05, ge=0, le=1, description="Share of real rows breaking a rule above which it is refused."
    )
    where: dict[str, Annotated[Any, AfterValidator(condition)]] = Field(
        default_factory=dict,
        description="Conditions that every row satisfies: a value, a list, a range {min, max, over, under}, a text's beginning {starts}; or "
        "{shares}: equal, as_is, or each value with its share of the rows.",
    )
    unique: Annotated[Literal[True] | tuple[str, ...] | None, BeforeValidator(columns_or_all)] = Field(
        default=None,
        description="Columns whose values together no two rows of the data set share, texts compared without case, form and spacing; "
        "true: all that are learnt, but ids.",
    )

    @model_validator(mode="after")
    def _fits_a_folder(self) -> Self:
        """Before a driver lists all that is missing."""
        if (parts := -(-self.rows // (self.rows_per_part or LEAST_PART_ROWS))) > MAX_PARTS:
            raise refused(
                f"rows_per_part: {self.rows} rows would be up to {parts} parts, and a folder takes 10^9. Give a larger one"
            )
        return self


class Op(Part):
    """One augmentation of the real train rows."""

    copies: int = Field(default=1, ge=1, le=1000, description="How often each train row goes through it, drawn anew each time.")
    then: Annotated[
        tuple[Annotated[Part, BeforeValidator(named_part, json_schema_input_type=str | Part)], ...], BeforeValidator(fixed)
    ] = Field(default=(), description="Ops that go on with what this one gives, in their order.")


class Mix(Keys):
    """What the train split of the mixed rows is made of; its validation and test splits are the real ones."""

    real: float = Field(default=1.0, ge=0, description="Share of the real train rows; with `rows`, their weight.")
    augmented: float = Field(default=0.0, ge=0, description="Share of the augmented rows; with `rows`, their weight.")
    synthetic: float = Field(default=1.0, ge=0, description="Share of the synthetic rows; with `rows`, their weight.")
    rows: int | None = Field(default=None, ge=1, description="Size of the train split, dealt out by the three weights.")
    stratify_by: str | None = Field(default=None, description="A column whose values keep their shares of each kind of row.")
    partition_by: Annotated[tuple[str, ...], BeforeValidator(fixed)] = Field(
        default=(), description="Columns that become folders, `column=value`."
    )

    @model_validator(mode="after")
    def _takes_something(self) -> Self:
        shares = {"real": self.real, "augmented": self.augmented, "synthetic": self.synthetic}
        if not any(shares.values()):
            raise refused("one of real, augmented and synthetic must be above 0")
        if above := [name for name, share in shares.items() if share > 1 and self.rows is None]:
            raise refused(
                f"{above[0]}: a share is at most 1, for no row is taken twice (got {shares[above[0]]}); with rows it is a weight"
            )
        return self


class ExtractorFile(Keys):
    """An ONNX network that sees pictures as points, for the scores that compare those: a level enters as (level - mean) / spread."""

    url: Url = Field(description="Its file: the first input is pictures, the first output a vector each, or a grid of them.")
    mean: Annotated[tuple[float, float, float], BeforeValidator(fixed)] = Field(
        default=(123.675, 116.28, 103.53),
        description="Of the levels 0 … 255 of red, green and blue; as ImageNet's networks have it.",
    )
    spread: Annotated[tuple[PositiveFloat, PositiveFloat, PositiveFloat], BeforeValidator(fixed)] = Field(
        default=(58.395, 57.12, 57.375),
        description="[1, 1, 1] with mean [0, 0, 0] for a network that takes the levels as they are.",
    )


class Evaluate(Keys):
    """How synthetic rows are scored, and what they must reach to be published."""

    target: str | None = Field(
        default=None, description="The column that a downstream model predicts; null: utility is not scored."
    )
    gates: Annotated[tuple[Text, ...], BeforeValidator(fixed)] = Field(
        default=("exact_copies <= holdout.exact_copies + 0.001",),
        description="Expressions over scores; `holdout.NAME` is the score of hold-out rows. One that fails stops publishing.",
    )
    sample_rows: int = Field(
        default=200_000, ge=100, description="Rows of each side that scores which cannot look at every row rest on."
    )
    real_pictures: bool = Field(
        default=False,
        description="The report shows real and augmented pictures beside the synthetic ones, and is then as private as they are.",
    )
    extractor: ExtractorFile | None = Field(
        default=None, description="What sees pictures as points; null: a small network that learns from the train pictures."
    )


class KnowledgeFiles(Keys):
    """What is known beside the rows."""

    triples: Url | None = Field(
        default=None, description="A CSV, TSV or JSONL file of facts: head, relation, tail; the relation `alias` gives other names."
    )
    lexicons: dict[str, Url] = Field(default_factory=dict, description="Lists by name: a UTF-8 file with one term a line.")
    of: Annotated[tuple[str, ...], BeforeValidator(fixed)] = Field(
        default=(),
        description="Columns whose values are heads: each relation with one tail a head becomes a column `COLUMN_RELATION`.",
    )

    @model_validator(mode="after")
    def _hangs_together(self) -> Self:
        if self.triples is None and not self.lexicons:
            raise refused("give triples, lexicons or both, or leave knowledge out")
        if self.of and self.triples is None:
            raise refused("of: needs triples, the URL of a file of facts")
        if len(set(self.of)) < len(self.of):
            raise refused(f"of: names a column twice (got {list(self.of)})")
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
    gpus: int | None = Field(
        default=None,
        ge=1,
        description="GPUs of one node: each takes one worker of a stage with `use_gpu`; null: one if `true`, none if `auto`.",
    )


class Prices(Keys):
    """What nodes cost: `plan` tells hours and money by it, and budget.money needs it."""

    currency: str = Field(default="USD", pattern=r"^[A-Z]{3}$", description="A code of three letters.")
    rows: Pool | None = Field(default=None, description="The pool that makes rows: {node_hour, cpus, gpus}.")
    train: Pool | None = Field(default=None, description="The pool that trains: {node_hour, cpus, gpus}.")


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
    source: Annotated[SourcePart, BeforeValidator(with_format, json_schema_input_type=str | SourcePart)] = Field(
        description="The real rows: a URL, or {use, url, options}."
    )
    run: Url = Field(default="runs/data", description="The folder of the run: a path or store URL; by default runs/NAME.")
    prepare: Prepare = Field(default_factory=Prepare, description="Reading, cleaning and splitting.")
    derive: dict[str, Text] = Field(default_factory=dict, description="Columns computed by an expression, never learnt.")
    schema_: SchemaSpec = Field(default_factory=SchemaSpec, alias="schema", description="What the columns are.")
    augment: Annotated[
        tuple[Annotated[Op, BeforeValidator(named_part, json_schema_input_type=str | Op)], ...], BeforeValidator(fixed)
    ] = Field(default=(), description="Ops on the real train rows, each on its own.")
    codec: Annotated[Part | None, BeforeValidator(named_part, json_schema_input_type=str | Part | None)] = Field(
        default=None, description="Rows ↔ tensors; null: what the schema calls for."
    )
    generator: Annotated[
        Part, BeforeValidator(partial(named_part, default=DEFAULT_GENERATOR), json_schema_input_type=str | Part)
    ] = Field(default_factory=lambda: Part(use=DEFAULT_GENERATOR), description="The distribution that is learnt.")
    train: Train = Field(default_factory=Train, description="Fitting the generator.")
    knowledge: KnowledgeFiles | None = Field(default=None, description="Facts and lists of terms that guide what is made.")
    rules: Annotated[tuple[Rule, ...], BeforeValidator(fixed)] = Field(
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
            raise refused(
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
                raise refused(f"derive.{name}: this name is kept for row ids")
            if later := sorted(Expression.parse(text, f"derive.{name}").columns & set(names[index:])):
                raise refused(f"derive.{name}: reads {', '.join(later)}, which is not derived before it (got {text!r})")
        return self

    @property
    def expressions(self) -> dict[str, str]:
        """The rules that are expressions, by their keys."""
        return {f"rules.{number}": rule for number, rule in enumerate(self.rules) if isinstance(rule, str)}

    @property
    def filters(self) -> dict[str, Part]:
        """The rules that are filters, by their keys."""
        return {f"rules.{number}": rule for number, rule in enumerate(self.rules) if isinstance(rule, Part)}

    def named_parts(self) -> Iterator[tuple[str, str, Part]]:
        """(shelf, key, part) of each."""
        yield "sources", "source", self.source
        if self.codec is not None:
            yield "codecs", "codec", self.codec
        yield "generators", "generator", self.generator
        for number, op in enumerate(self.augment):
            yield "ops", f"augment.{number}", op
            for place, part in enumerate(op.then):
                yield "ops", f"augment.{number}.then.{place}", part
        for key, rule in self.filters.items():
            yield "filters", key, rule

    def defaults_view(self) -> dict[str, Any]:
        """Every key with its value, the defaults of the parts' options included: what `raysynth plan` shows."""
        view: Any = self.model_dump(mode="json", by_alias=True)
        for shelf, key, part in self.named_parts():
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
