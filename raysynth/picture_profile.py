"""Tables with pictures → mergeable facts that a person should know: formats, sizes, how many repeat another one."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from raysynth.cleaning import MAX_PIXELS, checked_images
from raysynth.column_profile import ColumnProfile, as_images, is_images, observe_column
from raysynth.image_headers import format_of, size_of
from raysynth.schema import FILE, ROW
from raysynth.sources.base import BadRow

COMMON = 5


@dataclass(frozen=True)
class Pictures:
    """Column → what its pictures are, as columns of their own: format, size, height and width, upright."""

    columns: Mapping[str, Mapping[str, ColumnProfile]] = field(default_factory=dict[str, Mapping[str, ColumnProfile]])

    @staticmethod
    def observe(table: pa.Table) -> "tuple[Pictures, list[BadRow]]":
        """A table as read → what its pictures are, each of which is decoded, and those that cannot be kept."""
        seen: dict[str, Mapping[str, ColumnProfile]] = {}
        bad: list[BadRow] = []
        for name in table.column_names:
            column = table.column(name)
            if not is_images(column):
                continue
            kept, wrong = checked_images(column, MAX_PIXELS)
            seen[name] = _facts(as_images(column), kept)
            files, rows = table.column(FILE), table.column(ROW)
            bad += [BadRow(str(files[at]), int(rows[at].as_py()), f"column '{name}': {reason}", "") for at, reason in wrong.items()]
        return Pictures(seen), bad

    def merge(self, other: "Pictures") -> "Pictures":
        merged = dict(self.columns)
        for name, facts in other.columns.items():
            known = merged.get(name)
            merged[name] = facts if known is None else {key: known[key].merge(one) for key, one in facts.items()}
        return Pictures(merged)

    def to_json(self, profiles: Mapping[str, ColumnProfile]) -> dict[str, Any]:
        """`profiles`: of the table's columns, which know the pictures by their content."""
        return {
            name: {
                "formats": dict(facts["format"].values.common(COMMON)),
                "sizes": [{"size": size, "count": count} for size, count in facts["size"].values.common(COMMON)],
                "sizes_distinct": facts["size"].values.distinct,
                **{side: _spread(facts[side]) for side in ("height", "width")},
                "repeated": profiles[name].present - profiles[name].values.distinct,
            }
            for name, facts in self.columns.items()
        }


def _facts(read: pa.Array, kept: pa.Array) -> dict[str, ColumnProfile]:
    """(rows,) pictures as read, and as they are kept → format, size, height, width of those that are kept."""
    data = [(before, after) for before, after in zip(_bytes(read), _bytes(kept), strict=True) if after is not None]
    sizes = [size_of(after) or (0, 0) for _, after in data]
    columns = {
        "format": pa.array([format_of(before or b"") for before, _ in data], pa.string()),
        "size": pa.array([f"{width} × {height}" for height, width in sizes], pa.string()),
        "height": pa.array([height for height, _ in sizes], pa.int64()),
        "width": pa.array([width for _, width in sizes], pa.int64()),
    }
    return {
        name: observe_column(name, ("", place), pa.chunked_array([column]), ())
        for place, (name, column) in enumerate(columns.items())
    }


def _bytes(images: Any) -> list[bytes | None]:
    return [
        data if known else None
        for known, data in zip(images.is_valid().to_pylist(), images.field("bytes").to_pylist(), strict=True)
    ]


def _spread(column: ColumnProfile) -> dict[str, int] | None:
    """Least, median (of the values that are kept) and most; None where there is none."""
    if column.minimum is None or column.maximum is None:
        return None
    values = np.array([int(text) for text in column.values.texts])
    order = np.argsort(values)
    middle = np.searchsorted(np.cumsum(column.values.counts[order]), column.values.counts.sum() / 2)
    return {"least": int(column.minimum), "median": int(values[order][middle]), "most": int(column.maximum)}
