"""The folder of a pre-trained language model, as Hugging Face's transformers saves one → whether a generator can begin with it.

Only data is read, never code: weights as safetensors alone (a pickle can run anything), and no architecture that comes with the folder.
"""

import hashlib
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from raysynth.errors import MissingExtraError, RecipeError

CONFIG, TOKENIZER = "config.json", "tokenizer.json"
SAVE = "Save it with transformers: AutoModelForCausalLM.from_pretrained('…').save_pretrained('{path}')"


def check(path: str, *, adapted: bool = False) -> Any:
    """The model's configuration. RecipeError names what the folder lacks or what in it cannot be, and what to do; MissingExtraError what is
    not installed, for low-rank adaptation too where it is to be `adapted`."""
    for package in ("transformers", "peft") if adapted else ("transformers",):
        if find_spec(package) is None:
            raise MissingExtraError(f"generator.base: needs the package '{package}'. Install it: pip install 'raysynth[llm]'")
    folder = Path(path)
    if not folder.is_dir():
        raise _refused(path, "is no folder", "Give the local folder of a Hugging Face causal language model; nothing is downloaded")
    if not (folder / CONFIG).is_file():
        raise _refused(path, f"has no {CONFIG}", SAVE)
    if not (weights := weight_files(path)):
        found = sorted(item.name for item in folder.iterdir() if item.suffix in (".bin", ".pkl", ".pt", ".pth", ".ckpt"))
        if found:
            raise _refused(path, f"has its weights as pickle ({', '.join(found)}), which can run any code and is never read", SAVE)
        raise _refused(path, "has no *.safetensors", SAVE)
    if not (folder / TOKENIZER).is_file():
        raise _refused(
            path, f"has no {TOKENIZER}", "With transformers: AutoTokenizer.from_pretrained('…').save_pretrained('{path}')"
        )
    for file in weights:
        _check_weights(path, file)
    return _config(path)


def weight_files(path: str) -> list[Path]:
    return sorted(Path(path).glob("*.safetensors"))


def digest(path: str) -> str:
    """The SHA-256 of all that decides what a generator begins with, wherever it lies."""
    found = hashlib.sha256()
    for file in (Path(path) / CONFIG, Path(path) / TOKENIZER, *weight_files(path)):
        with file.open("rb") as data:
            found.update(f"{file.name} {hashlib.file_digest(data, 'sha256').hexdigest()}\n".encode())
    return found.hexdigest()


def config_of(facts: dict[str, Any]) -> Any:
    """What `check` returned, from its facts."""
    from transformers import AutoConfig

    return AutoConfig.for_model(**facts)


def _config(path: str) -> Any:
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    try:
        told = json.loads((Path(path) / CONFIG).read_text(encoding="utf-8"))
        kind = told["model_type"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _refused(path, f"has a {CONFIG} that is no model's", SAVE) from None
    if str(kind) not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise _refused(
            path,
            f"is of the architecture {kind!r}, which the installed transformers has no causal language model of (code that comes with a "
            "model is never run)",
            "Take another model, or a newer transformers",
        )
    if "quantization_config" in told:
        raise _refused(path, "has quantized weights, which cannot be learnt on", "Give the model that they were made from")
    try:
        return AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # transformers' configurations raise whatever their checks do
        raise _refused(path, f"has a {CONFIG} that transformers refuses ({_short(error)})", SAVE) from None


def _check_weights(path: str, file: Path) -> None:
    """The head alone: a file that was cut off, or is something else, says so there."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(str(file), framework="numpy") as data:
            data.keys()
    except (SafetensorError, OSError) as error:
        raise _refused(path, f"has a {file.name} that cannot be read ({_short(error)})", "Copy the file again") from None


def _refused(path: str, why: str, do: str) -> RecipeError:
    return RecipeError(f"generator.base: '{path}' {why}. {do.format(path=path)}")


def _short(error: Exception) -> str:
    return str(error).strip().split("\n")[0][:200]
