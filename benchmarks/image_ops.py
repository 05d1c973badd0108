"""Nothing but scikit-learn's sample photographs → what augmenting pictures costs, beside kornia, albumentations and a bare opencv loop.

    pip install -r benchmarks/image-peers.txt
    python benchmarks/image_ops.py [ops] [stage] [memory]

One thread each, CPU-seconds, ratios of one run. Ops: rotate (15 degrees, corners black), flip, crop (0.7 to 1 of the area, back to the size)
and colour jitter on pictures of 224 px that are decoded already: ours as the stage calls them, kornia on float tensors in batches of 32,
albumentations picture by picture. Stage: augment, of Parquet with JPEGs on S3 (`rclone serve s3`, not counted) at two sizes,
the difference being what the pictures cost, start-up aside; the bare loop decodes local files, does the four with opencv, encodes and writes
Parquet. Memory: the private memory of a worker that augments so many small pictures. A run writes its lines into docs/benchmarks.md.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from image_sheet import photo
from quality import write_into_docs
from rates import rate
from speed import watch

from raysynth.draws import Draws
from raysynth.ops._then import Then
from raysynth.ops.base import Op
from raysynth.parts import find
from raysynth.pictures import Pixels, encoded, image_array, packed, resized
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "integration"))

from s3_servers import environment, rclone

SIDE, BATCH, SEED = 224, 32, 7
DISTINCT = 2000  # pictures, of which many rows are made
SCHEMA = Schema((Column("photo", "image", IMAGE),))
DEGREES, JITTER, HUE, AREA = 15.0, 0.2, 0.02, (0.7, 1.0)
STEPS = "then: [image.flip, image.crop, image.colour]"
RECIPE = """
name: pictures
source: s3://bucket/{folder}/*.parquet
run: s3://bucket/runs/{folder}
prepare: {{holdout: 0, validation: 0, max_bad_rows: 0}}
augment: [{{use: image.rotate, {steps}}}]
generate: {{workers: 1}}
"""
STAGE = """
import sys
from raysynth.cluster.session import one_session, pin_cpu
pin_cpu()
from raysynth.recipe_files import load_recipe
from raysynth.runs import Run
from raysynth.stages import augment, prepare
recipe = load_recipe(sys.argv[1])
run = Run(recipe.run)
with one_session():
    prepared = prepare.run(recipe, run, learns=False)
    if len(sys.argv) == 2:
        augment.run(recipe, run, prepared)
"""


@cache
def cutting() -> tuple[Pixels, ...]:
    return tuple(photo(name) for name in ("china", "flower"))


def picture(number: int, side: int) -> Pixels:
    """A square cut out of one of the two photographs, at a size and place of its own."""
    noise = np.random.default_rng([SEED, number])
    whole = cutting()[number % 2]
    width = int(noise.integers(160, 420))
    top, left = (int(noise.integers(0, length - width + 1)) for length in whole.shape[:2])
    return resized(np.ascontiguousarray(whole[top : top + width, left : left + width]), side, side)


# --- the ops alone


def ops() -> list[str]:
    pixels = [picture(number, SIDE) for number in range(2 * BATCH)]
    found = {"raysynth": rate(ours(pixels)), "albumentations": rate(by_albumentations(pixels)), "kornia": rate(by_kornia(pixels))}
    return [
        "| rotate + flip + crop + jitter at 224 px | images per CPU-s | × kornia |",
        "| --- | --- | --- |",
        *(f"| {name} | {one:,.0f} | {one / found['kornia']:.2f} |" for name, one in found.items()),
    ]


def ours(pixels: list[Pixels]) -> Callable[[], int]:
    made: list[Op] = [
        find("ops", "image.rotate")(SCHEMA, degrees=DEGREES, fill="black"),
        find("ops", "image.flip")(SCHEMA),
        find("ops", "image.crop")(SCHEMA, scale=AREA),
        find("ops", "image.colour")(SCHEMA, brightness=JITTER, contrast=JITTER, saturation=JITTER, hue=HUE),
    ]
    chain, count = Then(made), len(pixels)
    columns: dict[str, Any] = {FILE: ["a"] * count, ROW: pa.array(range(count), pa.int64())}
    rows = pa.table({**columns, "photo": image_array([packed(one, b"") for one in pixels])})
    draws = Draws.range(SEED, "augment-0-0", 0, count)
    return lambda: sum(chain(rows, draws).num_rows for _ in range(5))


def by_albumentations(pixels: list[Pixels]) -> Callable[[], int]:
    import albumentations as album

    chain = album.Compose(
        [
            album.Rotate(limit=DEGREES, p=1),
            album.HorizontalFlip(p=0.5),
            album.RandomResizedCrop(size=(SIDE, SIDE), scale=AREA, p=1),
            album.ColorJitter(
                brightness=(1 - JITTER, 1 + JITTER),
                contrast=(1 - JITTER, 1 + JITTER),
                saturation=(1 - JITTER, 1 + JITTER),
                hue=(-HUE, HUE),
                p=1,
            ),
        ]
    )
    return lambda: sum(len(chain(image=one)["image"]) // SIDE for one in pixels for _ in range(2))


def by_kornia(pixels: list[Pixels]) -> Callable[[], int]:
    import kornia.augmentation as kornia
    import torch

    torch.set_num_threads(1)
    chain = kornia.AugmentationSequential(
        kornia.RandomRotation(DEGREES, p=1.0),
        kornia.RandomHorizontalFlip(p=0.5),
        kornia.RandomResizedCrop((SIDE, SIDE), scale=AREA, p=1.0),
        kornia.ColorJitter(JITTER, JITTER, JITTER, HUE, p=1.0),
        data_keys=["input"],
    )
    whole = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float().div(255).contiguous()

    def work() -> int:
        with torch.inference_mode():
            return sum(len(chain(batch)) for batch in whole.split(BATCH))

    return work


# --- the stage


@contextmanager
def served(sizes: tuple[int, int], side: int, *, rows: int) -> Any:
    """A bucket on this machine with so many pictures in `of-SIZE`: the folder around it."""
    with tempfile.TemporaryDirectory() as name:
        for count in sizes:
            lay(Path(name) / "s3" / "bucket" / f"of-{count}", count, side, rows=rows)
        with rclone(Path(name) / "s3") as url:
            os.environ.update(environment(url))
            yield Path(name)


def lay(folder: Path, count: int, side: int, *, rows: int) -> None:
    """Parquet files of so many JPEGs, all told; after DISTINCT ones they come again, each under a number of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    known = jpegs(side)
    for start in range(0, count, rows):
        some = range(start, min(start + rows, count))
        table = pa.table({"number": list(some), "photo": image_array([known[number % len(known)] for number in some])})
        pq.write_table(table, folder / f"{start // rows:04d}.parquet", compression="none")


