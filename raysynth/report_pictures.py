"""Real, augmented and synthetic rows with columns of images → contact sheets for a page: some pictures of each label side by side, and under
each synthetic one how far its nearest real picture is.

Unless asked for, no real picture leaves here, and no augmented one, which is a real one in other clothes.
"""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from raysynth.features import codes, levels, may_label
from raysynth.image_frames import Frame, image_columns, pixels_in, squared
from raysynth.schema import Schema

if TYPE_CHECKING:
    from raysynth.pictures import Pixels

SHOWN = 10
MOST_LABELS = 20
MOST_CHARACTERS = 2_000_000  # of all sheets of a page
_SIDES = (64, 48, 32, 24, 16)  # of a picture on a sheet: the first that keeps the page small enough
_IN_CELLS = 32
_COMPARED = 5000  # real pictures
_COMPARED_SIDE = 16
_GAP = 2


@dataclass(frozen=True)
class _Group:
    """Pictures of one label: side → at most SHOWN of them; `nearest`: of each synthetic one the nearest real picture, and how far it is."""

    label: str | None
    sides: "Mapping[str, Sequence[Pixels]]"
    nearest: "Sequence[Pixels]"
    distances: Sequence[float]


def contact_sheets(
    schema: Schema, sides: Mapping[str, pa.Table | None], target: str | None, *, shows_real: bool
) -> list[dict[str, Any]]:
    """Of each column of images {name, compared, groups}; a group is {label, strips, distances}: label None where pictures have none, a
    strip {what, count, uri} of SHOWN places, and of each synthetic picture the distance to the nearest of the `compared` real ones, from 0,
    equal, to 1, black against white. `sides`: real, augmented (or None) and synthetic rows."""
    columns = image_columns(schema)
    label = target if target is not None and target in schema and may_label(schema[target]) else None
    found = [(name, *_column(name, sides, label)) for name in columns]
    return [
        {"name": name, "compared": compared, "groups": _drawn(groups, shows_real, MOST_CHARACTERS // len(columns))}
        for name, compared, groups in found
        if groups
    ]


def cell_pictures(column: pa.ChunkedArray) -> list[dict[str, str] | None]:
    """{uri, alt} of each picture, small; None for a null."""
    from raysynth.pictures import within  # a table needs none of it

    found = pixels_in(column)
    return [
        None if pixels is None else {"uri": _uri(within(pixels, _IN_CELLS)), "alt": f"{pixels.shape[1]} × {pixels.shape[0]}"}
        for pixels in found
    ]


def _column(name: str, sides: Mapping[str, pa.Table | None], label: str | None) -> tuple[int, list[_Group]]:
    """How many real pictures were compared, and the groups: the most frequent labels in their order."""
    rows = {side: table for side, table in sides.items() if table is not None}
    known = sorted(levels([rows["synthetic"]], label)[:MOST_LABELS], key=_order) if label is not None else []
    pictures = {side: _of_labels(table.slice(0, _COMPARED), name, label, known) for side, table in rows.items()}
    real = [pixels for of_label in pictures["real"].values() for pixels in of_label]
    made = {number: of_label[:SHOWN] for number, of_label in pictures["synthetic"].items() if number < max(1, len(known))}
    frame = Frame.around([pixels for of_label in made.values() for pixels in of_label], real, _COMPARED_SIDE)
    points = frame.points(real)
    groups: list[_Group] = []
    for number in sorted(made):
        at, distances = _nearest(frame, points, made[number])
        shown = {side: of_label.get(number, [])[:SHOWN] for side, of_label in pictures.items()}
        groups.append(_Group(known[number] if known else None, shown, [real[place] for place in at], distances))
    return len(real), groups


def _order(label: str) -> tuple[float, str]:
    """Whole numbers by their size, before texts."""
    return (float(label) if label.removeprefix("-").isdecimal() else float("inf"), label)


def _of_labels(rows: pa.Table, name: str, label: str | None, known: Sequence[str]) -> "dict[int, list[Pixels]]":
    """Place of the label among the known (their number: another; 0, where there are no labels) → its pictures."""
    found = pixels_in(rows.column(name))
    places = codes(rows.column(label), known) if label is not None and known else np.zeros(len(found), np.int64)
    groups: dict[int, list[Pixels]] = {}
    for place, pixels in zip(places.tolist(), found, strict=True):
        if pixels is not None:
            groups.setdefault(place if place >= 0 else len(known), []).append(pixels)
    return groups


def _nearest(frame: Frame, real: NDArray[np.float32], made: "Sequence[Pixels]") -> tuple[list[int], list[float]]:
    if not len(real) or not made:
        return [], []
    squares = squared(frame.points(made), real)
    at = squares.argmin(axis=1)
    distances = np.sqrt(squares[np.arange(len(at)), at] / real.shape[1]) / 255
    return at.tolist(), [round(distance, 4) for distance in distances.tolist()]


def _drawn(groups: Sequence[_Group], shows_real: bool, most: int) -> list[dict[str, Any]]:
    """As large as keeps all of them below so many characters."""
    drawn: list[dict[str, Any]] = []
    for side in _SIDES:
        drawn = [_sheet(group, shows_real, side) for group in groups]
        if sum(len(strip["uri"]) for group in drawn for strip in group["strips"]) <= most:
            break
    return drawn


def _sheet(group: _Group, shows_real: bool, side: int) -> dict[str, Any]:
    rows = dict(group.sides) if shows_real else {"synthetic": group.sides["synthetic"]}
    if shows_real:
        rows["nearest real"] = group.nearest
    strips = [{"what": what, "count": len(shown), "uri": _uri(_strip(shown, side))} for what, shown in rows.items() if shown]
    return {"label": group.label, "strips": strips, "distances": group.distances}


def _strip(shown: "Sequence[Pixels]", side: int) -> NDArray[np.uint8]:
    """(H, W, 4) of SHOWN places side by side, what is between and behind the pictures is see-through."""
    from raysynth.pictures import in_channels, within

    small = [in_channels(within(pixels, side), 3) for pixels in shown]
    height, width = (max(pixels.shape[axis] for pixels in small) for axis in (0, 1))
    strip = np.zeros((height, SHOWN * (width + _GAP), 4), np.uint8)
    for place, pixels in enumerate(small):
        top = (height - pixels.shape[0]) // 2
        left = place * (width + _GAP) + (width - pixels.shape[1]) // 2
        cell = strip[top : top + pixels.shape[0], left : left + pixels.shape[1]]
        cell[..., :3], cell[..., 3] = pixels, 255
    return strip


def _uri(pixels: NDArray[np.uint8]) -> str:
    """As PNG."""
    import cv2

    order = {3: cv2.COLOR_RGB2BGR, 4: cv2.COLOR_RGBA2BGRA}
    shown = cv2.cvtColor(pixels, order[pixels.shape[2]]) if pixels.shape[2] in order else pixels
    _, data = cv2.imencode(".png", shown, [cv2.IMWRITE_PNG_COMPRESSION, 9])
    return f"data:image/png;base64,{b64encode(data.tobytes()).decode()}"
