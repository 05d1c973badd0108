"""Conversations in the shapes that people keep them in → one shape, a list of turns with a role and a content; and turns as text."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from unicodedata import normalize

import numpy as np
import pyarrow as pa
import pyarrow.compute
from numpy.typing import NDArray

from raysynth.schema import TURNS, Column, Schema

pc = cast("Any", pyarrow.compute)  # the stubs of its functions refuse most unions of types

ROLE_KEYS = ("role", "from", "speaker")
CONTENT_KEYS = ("content", "value", "text")
MOST_ROLES = 16
SHAPE = 'Turns are written as [{"role": "user", "content": "Hello"}, …], or as a list of texts, whose roles alternate'
_LONE = re.compile("[\ud800-\udfff]")  # half of a surrogate pair: JSON can say it, UTF-8 cannot

Turn = dict[str, str]


class NoTurnsError(ValueError):
    """Why a value is no list of turns; it tells nothing of what the value says."""


def turns_of(cells: pa.Array, *, alternating: bool = True) -> tuple[pa.Array, dict[int, str]]:
    """(rows,) JSON → (rows,) TURNS, and row → why it holds none; such rows, nulls and empty lists are null. `alternating`: a list of bare
    texts is a conversation too, of the roles 1 and 2."""
    found: list[list[Turn] | None] = []
    wrong: dict[int, str] = {}
    for row, cell in enumerate(cells.to_pylist()):
        try:
            found.append(None if cell is None else _turns(cell, alternating) or None)
        except NoTurnsError as error:
            found.append(None)
            wrong[row] = str(error)
    return pa.array(found, TURNS), wrong


def role_lists(cells: pa.Array) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Two masks (rows,): the JSON is a list whose turns all name a role, so that it can be nothing else; it is an empty list."""
    turns, wrong = turns_of(cells, alternating=False)
    found = np.asarray(turns.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    empty = ~found & np.asarray(cells.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    empty[list(wrong)] = False
    return found, empty


def anew(turns: pa.Array, make: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """The same turns, their roles and contents made by `make`, strings → strings."""
    flat = pc.list_flatten(turns)
    both = [make(flat.field(name)) for name in ("role", "content")]
    made = pa.StructArray.from_arrays(both, fields=list(cast("Any", TURNS).value_type))
    starts = np.concatenate([np.zeros(1, np.int32), np.cumsum(_counts(turns), dtype=np.int32)])
    lists = cast("Any", pa.ListArray)  # the stubs know none of a given type
    return lists.from_arrays(pa.array(starts), made, type=TURNS, mask=turns.is_null())


def contents(turns: pa.Array) -> tuple[pa.Array, NDArray[np.int64]]:
    """What is said in all turns, (turns,), and the row that each of them stands in."""
    return pc.list_flatten(turns).field("content"), np.repeat(np.arange(len(turns)), _counts(turns))


def roles_in(turns: pa.Array) -> tuple[str, ...]:
    """Those there are, in their order; of too many the first ones, one more than may be, in whatever order rows are merged."""
    return few(pc.unique(pc.list_flatten(turns).field("role")).to_pylist())


def few(roles: Sequence[str]) -> tuple[str, ...]:
    return tuple(sorted(set(roles))[: MOST_ROLES + 1])


def tidy(text: str) -> str:
    """A role or a content as other cells are: trimmed, in Unicode's NFC."""
    return normalize("NFC", text.strip())


def as_text(turns: pa.Array | pa.ChunkedArray) -> pa.Array:
    """(rows,) strings, nulls among them: a line `role: content` for each turn. What judges of texts see, and people."""
    return pa.array([None if row is None else _lines(row) for row in turns.to_pylist()], pa.string())


def as_json(turns: pa.Array | pa.ChunkedArray) -> pa.Array:
    """(rows,) strings, nulls among them."""
    return pa.array([None if row is None else json.dumps(row, ensure_ascii=False) for row in turns.to_pylist()], pa.string())


def of_json(cells: pa.Array) -> pa.Array:
    """The reverse of `as_json`."""
    return pa.array([None if cell is None else json.loads(cell) for cell in cells.to_pylist()], TURNS)


def told_as_texts(schema: Schema) -> Schema:
    """With columns of turns as the columns of text that `rows_as_texts` makes of them."""
    return Schema(
        tuple(
            Column(column.name, "text", pa.string(), column.nullable, column.derived) if column.kind == "turns" else column
            for column in schema
        )
    )


def rows_as_texts(rows: pa.Table) -> pa.Table:
    for place, field in enumerate(rows.schema):
        if field.type == TURNS:
            rows = rows.set_column(place, field.name, as_text(rows.column(place)))
    return rows


def _counts(turns: pa.Array) -> NDArray[np.int64]:
    return np.asarray(pc.fill_null(pc.list_value_length(turns), 0), dtype=np.int64)


def _lines(turns: list[Turn]) -> str:
    return "\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)


def _turns(cell: str, alternating: bool) -> list[Turn]:
    try:
        found: object = json.loads(cell)
    except (ValueError, RecursionError):
        raise NoTurnsError(f"it is no JSON. {SHAPE}") from None
    if not isinstance(found, list):
        raise NoTurnsError(f"it is no list. {SHAPE}")
    turns = cast("list[object]", found)
    if alternating and all(isinstance(turn, str) for turn in turns):
        return [_turn(str(1 + number % 2), turn, number) for number, turn in enumerate(turns)]
    return [_of_mapping(turn, number) for number, turn in enumerate(turns)]


def _of_mapping(turn: object, number: int) -> Turn:
    if not isinstance(turn, Mapping):
        what = "is null" if turn is None else "has no role and content"
        raise NoTurnsError(f"turn {number + 1} {what}. {SHAPE}")
    keys = cast("Mapping[str, object]", turn)
    role, content = (next((key for key in known if keys.get(key) is not None), None) for known in (ROLE_KEYS, CONTENT_KEYS))
    if role is None or content is None:
        what, known = ("role", ROLE_KEYS) if role is None else ("content", CONTENT_KEYS)
        raise NoTurnsError(f"turn {number + 1} has no {what} (under one of the keys {', '.join(known)})")
    speaker = keys[role]
    return _turn(str(speaker) if isinstance(speaker, int) and not isinstance(speaker, bool) else speaker, keys[content], number)


def _turn(role: object, content: object, number: int) -> Turn:
    for what, value in (("role", role), ("content", content)):
        if not isinstance(value, str):
            raise NoTurnsError(f"turn {number + 1}: its {what} is no text")
        if _LONE.search(value):
            raise NoTurnsError(f"turn {number + 1}: its {what} has half of a surrogate pair, which is no character")
    if not (name := tidy(str(role))):
        raise NoTurnsError(f"turn {number + 1}: its role is empty")
    return {"role": name, "content": tidy(str(content))}
