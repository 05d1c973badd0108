"""RAYSYNTH_DATA's pictures → how useful, true to their label and unlike the train pictures synthetic ones are, beside real test pictures.

    RAYSYNTH_DATA=../shared/data python benchmarks/images.py [diffusion vae gan few cifar]

The first three train a generator on 8,000 digits of MNIST (a tenth of them split off for early stopping), draw 8,000, and judge them with
the other 2,000: accuracy on these of a small convolutional network that was taught by made digits, beside one that was taught by the real
ones; how often that one finds in a made digit the label that was asked for; and the share of made digits that lie nearer to a train digit
(by pixels) than all but 1 % of the test digits do. `few`: 20 real digits of each class alone, against the same with augmented ones and
those of a small diffusion model, on the test digits, five times. `cifar`: 400 pictures of each class of CIFAR-10, with and without augmented
ones. All networks of one comparison take equally many steps. A run at the defaults writes its lines into docs/benchmarks.md.
"""

import argparse
import gzip
import os
import time
import zipfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from quality import from_docs, options_of, write_into_docs
from torch import Tensor, nn
from torch.nn import functional

from raysynth.codecs.image import Image
from raysynth.draws import Draws
from raysynth.models import Model
from raysynth.ops._then import Then
from raysynth.parts import find
from raysynth.pictures import encoded, image_array, pictures, pixels_of
from raysynth.sampler import Sampler
from raysynth.schema import FILE, IMAGE, ROW, Column, Schema
from raysynth.training import fit, initialise

SCHEMA = Schema((Column("label", "category", pa.string()), Column("picture", "image", IMAGE)))
EPOCHS = {"diffusion": 40, "vae": 40, "gan": 40}
HEAD = (
    "| pictures | generator | accuracy by made / by real | asked = judged (test) | memorised (test) | training CPU-s "
    "| pictures per CPU-s |"
)
SEED, SEEDS = 7, 5
TEST, FEW, COPIES, FEW_EPOCHS = 2_000, 20, 10, 60
CIFAR_TRAIN = 400
STEPS, BATCH = 1_000, 64
CIFAR_STEPS = 5_000  # 80 times each real picture: what augmentation is good for shows once a network knows these by heart
Rows = tuple[NDArray[np.uint8], NDArray[np.int64]]
"""(rows, height, width, channels) pixels and (rows,) labels."""


MOVED = {"column": "picture", "shear": 0.0}
DIGITS: list[tuple[str, dict[str, Any]]] = [
    ("image.affine", {**MOVED, "degrees": 12.0, "scale": 0.12, "shift": 2 / 28, "fill": "black"}),
]
OBJECTS: list[tuple[str, dict[str, Any]]] = [
    ("image.affine", {**MOVED, "degrees": 8.0, "scale": 0.1, "shift": 3 / 32}),
    ("image.flip", {"column": "picture"}),
]
"""What augmentation does: an op and its options, one after the other."""


# --- pictures ------------------------------------------------------------------------------------------------------------------


def folder() -> Path:
    return Path(os.environ["RAYSYNTH_DATA"]) / "image"


def mnist() -> tuple[Rows, Rows]:
    """Train and test digits."""
    pixels = np.frombuffer(gzip.decompress((folder() / "mnist_t10k-images-idx3-ubyte.gz").read_bytes()), np.uint8, offset=16)
    labels = np.frombuffer(gzip.decompress((folder() / "mnist_t10k-labels-idx1-ubyte.gz").read_bytes()), np.uint8, offset=8)
    order = shuffled("test", len(labels))
    rows = pixels.reshape(-1, 28, 28, 1), labels.astype(np.int64)
    return taken(rows, order[TEST:]), taken(rows, order[:TEST])


