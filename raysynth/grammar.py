"""The one grammar of derived columns, rules and gates: Python's, white-listed. Text → a syntax tree that is safe to compute, or why not."""

import ast
import warnings
from collections.abc import Callable, Iterator
from difflib import get_close_matches
from typing import Any

import numpy as np
import pyarrow.compute as pc

MAX_CHARACTERS = 2000
MAX_DEPTH = 40

ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", np.add),
    ast.Sub: ("-", np.subtract),
    ast.Mult: ("*", np.multiply),
    ast.Div: ("/", np.true_divide),
    ast.FloorDiv: ("//", np.floor_divide),
    ast.Mod: ("%", np.mod),
    ast.Pow: ("**", np.power),
}
COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Eq: ("==", pc.equal),
    ast.NotEq: ("!=", pc.not_equal),
    ast.Lt: ("<", pc.less),
    ast.LtE: ("<=", pc.less_equal),
    ast.Gt: (">", pc.greater),
    ast.GtE: (">=", pc.greater_equal),
}
_FUNCTIONS: dict[str, tuple[int, int]] = {  # how many arguments, from and to
    "abs": (1, 1),
    "min": (2, 20),
    "max": (2, 20),
    "round": (1, 2),
    "length": (1, 1),
    "lower": (1, 1),
    "upper": (1, 1),
    "year": (1, 1),
    "month": (1, 1),
    "day": (1, 1),
    "hour": (1, 1),
    "weekday": (1, 1),
    "isnull": (1, 1),
    "height": (1, 1),
    "width": (1, 1),
    "coalesce": (2, 20),
}
ALLOWED = (
    "columns (`in backquotes` where the name is not a plain word), numbers, 'text', True, False, None, + - * / // % **, "
    f"== != < <= > >=, and, or, not, in (…), is None, {', '.join(_FUNCTIONS)}"
)


class RefusedError(Exception):
    """Why an expression cannot be read or computed; `offset` counts characters, None where no place is to blame."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.offset = offset


def parsed(text: str) -> tuple[ast.expr, list[int]]:
    if not text.strip() or len(text) > MAX_CHARACTERS:
        raise RefusedError(f"must have 1 to {MAX_CHARACTERS} characters")
    code, origins = _without_backquotes(text.replace("\n", " "))
    lead = len(code) - len(code.lstrip())
    origins = origins[lead:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code[lead:], mode="eval").body, origins
    except SyntaxError as error:
        at = min(max((error.offset or 1) - 1, 0), len(origins) - 1)
        raise RefusedError(f"cannot be read: {error.msg}", origins[at]) from None
    except (ValueError, RecursionError, MemoryError):
        raise RefusedError("cannot be read: too deeply nested, or not text") from None


def _without_backquotes(text: str) -> tuple[str, list[int]]:
    """`a b` → col("a b"), outside quotes; and for each character of the result, where it came from."""
    pieces: list[tuple[str, int]] = []
    position, quote = 0, ""
    while position < len(text):
        char = text[position]
        if char == "`" and not quote:
            end = text.find("`", position + 1)
            if end <= position + 1:
                raise RefusedError("a backquote must open and close the name of a column", position)
            pieces.append((f"col({text[position + 1 : end]!r})", position))
            position = end + 1
            continue
        if quote and char == "\\":
            pieces += [(char, position)]
            position += 1
            char = text[position : position + 1]
        elif char in "'\"":
            quote = "" if quote == char else quote or char
        pieces.append((char, position))
        position += 1
    return "".join(piece for piece, _ in pieces), [start for piece, start in pieces for _ in piece]


def origin(byte_offset: int | None, origins: list[int]) -> int | None:
    return None if byte_offset is None else origins[min(byte_offset, len(origins) - 1)]


def names_of(node: ast.expr, depth: int) -> Iterator[str]:
    """The columns that a node reads, once all of it is found to be allowed."""
    if depth > MAX_DEPTH:
        raise RefusedError(f"is nested deeper than {MAX_DEPTH}", node.col_offset)
    match node:
        case ast.Name():
            yield node.id
        case ast.Attribute(value=ast.Name(id="holdout"), attr=name):  # a gate's word for the ceiling of a score
            yield f"holdout.{name}"
        case ast.Constant():
            _check_constant(node)
        case ast.Call():
            yield from _names_of_call(node, depth)
        case ast.UnaryOp(op=ast.Not() | ast.USub() | ast.UAdd(), operand=operand):
            yield from names_of(operand, depth + 1)
        case ast.BinOp(left=left, right=right) if type(node.op) in ARITHMETIC:
            yield from names_of(left, depth + 1)
            yield from names_of(right, depth + 1)
        case ast.BoolOp(values=values):
            for value in values:
                yield from names_of(value, depth + 1)
        case ast.Compare():
            yield from _names_of_comparison(node, depth)
        case _:
            raise RefusedError(f"{type(node).__name__} is not part of the grammar", node.col_offset)


def _check_constant(node: ast.Constant) -> None:
    value = node.value
    if isinstance(value, int) and not -(2**63) < value < 2**63:
        raise RefusedError("an integer must fit in 64 bits", node.col_offset)
    if isinstance(value, float) and not np.isfinite(value):
        raise RefusedError("a number must be finite", node.col_offset)
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise RefusedError(f"{type(value).__name__} is not part of the grammar", node.col_offset)


def _names_of_call(node: ast.Call, depth: int) -> Iterator[str]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "col":
        match node.args:
            case [ast.Constant(value=str(column))] if not node.keywords:
                yield column
            case _:
                raise RefusedError('col takes the name of one column, as in col("my column")', node.col_offset)
        return
    if name not in _FUNCTIONS:
        near = get_close_matches(name, list(_FUNCTIONS), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise RefusedError(f"no function {name or ast.unparse(node.func)[:40]!r}{hint}", node.col_offset)
    least, most = _FUNCTIONS[name]
    if node.keywords or not least <= len(node.args) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        raise RefusedError(f"{name} takes {count} arguments", node.col_offset)
    if name == "round" and len(node.args) == 2 and not _is_small_integer(node.args[1]):
        raise RefusedError("round takes a number of digits from -15 to 15", node.col_offset)
    for argument in node.args:
        yield from names_of(argument, depth + 1)


def _names_of_comparison(node: ast.Compare, depth: int) -> Iterator[str]:
    yield from names_of(node.left, depth + 1)
    for operation, right in zip(node.ops, node.comparators, strict=True):
        match operation:
            case ast.In() | ast.NotIn():
                if len(node.ops) > 1 or not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                    raise RefusedError("in takes a set of values, as in x in (1, 2) or x in ('a',)", right.col_offset)
                for element in right.elts:
                    yield from names_of(element, depth + 1)
            case ast.Is() | ast.IsNot():
                if not is_none(right) or len(node.ops) > 1:
                    raise RefusedError("is takes None only; use == for values", right.col_offset)
            case _:
                yield from names_of(right, depth + 1)


def is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_small_integer(node: ast.expr) -> bool:
    digits = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    return isinstance(digits, ast.Constant) and type(digits.value) is int and digits.value <= 15
