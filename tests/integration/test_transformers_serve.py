"""The endpoint generator against `transformers serve`: its requests are taken, its rows are what the model wrote."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pyarrow as pa
import pytest

from raysynth.cluster.endpoint import StoredReplies, spent
from raysynth.codecs.records import RecordCodec
from raysynth.generators.endpoint import Endpoint
from raysynth.models import Model
from raysynth.runs import Folder
from raysynth.sampler import Sampler
from raysynth.schema import FILE, ROW, Column, Schema

pytestmark = pytest.mark.slow
START_SECONDS = 180
SCHEMA = Schema((Column("label", "category", pa.string()), Column("said", "text", pa.string())))
REAL = pa.table(
    {
        "label": ["good", "bad"] * 20,
        "said": [f"真实的话 {row}, and so on" for row in range(40)],
        FILE: ["a.csv"] * 40,
        ROW: pa.array(range(40), pa.int64()),
    }
)
SAID = [f"模型的话 {number}, so it says" for number in range(8)]


def make_model(folder: Path) -> None:
    """A LLaMA of one layer whose weights are set by hand: behind the mark of the assistant it writes one of nine texts with equal chance,
    and ends; of these eight are rows, and one is none."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    bytes_of = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    texts = [*(json.dumps({"said": said}, ensure_ascii=False) for said in SAID), "I am sorry"]
    marks = ["<s>", "</s>", "<|user|>", "<|assistant|>"]
    written = ["".join(piece for piece, _ in bytes_of.pre_tokenize_str(text)) for text in texts]
    vocabulary = {token: number for number, token in enumerate([*marks, *sorted(bytes_of.alphabet()), *written])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer, tokenizer.decoder = bytes_of, decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>", additional_special_tokens=marks[2:]
    )
    fast.chat_template = "<s>{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{% endfor %}<|assistant|>"
    fast.save_pretrained(folder)
    sizes = {
        "hidden_size": 512,
        "intermediate_size": 8,
        "num_hidden_layers": 1,
        "num_attention_heads": 1,
        "vocab_size": len(vocabulary),
    }
    model = LlamaForCausalLM(LlamaConfig(**sizes, bos_token_id=0, eos_token_id=1, pad_token_id=1))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.model.norm.weight.fill_(1.0)
        model.model.embed_tokens.weight.copy_(torch.eye(len(vocabulary), 512))
        for text in written:
            model.lm_head.weight[vocabulary[text], vocabulary["<|assistant|>"]] = 5.0
            model.lm_head.weight[vocabulary["</s>"], vocabulary[text]] = 5.0
    model.generation_config.do_sample = True
    model.save_pretrained(folder)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """(URL, the model's name there)"""
    pytest.importorskip("openai", reason="transformers serve needs it: pip install 'transformers[serving]'")
    folder = tmp_path_factory.mktemp("tiny")
    make_model(folder)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    log = folder / "serve.log"
    with log.open("wb") as out, subprocess.Popen([*command, "--device", "cpu"], env=environment, stdout=out, stderr=out) as process:
        try:
            wait_for(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1", str(folder)
        finally:
            process.terminate()


def wait_for(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, log.read_text()[-3000:]
        try:
            with urlopen(url, timeout=5) as answer:  # noqa: S310 (our own server)
                if answer.status == 200:
                    return
        except (URLError, OSError):
            time.sleep(0.2)


def test_rows_are_what_the_model_wrote(served: tuple[str, str]) -> None:
    url, name = served
    codec = RecordCodec(SCHEMA, seed=1)
    codec.settle(codec.observe(REAL))
    generator = Endpoint(codec.layout, url=url, model=name, concurrency=2, shots=2)
    generator.remember(codec.encode(REAL))
    folder = Folder("memory://test-transformers-serve/synthetic/abc")
    generator.replies = StoredReplies(folder, generator)
    rows = Sampler(Model(SCHEMA, {}, codec, generator, "", {}), seed=2, where={"label": "good"}, max_attempts=20).range(0, 40)
    assert set(rows["label"].to_pylist()) == {"good"}
    assert set(rows["said"].to_pylist()) == set(SAID), "each is missing by chance once in 25 times; the seeds are fixed"
    calls = len(list(folder.store.list(folder.system_url("replies"))))
    read, written = spent(folder)
    assert 40 <= calls <= 60, "a ninth is drawn again"
    assert read > 200 * calls, "as the server counts"
    assert written in (calls, 2 * calls)