@cache
def jpegs(side: int) -> list[bytes]:
    return [encoded(picture(number, side), "jpeg") for number in range(DISTINCT)]


def augmented(scratch: Path, folder: str, steps: str = STEPS) -> Any:
    """What a worker and all processes spent on `augment` alone, prepare being done."""
    recipe = scratch / f"{folder}.yaml"
    recipe.write_text(RECIPE.format(folder=folder, steps=steps))
    command = [sys.executable, "-c", STAGE, str(recipe)]
    watch([*command, "prepare"])
    return watch(command)


def stage(sizes: tuple[int, int] = (1000, 9000)) -> list[str]:
    few, many = sizes
    with served(sizes, SIDE, rows=500) as scratch:
        files = scratch / "files"
        files.mkdir()
        for number in range(many - few):
            (files / f"{number:05d}.jpg").write_bytes(jpegs(SIDE)[number % DISTINCT])
        before = _seconds(lambda: bare_loop(files, scratch / "bare"))
        costs = [sum(augmented(scratch, f"of-{count}").cpu.values()) for count in sizes]
        bare = (
            before + _seconds(lambda: bare_loop(files, scratch / "bare"))
        ) / 2  # a machine may be busier at one time than another
        extra, count = costs[1] - costs[0], many - few
    return [
        f"The augment stage from S3 and back (decode, rotate, flip, crop, jitter, encode, Parquet) at 224 px: "
        f"{extra / bare:.2f} × the CPU-seconds "
        f"of a bare opencv loop over local files ({1000 * extra / count:.2f} ms an image against {1000 * bare / count:.2f} ms; "
        f"{count:,} images, start-up aside)."
    ]


def _seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def bare_loop(files: Path, out: Path) -> None:
    """The same four with nothing around them."""
    noise, kept = np.random.default_rng(SEED), list[bytes]()
    out.mkdir(exist_ok=True)
    paths = sorted(files.iterdir())
    for number, path in enumerate(paths, start=1):
        pixels = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED | cv2.IMREAD_IGNORE_ORIENTATION)
        height, width = pixels.shape[:2]
        turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), float(noise.uniform(-DEGREES, DEGREES)), 1.0)
        pixels = cv2.warpAffine(pixels, turn, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        if noise.uniform() < 0.5:
            pixels = cv2.flip(pixels, 1)
        part = float(np.sqrt(noise.uniform(*AREA)))
        rows, columns = round(part * height), round(part * width)
        top, left = int(noise.integers(0, height - rows + 1)), int(noise.integers(0, width - columns + 1))
        pixels = cv2.resize(pixels[top : top + rows, left : left + columns], (width, height), interpolation=cv2.INTER_CUBIC)
        brightness, contrast, saturation = noise.uniform(1 - JITTER, 1 + JITTER, 3)
        grey = np.array([0.114, 0.587, 0.299])
        matrix = contrast * brightness * (saturation * np.eye(3) + (1 - saturation) * grey)
        offset = (1 - contrast) * brightness * float(grey @ cv2.mean(pixels)[:3])
        pixels = cv2.transform(pixels, np.column_stack([matrix, np.full(3, offset)]))
        kept.append(cv2.imencode(".jpeg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes())
        if len(kept) == 500 or number == len(paths):
            pq.write_table(pa.table({"photo": kept}), out / f"{number:05d}.parquet", compression="none", use_dictionary=False)
            kept.clear()


# --- memory


def memory(sizes: tuple[int, int] = (10_000, 100_000), side: int = 64) -> list[str]:
    with served(sizes, side, rows=5000) as scratch:
        peaks = [augmented(scratch, f"of-{count}").worker_bytes for count in sizes]
    few, many = sizes
    return [
        f"A worker that augments {many:,} pictures of {side} px holds {peaks[1] / peaks[0]:.2f} × what it holds for {few:,} "
        f"({peaks[0] >> 20} → {peaks[1] >> 20} MiB)."
    ]


def main() -> None:
    parts = {"ops": ops, "stage": stage, "memory": memory}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", help=", ".join(parts))
    asked = parser.parse_args().parts
    cv2.setNumThreads(1)
    lines: list[str] = []
    for name in asked or parts:
        found = parts[name]()
        print(*found, sep="\n", flush=True)
        lines += [*found, ""]
    if not asked:
        write_into_docs("image_ops", lines[:-1])


if __name__ == "__main__":
    main()
