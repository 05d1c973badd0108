"""Rows with texts and a picture ↔ Chained: the texts as `text` has them, the picture as `image`, all other columns as codes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import pyarrow as pa

from raysynth.codecs.base import Codec, Stats
from raysynth.codecs.image import Image, ImageStats
from raysynth.codecs.text import Text, TextStats
from raysynth.draws import Draws
from raysynth.errors import RecipeError
from raysynth.layout import Arrays, Batch, Chained, Facts, FieldsGiven, Grids, Tokens, TokensGiven
from raysynth.parts import check_options
from raysynth.schema import Schema
from raysynth.where import Where


@dataclass(frozen=True)
class ChainStats:
    texts: TextStats
    image: ImageStats

    def merge(self, other: "ChainStats") -> "ChainStats":
        return ChainStats(self.texts.merge(other.texts), self.image.merge(other.image))


class Chain(Codec):
    """`text`, `image`: the options of those two codecs."""

    def __init__(
        self, schema: Schema, *, seed: int = 0, text: Mapping[str, Any] | None = None, image: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__(schema, seed=seed)
        images = [column for column in schema if column.kind == "image"]
        texts = [column for column in schema if column.kind in ("text", "turns")]
        if not images or not texts:
            kinds = ", ".join(f"{column.name} ({column.kind})" for column in schema)
            raise RecipeError(
                f"codec.use: chain takes rows with a picture and a text, and there are: {kinds}. Without a text say image, without a "
                "picture text"
            )
        self.image = Image(Schema(tuple(images)), seed=seed, **check_options(Image, image or {}, "codec.image"))
        self.text = Text(
            Schema(tuple(column for column in schema if column.kind != "image")),
            seed=seed,
            **check_options(Text, text or {}, "codec.text"),
        )

    def observe(self, rows: pa.Table) -> ChainStats:
        return ChainStats(self.text.observe(rows), self.image.observe(rows))

    def settle(self, stats: Stats) -> Chained:
        stats = cast(ChainStats, stats)
        self.text.settle(stats.texts)
        self.image.settle(stats.image)
        return self._lay_out()

    def encode(self, rows: pa.Table) -> Batch:
        texts, pictures = self.text.encode(rows), self.image.encode(rows)
        codes = np.concatenate([texts["codes"], pictures["codes"]], axis=1)
        return Batch({"codes": codes, "tokens": texts["tokens"], "pixels": pictures["pixels"]})

    def decode(self, batch: Batch, draws: Draws) -> pa.Table:
        codes, own = batch["codes"], self._text_fields()
        texts = self.text.decode(Batch({"codes": codes[:, :own], "tokens": batch["tokens"]}), draws)
        pictures = self.image.decode(Batch({"codes": codes[:, own:], "pixels": batch["pixels"]}), draws)
        columns = {name: table.column(name) for table in (texts, pictures) for name in table.column_names}
        return pa.table([columns[name] for name in self.schema.names], schema=self.schema.arrow)

    def check_where(self, where: Where) -> None:
        self.text.check_where(where)

    def condition(self, where: Where) -> FieldsGiven | None:
        texts = self.text.condition({name: wanted for name, wanted in where.items() if name in self.text.schema})
        picture = self.image.condition({name: wanted for name, wanted in where.items() if name in self.image.schema})
        if picture is None:
            return texts
        masks = {self._text_fields() + field: mask for field, mask in picture.masks.items()}
        if texts is None:
            return FieldsGiven(masks)
        begun = texts.begun if isinstance(texts, TokensGiven) else ()
        return TokensGiven({**texts.masks, **masks}, begun)

    def state(self) -> tuple[Arrays, Facts]:
        arrays: Arrays = {}
        facts: Facts = {}
        for name, codec in (("text", self.text), ("image", self.image)):
            found, facts[name] = codec.state()
            arrays |= {f"{name}.{key}": array for key, array in found.items()}
        return arrays, facts

    def load(self, arrays: Arrays, facts: Facts) -> None:
        for name, codec in (("text", self.text), ("image", self.image)):
            own = {key.removeprefix(f"{name}."): array for key, array in arrays.items() if key.startswith(f"{name}.")}
            codec.load(own, facts[name])
        self._lay_out()

    def _text_fields(self) -> int:
        return len(cast("Tokens", self.text.layout).fields)

    def _lay_out(self) -> Chained:
        texts, pictures = cast("Tokens", self.text.layout), cast("Grids", self.image.layout)
        fields = (*texts.fields, *pictures.fields)
        texts = replace(texts, fields=fields)
        layout = Chained(texts, replace(pictures, fields=fields, tokens=texts))
        self.layout = layout
        return layout
