"""scikit-learn's two sample photographs → docs/images-ops.webp: what each op makes of them, a box and a mask moved along.

    python benchmarks/image_sheet.py

A test draws the sheet anew and compares it with the file.
"""

import json
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa

from raysynth.draws import Draws
from raysynth.ops.base import Op
from raysynth.parts import find
from raysynth.pictures import Pixels, encoded, image_array, pictures, pixels_of, resized
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema

SHEET = Path(__file__).parents[1] / "docs" / "images-ops.webp"
SCHEMA = Schema(
    (
        Column("photo", "image", IMAGE),
        Column("mask", "image", IMAGE),
        Column("boxes", "json", pa.string()),
        Column("label", "category", pa.string()),
    )
)
ALONG: dict[str, Any] = {"column": "photo", "boxes": "boxes", "masks": ("mask",)}
ALONE: dict[str, Any] = {"column": "photo"}
WITH: dict[str, Any] = {**ALONE, "target": "label"}
OPS: dict[str, dict[str, Any]] = {
    "image.rotate": ALONG,
    "image.flip": {**ALONG, "horizontal": 1.0},
    "image.crop": {**ALONG, "scale": (0.4, 0.6)},
    "image.resize": {**ALONG, "size": (96, 96), "fit": "crop"},
    "image.affine": {**ALONG, "fill": "black", "shear": 15.0},
    "image.perspective": {**ALONG, "fill": "black", "strength": 0.2},
    "image.colour": {**ALONE, "brightness": 0.4, "contrast": 0.4, "saturation": 0.8, "hue": 0.1},
    "image.greyscale": ALONE,
    "image.blur": {**ALONE, "sigma": (1.5, 2.5)},
    "image.noise": {**ALONE, "spread": 60.0},
    "image.erase": {**ALONE, "probability": 1.0},
    "image.jpeg": {**ALONE, "quality": (5, 10)},
    "image.mixup": {**WITH, "alpha": 20.0},
    "image.cutmix": {**WITH, "alpha": 5.0},
}
HEIGHT, WIDTH, NAME, GAP, COLUMNS = 96, 144, 16, 4, 5
ELLIPSE = {
    "china": (0.36, 0.44, 0.26, 0.4),
    "flower": (0.48, 0.53, 0.23, 0.36),
}  # the hall and the flower: middle x, y and half sides
QUALITY = 70


def photo(name: str) -> Pixels:
    """A sample photograph of scikit-learn, 427 × 640 pixels: china or flower. The package itself is slow to import."""
    path = distribution("scikit-learn").locate_file(f"sklearn/datasets/images/{name}.jpg")
    return pixels_of(Path(str(path)).read_bytes())


def rows() -> pa.Table:
    photos = {name: resized(photo(name), HEIGHT, WIDTH) for name in ELLIPSE}
    masks, boxes = [], []
    for name in photos:
        x, y, half_x, half_y = (round(share * side) for share, side in zip(ELLIPSE[name], (WIDTH, HEIGHT) * 2, strict=True))
        masks.append(cv2.ellipse(np.zeros((HEIGHT, WIDTH), np.uint8), (x, y), (half_x, half_y), 0, 0, 360, 255, -1)[..., None])
        boxes.append(json.dumps([[x - half_x, y - half_y, 2 * half_x, 2 * half_y, name]]))
    return pa.table(
        {
            FILE: list(photos),
            ROW: pa.array([0] * len(photos), pa.int64()),
            "photo": image_array([encoded(pixels) for pixels in photos.values()]),
            "mask": image_array([encoded(pixels) for pixels in masks]),
            "boxes": boxes,
            "label": list(photos),
        }
    )


def sheet() -> Pixels:
    """The real pictures first, then what each op makes of them."""
    real, draws = rows(), Draws.range(40, "sheet", 0, 2)
    tiles = [_tile("as they are", real, outlined=True)]
    for name, options in OPS.items():
        op: Op = find("ops", name)(SCHEMA, **options)
        op.settle(op.observe(real))
        tiles.append(_tile(name.removeprefix("image."), op(real, draws), outlined="boxes" in options))
    lines = [np.concatenate(tiles[start : start + COLUMNS], axis=1) for start in range(0, len(tiles), COLUMNS)]
    return np.concatenate(lines, axis=0)


def _tile(name: str, made: pa.Table, *, outlined: bool) -> Pixels:
    tile = np.full((NAME + 2 * (HEIGHT + GAP), WIDTH + GAP, 3), 255, np.uint8)
    cv2.putText(tile, name, (2, NAME - 5), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_8)
    shown = zip(pictures(made["photo"]), pictures(made["mask"]), made["boxes"].to_pylist(), strict=True)
    for place, (pixels, mask, boxes) in enumerate(shown):
        pixels = _outlined(pixels, mask, json.loads(boxes)) if outlined else pixels
        top = NAME + place * (HEIGHT + GAP)
        tile[top : top + pixels.shape[0], : pixels.shape[1]] = pixels
    return tile


def _outlined(pixels: Pixels, mask: Pixels, boxes: list[list[Any]]) -> Pixels:
    """With the rim of the mask in yellow, and the boxes in red."""
    made = pixels.copy()
    rims, _ = cv2.findContours(mask[..., 0].copy(), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(made, rims, -1, (255, 230, 0), 1)
    for x, y, width, height, *_ in boxes:
        cv2.rectangle(made, (round(x), round(y)), (round(x + width) - 1, round(y + height) - 1), (230, 30, 30), 1)
    return made


def written() -> bytes:
    """The sheet as WebP."""
    done, data = cv2.imencode(".webp", cv2.cvtColor(sheet(), cv2.COLOR_RGB2BGR), [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
    if not done:
        raise SystemExit("OpenCV writes no WebP here")
    return data.tobytes()


def main() -> None:
    SHEET.write_bytes(written())
    print(f"{SHEET}: {SHEET.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
