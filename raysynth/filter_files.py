"""A recipe's filters ↔ their folder: filters.json, and each filter's arrays as safetensors. No pickle."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from safetensors.numpy import load, save

from raysynth.errors import CorruptRunError, RecipeError
from raysynth.filters.base import Filter
from raysynth.layout import Arrays, Facts
from raysynth.markers import digest
from raysynth.parts import check_options, find
from raysynth.runs import Folder
from raysynth.schema import Schema
from raysynth.turns import told_as_texts

FILTERS = "filters.json"


@dataclass(frozen=True)
class Filters:
    """Those of one folder, settled. `digest`: of filters.json, which names the bytes of all."""

    filters: tuple[Filter, ...]
    digest: str


def made_filter(key: str, use: str, options: Mapping[str, Any], schema: Schema, seed: int) -> Filter:
    """Not yet settled. RecipeError begins with the key."""
    cls = find("filters", use)
    checked = check_options(cls, options, key)
    try:
        made: Filter = cls(told_as_texts(schema), seed=seed, **checked)
    except RecipeError as error:
        raise RecipeError(f"{key}: {error}") from None
    of = ", ".join(value for value in checked.values() if isinstance(value, str))
    made.name = f"{use}({of})" if of else use
    return made


def shown(asked: Mapping[str, Any]) -> str:
    """{use, **options} → a line to read, without the options that are null."""
    given = {name: value for name, value in sorted(asked.items()) if name != "use" and value is not None}
    told = (f"{name} {' '.join(map(str, value)) if isinstance(value, list | tuple) else value}" for name, value in given.items())
    return f"{asked['use']}: {', '.join(told)}" if given else str(asked["use"])


def filter_files(filters: Sequence[Filter], facts: Facts, asked: Sequence[Facts]) -> dict[str, bytes]:
    """The files of a folder by name: each name but filters.json bears the hash of its bytes. `asked`: {use, **options} of each."""
    files: dict[str, bytes] = {}
    described: list[Facts] = []
    for made, options in zip(filters, asked, strict=True):
        arrays, state = made.state()
        entry: Facts = {"asked": options, "state": state, "file": None}
        if arrays:
            data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()})
            entry["file"], entry["sha256"] = f"filter-{digest(data)[:12]}.safetensors", digest(data)
            files[entry["file"]] = data
        described.append(entry)
    files[FILTERS] = json.dumps({**facts, "filters": described}, sort_keys=True, ensure_ascii=False).encode()
    return files


def load_filters(folder: Folder, schema: Schema) -> Filters:
    """A committed folder → its filters. CorruptRunError names a file whose bytes are not those that were committed."""
    data = folder.read(FILTERS)
    manifest = folder.manifest()
    hashes = dict(zip(manifest["name"].to_pylist(), manifest["sha256"].to_pylist(), strict=True))
    if hashes.get(FILTERS) != digest(data):
        raise CorruptRunError(_changed(folder, FILTERS))
    stored = cast("Facts", json.loads(data))
    made: list[Filter] = []
    for number, entry in enumerate(stored["filters"]):
        options = {name: value for name, value in entry["asked"].items() if name != "use"}
        one = made_filter(f"rules.{number}", entry["asked"]["use"], options, schema, stored["seed"])
        one.load(_arrays(folder, entry), entry["state"])
        made.append(one)
    return Filters(named_apart(made), digest(data))


def named_apart(filters: Sequence[Filter]) -> tuple[Filter, ...]:
    """Of two with one name the later one gets a number, so that rejects are told apart."""
    seen: dict[str, int] = {}
    for one in filters:
        seen[one.name] = seen.get(one.name, 0) + 1
        one.name += f" #{seen[one.name]}" if seen[one.name] > 1 else ""
    return tuple(filters)


def _arrays(folder: Folder, entry: Facts) -> Arrays:
    if entry["file"] is None:
        return {}
    data = folder.read(entry["file"])
    if digest(data) != entry["sha256"]:
        raise CorruptRunError(_changed(folder, entry["file"]))
    return load(data)


def _changed(folder: Folder, name: str) -> str:
    return f"{folder.url}/{name}: its bytes are not those that were committed. Copy the file again, or take another run"
