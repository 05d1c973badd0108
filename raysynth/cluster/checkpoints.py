"""A training's checkpoints on the store, where Ray keeps none: each put once, whole, under a name that bears its epoch and its hash."""

import json
import re
from typing import cast

import numpy as np
from safetensors.numpy import load, save

from raysynth.layout import Arrays, Facts
from raysynth.runs import Folder
from raysynth.stores.base import join

CHECKPOINTS = "_raysynth/tmp/checkpoints"
KEPT_EPOCHS = 2


def checkpoints(model: Folder) -> list[tuple[int, str]]:
    """(epoch, name) of the checkpoints on the store, in the order of their epochs."""
    return sorted((epoch, name) for name in model.names(CHECKPOINTS) if (epoch := epoch_of(name)) is not None)


def epoch_of(name: str) -> int | None:
    """Which epoch's checkpoint a file of this name is; None where it is none."""
    found = re.fullmatch(r"epoch-(\d{6,})-[0-9a-f]+\.safetensors", name)
    return None if found is None else int(found[1])


def final(model: Folder) -> tuple[Arrays, Facts] | None:
    """The best weights and the report of a training that has ended."""
    for name in model.names(CHECKPOINTS):
        if name.startswith("final-"):
            return read(model, name)
    return None


def put_epoch(model: Folder, epoch: int, arrays: Arrays, facts: Facts) -> None:
    """This epoch's checkpoint, and only then are those dropped that are three epochs old."""
    model.put_named(f"{CHECKPOINTS}/epoch-{epoch:06d}", "safetensors", _pack(arrays, facts))
    for old, name in checkpoints(model):
        if old < epoch - KEPT_EPOCHS:
            model.store.delete(join(model.url, CHECKPOINTS, name))


def put_final(model: Folder, arrays: Arrays, facts: Facts) -> None:
    model.put_named(f"{CHECKPOINTS}/final", "safetensors", _pack(arrays, facts))


def read(model: Folder, name: str) -> tuple[Arrays, Facts]:
    data = model.read(f"{CHECKPOINTS}/{name}")
    arrays = load(data)
    del arrays["_"]
    return arrays, _facts(data[8 : 8 + int.from_bytes(data[:8], "little")])


def unpack_facts(model: Folder, name: str) -> Facts:
    """What a checkpoint says beside its arrays: only its head is read."""
    url = join(model.url, CHECKPOINTS, name)
    size = int.from_bytes(model.store.read_range(url, 0, 8), "little")
    return _facts(model.store.read_range(url, 8, size))


def _facts(header: bytes) -> Facts:
    return cast("Facts", json.loads(json.loads(header)["__metadata__"]["facts"]))


def _pack(arrays: Arrays, facts: Facts) -> bytes:
    tensors = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return save({**tensors, "_": np.zeros(1, np.uint8)}, metadata={"facts": json.dumps(facts, sort_keys=True)})
