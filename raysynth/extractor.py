"""An ONNX file of the user's own → a network that sees pictures as points, in place of the one that a run learns for itself.

Its first input is pictures, its first output what it sees of them: a vector each, or a grid of vectors, whose mean is taken. The bytes
alone are read: a file that keeps its weights beside itself is refused, and so is one whose operators onnxruntime does not bring along.

Shapes: N pictures, H height, W width, C channels, F features.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from raysynth.errors import MissingExtraError, RecipeError
from raysynth.image_frames import PICTURE_SIDE, Frame
from raysynth.stores.base import absolute, store_for

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

KEY = "evaluate.extractor"
MOST_BYTES = 1 << 30
_BATCH = 32


@dataclass(frozen=True)
class Extractor:
    """`data`: the ONNX file. A level of a channel enters as (level - mean) / spread, of 0 … 255 in the order red, green, blue; a network
    of one channel is given grey ones, by the means of the three."""

    data: bytes
    mean: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    def points(self, pictures: "Sequence[Pixels]") -> NDArray[np.float32]:
        """Pictures of any size → (N, F) of length 1."""
        session = _session(self.data)
        frame, channels_first = _input(session)
        mean, spread = (np.array(numbers, np.float32) for numbers in (self.mean, self.spread))
        if frame.channels == 1:
            mean, spread = mean.mean(keepdims=True), spread.mean(keepdims=True)
        found: list[NDArray[np.float32]] = []
        batch = _batch(session)
        for start in range(0, len(pictures), batch):
            rows = frame.of(pictures[start : start + batch])
            x_NHWC = np.zeros((batch, *rows.shape[1:]), np.float32)  # always full: a product of another shape may round otherwise
            x_NHWC[: len(rows)] = (rows - mean) / spread
            x = np.ascontiguousarray(x_NHWC.transpose(0, 3, 1, 2)) if channels_first else x_NHWC
            seen = session.run(None, {session.get_inputs()[0].name: x})[0]
            found.append(_flat(np.asarray(seen, np.float32)[: len(rows)], channels_first))
        points = np.concatenate(found) if found else np.zeros((0, 1), np.float32)
        return points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)


def extractor_of(url: str, mean: tuple[float, ...], spread: tuple[float, ...]) -> Extractor:
    """RecipeError where the file is not there, or no network of pictures; MissingExtraError without onnxruntime."""
    try:
        data = store_for(absolute(url)).read_range(absolute(url), 0, MOST_BYTES + 1)
    except FileNotFoundError:
        raise RecipeError(f"{KEY}: '{url}' is not there. Give the URL of an ONNX file") from None
    if len(data) > MOST_BYTES:
        raise RecipeError(f"{KEY}: '{url}' has more than {MOST_BYTES:,} bytes. Give a smaller network")
    made, unusable = Extractor(data, mean, spread), _unusable()
    try:
        shape = made.points([np.zeros((8, 8, 3), np.uint8), np.full((8, 8, 3), 255, np.uint8)]).shape
    except unusable as error:
        raise RecipeError(
            f"{KEY}: '{url}' is no network that can be asked ({str(error).strip().splitlines()[0][:300]}). Give an ONNX file whose first "
            "input is (N, 3, H, W) or (N, H, W, 3) float pictures, or of 1 channel, and that holds its weights itself"
        ) from None
    if len(shape) != 2:
        raise RecipeError(
            f"{KEY}: '{url}' says no vector of a picture. Let its first output be (N, F), (N, F, H, W) or (N, H, W, F)"
        )
    return made


def _runtime() -> Any:
    try:
        return import_module("onnxruntime")
    except ModuleNotFoundError:
        raise MissingExtraError(f"{KEY}: needs the package 'onnxruntime'. Install it: pip install 'raysynth[onnx]'") from None


def _session(data: bytes) -> Any:
    onnxruntime = _runtime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # sums of several threads differ in the last bits
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _unusable() -> tuple[type[Exception], ...]:
    """What onnxruntime raises; all of its own come from one module, without a class above them but Exception."""
    _runtime()
    raised = import_module("onnxruntime.capi.onnxruntime_pybind11_state")
    own = [kind for kind in vars(raised).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    return (*own, ValueError, RuntimeError)


def _input(session: Any) -> tuple[Frame, bool]:
    """The frame that the first input takes, and whether its channels come before its sides. A side that is free is PICTURE_SIDE."""
    asked = session.get_inputs()[0]
    if asked.type != "tensor(float)" or len(asked.shape) != 4:
        raise ValueError(f"its first input is a {asked.type} of shape {asked.shape}")
    channels_first = asked.shape[1] in (1, 3)
    if not channels_first and asked.shape[3] not in (1, 3):
        raise ValueError(f"its first input is of shape {asked.shape}, without 1 or 3 channels")
    sides = asked.shape[2:] if channels_first else asked.shape[1:3]
    height, width = (side if isinstance(side, int) else PICTURE_SIDE for side in sides)
    return Frame(height, width, asked.shape[1] if channels_first else asked.shape[3]), channels_first


def _batch(session: Any) -> int:
    """How many pictures the network takes at a time."""
    fixed = session.get_inputs()[0].shape[0]
    return fixed if isinstance(fixed, int) else _BATCH


def _flat(seen: NDArray[np.float32], channels_first: bool) -> NDArray[np.float32]:
    """A vector each as it is, of a grid of them the mean."""
    return seen.mean(axis=(2, 3) if channels_first else (1, 2)) if seen.ndim == 4 else seen
