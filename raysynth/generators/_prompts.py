"""Columns, examples and facts → the words that ask a language model for one row, the JSON Schema of its answer, and that answer read."""

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pyarrow as pa

from raysynth.codecs._json_values import json_of, order_of, value_of
from raysynth.layout import Facts, RecordColumn
from raysynth.schema import arrow_type
from raysynth.turns import Turn

_PLACES = re.compile(r"\{(columns|settled|examples|facts)\}")
PROMPT = """You invent rows of a data set. Write one new row that could stand among the real ones.

What each column holds:
{columns}
{settled}{examples}{facts}
Answer with one JSON object that has these columns, and nothing else. Write in the language of the data, and copy no example."""

_NAMES = {
    "boolean": "true or false",
    "integer": "a whole number",
    "number": "a number",
    "category": "a category, as text",
    "date": "a date such as 2024-01-31",
    "time": "a time such as 12:30:00",
    "datetime": "a time such as 2024-01-31T12:30:00",
    "duration": "a whole number of time units",
    "id": "a value",
    "text": "a text",
    "json": "a text that is JSON",
}
_UNITS = {"text": " characters", "json": " characters", "turns": " turns"}


def prompt_of(template: str, columns: Sequence[RecordColumn], settled: Facts, examples: Sequence[str], facts: Sequence[str]) -> str:
    """The template with its places filled; a place for which there is nothing vanishes."""
    filled = {
        "{columns}": "\n".join(f"- {_json(column.name)}: {described(column)}" for column in columns if column.name not in settled),
        "{settled}": _list(
            "What this row is already known to be:", [f"{name} = {_json(value)}" for name, value in settled.items()]
        ),
        "{examples}": _list("Real rows, as examples:", examples),
        "{facts}": _list("What is known, and must not be contradicted:", facts),
    }
    return _PLACES.sub(lambda place: filled[place[0]], template)


def described(column: RecordColumn) -> str:
    """What may stand in a column, in words."""
    if column.values is not None:
        said = f"one of {', '.join(map(_json, column.values))}" if len(column.values) != 1 else _json(column.values[0])
    else:
        whole = column.kind in ("category", "id") and pa.types.is_integer(_arrow_type(column.type))
        said = (_turns(column) if column.kind == "turns" else _NAMES["integer" if whole else column.kind]) + _range(column)
    if column.starts:
        said += f", which begins with the words {_json(column.starts)}"
    return said + (", or null" if column.nullable else "")


def schema_of(columns: Sequence[RecordColumn], settled: Facts) -> Facts:
    """The JSON Schema of an answer. Bounds are left out: not every server knows them, and rows are checked anyhow."""
    asked = [column for column in columns if column.name not in settled]
    return {
        "type": "object",
        "properties": {column.name: _type(column) for column in asked},
        "required": [column.name for column in asked],
        "additionalProperties": False,
    }


def checked(row: Mapping[str, Any], columns: Sequence[RecordColumn]) -> Facts:
    """A row as a model wrote it → the same as `records` writes it. ValueError names the column that is missing, or holds what it may not."""
    if strange := set(row) - {column.name for column in columns}:
        raise ValueError(f"{min(strange)}: no such column")
    return {column.name: _checked(row.get(column.name), column) for column in columns}


def _checked(value: Any, column: RecordColumn) -> Any:
    if value is None:
        if not column.nullable:
            raise ValueError(f"{column.name}: must not be null")
        return None
    try:
        scalar = value_of(value, _arrow_type(column.type))
    except ValueError as error:
        raise ValueError(f"{column.name}: {error}") from None
    found = json_of(scalar)
    if column.values is not None:
        if found not in column.values:
            raise ValueError(f"{column.name}: is none of the values")
        return found
    _check_bounds(found, scalar, column)
    if column.kind == "turns":
        _check_turns(found, column)
    if column.kind == "json" and not _is_json(found):
        raise ValueError(f"{column.name}: is no JSON")
    if column.starts and not found.startswith(column.starts):
        raise ValueError(f"{column.name}: does not begin as it must")
    return found


def _check_turns(turns: list[Turn], column: RecordColumn) -> None:
    if column.roles is not None and any(turn["role"] not in column.roles for turn in turns):
        raise ValueError(f"{column.name}: has a role that no train row has")
    if not column.empty_turns and not all(turn["content"] for turn in turns):
        raise ValueError(f"{column.name}: has a turn that says nothing")


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _check_bounds(found: Any, scalar: pa.Scalar, column: RecordColumn) -> None:
    size, bounds = order_of(scalar), [bound for bound in (column.minimum, column.maximum) if bound is not None]
    if len(bounds) < 2:
        return
    if column.kind in _UNITS:  # not as short or as long as those that happened to be seen, but not empty where none was
        low, high = min(bounds[0], 1), 2 * bounds[1]
        size = len(found.strip()) if isinstance(found, str) and low else size
    else:
        low, high = (order_of(value_of(bound, scalar.type)) for bound in bounds)
    if not low <= size <= high:
        raise ValueError(f"{column.name}: outside of what train rows have")


@lru_cache(maxsize=256)
def _arrow_type(text: str) -> pa.DataType:
    return arrow_type(text)


def _range(column: RecordColumn) -> str:
    unit = _UNITS.get(column.kind, "")
    if column.minimum is None or column.maximum is None or column.kind == "boolean":
        return ""
    return f" of {column.minimum} to {column.maximum}{unit}" if unit else f" from {column.minimum} to {column.maximum}"


def _type(column: RecordColumn) -> Facts:
    if column.values is not None:
        return {"enum": [*column.values, *([None] if column.nullable else [])]}
    if column.kind == "turns":
        turns = _turns_type(column)
        return {"anyOf": [turns, {"type": "null"}]} if column.nullable else turns
    type_ = _arrow_type(column.type)
    if pa.types.is_integer(type_) or pa.types.is_duration(type_):
        name = "integer"
    else:
        name = (
            "boolean"
            if pa.types.is_boolean(type_)
            else "number"
            if pa.types.is_floating(type_) or pa.types.is_decimal(type_)
            else "string"
        )
    return {"type": [name, "null"] if column.nullable else name}


def _turns_type(column: RecordColumn) -> Facts:
    role: Facts = {"type": "string"} if column.roles is None else {"enum": list(column.roles)}
    turn: Facts = {
        "type": "object",
        "properties": {"role": role, "content": {"type": "string"}},
        "required": ["role", "content"],
        "additionalProperties": False,
    }
    return {"type": "array", "items": turn}


def _turns(column: RecordColumn) -> str:
    role = "…" if column.roles is None else " or ".join(map(_json, column.roles))
    return f'a list of turns {{"role": {role}, "content": …}}'


def _list(title: str, lines: Sequence[str]) -> str:
    return "".join(["\n", title, *(f"\n- {line}" for line in lines), "\n"]) if lines else ""


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