def cifar() -> tuple[Rows, Rows]:
    """CIFAR_TRAIN pictures of each class, and the others."""
    with zipfile.ZipFile(folder() / "cifar10_6000_jpg.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".jpg"))
        pixels = np.stack([pixels_of(archive.read(name)) for name in names])
    kinds = [Path(name).parent.name for name in names]
    labels = np.array([sorted(set(kinds)).index(kind) for kind in kinds])
    train = some_of_each((pixels, labels), CIFAR_TRAIN, SEED)
    return taken((pixels, labels), train), taken((pixels, labels), np.setdiff1d(np.arange(len(labels)), train))


def shuffled(name: str, rows: int, seed: int = SEED) -> NDArray[np.int64]:
    return np.argsort(Draws.range(seed, name, 0, rows).words("row"), kind="stable")


def some_of_each(rows: Rows, count: int, seed: int) -> NDArray[np.int64]:
    """Which rows: `count` of each label."""
    order = shuffled("some", len(rows[1]), seed)
    return np.concatenate([order[rows[1][order] == label][:count] for label in np.unique(rows[1])])


def taken(rows: Rows, index: NDArray[np.int64]) -> Rows:
    return rows[0][index], rows[1][index]


def joined(*parts: Rows) -> Rows:
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def augmented(rows: Rows, copies: int, steps: list[tuple[str, dict[str, Any]]], seed: int) -> Rows:
    """Each picture so many times, as the steps make it."""
    index = np.tile(np.arange(len(rows[1])), copies)
    chain = Then([find("ops", name)(SCHEMA, **options) for name, options in steps])
    return rows_of(chain(table_of(taken(rows, index)), Draws.range(seed, "augment", 0, len(index))))


# --- what is made of them ------------------------------------------------------------------------------------------------------


def table_of(rows: Rows) -> pa.Table:
    images = image_array([encoded(pixels) for pixels in rows[0]])
    count = len(rows[1])
    labels = pa.array([str(label) for label in rows[1]])
    return pa.table({"label": labels, "picture": images, FILE: ["pictures"] * count, ROW: pa.array(range(count), pa.int64())})


def rows_of(table: pa.Table) -> Rows:
    return np.stack(cast("Any", pictures(table["picture"]))), np.array([int(label) for label in table["label"].to_pylist()])


def learn(rows: Rows, generator: str, epochs: int, options: dict[str, Any], seed: int = SEED) -> tuple[Model, float]:
    """A model of the rows, and the CPU-seconds that it took."""
    start = time.process_time()
    train = table_of(rows)
    held = Draws.range(seed, "validation", 0, train.num_rows).uniform("row") < 0.1
    codec = Image(SCHEMA, seed=seed)
    layout = codec.settle(codec.observe(train.filter(pa.array(~held))))
    made = initialise(lambda: find("generators", generator)(layout, **options), seed)
    batches = codec.encode(train)
    reports = fit(
        made, batches.take(np.flatnonzero(~held)), batches.take(np.flatnonzero(held)), seed=seed, max_epochs=epochs,
        report=lambda report: print("   ", report, f"{time.process_time() - start:.0f} CPU-s", flush=True),
    )  # fmt: skip
    seconds = time.process_time() - start
    print(f"  {generator}: {len(reports)} epochs, {seconds:.0f} CPU-s", flush=True)
    return Model(SCHEMA, {}, codec, made, "", {}), seconds


def draw(model: Model, wanted: int, seed: int = SEED) -> tuple[Rows, float]:
    """So many rows, and how many a CPU-second made."""
    start = time.process_time()
    table = Sampler(model, seed=seed).range(0, wanted)
    return rows_of(table), wanted / (time.process_time() - start)


# --- who judges them -----------------------------------------------------------------------------------------------------------


class Judge:
    """Three layers of convolutions, taught by rows in so many steps, whatever their number."""

    def __init__(self, rows: Rows, seed: int = 0, *, steps: int = STEPS) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = _network(rows[0].shape[1:])
            self._learn(rows, steps)
        self.network.eval()

    def _learn(self, rows: Rows, steps: int) -> None:
        x_BCHW, labels_B = _tensor(rows[0]), torch.from_numpy(rows[1])
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=2e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
        order = torch.cat([torch.randperm(len(labels_B)) for _ in range(-(-steps * BATCH // len(labels_B)))])
        for index in order[: steps * BATCH].split(BATCH):
            loss = functional.cross_entropy(self.network(x_BCHW[index]), labels_B[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()

    @torch.inference_mode()
    def accuracy(self, rows: Rows) -> float:
        found = torch.cat([self.network(x_BCHW).argmax(1) for x_BCHW in _tensor(rows[0]).split(500)])
        return float(np.mean(found.numpy() == rows[1]))


def _tensor(pixels: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _network(shape: tuple[int, ...]) -> nn.Module:
    height, width, channels = shape
    layers: list[nn.Module] = []
    for width_in, width_out in ((channels, 16), (16, 32), (32, 64)):
        layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(64 * (height // 8) * (width // 8), 10))


def nearest(rows: Rows, known: Rows) -> NDArray[np.float64]:
    """(rows,): of each how far the nearest of the known pictures is, by pixels."""
    one, two = (part[0].reshape(len(part[1]), -1).astype(np.float32) for part in (rows, known))
    squares = np.square(two).sum(1)
    found = [np.square(piece).sum(1) + (squares - 2 * piece @ two.T).min(1) for piece in np.array_split(one, len(one) // 500 + 1)]
    return np.sqrt(np.maximum(np.concatenate(found), 0))


def memorised(made: Rows, train: Rows, test: Rows) -> float:
    return float(np.mean(nearest(made, train) < np.quantile(nearest(test, train), 0.01)))


def judge(generator: str, epochs: int, options: dict[str, Any], sheet: str | None) -> str:
    """A line of the table."""
    train, test = mnist()
    model, seconds = learn(train, generator, epochs, options)
    made, rate = draw(model, len(train[1]))
    if sheet:
        show(made, Path(sheet))
    real = Judge(train)
    scores = [f"{Judge(made).accuracy(test):.4f} / {real.accuracy(test):.4f}"]
    scores.append(f"{real.accuracy(made):.4f} ({real.accuracy(test):.4f})")
    scores.append(f"{memorised(made, train, test):.2%} (1.00%)")
    return " | ".join([f"| MNIST | {generator}", *scores, f"{seconds:.0f}", f"{rate:,.0f} |"])


def show(rows: Rows, path: Path) -> None:
    """Ten of each label, a label a line."""
    lines = [np.concatenate(list(rows[0][rows[1] == label][:10]), axis=1) for label in np.unique(rows[1])]
    path.write_bytes(encoded(np.concatenate(lines)))


def few() -> list[str]:
    """FEW real digits of each class alone, against them with augmented and synthetic ones."""
    train, test = mnist()
    scores = {name: np.zeros(SEEDS) for name in ("alone", "augmented", "all")}
    for seed in range(SEEDS):
        real = taken(train, some_of_each(train, FEW, seed))
        more = joined(real, augmented(real, COPIES, DIGITS, seed))
        made = draw(learn(more, "diffusion", FEW_EPOCHS, {}, seed)[0], len(more[1]), seed)[0]
        for name, rows in (("alone", real), ("augmented", more), ("all", joined(more, made))):
            scores[name][seed] = Judge(rows, seed).accuracy(test)
        print(f"  seed {seed}:", *(f"{name} {found[seed]:.4f}" for name, found in scores.items()), flush=True)
    gain, mean = 100 * (scores["all"] - scores["alone"]), {name: found.mean() for name, found in scores.items()}
    half = 2.776 * gain.std(ddof=1) / SEEDS**0.5  # Student's t, 4 degrees of freedom, 95 %
    return [
        f"With {FEW} real digits of each class, real + augmented + synthetic ones reach an accuracy of {mean['all']:.4f} where the real "
        f"ones alone reach {mean['alone']:.4f}: {gain.mean():+.1f} points (95 % interval of the mean {gain.mean() - half:+.1f} to "
        f"{gain.mean() + half:+.1f}; {SEEDS} seeds). Real + augmented digits reach {mean['augmented']:.4f}."
    ]


def objects() -> list[str]:
    """CIFAR-10 with and without augmentation."""
    train, test = cifar()
    scores = {"alone": np.zeros(SEEDS), "augmented": np.zeros(SEEDS)}
    for seed in range(SEEDS):
        for name, rows in (("alone", train), ("augmented", joined(train, augmented(train, COPIES, OBJECTS, seed)))):
            scores[name][seed] = Judge(rows, seed, steps=CIFAR_STEPS).accuracy(test)
        print(f"  seed {seed}:", *(f"{name} {found[seed]:.4f}" for name, found in scores.items()), flush=True)
    gain, mean = 100 * (scores["augmented"] - scores["alone"]), {name: found.mean() for name, found in scores.items()}
    return [
        f"With {CIFAR_TRAIN} pictures of each class of CIFAR-10, real + augmented ones reach an accuracy of {mean['augmented']:.4f} where "
        f"the real ones alone reach {mean['alone']:.4f}: {gain.mean():+.1f} points (from {gain.min():+.1f} to {gain.max():+.1f} over "
        f"{SEEDS} seeds)."
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=[*EPOCHS, "few", "cifar"])
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", nargs="*", default=[], help="options of the generator, name=value")
    parser.add_argument("--sheet", help="a PNG to show ten made digits of each class in")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    lines: dict[str, str] = {}
    for name in [name for name in asked.what if name in EPOCHS]:
        lines[name] = judge(name, asked.epochs or EPOCHS[name], options_of(asked.set), asked.sheet)
        print(HEAD, lines[name], sep="\n", flush=True)
    said = {name: make() for name, make in (("few", few), ("cifar", objects)) if name in asked.what}
    print(*(line for part in said.values() for line in part), sep="\n", flush=True)
    if not (asked.epochs or asked.set):
        before = from_docs("images")
        known = {line.split(" | ")[1]: line for line in before if line.startswith("| MNIST")}
        told = {key: [line for line in before if line.startswith("With ") and has in line] for key, has in TOLD.items()} | said
        table = [HEAD, "|" + " --- |" * (HEAD.count("|") - 1), *(known | lines).values()]
        write_into_docs("images", [*table, *(line for part in told.values() for line in ["", *part])])


TOLD = {"few": "real digits of each class", "cifar": "CIFAR-10"}

if __name__ == "__main__":
    main()
