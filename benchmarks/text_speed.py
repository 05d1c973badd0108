"""Nothing but RAYSYNTH_DATA → how fast texts are drawn, changed and compared, beside Hugging Face and nlpaug, as ratios of one run.

    pip install -r benchmarks/text-peers.txt; apt-get install wordnet-base wordnet-sense-index
    RAYSYNTH_DATA=../shared/data python benchmarks/text_speed.py

One thread each, tokens and characters per CPU-second. Sampling: one network with one set of weights, drawn from by us, by
`transformers`' generate (64 rows at a time, a static architecture of its own: LlamaForCausalLM) and by us through ctranslate2; with
guidance each token is made of two of the network's answers. Ops: the same act on the same sentences. Near-duplicates: a million short
documents as shards of 10,000, of which a tenth are near-copies; what the process holds at most is told. A run writes its lines into
docs/benchmarks.md.
"""

import resource
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory, TemporaryFile
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from llama import as_llama
from nltk_wordnet import lay, wordnet_folder
from quality import write_into_docs
from rates import rate
from text import CORPORA, SCHEMA, learn, rows_of

from raysynth.draws import Draws
from raysynth.generators.language_model import LanguageModel
from raysynth.layout import Tokens
from raysynth.near_duplicates import Bands, candidates, cut_keys, cut_signatures, shared_keys, similar_pairs, surplus
from raysynth.ops.text.ocr import Ocr
from raysynth.ops.text.synonyms import Synonyms
from raysynth.ops.text.typos import Typos
from raysynth.ops.text.words import Words
from raysynth.schema import FILE, ROW

ROWS, SEED = 2048, 7
KNOWN = "the quick brown fox jumps over a lazy dog while seven wizards quietly bake bread near old stone bridges"
DOCUMENTS, SHARD = 1_000_000, 10_000


# --- sampling


def sampling() -> list[str]:
    train, _ = rows_of(CORPORA["waimai"])
    model, _ = learn(train.slice(0, 3000), "language_model", 1, {})
    ours = model.generator
    draws = Draws.range(SEED, "generate", 0, ROWS)
    ours.guidance = 2.0
    guided = rate(lambda: tokens_of(ours.sample(draws, None)["tokens"]))
    ours.guidance = 1.0  # as transformers draws
    found = {"raysynth": rate(lambda: tokens_of(ours.sample(draws, None)["tokens"])), "raysynth with guidance": guided}
    codes = ours.sample(draws, None)["codes"]
    theirs = as_llama(ours)
    found["transformers generate, batch 64"] = rate(partial(generated, theirs, ours, codes))
    fast = LanguageModel(ours.shape, sampler="ctranslate2")
    fast.load(*ours.state())
    found["raysynth with ctranslate2"] = rate(lambda: tokens_of(fast.sample(draws, None)["tokens"]))
    base = found["transformers generate, batch 64"]
    return [
        "| sampling by | tokens per CPU-s | × transformers |",
        "| --- | --- | --- |",
        *(f"| {name} | {one:,.0f} | {one / base:.2f} |" for name, one in found.items()),
    ]


def tokens_of(tokens: Any) -> int:
    return int((tokens != Tokens.PAD).sum())


def generated(llama: Any, ours: LanguageModel, codes: Any) -> int:
    """Tokens up to the end of each text: what is padded does not count."""
    led = np.concatenate([ours.led(codes), np.full((len(codes), 1), Tokens.END)], axis=1)
    bad = [[number] for number in range(ours.shape.vocabulary, len(llama.model.embed_tokens.weight))] + [
        [Tokens.PAD],
        [Tokens.NULL],
    ]
    count = 0
    for prompt in torch.from_numpy(led).split(64):
        made = llama.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            do_sample=True,
            top_k=0,
            max_new_tokens=ours.shape.length,
            bad_words_ids=bad,
        )
        count += tokens_of(made[:, prompt.shape[1] :])
    return count


# --- ops


def ops() -> list[str]:
    with ExitStack() as stack:
        return _ops(stack)


