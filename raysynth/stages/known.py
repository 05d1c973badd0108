"""A recipe's `knowledge` → what is known, and which columns of facts the rows get by it."""

from typing import Any

import pyarrow as pa

from raysynth.errors import RecipeError
from raysynth.knowledge import Knowledge
from raysynth.knowledge_files import read_knowledge
from raysynth.recipe import Recipe
from raysynth.schema import ROW_ID, Column, Schema


def knowledge_of(recipe: Recipe) -> Knowledge | None:
    """None without the key. RecipeError on a file that is not there or not right."""
    asked = recipe.knowledge
    if asked is None:
        return None
    knowledge = read_knowledge(asked.triples, asked.lexicons, asked.of)
    _ = knowledge.columns  # what gives no columns is refused here, before any row is read
    return knowledge


def joined_by(recipe: Recipe) -> Knowledge | None:
    """What prepare joins to the rows: None where it joins nothing."""
    return knowledge_of(recipe) if recipe.knowledge is not None and recipe.knowledge.of else None


def joined_facts(knowledge: Knowledge | None) -> dict[str, Any]:
    """What of it decides the prepared rows. Without columns of facts there is no word of it: the id is that of the rows as they have
    always been."""
    return {} if knowledge is None else {"knowledge": {"of": list(knowledge.of), "triples": knowledge.sha256["triples"]}}


def with_facts(schema: Schema, knowledge: Knowledge | None) -> Schema:
    """The columns as read and those of facts behind. RecipeError where a column of heads is missing or holds no names, and where the input
    has a column of a fact's name."""
    for column in knowledge.of if knowledge is not None else ():
        if column not in schema:
            raise RecipeError(f"knowledge.of: no column '{column}'. Columns: {', '.join(schema.names)}")
        if not pa.types.is_string(schema[column].type):
            raise RecipeError(
                f"knowledge.of: column '{column}' is of kind {schema[column].kind}, and heads are names. Name another"
            )
    for column in knowledge.columns if knowledge is not None else ():
        if column.name in schema or column.name in ROW_ID:
            raise RecipeError(
                f"knowledge.of: the relation '{column.relation}' would make a column '{column.name}', and there is one already. "
                "Rename the relation in knowledge.triples"
            )
        schema = schema.with_column(Column(column.name, "category", pa.string()))
    return schema
