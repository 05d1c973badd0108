"""A schema and the recipe's `derive` → the expressions of all derived columns: the recipe's, and the size of every image."""

from collections.abc import Mapping

import pyarrow as pa

from raysynth.expressions import Expression
from raysynth.schema import Column, Schema

_SIZES = ("height", "width")


def with_sizes(schema: Schema, derive: Mapping[str, str]) -> Schema:
    """With the height and the width of each image as derived columns behind all others; where one of those names is taken, or there are
    several images, the image's own name goes before: `photo_height`. What has a size already keeps it."""
    for name, (image, _) in _sizes(schema, derive).items():
        if name not in schema:
            schema = schema.with_column(Column(name, "integer", pa.int64(), schema[image].nullable, derived=True))
    return schema


def size_columns(schema: Schema) -> frozenset[str]:
    """The columns of `with_sizes` that a schema has."""
    images = [column.name for column in schema.learnt if column.kind == "image"]
    own = {f"{image}_{size}" for image in images for size in _SIZES} & set(schema.names)
    names = own or (set(_SIZES) if len(images) == 1 else set[str]())
    return frozenset(name for name in names if name in schema and schema[name].derived)


def expressions_of(schema: Schema, derive: Mapping[str, str]) -> dict[str, Expression]:
    """By the column that each makes, in the order in which they are computed."""
    sizes = {
        name: Expression.parse(f"{size}(col({image!r}))", f"derive.{name}")
        for name, (image, size) in _sizes(schema, derive).items()
        if name in schema
    }
    return {**sizes, **{name: Expression.parse(text, f"derive.{name}") for name, text in derive.items()}}


def _sizes(schema: Schema, derive: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """The column of each size → the image that it is of, and which size."""
    images = [column.name for column in schema.learnt if column.kind == "image"]
    taken = {column.name for column in schema.learnt} | set(derive)
    bare = len(images) == 1 and not taken & set(_SIZES)
    return {size if bare else f"{image}_{size}": (image, size) for image in images for size in _SIZES}
