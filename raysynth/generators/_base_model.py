"""A pre-trained causal language model, of any architecture that transformers has → the decoder of a LanguageModel.

The base knows its own tokens; what it does not know (PAD, END and NULL, the roles of conversations, the control tokens) has embeddings that
are learnt here and given to it in their place. END is read as the base's first token is, and written where the base would end.

Low-rank adaptation: Hu et al., "LoRA" (arXiv 2106.09685), by Hugging Face's peft. What is stored is whole again: the products are added to
the weights that they adapt.

Shapes: B rows, R slots, T tokens, V tokens that the layout has, W those that the base has, D width.
"""

from collections.abc import Generator
from contextlib import contextmanager
from inspect import signature
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from raysynth import base_folder
from raysynth.errors import RecipeError
from raysynth.generators._texts import SLOTS, Memory
from raysynth.layout import Facts, Tokens

OWN = Tokens.NULL + 1  # ids before the base's
Tune = Literal["lora", "full"]
TRIED_TOKENS = 6


class BaseModel(nn.Module):
    """`network`: transformers' model; it is a part of this one's state; while it is adapted, `adapters` alone are."""

    def __init__(self, config: Any, network: Any, layout: Tokens) -> None:
        super().__init__()
        roles = sum(len(ids or ()) for ids in layout.roles)
        self.config, self.base_tokens, self.width = config, layout.vocabulary - OWN - roles, int(config.hidden_size)
        embed = network.get_input_embeddings()
        if self.base_tokens > len(embed.weight):
            raise RecipeError(
                f"generator.base: its tokenizer has {self.base_tokens} tokens, and its weights know {len(embed.weight)}. Give a folder of "
                "which tokenizer.json and the weights belong together, and no other codec.tokenizer"
            )
        told = (config.bos_token_id, config.eos_token_id, config.pad_token_id)
        self.bars = sorted({id for ids in told for id in (ids if isinstance(ids, list) else [ids]) if id is not None and id >= 0})
        self.end = _id(config.eos_token_id)
        with torch.no_grad():
            known = embed(torch.arange(self.base_tokens))  # not its weights: some architectures scale them
        self.own = nn.Parameter(torch.randn(OWN + roles, self.width) * float(known.std()))
        self.own_out = nn.Parameter(torch.zeros(OWN + roles, self.width))
        begins = _id(config.bos_token_id) if _id(config.bos_token_id) is not None else self.end
        if begins is not None and begins < len(known):
            with torch.no_grad():
                self.own[Tokens.END] = known[begins]
        self.cache_name = "cache" if "cache" in signature(network.forward).parameters else "past_key_values"
        self.adapters = nn.ParameterList()
        self.network = network

    def adapt(self, rank: int, alpha: float) -> None:
        """From now on the network's own weights stay as they are."""
        from peft import LoraConfig, inject_adapter_in_model

        network: Any = self.network
        del self.network
        for value in network.parameters():
            value.requires_grad_(False)
        transposed = any(type(module).__name__ == "Conv1D" for module in network.modules())  # as GPT-2 holds its matrices
        lora = LoraConfig(r=rank, lora_alpha=cast("int", alpha), target_modules="all-linear", fan_in_fan_out=transposed)
        inject_adapter_in_model(lora, network)
        self.adapters = nn.ParameterList(value for name, value in network.named_parameters() if "lora_" in name)
        self.__dict__["network"] = network  # no module of this one, and so no part of its state

    @property
    def adapted(self) -> bool:
        return "network" in self.__dict__

    def _apply(self, fn: Any, recurse: bool = True) -> "BaseModel":
        """To another device with all there is."""
        super()._apply(fn, recurse)
        if self.adapted:
            self.network._apply(fn)
        return self

    def train(self, mode: bool = True) -> "BaseModel":
        super().train(mode)
        self.network.train(mode)
        return self

    def merge(self) -> None:
        """What was adapted is added to the network's weights, which are a part of the state again."""
        if self.adapted:
            network: Any = self.__dict__.pop("network")
            for name, module in list(network.named_modules()):
                if hasattr(module, "lora_A"):
                    module.merge()
                    network.set_submodule(name, module.get_base_layer())
            self.network, self.adapters = network, nn.ParameterList()

    def table(self) -> Tensor:
        """(V, D): what each token is read as."""
        known = self.network.get_input_embeddings()(torch.arange(self.base_tokens, device=self.own.device))
        return torch.cat([self.own[:OWN], known, self.own[OWN:]])

    def forward(self, x_BTD: Tensor) -> Tensor:
        """(B, T, V) logits."""
        return self._logits(self.network(inputs_embeds=x_BTD, use_cache=False, output_hidden_states=True))

    def step(self, x_RD: Tensor, memory: Memory, place: Tensor, length: int) -> Tensor:
        """(R, V) logits of the next token of each slot; its keys and values are kept at `place`."""
        mask_RT = torch.arange(length, device=place.device) <= place[:, None]
        found = self.network(
            inputs_embeds=x_RD[:, None],
            attention_mask=torch.zeros(mask_RT.shape, device=x_RD.device).masked_fill(~mask_RT, torch.finfo(x_RD.dtype).min)[
                :, None, None
            ],
            position_ids=place[:, None],
            use_cache=True,
            output_hidden_states=True,
            **{self.cache_name: _slots(memory, place, length)},
        )
        return self._logits(found)[:, 0]

    def _logits(self, found: Any) -> Tensor:
        logits, hidden = found.logits, found.hidden_states[-1]
        own = hidden @ self.own_out.T
        if self.end is not None:
            own = torch.cat([own[..., :1], own[..., 1:2] + logits[..., self.end : self.end + 1], own[..., 2:]], dim=-1)
        logits = torch.cat([own[..., :OWN], logits[..., : self.base_tokens], own[..., OWN:]], dim=-1)
        bars = [OWN + id for id in self.bars if id < self.base_tokens]
        return logits.index_fill(-1, torch.tensor([Tokens.PAD, *bars], device=logits.device), torch.finfo(logits.dtype).min)

    def check(self, length: int) -> None:
        """RecipeError where the network cannot be drawn from slot by slot, or is too short for a row."""
        most = getattr(self.config, "max_position_embeddings", None)
        if most is not None and length > most:
            raise RecipeError(
                f"generator.base: reads {most} tokens, and a row has up to {length}. Give codec.max_tokens, or another base"
            )
        if not self._goes_on(min(TRIED_TOKENS, length), length):
            raise RecipeError(
                f"generator.base: the architecture {self.config.model_type!r} does not go on from keys and values alone, token by token. "
                "Take a plain transformer (GPT-2, Llama, Qwen, Mistral, …)"
            )

    @torch.inference_mode()
    def _goes_on(self, tried: int, length: int) -> bool:
        """Whether token by token it says what it says of whole rows."""
        x_RTD = self.table()[torch.arange(SLOTS * tried).view(SLOTS, tried) % (OWN + self.base_tokens)]
        memory: Memory = {}
        try:
            found = [self.step(x_RTD[:, at], memory, torch.full((SLOTS,), at), length) for at in range(tried)]
            return torch.allclose(torch.stack(found, dim=1), self(x_RTD), rtol=1e-3, atol=1e-3)
        except Exception:  # whatever an architecture of another kind asks its cache for
            return False


