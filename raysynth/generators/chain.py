"""Chained → one model of rows with several kinds of things: the table's columns first, the texts given them, the picture given both."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.generators._pictures import Pictures
from raysynth.generators._texts import Texts
from raysynth.generators.base import Pace, TensorBatch, Trained
from raysynth.layout import Arrays, Batch, Chained, Facts, Given, Layout
from raysynth.parts import check_options, find

LEARNS_TEXTS = "texts"
KERNEL_ROWS = 512  # a picture takes longer than a text


class Chain(Trained):
    """`text`, `image`: the generators of the two, by `use` and their options. They share no weight, and each has turns of its own, so that
    they learn side by side; the texts' table draws the columns."""

    accepts: ClassVar[tuple[type[Layout], ...]] = (Chained,)
    most_batch_rows = 64

    def __init__(self, layout: Chained, *, text: Mapping[str, Any] | None = None, image: Mapping[str, Any] | None = None) -> None:
        super().__init__()
        self.shape = layout
        self.text = cast("Texts", _made(text or {"use": "language_model"}, layout.texts, Texts, "text"))
        self.image = cast("Pictures", _made(image or {"use": "diffusion"}, layout.pictures, Pictures, "image"))
        self.image.without_table()  # the codes are those that the texts are drawn from
        self.turns = (LEARNS_TEXTS, *self.image.turns)
        self.learning_rate, self.patience = self.text.learning_rate, max(self.text.patience, self.image.patience)
        self.average_decay = max(self.text.average_decay, self.image.average_decay)
        self.kernel_rows, self.chunk_rows = min(self.text.kernel_rows, KERNEL_ROWS), self.text.chunk_rows

    def begin(self) -> None:
        self.text.begin()
        self.image.begin()

    def players(self) -> dict[str, list[nn.Parameter]]:
        return {LEARNS_TEXTS: self.text.players()["model"], **self.image.players()}

    def judged(self) -> dict[tuple[str, ...], str]:
        return {(LEARNS_TEXTS,): "text.", self.image.turns: "image."}

    def pace(self, turn: str) -> Pace:
        """The pictures' as they would have it alone: a pre-trained model of texts learns far more slowly."""
        if turn == LEARNS_TEXTS:
            return self.text.pace("model")
        alone = self.image.pace(turn)
        return Pace(alone.share * self.image.learning_rate / self.text.learning_rate, alone.betas)

    def loss(self, batch: TensorBatch, turn: str, draws: Draws) -> Tensor:
        return self.text.loss(batch, "model", draws) if turn == LEARNS_TEXTS else self.image.loss(batch, turn, draws)

    def calibrate(self, rows: Iterable[Batch]) -> None:
        kept = list(rows)
        self.text.calibrate(kept)
        self.image.calibrate(kept)

    def state(self) -> tuple[Arrays, Facts]:
        arrays, _ = super().state()
        return arrays, {"text": self.text.state()[1], "image": self.image.state()[1]}

    def load(self, arrays: Arrays, facts: Facts) -> None:
        for name, part in (("text", self.text), ("image", self.image)):
            own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            part.load(own, facts.get(name, {}))
        self.eval()

    @torch.inference_mode()
    def sample(self, draws: Draws, given: Given | None) -> Batch:
        drawn = self.text.sample(draws, given)
        pixels = self.image.draw(drawn["codes"], drawn["tokens"], draws, drawn.accepted)
        return Batch({**drawn.arrays, "pixels": pixels}, drawn.accepted)


def _made(part: Mapping[str, Any], layout: Layout, kind: type[Trained], key: str) -> Trained:
    """RecipeError where the name is of no such generator."""
    use = part.get("use")
    found = find("generators", str(use))
    if not issubclass(found, kind):
        raise RecipeError(
            f"generator.{key}.use: '{use}' makes no {'pictures' if kind is Pictures else 'texts'}. Name another generator"
        )
    made: Trained = cast("Any", found)(
        layout, **check_options(found, {name: value for name, value in part.items() if name != "use"}, f"generator.{key}")
    )
    return made
