"""What was published, its scores and its gates → README.md: the data card, in the form that Hugging Face's hub reads."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import yaml

from raysynth.gates import Gate

MOST_FILES = 50
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_SECRET = re.compile(r"(?i)password|passwd|secret|token|credential|api_?key|access_?key")
_NAMES = ("derive", "where", "columns", "to")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+!|~$:@-])")


@dataclass(frozen=True)
class Card:
    """`folders`: name → {id, path, rows, bytes, contains_real_rows}; `scores`: as in scores.json; `snapshot`: {path, bytes, sha256} of
    each input file; `versions`: library → version; `model`: the model folder's path; `real_rows`: how many rows the input had;
    `unique`: {columns, drawn_again} where no two synthetic rows share the values of columns; `images`: the rows hold pictures."""

    name: str
    recipe: Mapping[str, Any]
    folders: Mapping[str, Mapping[str, Any]]
    scores: Sequence[Mapping[str, Any]] = ()
    gates: Sequence[Gate] = ()
    forced: bool = False
    snapshot: Sequence[Mapping[str, Any]] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    model: str | None = None
    real_rows: int | None = None
    unique: Mapping[str, Any] = field(default_factory=dict[str, Any])
    images: bool = False


def card(facts: Card) -> str:
    """Markdown under a YAML head; whatever comes from the data or the recipe is escaped."""
    sections = [
        _what(facts),
        _made(facts),
        _from(facts),
        _scores(facts.scores),
        _gates(facts),
        _rules(facts),
        _again(facts.recipe),
    ]
    return f"---\n{_head(facts)}---\n# {plain(facts.name)}\n\n" + "\n\n".join(section for section in sections if section) + "\n"


def plain(text: object) -> str:
    """A text as Markdown and HTML show it letter by letter, on one line, in a table cell too."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in str(text)).split())
    return _MARKDOWN.sub(r"\\\1", html.escape(line, quote=False))


def fenced(text: str, language: str) -> str:
    """A code block whose fence is longer than any row of backquotes in it."""
    fence = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def recipe_text(recipe: Mapping[str, Any]) -> str:
    """The recipe as YAML, without what could be a secret: user info and queries of URLs, values of keys that are named like one."""
    return yaml.safe_dump(_harmless(recipe), sort_keys=False, allow_unicode=True, width=100)


def shown(value: float | None) -> str:
    """A score or a threshold in few digits; a dash where there is none."""
    return "–" if value is None else f"{value:.4g}"


def size_category(rows: int) -> str:
    """Hugging Face's bucket for so many rows."""
    power = len(str(max(rows, 1))) - 3
    if power <= 0:
        return "n<1K"
    return f"{_SIZES[power - 1]}<n<{_SIZES[power]}" if power < len(_SIZES) else "n>1T"


def _harmless(value: Any, key: str = "") -> Any:
    """`key`: that of the value, or "" below a key whose own keys are names of columns and classes, which only look like secrets."""
    if isinstance(value, Mapping):
        inner = cast("Mapping[Any, Any]", value)
        return {str(name): _harmless(item, "" if key in _NAMES else str(name)) for name, item in inner.items()}
    if isinstance(value, (list, tuple)):
        return [_harmless(inner, key) for inner in cast("Sequence[Any]", value)]
    if value is not None and not isinstance(value, (bool, int, float, str)):
        value = str(value)
    if isinstance(value, str) and value and _SECRET.search(key):
        return "(left out)"
    if isinstance(value, str) and re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*://", value):
        scheme, rest = value.split("://", 1)
        host, slash, path = rest.partition("/")
        return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}".partition("?")[0]
    return value


def _head(facts: Card) -> str:
    head: dict[str, Any] = {
        "pretty_name": " ".join(facts.name.split()),
        "tags": ["synthetic", "raysynth", "image" if facts.images else "tabular"],
        "size_categories": [size_category(sum(int(folder["rows"]) for folder in facts.folders.values()))],
        "configs": [_config(name, folder, first=not at) for at, (name, folder) in enumerate(facts.folders.items())],
    }
    return yaml.safe_dump(head, sort_keys=False, allow_unicode=True, width=10_000)


def _config(name: str, folder: Mapping[str, Any], *, first: bool) -> dict[str, Any]:
    """The mixed rows lie in a folder for each split; any others are one split. `part-` keeps manifests out."""
    splits = {"train": "train", "validation": "validation", "test": "test"} if name == "mixed" else {"train": ""}
    paths = {split: "/".join(filter(None, (str(folder["path"]), sub, "**", "part-*.parquet"))) for split, sub in splits.items()}
    files = [{"split": split, "path": path} for split, path in paths.items()]
    return {"config_name": name, "data_files": files, **({"default": True} if first else {})}