def _ops(stack: ExitStack) -> list[str]:
    import nlpaug.augmenter.char as char
    import nlpaug.augmenter.word as word

    rng = np.random.default_rng(SEED)
    texts = [" ".join(rng.choice(KNOWN.split(), 20).tolist()) for _ in range(2000)]
    rows = pa.table({"label": ["a"] * len(texts), "text": texts})
    draws = Draws.range(SEED, "augment/0", 0, len(texts))
    characters = sum(map(len, texts))
    pairs = {
        "keyboard typos": (Typos(SCHEMA, share=0.1, acts=("neighbour",)), char.KeyboardAug(aug_char_p=0.1)),
        "OCR errors": (Ocr(SCHEMA, share=0.1), char.OcrAug(aug_char_p=0.1)),
        "words swapped": (Words(SCHEMA, share=0.1, acts=("swap",)), word.RandomWordAug(action="swap", aug_p=0.1)),
        "words deleted": (Words(SCHEMA, share=0.1, acts=("delete",)), word.RandomWordAug(action="delete", aug_p=0.1)),
    }
    lines = ["| op | characters per CPU-s | nlpaug | ratio |", "| --- | --- | --- | --- |"]
    if (wordnet := wordnet_folder()) is not None:
        lay(wordnet, Path(stack.enter_context(TemporaryDirectory())))
        pairs["synonyms of WordNet"] = (Synonyms(SCHEMA, table=str(wordnet), share=0.1), word.SynonymAug(aug_p=0.1))
    else:
        print("no synonyms: apt-get install wordnet-base wordnet-sense-index", flush=True)
    for name, (ours, theirs) in pairs.items():
        mine = rate(lambda ours=ours: (ours(rows, draws), characters)[1])
        other = rate(lambda theirs=theirs: (theirs.augment(texts), characters)[1])
        lines.append(f"| {name} | {mine:,.0f} | {other:,.0f} | {mine / other:.0f} |")
    return lines


# --- near-duplicates


def shard(number: int) -> pa.Table:
    """10,000 documents of 8 to 16 words; every tenth is one of the shard before with one word changed."""
    rng = np.random.default_rng([SEED, number])
    texts = [" ".join(f"w{one}" for one in rng.integers(0, 50_000, rng.integers(8, 17)).tolist()) for _ in range(SHARD)]
    if number:
        before = np.random.default_rng([SEED, number - 1])
        old = [before.integers(0, 50_000, before.integers(8, 17)).tolist() for _ in range(SHARD)]
        for place in range(0, SHARD, 10):
            texts[place] = " ".join(f"w{one}" for one in [*old[place + 1], 7])
    return pa.table({"text": texts, FILE: [f"{number:05d}"] * SHARD, ROW: pa.array(range(SHARD), pa.int64())})


def near_duplicates() -> list[str]:
    """The two shuffles as the stage runs them, on one process, buckets spilled to Arrow files as Ray's store would hold them."""
    bands, shards = Bands.of(0.7), DOCUMENTS // SHARD
    buckets = bands.buckets(DOCUMENTS)
    start, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    cut = partial(cut_keys, bands, buckets)
    shared = _reduced((cut(number, shard(number), ["text"]) for number in range(shards)), buckets, shared_keys)
    rows = candidates(shared)
    signed = (cut_signatures(bands, buckets, part, shard(part), ["text"], found) for part, found in rows.items())
    gone = surplus(_reduced(signed, buckets, partial(similar_pairs, bands)))
    seconds, most = time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return [
        f"Near-duplicates of {DOCUMENTS:,} short documents ({buckets} buckets): {sum(map(len, gone.values())):,} left out in {seconds:.0f} "
        f"CPU-s, with the {shards * 2} shards' making; {most / 1024:,.0f} MiB at most, {before / 1024:,.0f} MiB before."
    ]


def _reduced(tables: Iterable[list[pa.Table]], buckets: int, reduce: Callable[[int, list[pa.Table]], pa.Table]) -> list[pa.Table]:
    made: list[pa.Table] = []
    with ExitStack() as stack:
        files = [stack.enter_context(TemporaryFile()) for _ in range(buckets)]
        writers: dict[int, pa.RecordBatchStreamWriter] = {}
        for cut in tables:
            for bucket, table in enumerate(cut):
                if bucket not in writers:
                    writers[bucket] = pa.ipc.new_stream(files[bucket], table.schema)
                writers[bucket].write_table(table)
        for bucket, writer in sorted(writers.items()):
            writer.close()
            files[bucket].seek(0)
            made.append(reduce(bucket, [pa.ipc.open_stream(files[bucket]).read_all()]))
    return made


def main() -> None:
    torch.set_num_threads(1)
    parts = {"near_duplicates": near_duplicates, "ops": ops, "sampling": sampling}
    lines: list[str] = []
    for name in sys.argv[1:] or parts:
        found = parts[name]()
        print(*found, sep="\n", flush=True)
        lines += [*found, ""]
    if not sys.argv[1:]:
        write_into_docs("text_speed", lines[:-1])


if __name__ == "__main__":
    main()
