"""A finished model ↔ its folder: model.json, and the codec's and the generator's arrays as safetensors. No pickle."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from safetensors.numpy import load, save

from raysynth.codecs.base import Codec
from raysynth.errors import CorruptRunError, DataError
from raysynth.layout import Arrays, Facts
from raysynth.markers import digest
from raysynth.parts import find
from raysynth.runs import Folder, Run
from raysynth.schema import Schema

if TYPE_CHECKING:  # torch comes with it, which readers of models alone need not wait for
    from raysynth.generators.base import Generator


@dataclass(frozen=True)
class Model:
    """What rows are drawn from: `schema` has the derived columns too, `digest` is that of model.json."""

    schema: Schema
    derive: dict[str, str]
    codec: Codec
    generator: "Generator"
    digest: str
    facts: Facts


def model_files(codec: Codec, generator: "Generator", facts: Facts) -> dict[str, bytes]:
    """The files of a model folder by name: each name but model.json bears the hash of its bytes."""
    files: dict[str, bytes] = {}
    described = dict(facts)
    for role, part in (("codec", codec), ("weights", generator)):
        arrays, state = part.state()
        data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}) if arrays else b""
        name = f"{role}-{digest(data)[:12]}.safetensors"
        files[name] = data
        described[role] = {"file": name, "sha256": digest(data), "state": state}
    described["kernel_rows"], described["chunk_rows"] = generator.kernel_rows, generator.chunk_rows
    files["model.json"] = json.dumps(described, sort_keys=True, indent=1).encode()
    return files


def load_model(folder: Folder, aside: Mapping[str, Any] | None = None) -> Model:
    """A committed model folder → the model. `aside`: options of the generator that decide no row, instead of those that it was made with.
    CorruptRunError names a file whose bytes are not those that were committed."""
    data = folder.read("model.json")
    _check_committed(folder, "model.json", data)
    facts = cast("Facts", json.loads(data))
    schema = Schema.from_json(facts["schema"])
    codec = codec_of(facts["parts"]["codec"], schema, facts["seed"])
    codec.load(*_state(folder, facts["codec"]))
    generator = generator_of({**facts["parts"]["generator"], **(aside or {})}, codec)
    arrays, state = _state(folder, facts["weights"])
    try:
        generator.load(arrays, state)
    except (RuntimeError, KeyError) as error:  # torch's word for weights of other names or shapes
        raise CorruptRunError(
            f"{folder.url}: its weights are not those of this version's '{facts['parts']['generator']['use']}'. "
            "Sample with the version that trained it, or train again into another run"
        ) from error
    generator.kernel_rows, generator.chunk_rows = facts["kernel_rows"], facts["chunk_rows"]
    return Model(schema, facts["derive"], codec, generator, digest(data), facts)


def model_in(run: Run, digest: str) -> Folder:
    """The committed model of that digest. DataError where the run has it no more."""
    for folder in run.folders("model"):
        if folder.committed and _committed_digest(folder, "model.json") == digest:
            return folder
    raise DataError(
        f"run '{run.url}': the model that its data set was drawn from is not there. Copy the whole run, or generate again"
    )


def _check_committed(folder: Folder, name: str, data: bytes) -> None:
    """model.json against the manifest; the other files against model.json, which has their hashes."""
    if _committed_digest(folder, name) != digest(data):
        raise CorruptRunError(_changed(folder, name))


def _committed_digest(folder: Folder, name: str) -> str | None:
    manifest = folder.manifest()
    return dict(zip(manifest["name"].to_pylist(), manifest["sha256"].to_pylist(), strict=True)).get(name)


def _changed(folder: Folder, name: str) -> str:
    return f"{folder.url}/{name}: its bytes are not those that were committed. Copy the file again, or retrain"


def codec_of(part: dict[str, Any], schema: Schema, seed: int) -> Codec:
    """`{use, **options}` → the codec of the learnt columns, not yet settled."""
    made: Codec = find("codecs", part["use"])(schema.learnt, seed=seed, **_options(part))
    return made


def generator_of(part: dict[str, Any], codec: Codec) -> "Generator":
    """`{use, **options}` → an untrained generator of the codec's layout."""
    made: Generator = find("generators", part["use"])(codec.layout, **_options(part))
    return made


def _options(part: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in part.items() if key != "use"}


def _state(folder: Folder, stored: Facts) -> tuple[Arrays, Facts]:
    data = folder.read(stored["file"])
    if digest(data) != stored["sha256"]:
        raise CorruptRunError(_changed(folder, stored["file"]))
    return (load(data) if data else {}), stored["state"]
