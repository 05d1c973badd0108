"""A checked syntax tree and an Arrow table → one value per row; types are checked as they meet.

Integers are int64, other numbers float64 (decimals too). A null in gives a null out (and/or by three-valued logic); a division by zero
and a result out of range (integers: from 2**63 - 512) are null as well.
"""

import ast
from collections.abc import Callable, Sequence
from datetime import time
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from raysynth.grammar import ARITHMETIC, COMPARISONS, RefusedError, is_none
from raysynth.image_headers import size_of
from raysynth.schema import IMAGE

Value: TypeAlias = Any  # pa.Array of one value per row, or pa.Scalar: Arrow's stubs type neither's kernels alike

_TEXT: dict[str, Callable[[Any], Any]] = {"length": pc.utf8_length, "lower": pc.utf8_lower, "upper": pc.utf8_upper}
_CALENDAR: dict[str, Callable[[Any], Any]] = {
    "year": pc.year,
    "month": pc.month,
    "day": pc.day,
    "hour": pc.hour,
    "weekday": pc.day_of_week,
}


_SIDES = ("height", "width")


def repeated(value: Any, rows: int) -> Any:
    return pa.repeat(value, rows)


def value_of(node: ast.expr, table: pa.Table) -> Value:
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
            return pc.invert(_truth(value_of(operand, table), "not"))
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _calculated(ast.Sub, pa.scalar(0, pa.int64()), value_of(operand, table))
        case ast.UnaryOp(operand=operand):
            return _number(value_of(operand, table), "+")
        case ast.BinOp(left=left, op=operation, right=right):
            return _calculated(type(operation), value_of(left, table), value_of(right, table))
        case ast.BoolOp(op=operation, values=values):
            word, combine = ("and", pc.and_kleene) if isinstance(operation, ast.And) else ("or", pc.or_kleene)
            truths = [_truth(value_of(value, table), word) for value in values]
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
        raise RefusedError(f"{word} takes numbers, not {value.type}")
    return value.cast(pa.int64()) if pa.types.is_boolean(value.type) or pa.types.is_null(value.type) else value


def _truth(value: Value, word: str) -> Value:
    if pa.types.is_null(value.type):
        return value.cast(pa.bool_())
    if not pa.types.is_boolean(value.type):
        raise RefusedError(f"{word} takes true or false, not {value.type}")
    return value


def _calculated(operation: type[ast.operator], left: Value, right: Value) -> Value:
    word, compute = ARITHMETIC[operation]
    left, right = _number(left, word), _number(right, word)
    if isinstance(left, pa.Scalar) and isinstance(right, pa.Scalar):
        return _calculated(operation, repeated(left, 1), right)[0]
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
    left = value_of(node.left, table)
    result: Value = None
    for operation, right_node in zip(node.ops, node.comparators, strict=True):
        match operation:
            case ast.In() | ast.NotIn():
                truth = _inside(left, cast("ast.Tuple", right_node).elts, table)
                return pc.invert(truth) if isinstance(operation, ast.NotIn) else truth
            case ast.Is() | ast.Eq() if is_none(right_node):
                truth = pc.is_null(left)
            case ast.IsNot() | ast.NotEq() if is_none(right_node):
                truth = pc.is_valid(left)
            case _:
                right = value_of(right_node, table)
                truth = _compared(type(operation), left, right)
                left = right
        result = truth if result is None else pc.and_kleene(result, truth)
    return result


def _inside(left: Value, elements: list[ast.expr], table: pa.Table) -> Value:
    truths = [pc.is_null(left) if is_none(item) else _compared(ast.Eq, left, value_of(item, table)) for item in elements]
    result = truths[0]
    for truth in truths[1:]:
        result = pc.or_kleene(result, truth)
    return result


def _compared(operation: type[ast.cmpop], left: Value, right: Value) -> Value:
    word, compare = COMPARISONS[operation]
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
    raise RefusedError(f"{word} cannot compare {left.type} with {right.type}")


def _is_moment(kind: pa.DataType) -> bool:
    return pa.types.is_date(kind) or pa.types.is_timestamp(kind)


def _against_text(value: Value, text: Value) -> tuple[Value, Value]:
    kind = value.type
    if pa.types.is_duration(kind):
        raise RefusedError("a duration cannot be compared with text")
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
        raise RefusedError(f"{text.as_py()!r} is no {kind}: write it as 2013-01-31, 17:05 or 2013-01-31 17:05:00") from None


def _call(node: ast.Call, table: pa.Table) -> Value:
    name = cast("ast.Name", node.func).id
    if name == "col":
        return _column(table, str(cast("ast.Constant", node.args[0]).value))
    values = [value_of(argument, table) for argument in node.args]
    first = values[0]
    if name == "isnull":
        return pc.is_null(first)
    if name in _SIDES:
        return _size_function(name, first)
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
        raise RefusedError(f"{name} takes text, not {text.type}")
    result = _TEXT[name](text)
    return result.cast(pa.int64()) if name == "length" else result


def _size_function(name: str, value: Value) -> Value:
    """In pixels, by the headers; null where there is no picture."""
    if value.type != IMAGE:
        raise RefusedError(f"{name} takes images, not {value.type}")
    if isinstance(value, pa.Scalar):
        return pa.scalar(None, pa.int64())
    from raysynth.pictures import views_of  # tables need none of it

    sizes = [size_of(data) if data is not None else None for data in views_of(value)]
    return pa.array([None if size is None else size[_SIDES.index(name)] for size in sizes], pa.int64())


def _calendar_function(name: str, value: Value) -> Value:
    kind = value.type
    fits = pa.types.is_timestamp(kind) or (pa.types.is_time(kind) if name == "hour" else pa.types.is_date(kind))
    if not fits:
        raise RefusedError(f"{name} takes {'times' if name == 'hour' else 'dates'} or timestamps, not {kind}")
    return _CALENDAR[name](value).cast(pa.int64())


def _one_type(values: list[Value], word: str) -> list[Value]:
    kinds = {value.type for value in values if not pa.types.is_null(value.type)}
    if len(kinds) == 1:
        kind = kinds.pop()
    elif all(_is_number(kind) for kind in kinds):
        kind = pa.float64() if any(pa.types.is_floating(kind) for kind in kinds) else pa.int64()
    else:
        raise RefusedError(f"{word} takes values of one type, not {', '.join(sorted(map(str, kinds)))}")
    return [value.cast(kind, safe=False) for value in values]
