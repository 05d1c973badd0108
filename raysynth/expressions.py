"""The text of a derived column, a rule or a gate → a checked expression, evaluated on Arrow tables row by row.

One grammar, Python's, white-listed. Integers are int64, other numbers float64 (decimals too). A null in gives a null out (and/or
by three-valued logic); a division by zero and a result out of range (integers: from 2**63 - 512) are null as well.
"""

import ast
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import time
from difflib import get_close_matches
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.errors import RecipeError
from raysynth.schema import Schema

MAX_CHARACTERS = 2000
MAX_DEPTH = 40

Value: TypeAlias = Any  # pa.Array of one value per row, or pa.Scalar: Arrow's stubs type neither's kernels alike

_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", np.add),
    ast.Sub: ("-", np.subtract),
    ast.Mult: ("*", np.multiply),
    ast.Div: ("/", np.true_divide),
    ast.FloorDiv: ("//", np.floor_divide),
    ast.Mod: ("%", np.mod),
    ast.Pow: ("**", np.power),
}
_COMPARISONS: dict[type[ast.cmpop], tuple[str, Callable[[Any, Any], Any]]] = {
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
    "coalesce": (2, 20),
}
_TEXT: dict[str, Callable[[Any], Any]] = {"length": pc.utf8_length, "lower": pc.utf8_lower, "upper": pc.utf8_upper}
_CALENDAR: dict[str, Callable[[Any], Any]] = {
    "year": pc.year,
    "month": pc.month,
    "day": pc.day,
    "hour": pc.hour,
    "weekday": pc.day_of_week,
}
ALLOWED = (
    "columns (`in backquotes` where the name is not a plain word), numbers, 'text', True, False, None, + - * / // % **, "
    f"== != < <= > >=, and, or, not, in (…), is None, {', '.join(_FUNCTIONS)}"
)


class _RefusedError(Exception):
    """Why an expression cannot be read or computed; `offset` counts characters, None where no place is to blame."""

    def __init__(self, reason: str, offset: int | None = None) -> None:
        super().__init__(reason)
        self.offset = offset


