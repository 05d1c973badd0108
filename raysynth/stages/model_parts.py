"""A recipe → the codec and the generator that it names, every option with them, and whether the codec takes the columns. A file of its own,
since who makes rows ready need not load torch."""

from typing import Any

from raysynth import base_folder
from raysynth.layout import Chained, Grids, Layout, Records, Tokens
from raysynth.models import codec_of
from raysynth.parts import find, whole_options
from raysynth.recipe import Recipe
from raysynth.schema import Schema
from raysynth.where import Where


def parts_of(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The codec and the generator with every option, defaults too: a default that changes in the code is another model."""
    use, options = (recipe.codec.use, recipe.codec.options) if recipe.codec else (codec_for(recipe.generator.use), {})
    if use == "text" and (base := base_of(recipe)) is not None:
        options = {"tokenizer": base, **options}  # it reads its own tokens alone
    return {
        "codec": whole_options("codecs", use, options),
        "generator": whole_options("generators", recipe.generator.use, recipe.generator.options),
    }


def base_of(recipe: Recipe) -> str | None:
    """The folder of the pre-trained model that the generator begins with, if any."""
    return recipe.generator.options.get("base")


def check_base(recipe: Recipe) -> None:
    """RecipeError where that folder cannot be begun with."""
    if (base := base_of(recipe)) is not None:
        base_folder.check(base, adapted=recipe.generator.options.get("tune", "lora") == "lora")


def check_codec(recipe: Recipe, schema: Schema, where: Where | None = None) -> None:
    """RecipeError where the codec does not take these columns, or makes no rows for the condition."""
    codec_of(parts_of(recipe)["codec"], schema, recipe.seed).check_where(where or {})


def codec_for(generator: str) -> str:
    """Where the recipe names no codec: the one whose layout the generator takes."""
    accepts = find("generators", generator).accepts
    codecs: dict[type[Layout], str] = {Tokens: "text", Grids: "image", Chained: "chain", Records: "records"}
    return next((codec for layout, codec in codecs.items() if layout in accepts), "tabular")