def _what(facts: Card) -> str:
    lines = ["## What it is"]
    for name, folder in facts.folders.items():
        kept = "it contains real rows" if folder["contains_real_rows"] else "no row of it is a real row by intent"
        lines.append(
            f"- **{plain(name)}**: {int(folder['rows']):,} rows in `{_path(folder['path'])}` ({int(folder['bytes']):,} bytes); {kept}."
        )
    if any(folder["contains_real_rows"] for folder in facts.folders.values()):
        lines += ["", "**A folder that contains real rows is as private as they are.**"]
    return "\n".join(lines)


def _path(path: object) -> str:
    return re.sub(r"[^A-Za-z0-9./=_-]", "_", str(path))


def _made(facts: Card) -> str:
    generator = facts.recipe.get("generator")
    use = cast("Mapping[str, Any]", generator).get("use") if isinstance(generator, Mapping) else generator
    told = {
        "generator": use,
        "model": facts.model,
        "seed": facts.recipe.get("seed"),
        "versions": ", ".join(f"{name} {version}" for name, version in facts.versions.items()),
    }
    lines = [f"- {name}: {plain(value)}" for name, value in told.items() if value not in (None, "")]
    text = "A generator learnt the real rows' distribution, and the rows were drawn from it; the same recipe gives the same rows."
    return "\n".join(["## How it was made", text, *lines])


def _from(facts: Card) -> str:
    if not facts.snapshot:
        return ""
    size = sum(int(file["bytes"]) for file in facts.snapshot)
    count = f"{len(facts.snapshot):,} file" + ("" if len(facts.snapshot) == 1 else "s")
    rows = "" if facts.real_rows is None else f", {facts.real_rows:,} rows"
    lines = ["## What it was learnt from", f"{count}{rows}, {size:,} bytes:", "", "| file | bytes | SHA-256 |", "|---|---:|---|"]
    for file in facts.snapshot[:MOST_FILES]:
        lines.append(f"| {plain(file['path'])} | {int(file['bytes']):,} | {plain(file['sha256'])} |")
    if len(facts.snapshot) > MOST_FILES:
        lines += ["", f"and {len(facts.snapshot) - MOST_FILES:,} more, listed in the plan of the prepared folder."]
    return "\n".join(lines)


def _scores(scores: Sequence[Mapping[str, Any]]) -> str:
    if not scores:
        return (
            "## Scores\nNot evaluated: nothing is known of how near these rows are to real ones, or of the privacy that they keep."
        )
    lines = [
        "## Scores",
        "Each beside its ceiling, the same score of real rows that were held out.",
        "",
        "| score | value | ceiling | best | worst | remark |",
        "|---|---:|---:|---:|---:|---|",
    ]
    for score in scores:
        numbers = " | ".join(shown(score.get(key)) for key in ("value", "ceiling", "best", "worst"))
        lines.append(f"| {plain(score['name'])} | {numbers} | {plain(score.get('why') or '')} |")
    return "\n".join([*lines, "", "The privacy scores are smoke tests: a pass proves nothing."])


def _gates(facts: Card) -> str:
    if not facts.gates:
        return "## Gates\nThe recipe sets none."
    lines = ["## Gates"]
    if facts.forced:
        lines += ["**Published by force, although a gate fails.**", ""]
    lines += ["| gate | holds | scores |", "|---|---|---|"]
    for gate in facts.gates:
        read = ", ".join(f"{name} = {shown(value)}" for name, value in gate.values.items())
        lines.append(f"| {plain(gate.text)} | {'yes' if gate.holds else '**no**'} | {plain(read)} |")
    return "\n".join(lines)


def _rules(facts: Card) -> str:
    rules = [_rule(rule) for rule in cast("Sequence[Any]", facts.recipe.get("rules") or ())]
    lines = ["## Rules", "Every synthetic row obeys:", "", *(f"- {plain(rule)}" for rule in rules)] if rules else ["## Rules"]
    if facts.unique:
        columns = ", ".join(facts.unique["columns"])
        lines += [
            "",
            f"No two synthetic rows share {plain(columns)}: {facts.unique['drawn_again']:,} rows were drawn again for it.",
        ]
    return "\n".join(lines) if len(lines) > 1 else ""


def _rule(rule: Any) -> str:
    """An expression, or a filter as {use, options}."""
    if not isinstance(rule, Mapping):
        return str(rule)
    told = cast("Mapping[str, Any]", rule)
    options = ", ".join(f"{name} {value}" for name, value in told.get("options", {}).items())
    return f"{told['use']}: {options}" if options else str(told["use"])


def _again(recipe: Mapping[str, Any]) -> str:
    return f"## How to make it again\n`raysynth run recipe.yaml`, with\n\n{fenced(recipe_text(recipe), 'yaml')}"