@dataclass(frozen=True)
class Expression:
    """A parsed expression; `key` is where the recipe has it, as errors name it. Weekday 0 is Monday."""

    text: str
    key: str
    columns: frozenset[str] = field(compare=False)
    tree: ast.expr = field(compare=False, repr=False)

    @classmethod
    def parse(cls, text: str, key: str) -> "Expression":
        """RecipeError with the position of what cannot be, and what is allowed."""
        try:
            tree, origins = _parsed(text)
            try:
                names = frozenset(_names(tree, 0))
            except _RefusedError as refused:
                raise _RefusedError(str(refused), _origin(refused.offset, origins)) from None
        except _RefusedError as refused:
            place = "" if refused.offset is None else f" at character {refused.offset + 1}"
            shown = text if len(text) <= 200 else text[:200] + "…"
            raise RecipeError(f"{key}: {refused}{place} (got {shown!r}). Allowed: {ALLOWED}") from None
        return cls(text, key, names, tree)

    def evaluate(self, table: pa.Table) -> pa.Array:
        """One value per row. RecipeError on a column that the table lacks or a type that an operation does not take."""
        for name in sorted(self.columns - set(table.column_names)):
            near = get_close_matches(name, table.column_names, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RecipeError(f"{self.key}: no column '{name}' (got {self.text!r}).{hint} Columns: {', '.join(table.column_names)}")
        try:
            value = _value(self.tree, table)
        except _RefusedError as refused:
            raise RecipeError(f"{self.key}: {refused} (got {self.text!r})") from None
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
            raise RecipeError(f"{self.key}: cannot be computed: {error} (got {self.text!r})") from None
        return _repeated(value, table.num_rows) if isinstance(value, pa.Scalar) else value

    def holds(self, table: pa.Table) -> NDArray[np.bool_]:
        """(rows,) True where the expression is true or null. RecipeError if it is not a condition."""
        value: Any = self.evaluate(table)
        if not pa.types.is_boolean(value.type) and not pa.types.is_null(value.type):
            raise RecipeError(f"{self.key}: must be true or false for each row (got {self.text!r}, of type {value.type})")
        filled = pc.fill_null(value.cast(pa.bool_()), True)
        return np.asarray(filled.to_numpy(zero_copy_only=False), dtype=np.bool_)

    def type(self, schema: Schema) -> pa.DataType:
        """The type of its values for columns of this schema; it is also the full check of an expression before any row is read."""
        return self.evaluate(schema.arrow.empty_table()).type


# Reading


def _parsed(text: str) -> tuple[ast.expr, list[int]]:
    if not text.strip() or len(text) > MAX_CHARACTERS:
        raise _RefusedError(f"must have 1 to {MAX_CHARACTERS} characters")
    code, origins = _without_backquotes(text.replace("\n", " "))
    lead = len(code) - len(code.lstrip())
    origins = origins[lead:]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(code[lead:], mode="eval").body, origins
    except SyntaxError as error:
        at = min(max((error.offset or 1) - 1, 0), len(origins) - 1)
        raise _RefusedError(f"cannot be read: {error.msg}", origins[at]) from None
    except (ValueError, RecursionError, MemoryError):
        raise _RefusedError("cannot be read: too deeply nested, or not text") from None


def _without_backquotes(text: str) -> tuple[str, list[int]]:
    """`a b` → col("a b"), outside quotes; and for each character of the result, where it came from."""
    pieces: list[tuple[str, int]] = []
    position, quote = 0, ""
    while position < len(text):
        char = text[position]
        if char == "`" and not quote:
            end = text.find("`", position + 1)
            if end <= position + 1:
                raise _RefusedError("a backquote must open and close the name of a column", position)
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


def _origin(byte_offset: int | None, origins: list[int]) -> int | None:
    return None if byte_offset is None else origins[min(byte_offset, len(origins) - 1)]


def _names(node: ast.expr, depth: int) -> Iterator[str]:
    """The columns that a node reads, once all of it is found to be allowed."""
    if depth > MAX_DEPTH:
        raise _RefusedError(f"is nested deeper than {MAX_DEPTH}", node.col_offset)
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
            yield from _names(operand, depth + 1)
        case ast.BinOp(left=left, right=right) if type(node.op) in _ARITHMETIC:
            yield from _names(left, depth + 1)
            yield from _names(right, depth + 1)
        case ast.BoolOp(values=values):
            for value in values:
                yield from _names(value, depth + 1)
        case ast.Compare():
            yield from _names_of_comparison(node, depth)
        case _:
            raise _RefusedError(f"{type(node).__name__} is not part of the grammar", node.col_offset)


def _check_constant(node: ast.Constant) -> None:
    value = node.value
    if isinstance(value, int) and not -(2**63) < value < 2**63:
        raise _RefusedError("an integer must fit in 64 bits", node.col_offset)
    if isinstance(value, float) and not np.isfinite(value):
        raise _RefusedError("a number must be finite", node.col_offset)
    if not (value is None or isinstance(value, bool | int | float | str)):
        raise _RefusedError(f"{type(value).__name__} is not part of the grammar", node.col_offset)


def _names_of_call(node: ast.Call, depth: int) -> Iterator[str]:
    name = node.func.id if isinstance(node.func, ast.Name) else ""
    if name == "col":
        match node.args:
            case [ast.Constant(value=str(column))] if not node.keywords:
                yield column
            case _:
                raise _RefusedError('col takes the name of one column, as in col("my column")', node.col_offset)
        return
    if name not in _FUNCTIONS:
        near = get_close_matches(name, list(_FUNCTIONS), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise _RefusedError(f"no function {name or ast.unparse(node.func)[:40]!r}{hint}", node.col_offset)
    least, most = _FUNCTIONS[name]
    if node.keywords or not least <= len(node.args) <= most:
        count = str(least) if least == most else f"{least} to {most}"
        raise _RefusedError(f"{name} takes {count} arguments", node.col_offset)
    if name == "round" and len(node.args) == 2 and not _is_small_integer(node.args[1]):
        raise _RefusedError("round takes a number of digits from -15 to 15", node.col_offset)
    for argument in node.args:
        yield from _names(argument, depth + 1)


def _names_of_comparison(node: ast.Compare, depth: int) -> Iterator[str]:
    yield from _names(node.left, depth + 1)
    for operation, right in zip(node.ops, node.comparators, strict=True):
        match operation:
            case ast.In() | ast.NotIn():
                if len(node.ops) > 1 or not isinstance(right, ast.Tuple | ast.List | ast.Set) or not right.elts:
                    raise _RefusedError("in takes a set of values, as in x in (1, 2) or x in ('a',)", right.col_offset)
                for element in right.elts:
                    yield from _names(element, depth + 1)
            case ast.Is() | ast.IsNot():
                if not _is_none(right) or len(node.ops) > 1:
                    raise _RefusedError("is takes None only; use == for values", right.col_offset)
            case _:
                yield from _names(right, depth + 1)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _is_small_integer(node: ast.expr) -> bool:
    digits = node.operand if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) else node
    return isinstance(digits, ast.Constant) and type(digits.value) is int and digits.value <= 15


# Computing


def _repeated(value: Any, rows: int) -> Any:
    return pa.repeat(value, rows)


def _value(node: ast.expr, table: pa.Table) -> Value:
    match node:
        case ast.Name():
            return _column(table, node.id)
        case ast.Attribute(value=ast.Name(id="holdout"), attr=name):
            return _column(table, f"holdout.{name}")
        case ast.Constant():
            return _literal(node.value)
        case ast.Call():
            return _call(node, table)
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return pc.invert(_truth(_value(operand, table), "not"))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _calculated(ast.Sub, pa.scalar(0, pa.int64()), _value(operand, table))
        case ast.UnaryOp(operand=operand):
            return _number(_value(operand, table), "+")
        case ast.BinOp(left=left, op=operation, right=right):
            return _calculated(type(operation), _value(left, table), _value(right, table))
        case ast.BoolOp(op=operation, values=values):
            word, combine = ("and", pc.and_kleene) if isinstance(operation, ast.And) else ("or", pc.or_kleene)
            truths = [_truth(_value(value, table), word) for value in values]
            result = truths[0]
            for truth in truths[1:]:
                result = combine(result, truth)
            return result
        case ast.Compare():
            return _compare(node, table)
        case _:
            raise TypeError(f"{type(node).__name__} passed the grammar but has no meaning")


def _column(table: pa.Table, name: str) -> Value:
    column: Any = table.column(name)
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return _widened(array)


def _widened(array: Value) -> Value:
    """int64, float64, string and what has no wider form; integers beyond int64 are null."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _widened(array.cast(kind.value_type))
    if pa.types.is_uint64(kind):
        fits = pc.less(array, pa.scalar(2**63, pa.uint64()))
        return pc.if_else(fits, array, pa.scalar(None, kind)).cast(pa.int64())
    if pa.types.is_integer(kind):
        return array.cast(pa.int64())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return array.cast(pa.float64(), safe=False)  # safe would refuse integers from 2**53
    if pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return array.cast(pa.string())
    return array


def _literal(value: object) -> Value:
    if isinstance(value, int) and not isinstance(value, bool):
        return pa.scalar(value, pa.int64())
    return pa.scalar(cast("Any", value))


def _is_number(kind: pa.DataType) -> bool:
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or pa.types.is_null(kind)


def _number(value: Value, word: str) -> Value:
    """int64 or float64; truth values count as 0 and 1."""
    if not _is_number(value.type):
        raise _RefusedError(f"{word} takes numbers, not {value.type}")
    return value.cast(pa.int64()) if pa.types.is_boolean(value.type) or pa.types.is_null(value.type) else value


def _truth(value: Value, word: str) -> Value:
    if pa.types.is_null(value.type):
        return value.cast(pa.bool_())
    if not pa.types.is_boolean(value.type):
        raise _RefusedError(f"{word} takes true or false, not {value.type}")
    return value


def _calculated(operation: type[ast.operator], left: Value, right: Value) -> Value:
    word, compute = _ARITHMETIC[operation]
    left, right = _number(left, word), _number(right, word)
    if isinstance(left, pa.Scalar) and isinstance(right, pa.Scalar):
        return _calculated(operation, _repeated(left, 1), right)[0]
    whole = pa.types.is_integer(left.type) and pa.types.is_integer(right.type) and operation not in (ast.Div, ast.Pow)
    a, a_known = _dense(left, whole)
    b, b_known = _dense(right, whole)
    known = np.logical_and(a_known, b_known)
    if operation in (ast.Div, ast.FloorDiv, ast.Mod):
        known &= b != 0
        b = np.where(b == 0, np.ones_like(b), b)
    with np.errstate(all="ignore"):
        result = compute(a, b)
        if whole and operation is not ast.Mod:
            known &= np.abs(compute(a.astype(np.float64), b.astype(np.float64))) < 2.0**63
    if not whole:
        known &= np.isfinite(result)
    return pa.array(result, mask=~known)


def _dense(value: Value, whole: bool) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(rows,) or () numbers with zeros for nulls, and where they are known."""
    kind = np.int64 if whole else np.float64
    if isinstance(value, pa.Scalar):
        return np.asarray(value.as_py() if value.is_valid else 0, dtype=kind), np.asarray(value.is_valid)
    known = np.asarray(pc.is_valid(value).to_numpy(zero_copy_only=False), dtype=np.bool_)
    zero = pa.scalar(0, value.type)
    return np.asarray(pc.fill_null(value, zero).to_numpy(zero_copy_only=False)).astype(kind), known


def _compare(node: ast.Compare, table: pa.Table) -> Value:
    left = _value(node.left, table)
    result: Value = None
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        match operation:
            case ast.In() | ast.NotIn():
                truth = _inside(left, cast("ast.Tuple", right_node).elts, table)
                return pc.invert(truth) if isinstance(operation, ast.NotIn) else truth
            case ast.Is() | ast.Eq() if _is_none(right_node):
                truth = pc.is_null(left)
            case ast.IsNot() | ast.NotEq() if _is_none(right_node):
                truth = pc.is_valid(left)
            case _:
                right = _value(right_node, table)
                truth = _compared(type(operation), left, right)
                left = right
        result = truth if result is None else pc.and_kleene(result, truth)
    return result


def _inside(left: Value, elements: list[ast.expr], table: pa.Table) -> Value:
    truths = [pc.is_null(left) if _is_none(item) else _compared(ast.Eq, left, _value(item, table)) for item in elements]
    result = truths[0]
    for truth in truths[1:]:
        result = pc.or_kleene(result, truth)
    return result


def _compared(operation: type[ast.cmpop], left: Value, right: Value) -> Value:
    word, compare = _COMPARISONS[operation]
    left, right = _alike(left, right, word)
    return compare(left, right)


def _alike(left: Value, right: Value, word: str) -> Sequence[Value]:
    """Both of types that Arrow compares; an ISO text literal becomes the date or time that it is held against."""
    if pa.types.is_null(left.type) or pa.types.is_null(right.type):
        return (left.cast(right.type), right) if pa.types.is_null(left.type) else (left, right.cast(left.type))
    if _is_number(left.type) and _is_number(right.type):
        both_truth = pa.types.is_boolean(left.type) and pa.types.is_boolean(right.type)
        return (left, right) if both_truth else _one_type([_number(left, word), _number(right, word)], word)
    if pa.types.is_temporal(left.type) and pa.types.is_string(right.type) and isinstance(right, pa.Scalar):
        return _against_text(left, right)
    if pa.types.is_temporal(right.type) and pa.types.is_string(left.type) and isinstance(left, pa.Scalar):
        return _against_text(right, left)[::-1]
    if left.type == right.type:
        return left, right
    if _is_moment(left.type) and _is_moment(right.type):  # microseconds hold every date; nanoseconds end in 2262
        return [value.cast(pa.timestamp("us", tz=getattr(value.type, "tz", None)), safe=False) for value in (left, right)]
    raise _RefusedError(f"{word} cannot compare {left.type} with {right.type}")


def _is_moment(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def _against_text(value: Value, text: Value) -> tuple[Value, Value]:
    kind = value.type
    if pa.types.is_duration(kind):
        raise _RefusedError("a duration cannot be compared with text")
    try:
        if pa.types.is_date(kind) and len(text.as_py()) > 10:
            return value.cast(pa.timestamp("us")), text.cast(pa.timestamp("us"))
        if pa.types.is_time(kind):
            return value, pa.scalar(time.fromisoformat(text.as_py()), pa.time64("us"))
        if not pa.types.is_timestamp(kind):
            return value, text.cast(kind)
        zoned = pa.timestamp("us", tz=kind.tz)
        try:
            return value, text.cast(zoned)
        except pa.ArrowInvalid:
            local = text.cast(pa.timestamp("us"))
            return value, pc.assume_timezone(local, kind.tz) if kind.tz else local
    except ValueError:  # ArrowInvalid is one
        raise _RefusedError(f"{text.as_py()!r} is no {kind}: write it as 2013-01-31, 17:05 or 2013-01-31 17:05:00") from None


def _call(node: ast.Call, table: pa.Table) -> Value:
    name = cast("ast.Name", node.func).id
    if name == "col":
        return _column(table, str(cast("ast.Constant", node.args[0]).value))
    values = [_value(argument, table) for argument in node.args]
    first = values[0]
    if name == "isnull":
        return pc.is_null(first)
    if name in _TEXT:
        return _text_function(name, first)
    if name in _CALENDAR:
        return _calendar_function(name, first)
    if name == "round":
        return _rounded(_number(first, name), int(ast.literal_eval(node.args[1])) if len(values) == 2 else 0)
    if name == "abs":
        number = _number(first, name)
        least = pa.types.is_integer(number.type)
        known = pc.greater(number, pa.scalar(-(2**63), number.type)) if least else None
        return pc.abs(number if known is None else pc.if_else(known, number, pa.scalar(None, number.type)))
    values = _one_type(values, name)
    if name == "coalesce":
        return pc.coalesce(*values)
    result, first_wins = values[0], pc.less if name == "min" else pc.greater
    for value in values[1:]:  # not min_element_wise: it has no kernel for zoned timestamps
        result = pc.if_else(first_wins(result, value), result, value)
    return result


def _rounded(number: Value, digits: int) -> Value:
    """Half to even, as Python's round; integers stay integers when digits are 0 or more."""
    if pa.types.is_integer(number.type) and digits >= 0:
        return number
    return pc.round(number.cast(pa.float64(), safe=False), ndigits=digits, round_mode="half_to_even")


def _text_function(name: str, value: Value) -> Value:
    text = value.cast(pa.string()) if pa.types.is_null(value.type) else value
    if not pa.types.is_string(text.type):
        raise _RefusedError(f"{name} takes text, not {text.type}")
    result = _TEXT[name](text)
    return result.cast(pa.int64()) if name == "length" else result


def _calendar_function(name: str, value: Value) -> Value:
    kind = value.type
    fits = pa.types.is_timestamp(kind) or (pa.types.is_time(kind) if name == "hour" else pa.types.is_date(kind))
    if not fits:
        raise _RefusedError(f"{name} takes {'times' if name == 'hour' else 'dates'} or timestamps, not {kind}")
    return _CALENDAR[name](value).cast(pa.int64())


def _one_type(values: list[Value], word: str) -> list[Value]:
    kinds = {value.type for value in values if not pa.types.is_null(value.type)}
    if len(kinds) == 1:
        kind = kinds.pop()
    elif all(_is_number(kind) for kind in kinds):
        kind = pa.float64() if any(pa.types.is_floating(kind) for kind in kinds) else pa.int64()
    else:
        raise _RefusedError(f"{word} takes values of one type, not {', '.join(sorted(map(str, kinds)))}")
    return [value.cast(kind, safe=False) for value in values]
