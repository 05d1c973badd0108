"""RAYSYNTH_DATA's texts → how useful, faithful and unlike the train rows synthetic texts are, beside the ceiling of real hold-out rows.

    RAYSYNTH_DATA=../shared/data python benchmarks/text.py [waimai thucnews banking77 few]

Trains on 80 % of the rows (a tenth of them split off for early stopping), draws as many, and judges them on the other 20 %: TSTR is the
macro-F1 on real test rows of TF-IDF and a linear model trained on synthetic rows, against the same trained on real rows; label fidelity the
share of rows whose label a judge trained on real rows finds in the text, once taught by train rows, as the filter of labels is, and once
by test rows, which nothing that made the rows has seen; copies and 8-grams the shares of texts that are a train text, or
hold eight words in a row as one does; distinct-2 how many of the pairs of words are different. Test rows' figures stand in brackets.
Each model draws twice: as it is, and under the rules that no text is near a train text and that a judge finds its label in it. `few`:
300 real rows of waimai alone, against the same with augmented ones and those of a small language_model, on the test rows, five times. A
run at the defaults writes its lines into docs/benchmarks.md. Speed is text_speed.py's.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from quality import from_docs, write_into_docs
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score

from raysynth.codecs.text import Text
from raysynth.draws import Draws
from raysynth.filter_files import made_filter
from raysynth.filters.base import Filter
from raysynth.models import Model
from raysynth.parts import find
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema
from raysynth.training import fit, initialise
from raysynth.words import folded, ngrams, words


@dataclass(frozen=True)
class Corpus:
    file: str
    text: str
    label: str
    epochs: dict[str, int]
    """Generator → epochs at most; early stopping may end sooner."""


CORPORA = {
    "waimai": Corpus("sentiment/waimai_10k_zh.parquet", "review", "label", {"language_model": 6, "text_vae": 12}),
    "thucnews": Corpus("text/thucnews_headlines_dev_zh.parquet", "title", "label", {"language_model": 6}),
    "banking77": Corpus("dialogue/banking77_en.parquet", "text", "category", {"language_model": 12}),
}
HEAD = (
    "| texts | generator | TSTR / real | ratio | label fidelity (test) | by a judge of test rows (train) | copies (test) | 8-grams (test) "
    "| distinct-2 (real) | training CPU-s | tokens per CPU-s |"
)
SCHEMA = Schema((Column("label", "category", pa.string()), Column("text", "text", pa.string())))
RULES: dict[str, dict[str, Any]] = {
    "text.near_copy": {"column": "text", "words": 4, "most": 0.9},
    "text.label": {"label": "label"},
}
SEED, SEEDS, FEW = 7, 5, 300
FEW_EPOCHS, FEW_OPTIONS = 6, {"width": 64, "layers": 2}
PAIRS = 20_000  # pairs of words that distinct-2 is counted over: it falls with their number


def rows_of(corpus: Corpus) -> tuple[pa.Table, pa.Table]:
    """Train and test rows, 80 and 20 %."""
    read = pq.read_table(Path(os.environ["RAYSYNTH_DATA"]) / corpus.file).select([corpus.text, corpus.label])
    columns = {"label": read[corpus.label].cast(pa.string()), "text": read[corpus.text].cast(pa.string())}
    rows = pa.table({**columns, FILE: pa.array(["texts"] * read.num_rows), ROW: pa.array(range(read.num_rows), pa.int64())})
    uniform = Draws.range(SEED, "test", 0, rows.num_rows).uniform("row")
    return rows.filter(pa.array(uniform >= 0.2)), rows.filter(pa.array(uniform < 0.2))


def learn(train: pa.Table, generator: str, epochs: int, options: dict[str, Any], seed: int = SEED) -> tuple[Model, float]:
    """A model of the rows, and the CPU-seconds that it took."""
    start = time.process_time()
    held = Draws.range(seed, "validation", 0, train.num_rows).uniform("row") < 0.1
    codec = Text(SCHEMA, seed=seed)
    layout = codec.settle(codec.observe(train.filter(pa.array(~held))))
    made = initialise(lambda: find("generators", generator)(layout, **options), seed)
    batch, judged = codec.encode(train.filter(pa.array(~held))), codec.encode(train.filter(pa.array(held)))
    reports = fit(made, batch, judged, seed=seed, max_epochs=epochs, report=lambda report: print("   ", report, flush=True))
    seconds = time.process_time() - start
    print(f"  {generator}: {layout.vocabulary} tokens, {len(reports)} epochs, {seconds:.0f} CPU-s", flush=True)
    return Model(SCHEMA, {}, codec, made, "", {}), seconds


def draw(model: Model, wanted: int, filters: Sequence[Filter] = (), seed: int = SEED) -> tuple[pa.Table, float]:
    """So many rows that the filters let pass, and how many of their tokens a CPU-second made."""
    start = time.process_time()
    rows = Sampler(model, seed=seed, filters=filters).range(0, wanted)
    seconds = time.process_time() - start
    ids = model.codec.encode(rows)["tokens"]
    return rows, int((ids > 0).sum()) / seconds


class Judge:
    """Words and pairs of them, weighed, and a linear model. Chinese is read by characters."""

    def __init__(self, rows: pa.Table) -> None:
        self.terms = TfidfVectorizer(analyzer=_terms, sublinear_tf=True, min_df=1, max_features=200_000)
        self.model = LogisticRegression(C=10, max_iter=300)
        self.model.fit(self.terms.fit_transform(rows["text"].to_pylist()), rows["label"].to_pylist())

    def labels(self, rows: pa.Table) -> list[str]:
        return self.model.predict(self.terms.transform(rows["text"].to_pylist())).tolist()

    def f1(self, rows: pa.Table) -> float:
        return float(f1_score(rows["label"].to_pylist(), self.labels(rows), average="macro"))

    def agreement(self, rows: pa.Table) -> float:
        return float(np.mean([one == other for one, other in zip(self.labels(rows), rows["label"].to_pylist(), strict=True)]))


def _terms(text: str) -> list[str]:
    found = words(text)
    return [*found, *(" ".join(pair) for pair in ngrams(found, 2)), *(" ".join(three) for three in ngrams(found, 3))]


def copies(rows: pa.Table, train: pa.Table) -> tuple[float, float]:
    """Shares of the texts that are a train text, and of those of eight words and more that share eight in a row with one."""
    known = {folded(text) for text in train["text"].to_pylist()}
    runs = {run for text in train["text"].to_pylist() for run in ngrams(words(text), 8)}
    texts = rows["text"].to_pylist()
    found = [list(ngrams(words(text), 8)) for text in texts]
    long = [any(run in runs for run in own) for own in found if own]
    return float(np.mean([folded(text) in known for text in texts])), float(np.mean(long)) if long else 0.0


def distinct(rows: pa.Table) -> float:
    order = np.argsort(Draws.range(SEED, "distinct", 0, rows.num_rows).words("row"))  # files may be sorted by their labels
    pairs = [pair for text in rows["text"].take(pa.array(order)).to_pylist() for pair in ngrams(words(text), 2)][:PAIRS]
    return len(set(pairs)) / len(pairs)


def settled(train: pa.Table) -> list[Filter]:
    """RULES, as generate settles them. The judge in them is of another kind than the one that scores, and learns from the train rows too."""
    filters = [made_filter(f"rules.{n}", use, options, SCHEMA, SEED) for n, (use, options) in enumerate(RULES.items())]
    for one in filters:
        one.settle(one.observe(train) if one.learns else None)
    return filters


def judge(name: str, generator: str, epochs: int, options: dict[str, Any]) -> dict[str, str]:
    """Two lines of the table: as it draws, and under RULES."""
    train, test = rows_of(CORPORA[name])
    model, seconds = learn(train, generator, epochs, options)
    real = Judge(train)
    drawn = {generator: draw(model, train.num_rows), f"{generator}, rules": draw(model, train.num_rows, settled(train))}
    return {f"{name} {one}": line(name, one, *rows, seconds, real, train, test) for one, rows in drawn.items()}


def line(
    name: str, generator: str, made: pa.Table, rate: float, seconds: float, real: "Judge", train: pa.Table, test: pa.Table
) -> str:
    whole, synthetic = real.f1(test), Judge(made).f1(test)
    scores = [f"{synthetic:.3f} / {whole:.3f}", f"{synthetic / whole:.3f}"]
    scores.append(f"{real.agreement(made):.3f} ({real.agreement(test):.3f})")
    other = Judge(test)  # of rows that no filter has seen
    scores.append(f"{other.agreement(made):.3f} ({other.agreement(train):.3f})")
    scores += [f"{mine:.2%} ({theirs:.2%})" for mine, theirs in zip(copies(made, train), copies(test, train), strict=True)]
    scores.append(f"{distinct(made):.3f} ({distinct(train):.3f})")
    for row in made.slice(0, 6).to_pylist():
        print("   ", row, flush=True)
    return " | ".join([f"| {name} | {generator}", *scores, f"{seconds:.0f}", f"{rate:,.0f} |"])


def few() -> list[str]:
    """300 real rows alone, against them with augmented and synthetic ones: macro-F1 on the test rows, five times."""
    train, test = rows_of(CORPORA["waimai"])
    scores = {name: np.zeros(SEEDS) for name in ("alone", "six times", "augmented", "all")}
    for seed in range(SEEDS):
        order = np.argsort(Draws.range(seed, "few", 0, train.num_rows).words("row"))
        for name, rows in few_rows(train.take(order[:FEW]), seed).items():
            scores[name][seed] = Judge(rows).f1(test)
        print(f"  seed {seed}:", *(f"{name} {found[seed]:.3f}" for name, found in scores.items()), flush=True)
    gain, mean = 100 * (scores["all"] - scores["alone"]), {name: found.mean() for name, found in scores.items()}
    half = 2.776 * gain.std(ddof=1) / SEEDS**0.5  # Student's t, 4 degrees of freedom, 95 %
    return [
        f"With {FEW} real reviews of waimai, real + augmented + synthetic rows reach a macro-F1 of {mean['all']:.3f} where the real ones "
        f"alone reach {mean['alone']:.3f}: {gain.mean():+.1f} points (95 % interval of the mean {gain.mean() - half:+.1f} to "
        f"{gain.mean() + half:+.1f}; {SEEDS} seeds). The same 300 rows six times over reach {mean['six times']:.3f}, real + augmented rows "
        f"{mean['augmented']:.3f}."
    ]


def few_rows(rows: pa.Table, seed: int) -> dict[str, pa.Table]:
    """What the judges of `few` learn from, by their names there."""
    changed = [augmented(rows, copy, seed) for copy in range(4)]
    model, _ = learn(pa.concat_tables([rows, *changed]), "language_model", FEW_EPOCHS, FEW_OPTIONS, seed)
    made = agreed(draw(model, 2 * FEW, seed=seed)[0], rows)
    real, more = (pa.concat_tables(tables).select(["label", "text"]) for tables in ([rows], changed))
    return {
        "alone": real,
        "six times": pa.concat_tables([real] * 6),
        "augmented": pa.concat_tables([real, more]),
        "all": pa.concat_tables([real, more, made.select(["label", "text"])]),
    }


def augmented(rows: pa.Table, copy: int, seed: int) -> pa.Table:
    """The rows once through ops that keep the label."""
    draws = Draws.of(seed, f"augment/{copy}", rows[ROW].to_numpy().astype(np.uint64))
    table = str(Path(os.environ["RAYSYNTH_DATA"]) / "knowledge" / "cilin_synonyms_zh.parquet")
    for name, options in (("text.synonyms", {"table": table, "share": 0.3}), ("text.words", {"share": 0.2})):
        rows = find("ops", name)(SCHEMA, **options)(rows, draws)
    return rows


def agreed(made: pa.Table, rows: pa.Table) -> pa.Table:
    """Rows in which a judge trained on the real ones finds the label that was asked for."""
    return made.filter(
        pa.array([one == other for one, other in zip(Judge(rows).labels(made), made["label"].to_pylist(), strict=True)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("texts", nargs="*", default=[*CORPORA, "few"])
    parser.add_argument("--generator", help="only this one")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--set", nargs="*", default=[], help="options of the generator, name=value")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    options = {key: float(value) if "." in value else int(value) for key, _, value in (item.partition("=") for item in asked.set)}
    lines: dict[str, str] = {}
    for name in [name for name in asked.texts if name != "few"]:
        for generator, epochs in CORPORA[name].epochs.items():
            if asked.generator in (None, generator):
                found = judge(name, generator, asked.epochs or epochs, options)
                print(HEAD, *found.values(), sep="\n", flush=True)
                lines |= found
    said = few() if "few" in asked.texts else []
    print(*said, sep="\n", flush=True)
    if not (asked.generator or asked.epochs or asked.set):
        before = from_docs("text")
        known = {" ".join(line.split(" | ")[:2]).removeprefix("| "): line for line in before if line.startswith("|")}
        table = [line for key, line in (known | lines).items() if key.split()[0] in CORPORA]
        said = said or [line for line in before if line.startswith("With ")]
        write_into_docs("text", [HEAD, "|" + " --- |" * (HEAD.count("|") - 1), *table, "", *said])


if __name__ == "__main__":
    main()