def read(path: str, layout: Tokens, *, adapted: bool) -> BaseModel:
    """From the folder, in float32, whatever it is stored in. RecipeError on weights that are not all there."""
    from transformers import AutoModelForCausalLM

    config = _without_dropout(base_folder.check(path, adapted=adapted))
    with _quiet():
        try:
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                path,
                config=config,
                use_safetensors=True,
                trust_remote_code=False,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
            )
        except Exception as error:  # transformers and safetensors raise whatever they do
            raise RecipeError(f"generator.base: '{path}' cannot be loaded ({str(error).strip()[:300]}). Save it again") from error
    network, told = loaded
    if missing := sorted(told["missing_keys"]):
        raise RecipeError(
            f"generator.base: '{path}' has no weights of {', '.join(missing[:3])}. Save all of them, with transformers"
        )
    return BaseModel(config, network, layout)


def made_of(facts: Facts, layout: Tokens) -> BaseModel:
    """An untrained one of this configuration."""
    from transformers import AutoModelForCausalLM

    config = base_folder.config_of(facts)
    with _quiet(), torch.random.fork_rng(devices=[]):
        return BaseModel(config, AutoModelForCausalLM.from_config(config, dtype=torch.float32, trust_remote_code=False), layout)


def facts_of(base: BaseModel) -> Facts:
    told: Facts = base.config.to_dict()
    return {name: value for name, value in told.items() if name not in ("_name_or_path", "auto_map", "dtype", "torch_dtype")}


def _slots(memory: Memory, place: Tensor, length: int) -> Any:
    """transformers' Cache over `memory`: of each slot, which is at a place of its own."""
    from transformers.cache_utils import Cache

    class Slots(Cache):
        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
        ) -> tuple[Tensor, Tensor]:
            kept: list[Tensor] = []
            for name, new in (("keys", key_states), ("values", value_states)):
                room = memory.get(f"{name}-{layer_idx}")
                if room is None:
                    room = memory[f"{name}-{layer_idx}"] = new.new_zeros(len(new), new.shape[1], length, new.shape[3])
                room[torch.arange(len(new), device=place.device), :, place] = new[:, :, 0]
                kept.append(room)
            return kept[0], kept[1]

        def get_seq_length(self, *args: Any, **kwargs: Any) -> int:
            return 0

    return Slots()


def _without_dropout(config: Any) -> Any:
    """Its noise would be torch's own, and not of the draws."""
    for name, value in config.to_dict().items():
        if isinstance(value, float) and (name.endswith(("dropout", "pdrop")) or "dropout" in name):
            setattr(config, name, 0.0)
    return config


def _id(told: Any) -> int | None:
    """Of several, the first; some configurations say -1 where there is none."""
    first = next(iter(told), None) if isinstance(told, list) else told
    return None if first is None or first < 0 else first


@contextmanager
def _quiet() -> Generator[None]:
    """Without transformers' progress bars and hints: what is amiss is told by errors."""
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
