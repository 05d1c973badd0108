"""Tables as read → mergeable statistics of a data set; from those its schema, and an audit of how it suits synthesis."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from typing import Any, cast

import pyarrow as pa

from raysynth.cells import ISO, NULL_TOKENS, ORDERS, is_text
from raysynth.cleaning import flat_ids
from raysynth.column_profile import ColumnProfile, observe_column
from raysynth.errors import DataError, RecipeError
from raysynth.schema import FILE, IMAGE, ROW, TURNS, Column, Kind, Schema, arrow_type

_PERSONAL_NAMES = (
    r"(?i)(^|[_ .-])(e?mail|phone|mobile|ssn|passport|(first|last|full|sur)_?name|address|birth(day|_?date)|dob|iban)([_ .-]|$)"
)
_ID_NAMES = r"(?i)(^|[_ .-])(id|ids|uuid|guid|key|nr|no|num|number|index|idx|code)$|^(id|uuid|guid)([_ .-]|$)|^Unnamed|^column_1$"
_ID_CAMEL = r"[a-z0-9](Id|ID|Key|No|Nr)$"
# The letters of scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Chinese and Japanese.
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u2e80-\u2fdf\u3005-\u3007\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"
)
_SAMPLE = 1000  # values of lowest hash: an even sample of the distinct ones


@dataclass(frozen=True)
class Profile:
    """What was seen of a data set: rows, files and columns. `Profile()` has seen nothing."""

    rows: int = 0
    columns: Mapping[str, ColumnProfile] = field(default_factory=dict[str, ColumnProfile])

    @staticmethod
    def observe(table: pa.Table, null_tokens: Sequence[str] = NULL_TOKENS) -> "Profile":
        """A table as a source reads it, `_file` and `_row` first."""
        files = [str(name) for name in flat_ids(table.column(FILE)).dictionary.to_pylist()]
        names = [name for name in table.column_names if name not in (FILE, ROW)]
        seen = {
            name: observe_column(name, (min(files, default=""), place), table.column(name), null_tokens)
            for place, name in enumerate(names)
        }
        return Profile(table.num_rows, seen)

    def merge(self, other: "Profile") -> "Profile":
        merged = dict(self.columns)
        for name, column in other.columns.items():
            merged[name] = merged[name].merge(column) if name in merged else column
        return Profile(self.rows + other.rows, merged)

    @property
    def ordered(self) -> list[ColumnProfile]:
        """The columns as the first file has them, then those that only later files have."""
        return sorted(self.columns.values(), key=lambda column: (column.place, column.name))

    def missing(self, column: ColumnProfile) -> int:
        """Nulls and rows of files without the column."""
        return self.rows - column.present

    def to_json(self) -> dict[str, Any]:
        return {"rows": self.rows, "columns": [column.to_json() for column in self.ordered]}

    @staticmethod
    def from_json(raw: Mapping[str, Any]) -> "Profile":
        columns = [ColumnProfile.from_json(column) for column in raw["columns"]]
        return Profile(int(raw["rows"]), {column.name: column for column in columns})


def infer_schema(profile: Profile, overrides: Mapping[str, Kind] | None = None) -> Schema:
    """Each column's kind and Arrow type. DataError where files disagree; RecipeError where an override names no column."""
    kinds: Mapping[str, Kind] = overrides or {}
    for name in kinds:
        if name not in profile.columns:
            near = get_close_matches(name, profile.columns, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise RecipeError(f"schema.columns.{name}: no such column.{hint} Columns: {', '.join(profile.columns)}")
    return Schema(tuple(_column(column, profile, kinds.get(column.name)) for column in profile.ordered))


def date_formats(profile: Profile, schema: Schema) -> dict[str, str]:
    """Column → the order its dates are written in (`D/M/Y`), for `clean`; ISO ones are left out."""
    orders = {
        column.name: _best_order(profile.columns[column.name], column.kind)
        for column in schema
        if column.kind in ("date", "datetime") and column.name in profile.columns
    }
    return {name: order for name, order in orders.items() if order != ISO}


def is_date_ambiguous(column: ColumnProfile) -> bool:
    """Every value reads as day-month-year and as month-day-year alike: day first is taken."""
    return any(
        column.parses.get(f"{kind} {day}", 0) == column.parses.get(f"{kind} {month}", 0) == column.present > 0
        for kind in ("date", "datetime")
        for day, month in (("D/M/Y", "M/D/Y"), ("D-M-Y", "M-D-Y"))
    )


def looks_like_id(column: ColumnProfile) -> bool:
    """No value twice, and a name such as id, order_no or customerID, or text values that are UUIDs or single long words."""
    if column.present < 20 or not column.values.unique:
        return False
    named = bool(re.search(_ID_NAMES, column.name) or re.search(_ID_CAMEL, column.name))
    words = (
        any(is_text(type) for type in _types(column)) and column.spaces == 0 and column.present >= 50 and not _is_numeric(column)
    )
    return named or words or column.share("uuid") == 1.0


def _is_numeric(column: ColumnProfile) -> bool:
    return column.all("number") or any(pa.types.is_floating(type) or pa.types.is_decimal(type) for type in _types(column))


def _column(column: ColumnProfile, profile: Profile, override: Kind | None) -> Column:
    if "image" in column.types:
        return _image(column, profile, override)
    if "bytes" in column.types:
        raise DataError(
            f"column '{column.name}' of '{column.types['bytes']}': it holds bytes that do not begin as a PNG, JPEG or WebP, and tables keep "
            "no others. Leave it out of the input"
        )
    type = _promoted(column, lenient=override is not None)
    nullable = profile.missing(column) > 0
    if override == "turns" or (override is None and _is_turns(column)):
        return Column(column.name, "turns", TURNS, nullable or column.share("empty list") > 0)
    if override == "image":
        raise DataError(
            f"schema.columns.{column.name}.kind: no value of '{column.name}' is an image. Images come as bytes in Parquet, or as files "
            "by source: {use: images}"
        )
    if override is not None:
        return Column(column.name, override, _type_of_kind(override, column, type), nullable)
    kind, type = _of_text(column) if is_text(type) else _of_type(column, type)
    if kind in ("integer", "category") and looks_like_id(column):
        kind = "id"
    return Column(column.name, kind, type, nullable)


def _image(column: ColumnProfile, profile: Profile, override: Kind | None) -> Column:
    others = {kind: path for kind, path in column.types.items() if kind not in ("image", "bytes", "null")}
    if override not in (None, "image") or others:
        what = f"'{next(iter(others.values()))}' has {next(iter(others))} there" if others else f"the recipe says {override}"
        raise DataError(f"column '{column.name}': it holds images, and {what}. Write one kind of thing in a column")
    return Column(column.name, "image", IMAGE, profile.missing(column) > 0)


def _is_turns(column: ColumnProfile) -> bool:
    """Lists whose every element says who speaks, and what. Bare lists of texts may be anything: there the recipe must say so."""
    return column.all("turns", "empty list") and column.share("turns") > 0


def _types(column: ColumnProfile) -> list[pa.DataType]:
    return [_type(name) for name in column.types]


def _type(name: str) -> pa.DataType:
    return {"nested": pa.string(), "image": IMAGE}.get(name) or arrow_type(name)


def _promoted(column: ColumnProfile, lenient: bool) -> pa.DataType:
    """The one type that holds those of all files; DataError names the column and two files that disagree."""
    found = [(name, path, _type(name)) for name, path in column.types.items() if name != "null"]
    if not found:
        return pa.string()
    schemas = [pa.schema([pa.field("x", type)]) for _, _, type in found]
    try:
        return reduce(lambda a, b: pa.unify_schemas([a, b], promote_options="permissive"), schemas).field("x").type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        if lenient:
            return pa.string()
        told = ", ".join(f"{name} in '{path}'" for name, path, _ in found)
        raise DataError(
            f"column '{column.name}': files disagree on its type ({told}). Set schema.columns.{column.name}.kind, or mend a file"
        ) from None


def _of_type(column: ColumnProfile, type: pa.DataType) -> tuple[Kind, pa.DataType]:
    is_type = pa.types
    if is_type.is_boolean(type):
        return "boolean", type
    if is_type.is_integer(type):
        return "integer", type
    if is_type.is_floating(type):
        return "number", type if type != pa.float16() else pa.float32()
    if is_type.is_decimal(type):
        return "number", type
    if is_type.is_date(type):
        return "date", pa.date32()
    for kind, test in (("time", is_type.is_time), ("datetime", is_type.is_timestamp), ("duration", is_type.is_duration)):
        if test(type):
            return cast("Kind", kind), type
    raise DataError(
        f"column '{column.name}': raysynth keeps no column of type {type}. Leave it out of the input, or write it as text"
    )


def _of_text(column: ColumnProfile) -> tuple[Kind, pa.DataType]:
    if column.all("boolean"):
        return "boolean", pa.bool_()
    if column.all("integer"):
        return "integer", pa.int64()
    if column.all("number"):
        return "number", pa.float64()
    if column.all("time"):
        return "time", pa.time64("us")
    if column.all(f"date {_best_order(column, 'date')}"):
        return "date", pa.date32()
    order = _best_order(column, "datetime")
    if column.all(f"datetime {order}") or column.all(f"datetime {order} zoned"):
        return "datetime", _timestamp(column)
    if "nested" in column.types or column.all("json"):
        return "json", pa.string()
    return ("text" if _is_prose(column) else "category"), pa.string()


def _is_prose(column: ColumnProfile) -> bool:
    """Half of the values distinct, of 60 characters on average, of 25 in five pieces, or of five words; or three quarters distinct, of
    three words."""
    if column.present < 20 or column.values.distinct < column.present / 2:
        return False
    length = column.characters / column.present
    if length >= 60 or (length >= 25 and column.spaces / column.present >= 4):
        return True
    words = _words(column.values.texts[:_SAMPLE])
    return words >= 5 or (words >= 3 and column.values.distinct >= column.present * 3 / 4)


def _words(texts: Sequence[str]) -> float:
    """Words in a text, on average; 0 where less than three fifths of its pieces are words, such as in codes and measures.

    A word is a piece between spaces of which at least half are letters, or two letters of a script without spaces.
    """
    words, pieces = 0.0, 0.0
    for text in texts:
        spaced, unspaced = _UNSPACED.subn(" ", text)
        found = spaced.split()
        words += unspaced / 2 + sum(2 * sum(map(str.isalpha, piece)) >= len(piece) for piece in found)
        pieces += unspaced / 2 + len(found)
    return words / len(texts) if texts and words >= 0.6 * pieces else 0.0


def _best_order(column: ColumnProfile, kind: Kind) -> str:
    def parsed(order: str) -> int:
        return column.parses.get(f"{kind} {order}", 0) + column.parses.get(f"{kind} {order} zoned", 0)

    return max(ORDERS, key=parsed)  # the first of equals: day before month


def _timestamp(column: ColumnProfile) -> pa.DataType:
    if not any(name.endswith(" zoned") for name in column.parses):
        return pa.timestamp("us")
    offsets = column.zones
    if len(offsets) != 1 or offsets[0] == 0:
        return pa.timestamp("us", tz="UTC")
    minutes = offsets[0]
    return pa.timestamp("us", tz=f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}")


def _type_of_kind(kind: Kind, column: ColumnProfile, found: pa.DataType) -> pa.DataType:
    """The type that an override asks for: what the files have where it fits, else the usual one of the kind."""
    is_type = pa.types
    fits: dict[Kind, tuple[Callable[[pa.DataType], bool], pa.DataType]] = {
        "boolean": (is_type.is_boolean, pa.bool_()),
        "integer": (is_type.is_integer, pa.int64()),
        "number": (lambda found: is_type.is_floating(found) or is_type.is_decimal(found), pa.float64()),
        "date": (is_type.is_date, pa.date32()),
        "time": (is_type.is_time, pa.time64("us")),
        "datetime": (is_type.is_timestamp, _timestamp(column)),
        "duration": (is_type.is_duration, pa.duration("us")),
    }
    if kind in fits:
        fit, usual = fits[kind]
        return found if fit(found) and not is_type.is_date64(found) else usual
    if kind in ("text", "json"):
        return pa.string()
    whole = is_type.is_integer(found) or is_type.is_boolean(found)  # category and id keep numbers numbers
    return found if whole else pa.int64() if column.all("integer") else pa.string()


def audit(profile: Profile, *, schema: Schema | None = None, duplicates: int | None = None) -> dict[str, Any]:
    """What a person should know before synthesis: size, columns, `warnings` in sentences, and `fit`: yes, limited or no, and why.

    `duplicates`: how many rows equal an earlier one, where that was counted.
    """
    schema = schema or infer_schema(profile)
    columns = [_audit_column(profile.columns[column.name], column, profile) for column in schema if column.name in profile.columns]
    warnings = [f"column '{column['name']}': {warning}" for column in columns for warning in column["warnings"]]
    if duplicates:
        warnings.append(
            f"{duplicates:,} rows ({duplicates / max(1, profile.rows):.1%}) equal an earlier one; see prepare.drop_duplicates"
        )
    return {
        "rows": profile.rows,
        "columns": columns,
        "cells_missing": sum(column["missing"] for column in columns),
        "duplicates": duplicates,
        "likely_keys": [column["name"] for column in columns if column["likely_key"]],
        "likely_personal": {column["name"]: column["personal"] for column in columns if column["personal"]},
        "warnings": warnings,
        "fit": _fit(profile, schema),
    }


def _audit_column(seen: ColumnProfile, column: Column, profile: Profile) -> dict[str, Any]:
    personal = _personal(seen)
    is_key = seen.present == profile.rows >= 20 and seen.values.unique and column.kind in ("id", "integer", "category")
    plain = not personal and column.kind not in ("id", "text", "turns", "image", "json")
    shown = seen.values.common(5) if plain else []  # a report repeats no one's data
    return {
        "name": column.name,
        "kind": column.kind,
        "type": str(column.type),
        "missing": profile.missing(seen),
        "distinct": seen.values.distinct,
        "distinct_is_exact": seen.values.exact,
        "minimum": None if personal else seen.minimum,
        "maximum": None if personal else seen.maximum,
        "common": [{"value": value, "count": count} for value, count in shown],
        "likely_key": is_key,
        "personal": personal,
        "warnings": [
            *_value_warnings(seen, column, profile),
            *_parse_warnings(seen, column),
            *(
                [f"it looks personal ({', '.join(personal)}); drop it, or let it be an id, which is never learnt"]
                if personal
                else []
            ),
        ],
    }


def _value_warnings(seen: ColumnProfile, column: Column, profile: Profile) -> list[str]:
    warnings: list[str] = []
    missing = profile.missing(seen)
    if missing == profile.rows:
        return ["every value is missing"]
    if missing > profile.rows / 2:
        warnings.append(f"{missing / profile.rows:.0%} of the values are missing")
    if seen.values.exact and seen.values.distinct == 1:
        warnings.append("it is constant")
    elif seen.values.exact and column.kind in ("category", "boolean"):
        _, count = seen.values.common(1)[0]
        if count > 0.95 * seen.present:
            warnings.append(f"imbalance: one value makes {count / seen.present:.1%} of it")
    if column.kind == "category" and seen.values.distinct > max(50, seen.present / 2):
        warnings.append(f"{seen.values.distinct:,} categories in {seen.present:,} values: most are seen once and cannot be learnt")
    return warnings


def _parse_warnings(seen: ColumnProfile, column: Column) -> list[str]:
    if column.kind in ("date", "datetime") and is_date_ambiguous(seen):
        return ["its dates read day first and month first alike; day first is taken"]
    if column.kind == "json" and seen.share("turns") > 0 and seen.share("turns") + seen.share("empty list") >= 0.95:
        bad = seen.present - seen.parses["turns"] - seen.parses.get("empty list", 0)
        return [f"all but {bad:,} of its values are conversations; schema.columns.{seen.name}.kind: turns sets those rows apart"]
    if column.kind not in ("category", "text", "id"):
        return []
    dated = (
        f"{kind} {order}{zone}"
        for kind, zones in (("date", ("",)), ("datetime", ("", " zoned")))
        for order in ORDERS
        for zone in zones
    )
    for parser in ("integer", "number", *dated, "time"):
        if 0.95 <= seen.share(parser) < 1.0:
            bad, kind = seen.present - seen.parses[parser], parser.split()[0]
            return [
                f"all but {bad:,} of its values are of kind {kind}; schema.columns.{seen.name}.kind: {kind} sets those rows apart"
            ]
    return []


def _personal(seen: ColumnProfile) -> list[str]:
    """What the values (one in twenty, or for cards half of them) or the name suggest."""
    least = {"e-mail": 0.05, "phone": 0.05, "card": 0.5}  # one number in ten passes the check digit of cards
    by_value = [what for what, share in least.items() if seen.share(what) >= share]
    return by_value or (["by its name"] if re.search(_PERSONAL_NAMES, seen.name) else [])


def _fit(profile: Profile, schema: Schema) -> dict[str, Any]:
    """Does this data suit synthesis, and why."""
    learnt = [column for column in schema.learnt if column.kind not in ("id", "json")]
    if profile.rows < 100 or not learnt:
        why = f"{profile.rows:,} rows are too few to learn from (100 at least)" if learnt else "no column holds anything to learn"
        return {"verdict": "no", "reasons": [why]}
    reasons: list[str] = []
    if profile.rows < 1000:
        reasons.append(
            f"with {profile.rows:,} rows expect coarse statistics, and watch the privacy scores: little data is soon memorised"
        )
    if profile.rows < 10 * len(learnt):
        reasons.append(f"{profile.rows:,} rows for {len(learnt)} columns: fewer than ten rows a column")
    sparse = [column for column in profile.columns.values() if profile.missing(column) > profile.rows / 2]
    if len(sparse) > len(schema) / 2:
        reasons.append("most columns are mostly missing")
    if nested := [column.name for column in schema if column.kind == "json"]:
        reasons.append(f"nested columns ({', '.join(nested)}) need a codec of their own, or are left out")
    verdict = "limited" if reasons else "yes"
    return {"verdict": verdict, "reasons": reasons or [f"{profile.rows:,} rows for {len(learnt)} columns to learn"]}
